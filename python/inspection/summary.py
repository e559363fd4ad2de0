"""Numbers over all events of an HDF5 file, read in blocks: the file may be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.terminal.progress import progress

__all__ = ["ClassCounts", "ColumnSummary", "summarise"]

_AT_ONCE = 64 << 20  # bytes
_WORTH_A_BAR = 2_000_000  # events; fewer are done before anyone has read it


@dataclass
class ColumnSummary:
    """Range and mean of a column's finite values, in its unit, None if there are none; and the number of others."""

    nan: int = 0
    infinite: int = 0
    min: float | None = None
    mean: float | None = None
    max: float | None = None
    _finite: int = 0

    def add(self, values: NDArray[Any]) -> None:
        """Add a block of values, shape (events,)."""
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
        return {key: getattr(self, key) for key in ("min", "mean", "max", "nan", "infinite")}


@dataclass
class ClassCounts:
    """Number of events with one label, and the sum of their weights."""

    events: int = 0
    weights: float = 0.0


def summarise(
    events: Any, columns: Sequence[str], weight: str | None
) -> tuple[dict[str, ColumnSummary], dict[int, ClassCounts]]:
    """Read the dataset `events` once, for summaries of columns, and counts for each label that occurs.

    `weight` is the column of weights; None counts each event as 1.
    """
    summaries = {name: ColumnSummary() for name in columns}
    counts: dict[int, ClassCounts] = {}
    for block in _blocks(events):
        for name, summary in summaries.items():
            summary.add(block[name])
        labels, positions = np.unique(block["label"], return_inverse=True)
        weights = np.ones(len(block)) if weight is None else block[weight].astype(np.float64)
        for label, many, total in zip(labels, np.bincount(positions), np.bincount(positions, weights)):
            count = counts.setdefault(int(label), ClassCounts())
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
