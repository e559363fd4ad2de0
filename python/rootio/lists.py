"""Lists of numbers for each event: where they begin among the numbers of all events, and the lists of some events.

Awkward does the same, but takes longer for the many branches of a collection, which share their offsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

import awkward as ak
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]  # numbers, truth values, or records, of whatever type
Numbers = Union[float, NDArray[np.number], ak.Array]  # one for each event or object, flat or in lists, or one for all
Mask = Union[NDArray[np.bool_], ak.Array]  # whether something is true for each event or object
_Index = NDArray[np.int64]


@dataclass(frozen=True)
class Lists:
    """A list of numbers for each event, where no awkward array is needed: making one takes longer than filling it."""

    # where the list of each event begins, and the last ends, from 0. Branches of a collection often share it.
    offsets: ak.index.Index64
    numbers: Array  # those of the first event first, and none after those of the last

    @classmethod
    def of(cls, array: ak.Array) -> Lists:
        """From an awkward array."""
        layout = array.layout if is_plain(array.layout) else ak.to_packed(array).layout
        if not is_plain(layout) or layout.offsets.dtype != np.int64 or layout.offsets.data[0]:
            layout = layout.to_ListOffsetArray64(True)
        numbers = layout.content.data if is_plain(layout) else ak.to_numpy(layout.content)
        return cls(layout.offsets, np.asarray(numbers)[: layout.offsets.data[-1]])

    def __len__(self) -> int:
        """Number of events."""
        return len(self.offsets) - 1

    def array(self) -> ak.Array:
        """As an awkward array, which shares the numbers."""
        return ak.Array(ak.contents.ListOffsetArray(self.offsets, ak.contents.NumpyArray(self.numbers)))


Entries = Union[Array, ak.Array]  # a number or a list for each event
Values = Union[Entries, Lists]
Arrays = Mapping[str, Entries]  # branches by their names


def is_plain(layout: ak.contents.Content) -> bool:
    """Whether the layout of an awkward array is just offsets and numbers."""
    return isinstance(layout, ak.contents.ListOffsetArray) and isinstance(layout.content, ak.contents.NumpyArray)


def plain(values: Values) -> Array | Lists:
    """An array of numbers or `Lists`, from one of these or an awkward array."""
    if isinstance(values, (np.ndarray, Lists)):
        return values
    return Lists.of(values) if values.ndim > 1 else np.asarray(ak.to_numpy(values))


def of_type(values: Array | Lists, dtype: np.dtype[np.generic]) -> Array | Lists:
    """The same with numbers of a type."""
    if isinstance(values, Lists):
        return Lists(values.offsets, values.numbers.astype(dtype, copy=False))
    return values.astype(dtype, copy=False)


def array_of(values: Values) -> ak.Array:
    """An awkward array, which shares the numbers."""
    if isinstance(values, Lists):
        return values.array()
    return ak.Array(ak.contents.NumpyArray(values)) if isinstance(values, np.ndarray) else values


def same_lists(one: ak.index.Index, other: ak.index.Index) -> bool:
    """Whether the offsets of two layouts are those of lists with the same lengths; in a collection they often are one."""
    return one is other or np.array_equal(one.data, other.data)


def in_double_precision(array: Entries) -> Entries:
    """An array of numbers or of lists; floating-point numbers in double precision, others as they are."""
    if isinstance(array, np.ndarray):
        return array.astype(np.float64) if array.dtype.kind == "f" else array
    layout = array.layout
    content = layout.content if isinstance(layout, ak.contents.ListOffsetArray) else layout
    if not isinstance(content, ak.contents.NumpyArray):
        return ak.values_astype(array, np.float64) if "float" in str(array.type) else array
    numbers = np.asarray(content.data)
    if numbers.dtype.kind != "f" or numbers.dtype == np.float64:
        return array
    doubled = ak.contents.NumpyArray(numbers.astype(np.float64))
    return ak.Array(doubled if content is layout else ak.contents.ListOffsetArray(layout.offsets, doubled))


def joined(parts: Sequence[Values]) -> Values:
    """Arrays of numbers, `Lists` or awkward arrays, one after the other; one of these kinds if all are of it."""
    if len(parts) == 1:
        return parts[0]
    numbers = [part for part in parts if isinstance(part, np.ndarray)]
    if len(numbers) == len(parts):
        return np.concatenate(numbers)
    lists = [part for part in parts if isinstance(part, Lists)]
    if len(lists) == len(parts):
        counts = np.concatenate([np.diff(np.asarray(part.offsets.data)) for part in lists])
        return Lists(ak.index.Index64(offsets_of(counts)), np.concatenate([part.numbers for part in lists]))
    return ak.concatenate([part.array() if isinstance(part, Lists) else part for part in parts])


def offsets_of(counts: Array) -> _Index:
    """Where the list of each event begins, and the last ends: int64, shape (events + 1,), from 0."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def default(value: object, events: int, beside: ak.Array | None = None) -> Entries:
    """A value in place of a branch that a file lacks.

    It is a number for each event, of shape (events,); or, if the value is a list as `[]`, or with the lists of another branch of its
    collection `beside` it, an awkward array of lists.
    """
    if isinstance(value, (list, tuple)):
        offsets = ak.index.Index64(np.arange(events + 1) * len(value))
        return Lists(offsets, np.tile(np.array(value, None if value else np.float64), events)).array()
    if beside is None:
        return np.full(events, value)
    offsets = Lists.of(beside).offsets
    return Lists(offsets, np.full(offsets.data[-1], value)).array()


def picked_lists(offsets: NDArray[np.integer], rows: NDArray[np.integer]) -> tuple[_Index, _Index]:
    """The offsets of the lists of some events, and the positions of their numbers among those of all events."""
    begin = offsets[:-1][rows]
    counts = offsets[1:][rows] - begin
    picked = offsets_of(counts)
    return picked, np.arange(picked[-1]) + np.repeat(begin - picked[:-1], counts)


class Picker:
    """Picks the same events, at positions `rows` (int64), from any number of arrays.

    The positions of their objects are computed once for all arrays with the same numbers of objects.
    """

    def __init__(self, rows: _Index) -> None:
        self._rows = rows
        # offsets, offsets of what is picked, positions; by the number of objects
        self._known: dict[int, list[tuple[ak.index.Index, ak.index.Index64, _Index]]] = {}

    def __call__(self, array: Values) -> Values:
        """The values of these events: of the same type (array, `Lists` or awkward array), and never a view."""
        if isinstance(array, np.ndarray):
            return array[self._rows]
        if isinstance(array, Lists):
            return self._picked(array.offsets, array.numbers)
        layout = array.layout
        if isinstance(layout, ak.contents.NumpyArray):
            return ak.Array(ak.contents.NumpyArray(np.asarray(layout.data)[self._rows]))
        if not is_plain(layout):
            return ak.to_packed(array[self._rows])
        return self._picked(layout.offsets, np.asarray(layout.content.data)).array()

    def _picked(self, index: ak.index.Index, numbers: Array) -> Lists:
        similar = self._known.setdefault(int(index.data[-1]), [])
        for known, picked, where in similar:
            if same_lists(known, index):
                return Lists(picked, numbers[where])
        offsets, where = picked_lists(np.asarray(index.data), self._rows)
        picked = ak.index.Index64(offsets)
        similar.append((index, picked, where))
        return Lists(picked, numbers[where])
