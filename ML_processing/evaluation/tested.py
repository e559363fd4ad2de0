"""What an evaluation is made from: a training, its events, and the scores of those that it tests on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.table import Table
from ML_processing.training.run import Run

__all__ = ["MOST_EVENTS", "Input", "Tested", "inputs_of", "label", "listed", "spectators"]

MOST_EVENTS = 200_000
"""Diagnostics that need much memory or time use a random choice of so many events."""


@dataclass(frozen=True)
class Tested:
    """Events that a training tests on, or some of them.

    Attributes
    ----------
    training
        The training.
    table
        The events, N of them.
    scores
        Of networks that have not seen them, shape (N, outputs).
    """

    training: Run
    table: Table
    scores: NDArray[np.float32]

    def select(self, rows: NDArray[np.int64], factors: NDArray[np.float32]) -> Tested:
        """Some of the events, with their weights multiplied by `factors`, shape (rows,)."""
        table = self.table[rows]
        return Tested(self.training, replace(table, weights=table.weights * factors), self.scores[rows])

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        return int(self.training.description["config"]["seed"])


@dataclass(frozen=True)
class Input:
    """One input of the networks: a feature, or a field of a collection.

    Attributes
    ----------
    name
        As in "MET_pt" or "Jet_eta".
    index
        Column of the features, or of the collection's fields.
    collection
        None for a feature.
    """

    name: str
    index: int
    collection: str | None = None

    def values(self, table: Table) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Its values in all events, and the row of `table` that each belongs to; both of shape (values,)."""
        if self.collection is None:
            return table.features[:, self.index], np.arange(len(table))
        values, mask = table.objects[self.collection]
        rows, objects = np.nonzero(mask)
        return values[rows, objects, self.index], rows


def inputs_of(table: Table) -> list[Input]:
    """All inputs, those of the event first."""
    shape = table.shape
    found = [Input(name, i) for i, name in enumerate(shape.features)]
    for it in shape.collections:
        found += [Input(f"{it.name}_{field}", i, it.name) for i, field in enumerate(it.fields)]
    return found


def label(table: Table, name: str) -> str:
    """Title of an axis: the name of a column, and its unit.

    The unit is what the column's title has in brackets; NanoAOD gives none for momenta and masses, which are in GeV.
    """
    about = table.about
    columns = {column["name"]: column for column in about.features}
    columns |= {f"{it}_{column['name']}": column for it, fields in about.fields.items() for column in fields}
    title = columns.get(name, {}).get("title") or ""
    found = re.search(r"[\[(](GeV|TeV|MeV|cm|mm|ns|rad)[\])]", title)
    unit = found[1] if found else "GeV" if re.search(r"_(pt|mass|mT|energy)$", name) else None
    return f"{name} [{unit}]" if unit else name


def spectators(table: Table) -> dict[str, NDArray[np.float32]]:
    """Event-level columns by name, inputs first."""
    return {**{name: table.features[:, i] for i, name in enumerate(table.names)}, **table.extras}


def listed(values: Any) -> list[Any]:
    """An array as JSON holds it, with None for what is not finite, and no more digits than matter."""
    array = np.asarray(values, np.float64)
    if array.ndim > 1:
        return [listed(row) for row in array]
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in array]
