"""The script `nanoml` where NanoML is not installed by pip: in a checkout, and in CMSSW."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from MLTools.NanoML import __version__

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "nanoml"
PACKAGES = next(path for path in sys.path if path.endswith("site-packages"))


def run(script: Path, *arguments: str, path: str = PACKAGES) -> subprocess.CompletedProcess[str]:
    """Run the script without `site`: packages are found, but not this checkout, whose .pth file is not read."""
    line, environment = [sys.executable, "-S", str(script), *arguments], {**os.environ, "PYTHONPATH": path}
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def test_works_in_a_checkout() -> None:
    done = run(SCRIPT, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"nanoml {__version__} " in done.stdout


@pytest.mark.skipif(not (ROOT / "data_processing").is_dir(), reason="data_processing/ has been taken out")
def test_workers_find_the_checkout_too(sample: Path, tmp_path: Path) -> None:
    """Two files, so that workers are started, which import everything anew."""
    inputs = [str(path) for path in sorted((sample / "ZGToLLG").glob("*.root"))]
    skim = ("skim", "--selection", "MLTools.NanoML.trilepton:Trilepton", "--workers", "2", "-o", str(tmp_path))
    done = run(SCRIPT, *skim, *inputs)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.root"))) == len(inputs) > 1


def test_finds_the_parts_from_a_copy_as_scram_makes_it(tmp_path: Path) -> None:
    """scram copies the script, and makes $CMSSW_BASE/python/MLTools/NanoML a link to python/."""
    (tmp_path / "bin").mkdir()
    shutil.copy(SCRIPT, tmp_path / "bin")
    (tmp_path / "python" / "MLTools").mkdir(parents=True)
    (tmp_path / "python" / "MLTools" / "NanoML").symlink_to(ROOT / "python")
    probe = tmp_path / "bin" / "probe.py"
    probe.write_text(
        "import runpy, sys, MLTools.NanoML\n"
        "runpy.run_path(sys.argv[1])\n"
        "print(MLTools.NanoML.__path__[0])\n"
        "print(sys.path[-1])\n"
    )
    done = run(probe, str(tmp_path / "bin" / "nanoml"), path=os.pathsep.join([str(tmp_path / "python"), PACKAGES]))
    assert done.stderr == ""
    assert done.stdout.splitlines() == [str(tmp_path / "python" / "MLTools" / "NanoML"), str(ROOT)]


def test_says_what_to_do_where_there_is_no_nanoml(tmp_path: Path) -> None:
    shutil.copy(SCRIPT, tmp_path)
    done = run(tmp_path / "nanoml", "--version", path="")
    assert done.returncode == 1
    assert "cmsenv" in done.stderr
    assert "Traceback" not in done.stderr
