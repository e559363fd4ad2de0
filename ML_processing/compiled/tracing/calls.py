"""Calls of awkward's and numpy's functions with arrays that are traced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce, wraps
from typing import Any

import awkward as ak
import numpy as np

from ML_processing.compiled.nodes import lists
from ML_processing.compiled.nodes.lists import Value
from ML_processing.compiled.nodes.tensors import Tensor
from ML_processing.compiled.nodes.ufuncs import UFUNCS
from ML_processing.compiled.tracing.trace import quiet
from ML_processing.compiled.tracing.traced import (
    UNKNOWN,
    Traced,
    check_forms,
    check_scopes,
    concrete_of,
    traced_in,
    value_of,
)
from MLTools.NanoML.errors import NanoMLError


class Call:
    """A call of a function: its arguments by name, and what the engine made of them."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]) -> None:
        self.name = function.__name__
        bound = inspect.signature(function).bind(*args, **options)
        bound.apply_defaults()
        self.given = bound.arguments
        self.arrays = list(traced_in(list(self.given.values())))
        check_scopes(self.arrays)
        if self.name != "unflatten":
            check_forms(self.arrays)
        self.first = self.arrays[0]
        self.trace, self.graph = self.first._trace, self.first._trace.graph
        with quiet():
            self.concrete = function(*concrete_of(list(args)), **concrete_of(dict(options)))

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def value(self, name: str) -> Value:
        """The value of an argument."""
        return value_of(self.given[name], self.graph)

    def made(self, value: Value, is_flat: bool | None = None) -> Traced:
        """The result."""
        flat = any(each._is_flat for each in self.arrays) if is_flat is None else is_flat
        return self.trace.made(value, self.concrete, self.first._scope, flat)

    def axis(self, array: str = "array") -> Value:
        """The argument, after a check that the function works along its innermost lists."""
        value, axis = self.value(array), self.given["axis"]
        depth = 1 + len(value.axes)
        if axis is None or axis % depth == 0:
            raise NanoMLError(
                f"{self.name} with axis={axis} takes all events together: write axis=1 for what is in an event. np.minimum gives the "
                "smaller of two numbers of an event."
            )
        if axis % depth != depth - 1:
            raise NanoMLError(f"{self.name} over outer lists {UNKNOWN} Use the innermost axis, {depth - 1}.")
        if self.first._is_flat:
            raise NanoMLError(
                f"{self.name} of objects of all events in one row {UNKNOWN} Use ak.unflatten(values, counts) before."
            )
        return value


@contextmanager
def functions_of_arrays() -> Iterator[None]:
    """Let ak.min([one, other], axis=0) and np.asarray take traced arrays, of which they know nothing otherwise."""
    reductions = {name: getattr(ak, name) for name in _OF_LISTS}
    conversions = {name: getattr(np, name) for name in ("array", "asarray")}
    for name, function in reductions.items():
        setattr(ak, name, _of_lists(name, function))
    for name, function in conversions.items():
        setattr(np, name, _of_arrays(name, function))
    try:
        yield
    finally:
        for module, known in ((ak, reductions), (np, conversions)):
            for name, function in known.items():
                setattr(module, name, function)


def _of_arrays(name: str, known: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(known)
    def function(array: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(array, Traced):
            return known(array, *args, **options)
        if args or options:
            raise NanoMLError(f"np.{name} with a type or another option {UNKNOWN} Use ak.values_astype.")
        return array

    return function


def _of_lists(name: str, known: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(known)
    def function(array: Any, *args: Any, **options: Any) -> Any:
        arrays = list(traced_in(array)) if isinstance(array, (list, tuple)) else []
        if not arrays:
            return known(array, *args, **options)
        given = {**dict(zip(["axis"], args, strict=False)), **options}
        if given != {"axis": 0} or any(each._value.axes or each._value.fields for each in arrays):
            raise NanoMLError(
                f"ak.{name} of a list of arrays: write axis=0 and no more, with one number for each event."
            )
        check_scopes(arrays)
        graph = arrays[0]._trace.graph
        values = [value_of(each, graph) for each in array]
        made = reduce(lambda one, other: lists.elementwise(_OF_LISTS[name], one, other), values)
        return arrays[0]._trace.made(made, known(concrete_of(array), axis=0), arrays[0]._scope)

    return function


def _extreme(operator: str, worst: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The smaller or the larger number; as in awkward infinity, not NaN, if both are NaN."""

    def function(one: Tensor, other: Tensor) -> Tensor:
        if "d" in (one.kind, other.kind):
            one, other = (each.equals(each).where(each, worst) for each in (one.to("d"), other.to("d")))
        return one.graph.arithmetic(operator, one, other)

    return function


def _integers(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """With 0 and 1 instead of false and true."""
    return lambda one, other: function(*(each.to("i") if each.kind == "b" else each for each in (one, other)))


_OF_LISTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "min": _extreme("Min", np.inf),
    "max": _extreme("Max", -np.inf),
    "sum": _integers(UFUNCS["add"]),
    "prod": _integers(UFUNCS["multiply"]),
    "any": UFUNCS["logical_or"],
    "all": UFUNCS["logical_and"],
}
