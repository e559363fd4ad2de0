"""What all figures say that they show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_given = ""


def with_label(text: str, work: Callable[[], Any]) -> Any:
    """Do some work, whose figures say `text` where they would say that they are private work with simulation by CMS."""
    global _given
    _given = text
    try:
        return work()
    finally:
        _given = ""


def shown(has_data: bool) -> str:
    """The label of a figure, with observed data or without."""
    return _given or f"Private work (CMS {'data/' if has_data else ''}simulation)"
