"""The values of an expression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.nanoaod.formula.functions import FUNCTIONS, OPERATORS, Floats
from MLTools.NanoML.nanoaod.formula.nodes import (
    Alternative,
    Call,
    Leaf,
    Logical,
    Node,
    Number,
    Reduction,
    leaves,
)

__all__ = ["Column", "Instances"]


@dataclass(frozen=True)
class Column:
    """A branch: its numbers, event after event, and, if each event has a list, how many are in it."""

    values: Floats
    counts: Optional[NDArray[np.int64]]

    @classmethod
    def of(cls, array: Any) -> Column:
        """A branch as `RootFile.read` returns it."""
        if array.ndim == 1:
            return cls(np.asarray(ak.to_numpy(array), np.float64), None)
        counts = np.asarray(ak.to_numpy(ak.num(array)), np.int64)
        return cls(np.asarray(ak.to_numpy(ak.flatten(array)), np.float64), counts)


class Instances:
    """An expression, evaluated as often as its lists have elements in each event.

    Attributes
    ----------
    counts
        Number of instances of each event.
    event
        The event of each instance.
    values
        The expression, for each instance.
    """

    def __init__(self, node: Node, columns: Mapping[str, Column], length: int) -> None:
        self._columns = columns
        self.counts = _instances(node, columns, length)
        self.event = np.repeat(np.arange(length), self.counts)
        self._element = np.arange(len(self.event)) - _starts(self.counts)[self.event]
        self.values = self._evaluate(node)

    def _evaluate(self, node: Node) -> Floats:
        if isinstance(node, Number):
            return np.full(len(self.event), node.value)
        if isinstance(node, Leaf):
            return self._read(node)
        if isinstance(node, Call):
            function = OPERATORS.get(node.function) or FUNCTIONS[node.function][1]
            return function(*(self._evaluate(argument) for argument in node.arguments))
        if isinstance(node, Logical):
            return self._decide(node)
        if isinstance(node, Reduction):
            return self._reduce(node)[self.event]
        return self._choose(node)

    def _read(self, leaf: Leaf) -> Floats:
        column = self._columns[leaf.name]
        if column.counts is None:
            return column.values[self.event]
        element = self._element if leaf.index is None else leaf.index
        return column.values[_starts(column.counts)[self.event] + element]

    def _decide(self, node: Logical) -> Floats:
        combine = np.logical_and if node.operator == "&&" else np.logical_or
        decided = self._evaluate(node.arguments[0])
        for argument in node.arguments[1:]:
            decided = combine(decided, self._evaluate(argument))
        return decided.astype(np.float64)

    def _reduce(self, node: Reduction) -> Floats:
        inner = Instances(node.argument, self._columns, len(self.counts))
        if node.name == "Length$":
            return inner.counts.astype(np.float64)
        if node.name == "Sum$":
            return np.bincount(inner.event, inner.values, len(self.counts)).astype(np.float64)
        extreme = np.zeros(len(self.counts))
        filled = inner.counts > 0
        if filled.any():
            function = np.fmax if node.name == "Max$" else np.fmin
            extreme[filled] = function.reduceat(inner.values, _starts(inner.counts)[filled])
        return extreme

    def _choose(self, node: Alternative) -> Floats:
        inner = Instances(node.primary, self._columns, len(self.counts))
        there = self._element < inner.counts[self.event]
        chosen = self._evaluate(node.otherwise)
        chosen[there] = inner.values[(_starts(inner.counts)[self.event] + self._element)[there]]
        return chosen


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(counts) - counts


def _instances(node: Node, columns: Mapping[str, Column], length: int) -> NDArray[np.int64]:
    """In how many elements an expression is evaluated for each event; without lists, once."""
    number: Optional[NDArray[np.int64]] = None
    there = np.ones(length, bool)
    for leaf in leaves(node, everywhere=False):
        counts = columns[leaf.name].counts
        if counts is not None and leaf.index is not None:
            there &= counts > leaf.index
        elif counts is not None:
            number = counts if number is None else np.minimum(number, counts)
    return np.where(there, 1 if number is None else number, 0)
