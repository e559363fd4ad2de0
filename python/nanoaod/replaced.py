"""Values of branches of events that are not those of the file: computed for the events for which they are first asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.rootio.lists import Lists, Numbers, Picker, Values, array_of, is_plain, joined


class SomeEvents(Protocol):
    """What is asked of `Events`."""

    _owner: str
    _picked: Picked | None

    @property
    def rows(self) -> NDArray[np.int64]:
        """Position of each event in the chunk."""

    def _again(self, rows: NDArray[np.int64]) -> SomeEvents: ...

    def _branch(self, name: str) -> ak.Array: ...


class Picked:
    """Positions of events in the chunk, and what all events at these positions share."""

    def __init__(
        self, rows: NDArray[np.int64], origin: NDArray[np.int64] | None = None, is_shared: bool = False
    ) -> None:
        self.rows, self.is_shared = rows, is_shared
        self.places = rows if origin is None else origin[rows]
        self.pick = Picker(self.places)
        # as they were read; not kept for events that are picked once
        self.flats: dict[str, Flat] = {}
        self.branches: dict[str, ak.Array] = {}
        self.results: dict[Callable[..., object], tuple[list[object], Any]] = {}


class Replacement:
    """Other values of some branches, computed for the events for which they are first asked."""

    def __init__(self, events: SomeEvents, values: Callable[[Any], Mapping[str, Numbers]]) -> None:
        self.events: Any = events  # `Events`, which import this
        self._function = values
        self.forget()

    def forget(self) -> None:
        """Keep no values."""
        self._rows: NDArray[np.int64] = np.arange(0)
        self._values: dict[str, ak.Array] | None = None
        self._some: tuple[NDArray[np.int64], Picker, dict[str, ak.Array]] | None = None  # values of some of these

    def get(self, name: str, rows: NDArray[np.int64]) -> ak.Array:
        """A branch for the events at positions in the chunk."""
        if self._values is not None and is_same(self._rows, rows):
            return self._value(name)
        if self._some is None or not is_same(self._some[0], rows):
            places = np.minimum(np.searchsorted(self._rows, rows), max(len(self._rows) - 1, 0))
            is_known = self._values is not None and (not len(rows) or len(self._rows))
            if not is_known or not np.array_equal(self._rows[places] if len(rows) else rows, rows):
                order = rows if (rows[1:] > rows[:-1]).all() else np.unique(rows)
                left = self.events._again(order)
                self._values = {key: self._checked(key, value, left) for key, value in self._function(left).items()}
                self._rows, self._some = order, None
                if order is rows:
                    return self._value(name)
                places = np.searchsorted(order, rows)
            self._some = rows, Picker(places), {}
        _, pick, known = self._some
        if name not in known:
            known[name] = pick(self._value(name))
        return known[name]

    def _value(self, name: str) -> ak.Array:
        assert self._values is not None
        if name not in self._values:
            raise NanoMLError(f"{self.events._owner}: the function for new values of {name} did not return them.")
        return self._values[name]

    def _checked(self, name: str, values: Numbers, left: SomeEvents) -> ak.Array:
        """The new values in the form of the old ones."""
        old = left._branch(name)
        lists = Lists.of(old) if old.ndim > 1 else None
        if lists is not None and isinstance(values, ak.Array):
            if not np.array_equal(ak.num(values), ak.num(old)):
                raise NanoMLError(f"{left._owner}: the new {name} has other numbers of objects than the old one.")
            return values
        new, length = np.asarray(values, np.float64), len(old if lists is None else lists.numbers)
        if new.shape != (length,):
            raise NanoMLError(
                f"{left._owner}: the new {name} has shape {new.shape}, not one number for each of {length}."
            )
        return ak.Array(ak.contents.NumpyArray(new)) if lists is None else Lists(lists.offsets, new).array()


class Beside(Replacement):
    """The values of several parts, in two dimensions."""

    def __init__(self, parts: Sequence[SomeEvents]) -> None:
        super().__init__(parts[0], lambda _: {})
        self._parts = parts

    def get(self, name: str, rows: NDArray[np.int64]) -> ak.Array:
        """A branch for the events that all parts have."""
        if not np.array_equal(rows, self.events.rows):
            refuse(name)
        known = self._values = self._values or {}
        if name not in known:
            known[name] = ak.Array(np.stack([np.asarray(part._branch(name)) for part in self._parts]))
        return known[name]


def is_same(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Whether two sets of positions are the same."""
    return one is other or np.array_equal(one, other)


def refuse(_name: str) -> NoReturn:
    """Say that something cannot be asked of events under several shifts, be it a branch."""
    raise NanoMLError("the events are those under several shifts.")


def of_parts(parts: Sequence[SomeEvents], begins: NDArray[np.int64], name: str, left: SomeEvents) -> dict[str, Numbers]:
    """A branch of what is left of events that were `repeated`, each part from one of `begins` to the next."""
    ends = left.rows.searchsorted(begins).tolist()
    places = left._picked.places if left._picked is not None else left.rows
    found: list[Values] = []
    for part, begin, end in zip(parts, ends, ends[1:]):
        if begin < end:
            array = part._again(places[begin:end])._branch(name)
            is_flat = isinstance(array.layout, ak.contents.NumpyArray)
            found.append(np.asarray(array) if is_flat else Lists.of(array) if is_plain(array.layout) else array)
    return {name: array_of(joined(found) if found else left._branch(name))}
