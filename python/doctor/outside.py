"""Asking programs and file systems outside, with a bound on the time: a network that hangs must not hang the doctor."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

__all__ = ["Answer", "answers", "ask", "has"]

SECONDS = 4.0
"""The longest that one question takes."""


@dataclass(frozen=True)
class Answer:
    """What a program said.

    Attributes
    ----------
    code
        Its exit code; None if it did not answer in time.
    text
        Its standard output, and behind it the standard error.
    """

    code: Optional[int]
    text: str

    @property
    def first_line(self) -> str:
        """The first line that says something, for messages."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[0] if lines else f"no answer in {SECONDS:.0f} s" if self.code is None else "no answer"


def has(program: str) -> bool:
    """Whether a program is in the PATH."""
    return shutil.which(program) is not None


def ask(
    command: Sequence[str],
    seconds: float = SECONDS,
    environment: Optional[Mapping[str, str]] = None,
    directory: Optional[str] = None,
) -> Answer:
    """Run a program, and take what it says.

    Parameters
    ----------
    command
        The program and its arguments.
    seconds
        After that long it is ended, and all that it started; so is the wait for it, where even that does not end it.
    environment
        Variables beside those of this process.
    directory
        Where it runs; None for the current one.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            cwd=directory,
            start_new_session=True,
        )
    except OSError as problem:
        return Answer(127, str(problem))
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # what hangs in the kernel cannot even be killed
            process.communicate(timeout=0.5)
        return Answer(None, "")
    return Answer(process.returncode, (out + err).decode(errors="replace"))


def answers(path: Path, seconds: float = SECONDS) -> Optional[bool]:
    """Whether there is such a file or directory; None if its file system does not answer in time."""
    code = ask(["ls", "-d", str(path)], seconds).code
    return None if code is None else code == 0
