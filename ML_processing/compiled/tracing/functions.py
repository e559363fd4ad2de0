"""awkward's and numpy's functions by their names, and those among them that make one number of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import awkward as ak
import numpy as np

from ML_processing.compiled.nodes import lists, mathematics, picking
from ML_processing.compiled.nodes.lists import Axis, Value
from ML_processing.compiled.nodes.tensors import Tensor
from ML_processing.compiled.tracing import forms
from ML_processing.compiled.tracing.calls import Call
from ML_processing.compiled.tracing.trace import wrapped
from ML_processing.compiled.tracing.traced import UNKNOWN, Traced, apply_ufunc
from MLTools.NanoML.errors import NanoMLError


def _reduced(call: Call, function: Callable[[Value, Tensor], Tensor], is_option: bool = False) -> Traced:
    value = call.axis("x" if call.name == "mean" else "array")
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


def _any(value: Value, present: Tensor) -> Tensor:
    return (present & mathematics.truth(value.numbers)).to("i").extreme("ReduceMax") > 0


def _all(value: Value, present: Tensor) -> Tensor:
    return (~present | mathematics.truth(value.numbers)).to("i").extreme("ReduceMin") > 0


def _product(value: Value, present: Tensor) -> Tensor:
    numbers, size = _filled(value, present, 1), value.axis.size
    while size > 1:  # ONNX Runtime has no ReduceProd of float64
        half = size // 2
        pairs = numbers.take(np.arange(half)) * numbers.take(np.arange(half, 2 * half))
        numbers = numbers.graph.joined([pairs, numbers.take(np.arange(2 * half, size))]) if size % 2 else pairs
        size -= half
    return numbers.last()


def _mean(call: Call) -> Traced:
    if call["weight"] is not None:
        raise NanoMLError(f"ak.mean with weights {UNKNOWN} Divide two sums.")
    call.given["mask_identity"] = False

    def function(value: Value, present: Tensor) -> Tensor:
        return _sum(value, present).to("d") / present.to("i").summed().to("d")

    return _reduced(call, function)


def _place(operator: str) -> Callable[[Call], Traced]:
    def function(call: Call) -> Traced:
        value = call.axis()
        made = picking.extreme_place(value, operator)
        if not call["keepdims"]:
            data, valid = made.numbers.last(), made.valid and made.valid.last()
            made = Value(call.graph, value.axes[:-1], data, valid=valid)
        return call.made(made if call["mask_identity"] else replace(made, valid=None))

    return function


def _sorted(call: Call) -> Traced:
    value = call.axis()
    order = picking.ordered(value, not call["ascending"], nan_first=True)
    return call.made(picking.picked(value, order)[0] if call.name == "sort" else order)


def _num(call: Call) -> Traced:
    return call.made(lists.counts(call.axis()))


def _local_index(call: Call) -> Traced:
    value = call.axis()
    return call.made(Value(call.graph, value.axes, lists.number_in_list(value)))


_OF_LISTS: dict[str, Callable[[Call], Any]] = {
    "all": lambda call: _reduced(call, _all),
    "any": lambda call: _reduced(call, _any),
    "argmax": _place("ArgMax"),
    "argmin": _place("ArgMin"),
    "argsort": _sorted,
    "count": lambda call: _reduced(call, lambda value, present: present.to("i").summed()),
    "local_index": _local_index,
    "max": lambda call: _reduced(call, _extreme("ReduceMax", -np.inf), is_option=True),
    "mean": _mean,
    "min": lambda call: _reduced(call, _extreme("ReduceMin", np.inf), is_option=True),
    "num": _num,
    "prod": lambda call: _reduced(call, _product),
    "sort": _sorted,
    "sum": lambda call: _reduced(call, _sum),
}
"""What makes a number of each list, or puts it in order."""


def awkward_function(function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """What a function of awkward gives."""
    found = _AWKWARD.get(function.__name__)
    if found is None:
        raise NanoMLError(f"ak.{function.__name__} {UNKNOWN} These can: {', '.join(sorted(_AWKWARD))}.")
    return found(Call(function, args, options))


def numpy_function(function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """What a function of numpy gives, other than functions of numbers."""
    name = function.__name__
    if name in _NUMPY:
        return _NUMPY[name](Call(function, args, options))
    if name in _BY_AWKWARD:
        return getattr(ak, _BY_AWKWARD[name])(*args, **options)
    raise NanoMLError(
        f"np.{name} {UNKNOWN} These can, beside functions of numbers: {', '.join(sorted({*_NUMPY, *_BY_AWKWARD}))}."
    )


def method(array: Traced, name: str, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """What a method of a numpy array gives."""
    if name == "astype":
        return ak.values_astype(array, *args, **options)
    if name in ("to_numpy", "copy"):
        return array
    return getattr(ak, name)(array, *args, **options)


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


def _like(number: float) -> Callable[[Call], Traced]:
    def function(call: Call) -> Traced:
        value = call.value("array" if "array" in call.given else "a")
        return call.made(value.number(lists.fixed(value, int(number))))

    return function


def _full_like(call: Call) -> Traced:
    value = call.value("array" if "array" in call.given else "a")
    return call.made(value.number(lists.fixed(value, call["fill_value"])))


def _same(call: Call) -> Traced:
    return call.made(call.value(next(iter(call.given))))


def _isclose(call: Call) -> Traced:
    a, b, rtol, atol = call.value("a"), call.value("b"), call["rtol"], call["atol"]

    def close(x: Tensor, y: Tensor) -> Tensor:
        return mathematics.absolute(x.to("d") - y) <= mathematics.absolute(y.to("d")) * rtol + atol

    return call.made(lists.elementwise(close, a, b))


def _clip(call: Call) -> Any:
    low = call.given.get("a_min", call.given.get("min"))
    high = call.given.get("a_max", call.given.get("max"))
    made = call["a"]
    made = made if low is None else apply_ufunc(np.maximum, (made, low))
    return made if high is None else apply_ufunc(np.minimum, (made, high))


def _isin(call: Call) -> Traced:
    wanted = np.asarray(call["test_elements"]).ravel().tolist()

    def one_of(x: Tensor) -> Tensor:
        found = x.equals(wanted[0])
        for each in wanted[1:]:
            found = found | x.equals(each)
        return found

    return call.made(lists.elementwise(one_of, call.value("element")))


def _digitize(call: Call) -> Traced:
    edges = np.asarray(call["bins"], float)
    right = call["right"]

    def bin_of(x: Tensor) -> Tensor:  # that of NaN is the last
        passed = [(~(x.to("d") <= edge if right else x.to("d") < edge)).to("i") for edge in edges.tolist()]
        total = passed[0]
        for each in passed[1:]:
            total = total + each
        return total

    if len(edges) > 1 and not (np.diff(edges) > 0).all():
        raise NanoMLError("np.digitize needs rising edges.")
    return call.made(lists.elementwise(bin_of, call.value("x")))


_AWKWARD: dict[str, Callable[[Call], Any]] = {
    **forms.FUNCTIONS,
    **_OF_LISTS,
    "copy": _same,
    "full_like": _full_like,
    "isclose": _isclose,
    "ones_like": _like(1),
    "to_numpy": _same,
    "to_packed": _same,
    "values_astype": _astype,
    "without_parameters": _same,
    "zeros_like": _like(0),
}

_NUMPY: dict[str, Callable[[Call], Any]] = {
    "clip": _clip,
    "digitize": _digitize,
    "full_like": _full_like,
    "isclose": _isclose,
    "isin": _isin,
    "ones_like": _like(1),
    "where": forms.FUNCTIONS["where"],
    "zeros_like": _like(0),
}

_SAME = ("all", "any", "argmax", "argmin", "argsort", "concatenate", "max", "mean", "min", "prod", "sort", "sum")
_BY_AWKWARD = {**{name: name for name in _SAME}, "amax": "max", "amin": "min"}
