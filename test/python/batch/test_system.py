from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from MLTools.NanoML.batch.submission import JobOptions
from MLTools.NanoML.batch.system import TEMPLATES, render, system_of
from MLTools.NanoML.errors import ConfigError


def test_a_template_of_ones_own_is_taken_before_that_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("mine {{ retries }}\n")
    assert render("job.sh", JobOptions(templates=str(tmp_path)), retries=3) == "mine 3\n"
    assert (TEMPLATES / "condor.dag").is_file()
    assert render("condor.dag", JobOptions(templates=str(tmp_path)), stages=[], retries=0).startswith("# The stages")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\n{{ wheels }}\n", "job.sh.*'wheels' is undefined"),
        (b"one\n{% if %}\n", "/job.sh:2: "),
        (b"one\n{{ retries | wheels }}\n", "/job.sh:2: No filter named 'wheels'"),
        (b"\xff\xfe", "job.sh"),
    ],
)
def test_a_mistake_in_a_template_is_one_message(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        render("job.sh", JobOptions(templates=str(tmp_path)), retries=1)


@pytest.mark.parametrize(
    "word", ["a b", "'", '"', "$(touch canary)", "`touch canary`", "; touch canary", "\n", "é", "-n", "\\"]
)
def test_words_of_shell_stay_what_they_are(word: str, tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("printf '%s|' {{ one | shell }} {{ several | shell }}\n")
    text = render("a.sh", JobOptions(templates=str(tmp_path)), one=word, several=[word, "x"])
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == f"{word}|{word}|x|"
    assert not (tmp_path / "canary").exists()


def test_what_is_no_batch_system_is_one_message() -> None:
    with pytest.raises(ConfigError, match='"pbs" is not a batch system. Known: local, condor, slurm, dask, crab.'):
        system_of("pbs")


IMPORTED = """
import sys
def loaded():
    return {name[21:] for name in sys.modules if name.startswith("MLTools.NanoML.batch.")}
import MLTools.NanoML.workflow.pipeline
assert not loaded(), loaded()
import MLTools.NanoML.batch.submit
assert not loaded() & {"condor", "slurm", "local", "dask", "crab"}, loaded()
"""


def test_a_run_imports_nothing_of_batch_systems_and_jobs_only_that_of_theirs() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
