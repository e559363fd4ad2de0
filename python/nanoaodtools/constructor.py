"""The line that makes a selection known to nano_postproc.py, and that refuses mistyped names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaodtools.module import PostprocModule
from MLTools.NanoML.selection import Selection

__all__ = ["postproc_module"]


@dataclass(frozen=True)
class _Constructor:
    selection: Callable[[], Selection]

    def __call__(self) -> PostprocModule:
        return PostprocModule(self.selection())


class _UnknownNameError(NanoMLError, AttributeError):
    """A file has no such name."""


class _AnyName(str):
    """A name that equals every other."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)


def postproc_module(selection: Callable[[], Selection]) -> Callable[[], PostprocModule]:
    """Make a selection available to `nano_postproc.py -I`, under the name that the result is given.

    Of the names after -I, nano_postproc.py ignores in silence those that the file has not, and copies all events. It
    looks for them in `dir(file)`. So the file that calls this function gets a `__dir__` of which one entry,
    `__name__`, equals every name, and a `__getattr__` that says what is wrong with a name that is not there. Nothing
    else notices: the list looks as it did, and a missing name is an AttributeError as ever.

    Parameters
    ----------
    selection
        The class, or a function without arguments that returns a selection.

    Returns
    -------
    What nano_postproc.py calls to get a module: a new one each time.
    """
    namespace = sys._getframe(1).f_globals

    def names() -> list[str]:
        return [_AnyName(name) if name == "__name__" else name for name in namespace]

    def unknown(name: str) -> Any:
        known = [key for key, value in namespace.items() if isinstance(value, _Constructor)]
        raise _UnknownNameError(
            f"{namespace['__name__']}: has no `{name}`.{versions.did_you_mean(name, namespace)} "
            f"Its modules for nano_postproc.py -I: {', '.join(known)}."
        )

    namespace.setdefault("__dir__", names)
    namespace.setdefault("__getattr__", unknown)
    return _Constructor(selection)
