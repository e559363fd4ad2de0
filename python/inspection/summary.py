"""Numbers over all events of an HDF5 file, read in blocks: the file may be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.terminal.progress import progress

__all__ = ["Counts", "Summary", "summarise"]

_AT_ONCE = 64 << 20  # bytes
_WORTH_A_BAR = 2_000_000  # events; fewer are done before anyone has read it


@dataclass
class Summary:
    """Of one column; NaN and infinite values are counted, and left out of everything else.

    Attributes
    ----------
    nan, infinite
        How many values are NaN, or infinite.
    min, mean, max
        Of the finite values, in the column's unit; None if there is none.
    """

    nan: int = 0
    infinite: int = 0
    min: float | None = None
    mean: float | None = None
    max: float | None = None
    _finite: int = 0

    def add(self, values: NDArray[Any]) -> None:
        """Take in a block, shape (events,)."""
        numbers = values.astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        nan = int(np.isnan(numbers).sum())
        self.nan += nan
        self.infinite += len(numbers) - len(finite) - nan
        if not len(finite):
            return
        low, high, mean = float(finite.min()), float(finite.max()), float(finite.mean())
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)
        self._finite += len(finite)
        sofar = mean if self.mean is None else self.mean
        self.mean = sofar + (mean - sofar) * (len(finite) / self._finite)

    def as_dict(self) -> dict[str, Any]:
        """Plain content."""
        return {
            "min": self.min,
            "mean": self.mean,
            "max": self.max,
            "nan": self.nan,
            "infinite": self.infinite,
        }


@dataclass
class Counts:
    """Of the events with one label.

    Attributes
    ----------
    events
        How many.
    weights
        Sum of their weights.
    """

    events: int = 0
    weights: float = 0.0


def summarise(
    events: Any, columns: Sequence[str], weight: str | None
) -> tuple[dict[str, Summary], dict[int, Counts]]:
    """Read all events once.

    Parameters
    ----------
    events
        The dataset `events`, of compound type.
    columns
        Its columns to be summarised.
    weight
        Its column of weights; None counts each event as 1.

    Returns
    -------
    Summaries by column, and counts by label (those that occur).
    """
    summaries = {name: Summary() for name in columns}
    counts: dict[int, Counts] = {}
    for block in _blocks(events):
        for name, summary in summaries.items():
            summary.add(block[name])
        labels, positions = np.unique(block["label"], return_inverse=True)
        weights = np.ones(len(block)) if weight is None else block[weight].astype(np.float64)
        for label, many, total in zip(labels, np.bincount(positions), np.bincount(positions, weights)):
            count = counts.setdefault(int(label), Counts())
            count.events += int(many)
            count.weights += float(total)
    return summaries, counts


def _blocks(events: Any) -> Iterator[NDArray[Any]]:
    rows = max(_AT_ONCE // events.dtype.itemsize, 1)
    if events.chunks:
        rows = max(rows // events.chunks[0], 1) * events.chunks[0]  # so that no chunk is decompressed twice
    if len(events) < _WORTH_A_BAR:
        yield from (events[start : start + rows] for start in range(0, len(events), rows))
        return
    with progress("inspect", len(events)) as bar:
        for start in range(0, len(events), rows):
            block = events[start : start + rows]
            yield block
            bar.advance(len(block))
