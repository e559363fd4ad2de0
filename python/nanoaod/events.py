"""Events as a selection sees them: `events.Muon.pt`, `events.MET.pt`, `events.HLT.Mu50`, `events.run`, `events.flat("Muon")`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar
from weakref import ref

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.flat import COMPONENTS, Flat, zipped
from MLTools.NanoML.nanoaod.replaced import Beside, Picked, Replacement, is_same, of_parts, refuse
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.lists import (
    Array,
    Arrays,
    Entries,
    Lists,
    Numbers,
    in_double_precision,
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
        self._picked: Picked | None = None  # None for all events of the chunk
        # where each event is in the chunk, if they are there several times
        self._origin: NDArray[np.int64] | None = None
        self._made: dict[str, Entries] = {}
        self._exact: dict[str, Entries] = {}
        self._read: dict[str, tuple[dict[str, Array], NDArray[np.int64]]] = {}  # the columns of flat collections
        self._replaced: dict[str, Replacement] = {}
        self._shift = ""
        self._last: list[Picked] = []  # what was picked `_again` of the chunk, the last first
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
        return self._at(Picked(self.rows[np.asarray(what)], self._origin))

    def _at(self, picked: Picked) -> Events:
        """The events at positions in the chunk."""
        made = self._copy()
        made._picked, made._length = picked, len(picked.rows)
        return made

    def _again(self, rows: NDArray[np.int64]) -> Events:
        """As `_at`, for positions that are picked several times: they share what was converted and computed."""
        known = next((each for each in self._last if is_same(each.rows, rows)), None)
        if known is None:
            known = Picked(rows, self._origin, is_shared=True)
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
        made._replaced = {**self._replaced, **dict.fromkeys(names, Replacement(self, values))}
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
        made._used = refuse if copies > 1 else None
        return made._again(np.arange(len(rows)))

    def under_all(self, parts: Sequence[Events]) -> Events:
        """Events that are `repeated`, each part of them under a shift.

        What depends on the shift by more than the values of branches, as `before` and `shift`, is an error of them.
        """
        made = self._copy()
        made._shift = parts[0]._shift
        values = partial(of_parts, parts, offsets_of(np.array([len(part) for part in parts])))
        names = {name for part in parts for name in part._replaced}
        made._replaced = {name: Replacement(self, partial(values, name)) for name in names}
        return made

    def beside(self, parts: Sequence[Events]) -> Events:
        """The same events, with the values of all parts in branches that have a number for each event: shape (parts, events).

        Lists that differ, and what depends on the shift by more than the values of branches, are an error of them.
        """
        made = self._copy()
        names = set().union(*(part.differing(self) for part in parts))
        made._watched, made._used = frozenset(names & self._collections.keys()), refuse
        made._replaced = {**self._replaced, **dict.fromkeys(names, Beside(parts))}
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
            return zipped(fields, "Momentum4D" if is_vector else None)
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


def _check_list(method: str, names: Sequence[str]) -> None:
    if isinstance(names, str):
        raise NanoMLError(f'events.{method}: takes a list of branches. Write ["{names}"] instead of "{names}".')
