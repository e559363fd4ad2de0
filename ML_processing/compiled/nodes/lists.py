"""Lists of different lengths in a graph: padded to a fixed size, with a mask that says which places hold an object.

A cut on objects only changes the mask; objects are moved together where their number in the list is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np

from ML_processing.compiled.nodes.graph import Graph
from ML_processing.compiled.nodes.tensors import Tensor
from MLTools.NanoML.errors import NanoMLError


@dataclass(frozen=True)
class Axis:
    """A dimension of lists.

    Attributes
    ----------
    size
        How many places it has.
    mask
        The places that hold an object, shape (events, ..., size); None if all do.
    is_compact
        Whether the objects stand in the first places.
    """

    size: int
    mask: Optional[Tensor] = None
    is_compact: bool = False

    def present(self, graph: Graph, rank: int) -> Tensor:
        """The mask, of ones if all places hold an object."""
        return self.mask if self.mask is not None else graph.constant(np.ones((1,) * rank, bool))

    def is_same(self, other: Axis) -> bool:
        """Whether objects at the same place belong together."""
        mine, others = self.mask and self.mask.name, other.mask and other.mask.name
        return self.size == other.size and mine == others


@dataclass(frozen=True)
class Value:
    """A number for each event, a list of them, a list of lists; or records of these.

    Attributes
    ----------
    graph
        The graph that computes it.
    axes
        The dimensions of its lists, without that of the events.
    data
        The numbers, shape (events, size of each axis); None for records.
    fields
        Those of records, which have the same axes.
    valid
        Which numbers or records are there, others being None; None if all are.
    name
        Of records: "Momentum4D".
    places
        Of positions in lists: the axis of these lists, and the places there. They need not be worked out again.
    """

    graph: Graph
    axes: tuple[Axis, ...] = ()
    data: Optional[Tensor] = None
    fields: Optional[Mapping[str, Value]] = None
    valid: Optional[Tensor] = None
    name: str = ""
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

    def if_valid(self, valid: Tensor) -> Value:
        """None where `valid` is false."""
        return replace(self, valid=valid if self.valid is None else self.valid & valid)


def compacted(value: Value) -> Value:
    """The same lists with their objects in the first places."""
    axis = value.axis
    if axis.is_compact or axis.mask is None:
        return value
    order = value.graph.sorted_places(axis.mask.to("i"), axis.size, descending=True)
    return value.mapped(lambda each: each.at(order), (*value.axes[:-1], Axis(axis.size, axis.mask.at(order), True)))


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
    repeats = np.minimum(np.arange(size), value.axis.size - 1)
    inside = value.graph.constant((np.arange(size) < value.axis.size).reshape((1,) * (value.rank - 1) + (-1,)))
    mask = filled_mask(value).take(repeats) & inside
    return value.mapped(lambda each: each.take(repeats), (*value.axes[:-1], Axis(size, mask, True)))


def axes_of(values: Sequence[Value]) -> tuple[Axis, ...]:
    """The axes of what is computed from aligned values: where one has a dimension of one, those of another."""
    depth = max(len(each.axes) for each in values)
    found = []
    for level in range(depth):
        ours = [each.axes[level] for each in values if len(each.axes) > level]
        found.append(next((each for each in ours if not _is_single(each)), ours[0]))
    return tuple(found)


def elementwise(function: Callable[..., Tensor], *values: Value) -> Value:
    """A function of numbers, place by place; None where one of them is."""
    parts = aligned(values)
    axes, graph = axes_of(parts), parts[0].graph
    tensors = [each.numbers.lifted(1 + len(axes)) if each.numbers.rank else each.numbers for each in parts]
    valid: Any = None
    for each in parts:
        if each.valid is not None:
            here = each.valid.lifted(1 + len(axes))
            valid = here if valid is None else valid & here
    return Value(graph, axes, function(*tensors), valid=valid)


def number(graph: Graph, value: Any) -> Value:
    """A constant number as a value."""
    return Value(graph, (), graph.constant(value))
