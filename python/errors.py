"""Errors that a user can cause and fix."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterable
from typing import Optional

__all__ = ["ConfigError", "NanoMLError", "UnreadableError", "explain_os_error", "is_os_error", "listed", "told_once"]


class NanoMLError(Exception):
    """One message for a person: what is wrong, where, and what to do.

    The command line prints it without a traceback and ends with exit code 1.
    """

    exit_code = 1
    errno: Optional[int] = None
    """The error number of the operating system, if it caused the error."""


class ConfigError(NanoMLError):
    """A mistake in the configuration or on the command line (exit code 2)."""

    exit_code = 2


class UnreadableError(NanoMLError):
    """A file of events cannot be read: it is damaged, or no server delivers it.

    Parameters
    ----------
    message
        As for NanoMLError.
    path
        The file, by the name under which it was requested.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def listed(names: Iterable[str], most: int = 10) -> str:
    """Names for a sentence; the last ones are only counted if there are more than `most`.

    Examples
    --------
    >>> listed(["WZ", "ZG", "tt"], most=2)
    'WZ, ZG and 1 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def plural(many: int, noun: str) -> str:
    """How many of something: `1 file`, `1,200 files`."""
    return f"{many:,} {noun}{'' if many == 1 else 's'}"


_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, then run the same command again",
    errno.EDQUOT: "the quota is used up: free some space, then run the same command again",
    errno.EACCES: "permission denied: choose a directory that you may write to",
    errno.EPERM: "not permitted: choose a directory that you may write to",
    errno.EROFS: "the file system is read-only: choose another directory",
    errno.ENOTDIR: "a part of this path is a file, not a directory",
    errno.EEXIST: "there is a file of this name, not a directory",
    errno.ENAMETOOLONG: "the name is too long for this file system",
}


def _errno(problem: BaseException) -> Optional[int]:
    number = getattr(problem, "errno", None)
    if isinstance(number, int):
        return number
    text = str(problem)
    return next((n for n in _ADVICE if f"errno = {n}," in text or os.strerror(n) in text), None)


def is_os_error(problem: BaseException) -> bool:
    """Whether an exception is the operating system's, even if a library has wrapped it in text."""
    return _errno(problem) is not None


def explain_os_error(problem: BaseException, path: str | os.PathLike[str], doing: str) -> NanoMLError:
    """Turn an error of the operating system into one message.

    Parameters
    ----------
    problem
        What was raised. Writers of HDF5 and ROOT wrap the system's error in text, so the text is searched, too.
    path
        The file or directory.
    doing
        What was being done, as in "write".
    """
    number = _errno(problem)
    advice = _ADVICE.get(number, os.strerror(number)) if number is not None else str(problem)
    error = NanoMLError(f"{os.fspath(path)}: cannot {doing}: {advice}.")
    error.errno = number
    return error


TOO_LITTLE_MEMORY = (
    "there is too little memory for it: lower the chunk or the memory of the stage, the batch size of a training or the number of "
    "workers, or use a machine with more"
)
_ALLOCATION = re.compile(
    "[Oo]ut of memory|bad.alloc|an(not|'t) allocate memory|failed to map segment from shared object$"
)


def lacks_memory(problem: BaseException) -> bool:
    """Whether the memory was used up, as Python or a library says it."""
    is_ours = isinstance(problem, NanoMLError)
    return isinstance(problem, MemoryError) or (not is_ours and _ALLOCATION.search(str(problem)) is not None)


_COUNT = re.compile(r"(?<=[ (])[0-9](?:[0-9.,]*[0-9])?(?=[ ,)%])")


def told_once(problems: Iterable[tuple[str, str, Collection[str]]]) -> list[str]:
    """Messages without their repetitions: those that differ only in what they are about are one, with the names of the others.

    They may also differ in how many there are of something.

    Parameters
    ----------
    problems
        What each is about, its message, and the paths that are named in it.
    """
    alike: dict[str, list[str]] = {}
    messages: dict[str, str] = {}
    for name, message, paths in problems:
        common = message
        for own in (*sorted(paths, key=len, reverse=True), name):
            common = common.replace(own, "")
        common = _COUNT.sub("", common)
        messages.setdefault(common, message)
        alike.setdefault(common, []).append(name)
    lines = []
    for common, names in alike.items():
        others = [name for name in dict.fromkeys(names) if name != names[0]]
        message = messages[common]
        end = "" if message.endswith((".", "?")) else "."
        lines.append(f"{message}{end} The same goes for {listed(others, 3)}." if others else message)
    return lines


def in_words(seconds: float) -> str:
    """A time for people: "45 s", "12 min", "3.5 h", "2.1 d"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} d"
