"""What checks of a file found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Findings"]


@dataclass
class Findings:
    """What is wrong with a file.

    Attributes
    ----------
    path
        The file.
    allow_nan
        Whether NaN was accepted.
    events
        How many there are; None if the file cannot be read.
    faults
        (check, where, what) to [first row, how many times]; [-1, 0] for what is not wrong in single rows.
    skipped
        Why a check was left out, by its name.
    complete
        Whether the checks were made to the end: the file can be read, and its metadata understood.
    """

    path: str
    allow_nan: bool
    events: int | None = None
    faults: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    def add(self, check: str, where: str, what: str, row: int = -1, times: int = 0) -> None:
        """Add a fault, or what is found of it in a later block."""
        self.faults.setdefault((check, where, what), [row, 0])[1] += times

    def skip(self, why: str, *checks: str) -> None:
        """Say why checks are left out."""
        self.skipped.update(dict.fromkeys(checks, why))

    def add_rows(self, check: str, where: str, what: str, bad: NDArray[np.bool_], start: int) -> None:
        """Add what is bad in a block whose first row is `start`; shape (rows,) or (rows, max)."""
        if bad.any():
            row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
            self.add(check, where, what, start + row, int(np.count_nonzero(bad)))
