"""Expressions of event-level columns that the configuration gives, such as the cuts of regions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.hdf5 import ConvertedRegion
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.rootio.rootfile import RootFile


@dataclass(frozen=True)
class Expression:
    """An expression of event-level columns, in the language of skim.cut."""

    text: str
    where: str  # its place in the configuration, for messages


class BoundExpression:
    """An expression with the branches of a file."""

    def __init__(self, expression: Expression, file: RootFile) -> None:
        self._where, self.text = expression.where, expression.text
        with self._explained():
            self._formula = Formula(expression.text).bind(file.branches, file.path)
        self.branches = self._formula.branches

    def passes(self, arrays: Mapping[str, ak.Array], length: int) -> NDArray[np.bool_]:
        """For which of `length` events it is true, given all `branches` of them."""
        with self._explained():
            return self._formula.mask(arrays, length)

    def values(self, arrays: Mapping[str, ak.Array], length: int) -> NDArray[np.float64]:
        """Its value for each of `length` events, given all `branches` of them."""
        with self._explained():
            return self._formula.values(arrays, length)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except NanoMLError as problem:
            raise ConfigError(f"{self._where}: {problem}") from None


@dataclass(frozen=True)
class Region:
    """A region of the analysis."""

    name: str
    cut: Expression

    def describe(self) -> ConvertedRegion:
        """Its description in the metadata."""
        return ConvertedRegion(self.name, self.cut.text)
