"""Summaries of the events of an HDF5 file: its columns, and how many events there are of each class and in each region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.hdf5 import blocks
from MLTools.NanoML.terminal.progress import progress

_WORTH_A_BAR = 2_000_000  # events; fewer are done before anyone has read it


@dataclass
class ColumnSummary:
    """Range and mean of a column's finite values, in its unit, None if there are none; and the number of others."""

    min: float | None = None
    mean: float | None = None
    max: float | None = None
    nan: int = 0
    infinite: int = 0
    finite: int = 0

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
        self.finite += len(finite)
        sofar = mean if self.mean is None else self.mean
        self.mean = sofar + (mean - sofar) * (len(finite) / self.finite)


@dataclass
class ClassCounts:
    """Number of events with one label, and the sum of their weights."""

    name: str | None  # of the class; None for events that belong to none
    label: int
    events: int = 0
    weights: float = 0.0


@dataclass
class RegionCounts:
    """Number of events in a region, and the sum of their weights."""

    name: str
    cut: str
    events: int = 0
    weights: float = 0.0


def summarise(
    events: Any,
    columns: Sequence[str],
    weight: str | None,
    classes: dict[int, ClassCounts],
    regions: Mapping[str, RegionCounts],
) -> dict[str, ColumnSummary]:
    """Read the dataset `events` once, for summaries of columns, and to count the events of each label and region.

    `weight` is the column of weights; None counts each event as 1. `regions` are by their columns.
    """
    summaries = {name: ColumnSummary() for name in columns}
    with progress("inspect", len(events)) if len(events) >= _WORTH_A_BAR else nullcontext() as bar:
        for _, block in blocks(events):
            for name, summary in summaries.items():
                summary.add(block[name])
            labels, positions = np.unique(block["label"], return_inverse=True)
            weights = np.ones(len(block)) if weight is None else block[weight].astype(np.float64)
            for label, many, total in zip(labels, np.bincount(positions), np.bincount(positions, weights)):
                counts = classes.setdefault(int(label), ClassCounts(None, int(label)))
                counts.events += int(many)
                counts.weights += float(total)
            for column, region in regions.items():
                region.events += int(np.count_nonzero(block[column]))
                region.weights += float(weights[block[column]].sum())
            if bar is not None:
                bar.advance(len(block))
    return summaries
