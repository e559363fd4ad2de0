from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from MLTools.NanoML.batch.submission import Options
from MLTools.NanoML.batch.system import TEMPLATES, render
from MLTools.NanoML.errors import ConfigError


def test_a_template_of_ones_own_is_taken_before_that_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("mine {{ retries }}\n")
    assert render("job.sh", Options(templates=str(tmp_path)), retries=3) == "mine 3\n"
    assert (TEMPLATES / "condor.dag").is_file()
    assert render("condor.dag", Options(templates=str(tmp_path)), stages=[], retries=0).startswith(
        "# The stages"
    )


def test_a_variable_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("one\n{{ wheels }}\n")
    with pytest.raises(ConfigError, match="job.sh.*'wheels' is undefined"):
        render("job.sh", Options(templates=str(tmp_path)))


def test_a_mistake_in_a_template_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("one\n{% if %}\n")
    with pytest.raises(ConfigError, match=f"{tmp_path}/job.sh:2: "):
        render("job.sh", Options(templates=str(tmp_path)))
    (tmp_path / "job.sh").write_text("one\n{{ retries | wheels }}\n")
    with pytest.raises(ConfigError, match=f"{tmp_path}/job.sh:2: No filter named 'wheels'"):
        render("job.sh", Options(templates=str(tmp_path)), retries=1)


def test_a_template_that_is_no_text_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="job.sh"):
        render("job.sh", Options(templates=str(tmp_path)))


@pytest.mark.parametrize(
    "word", ["a b", "'", '"', "$(touch canary)", "`touch canary`", "; touch canary", "\n", "é", "-n", "\\"]
)
def test_words_of_shell_stay_what_they_are(word: str, tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("printf '%s|' {{ one | shell }} {{ several | shell }}\n")
    text = render("a.sh", Options(templates=str(tmp_path)), one=word, several=[word, "x"])
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == f"{word}|{word}|x|"
    assert not (tmp_path / "canary").exists()
