"""The common ground of all checks: findings, and questions to programs and file systems, which must not hang with these."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

SECONDS = 4.0
"""The longest that one question takes."""


@dataclass(frozen=True)
class Finding:
    """The finding of one check."""

    fine: bool  # whether the thing is there, and as it should be
    found: str  # "3.11.7", "expired 2 hours ago"
    mend: str = ""  # what to do about it, a command if there is one; empty if it is fine


@dataclass(frozen=True)
class Reply:
    """A program's exit code, None if it did not answer in time, and its standard output and standard error."""

    code: Optional[int]
    text: str

    @property
    def first_line(self) -> str:
        """The first line that is not empty, for messages."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[0] if lines else f"no answer in {SECONDS:.0f} s" if self.code is None else "no answer"


def has(program: str) -> bool:
    """Whether a program is in the PATH."""
    return shutil.which(program) is not None


def ask(command: Sequence[str], seconds: float = SECONDS, directory: Optional[str] = None) -> Reply:
    """Run a program. After `seconds` it is killed with all that it started; if even that fails, it is left alone."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            start_new_session=True,
        )
    except OSError as problem:
        return Reply(127, str(problem))
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # what hangs in the kernel cannot even be killed
            process.communicate(timeout=0.5)
        return Reply(None, "")
    return Reply(process.returncode, (out + err).decode(errors="replace"))


def answers(path: Path, seconds: float = SECONDS) -> Optional[bool]:
    """Whether there is such a file or directory; None if its file system does not answer in time."""
    code = ask(["ls", "-d", str(path)], seconds).code
    return None if code is None else code == 0
