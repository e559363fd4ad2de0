from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from MLTools.NanoML.doctor.probe import answers, ask, has


def test_what_a_program_says() -> None:
    answer = ask(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (answer.code, answer.text, answer.first_line) == (3, "out\nerr\n", "out")
    assert ask(["true"]).first_line == "no answer"


def test_a_program_that_is_not_there() -> None:
    assert not has("no-such-program")
    assert ask(["no-such-program"]).code == 127


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    answer = ask(["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 1234 | cat"], seconds=0.5)
    assert answer.code is None
    assert answer.first_line.startswith("no answer in")
    group = (tmp_path / "pid").read_text().strip()
    end = time.monotonic() + 30
    while any(state != "Z" and its_group == group for state, _, its_group in processes()):
        assert time.monotonic() < end, "what the program started still runs"
        time.sleep(0.01)  # the kernel ends what is killed when that is next scheduled


def processes() -> Iterator[list[str]]:
    """State, parent and group of each process."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield status.read_text().rpartition(")")[2].split()[:3]


def test_files_are_looked_for_with_a_bound_on_the_time(tmp_path: Path) -> None:
    assert answers(tmp_path) is True
    assert answers(tmp_path / "nothing") is False
    assert answers(Path(sys.executable)) is True


def test_a_file_system_that_does_not_answer(program: object, tmp_path: Path) -> None:
    program("ls", "sleep 30")  # type: ignore[operator]
    assert answers(tmp_path, seconds=0.3) is None
