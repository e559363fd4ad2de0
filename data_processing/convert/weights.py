"""Weights beside the generator's: those that the selection gave, and those that the configuration gives by expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.expressions import BoundExpression
from MLTools.NanoML.contracts.accounting import NOMINAL, WeightSums
from MLTools.NanoML.contracts.hdf5 import ConvertedWeight


@dataclass(frozen=True)
class GivenWeight:
    """A weight that the selection gave to the events of a dataset, with the sums over all files of the dataset."""

    sums: WeightSums

    @property
    def variations(self) -> dict[str, str]:
        """Its variations, and the columns of the events' weights under them; in ROOT files, those of its values."""
        return {variation: column for variation, column in self.sums.columns.items() if variation != NOMINAL}

    @property
    def branches(self) -> list[str]:
        """The branches with its values."""
        return self.sums.branches

    def describe(self) -> ConvertedWeight:
        """Its description in the metadata."""
        return ConvertedWeight(self.sums.weight, self.variations, self.sums.keeps_yield, self.sums.combine)

    def factors(self, arrays: Mapping[str, ak.Array]) -> dict[str, NDArray[np.float64]]:
        """Its values for each event, nominal and under each variation; normalised, if it keeps the yield."""
        found = {key: np.asarray(arrays[column], np.float64) for key, column in self.sums.columns.items()}
        if not self.sums.keeps_yield:
            return found
        bins = np.asarray(arrays[self.branches[-1]]) if self.sums.is_binned else np.zeros(len(found[NOMINAL]), np.int64)
        places, inverse = np.unique(bins, return_inverse=True)
        for variation, values in found.items():
            ratio = self.sums.ratio(variation)
            found[variation] = values * np.array([ratio[place] for place in places.tolist()])[inverse]
        return found


@dataclass(frozen=True)
class DatasetWeight:
    """A weight of a dataset's events that the configuration gives by an expression of columns."""

    expression: BoundExpression

    @property
    def variations(self) -> dict[str, str]:
        """It has none."""
        return {}

    @property
    def branches(self) -> list[str]:
        """The branches from which it is computed."""
        return self.expression.branches

    def factors(self, arrays: Mapping[str, ak.Array]) -> dict[str, NDArray[np.float64]]:
        """Its value for each event."""
        return {NOMINAL: self.expression.values(arrays, len(arrays["run"]))}
