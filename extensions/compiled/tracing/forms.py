"""awkward's functions that give lists another form: records, pairs, missing values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing import lists, mathematics
from MLTools.NanoML.extensions.compiled.tracing.functions import Call, stands_for
from MLTools.NanoML.extensions.compiled.tracing.graph import Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Axis, Value
from MLTools.NanoML.extensions.compiled.tracing.traced import FUNCTIONS, UNKNOWN, Traced, value_of
from MLTools.NanoML.nanoaod.flat import Flat


@stands_for("firsts")
def _firsts(call: Call) -> Traced:
    value = call.axis()
    made, found = lists.nth(value, 0)
    return call.made(made.if_valid(found))


@stands_for("singletons")
def _singletons(call: Call) -> Traced:
    value = call.value("array")
    mask = value.valid
    made = lists.with_axis(replace(value, valid=None), value.rank)
    return call.made(made.on((*value.axes, Axis(1, mask and mask.lifted(value.rank + 1)))))


@stands_for("pad_none")
def _pad_none(call: Call) -> Traced:
    value, size = call.axis(), call["target"]
    made = lists.padded(value, size)
    return call.made(lists.sliced(made, 0, size) if call["clip"] else made)


def _none_at(call: Call) -> Value:
    value, axis = call.value("array"), call["axis"]
    if axis is not None and axis % (1 + len(value.axes)) != len(value.axes):
        raise NanoMLError(f"ak.{call.name} with axis={axis}: give the axis of the missing values, {len(value.axes)}.")
    return value


@stands_for("is_none")
def _is_none(call: Call) -> Traced:
    value = _none_at(call)
    valid = value.valid
    none = ~valid if valid is not None else lists.fixed(value, False)
    return call.made(Value(call.graph, value.axes, none))


@stands_for("drop_none")
def _drop_none(call: Call) -> Traced:
    value = _none_at(call)
    if not value.axes:
        raise NanoMLError("ak.drop_none with axis=0 drops events: use a cut.")
    if value.valid is None:
        return call.made(value)
    return call.made(lists.kept(replace(value, valid=None), value.number(value.valid)))


@stands_for("fill_none")
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


@stands_for("mask")
def _mask(call: Call) -> Traced:
    value, mask = lists.aligned([call.value("array"), call.value("mask")])
    condition = mask.numbers if call["valid_when"] else ~mask.numbers
    return call.made(value.if_valid(condition))


@stands_for("where", packages=("ak", "np"))
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
    made = lists.elementwise(lambda c, y, n: mathematics.truth(c).where(y, n), *bare)
    if yes.valid is None and no.valid is None:
        return made
    valid = [
        each.valid if each.valid is not None else each.graph.constant(np.ones((1,) * each.rank, bool))
        for each in parts[1:]
    ]
    return made.if_valid(mathematics.truth(parts[0].numbers).where(*valid))


@stands_for("zip")
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

    full = [lists.whole((it if it.rank == rank else it.mapped(spread, axes)).on(axes)).on(axes) for it in parts]
    return Value(parts[0].graph, axes, fields=dict(zip(values, full, strict=True)), name=name)


@stands_for("with_field")
def _with_field(call: Call) -> Traced:
    value, where = call.value("array"), call["where"]
    if value.fields is None or not isinstance(where, str):
        raise NanoMLError("ak.with_field needs records and the name of one field.")
    fields = {name: each for name, each in value.fields.items() if name != where}
    made = record({**fields, where: call.value("what")}, value.name)
    return call.made(replace(made, valid=value.valid))


@stands_for("with_name")
def _with_name(call: Call) -> Traced:
    return call.made(replace(call.value("array"), name=call["name"] or ""))


@stands_for("unzip")
def _unzip(call: Call) -> tuple[Traced, ...]:
    fields = call.value("array").fields
    if fields is None:
        raise NanoMLError("ak.unzip needs records.")
    return tuple(
        call.trace.made(each, concrete, call.first._scope)
        for each, concrete in zip(fields.values(), call.concrete, strict=True)
    )


@stands_for("concatenate")
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


@stands_for("argcombinations", "combinations")
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


@stands_for("argcartesian", "cartesian")
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
    pairs = lists.products(values[0], values[1], bool(call["nested"]))
    return call.made(record(dict(zip(named, pairs, strict=True)), call["with_name"] or ""))


@stands_for("flatten", "ravel")
def _flatten(call: Call) -> Traced:
    value = call.value("array")
    if len(value.axes) != 1 or value.valid is not None:
        raise NanoMLError(f"ak.{call.name} of such lists {UNKNOWN} Lists of one level can.")
    return call.made(value, is_flat=True)


@stands_for("unflatten")
def _unflatten(call: Call) -> Traced:
    value, total = call.value("array"), call.value("counts")
    if not value.axes and call["axis"] == 0:
        value = lists.with_axis(value, 1)  # one object for each event, as after `at`
    elif not call.first._is_flat or call["axis"] != 0:
        raise NanoMLError("ak.unflatten needs a column of events.flat(...), and its `counts`.")
    found = lists.counts(value).numbers
    call.trace.demand(call.first._scope, found.equals(total.numbers))
    return call.made(value, is_flat=False)


def _away_from(_: Callable[..., object], args: Sequence[Any], options: Mapping[str, Any]) -> Traced:
    jets, *others = args
    least, is_far = options["distance"] ** 2, ak.full_like(jets.eta, True, dtype=bool)
    for each in others:
        eta, phi = (ak.unflatten(it, each.counts) if isinstance(each, Flat) else it for it in (each.eta, each.phi))
        along = (jets.eta[:, :, np.newaxis] - eta[:, np.newaxis]) ** 2
        across = ((jets.phi[:, :, np.newaxis] - phi[:, np.newaxis] + np.pi) % (2 * np.pi) - np.pi) ** 2
        is_far = is_far & ak.all((along >= least) | (along + across >= least), axis=2)
    return is_far  # type: ignore[no-any-return]


FUNCTIONS["nanoml"]["away_from"] = _away_from
