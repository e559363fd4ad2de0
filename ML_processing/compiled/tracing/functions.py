"""awkward's and numpy's functions by their names, and those among them that make one number of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import awkward as ak
import numpy as np

from ML_processing.compiled.nodes import lists, mathematics
from ML_processing.compiled.nodes.lists import Value
from ML_processing.compiled.nodes.tensors import Tensor
from ML_processing.compiled.tracing import forms, reductions
from ML_processing.compiled.tracing.calls import Call
from ML_processing.compiled.tracing.trace import wrapped
from ML_processing.compiled.tracing.traced import UNKNOWN, Traced, apply_ufunc
from MLTools.NanoML.errors import NanoMLError


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

    def bin_of(x: Tensor) -> Tensor:
        passed = [(x.to("d") > edge if right else x.to("d") >= edge).to("i") for edge in edges.tolist()]
        total = passed[0]
        for each in passed[1:]:
            total = total + each
        return total

    if len(edges) > 1 and not (np.diff(edges) > 0).all():
        raise NanoMLError("np.digitize needs rising edges.")
    return call.made(lists.elementwise(bin_of, call.value("x")))


_AWKWARD: dict[str, Callable[[Call], Any]] = {
    **forms.FUNCTIONS,
    **reductions.FUNCTIONS,
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
