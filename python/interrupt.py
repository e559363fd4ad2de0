"""Ctrl-C that is never lost."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn, Optional

__all__ = ["check", "heed"]

_seen = False


def _interrupted(number: int, frame: Optional[FrameType]) -> NoReturn:
    global _seen
    _seen = True
    raise KeyboardInterrupt


def heed() -> None:
    """Remember a Ctrl-C, for `check`; a process in the background goes on ignoring it."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupted)


def check() -> None:
    """Raise KeyboardInterrupt if there was a Ctrl-C.

    Python drops an exception that is raised while an object is being collected; work that goes on for long
    calls this every now and then, so that it ends nevertheless.
    """
    if _seen:
        raise KeyboardInterrupt
