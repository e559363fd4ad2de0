"""Either part may be deleted: the other goes on working, and its tests go on passing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KEPT_OUT = ("trilepton", "leptons", ".*", "build", "dist", "*.egg-info", "__pycache__")

pytestmark = pytest.mark.slow

# an editable installation would find the deleted part where it was not deleted
SITE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
"""


def without(part: str, directory: Path) -> dict[str, str]:
    """A checkout without a part, and the environment that finds it."""
    if not (ROOT / part).is_dir():
        pytest.skip(f"{part} is not here")
    checkout = directory / "checkout"
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=shutil.ignore_patterns(*KEPT_OUT))
    shutil.rmtree(checkout / part)
    (directory / "path" / "MLTools").mkdir(parents=True)
    (directory / "path" / "MLTools" / "NanoML").symlink_to(checkout / "python")
    (directory / "path" / "sitecustomize.py").write_text(SITE)
    data = os.environ.get("NANOML_TEST_DATA") or str(ROOT.parent / "shared" / "data")
    return {**os.environ, "PYTHONPATH": f"{directory / 'path'}:{checkout}", "NANOML_TEST_DATA": data}


def run(*arguments: str, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_without_training_the_data_side_works(tmp_path: Path) -> None:
    environment = without("ML_processing", tmp_path)
    checkout = tmp_path / "checkout"
    command = ("-m", "MLTools.NanoML.cli")
    done = run(
        *command, "run", "examples/trilepton.yaml", "--to", "convert", cwd=checkout, environment=environment
    )
    assert done.returncode == 0, done.stderr
    done = run(*command, "run", "examples/trilepton.yaml", cwd=checkout, environment=environment)
    assert done.returncode == 1
    assert "train, evaluate, export: the directory ML_processing/ is not here" in done.stderr
    # all tests can be imported, and those of the commands, which use everything, pass
    for tests in (
        ["--collect-only", "test/data_processing"],
        ["test/python/test_cli.py", "test/data_processing/test_commands.py"],
    ):
        done = run("-m", "pytest", "-q", "-m", "not slow", *tests, cwd=checkout, environment=environment)
        assert done.returncode == 0, done.stdout[-3000:]


def test_without_the_data_side_training_works(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    environment = without("data_processing", tmp_path)
    checkout = tmp_path / "checkout"
    for tests in (
        ["--collect-only", "test/ML_processing"],
        ["test/python/test_cli.py", "test/ML_processing/test_export.py"],  # which trains what it exports
    ):
        done = run("-m", "pytest", "-q", "-m", "not slow", *tests, cwd=checkout, environment=environment)
        assert done.returncode == 0, done.stdout[-3000:]
    done = run(
        "-m", "MLTools.NanoML.cli", "skim", "examples/trilepton.yaml", cwd=checkout, environment=environment
    )
    assert done.returncode == 1
    assert "skim, convert, shuffle, score: the directory data_processing/ is not here" in done.stderr
