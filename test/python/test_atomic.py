from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from MLTools.NanoML.atomic import aside_of, make_directory, remove_leftovers, replacing, write_json
from MLTools.NanoML.errors import NanoMLError, explain_os_error, is_os_error, lacks_memory, told_once

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


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "x.h5: cannot write: the disk is full: free some space"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied: choose a directory"),
        (RuntimeError("unable to close (errno = 28, error message = 'No space left on device')"), "the disk is full"),
        (OSError(errno.EIO, "Input/output error"), "x.h5: cannot write: Input/output error."),
        (RuntimeError("PytorchStreamWriter failed: file write failed, No space left on device"), "the disk is full"),
    ],
)
def test_the_systems_errors_say_what_to_do(problem: BaseException, message: str) -> None:
    assert is_os_error(problem)
    assert message in str(explain_os_error(problem, "x.h5", "write"))


def test_other_errors_are_not_taken_for_the_systems() -> None:
    assert not is_os_error(RuntimeError("shapes do not match"))
    noexec = "libtorch_cpu.so: failed to map segment from shared object: Operation not permitted"
    assert not lacks_memory(ImportError(noexec))


def test_mistakes_that_are_repeated_are_told_once() -> None:
    problems = [(f"d/{n}", f"skim d/{n}: /in/{n}.root: is cut off.", [f"/in/{n}.root"]) for n in range(40)]
    problems.insert(1, ("d/x", "skim d/x: /in/x.root: is no ROOT file", ["/in/x.root"]))
    assert told_once(problems) == [
        "skim d/0: /in/0.root: is cut off. The same goes for d/1, d/2, d/3 and 36 more.",
        "skim d/x: /in/x.root: is no ROOT file",
    ]
    assert told_once([("WZ", "twice the same", []), ("WZ", "twice the same", [])]) == ["twice the same"]


def test_how_many_there_are_of_something_makes_no_other_mistake() -> None:
    counts = [(f"d{n}", f"a.py:3: Own: the mask has {n} entries, but {n - 1} events are left", []) for n in (7, 80)]
    assert told_once(counts) == [f"{counts[0][1]}. The same goes for d80."]
    shares = [(f"d{n}", f"d{n}: {n}.5% of Jet lost ({n},000 of 90,000)", []) for n in (1, 2)]
    assert told_once(shares) == ["d1: 1.5% of Jet lost (1,000 of 90,000). The same goes for d2."]
    other = [("d1", f'"Lep{n}_pt" is in no skim of dataset d1.', []) for n in (1, 2)]
    assert len(told_once(other)) == 2
