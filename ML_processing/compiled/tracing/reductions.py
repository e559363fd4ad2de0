"""awkward's functions that make a number of each list, or put it in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ML_processing.compiled.nodes import lists, mathematics, picking
from ML_processing.compiled.nodes.lists import Axis, Value
from ML_processing.compiled.nodes.tensors import Tensor
from ML_processing.compiled.tracing.calls import Call
from ML_processing.compiled.tracing.traced import UNKNOWN, Traced
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
    order = picking.ordered(value, not call["ascending"])
    return call.made(picking.picked(value, order)[0] if call.name == "sort" else order)


def _num(call: Call) -> Traced:
    return call.made(lists.counts(call.axis()))


def _local_index(call: Call) -> Traced:
    value = call.axis()
    return call.made(Value(call.graph, value.axes, lists.number_in_list(value)))


FUNCTIONS: dict[str, Callable[[Call], Any]] = {
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
"""awkward's functions by their names."""
