"""Ctrl-C that is never lost."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any, NoReturn, Optional

_seen = False


def _interrupted(number: int, frame: Optional[FrameType]) -> NoReturn:
    global _seen
    _seen = True
    raise KeyboardInterrupt


def _dropped(what: Any) -> None:
    """Print nothing about a Ctrl-C that Python drops: `check` raises it again."""
    if not issubclass(what.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(what)


def heed(number: int = signal.SIGINT) -> None:
    """Remember a Ctrl-C, or another signal, for `check`; a process in the background keeps ignoring it."""
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, _interrupted)
        sys.unraisablehook = _dropped


def check() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C.

    Python only prints an exception that is raised while an object is being collected; long work calls this every now
    and then, so that it ends nevertheless.
    """
    if _seen:
        raise KeyboardInterrupt
