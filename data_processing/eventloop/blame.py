"""Finds the line of a user's code that an error comes from."""

from __future__ import annotations

import inspect
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

__all__ = ["line_of"]

_NOT_USERS = tuple(
    {
        str(Path(__file__).parent) + os.sep,
        *(sysconfig.get_paths()[key] + os.sep for key in ("stdlib", "platstdlib")),
    }
)


def line_of(problem: BaseException) -> str:
    """The innermost line of a user's code in a traceback, as "FILE:LINE: "; empty if there is none.

    A user's code is what belongs neither to Python, nor to an installed package, nor to this one.
    """
    return next((f"{file}:{line}: " for file, line in _lines(problem) if _is_users(file)), "")


def _lines(problem: BaseException) -> Iterator[tuple[str, int]]:
    if isinstance(problem, SyntaxError) and problem.filename is not None:
        yield problem.filename, problem.lineno or 0
    frames = inspect.getinnerframes(problem.__traceback__) if problem.__traceback__ is not None else []
    for frame in reversed(frames):
        yield frame.filename, frame.lineno


def _is_users(file: str) -> bool:
    return not file.startswith(("<", *_NOT_USERS)) and "site-packages" not in file
