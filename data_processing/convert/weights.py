"""Weights beside the generator's: those that the selection gave, and those that the configuration gives by expressions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.expressions import BoundExpression
from MLTools.NanoML.contracts.hdf5 import ConvertedWeight
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL, WeightSums, weight_column


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
class ExpressionWeight:
    """A weight that the configuration gives by expressions of columns: of a dataset's events, or the transfer weight of a class."""

    name: str  # empty if it has no variations
    values: Mapping[str, BoundExpression]  # nominal and under each variation

    @property
    def variations(self) -> dict[str, str]:
        """Its variations, and the columns of the events' weights under them."""
        return {variation: weight_column(self.name, variation) for variation in self.values if variation != NOMINAL}

    @property
    def branches(self) -> list[str]:
        """The branches from which it is computed."""
        return list(dict.fromkeys(name for value in self.values.values() for name in value.branches))

    @property
    def unvaried(self) -> ExpressionWeight:
        """The same without its variations."""
        return replace(self, values={NOMINAL: self.values[NOMINAL]})

    def describe(self) -> ConvertedWeight:
        """Its description in the metadata."""
        return ConvertedWeight(self.name, self.variations)

    def factors(self, arrays: Mapping[str, ak.Array]) -> dict[str, NDArray[np.float64]]:
        """Its values for each event, nominal and under each variation."""
        return {key: value.values(arrays, len(arrays["run"])) for key, value in self.values.items()}


@dataclass(frozen=True)
class EventWeights:
    """All weights of a dataset's events: the generator's, those beside it, and the number of events that a weight stands for."""

    scale: float | None  # number of events expected per generator weight, if that is known
    is_generated: bool  # whether the events have genWeight, and it counts; otherwise it is 1
    given: Sequence[GivenWeight | ExpressionWeight] = ()  # beside the generator's

    @property
    def varied(self) -> list[ConvertedWeight]:
        """The descriptions of those that have variations, or that the selection gave."""
        found = [each.describe() for each in self.given if isinstance(each, GivenWeight) or each.variations]
        names = [each.name for each in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(
                f"data_driven.{twice}: its transfer weight has variations, and the selection has a weight {twice}: their columns would "
                "have the same names. Rename one of the two."
            )
        return found

    @property
    def columns(self) -> list[str]:
        """The columns of the weights of events under each variation."""
        return [column for each in self.given for column in each.variations.values()]

    @property
    def branches(self) -> list[str]:
        """The branches from which they are computed."""
        names = [name for each in self.given for name in each.branches]
        return list(dict.fromkeys(["genWeight", *names] if self.is_generated else names))

    def generated(self, arrays: Mapping[str, ak.Array], length: int) -> NDArray[np.float32]:
        """The generator weight of each event, as HDF5 files have it."""
        if not self.is_generated:
            return np.ones(length, np.float32)
        return np.asarray(ak.to_numpy(arrays["genWeight"])).astype(np.float32, copy=False)

    def corrections(self, arrays: Mapping[str, ak.Array], length: int) -> dict[str, NDArray[np.float64]]:
        """The product of all that are beside the generator's, for each event: nominal, and by column under each variation."""
        factors = [each.factors(arrays) for each in self.given]
        found = {NOMINAL: math.prod((each[NOMINAL] for each in factors), start=np.ones(length))}
        for number, each in enumerate(self.given):
            nominal = (values[NOMINAL] for other, values in enumerate(factors) if other != number)
            others: NDArray[np.float64] = math.prod(nominal, start=np.ones(length))
            found.update((column, others * factors[number][key]) for key, column in each.variations.items())
        return found
