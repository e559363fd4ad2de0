"""Why jobs fail: kinds of problems, in plain words, with what to do about them."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Optional

from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError
from MLTools.NanoML.terminal.progress import say

__all__ = ["FAILED", "KINDS", "PERMANENT", "JobProblem", "ProblemKind", "exit_code_of", "problem_in_log", "problem_of"]

FAILED = 1
"""Exit code of a job that may succeed when it is tried again."""

PERMANENT = 2
"""Exit code of a job that would fail again."""


@dataclass(frozen=True)
class ProblemKind:
    """A kind of problem."""

    words: str  # what it is, for people
    advice: str  # what to do about it


_AGAIN = "nanoml resubmit tries again"

KINDS = {
    "configuration": ProblemKind("mistake in the configuration", "correct it, then: nanoml resubmit"),
    "unreadable": ProblemKind(
        "file unreadable", f"{_AGAIN}, or allows missing files: nanoml resubmit --max-missing-files 1%"
    ),
    "proxy": ProblemKind("grid proxy cannot be used", "nanoml proxy init, then: nanoml resubmit"),
    "package": ProblemKind(
        "package or program missing", "add it to the environment of the jobs (batch.environment), then: nanoml resubmit"
    ),
    "disk": ProblemKind("disk full", "free some space; nanoml resubmit asks for more"),
    "storage": ProblemKind(
        "output not on the storage", "check that you may write there and have room left, then: nanoml resubmit"
    ),
    "memory": ProblemKind("out of memory", "nanoml resubmit asks for more"),
    "time": ProblemKind("wall time exceeded", "nanoml resubmit asks for more"),
    "killed": ProblemKind("killed", f"{_AGAIN}; if it happens again, it may be for lack of memory"),
    "stopped": ProblemKind("told to stop", _AGAIN),
    "lost": ProblemKind("lost", _AGAIN),
    "held": ProblemKind("held", "nanoml resubmit releases it"),
    "refused": ProblemKind(
        "asks for too much", "nanoml kill, change batch.time, batch.memory or batch.partition, then: nanoml resubmit"
    ),
    "rejected": ProblemKind("rejected by the batch system", "change what it says, then: nanoml resubmit"),
    "removed": ProblemKind("removed", _AGAIN),
    "error": ProblemKind("error", "correct it, then: nanoml resubmit"),
    "defect": ProblemKind(
        "unexpected error", "this is a bug of NanoML or of your own code: nanoml logs JOB shows where"
    ),
}
"""All kinds of problems."""

_PERMANENT = ("configuration", "package", "proxy")
_PROXY_WORDS = ("proxy", "authentication", "auth failed", "[3010]", "no protocols left to try")
_LOG_WORDS = (
    ("ModuleNotFoundError", "package"),
    ("Python package", "package"),
    ("No space left on device", "disk"),
    ("Disk quota exceeded", "disk"),
    ("MemoryError", "memory"),
    ("oom-kill", "memory"),
    ("Out of memory", "memory"),
    ("/cvmfs", "package"),
    ("command not found", "package"),
    ("No such file or directory", "package"),
)


@dataclass(frozen=True)
class JobProblem:
    """Why a job or one of its tasks failed or is held."""

    kind: str  # one of `KINDS`
    message: str  # in words
    file: str = ""  # the file that could not be read, if that is the reason


def problem_of(problem: BaseException) -> JobProblem:
    """The reason for a failure, from the exception; the traceback of an unforeseen one goes to the log."""
    number = getattr(problem, "errno", None)
    text = str(problem) or type(problem).__name__
    if isinstance(problem, (MemoryError, BrokenProcessPool)):
        return JobProblem("memory", text if isinstance(problem, BrokenProcessPool) else "the memory was used up")
    if number in (errno.ENOSPC, errno.EDQUOT):
        return JobProblem("disk", text)
    if isinstance(problem, ModuleNotFoundError):
        return JobProblem("package", f"The Python package {problem.name} is missing")
    if isinstance(problem.__cause__, ModuleNotFoundError):
        return JobProblem("package", text)
    if isinstance(problem, ConfigError):
        return JobProblem("configuration", text)
    if isinstance(problem, NanoMLError):
        if any(word in text.lower() for word in _PROXY_WORDS):
            return JobProblem("proxy", text)
        if isinstance(problem, UnreadableError):
            return JobProblem("unreadable", text, problem.path)
        return JobProblem("error", text)
    for line in traceback.format_exception(type(problem), problem, problem.__traceback__):
        say(line.rstrip())
    return JobProblem("defect", f"{type(problem).__name__}: {text}")


def problem_in_log(lines: Sequence[str]) -> Optional[JobProblem]:
    """The reason that the last lines of a log give for a job that could not write a result."""
    for line in reversed(lines):
        for word, kind in _LOG_WORDS:
            if word in line:
                return JobProblem(kind, line.strip()[:300])
    return None


def exit_code_of(problem: JobProblem) -> int:
    """The exit code of a job that fails for this reason."""
    return PERMANENT if problem.kind in _PERMANENT else FAILED
