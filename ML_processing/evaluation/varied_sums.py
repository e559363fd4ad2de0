"""Sums of the weights of events, nominal and under each variation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.data import Table
from ML_processing.metrics.measured import Floats
from ML_processing.training.data import TrainingFiles
from MLTools.NanoML.contracts.hdf5 import EVENTS
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import progress


@dataclass(frozen=True)
class VariedSums:
    """Sums of weights under each of some columns of weights."""

    columns: list[str]
    yields: Floats  # of all events of the training, (columns, classes)
    bins: Floats  # of those with a score, in bins of their discriminant, (columns, classes, bins)
    regions: dict[str, Floats]  # of all events of each region, (columns, classes)


def varied_sums(
    data: TrainingFiles,
    columns: Sequence[str],
    table: Table,
    rows: NDArray[np.int64],
    bins: NDArray[np.int64],
    count: int,
) -> VariedSums:
    """Add up weights block by block: so many of them would not fit into the memory beside the events.

    Parameters
    ----------
    data
        The files; events of a file that lacks a column have their nominal weight.
    columns
        Columns with weights of events.
    table
        All events of the files, or those that `TrainingFiles.sample` kept.
    rows, bins
        Rows of `table` that have a score, rising, and the bin of each among `count`; both int64 of shape (M,).
    """
    place = np.full(len(table), -1)
    place[rows] = bins
    # the table has all events whose hash is at most this
    largest, first = table.hashes().max(), 0
    classes, regions = len(table.classes), data.columns.regions
    slim = replace(data.columns, features=(), collections=(), extras=())
    sums = VariedSums(
        list(columns),
        np.zeros((len(columns), classes)),
        np.zeros((len(columns), classes, count)),
        {region.name: np.zeros((len(columns), classes)) for region in regions},
    )
    is_share = any(dataset.is_data for dataset in data.columns.datasets)
    with progress("add up the weights under each variation", sum(data.rows), is_share=is_share) as bar:
        for file, raw in replace(data, columns=slim, outputs={}).parts():
            there = raw[EVENTS].dtype.names or ()
            wanted = replace(slim, extras=tuple(column for column in columns if column in there))
            part = _weighted(file, Table.of_rows(file, raw, wanted))
            np.add(sums.yields, _added(part, columns, part.labels, classes), out=sums.yields)
            kept = part[part.hashes() <= largest]
            at = place[first : first + len(kept)]
            first += len(kept)
            kept, at = kept[at >= 0], at[at >= 0]
            cells = _added(kept, columns, kept.labels * count + at, classes * count)
            np.add(sums.bins, cells.reshape(sums.bins.shape), out=sums.bins)
            for region in regions:
                inside = _weighted(file, Table.of_rows(file, raw, replace(wanted, within=(region,))))
                found = sums.regions[region.name]
                np.add(found, _added(inside, columns, inside.labels, classes), out=found)
            bar.advance(len(raw[EVENTS]))
    return sums


def _weighted(file: Path, table: Table) -> Table:
    for column, weights in table.extras.items():
        bad = ~np.isfinite(weights)
        if bad.any():
            event = table.identifiers[2][bad][0]
            raise NanoMLError(
                f"{file}: event {event} has {column} {weights[bad][0]}: a weight must be a number. Check the values that "
                "the selection gives it."
            )
    return table


def _added(table: Table, columns: Sequence[str], cell: NDArray[np.int64], cells: int) -> Floats:
    """Sums of weights by cell, (columns, cells)."""
    return np.array([np.bincount(cell, table.extras.get(column, table.weights), cells) for column in columns])
