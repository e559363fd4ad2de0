"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "State"]


class State(Enum):
    """How a thing is, for the chosen way of working."""

    FINE = "fine"
    """It is there, and as it should be."""
    ABSENT = "absent"
    """It is not, and some of what one may want to do needs it."""
    MISSING = "missing"
    """It is not, and nothing goes without it."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    fine
        Whether the thing is there, and as it should be.
    found
        What was found: "3.11.7", "expired 2 hours ago".
    mend
        What to do about it, a command where there is one; empty where it is fine.
    """

    fine: bool
    found: str
    mend: str = ""
