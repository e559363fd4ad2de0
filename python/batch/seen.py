"""What a batch system says of a job, and the protocol of all of them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol

from MLTools.NanoML.batch.result import Problem
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.errors import NanoMLError

__all__ = ["Look", "Seen", "System", "call"]


@dataclass(frozen=True)
class Seen:
    """A job as its batch system sees it.

    Attributes
    ----------
    state
        "waiting", "running", "held" or "ended".
    problem
        Why it is held, or what was wrong when it ended.
    attempt
        How often it was begun; 0 where that is not known.
    """

    state: str
    problem: Optional[Problem] = None
    attempt: int = 0


@dataclass(frozen=True)
class Look:
    """A submission as its batch system sees it.

    Attributes
    ----------
    jobs
        By their names; of those that have not been submitted yet, or are forgotten, it knows nothing.
    is_active
        Whether anything of it is at work, or may still be; None if the system did not answer.
    notes
        What is to be said about that.
    """

    jobs: Mapping[str, Seen]
    is_active: Optional[bool]
    notes: Sequence[str] = ()


class System(Protocol):
    """A batch system. Its methods are called in the directory of the submission."""

    def write(self, submission: Submission) -> None:
        """Write all files that it reads."""

    def submit(self, submission: Submission) -> None:
        """Submit what was written, and note the handles."""

    def recover(self, submission: Submission) -> bool:
        """Of a submission that was interrupted: note the handles if all was submitted, else end what was.

        Whether it was submitted.
        """

    def look(self, submission: Submission) -> Look:
        """See how it goes."""

    def release(self, submission: Submission, held: Mapping[str, Seen]) -> Sequence[str]:
        """Let jobs go on that are held, with more of what they lacked; say what was done."""

    def kill(self, submission: Submission) -> None:
        """End all that is at work or waiting."""


def call(command: Sequence[str], timeout: float = 120.0, cwd: Optional[Path] = None) -> str:
    """Run a client of a batch system, and return what it printed.

    Raises
    ------
    NanoMLError
        It is not installed, failed, or did not answer in time.
    """
    try:
        # it inherits the lock of the work directory: what it submits is in the queue before another process looks there
        done = subprocess.run(
            list(command),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            cwd=cwd,
            close_fds=False,
        )
    except FileNotFoundError:
        raise NanoMLError(
            f"{command[0]}: is not installed on this machine. Choose another system: nanoml submit --on local."
        ) from None
    except subprocess.TimeoutExpired:
        raise NanoMLError(f"{command[0]}: did not answer in {timeout:.0f} s. Try again later.") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NanoMLError(f"{command[0]}: {' '.join(said[-3:]) or f'exit code {done.returncode}'}.")
    return done.stdout
