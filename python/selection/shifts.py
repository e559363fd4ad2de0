"""Shifts of objects, under which a selection goes on from its last checkpoint before the shift matters.

Python cannot enter a function in the middle. But after a cut, a selection needs nothing but what the cut narrowed, since anything
from before has entries for other events. So up to that cut it runs without any events, which takes next to no time, and the cut
returns what it returned in the nominal run. And since it treats each event by itself, the events under several shifts are selected
at once, one shift after the other, as if they were so many other events: most of what awkward takes is for the call, not the events.
After the last cut, numbers of events under all shifts are the rows of one array, and what depends on none of them is computed once.
A selection that needs more fails because lengths differ, or gives another result for the nominal events, which are selected with the
first shifts of a file; then each shift is selected by itself, as a whole.
"""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Weight
from MLTools.NanoML.rootio.lists import Mask
from MLTools.NanoML.selection.cutflow import Cutflow, Place
from MLTools.NanoML.selection.selected import Selected, Shift, is_same, joined

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
    kept: tuple[Any, ...]

    def is_free_of(self, branches: Set[str], events: Events) -> bool:
        """Whether what was kept has, and will have, no values of these branches, but for the events themselves."""
        return all(self._is_free(each, branches, events) for each in self.kept)

    def _is_free(self, kept: object, branches: Set[str], events: Events) -> bool:
        if isinstance(kept, Events):
            return np.array_equal(kept.rows, self.cutflow.rows) and not kept.differing(events)
        if isinstance(kept, Flat):
            return not kept.later & branches
        return isinstance(kept, (np.ndarray, ak.Array))


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

    def __init__(self, checkpoint: Checkpoint, events: Events, copies: int, begun: int) -> None:
        then = checkpoint.cutflow
        super().__init__(np.zeros(0), then.declared, then.weighs)
        self._ahead: Cutflow | None = None
        for step in then.steps[1 : begun + 1]:
            self.cut(step.cut, np.zeros(0, bool))
        self._ahead = then.repeated(copies)
        every = np.tile(np.arange(len(then.rows)), copies)
        # a selection may change what it gets: these are copies
        self._kept = tuple(events if isinstance(each, Events) else each[every] for each in checkpoint.kept)

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
"""How many events must be selected in another way with the same result, so that this way is taken for the rest of a file."""
MOST_EVENTS = 200_000
"""How many events are selected at once under several shifts."""
LEAST_COPIES = 3
"""Under how many shifts, at least: fewer take no less time than one by one, and more memory."""


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

    @property
    def asked_for_shift(self) -> bool:
        """Whether it was asked under which shift the events are."""
        return "" in self._places

    def forget(self) -> None:
        """Keep no events in memory: they refer to this, and this to the checkpoints that have them."""
        self._places.clear()
        self._cutflow.checkpoint = None


Ways = dict[tuple[int, int, bool, bool], bool]
"""Whether the nominal result is the same if events of several shifts are selected at once: by the cuts and weights that come
before, whether it is the columns alone, side by side, and whether from the checkpoint there."""


@dataclass(frozen=True)
class _Place:
    """The selection of events under shifts of which all make no difference before a place in the cut flow."""

    select: Callable[[Events, Cutflow], Selected]
    place: PlaceAfterCheckpoint
    whole: CheckpointCutflow  # the nominal cut flow
    begun: int  # how many cuts came before `select`
    nominal: Events  # those that are left there
    repeated: dict[int, Events] = field(default_factory=dict)  # the same so many times

    def jointly(self, parts: Sequence[Events], checkpoint: Checkpoint | None) -> list[Selected] | None:
        """The result of each part; None if the selection cannot do that, or makes a mistake, which `alone` tells."""
        rows, copies = self.place.rows, len(parts)
        if copies not in self.repeated:
            self.repeated[copies] = self.nominal.repeated(rows, copies)
        events = self.repeated[copies].under_all(parts)
        base = self.whole.restarted(self.begun, rows) if checkpoint is None else checkpoint.cutflow
        try:
            if checkpoint is None:
                found = self.select(events, base.repeated(copies))
            else:
                resumed = _ResumedCutflow(checkpoint, events, copies, self.begun)
                found = self.select(events[np.zeros(0, np.int64)], resumed)
                if resumed.is_ahead:
                    return None
            parts_of = found.cutflow.parts(base, copies)
            flows = parts_of if checkpoint is not None else [self.whole.followed_by(it, self.place) for it in parts_of]
        except NanoMLError:
            return None
        ends = found.rows.searchsorted(np.arange(copies + 1) * len(rows)).tolist()
        results = []
        for number, flow in enumerate(flows):
            some = slice(ends[number], ends[number + 1])
            columns = {name: values[some] for name, values in found.columns.items()}
            results.append(Selected(rows[found.rows[some] - number * len(rows)], columns, flow))
        return results

    def beside(
        self, parts: Sequence[Events], checkpoint: Checkpoint | None, nominal: Selected
    ) -> list[Selected] | None:
        """As `jointly`, where no cut and no weight follows: numpy computes once what depends on no branch with values of each part."""
        events, none = self.nominal.beside(parts), np.zeros(0, np.int64)
        follow = self.whole.restarted(self.begun, self.place.rows)
        if checkpoint is not None:
            events, follow = self.nominal[none], _ResumedCutflow(checkpoint, events, 1, self.begun)
        follow.beside = len(parts)
        try:
            found = self.select(events, follow)
        except NanoMLError as problem:
            traceback.clear_frames(problem.__traceback__)  # which would keep the events until garbage is collected
            return None
        several = {name: each for name, each in found.columns.items() if isinstance(each, np.ndarray) and each.ndim > 1}
        if len(found.rows) != len(nominal.rows) or len(parts) == len(nominal.rows):
            return None
        columns = ({name: each[number] for name, each in several.items()} for number in range(len(parts)))
        return [Selected(nominal.rows, {**nominal.columns, **each}, nominal.cutflow) for each in columns]

    def alone(self, shift: Shift, events: Events) -> Selected:
        """The result under one shift, from the beginning."""
        try:
            again = self.select(events, self.whole.restarted(self.begun, self.place.rows))
            return Selected(again.rows, again.columns, self.whole.followed_by(again.cutflow, self.place))
        except NanoMLError as problem:
            raise NanoMLError(f"{problem} That is under the shift {shift}.") from None


def select_under_shifts(
    select: Callable[[Events, Cutflow], Selected],
    events: Events,
    cutflow: CheckpointCutflow,
    shifted: dict[Shift, Events],
    varied: Mapping[Shift, Sequence[Mapping[str, str]]],
    ways: Ways,
) -> Selected:
    """Select nominally and under each shift, and join the results.

    Up to the place where a selection first uses a branch that a shift changes, the shift makes no difference. So only what
    follows is done again, for the events that are left there, of several shifts at once: from the last cut before that place on,
    if the selection can go on from there; else from the beginning.

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
    ways
        What is known of the events of the same file that came before; more is added.
    """
    begun = cutflow.place.cuts
    changes = {shift: each.differing(events) for shift, each in shifted.items()}
    uses = FirstUses(cutflow)
    nominal = select(events.watched(set().union(*changes.values()), uses), cutflow)
    found: dict[Shift, Selected] = {}
    groups: dict[tuple[int, int], list[Shift]] = {}
    for shift, branches in changes.items():
        place = uses.first(branches)
        if place is None:
            found[shift] = nominal
        else:
            groups.setdefault((place.cuts, place.weights), []).append(shift)
    known, end = dict(ways), cutflow.place
    for key, group in groups.items():
        branches = set().union(*(changes[shift] for shift in group))
        place = uses.first(branches)
        assert place is not None
        then, unshifted = place.checkpoint, events.under("", place.rows)
        at = _Place(select, place, cutflow, begun, unshifted)
        is_free = then is not None and place.cuts > begun and then.is_free_of(branches, events)
        checkpoints = [then, None] if is_free else [None]
        # the first that is proven: all columns side by side if nothing else follows, then one shift after the other
        tries = [(False, checkpoint) for checkpoint in checkpoints]
        if key == (end.cuts, end.weights):
            tries.insert(0, (True, checkpoints[0]))
        most = MOST_EVENTS // max(len(place.rows), 1)
        most = 1 if uses.asked_for_shift or most < LEAST_COPIES else most
        while group:
            some, group = group[:most], group[most:]
            parts = [shifted.pop(shift).under(str(shift), place.rows) for shift in some]
            results = None
            for is_beside, checkpoint in tries:
                way = (*key, is_beside, checkpoint is not None)
                is_one = len(parts) == 1 and (is_beside or checkpoint is None)
                if results is not None or not known.get(way, True) or is_one:
                    continue
                select_all = partial(at.beside, nominal=nominal) if is_beside else at.jointly
                if way not in known:
                    results = select_all([unshifted, *(parts if most > 1 else [])], checkpoint)
                    known[way] = results is not None and _repeats(nominal, results.pop(0))
                    results = results if known[way] and most > 1 else None
                if results is None and known[way]:
                    results = select_all(parts, checkpoint)
            found.update(zip(some, results or map(at.alone, some, parts)))
        if len(place.rows) >= LEAST_EVENTS:
            ways.update({way: is_same for way, is_same in known.items() if way[:2] == key})
    uses.forget()
    return joined(nominal, {shift: found[shift] for shift in changes}, varied)


def _repeats(one: Selected, other: Selected | None) -> bool:
    """Whether the result of a selection that went on from a checkpoint is that of the whole one."""
    if other is None or one.cutflow.steps != other.cutflow.steps or not np.array_equal(one.rows, other.rows):
        return False
    return all(is_same(values, other.columns[name]) for name, values in one.columns.items())
