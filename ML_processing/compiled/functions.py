"""awkward's and numpy's functions of lists, as nodes of a graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce, wraps
from typing import Any

import awkward as ak
import numpy as np

from ML_processing.compiled import lists, mathematics
from ML_processing.compiled.graph import Tensor
from ML_processing.compiled.lists import Axis, Value
from ML_processing.compiled.traced import (
    UNKNOWN,
    Traced,
    apply_ufunc,
    check_scopes,
    concrete_of,
    quiet,
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
                f"{self.name} with axis={axis} takes all events together: write axis=1 for what is in an event. Of two numbers "
                "of an event, np.minimum gives the smaller one."
            )
        if axis % depth != depth - 1:
            raise NanoMLError(f"{self.name} over outer lists {UNKNOWN} Use the innermost axis, {depth - 1}.")
        if self.first._is_flat:
            raise NanoMLError(
                f"{self.name} of objects of all events in one row {UNKNOWN} Use ak.unflatten(values, counts) before."
            )
        return value


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


@contextmanager
def lists_of_arrays() -> Iterator[None]:
    """Let ak.min([one, other], axis=0) take traced arrays: awkward does not look for them inside of a list."""
    known = {name: getattr(ak, name) for name in _OF_LISTS}

    def wrapped(name: str) -> Callable[..., Any]:
        @wraps(known[name])
        def function(array: Any, *args: Any, **options: Any) -> Any:
            arrays = list(traced_in(array)) if isinstance(array, (list, tuple)) else []
            if not arrays:
                return known[name](array, *args, **options)
            if {**dict(zip(["axis"], args, strict=False)), **options} != {"axis": 0} or any(
                each._value.axes for each in arrays
            ):
                raise NanoMLError(
                    f"ak.{name} of a list of arrays: write axis=0 and no more, with one number for each event."
                )
            ufunc = _OF_LISTS[name]
            return reduce(lambda one, other: apply_ufunc(ufunc, (one, other)), array)

        return function

    for name in known:
        setattr(ak, name, wrapped(name))
    try:
        yield
    finally:
        for name, function in known.items():
            setattr(ak, name, function)


_OF_LISTS = {
    "min": np.fmin,
    "max": np.fmax,
    "sum": np.add,
    "prod": np.multiply,
    "any": np.logical_or,
    "all": np.logical_and,
}


# numbers of lists


def _reduced(call: Call, function: Callable[[Value, Tensor], Tensor], is_option: bool = False) -> Traced:
    value = call.axis()
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
    return (present & _truth(value.numbers)).to("i").extreme("ReduceMax") > 0


def _all(value: Value, present: Tensor) -> Tensor:
    return (~present | _truth(value.numbers)).to("i").extreme("ReduceMin") > 0


def _truth(numbers: Tensor) -> Tensor:
    return numbers if numbers.kind == "b" else ~numbers.equals(0)


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
        made = lists.extreme_place(value, operator)
        if not call["keepdims"]:
            data, valid = made.numbers.last(), made.valid and made.valid.last()
            made = Value(call.graph, value.axes[:-1], data, valid=valid)
        return call.made(made if call["mask_identity"] else replace(made, valid=None))

    return function


def _sorted(call: Call) -> Traced:
    value = call.axis()
    order = lists.ordered(value, not call["ascending"])
    return call.made(lists.picked(value, order)[0] if call.name == "sort" else order)


# forms


def _num(call: Call) -> Traced:
    return call.made(lists.counts(call.axis()))


def _local_index(call: Call) -> Traced:
    value = call.axis()
    return call.made(Value(call.graph, value.axes, lists.number_in_list(value)))


def _firsts(call: Call) -> Traced:
    value = call.axis()
    made, found = lists.nth(value, 0)
    return call.made(made.if_valid(found))


def _singletons(call: Call) -> Traced:
    value = call.value("array")
    mask = value.valid
    made = lists.with_axis(replace(value, valid=None), value.rank)
    return call.made(made.on((*value.axes, Axis(1, mask and mask.lifted(value.rank + 1)))))


def _pad_none(call: Call) -> Traced:
    value, size = call.axis(), call["target"]
    made = lists.padded(value, size)
    return call.made(lists.sliced(made, 0, size) if call["clip"] else made)


def _none_at(call: Call) -> Value:
    value, axis = call.value("array"), call["axis"]
    if axis is not None and axis % (1 + len(value.axes)) != len(value.axes):
        raise NanoMLError(f"ak.{call.name} with axis={axis}: give the axis of the missing values, {len(value.axes)}.")
    return value


def _is_none(call: Call) -> Traced:
    value = _none_at(call)
    valid = value.valid
    none = ~valid if valid is not None else lists.fixed(value, False)
    return call.made(Value(call.graph, value.axes, none))


def _drop_none(call: Call) -> Traced:
    value = _none_at(call)
    if not value.axes:
        raise NanoMLError("ak.drop_none with axis=0 drops events: use a cut.")
    if value.valid is None:
        return call.made(value)
    return call.made(lists.kept(replace(value, valid=None), value.number(value.valid)))


def _fill_none(call: Call) -> Traced:
    value, fill = call.value("array"), call.value("value")

    def filled(each: Value, outer: Any) -> Value:
        valid = each.valid if outer is None else outer if each.valid is None else each.valid & outer
        if each.fields is not None:
            return replace(each, fields={name: filled(field, valid) for name, field in each.fields.items()}, valid=None)
        if valid is None:
            return each
        return Value(each.graph, each.axes, valid.where(each.numbers, fill.numbers))

    return call.made(filled(value, None))


def _mask(call: Call) -> Traced:
    value, mask = lists.aligned([call.value("array"), call.value("mask")])
    condition = mask.numbers if call["valid_when"] else ~mask.numbers
    return call.made(value.if_valid(condition))


def _where(call: Call) -> Traced:
    choices = call.given.get("args") or (call.given.get("x"), call.given.get("y"))  # awkward's, numpy's
    if len(choices) != 2 or choices[0] is None:
        raise NanoMLError("`where` with a condition alone gives positions: use the condition as a mask.")
    return call.made(chosen(call.value("condition"), *(value_of(each, call.graph) for each in choices)))


def chosen(condition: Value, yes: Value, no: Value) -> Value:
    """`yes` where a condition holds, else `no`; of records the fields that both have."""
    if yes.fields is not None and no.fields is not None:
        names = [name for name in yes.fields if name in no.fields]
        fields = {name: chosen(condition, yes.fields[name], no.fields[name]) for name in names}
        one = next(iter(fields.values()))
        return Value(one.graph, one.axes, fields=fields, name=yes.name)
    parts = lists.aligned([condition, yes, no])
    bare = [replace(each, valid=None) for each in parts]
    made = lists.elementwise(lambda c, y, n: _truth(c).where(y, n), *bare)
    if yes.valid is None and no.valid is None:
        return made
    valid = [
        each.valid if each.valid is not None else each.graph.constant(np.ones((1,) * each.rank, bool))
        for each in parts[1:]
    ]
    return made.if_valid(_truth(parts[0].numbers).where(*valid))


def _zip(call: Call) -> Traced:
    given = call["arrays"]
    if not isinstance(given, Mapping):
        given = {str(number): each for number, each in enumerate(given)}
    values = {name: value_of(each, call.graph) for name, each in given.items()}
    if call["depth_limit"] == 1 and any(each.axes for each in values.values()):
        raise NanoMLError(f"ak.zip with depth_limit=1 of lists {UNKNOWN} Keep them apart.")
    return call.made(record(values, call["with_name"] or ""))


def record(values: Mapping[str, Value], name: str) -> Value:
    """Records of values, which are broadcast to the deepest one."""
    parts = lists.aligned(list(values.values()))
    axes = lists.axes_of(parts)
    rank = 1 + len(axes)
    deepest = Value(parts[0].graph, axes)
    mask = lists.filled_mask(deepest) if axes else None

    def spread(tensor: Tensor) -> Tensor:
        if tensor.value is not None and tensor.value.size == 1:
            return lists.fixed(deepest, tensor.value)
        return tensor if mask is None else mask.where(tensor, tensor)

    full = [each.on(axes) if each.rank == rank else each.mapped(spread, axes) for each in parts]
    return Value(parts[0].graph, axes, fields=dict(zip(values, full, strict=True)), name=name)


def with_field(array: Traced, values: Any, name: str) -> Traced:
    """Records with one more field."""
    return ak.with_field(array, values, name)  # type: ignore[no-any-return]


def _with_field(call: Call) -> Traced:
    value, where = call.value("array"), call["where"]
    if value.fields is None or not isinstance(where, str):
        raise NanoMLError("ak.with_field needs records and the name of one field.")
    fields = {name: each for name, each in value.fields.items() if name != where}
    made = record({**fields, where: call.value("what")}, value.name)
    return call.made(replace(made, valid=value.valid))


def _with_name(call: Call) -> Traced:
    return call.made(replace(call.value("array"), name=call["name"] or ""))


def _unzip(call: Call) -> tuple[Traced, ...]:
    fields = call.value("array").fields
    if fields is None:
        raise NanoMLError("ak.unzip needs records.")
    return tuple(
        call.trace.made(each, concrete, call.first._scope)
        for each, concrete in zip(fields.values(), call.concrete, strict=True)
    )


def _concatenate(call: Call) -> Traced:
    given = call["arrays"]
    values = [value_of(each, call.graph) for each in given]
    depth = max(each.rank for each in values)
    if call["axis"] % depth != depth - 1 or depth == 1:
        raise NanoMLError(
            f"ak.concatenate with axis={call['axis']} puts events together: use axis=1 for the lists of an event."
        )
    values = [each if each.rank == depth else lists.with_axis(each, depth - 1) for each in values]
    return call.made(lists.concatenated(values))


def _combinations(call: Call) -> Traced:
    if call["replacement"]:
        raise NanoMLError(f"ak.combinations with replacement {UNKNOWN}")
    value = call.axis()
    if call.name == "argcombinations":
        value = Value(call.graph, value.axes, lists.number_in_list(value))
    parts = lists.combinations(value, call["n"])
    names = call["fields"] or [str(number) for number in range(call["n"])]
    return call.made(
        Value(call.graph, parts[0].axes, fields=dict(zip(names, parts, strict=True)), name=call["with_name"] or "")
    )


def _cartesian(call: Call) -> Traced:
    given = call["arrays"]
    named = given if isinstance(given, Mapping) else {str(number): each for number, each in enumerate(given)}
    if len(named) != 2 or call["axis"] != 1:
        raise NanoMLError(
            f"ak.{call.name} of {len(named)} arrays, with axis={call['axis']}, {UNKNOWN} Two with axis=1 can."
        )
    values = [value_of(each, call.graph) for each in named.values()]
    if call.name == "argcartesian":
        values = [Value(call.graph, each.axes, lists.number_in_list(each)) for each in values]
    pairs = lists.products(*values, nested=bool(call["nested"]))
    return call.made(record(dict(zip(named, pairs, strict=True)), call["with_name"] or ""))


def _flatten(call: Call) -> Traced:
    value = call.value("array")
    if len(value.axes) != 1 or value.valid is not None:
        raise NanoMLError(f"ak.{call.name} of such lists {UNKNOWN} Lists of one level can.")
    return call.made(value, is_flat=True)


def _unflatten(call: Call) -> Traced:
    value, total = call.value("array"), call.value("counts")
    if not call.first._is_flat or call["axis"] != 0:
        raise NanoMLError("ak.unflatten needs a column of events.flat(...), and its `counts`.")
    found = lists.counts(value).numbers
    call.trace.demand(call.first._scope, found.equals(total.numbers))
    return call.made(value, is_flat=False)


def _astype(call: Call) -> Traced:
    value, to = call.value("array"), np.dtype(call["to"])

    def cast(each: Value) -> Value:
        if each.fields is not None:
            return replace(each, fields={name: cast(field) for name, field in each.fields.items()})
        numbers = each.numbers
        if to.kind == "b":
            made = _truth(numbers)
        elif to.kind == "f":
            made = numbers.to("d").to("f").to("d") if to.itemsize < 8 else numbers.to("d")
        else:
            made = numbers.to("i")
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
    "all": lambda call: _reduced(call, _all),
    "any": lambda call: _reduced(call, _any),
    "argcartesian": _cartesian,
    "argcombinations": _combinations,
    "argmax": _place("ArgMax"),
    "argmin": _place("ArgMin"),
    "argsort": _sorted,
    "cartesian": _cartesian,
    "combinations": _combinations,
    "concatenate": _concatenate,
    "copy": _same,
    "count": lambda call: _reduced(call, lambda value, present: present.to("i").summed()),
    "drop_none": _drop_none,
    "fill_none": _fill_none,
    "firsts": _firsts,
    "flatten": _flatten,
    "full_like": _full_like,
    "is_none": _is_none,
    "isclose": _isclose,
    "local_index": _local_index,
    "mask": _mask,
    "max": lambda call: _reduced(call, _extreme("ReduceMax", -np.inf), is_option=True),
    "mean": _mean,
    "min": lambda call: _reduced(call, _extreme("ReduceMin", np.inf), is_option=True),
    "num": _num,
    "ones_like": _like(1),
    "pad_none": _pad_none,
    "prod": lambda call: _reduced(call, _product),
    "ravel": _flatten,
    "singletons": _singletons,
    "sort": _sorted,
    "sum": lambda call: _reduced(call, _sum),
    "to_numpy": _same,
    "to_packed": _same,
    "unflatten": _unflatten,
    "unzip": _unzip,
    "values_astype": _astype,
    "where": _where,
    "with_field": _with_field,
    "with_name": _with_name,
    "without_parameters": _same,
    "zeros_like": _like(0),
    "zip": _zip,
}

_NUMPY: dict[str, Callable[[Call], Any]] = {
    "clip": _clip,
    "digitize": _digitize,
    "full_like": _full_like,
    "isclose": _isclose,
    "isin": _isin,
    "ones_like": _like(1),
    "where": _where,
    "zeros_like": _like(0),
}

_BY_AWKWARD = {
    name: name
    for name in (
        "all",
        "any",
        "argmax",
        "argmin",
        "argsort",
        "concatenate",
        "max",
        "mean",
        "min",
        "prod",
        "sort",
        "sum",
    )
}
_BY_AWKWARD |= {"amax": "max", "amin": "min"}
