"""Variations of weights as sources of uncertainty: which columns of HDF5 files are one, and what they do to a quantity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from MLTools.NanoML.contracts.hdf5 import ConvertedWeight
from MLTools.NanoML.nanoaod.fileaccounting import combined

NOMINAL = "weight"
"""The column with the weights that are not varied."""


@dataclass(frozen=True)
class Source:
    """One source of uncertainty of a weight, as a nuisance parameter has it."""

    name: str
    weight: str
    columns: tuple[str, ...]  # with the weights of events under its variations
    combine: str = ""  # how; if empty, they are up and down, or one that has no opposite

    def ends(self, values: Any, columns: Sequence[str], xp: Any = np) -> tuple[Any, Any]:
        """A quantity up and down, None if there is no down, from its values (columns, ...) under each variation; of the module `xp`."""
        nominal, found = values[columns.index(NOMINAL)], values[[columns.index(column) for column in self.columns]]
        if self.combine:
            up, down = combined(self.combine, nominal, found, xp)
            return up, down
        return found[0], found[1] if len(found) > 1 else None


def sources_of(weights: Sequence[ConvertedWeight]) -> list[Source]:
    """All sources: variations that are combined are one; others that end with _up and _down, or are named so, are a pair."""
    return [source for weight in weights if weight.variations for source in _of_weight(weight)]


def _of_weight(weight: ConvertedWeight) -> Iterator[Source]:
    if weight.combine:
        yield Source(weight.name, weight.name, tuple(weight.variations.values()), weight.combine)
        return
    pairs: dict[str, dict[str, str]] = {}
    for variation, column in weight.variations.items():
        name, _, direction = variation.rpartition("_")
        if direction not in ("up", "down"):
            name, direction = variation, "up"
        pairs.setdefault(name, {})[direction] = column
    for name, pair in pairs.items():
        columns = [pair[direction] for direction in ("up", "down") if direction in pair]
        yield Source(f"{weight.name}_{name}" if name else weight.name, weight.name, tuple(columns))
