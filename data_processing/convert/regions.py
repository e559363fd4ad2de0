"""Regions of the analysis: cuts on event-level columns, each of which becomes a column that says whether an event passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.hdf5 import ConvertedRegion
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.rootio.rootfile import RootFile


@dataclass(frozen=True)
class Region:
    """A region, as the configuration gives it."""

    name: str
    cut: str  # an expression of event-level columns, in the language of skim.cut
    where: str  # its place in the configuration, for messages

    def describe(self) -> ConvertedRegion:
        """Its description in the metadata."""
        return ConvertedRegion(self.name, self.cut)


class RegionCut:
    """The cut of a region on the events of a file."""

    def __init__(self, region: Region, file: RootFile) -> None:
        self.column = region.describe().column
        self._where = region.where
        try:
            self._formula = Formula(region.cut)
            self._names = self._formula.resolve(file.branches, file.path)
        except NanoMLError as problem:
            raise ConfigError(f"{region.where}: {problem}") from None
        self.branches = list(dict.fromkeys(self._names.values()))

    def passes(self, arrays: Mapping[str, ak.Array], length: int) -> NDArray[np.bool_]:
        """Which of `length` events are in the region, given all `branches` of them."""
        given = {name: arrays[actual] for name, actual in self._names.items()}
        try:
            return self._formula.mask(given, length)
        except NanoMLError as problem:
            raise ConfigError(f"{self._where}: {problem}") from None
