"""Why jobs fail, in plain words, and what to do."""

from __future__ import annotations

import errno
import traceback
from concurrent.futures.process import BrokenProcessPool

from MLTools.NanoML.batch.result import Problem
from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError
from MLTools.NanoML.terminal.progress import say

__all__ = ["ADVICE", "FAILED", "PERMANENT", "exit_code_of", "problem_of"]

FAILED = 1
"""Exit code of a job that may do better when it is tried again."""

PERMANENT = 2
"""Exit code of a job that would fail again."""

_AGAIN = "nanoml resubmit tries again"

ADVICE = {
    "configuration": "mend it, then: nanoml resubmit",
    "unreadable": f"{_AGAIN}, or allows a loss: nanoml resubmit --max-missing-files 1%",
    "proxy": "nanoml proxy init, then: nanoml resubmit",
    "package": "put it into the environment of the jobs (batch.environment), then: nanoml resubmit",
    "disk": "free some space; nanoml resubmit asks for more",
    "memory": "nanoml resubmit asks for more",
    "time": "nanoml resubmit asks for more",
    "killed": f"{_AGAIN}; if it happens again, it may be for lack of memory",
    "stopped": f"{_AGAIN}",
    "lost": f"{_AGAIN}",
    "held": "nanoml resubmit releases it",
    "refused": "nanoml kill, change batch.time, batch.memory or batch.partition, then: nanoml resubmit",
    "removed": f"{_AGAIN}",
    "error": "mend it, then: nanoml resubmit",
    "defect": "this is a mistake of NanoML or of your own code: nanoml logs JOB shows where",
}
"""Kinds of reasons, and what to do about them."""

_PERMANENT_KINDS = ("configuration", "package", "proxy")
_PROXY_WORDS = ("proxy", "authentication", "auth failed", "[3010]", "no protocols left to try")


def problem_of(problem: BaseException) -> Problem:
    """The reason, of what was raised; the traceback of what nobody foresaw goes to the log."""
    number = getattr(problem, "errno", None)
    text = str(problem) or type(problem).__name__
    if isinstance(problem, (MemoryError, BrokenProcessPool)):
        return Problem("memory", text if isinstance(problem, BrokenProcessPool) else "the memory was used up")
    if number in (errno.ENOSPC, errno.EDQUOT):
        return Problem("disk", text)
    if isinstance(problem, ModuleNotFoundError):
        return Problem("package", f"The Python package {problem.name} is missing")
    if isinstance(problem.__cause__, ModuleNotFoundError):
        return Problem("package", text)
    if isinstance(problem, ConfigError):
        return Problem("configuration", text)
    if isinstance(problem, NanoMLError):
        return _of_message(problem, text)
    for line in traceback.format_exception(type(problem), problem, problem.__traceback__):
        say(line.rstrip())
    return Problem("defect", f"{type(problem).__name__}: {text}")


def _of_message(problem: NanoMLError, text: str) -> Problem:
    if any(word in text.lower() for word in _PROXY_WORDS):
        return Problem("proxy", text)
    if isinstance(problem, UnreadableError):
        return Problem("unreadable", text, problem.path)
    return Problem("error", text)


def exit_code_of(problem: Problem) -> int:
    """The exit code of a job that fails for this reason."""
    return PERMANENT if problem.kind in _PERMANENT_KINDS else FAILED
