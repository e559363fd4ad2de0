"""Objects of lists in a graph: those that are kept, sorted, paired, put behind each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

import numpy as np

from ML_processing.compiled.nodes.lists import (
    Axis,
    Value,
    aligned,
    compacted,
    counts,
    filled_mask,
    fixed,
    number_in_list,
    with_axis,
)
from ML_processing.compiled.nodes.tensors import Tensor


def kept(value: Value, mask: Value) -> Value:
    """The objects for which a mask is true."""
    one, other = aligned([value, mask])
    axis = one.axis
    chosen = axis.present(one.graph, one.rank) & other.numbers
    made = one.on((*one.axes[:-1], Axis(axis.size, chosen)))
    return made if one is not value else replace(made, places=value.places)


def nth(value: Value, number: int) -> tuple[Value, Tensor]:
    """The object with this number in each list, -1 for the last; and where there is one."""
    axis, there = value.axis, filled_mask(value)
    if 0 <= number < axis.size and (axis.is_compact or axis.mask is None):
        place = np.array(number)
        return value.mapped(lambda each: each.take(place), value.axes[:-1]), there.take(place)
    up_to = there.to("i").cumulative()
    total = there.to("i").summed().lifted(value.rank)
    hit = there & (up_to.equals(number + 1) if number >= 0 else up_to.equals(total + (number + 1)))
    place_ = hit.to("f").place_of("ArgMax")
    return value.mapped(lambda each: each.one_at(place_), value.axes[:-1]), hit.to("i").extreme("ReduceMax") > 0


def sliced(value: Value, start: Optional[int], stop: Optional[int]) -> Value:
    """The objects with numbers from `start` to `stop` in each list."""
    there = filled_mask(value)
    number, total = there.to("i").cumulative() - 1, there.to("i").summed().lifted(value.rank)
    chosen = there
    if start is not None:
        chosen = chosen & (number >= (start if start >= 0 else total + start))
    if stop is not None:
        chosen = chosen & (number < (stop if stop >= 0 else total + stop))
    axis = Axis(value.axis.size, chosen, value.axis.is_compact and not start)
    return replace(value.on((*value.axes[:-1], axis)), places=value.places)


def picked(value: Value, positions: Value) -> tuple[Value, Tensor]:
    """The objects at positions in each list, one list for each; and which positions are in the list."""
    axes = (*value.axes[:-1], positions.axis)
    if positions.places and positions.places[0].is_same(value.axis):
        places, inside = positions.places[1], positions.present
    else:
        value = compacted(value)
        total = counts(value).numbers.lifted(value.rank)
        wanted = positions.numbers
        wanted = (wanted < 0).where(wanted + total, wanted)
        inside = (wanted >= 0) & (wanted < total)
        places = inside.where(wanted, 0)
    valid = positions.valid
    made = value.mapped(lambda each: each.at(places), axes)
    return (made if valid is None else made.if_valid(valid)), inside


def extreme_place(value: Value, operator: str) -> Value:
    """The number in its list of the smallest (ArgMin) or largest (ArgMax) object, in lists of one; None in empty lists.

    As in awkward, NaN is never smaller or larger, but a first NaN stays.
    """
    graph, present = value.graph, value.present
    keys = value.numbers.to("d")
    worst = np.inf if operator == "ArgMin" else -np.inf
    place = (present & keys.equals(keys)).where(keys, worst).place_of(operator)
    first = present.to("f").place_of("ArgMax")
    begins = keys.at(first)
    place = begins.equals(begins).where(place, first)
    any_ = (present.to("i").extreme("ReduceMax") > 0).lifted(value.rank)
    number = number_in_list(value).at(place)
    axes = (*value.axes[:-1], Axis(1))
    return Value(graph, axes, number, valid=any_, places=(value.axis, place))


def ordered(value: Value, descending: bool, nan_first: bool = False) -> Value:
    """The numbers in their lists of objects in the order of `value`, NaN last, or first as awkward sorts."""
    axis, keys = value.axis, value.numbers.to("d")
    there = filled_mask(value)
    # an infinity stands for NaN, so that those that are there become the largest number
    place = np.inf if descending == nan_first else -np.inf
    largest = np.copysign(np.finfo(np.float64).max, place)
    bounded = value.graph.arithmetic("Min" if place > 0 else "Max", keys, float(largest))
    order = value.graph.sorted_places((there & keys.equals(keys)).where(bounded, place), axis.size, descending)
    made = Axis(axis.size, there.at(order))
    return Value(value.graph, (*value.axes[:-1], made), number_in_list(value).at(order), places=(axis, order))


def combinations(value: Value, number: int) -> list[Value]:
    """All combinations of objects of each list, in the order of awkward: first, second, ... objects."""
    size, there = value.axis.size, filled_mask(value)
    places = np.array(list(itertools.combinations(range(size), number)), np.int64).reshape(-1, number)
    if not len(places):  # ONNX Runtime has no extremes of nothing
        places, there = np.zeros((1, number), np.int64), there & ~there
    mask = there.take(places[:, 0])
    for column in range(1, number):
        mask = mask & there.take(places[:, column])
    axes = (*value.axes[:-1], Axis(len(places), mask))
    made = []
    for column in range(number):
        where = places[:, column]
        made.append(value.mapped(lambda each, where=where: each.take(where), axes))  # type: ignore[misc]
    return made


def products(one: Value, other: Value, nested: bool) -> tuple[Value, Value]:
    """All pairs of an object of one list and one of another; as a list for each object of the first if `nested`."""
    if nested:
        return with_axis(one, one.rank), with_axis(other, other.rank - 1)
    first, second = (np.array(each) for each in np.divmod(np.arange(one.axis.size * other.axis.size), other.axis.size))
    mask = filled_mask(one).take(first) & filled_mask(other).take(second)
    axes = (*one.axes[:-1], Axis(len(first), mask))
    return one.mapped(lambda each: each.take(first), axes), other.mapped(lambda each: each.take(second), axes)


def concatenated(values: Sequence[Value]) -> Value:
    """Lists behind each other; of records the fields that all have."""
    graph = values[0].graph
    masks = [filled_mask(each) for each in values]
    mask = graph.joined(_of_all_events(masks, masks))
    axes = (*values[0].axes[:-1], Axis(sum(each.axis.size for each in values), mask))

    def join(parts: Sequence[Value]) -> Value:
        if parts[0].fields is not None:
            names = [name for name in parts[0].fields if all(name in (each.fields or {}) for each in parts)]
            return Value(graph, axes, fields={name: join([each.fields[name] for each in parts]) for name in names})  # type: ignore[index]
        tensors = [each.numbers for each in parts]
        kind = max((each.kind for each in tensors), key="bifd".index)
        shaped = [_all_places(each.to(kind), part) for each, part in zip(tensors, values, strict=True)]
        valid = None
        if any(each.valid is not None for each in parts):
            flags = [fixed(each, True) if each.valid is None else each.valid for each in parts]
            valid = graph.joined(_of_all_events(flags, masks))
        return Value(graph, axes, graph.joined(_of_all_events(shaped, masks)), valid=valid)

    return join(values)


def _all_places(tensor: Tensor, value: Value) -> Tensor:
    """Constants with a number for each place of the innermost axis."""
    return fixed(value, tensor.value) if tensor.value is not None and tensor.value.size == 1 else tensor


def _of_all_events(tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    """Tensors with a row for each event, unless all are the same for all events; where there is no object, any number."""
    computed = next((each for each in tensors if each.value is None), None)
    if computed is None:
        return list(tensors)
    found = []
    for tensor, mask in zip(tensors, masks, strict=True):
        if tensor.value is None:
            found.append(tensor)
            continue
        if mask.value is not None:  # true, in the form of events
            true = computed.graph.constant(np.ones((1,) * computed.rank, bool))
            mask = (computed.equals(computed) | true).take(np.array([0]))
        found.append(mask & tensor if tensor.kind == "b" else mask.where(tensor, tensor))
    return found


def padded(value: Value, size: int) -> Value:
    """Lists with None behind their objects, so that each has at least this many places."""
    value = compacted(value)
    axis = value.axis
    if size <= axis.size:
        number = number_in_list(value)
        mask = value.axis.present(value.graph, value.rank)
        return value.on((*value.axes[:-1], Axis(axis.size, mask | (number < size), True))).if_valid(mask)
    repeats = np.minimum(np.arange(size), axis.size - 1)
    inside = value.graph.constant((np.arange(size) < axis.size).reshape((1,) * (value.rank - 1) + (-1,)))
    mask = filled_mask(value).take(repeats) & inside
    return value.mapped(lambda each: each.take(repeats), (*value.axes[:-1], Axis(size))).if_valid(mask)
