"""Events as a selection sees them: `events.Muon.pt`, `events.MET.pt`, `events.HLT.Mu50`, `events.run`, `events.flat("Muon")`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NoReturn, TypeVar
from weakref import ref

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.flat import COMPONENTS, Flat, vector_package
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.lists import (
    Array,
    Arrays,
    Entries,
    Lists,
    Numbers,
    Picker,
    Values,
    in_double_precision,
    is_plain,
    joined,
    offsets_of,
    same_lists,
)

T = TypeVar("T")

_POSITION = {"x", "y", "z"}
"""Fields of a secondary vertex, which package vector would take for its momentum: then these are no four-vectors."""


class Group:
    """The event-level branches that share a prefix: `events.MET` has `pt` and `phi`."""

    def __init__(self, events: Events, prefix: str) -> None:
        self._events, self._prefix = events, prefix

    def __getattr__(self, name: str) -> ak.Array:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._events[f"{self._prefix}_{name}"]

    def __dir__(self) -> list[str]:
        start = self._prefix + "_"
        return [name[len(start) :] for name in self._events.names if name.startswith(start)]


class Events:
    """Events under NanoAOD's own branch names.

    A jagged collection is one record array: `events.Muon.pt` is a list of muons' pt for each event, and
    `events.Muon` has the methods of a four-vector (package `vector`) if pt, eta, phi and mass were read. All
    floating-point numbers are float64, as in an event loop: masses are as exact as the file allows, and a cut does not
    depend on how its limit is rounded. Integers have the file's own types. Event-level branches are `events.MET.pt`
    (all that begin with `MET_`) or `events.run`; any branch is also `events["MET_pt"]`. `events[mask]` are the events
    that pass. `events.flat("Muon")` are the muons as plain numpy columns, which is faster.

    Parameters
    ----------
    arrays
        Branch name to array, all of one length.
    collections
        For the jagged branches, the collection that each belongs to.
    owner
        Name of the selection that reads these branches, for messages.

    Examples
    --------
    >>> events = Events({"MET_pt": np.array([30.0, 40.0]), "run": np.array([1, 1])}, {})
    >>> events[events.MET.pt > 35].MET.pt.tolist()
    [40.0]
    """

    def __init__(self, arrays: Arrays, collections: Mapping[str, str], owner: str = "") -> None:
        self._arrays, self._collections, self._owner = arrays, collections, owner
        self._length = len(next(iter(arrays.values()))) if arrays else 0
        self._picked: _Picked | None = None  # None for all events of the chunk
        self._origin: NDArray[np.int64] | None = (
            None  # where each event is in the chunk, if they are there several times
        )
        self._made: dict[str, Entries] = {}
        self._exact: dict[str, Entries] = {}
        self._read: dict[str, tuple[dict[str, Array], NDArray[np.int64]]] = {}  # the columns of flat collections
        self._replaced: dict[str, _Replacement] = {}
        self._shift = ""
        self._last: list[_Picked] = []  # what was picked `_again` of the chunk, the last first
        self._watched: frozenset[str] = frozenset()
        self._used: Callable[[str], None] | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "events are not taken one by one, and not unpacked. With nothing else to be narrowed, cut returns the events "
            "themselves: events = cutflow.cut(name, mask, events)"
        )

    @property
    def names(self) -> list[str]:
        """Names of the branches that were read."""
        return list(self._arrays)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Position of each event in the chunk that was read, int64."""
        return np.arange(self._length) if self._picked is None else self._picked.rows

    def __getitem__(self, what: Any) -> Any:
        """A branch by its name, or the events that a mask (or an array of positions) picks."""
        if isinstance(what, str):
            return self._branch(what)
        return self._at(_Picked(self.rows[np.asarray(what)], self._origin))

    def _at(self, picked: _Picked) -> Events:
        """The events at positions in the chunk."""
        made = self._copy()
        made._picked, made._length = picked, len(picked.rows)
        return made

    def _again(self, rows: NDArray[np.int64]) -> Events:
        """As `_at`, for positions that are picked several times: they share what was converted and computed."""
        known = next((each for each in self._last if _is_same(each.rows, rows)), None)
        if known is None:
            known = _Picked(rows, self._origin, is_shared=True)
        # two are kept: those with which a shift begins, and those that are left when the next branch is used
        self._last[:] = [known, *(each for each in self._last if each is not known)][:2]
        return self._at(known)

    def _copy(self) -> Events:
        """The same events, to be changed."""
        made = copy.copy(self)
        made._made = {}
        return made

    @property
    def shift(self) -> str:
        """The shift of objects under which a selection runs, as "jes_up"; empty for the nominal objects."""
        if self._used is not None:
            self._used("")
        return self._shift

    def replaced(self, names: Sequence[str], values: Callable[[Events], Mapping[str, Numbers]]) -> Events:
        """The same events with other values of some branches, as corrected momenta of jets.

        They are computed when one of them is first used, for the events that are left then.

        Parameters
        ----------
        names
            The branches, which were read.
        values
            A function of the events that are left, with their values so far. It returns the branches by name: one number for
            each event or, for lists, as many as the event has, in their order (an awkward array, or plain numbers as those of
            `flat`).

        Raises
        ------
        NanoMLError
            One of the branches was not read, or `names` is not a list.
        """
        _check_list("replaced", names)
        unknown = next((name for name in names if name not in self._arrays), None)
        if unknown is not None:
            raise self._unknown(unknown)
        made = self._copy()
        made._replaced = {**self._replaced, **dict.fromkeys(names, _Replacement(self, values))}
        return made

    def before(self, name: str) -> Events:
        """The same events with the values that the branches had before a branch was replaced; all as they are if it was not."""
        if name not in self._replaced:
            return self
        found = self._replaced[name].events
        if self._origin is not None and not found._replaced:
            raise NanoMLError(f"before {name} was replaced, events differ from shift to shift.")
        return found._again(self.rows)

    def once(self, function: Callable[..., T], reads: Sequence[str], *arguments: object) -> T:
        """`function(events, *arguments)`, computed once for all shifts under which the branches that it reads are the same.

        The last result of each function is kept until it gets other arguments.
        """
        _check_list("once", reads)
        results = self._picked.results if self._picked is not None else {}
        # only weak: what is replaced refers to events, and these to the results
        state = [*(each and ref(each) for each in map(self._replaced.get, reads)), *arguments]
        if function not in results or results[function][0] != state:
            results[function] = state, function(self, *arguments)
        return results[function][1]

    def differing(self, other: Events) -> set[str]:
        """The branches whose values are replaced otherwise in other events."""
        mine, others = self._replaced, other._replaced
        return {name for name in {**mine, **others} if mine.get(name) is not others.get(name)}

    def forget(self, other: Events) -> None:
        """Keep no values of the branches that differ from those of other events: they are computed again."""
        for name in self.differing(other) & self._replaced.keys():
            self._replaced[name].forget()

    def watched(self, names: Iterable[str], used: Callable[[str], None]) -> Events:
        """The same events, which call `used` with the name of a branch, one of `names`, whose values are asked for.

        The name is empty if it is asked under which shift they are.
        """
        made = self._copy()
        made._watched, made._used = frozenset(names), used
        return made

    def repeated(self, rows: NDArray[np.int64], copies: int) -> Events:
        """The events at positions in the chunk, which come so many times, with the values that were read, as if they were others."""
        made = self._copy()
        made._origin, made._last, made._replaced = rows, [], {}
        made._used = _refuse if copies > 1 else None
        return made._again(np.arange(len(rows)))

    def under_all(self, parts: Sequence[Events]) -> Events:
        """Events that are `repeated`, each part of them under a shift.

        What depends on the shift by more than the values of branches, as `before` and `shift`, is an error of them.
        """
        made = self._copy()
        made._shift = parts[0]._shift
        values = partial(_of_parts, parts, offsets_of(np.array([len(part) for part in parts])))
        names = {name for part in parts for name in part._replaced}
        made._replaced = {name: _Replacement(self, partial(values, name)) for name in names}
        return made

    def beside(self, parts: Sequence[Events]) -> Events:
        """The same events, with the values of all parts in branches that have a number for each event: shape (parts, events).

        Lists that differ, and what depends on the shift by more than the values of branches, are an error of them.
        """
        made = self._copy()
        names = set().union(*(part.differing(self) for part in parts))
        made._watched, made._used = frozenset(names & self._collections.keys()), _refuse
        made._replaced = {**self._replaced, **dict.fromkeys(names, _Beside(parts))}
        return made

    def under(self, shift: str, rows: NDArray[np.int64]) -> Events:
        """The events at positions in the chunk, under a shift of objects."""
        made = self._again(rows)
        made._shift = shift
        return made

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._made:
            made = self._make(name)
            if isinstance(made, Group):
                return made  # it refers to these events: kept, it would keep them in memory after their last use
            self._made[name] = made
        return self._made[name]

    def flat(self, name: str) -> Flat:
        """The objects of a jagged collection, those of all events in one row.

        Raises
        ------
        NanoMLError
            No such collection was read, or its branches have different numbers of objects.
        """
        members = self._members(name)
        if not members:
            raise self._unknown(name)
        flats = self._picked.flats if self._picked is not None and self._picked.is_shared else {}
        if name not in flats:
            flats[name] = self._flat(name, members)
        others = {
            branch[len(name) + 1 :] or name: branch
            for branch in members
            if branch in self._replaced or branch in self._watched
        }
        return flats[name].with_later(
            {field: (branch, partial(self._numbers, branch)) for field, branch in others.items()}
        )

    def _flat(self, name: str, members: Sequence[str]) -> Flat:
        """The objects with the values that were read."""
        if name not in self._read:
            columns, offsets = {}, None
            for branch in members:
                lists = Lists.of(self._arrays[branch])
                if offsets is not None and not same_lists(offsets, lists.offsets):
                    raise NanoMLError(
                        f"{self._owner or 'events'}: {branch} and the rest of {name} have different numbers of objects."
                    )
                columns[branch[len(name) + 1 :] or name], offsets = lists.numbers, offsets or lists.offsets
            assert offsets is not None
            self._read[name] = columns, np.asarray(offsets.data)
        whole = Flat(*self._read[name])
        return whole if self._picked is None else whole[self._picked.places]

    def _numbers(self, branch: str) -> Array:
        """The numbers of a list, those of all events in one row."""
        return Lists.of(self._branch(branch)).numbers

    def __dir__(self) -> list[str]:
        flat = {name.split("_")[0] for name in self._arrays if name not in self._collections}
        return sorted({*super().__dir__(), *self._collections.values(), *flat})

    def _branch(self, name: str) -> ak.Array:
        if name not in self._arrays:
            raise self._unknown(name)
        if name in self._watched and self._used is not None:
            self._used(name)
        if name in self._replaced:
            return self._replaced[name].get(name, self.rows)
        if name not in self._exact:
            self._exact[name] = in_double_precision(self._arrays[name])
        array, picked = self._exact[name], self._picked
        if picked is None:
            return array
        if not picked.is_shared:
            return picked.pick(array)
        if name not in picked.branches:
            picked.branches[name] = picked.pick(array)
        return picked.branches[name]

    def _make(self, name: str) -> Group | ak.Array:
        members = self._members(name)
        if name in self._arrays and members in ([], [name]):
            return self._branch(name)
        if members:
            fields = {branch[len(name) + 1 :]: self._branch(branch) for branch in members}
            is_vector = COMPONENTS.keys() <= fields.keys() and not _POSITION & fields.keys()
            return _zipped(fields, "Momentum4D" if is_vector else None)
        if any(branch.startswith(name + "_") for branch in self._arrays):
            return Group(self, name)
        raise self._unknown(name)

    def _members(self, name: str) -> list[str]:
        return [branch for branch, collection in self._collections.items() if collection == name]

    def _unknown(self, name: str) -> NanoMLError:
        known = {*self._arrays, *self._collections.values(), *(branch.split("_")[0] for branch in self._arrays)}
        return NanoMLError(
            f"{self._owner or 'events'}: `{name}` was not read. Add its branches to `branches` of the selection "
            f"(or to `optional`, if some files lack them).{versions.did_you_mean(name, known)}"
        )


def away_from(jets: ak.Array, *others: ak.Array | Flat, distance: float = 0.4) -> ak.Array:
    """A mask for jets that are far from other objects in eta and phi, such as selected leptons, which are jets, too.

    Parameters
    ----------
    jets
        `events.Jet`, with eta and phi.
    others
        Objects, as `events.Muon`, or those of `events.flat`.
    distance
        The least distance.

    Examples
    --------
    >>> jets = ak.Array([[{"eta": 0.0, "phi": 0.0}, {"eta": 2.0, "phi": 0.0}]])
    >>> muons = ak.Array([[{"eta": 0.1, "phi": 0.0}]])
    >>> away_from(jets, muons).tolist()
    [[False, True]]
    """
    if hasattr(jets, "_called"):  # a selection is being compiled
        return jets._called("nanoml", away_from, (jets, *others), {"distance": distance})
    eta, phi = Lists.of(jets.eta), Lists.of(jets.phi)
    offsets = np.asarray(eta.offsets.data)
    event = np.repeat(np.arange(len(eta)), np.diff(offsets))
    is_far = np.ones(len(event), bool)
    for each in others:
        if isinstance(each, Flat):
            ends, other_eta, other_phi = offsets_of(each.counts), each.eta, each.phi
        else:
            lists = Lists.of(each.eta)
            ends, other_eta, other_phi = np.asarray(lists.offsets.data), lists.numbers, Lists.of(each.phi).numbers
        for number in range(np.diff(ends).max(initial=0)):
            jet = np.flatnonzero((np.diff(ends) > number)[event])
            other = ends[event[jet]] + number
            along = eta.numbers[jet] - other_eta[other]
            near = np.flatnonzero(~(along**2 >= distance**2))  # few of them need phi
            across = (phi.numbers[jet[near]] - other_phi[other[near]] + np.pi) % (2 * np.pi) - np.pi
            is_far[jet[near[~(along[near] ** 2 + across**2 >= distance**2)]]] = False
    return Lists(eta.offsets, is_far).array()


class _Picked:
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


class _Replacement:
    """Other values of some branches, computed for the events for which they are first asked."""

    def __init__(self, events: Events, values: Callable[[Events], Mapping[str, Numbers]]) -> None:
        self.events, self._function = events, values
        self.forget()

    def forget(self) -> None:
        """Keep no values."""
        self._rows: NDArray[np.int64] = np.arange(0)
        self._values: dict[str, ak.Array] | None = None
        self._some: tuple[NDArray[np.int64], Picker, dict[str, ak.Array]] | None = None  # values of some of these

    def get(self, name: str, rows: NDArray[np.int64]) -> ak.Array:
        """A branch for the events at positions in the chunk."""
        if self._values is not None and _is_same(self._rows, rows):
            return self._value(name)
        if self._some is None or not _is_same(self._some[0], rows):
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

    def _checked(self, name: str, values: Numbers, left: Events) -> ak.Array:
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


class _Beside(_Replacement):
    """The values of several parts, in two dimensions."""

    def __init__(self, parts: Sequence[Events]) -> None:
        super().__init__(parts[0], lambda _: {})
        self._parts = parts

    def get(self, name: str, rows: NDArray[np.int64]) -> ak.Array:
        """A branch for the events that all parts have."""
        if not np.array_equal(rows, self.events.rows):
            _refuse(name)
        known = self._values = self._values or {}
        if name not in known:
            known[name] = ak.Array(np.stack([np.asarray(part._branch(name)) for part in self._parts]))
        return known[name]


def _check_list(method: str, names: Sequence[str]) -> None:
    if isinstance(names, str):
        raise NanoMLError(f'events.{method}: takes a list of branches. Write ["{names}"] instead of "{names}".')


def _is_same(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return one is other or np.array_equal(one, other)


def _refuse(_name: str) -> NoReturn:
    raise NanoMLError("the events are those under several shifts.")


def _of_parts(parts: Sequence[Events], begins: NDArray[np.int64], name: str, left: Events) -> dict[str, Numbers]:
    """A branch of what is left of events that were `repeated`, each part from one of `begins` to the next."""
    ends = left.rows.searchsorted(begins).tolist()
    places = left._picked.places if left._picked is not None else left.rows
    found: list[Values] = []
    for part, begin, end in zip(parts, ends, ends[1:]):
        if begin < end:
            array = part._again(places[begin:end])._branch(name)
            is_flat = isinstance(array.layout, ak.contents.NumpyArray)
            found.append(np.asarray(array) if is_flat else Lists.of(array) if is_plain(array.layout) else array)
    whole = joined(found) if found else left._branch(name)
    return {
        name: ak.Array(whole) if isinstance(whole, np.ndarray) else whole.array() if isinstance(whole, Lists) else whole
    }


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


def _zipped(fields: Mapping[str, ak.Array], name: str | None) -> ak.Array:
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
