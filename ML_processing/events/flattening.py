"""Weights under which every class has the same spectrum of some columns, such as pt and mass of an object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ML_processing.events.data import Table

_BINS = {1: 40, 2: 15}  # of each column; of more columns 6
_MOST = 10.0  # factor for the events of a bin that a class hardly fills


@dataclass(frozen=True)
class Flattening:
    """Factors by class and bin, which take each class to the mean of the spectra of all."""

    columns: tuple[str, ...]
    edges: list[NDArray[np.float64]]  # between the bins of each column
    factors: NDArray[np.float64]  # (classes, bins)

    @classmethod
    def learn(cls, table: Table, columns: Sequence[str]) -> Flattening:
        """From the events of a training; the bins of each column have the same number of them."""
        bins = _BINS.get(len(columns), 6)
        shares = np.arange(1, bins) / bins
        values = (_values(table, name) for name in columns)
        edges = [np.unique(np.quantile(it[np.isfinite(it)].astype(np.float64), shares)) for it in values]
        made = cls(tuple(columns), edges, np.ones((1, 1)))
        count, labels, classes = int(np.prod([len(it) + 2 for it in edges])), table.labels, len(table.classes)
        places = labels * count + made._places(table)
        sums = np.bincount(places, np.abs(table.weights), classes * count).reshape(classes, count)
        spectra = sums / sums.sum(axis=1, keepdims=True)
        factors = np.divide(spectra.mean(axis=0), spectra, out=np.ones_like(spectra), where=spectra > 0).clip(max=_MOST)
        return replace(made, factors=factors / (spectra * factors).sum(axis=1, keepdims=True))

    def of(self, table: Table) -> Table:
        """The same events with these factors in their weights."""
        return replace(table, weights=(table.weights * self.factors[table.labels, self._places(table)]).astype("f4"))

    def _places(self, table: Table) -> NDArray[np.int64]:
        """The bin of each event; what is not finite is in one of its own."""
        place = np.zeros(len(table), np.int64)
        for name, edges in zip(self.columns, self.edges, strict=True):
            values = _values(table, name)
            found = np.where(np.isfinite(values), np.searchsorted(edges, values, "right"), len(edges) + 1)
            place = place * (len(edges) + 2) + found
        return place


def _values(table: Table, name: str) -> NDArray[np.float32]:
    return table.extras[name] if name in table.extras else table.features[:, table.names.index(name)]
