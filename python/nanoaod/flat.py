"""Objects of a collection: `Flat`, those of many events in one row, as plain numpy columns for code that must be fast; and as records."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from functools import cache, cached_property, partial
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.lists import Array, Numbers, is_plain, offsets_of, picked_lists, same_lists

COMPONENTS = {"pt": "rho", "eta": "eta", "phi": "phi", "mass": "tau"}  # names in the package vector
_Index = NDArray[np.int64]


class Flat:
    """The objects of a collection in many events: `muons = events.flat("Muon")`.

    `muons.pt` has one number for each muon, those of the first event first; `muons.event` says to which event each
    belongs, `muons.counts` how many each event has. Floating-point numbers are float64, as in `Events`. As for any array
    with one entry for each event, `len(muons)` is the number of events, and `muons[mask]` are the events that pass, so
    that `cutflow.cut` narrows it. A column is only converted when it is used.

    Parameters
    ----------
    columns
        Name to values, all of one length.
    offsets
        Index of the first object of each event, and of the end: int64, shape (events + 1,), from 0.
    where
        Position of each object in the columns; None if they are in this order.

    Examples
    --------
    >>> muons = Flat({"pt": np.array([20.0, 50.0, 30.0])}, np.array([0, 2, 3]))
    >>> muons.keep(muons.pt > 25).counts.tolist()
    [1, 1]
    >>> muons.at(muons.largest(muons.pt)).pt.tolist()
    [50.0, 30.0]
    """

    def __init__(self, columns: Mapping[str, Array], offsets: _Index, where: _Index | None = None) -> None:
        self._columns, self._offsets, self._where = columns, offsets, where
        self._made: dict[str, Array] = {}

    def __len__(self) -> int:
        """Number of events."""
        return len(self._offsets) - 1

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._columns})

    def _make(self, name: str) -> Array:
        if name not in self._columns:
            raise AttributeError(
                f"there is no column {name} of these objects.{versions.did_you_mean(name, self._columns)}"
            )
        raw = self._columns[name]
        values: Array = raw if self._where is None else raw[self._where]
        made = values.astype(np.float64, copy=False) if values.dtype.kind == "f" else values
        return _fixed(made.view())

    @property
    def columns(self) -> list[str]:
        """Names of its columns."""
        return list(self._columns)

    @cached_property
    def counts(self) -> _Index:
        """How many objects each event has."""
        return np.diff(self._offsets)

    @cached_property
    def event(self) -> _Index:
        """Position of the event of each object: `met.pt[muons.event]` has a number for each muon."""
        return np.repeat(np.arange(len(self)), self.counts)

    @property
    def place(self) -> _Index:
        """The place of each object in its event, from 0."""
        return np.arange(self._offsets[-1]) - np.repeat(self._offsets[:-1], self.counts)

    @cached_property
    def p4(self) -> Any:
        """The four-vectors (package vector) of objects with pt, eta, phi and mass."""
        # vector.array would rename pt and mass by setting the array's dtype, which numpy 2.5 deprecates
        columns = {component: getattr(self, name) for name, component in COMPONENTS.items()}
        array = np.empty(int(self._offsets[-1]), [(name, values.dtype) for name, values in columns.items()])
        for name, values in columns.items():
            array[name] = values
        return _fixed(array).view(vector_package().MomentumNumpy4D)

    def with_later(self, columns: Mapping[str, tuple[str, Callable[[], Array]]]) -> Flat:
        """The same objects with columns of branches that are computed when they are first used: the branch, and what computes it."""
        if not columns:
            return self
        known = {name: partial(getattr, self, name) for name in self._columns if name not in columns}
        computed = {name: function for name, (_, function) in columns.items()}
        return Flat(_Later({**known, **computed}, {branch for branch, _ in columns.values()}), self._offsets)

    @property
    def later(self) -> Set[str]:
        """The branches that are computed when they are first used."""
        return self._columns.branches if isinstance(self._columns, _Later) else frozenset()

    def __getitem__(self, what: Any) -> Any:
        """A column by its name, or the objects of the events that a mask (or an array of positions) picks."""
        if isinstance(what, str):
            return getattr(self, what)
        picked = np.asarray(what)
        rows = np.flatnonzero(picked) if picked.dtype == np.bool_ else picked
        offsets, where = picked_lists(self._offsets, rows)
        return self._at(where, offsets)

    def keep(self, mask: NDArray[np.bool_]) -> Flat:
        """The objects for which a mask is true; all events stay, some of them with fewer objects."""
        return self._at(np.flatnonzero(mask), offsets_of(mask)[self._offsets])

    def pairs(self) -> tuple[Flat, Flat]:
        """The first and the second objects of all pairs in each event, in the order (0, 1), (0, 2), ..., (1, 2), ..."""
        follow = np.repeat(self._offsets[1:], self.counts) - np.arange(1, self._offsets[-1] + 1)
        begin = offsets_of(follow)
        first = np.repeat(np.arange(len(follow)), follow)
        second = np.arange(begin[-1]) - begin[first] + first + 1
        offsets = begin[self._offsets]
        return self._at(first, offsets), self._at(second, offsets)

    def smallest(self, key: Array) -> _Index:
        """Position of the object with the smallest key in each event, the first one if there are several.

        Raises
        ------
        NanoMLError
            An event has no objects.
        """
        return self._extreme(key, np.fmin)

    def largest(self, key: Array) -> _Index:
        """As `smallest`, with the largest key."""
        return self._extreme(key, np.fmax)

    def _extreme(self, key: Array, better: np.ufunc) -> _Index:
        positions = self._offsets[:-1].copy()
        if not len(positions):
            return positions
        if not self.counts.all():
            raise NanoMLError("there is an event without objects to choose from: cut on their `counts` before.")
        best = better.reduceat(key, positions)
        found = np.flatnonzero(key == np.repeat(best, self.counts))[::-1]
        positions[self.event[found]] = found  # in reverse order: the first one in an event is set last
        return positions

    def at(self, positions: _Index) -> Flat:
        """One object of each event, at the positions that `smallest` or `largest` returned."""
        return self._at(positions, np.arange(len(positions) + 1))

    def with_columns(self, **columns: Numbers) -> Flat:
        """The same objects with more columns; a single number applies to all objects."""
        number = int(self._offsets[-1])
        made = {name: np.broadcast_to(values, number) for name, values in columns.items()}
        known = {name: getattr(self, name) for name in self._columns}
        return Flat({**known, **made}, self._offsets)

    @staticmethod
    def joined(one: Flat, other: Flat) -> Flat:
        """The objects of two collections, in each event those of `one` before those of `other`; the columns that both have."""
        return one._joined(other)

    def _joined(self, other: Flat) -> Flat:
        offsets = self._offsets + other._offsets
        place_one = np.arange(self._offsets[-1]) + np.repeat(other._offsets[:-1], self.counts)
        place_other = np.arange(other._offsets[-1]) + np.repeat(self._offsets[1:], other.counts)
        columns = {}
        for name in self._columns:
            if name in other._columns:
                values = getattr(self, name), getattr(other, name)
                columns[name] = np.empty(int(offsets[-1]), np.result_type(*values))
                columns[name][place_one], columns[name][place_other] = values
        return Flat(columns, offsets)

    @staticmethod
    def chosen(mask: NDArray[np.bool_], yes: Flat, no: Flat) -> Flat:
        """The objects of `yes` where a mask is true, else those of `no`; both have the same numbers of objects."""
        return yes._chosen(mask, no)

    def _chosen(self, mask: NDArray[np.bool_], no: Flat) -> Flat:
        columns = {
            name: np.where(mask, getattr(self, name), getattr(no, name))
            for name in self._columns
            if name in no._columns
        }
        return Flat(columns, self._offsets)

    def _at(self, positions: _Index, offsets: _Index) -> Flat:
        where = positions if self._where is None else self._where[positions]
        return Flat(self._columns, offsets, where)


class _Later(Mapping[str, Array]):
    """Columns by name, each of which a function makes on first use."""

    def __init__(self, makers: Mapping[str, Callable[[], Array]], branches: Set[str]) -> None:
        self._makers, self.branches = makers, branches
        self._made: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _fixed(array: Array) -> Array:
    """An array that cannot be changed: a selection gets the same one under several shifts."""
    array.flags.writeable = False
    return array


def vector_package() -> ModuleType:
    """The package vector; the first call imports it.

    It imports sympy, if that is installed, for vectors whose components are formulas. That takes longer than everything
    else in a short job, and no array of events has such components. So sympy is hidden meanwhile, unless it was imported
    before: `vector.VectorSympy` is None in this process, as without sympy.
    """
    if "sympy" in sys.modules or "vector" in sys.modules:
        return importlib.import_module("vector")
    sys.modules["sympy"] = None  # type: ignore[assignment]  # Python takes this for a module that is not there
    try:
        return importlib.import_module("vector")
    finally:
        del sys.modules["sympy"]


@cache
def _four_vectors() -> dict[Any, Any]:
    """The behaviour of four-vectors, but a branch comes first: FatJet_tau2 is not the square of a proper time."""
    known = vector_package().backends.awkward.behavior
    return {**known, **{key: _with_fields(known[key]) for key in ("Momentum4D", ("*", "Momentum4D"))}}


def _with_fields(cls: Any) -> Any:
    def own(name: str) -> property:
        inherited = getattr(cls, name)
        return property(lambda self: self[name] if name in self.fields else inherited.__get__(self))

    names = [name for name in dir(cls) if isinstance(getattr(cls, name), property) and not hasattr(ak.Array, name)]
    return type(cls.__name__, (cls,), {name: own(name) for name in names if not hasattr(ak.Record, name)})


def zipped(fields: Mapping[str, ak.Array], name: str | None) -> ak.Array:
    """One array of records, as `ak.zip` makes it, which takes longer because it allows for all kinds of arrays."""
    layouts = [array.layout for array in fields.values()]
    behavior = _four_vectors() if name else None
    if not all(map(is_plain, layouts)) or not all(
        same_lists(layout.offsets, layouts[0].offsets) for layout in layouts[1:]
    ):
        return ak.zip(dict(fields), with_name=name, behavior=behavior)
    parameters = {"__record__": name} if name else None
    records = ak.contents.RecordArray([each.content for each in layouts], list(fields), parameters=parameters)
    return ak.Array(ak.contents.ListOffsetArray(layouts[0].offsets, records), behavior=behavior)
