"""Any part may be deleted: the others go on working, and their tests go on passing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from processes import copied

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.exhaustive("each part deleted, and all tests of the others")


def without(directory: Path, *parts: str) -> dict[str, str]:
    """A checkout without some parts, and the environment that finds it."""
    checkout, environment = copied(ROOT, directory)
    for part in parts:
        if not (ROOT / part).is_dir():
            pytest.skip(f"{part} is not here")
        shutil.rmtree(checkout / part)
    return environment


def run(*arguments: str, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def check(tests: Sequence[str], chosen: str, directory: Path, environment: dict[str, str]) -> None:
    """All of these tests can be imported, and the chosen ones pass."""
    options = ("-q", "-m", "not exhaustive", "-k", chosen, "--basetemp", str(directory / "tests"))
    done = run("-m", "pytest", *options, *tests, cwd=directory / "checkout", environment=environment)
    assert done.returncode == 0, done.stdout[-3000:]


def test_without_training_the_data_side_works(tmp_path: Path) -> None:
    environment = without(tmp_path, "ML_processing")
    checkout = tmp_path / "checkout"
    command = ("-m", "MLTools.NanoML.cli")
    done = run(*command, "run", "examples/trilepton.yaml", "--to", "convert", cwd=checkout, environment=environment)
    assert done.returncode == 0, done.stderr
    done = run(*command, "run", "examples/trilepton.yaml", cwd=checkout, environment=environment)
    assert done.returncode == 1
    assert "train, ratios, closure, evaluate, report, export: the directory ML_processing/ is not here" in done.stderr
    # all tests can be imported, and those of the commands, which use everything, pass
    commands = "test_every_command or test_skim_convert_and_score_without_a_configuration"
    check(["test/python/test_cli.py", "test/data_processing"], commands, tmp_path, environment)


def test_without_the_data_side_training_works(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    environment = without(tmp_path, "data_processing")
    checkout = tmp_path / "checkout"
    exports = "test_every_command or (test_scores_are_those_of_the_networks and mlp)"
    check(["test/python/test_cli.py", "test/ML_processing"], exports, tmp_path, environment)
    done = run("-m", "MLTools.NanoML.cli", "skim", "examples/trilepton.yaml", cwd=checkout, environment=environment)
    assert done.returncode == 1
    assert (
        "skim, convert, shuffle, normalise, score, fill, histogram, draw: the directory data_processing/ is not here"
        in done.stderr
    )


def test_the_fit_needs_no_other_part(tmp_path: Path) -> None:
    environment = without(tmp_path, "data_processing", "ML_processing")
    cards = "test_channels_are_regions or test_the_card_has_the_yields"
    check(["test/statistical_analysis"], cards, tmp_path, environment)
