"""Cuts in the language of TTree::Draw, as in "nMuon >= 2 && Muon_pt[0] > 20", without ROOT."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.expression import (
    Alternative,
    Call,
    Leaf,
    Node,
    Number,
    Reduction,
    cut_error,
    leaves,
    nodes,
    parse,
)
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Arrays, Entries

PAGE = "skim.md"
_Floats = NDArray[np.float64]
_Function = Callable[..., Any]  # of numbers


def _modulo(left: _Floats, right: _Floats) -> _Floats:
    return np.fmod(left.astype(np.int64), right.astype(np.int64)).astype(np.float64)


def _bits(operation: _Function) -> Callable[[_Floats, _Floats], _Floats]:
    def apply(left: _Floats, right: _Floats) -> _Floats:
        integers = (operand.astype(np.int64).view(np.uint64) for operand in (left, right))
        return operation(*integers).astype(np.float64)

    return apply


def _positive(function: _Function) -> Callable[[_Floats], _Floats]:
    return lambda x: np.where(x > 0, function(np.where(x > 0, x, 1)), 0)


def _truth(operation: _Function) -> Callable[..., _Floats]:
    return lambda *operands: operation(*operands).astype(np.float64)


_OPERATORS: dict[str, _Function] = {
    "&&": _truth(lambda *terms: functools.reduce(np.logical_and, terms)),
    "||": _truth(lambda *terms: functools.reduce(np.logical_or, terms)),
    "<": _truth(np.less),
    ">": _truth(np.greater),
    "<=": _truth(np.less_equal),
    ">=": _truth(np.greater_equal),
    "==": _truth(np.equal),
    "!=": _truth(np.not_equal),
    "!": _truth(lambda x: x == 0),
    "negative": np.negative,
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": lambda x, y: np.where(y == 0, 0, x / np.where(y == 0, 1, y)),
    "%": _modulo,
    "^": np.power,
    "**": np.power,
    "&": _bits(np.bitwise_and),
    "|": _bits(np.bitwise_or),
    "<<": _bits(np.left_shift),
    ">>": _bits(np.right_shift),
}
# number of arguments and implementation; where a function is not defined, ROOT has its own values, and TMath those of C
_FUNCTIONS: dict[str, tuple[int, _Function]] = {
    "abs": (1, np.abs),
    "fabs": (1, np.abs),
    "sqrt": (1, lambda x: np.sqrt(np.abs(x))),
    "pow": (2, np.power),
    "sq": (1, np.square),
    "min": (2, lambda x, y: np.where(y < x, y, x)),
    "max": (2, lambda x, y: np.where(x < y, y, x)),
    "exp": (1, lambda x: np.where(x < -700, 0, np.exp(np.minimum(x, 700)))),
    "log": (1, _positive(np.log)),
    "log10": (1, _positive(np.log10)),
    "cos": (1, np.cos),
    "sin": (1, np.sin),
    "cosh": (1, np.cosh),
    "sinh": (1, np.sinh),
    "tanh": (1, np.tanh),
    "atan2": (2, np.arctan2),
    "int": (1, np.trunc),
    "floor": (1, np.floor),
    "ceil": (1, np.ceil),
    "TMath::Abs": (1, np.abs),
    "TMath::Sqrt": (1, np.sqrt),
    "TMath::Power": (2, np.power),
    "TMath::Min": (2, lambda x, y: np.where(x <= y, x, y)),
    "TMath::Max": (2, lambda x, y: np.where(x >= y, x, y)),
    "TMath::Exp": (1, np.exp),
    "TMath::Log": (1, np.log),
    "TMath::Log10": (1, np.log10),
    "TMath::Cos": (1, np.cos),
    "TMath::Sin": (1, np.sin),
    "TMath::CosH": (1, np.cosh),
    "TMath::SinH": (1, np.sinh),
    "TMath::TanH": (1, np.tanh),
    "TMath::ATan2": (2, np.arctan2),
}


def function_of(name: str) -> _Function:
    """An operator or a function of cuts, of float64 numbers."""
    return _OPERATORS.get(name) or _FUNCTIONS[name][1]


class Formula:
    """A cut in the language of TTree::Draw, which `nano_postproc.py -c` takes too.

    It knows numbers, branches (`nMuon`, `Muon_pt[0]`), the operators of C (`^` and `**` are powers), functions (`abs`,
    `sqrt`, `min`, `TMath::Max`, ...) and `Sum$`, `Max$`, `Min$`, `Length$` and `Alt$`. It has the same meaning as in ROOT:

    - Everything is computed in double precision: `5 / 2` is 2.5. A division by zero gives 0, and so does `log` of a number
      that is not positive; `sqrt` takes the absolute value.
    - If a list has no index (`Muon_pt > 20`), the cut is evaluated for each element, and the event passes if it is true
      for any. Several such lists are read in parallel, up to the end of the shortest; what ROOT does with the elements
      beyond it differs between its releases.
    - An event that lacks an element with an index (`Muon_pt[1]`) does not pass, whatever the rest of the cut says
      (`nMuon < 2 || Muon_pt[1] > 20`): use `Alt$(Muon_pt[1], 0)`.
    - `Max$` and `Min$` of an empty list are 0.

    Where ROOT and C disagree on the order of operations (`a < b < c`, `a % b * c`), parentheses are required.
    A text that is not understood is a NanoMLError, with the column.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self.root = parse(text, {name: arity for name, (arity, _) in _FUNCTIONS.items()})
            self._leaves = leaves(self.root)
        except RecursionError:
            raise NanoMLError(f'cut "{text}": is too long, or its parentheses are nested too deeply.') from None

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches that it reads, in the order in which they appear."""
        return tuple(dict.fromkeys(leaf.name for leaf in self._leaves))

    def resolve(self, branches: Mapping[str, Branch], path: str) -> dict[str, str]:
        """The names of the branches, as written in the cut, to those in a file (see `versions.resolve`).

        Raises NanoMLError if the file at `path` lacks a branch, or a branch has another type than in the cut.
        """
        found: dict[str, str] = {}
        for leaf in self._leaves:
            actual = versions.resolve(leaf.name, branches)
            if actual is None:
                hint = versions.did_you_mean(leaf.name, branches)
                raise cut_error(self.text, leaf.position, f"{path} has no branch {leaf.name}.{hint}")
            if branches[actual].shape == "other":
                kind = branches[actual].typename
                raise cut_error(
                    self.text, leaf.position, f"{path}: {actual} is of type {kind}, which a cut cannot have."
                )
            found[leaf.name] = actual
        self._check({name: branches[actual].shape != "flat" for name, actual in found.items()})
        return found

    def bind(self, branches: Mapping[str, Branch], path: str) -> BoundFormula:
        """The formula with the branches of a file; raises as `resolve` does."""
        return BoundFormula(self, self.resolve(branches, path))

    def mask(self, arrays: Arrays, length: int) -> NDArray[np.bool_]:
        """Which of `length` events pass, bool of shape (length,).

        `arrays` are the branches, by the names in the cut, as `RootFile.read` returns them. Raises NanoMLError if a branch is
        not what the cut takes it for.
        """
        instances, passes = self._instances(arrays, length), np.zeros(length, bool)
        passes[instances.event[instances.values != 0]] = True
        return passes

    def values(self, arrays: Arrays, length: int) -> NDArray[np.float64]:
        """The value for each of `length` events, float64 of shape (length,); `arrays` as for `mask`.

        Raises NanoMLError if an event has several, because a branch is a list, or none that is finite.
        """
        instances = self._instances(arrays, length)
        if not np.array_equal(instances.event, np.arange(length)):
            raise cut_error(self.text, 0, "it must be one number for each event, but it reads a list without an index.")
        values = np.asarray(instances.values, np.float64)
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise cut_error(self.text, 0, f"it is NaN or infinite for {bad} of {length} events.")
        return values

    def entries(self, arrays: Arrays, length: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """All values of `length` events, as TTree::Draw fills them: the event of each, rising, and the value.

        There is one for each element of a list without an index, and none for an event that lacks an element with one.
        """
        if isinstance(self.root, Leaf) and arrays[self.root.name].ndim == 1:  # most are a column
            return np.arange(length), np.asarray(ak.to_numpy(arrays[self.root.name]), np.float64)
        instances = self._instances(arrays, length)
        return instances.event, np.asarray(instances.values, np.float64)

    def _instances(self, arrays: Arrays, length: int) -> _Instances:
        columns = {name: _Column.of(arrays[name]) for name in self.branches}
        self._check({name: column.counts is not None for name, column in columns.items()})
        with np.errstate(all="ignore"):
            return _Instances(self.root, columns, length)

    def _check(self, is_list: Mapping[str, bool]) -> None:
        for leaf in self._leaves:
            if leaf.index is not None and not is_list[leaf.name]:
                what = f"{leaf.name} is one number per event: it has no index."
                raise cut_error(self.text, leaf.position, what)
        for node in nodes(self.root):
            for leaf in leaves(node.otherwise, everywhere=False) if isinstance(node, Alternative) else ():
                if is_list[leaf.name]:
                    what = f"the second argument of Alt$ is one number per event, but {leaf.name} is a list."
                    raise cut_error(self.text, leaf.position, what)


@dataclass(frozen=True)
class BoundFormula:
    """A formula, and where it finds its branches in a file."""

    formula: Formula
    names: dict[str, str]  # name in the formula to name in the file

    @property
    def branches(self) -> list[str]:
        """The branches that are read from the file."""
        return list(dict.fromkeys(self.names.values()))

    def mask(self, arrays: Arrays, length: int) -> NDArray[np.bool_]:
        """As `Formula.mask`, with the arrays by their names in the file."""
        return self.formula.mask(self._given(arrays), length)

    def values(self, arrays: Arrays, length: int) -> NDArray[np.float64]:
        """As `Formula.values`, with the arrays by their names in the file."""
        return self.formula.values(self._given(arrays), length)

    def _given(self, arrays: Arrays) -> Arrays:
        return {name: arrays[actual] for name, actual in self.names.items()}


@dataclass(frozen=True)
class _Column:
    """A branch: its numbers, event after event, and, if each event has a list, the lengths of the lists."""

    values: _Floats
    counts: Optional[NDArray[np.int64]]

    @classmethod
    def of(cls, array: Entries) -> _Column:
        """A branch as `RootFile.read` returns it."""
        if array.ndim == 1:
            return cls(np.asarray(ak.to_numpy(array), np.float64), None)
        counts = np.asarray(ak.to_numpy(ak.num(array)), np.int64)
        return cls(np.asarray(ak.to_numpy(ak.flatten(array)), np.float64), counts)


class _Instances:
    """An expression, evaluated for each element of its lists in each event.

    `counts` has the number of instances of each event, `event` the event of each instance, `values` its value.
    """

    def __init__(self, node: Node, columns: Mapping[str, _Column], length: int) -> None:
        self._columns = columns
        self.counts = _count_instances(node, columns, length)
        self.event = np.repeat(np.arange(length), self.counts)
        self._element = np.arange(len(self.event)) - _starts(self.counts)[self.event]
        self.values = self._evaluate(node)

    def _evaluate(self, node: Node) -> _Floats:
        if isinstance(node, Number):
            return np.full(len(self.event), node.value)
        if isinstance(node, Leaf):
            return self._read(node)
        if isinstance(node, Call):
            return function_of(node.function)(*(self._evaluate(argument) for argument in node.arguments))
        if isinstance(node, Alternative):
            return self._choose(node)
        return self._reduce(node)[self.event]

    def _read(self, leaf: Leaf) -> _Floats:
        column = self._columns[leaf.name]
        if column.counts is None:
            return column.values[self.event]
        element = self._element if leaf.index is None else leaf.index
        return column.values[_starts(column.counts)[self.event] + element]

    def _reduce(self, node: Reduction) -> _Floats:
        inner = _Instances(node.argument, self._columns, len(self.counts))
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

    def _choose(self, node: Alternative) -> _Floats:
        inner = _Instances(node.primary, self._columns, len(self.counts))
        there = self._element < inner.counts[self.event]
        chosen = self._evaluate(node.otherwise)
        chosen[there] = inner.values[(_starts(inner.counts)[self.event] + self._element)[there]]
        return chosen


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(counts) - counts


def _count_instances(node: Node, columns: Mapping[str, _Column], length: int) -> NDArray[np.int64]:
    """How often an expression is evaluated in each event: once, if it has no lists."""
    number: Optional[NDArray[np.int64]] = None
    there = np.ones(length, bool)
    for leaf in leaves(node, everywhere=False):
        counts = columns[leaf.name].counts
        if counts is not None and leaf.index is not None:
            there &= counts > leaf.index
        elif counts is not None:
            number = counts if number is None else np.minimum(number, counts)
    return np.where(there, 1 if number is None else number, 0)
