"""awkward's and numpy's functions with arrays that are traced, and those among them that make one number of each list."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce, wraps
from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing import lists, mathematics
from MLTools.NanoML.extensions.compiled.tracing.graph import Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Axis, Value
from MLTools.NanoML.extensions.compiled.tracing.mathematics import UFUNCS
from MLTools.NanoML.extensions.compiled.tracing.trace import quiet, wrapped
from MLTools.NanoML.extensions.compiled.tracing.traced import (
    FUNCTIONS,
    UNKNOWN,
    Traced,
    apply_ufunc,
    check_forms,
    check_scopes,
    concrete_of,
    traced_in,
    value_of,
)


class Call:
    """A call of a function: its arguments by name, and what the engine made of them."""

    def __init__(self, function: Callable[..., Any], args: Sequence[object], options: Mapping[str, object]) -> None:
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


_Made = Callable[[Call], Any]


def stands_for(*names: str, packages: Sequence[str] = ("ak",)) -> Callable[[_Made], _Made]:
    """Register what stands for the functions of these names, of awkward or of numpy as well."""

    def register(made: _Made) -> _Made:
        for package in packages:
            for name in names:
                FUNCTIONS[package][name] = lambda known, args, options: made(Call(known, args, options))
        return made

    return register


@contextmanager
def functions_of_arrays() -> Iterator[None]:
    """Let ak.min([one, other], axis=0) and np.asarray take traced arrays, of which they know nothing otherwise."""
    reductions = {name: getattr(ak, name) for name in _OF_SEVERAL}
    conversions = {name: getattr(np, name) for name in ("array", "asarray")}
    for name, function in reductions.items():
        setattr(ak, name, _of_several(name, function))
    for name, function in conversions.items():
        setattr(np, name, _of_arrays(name, function))
    try:
        yield
    finally:
        for module, known in ((ak, reductions), (np, conversions)):
            for name, function in known.items():
                setattr(module, name, function)


def _of_arrays(name: str, known: Callable[..., object]) -> Callable[..., object]:
    @wraps(known)
    def function(array: object, *args: object, **options: object) -> object:
        if not isinstance(array, Traced):
            return known(array, *args, **options)
        if args or options:
            raise NanoMLError(f"np.{name} with a type or another option {UNKNOWN} Use ak.values_astype.")
        return array

    return function


def _of_several(name: str, known: Callable[..., object]) -> Callable[..., object]:
    @wraps(known)
    def function(array: Any, *args: object, **options: object) -> object:
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
        made = reduce(lambda one, other: lists.elementwise(_OF_SEVERAL[name], one, other), values)
        return arrays[0]._trace.made(made, known(concrete_of(array), axis=0), arrays[0]._scope)

    return function


def _extreme_of(operator: str, worst: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The smaller or the larger number; as in awkward infinity, not NaN, if both are NaN."""

    def function(one: Tensor, other: Tensor) -> Tensor:
        if "d" in (one.kind, other.kind):
            one, other = (each.equals(each).where(each, worst) for each in (one.to("d"), other.to("d")))
        return one.graph.arithmetic(operator, one, other)

    return function


def _integers(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """With 0 and 1 instead of false and true."""
    return lambda one, other: function(*(each.to("i") if each.kind == "b" else each for each in (one, other)))


_OF_SEVERAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "min": _extreme_of("Min", np.inf),
    "max": _extreme_of("Max", -np.inf),
    "sum": _integers(UFUNCS["add"]),
    "prod": _integers(UFUNCS["multiply"]),
    "any": UFUNCS["logical_or"],
    "all": UFUNCS["logical_and"],
}


def _reduced(call: Call, function: Callable[[Value, Tensor], Tensor], is_option: bool = False) -> Traced:
    value = call.axis(next(iter(call.given)))
    present = value.present
    result = function(value, present)
    valid = None
    if is_option and call["mask_identity"]:
        valid = present.to("i").extreme("ReduceMax") > 0
    axes = value.axes[:-1]
    if call["keepdims"]:
        axes = (*axes, Axis(1))
        result, valid = result.lifted(value.rank), valid and valid.lifted(value.rank)
    return call.made(Value(call.graph, axes, result, valid=valid))


def _filled(value: Value, present: Tensor, other: float) -> Tensor:
    numbers = value.numbers
    if numbers.kind == "b":
        numbers = numbers.to("i")
    return present.where(numbers, int(other) if numbers.kind == "i" and np.isfinite(other) else other)


def _sum(value: Value, present: Tensor) -> Tensor:
    return _filled(value, present, 0).summed()


def _extreme(operator: str, worst: float) -> Callable[[Value, Tensor], Tensor]:
    limit = {np.inf: np.iinfo(np.int64).max, -np.inf: np.iinfo(np.int64).min}

    def function(value: Value, present: Tensor) -> Tensor:
        numbers = value.numbers
        if numbers.kind != "d":
            return _filled(value, present, limit[worst]).extreme(operator)
        return (present & numbers.equals(numbers)).where(numbers, worst).extreme(operator)  # as awkward, without NaN

    return function


def _product(value: Value, present: Tensor) -> Tensor:
    numbers, size = _filled(value, present, 1), value.axis.size
    while size > 1:  # ONNX Runtime has no ReduceProd of float64
        half = size // 2
        pairs = numbers.take(np.arange(half)) * numbers.take(np.arange(half, 2 * half))
        numbers = numbers.graph.joined([pairs, numbers.take(np.arange(2 * half, size))]) if size % 2 else pairs
        size -= half
    return numbers.last()


@stands_for("mean", "std", "var")
def _moment(call: Call) -> Traced:
    if call["weight"] is not None:
        raise NanoMLError(f"ak.{call.name} with weights {UNKNOWN} Divide two sums.")

    def function(value: Value, present: Tensor) -> Tensor:
        number = present.to("i").summed().to("d")
        mean = _sum(value, present).to("d") / number
        if call.name == "mean":
            return mean
        away = value.numbers.to("d") - mean.lifted(value.rank)
        variance = present.where(away * away, 0.0).summed() / number * (number / (number - float(call["ddof"])))
        return variance if call.name == "var" else mathematics.sqrt(variance)

    return _reduced(call, function, is_option=True)


@stands_for("argmax", "argmin")
def _place(call: Call) -> Traced:
    value = call.axis()
    made = lists.extreme_place(value, "ArgMax" if call.name == "argmax" else "ArgMin")
    if not call["keepdims"]:
        data, valid = made.numbers.last(), made.valid and made.valid.last()
        made = Value(call.graph, value.axes[:-1], data, valid=valid)
    return call.made(made if call["mask_identity"] else replace(made, valid=None))


@stands_for("argsort", "sort")
def _sorted(call: Call) -> Traced:
    value = call.axis()
    order = lists.ordered(value, not call["ascending"], nan_first=True)
    return call.made(lists.picked(value, order)[0] if call.name == "sort" else order)


@stands_for("num")
def _num(call: Call) -> Traced:
    return call.made(lists.counts(lists.whole(call.axis())))


@stands_for("local_index")
def _local_index(call: Call) -> Traced:
    value = call.axis()
    return call.made(Value(call.graph, value.axes, lists.number_in_list(value)))


@stands_for("values_astype")
def _astype(call: Call) -> Traced:
    value, to = call.value("array"), np.dtype(call["to"])

    def cast(each: Value) -> Value:
        if each.fields is not None:
            return replace(each, fields={name: cast(field) for name, field in each.fields.items()})
        numbers = each.numbers
        if to.kind == "b":
            made = mathematics.truth(numbers)
        elif to.kind == "f":
            made = numbers.to("d").to("f").to("d") if to.itemsize < 8 else numbers.to("d")
        else:
            made = numbers.to("i")
            if to.itemsize < 8:
                made = wrapped(made, to)
        return replace(each, data=made)

    return call.made(cast(value))


@stands_for("full_like", "ones_like", "zeros_like", packages=("ak", "np"))
def _full_like(call: Call) -> Traced:
    value = call.value("array" if "array" in call.given else "a")
    number = {"ones_like": 1, "zeros_like": 0}.get(call.name, call.given.get("fill_value"))
    return call.made(value.number(lists.fixed(value, number)))


def _by_awkward(name: str, _: Callable[..., object], args: Sequence[object], options: Mapping[str, object]) -> object:
    return getattr(ak, name)(*args, **options)


@stands_for("copy", "to_numpy", "to_packed", "without_parameters")
def _same(call: Call) -> Traced:
    return call.made(call.value(next(iter(call.given))))


@stands_for("isclose", packages=("ak", "np"))
def _isclose(call: Call) -> Traced:
    a, b, rtol, atol = call.value("a"), call.value("b"), call["rtol"], call["atol"]

    def close(x: Tensor, y: Tensor) -> Tensor:
        return mathematics.absolute(x.to("d") - y) <= mathematics.absolute(y.to("d")) * rtol + atol

    return call.made(lists.elementwise(close, a, b))


@stands_for("clip", packages=("np",))
def _clip(call: Call) -> object:
    low = call.given.get("a_min", call.given.get("min"))
    high = call.given.get("a_max", call.given.get("max"))
    made = call["a"]
    made = made if low is None else apply_ufunc(np.maximum, (made, low))
    return made if high is None else apply_ufunc(np.minimum, (made, high))


@stands_for("round", packages=("ak", "np"))
@stands_for("around", packages=("np",))
def _round(call: Call) -> Traced:
    decimals = call["decimals"]
    scale = 10.0 ** abs(decimals)

    def rounded(x: Tensor) -> Tensor:
        return (x / scale).one("Round") * scale if decimals < 0 else (x * scale).one("Round") / scale

    return call.made(lists.elementwise(rounded, call.value(next(iter(call.given)))))


@stands_for("isin", packages=("np",))
def _isin(call: Call) -> Traced:
    wanted = np.asarray(call["test_elements"]).ravel().tolist()

    def one_of(x: Tensor) -> Tensor:
        return reduce(Tensor.__or__, map(x.equals, wanted))

    return call.made(lists.elementwise(one_of, call.value("element")))


@stands_for("digitize", packages=("np",))
def _digitize(call: Call) -> Traced:
    edges = np.asarray(call["bins"], float)
    right = call["right"]

    def bin_of(x: Tensor) -> Tensor:  # that of NaN is the last
        passed = [(~(x.to("d") <= edge if right else x.to("d") < edge)).to("i") for edge in edges.tolist()]
        return reduce(Tensor.__add__, passed)

    if len(edges) > 1 and not (np.diff(edges) > 0).all():
        raise NanoMLError("np.digitize needs rising edges.")
    return call.made(lists.elementwise(bin_of, call.value("x")))


_REDUCTIONS: dict[str, Callable[[Value, Tensor], Tensor]] = {
    "all": lambda value, present: (~present | mathematics.truth(value.numbers)).to("i").extreme("ReduceMin") > 0,
    "any": lambda value, present: (present & mathematics.truth(value.numbers)).to("i").extreme("ReduceMax") > 0,
    "count": lambda value, _: lists.whole(value).present.to("i").summed(),
    "count_nonzero": lambda value, present: (present & mathematics.truth(value.numbers)).to("i").summed(),
    "max": _extreme("ReduceMax", -np.inf),
    "min": _extreme("ReduceMin", np.inf),
    "prod": _product,
    "sum": _sum,
}
"""Functions of the objects of a list and of which of its places hold one."""

for _name, _function in _REDUCTIONS.items():
    stands_for(_name)(partial(_reduced, function=_function, is_option=_name in ("max", "min")))

_SAME = (*_REDUCTIONS, "argmax", "argmin", "argsort", "concatenate", "mean", "sort", "std", "var")
for _name, _other in {**{name: name for name in _SAME if name != "count"}, "amax": "max", "amin": "min"}.items():
    FUNCTIONS["np"][_name] = partial(_by_awkward, _other)
