"""Lists of different lengths in a graph: padded to a fixed size, with a mask that says which places hold an object.

A cut on objects only changes the mask; objects are moved together where their number in the list is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Optional

import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing.graph import Graph, Tensor


@dataclass(frozen=True)
class Axis:
    """A dimension of lists."""

    size: int  # how many places it has
    mask: Optional[Tensor] = None  # the places that hold an object, shape (events, ..., size); None if all do
    is_compact: bool = False  # whether the objects stand in the first places

    def present(self, graph: Graph, rank: int) -> Tensor:
        """The mask, of ones if all places hold an object."""
        return self.mask if self.mask is not None else graph.constant(np.ones((1,) * rank, bool))

    def is_same(self, other: Axis) -> bool:
        """Whether objects at the same place belong together."""
        mine, others = self.mask and self.mask.name, other.mask and other.mask.name
        return self.size == other.size and mine == others


@dataclass(frozen=True)
class Value:
    """A number for each event, a list of them, a list of lists; or records of these."""

    graph: Graph  # that computes it
    axes: tuple[Axis, ...] = ()  # the dimensions of its lists, without that of the events
    data: Optional[Tensor] = None  # the numbers, shape (events, size of each axis); None for records
    fields: Optional[Mapping[str, Value]] = None  # of records, which have the same axes
    valid: Optional[Tensor] = None  # which numbers or records are there, others being None; None if all are
    name: str = ""  # of records: "Momentum4D"
    # of positions in lists: the axis of these lists, and the places there, which need not be worked out again
    places: Optional[tuple[Axis, Tensor]] = None

    @property
    def rank(self) -> int:
        """Number of dimensions of its tensors."""
        return 1 + len(self.axes)

    @property
    def numbers(self) -> Tensor:
        """The numbers; an error for records."""
        if self.data is None:
            raise NanoMLError("has fields: take one of them, as in `.pt`.")
        return self.data

    @property
    def axis(self) -> Axis:
        """The innermost axis; an error if there is one number for each event."""
        if not self.axes:
            raise NanoMLError("has one number for each event, not a list.")
        return self.axes[-1]

    @property
    def present(self) -> Tensor:
        """Which places of the innermost axis hold something that is not None."""
        mask = self.axis.present(self.graph, self.rank)
        return mask if self.valid is None else mask & self.valid

    @property
    def rows(self) -> Tensor:
        """Any of its tensors, which has a row for each event."""
        return self.data if self.data is not None else next(iter(self.fields.values())).rows  # type: ignore[union-attr]

    def mapped(self, function: Callable[[Tensor], Tensor], axes: tuple[Axis, ...]) -> Value:
        """All of its tensors after the same rearrangement, which gives other axes."""
        fields = self.fields and {name: each.mapped(function, axes) for name, each in self.fields.items()}
        valid, data = self.valid and function(self.valid), self.data and function(self.data)
        return replace(self, axes=axes, data=data, fields=fields, valid=valid, places=None)

    def on(self, axes: tuple[Axis, ...]) -> Value:
        """The same numbers with other masks."""
        fields = self.fields and {name: each.on(axes) for name, each in self.fields.items()}
        return replace(self, axes=axes, fields=fields)

    def number(self, data: Tensor, valid: Optional[Tensor] = None) -> Value:
        """Numbers with the axes that this has."""
        return Value(self.graph, self.axes, data, valid=valid)

    def if_valid(self, valid: Optional[Tensor]) -> Value:
        """None where `valid` is false, if it is given."""
        if valid is None:
            return self
        return replace(self, valid=valid if self.valid is None else self.valid & valid)


def whole(value: Value) -> Value:
    """The same with all of its places, of which lists of lists may share a row: those of `ak.cartesian([...], nested=True)`."""
    if value.rank < 3:
        return value
    masks = (filled_mask(replace(value, axes=value.axes[:depth])).lifted(value.rank) for depth in range(1, value.rank))
    some = reduce(Tensor.__or__, masks)
    ones = some | ~some
    axes = (*value.axes[:-1], replace(value.axis, mask=filled_mask(value) & ones))
    return value.mapped(lambda each: each & ones if each.kind == "b" else each * ones.to(each.kind), axes)


def compacted(value: Value) -> Value:
    """The same lists with their objects in the first places."""
    if value.axis.is_compact or value.axis.mask is None:
        return value
    value = whole(value)
    size, mask = value.axis.size, filled_mask(value)
    order = value.graph.sorted_places(mask.to("i"), size, descending=True)
    return value.mapped(lambda each: each.at(order), (*value.axes[:-1], Axis(size, mask.at(order), True)))


def number_in_list(value: Value) -> Tensor:
    """The number of each object in its list, from 0."""
    axis = value.axis
    if axis.is_compact or axis.mask is None:
        return fixed(value, np.arange(axis.size))
    return axis.mask.to("i").cumulative() - 1


def fixed(value: Value, numbers: Any) -> Tensor:
    """The same numbers for each event, one for each place of the innermost axis."""
    row = np.broadcast_to(numbers, (value.axis.size,)) if value.axes else np.asarray(numbers).reshape(1)
    return value.graph.constant(row.reshape((1,) * (value.rank - 1) + (-1,)))


def filled_mask(value: Value) -> Tensor:
    """The mask of the innermost axis, with all of its places."""
    axis = value.axis
    return axis.mask if axis.mask is not None else fixed(value, True)


def counts(value: Value) -> Value:
    """How many objects each list has."""
    return Value(value.graph, value.axes[:-1], filled_mask(value).to("i").summed())


def with_axis(value: Value, place: int) -> Value:
    """With a dimension of one at a place among those of its tensors."""

    def function(tensor: Tensor) -> Tensor:
        axes = value.graph.constant(np.array([place]))
        return value.graph.add("Unsqueeze", [tensor, axes], tensor.kind, tensor.rank + 1)

    masks = [
        each if each.mask is None or place > number + 1 else Axis(each.size, function(each.mask), each.is_compact)
        for number, each in enumerate(value.axes)
    ]
    return value.mapped(function, (*masks[: place - 1], Axis(1), *masks[place - 1 :]))


def aligned(values: Sequence[Value]) -> list[Value]:
    """Values whose lists belong together, with the same axes as far as they have them.

    Where two lists were made in different ways, their objects are moved together; they then must be as many.
    """
    found = list(values)
    deepest = max(found, key=lambda each: len(each.axes))
    for level in range(len(deepest.axes)):
        ours = [each.axes[level] for each in found if len(each.axes) > level]
        lists = [each for each in ours if not _is_single(each)]
        if all(each.is_same(lists[0]) for each in lists[1:]):
            continue
        if any(len(each.axes) > level + 1 for each in found):
            raise NanoMLError(
                "combines lists of lists that were cut in different ways: cut them before they are combined."
            )
        totals = [counts(each).numbers for each in found if len(each.axes) > level and not _is_single(each.axes[level])]
        for total in totals[1:]:
            if total is not totals[0]:
                found[0].graph.conditions.append(total.equals(totals[0]))
        size = max(each.size for each in lists)
        found = [_resized(compacted(each), size) if len(each.axes) > level else each for each in found]
        first = next(each.axes[level] for each in found if len(each.axes) > level)
        found = [each.on((*each.axes[:level], first)) if len(each.axes) > level else each for each in found]
    return found


def _is_single(axis: Axis) -> bool:
    """Whether it is the dimension of one that broadcasting has made."""
    return axis.size == 1 and axis.mask is None


def _resized(value: Value, size: int) -> Value:
    """With more places."""
    if value.axis.size == size or _is_single(value.axis):
        return value
    made, mask = _longer(value, size)
    return made.on((*value.axes[:-1], Axis(size, mask, True)))


def _longer(value: Value, size: int) -> tuple[Value, Tensor]:
    """With more places, which repeat the last one; and which of all hold an object."""
    repeats = np.minimum(np.arange(size), value.axis.size - 1)
    inside = value.graph.constant((np.arange(size) < value.axis.size).reshape((1,) * (value.rank - 1) + (-1,)))
    mask = filled_mask(value).take(repeats) & inside
    return value.mapped(lambda each: each.take(repeats), (*value.axes[:-1], Axis(size))), mask


def axes_of(values: Sequence[Value]) -> tuple[Axis, ...]:
    """The axes of what is computed from aligned values: where one has a dimension of one, those of another."""
    found = []
    for level in range(max(len(each.axes) for each in values)):
        ours = [each.axes[level] for each in values if len(each.axes) > level]
        found.append(next((each for each in ours if not _is_single(each)), ours[0]))
    return tuple(found)


def elementwise(function: Callable[..., Tensor], *values: Value) -> Value:
    """A function of numbers, place by place; None where one of them is."""
    parts = aligned(values)
    axes, graph = axes_of(parts), parts[0].graph
    tensors = [each.numbers.lifted(1 + len(axes)) if each.numbers.rank else each.numbers for each in parts]
    flags = [each.valid for each in parts if each.valid is not None]
    valid = reduce(Tensor.__and__, (each.lifted(1 + len(axes)) for each in flags)) if flags else None
    return Value(graph, axes, function(*tensors), valid=valid)


def kept(value: Value, mask: Value) -> Value:
    """The objects for which a mask is true."""
    one, other = aligned([value, mask])
    axis = one.axis
    chosen = axis.present(one.graph, one.rank) & other.numbers
    made = one.on((*one.axes[:-1], Axis(axis.size, chosen)))
    return made if one is not value else replace(made, places=value.places)


def nth(value: Value, number: int) -> tuple[Value, Tensor]:
    """The object with this number in each list, -1 for the last; and where there is one."""
    value = whole(value)
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
    return value.mapped(lambda each: each.at(places), axes).if_valid(positions.valid), inside


def extreme_place(value: Value, operator: str) -> Value:
    """The number in its list of the smallest (ArgMin) or largest (ArgMax) object, in lists of one; None in empty lists.

    As in awkward, NaN is never smaller or larger, but a first NaN stays.
    """
    axis, value = value.axis, whole(value)
    graph, present = value.graph, value.present
    keys = value.numbers.to("d")
    worst = np.inf if operator == "ArgMin" else -np.inf
    place = (present & keys.equals(keys)).where(keys, worst).place_of(operator)
    first = present.to("f").place_of("ArgMax")
    begins = keys.at(first)
    place = (begins.equals(begins) & present.at(place)).where(place, first)  # of infinities one may not be there
    any_ = (present.to("i").extreme("ReduceMax") > 0).lifted(value.rank)
    number = number_in_list(value).at(place)
    return Value(graph, (*value.axes[:-1], Axis(1)), number, valid=any_, places=(axis, place))


def ordered(value: Value, descending: bool, nan_first: bool = False) -> Value:
    """The numbers in their lists of objects in the order of `value`, NaN last, or first as awkward sorts."""
    axis, value = value.axis, whole(value)
    keys = value.numbers.to("d")
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
    mask = reduce(Tensor.__and__, map(there.take, places.T))
    axes = (*value.axes[:-1], Axis(len(places), mask))
    return [value.mapped(lambda each, where=where: each.take(where), axes) for where in places.T]  # type: ignore[misc]


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
    graph, values = values[0].graph, [whole(each) for each in values]
    masks = [filled_mask(each) for each in values]
    mask = graph.joined(_of_all_events(masks, masks))
    axes = (*values[0].axes[:-1], Axis(sum(each.axis.size for each in values), mask))

    def join(parts: Sequence[Value]) -> Value:
        if parts[0].fields is not None:
            names = [name for name in parts[0].fields if all(name in (each.fields or {}) for each in parts)]
            return Value(graph, axes, fields={name: join([each.fields[name] for each in parts]) for name in names})  # type: ignore[index]
        tensors = [each.numbers for each in parts]
        kind = max((each.kind for each in tensors), key="bifd".index)
        shaped = [
            fixed(part, each.value) if each.value is not None and each.value.size == 1 else each
            for each, part in zip((each.to(kind) for each in tensors), values, strict=True)
        ]
        valid = None
        if any(each.valid is not None for each in parts):
            flags = [fixed(each, True) if each.valid is None else each.valid for each in parts]
            valid = graph.joined(_of_all_events(flags, masks))
        return Value(graph, axes, graph.joined(_of_all_events(shaped, masks)), valid=valid)

    return join(values)


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
    made, mask = _longer(value, size)
    return made.if_valid(mask)
