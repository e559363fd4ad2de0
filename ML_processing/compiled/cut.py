"""A cut in the language of TTree::Draw on traced arrays, with the meaning that `Formula` gives it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.expression import Alternative, Call, Leaf, Node, Number, Reduction, leaves
from MLTools.NanoML.nanoaod.formula import Formula, function_of


def mask_of(formula: Formula, events: Any) -> Any:
    """Which events pass, bool, shape (events,); of lists without an index, any object will do.

    Parameters
    ----------
    formula
        The cut.
    events
        `Events`, or such that record what is done with them.

    Raises
    ------
    NanoMLError
        The cut has something that cannot be compiled.
    """
    try:
        found = _evaluated(formula.root, {name: events[name] for name in formula.branches})
        passed = found.values != 0
        if found.is_list:
            passed = ak.any(passed, axis=1)
        return passed if found.there is None else passed & found.there
    except NanoMLError as problem:
        raise NanoMLError(f'cut "{formula.text}": {problem} Do the same in `select`.') from None


@dataclass(frozen=True)
class _Values:
    """The values of an expression.

    Attributes
    ----------
    values
        float64, one for each event or, if it `is_list`, as many as its shortest list has.
    is_list
        Whether it has a list without an index.
    there
        Which events have all elements with an index, and so a value; None for all.
    """

    values: Any
    is_list: bool
    there: Any


def _evaluated(root: Node, arrays: dict[str, Any]) -> _Values:
    found = leaves(root, everywhere=False)
    lists = list(dict.fromkeys(leaf.name for leaf in found if leaf.index is None and arrays[leaf.name].ndim > 1))
    if len({name.split("_")[0] for name in lists}) > 1:
        raise NanoMLError(
            f"{' and '.join(lists)}, which are lists of different lengths, cannot be compiled side by side."
        )
    there = [ak.num(arrays[leaf.name]) > leaf.index for leaf in found if leaf.index is not None]

    def value(node: Node) -> Any:
        if isinstance(node, Number):
            return np.float64(node.value)
        if isinstance(node, Leaf):
            return _read(node, arrays[node.name])
        if isinstance(node, Call):
            return _called(node.function, [value(each) for each in node.arguments])
        if isinstance(node, Reduction):
            return _reduced(node.name, _evaluated(node.argument, arrays))
        assert isinstance(node, Alternative)
        primary = _evaluated(node.primary, arrays)
        if lists or primary.is_list:
            raise NanoMLError("Alt$ beside or of a list without an index cannot be compiled.")
        return (
            primary.values if primary.there is None else np.where(primary.there, primary.values, value(node.otherwise))
        )

    return _Values(value(root), bool(lists), reduce(np.logical_and, there) if there else None)


def _called(name: str, arguments: list[Any]) -> Any:
    if name in _BITS:
        return _BITS[name](*(each.astype(np.int64) for each in arguments)).astype(np.float64)
    if all(isinstance(each, np.float64) for each in arguments):
        return np.float64(function_of(name)(*arguments))
    if name == "/" and isinstance(arguments[1], np.float64):
        return arguments[0] * 0 if arguments[1] == 0 else arguments[0] / arguments[1]
    return function_of(name)(*arguments)


def _read(leaf: Leaf, array: Any) -> Any:
    if leaf.index is not None:
        array = ak.fill_none(ak.firsts(array[:, leaf.index : leaf.index + 1]), 0)
    return ak.values_astype(array, np.float64)


def _reduced(name: str, inner: _Values) -> Any:
    values, there = inner.values, inner.there
    if name == "Length$":
        values = ak.num(values).astype(np.float64) if inner.is_list else np.float64(1)
    elif inner.is_list:
        function = {"Sum$": ak.sum, "Max$": ak.max, "Min$": ak.min}[name]
        values = ak.fill_none(function(values, axis=1), 0)
    return values if there is None else np.where(there, values, 0.0)


_BITS = {"&": np.bitwise_and, "|": np.bitwise_or, "<<": np.left_shift, ">>": np.right_shift}
