"""What is demanded of all tests: no warnings of our own, and with --strict-skips no skips but those that are declared."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

pytestmark = pytest.mark.exhaustive("what is demanded of all tests")

HERE = Path(__file__).resolve().parent

OURS = ["MLTools.NanoML", "MLTools.NanoML.batch.condor", "data_processing.skim.skim", "ML_processing", __name__]
OTHERS = ["vector.backends.numpy", "torch", "testing", "MLTools.NanoMLWeaver"]


PROGRAM = """
import sys, warnings

for module in sys.argv[1:]:
    try:
        warnings.warn_explicit("do not", UserWarning, "file.py", 1, module)
    except UserWarning as problem:
        print(module, problem)
"""


def test_a_warning_that_our_code_causes_is_an_error() -> None:
    for module in OURS:
        with pytest.raises(DeprecationWarning):
            warn(module)


def warn(module: str) -> None:
    warnings.warn_explicit("do not", DeprecationWarning, "file.py", 1, module, registry={})


def test_a_warning_that_another_package_causes_is_shown() -> None:
    for module in OTHERS:
        with warnings.catch_warnings(record=True) as shown:
            warn(module)
        assert [str(each.message) for each in shown] == ["do not"]


def test_so_it_is_in_a_subprocess() -> None:
    ours = [*OURS, "__main__"]
    line = [sys.executable, "-c", PROGRAM, *ours, *OTHERS]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{module} do not" for module in ours]
    assert done.stderr.splitlines().count("file.py:1: UserWarning: do not") == len(OTHERS)


SKIPPING = """
import pytest

@pytest.mark.skipif(True, reason="MARKED")
def test_mark():
    pass

def test_call():
    pytest.skip("CALLED")

@pytest.mark.xfail
def test_that_is_expected_to_fail():
    raise ValueError
"""


def outcome(directory: Path, text: str, *options: str) -> tuple[int, str]:
    (directory / "test_it.py").write_text(text)
    # a directory of its own: in that of all runs, what an earlier run left behind would be warned of
    options = (*options, "--basetemp", str(directory / "temporary"))
    line = [sys.executable, "-m", "pytest", "-p", "skips", *options, "test_it.py"]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(line, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_skip_that_is_not_declared_fails(tmp_path: Path) -> None:
    text = SKIPPING.replace("CALLED", "needs ROOT").replace("MARKED", "the moon is full")
    code, said = outcome(tmp_path, text, "--strict-skips", "-n", "1")
    assert code == 1
    assert "1 skipped, 1 xfailed, 1 error" in said
    assert "test_it.py:4: Skipped: the moon is full" in said
    code, said = outcome(tmp_path, text, "-n", "0")
    assert code == 0
    assert "2 skipped, 1 xfailed" in said


def test_nor_may_a_module_skip(tmp_path: Path) -> None:
    text = 'import pytest\npytest.importorskip("NAME")\ndef test_nothing():\n    pass\n'
    code, said = outcome(tmp_path, text.replace("NAME", "no_such_module"), "--strict-skips", "-n", "0")
    assert code == 2
    assert "could not import 'no_such_module'" in said
    code, said = outcome(tmp_path, text.replace("NAME", "FWCore"), "--strict-skips", "-n", "0")
    assert "1 skipped" in said
