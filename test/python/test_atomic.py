from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from MLTools.NanoML.atomic import aside_of, make_directory, remove_leftovers, replacing, write_json
from MLTools.NanoML.errors import NanoMLError

_HALF = """
import os, signal
from MLTools.NanoML.atomic import replacing
with replacing("0.root") as aside:
    aside.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with replacing(target) as aside:
        aside.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["file.txt"]


@pytest.mark.parametrize("problem", [ValueError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_a_failure_leaves_what_was_there(tmp_path: Path, problem: BaseException) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(type(problem)), replacing(target) as aside:
        aside.write_text("half")
        raise problem
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    ended = subprocess.run([sys.executable, "-c", _HALF], cwd=tmp_path / "sub", check=False)
    assert ended.returncode == -signal.SIGKILL
    (tmp_path / "sub" / "0.root").write_text("whole")
    aside_of(tmp_path / "sub" / "0.root", "scratch").mkdir()
    (aside_of(tmp_path / "sub" / "0.root", "scratch") / "file").write_text("half")
    assert remove_leftovers(tmp_path) == 2
    assert os.listdir(tmp_path / "sub") == ["0.root"]


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "mine.txt") as aside:
        aside.write_text("half")
        elsewhere = tmp_path / ".0.part-4711-another-machine.root"
        elsewhere.write_text("half")
        assert remove_leftovers(tmp_path) == 0
        os.utime(elsewhere, (0, 0))
        assert remove_leftovers(tmp_path) == 1
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_an_unwritable_place_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NanoMLError, match="is a file, not a directory"):
        make_directory(tmp_path / "file" / "sub")
    with pytest.raises(NanoMLError, match="there is a file of this name"), replacing(tmp_path / "file" / "out.root"):
        pass


def test_json_never_holds_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert os.listdir(tmp_path) == []
