"""Shifts of objects, under which a selection goes on from its last checkpoint before the shift matters.

Python cannot enter a function in the middle. But after a cut, a selection needs nothing but what the cut narrowed, since anything
from before has entries for other events. So up to that cut it runs without any events, which takes next to no time, and the cut
returns what it returned in the nominal run. A selection that needs more fails because lengths differ, or gives another result for
the nominal events; it is repeated as a whole.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeVar

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.fileaccounting import SELECTED, ShiftSums, under_shift
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Weight
from MLTools.NanoML.rootio.lists import Entries, Mask
from MLTools.NanoML.selection.cutflow import Cutflow, Place

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a selection after a cut.

    Attributes
    ----------
    cutflow
        The cut flow as it was then.
    kept
        What the cut returned.
    """

    cutflow: Cutflow
    kept: tuple[object, ...]

    def is_free_of(self, branches: Set[str], events: Events) -> bool:
        """Whether what was kept has, and will have, no values of these branches, but for the events themselves."""
        return all(self._is_free(each, branches, events) for each in self.kept)

    def _is_free(self, kept: object, branches: Set[str], events: Events) -> bool:
        if isinstance(kept, Events):
            return np.array_equal(kept.rows, self.cutflow.rows) and not kept.differing(events)
        if isinstance(kept, Flat):
            return not kept.later & branches
        return isinstance(kept, (np.ndarray, ak.Array))

    def resumed(self, select: Callable[[Events, Cutflow], T], events: Events, begun: int) -> T | None:
        """The result of `select` if it goes on from here with other events at the same positions.

        It is None if it cannot: it needs something else from before, or cannot do without events. `begun` is the number of cuts
        that came before `select`.
        """
        cutflow = _ResumedCutflow(self, events, begun)
        try:
            found = select(events[np.zeros(0, np.int64)], cutflow)
        except NanoMLError:
            return None
        return None if cutflow.is_ahead else found


@dataclass(frozen=True)
class PlaceAfterCheckpoint(Place):
    """A place in a cut flow, and the last checkpoint before it."""

    checkpoint: Checkpoint | None


class CheckpointCutflow(Cutflow):
    """A cut flow that keeps the last checkpoint."""

    checkpoint: Checkpoint | None = None

    @property
    def place(self) -> PlaceAfterCheckpoint:
        """How far it has come."""
        return PlaceAfterCheckpoint(len(self._masks), len(self._given), self.rows, self.checkpoint)

    def cut(self, name: str, mask: Mask, *narrowed: Any) -> Any:
        """As that of any cut flow."""
        kept = super().cut(name, mask, *narrowed)
        then = Cutflow(np.zeros(0), self.declared, self.weighs)
        then.go_on_from(self)
        self.checkpoint = Checkpoint(then, tuple(map(_copied, kept if len(narrowed) != 1 else (kept,))))
        return kept


class _ResumedCutflow(Cutflow):
    """A cut flow without events, which goes on from a checkpoint when it comes to its cut."""

    def __init__(self, checkpoint: Checkpoint, events: Events, begun: int) -> None:
        then = checkpoint.cutflow
        super().__init__(np.zeros(0), then.declared, then.weighs)
        self._ahead: Cutflow | None = None
        for step in then.steps[1 : begun + 1]:
            self.cut(step.cut, np.zeros(0, bool))
        self._ahead = then
        self._kept = tuple(events if isinstance(each, Events) else _copied(each) for each in checkpoint.kept)

    @property
    def is_ahead(self) -> bool:
        """Whether the checkpoint has not been reached."""
        return self._ahead is not None

    def cut(self, name: str, mask: Mask, *narrowed: Any) -> Any:
        """As that of any cut flow, but the last one before the checkpoint returns what was kept there."""
        kept = super().cut(name, mask, *narrowed)
        if self._ahead is None or len(self.steps) < len(self._ahead.steps):
            return kept
        if [each.cut for each in self.steps] != [each.cut for each in self._ahead.steps]:
            raise NanoMLError(f'cut "{name}": there are other cuts before it if there are no events.')
        self.go_on_from(self._ahead)
        things, self._ahead, self._kept = self._kept, None, ()
        return things[0] if len(things) == 1 else things


class _FirstCutError(Exception):
    """A selection came to its first cut."""


class _BeforeCuts(Cutflow):
    """A cut flow that ends at the first cut."""

    def cut(self, name: str, mask: Mask, *narrowed: Any) -> Any:
        """As that of any cut flow."""
        raise _FirstCutError


def weighed_before_cuts(
    select: Callable[[Events, Cutflow], object],
    events: Events,
    weights: NDArray[np.float64],
    declared: Mapping[str, Weight],
) -> Cutflow:
    """The cut flow of a selection with the weights that it gives before its first cut, of the declared ones."""
    cutflow = _BeforeCuts(weights, declared)
    if len(events):
        with contextlib.suppress(_FirstCutError):
            select(events, cutflow)
    return cutflow


def _copied(thing: object) -> object:
    """A copy of an array, which a selection may change; it changes nothing else."""
    return copy.copy(thing) if isinstance(thing, (np.ndarray, ak.Array)) else thing


LEAST_EVENTS = 1000
"""How many events must be left for a selection to go on from a checkpoint: with fewer, all is repeated as quickly."""


@dataclass(frozen=True)
class Shift:
    """One shift of objects in one direction."""

    name: str
    direction: str

    def __str__(self) -> str:
        return f"{self.name}_{self.direction}"

    @property
    def suffix(self) -> str:
        """The ending of names of columns: "jesUp"."""
        return f"{self.name}{self.direction.capitalize()}"

    def column(self, name: str, collection: str = "") -> str:
        """The column with the values of another one under this shift."""
        return under_shift(name, self.suffix, collection)


def each_shift(declared: Mapping[str, Sequence[str]]) -> Iterator[Shift]:
    """All shifts that a selection declares."""
    for name, directions in declared.items():
        for direction in directions:
            yield Shift(name, direction)


@dataclass(frozen=True)
class Selected:
    """Result of a selection on a chunk of events.

    Attributes
    ----------
    rows
        Positions of the events that passed, in the chunk, int64; with shifts, those that passed nominally or under one of them.
    columns
        Values of each column for these events, in the declared types: numpy arrays, and awkward arrays of lists for the columns
        of collections, GoodJet_pt. With shifts, `selected` and `selected_jesUp` say which events passed, and there are columns
        such as `ZCand_mass_jesUp` or `GoodJet_jesUp_pt` where some values differ. An event that passed only under shifts has
        the values of the first of these.
    cutflow
        Events and weights after each cut.
    shifts
        The cut flow under each shift, by the ending of its columns: "jesUp".
    """

    rows: NDArray[np.int64]
    columns: dict[str, Entries]
    cutflow: Cutflow
    shifts: dict[str, Cutflow] = field(default_factory=dict)

    def passed(self, suffix: str = "") -> NDArray[np.bool_]:
        """Which of the events passed: nominally, or under a shift given by the ending of its columns."""
        if not self.shifts:
            return np.ones(len(self.rows), bool)
        return np.asarray(self.columns[under_shift(SELECTED, suffix) if suffix else SELECTED])

    def shift_sums(self, chosen: NDArray[np.bool_] | None = None) -> list[ShiftSums]:
        """Cut flow and sums of weights under each shift; of some events of the chunk only, if a mask of shape (events,) says so."""
        found = []
        for suffix, cutflow in self.shifts.items():
            steps = list(cutflow.steps) if chosen is None else cutflow.steps_of(chosen)
            weights = [each.unvaried for each in cutflow.weight_sums(chosen)]
            found.append(ShiftSums(suffix, steps, weights))
        return found


class FirstUses:
    """Remembers where among the cuts a branch was first used."""

    def __init__(self, cutflow: CheckpointCutflow) -> None:
        self._cutflow = cutflow
        self._places: dict[str, PlaceAfterCheckpoint] = {}

    def __call__(self, branch: str) -> None:
        """A branch is used now; the empty name stands for all."""
        if branch not in self._places:
            self._places[branch] = self._cutflow.place

    def first(self, branches: set[str]) -> PlaceAfterCheckpoint | None:
        """Where the first of them was used; None if none was."""
        used = (self._places[name] for name in (*branches, "") if name in self._places)
        return min(used, key=lambda place: (place.cuts, place.weights), default=None)


def select_under_shifts(
    select: Callable[[Events, Cutflow], Selected],
    events: Events,
    cutflow: CheckpointCutflow,
    shifted: dict[Shift, Events],
    varied: Mapping[Shift, Sequence[Mapping[str, str]]],
) -> Selected:
    """Select nominally and under each shift, and join the results.

    Up to the place where a selection first uses a branch that a shift changes, the shift makes no difference. So only what
    follows is done again, for the events that are left there: from the last cut before that place on, if the selection can go on
    from there, which a nominal run shows; else from the beginning.

    Parameters
    ----------
    select
        Selects events, with the cut flow that counts them.
    events, cutflow
        The nominal events, and the cut flow that counts them.
    shifted
        The events under each shift.
    varied
        The columns that may have values of their own under each shift, in groups of those that have them together; by their
        names, and those under the shift.
    """
    begun = cutflow.place.cuts
    changes = {shift: each.differing(events) for shift, each in shifted.items()}
    uses = FirstUses(cutflow)
    nominal = select(events.watched(set().union(*changes.values()), uses), cutflow)
    found: dict[Shift, Selected] = {}
    trusted: dict[int, bool] = {}  # the checkpoints with which the nominal result is the same
    for shift, branches in changes.items():
        place = uses.first(branches)
        if place is None:
            found[shift] = nominal
            continue
        left = shifted.pop(shift).under(str(shift), place.rows)  # its values are free when the next shift makes its own
        then = place.checkpoint
        is_worth_it = place.cuts > begun and len(place.rows) >= LEAST_EVENTS
        if then is not None and is_worth_it and then.is_free_of(branches, events):
            if id(then) not in trusted:
                trusted[id(then)] = _repeats(nominal, then.resumed(select, events.under("", place.rows), begun))
            resumed = then.resumed(select, left, begun) if trusted[id(then)] else None
            if resumed is not None:
                found[shift] = resumed
                continue
        try:
            again = select(left, cutflow.restarted(begun, place.rows))
            found[shift] = Selected(again.rows, again.columns, cutflow.followed_by(again.cutflow, place))
        except NanoMLError as problem:
            raise NanoMLError(f"{problem} That is under the shift {shift}.") from None
    return _joined(nominal, found, varied)


def _joined(
    nominal: Selected, shifted: Mapping[Shift, Selected], varied: Mapping[Shift, Sequence[Mapping[str, str]]]
) -> Selected:
    """The events that pass nominally or under a shift."""
    rows = nominal.rows
    for each in shifted.values():
        if not np.array_equal(each.rows, rows):
            rows = np.union1d(rows, each.rows)
    places = {shift: rows.searchsorted(each.rows) for shift, each in shifted.items()}
    flags = {SELECTED: _flag(rows.searchsorted(nominal.rows), len(rows))}
    flags.update({shift.column(SELECTED): _flag(place, len(rows)) for shift, place in places.items()})
    columns = _first_values([nominal, *shifted.values()], rows)
    differing = {}
    for shift, each in shifted.items():
        place = places[shift]
        for group in varied[shift] if each is not nominal else ():
            if not all(_is_same(_at(columns[of], place), each.columns[of]) for of in group):
                differing.update({name: _changed(columns[of], place, each.columns[of]) for of, name in group.items()})
    cutflows = {shift.suffix: each.cutflow for shift, each in shifted.items()}
    return Selected(rows, {**columns, **flags, **differing}, nominal.cutflow, cutflows)


def _flag(places: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """True at some places."""
    flag = np.zeros(length, bool)
    flag[places] = True
    return flag


def _first_values(selected: Sequence[Selected], rows: NDArray[np.int64]) -> dict[str, Entries]:
    """The columns for all rows, those of each row from the first result that has it."""
    missing, order, picked = np.ones(len(rows), bool), np.zeros(len(rows), np.int64), []
    count = 0
    for each in selected:
        places = rows.searchsorted(each.rows)
        fresh = missing[places]
        if fresh.any():
            picked.append((each, fresh))
            missing[places] = False
            order[places[fresh]] = count + np.arange(fresh.sum())
            count += int(fresh.sum())
    if not picked:
        return selected[0].columns
    parts = {name: [each.columns[name][fresh] for each, fresh in picked] for name in selected[0].columns}
    return {name: _concatenated(arrays)[order] for name, arrays in parts.items()}


def _at(column: Entries, places: NDArray[np.int64]) -> Entries:
    """A column at increasing places, which are often all."""
    return column if len(places) == len(column) else column[places]


def _changed(column: Entries, places: NDArray[np.int64], values: Entries) -> Entries:
    """A column with other values at some places."""
    if len(places) == len(column):
        return values
    order = np.arange(len(column))
    order[places] = len(column) + np.arange(len(places))
    return _concatenated([column, values])[order]


def _concatenated(arrays: Sequence[Entries]) -> Entries:
    """Arrays of numbers, or of lists of numbers, one after the other."""
    return np.concatenate(arrays) if isinstance(arrays[0], np.ndarray) else ak.concatenate(arrays)


def _repeats(one: Selected, other: Selected | None) -> bool:
    """Whether the result of a selection that went on from a checkpoint is that of the whole one."""
    if other is None or one.cutflow.steps != other.cutflow.steps or not np.array_equal(one.rows, other.rows):
        return False
    return all(_is_same(values, other.columns[name]) for name, values in one.columns.items())


def _is_same(one: Entries, other: Entries) -> bool:
    """Whether two columns of one length have the same numbers."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    same_counts = np.array_equal(ak.num(one), ak.num(other))
    return same_counts and np.array_equal(ak.flatten(one), ak.flatten(other))
