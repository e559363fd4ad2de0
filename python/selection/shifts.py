"""Shifts of objects, under which a selection goes on from its last checkpoint before the shift matters.

Python cannot enter a function in the middle. But after a cut, a selection needs nothing but what the cut narrowed, since anything
from before has entries for other events. So up to that cut it runs without any events, which takes next to no time, and the cut
returns what it returned in the nominal run. And since it treats each event by itself, the events under several shifts are selected
at once, one shift after the other, as if they were so many other events: most of what awkward takes is for the call, not the events.
After the last cut, numbers of events under all shifts are the rows of one array, and what depends on none of them is computed once.
Where many events are left at a cut that narrows nothing but events, each shift decides which of them pass, and what follows is done
once for the events that pass under any shift, up to where a shift matters again.
A selection that needs more fails because lengths differ, or gives another result for the nominal events, which are selected with the
first shifts of a file; then each shift is selected by itself, as a whole.
"""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.events import Events
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import Weight
from MLTools.NanoML.rootio.lists import Mask, offsets_of
from MLTools.NanoML.selection.cutflow import Cutflow, ReachedError
from MLTools.NanoML.selection.selected import Selected, Shift, is_same, joined


@dataclass(frozen=True)
class Checkpoint:
    """The state of a selection after a cut: the cut flow as it was then, and what the cut returned."""

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
class Place:
    """A place in a cut flow: the cut flow as it was there, and the last checkpoint before it."""

    cutflow: Cutflow
    checkpoint: Checkpoint | None


class CheckpointCutflow(Cutflow):
    """A cut flow that keeps the last checkpoint."""

    checkpoint: Checkpoint | None = None

    def cut(self, name: str, mask: Mask, *narrowed: Any) -> Any:
        """As that of any cut flow."""
        kept = super().cut(name, mask, *narrowed)
        self.checkpoint = Checkpoint(self.copied(), tuple(map(_copied, kept if len(narrowed) != 1 else (kept,))))
        return kept


class _ResumedCutflow(Cutflow):
    """A cut flow without events, which goes on from a checkpoint when it comes to its cut; `ahead` is the cut flow there until then."""

    def __init__(self, checkpoint: Checkpoint, events: Events, places: NDArray[np.int64] | None, begun: int) -> None:
        then = checkpoint.cutflow
        super().__init__(np.zeros(0), then.declared, then.weighs)
        self.ahead: Cutflow | None = None
        for step in then.steps[1 : begun + 1]:
            self.cut(step.cut, np.zeros(0, bool))
        self.ahead = then if places is None else then.repeated(places)
        # a selection may change what it gets: these are copies
        self._kept = tuple(events if isinstance(each, Events) else each[places] for each in checkpoint.kept)

    def cut(self, name: str, mask: Mask, *narrowed: Any) -> Any:
        """As that of any cut flow, but the last one before the checkpoint returns what was kept there."""
        kept = super().cut(name, mask, *narrowed)
        if self.ahead is None or len(self.steps) < len(self.ahead.steps):
            return kept
        if [each.cut for each in self.steps] != [each.cut for each in self.ahead.steps]:
            raise NanoMLError(f'cut "{name}": there are other cuts before it if there are no events.')
        self.go_on_from(self.ahead)
        things, self.ahead, self._kept = self._kept, None, ()
        return things[0] if len(things) == 1 else things


class _UnionCutflow(CheckpointCutflow, _ResumedCutflow):
    """A cut flow that goes on from a checkpoint, and keeps the last one from then on."""


def weighed_before_cuts(
    select: Callable[[Events, Cutflow], object],
    events: Events,
    weights: NDArray[np.float64],
    declared: Mapping[str, Weight],
) -> Cutflow:
    """The cut flow of a selection with the weights that it gives before its first cut, of the declared ones."""
    cutflow = Cutflow(weights, declared)
    cutflow.until = 0
    if len(events):
        with contextlib.suppress(ReachedError):
            select(events, cutflow)
    return cutflow


def _copied(thing: object) -> object:
    """A copy of an array, which a selection may change; it changes nothing else."""
    return copy.copy(thing) if isinstance(thing, (np.ndarray, ak.Array)) else thing


_NONE = np.zeros(0, np.int64)
LEAST_EVENTS = 1000
"""How many events must be selected in another way with the same result, so that this way is taken for the rest of a file."""
MOST_EVENTS = 200_000
"""How many events are selected at once under several shifts."""
MANY_EVENTS = 20_000
"""From how many on each shift is selected by itself up to the next cut, and what follows once, if that is possible."""
LEAST_COPIES = 3
"""Under how many shifts, at least: fewer take no less time than one by one, and more memory."""


class FirstUses:
    """Remembers where among the cuts a branch was first used."""

    def __init__(self, cutflow: CheckpointCutflow) -> None:
        self._cutflow = cutflow
        self._places: dict[str, Place] = {}

    def __call__(self, branch: str) -> None:
        """A branch is used now; the empty name stands for all."""
        if branch not in self._places:
            self._places[branch] = Place(self._cutflow.copied(), self._cutflow.checkpoint)

    def first(self, branches: set[str]) -> Place | None:
        """Where the first of them was used; None if none was."""
        used = (self._places[name] for name in (*branches, "") if name in self._places)
        return min(used, key=lambda place: place.cutflow.progress, default=None)

    @property
    def asked_for_shift(self) -> bool:
        """Whether it was asked under which shift the events are."""
        return "" in self._places

    def forget(self) -> None:
        """Keep no events in memory: they refer to this, and this to the checkpoints that have them."""
        self._places.clear()
        self._cutflow.checkpoint = None


Ways = dict[tuple[int, int, str, bool], bool]
"""Whether the nominal result is the same if events of several shifts are selected at once: by the cuts and weights that come
before, the method of `_Place`, and whether from the checkpoint there."""


def _end(_branch: str) -> NoReturn:
    raise ReachedError


@dataclass(frozen=True)
class _Place:
    """The selection of events under shifts of which all make no difference before a place in the cut flow."""

    select: Callable[[Events, Cutflow], Selected]
    then: Cutflow  # the nominal cut flow there
    whole: CheckpointCutflow  # and at the end
    begun: int  # how many cuts came before `select`
    nominal: Events  # those that are left there
    repeated: dict[int, Events] = field(default_factory=dict)  # the same so many times

    def jointly(
        self, parts: Sequence[Events], checkpoint: Checkpoint | None, of: Sequence[Cutflow] = ()
    ) -> list[Selected] | None:
        """The result of each part; None if the selection cannot do that, or makes a mistake, which `alone` tells.

        `of` are the cut flows of the parts at the checkpoint, if they have not all of the events.
        """
        begins = offsets_of(np.array([len(part) for part in parts]))
        rows = np.concatenate([part.rows for part in parts])
        if of or len(parts) not in self.repeated:
            self.repeated[len(parts)] = self.nominal.repeated(rows, len(parts))
        events, base = self.repeated[len(parts)].under_all(parts), self.then
        if checkpoint is None:
            found = self._tried(events, self.whole.restarted(self.begun, rows))
            is_alike = found is not None and found.cutflow.steps[base.progress[0]].events == len(rows)
        else:
            base, places = checkpoint.cutflow, self.then.rows.searchsorted(rows)
            resumed = _ResumedCutflow(checkpoint, events, places, self.begun)
            found, is_alike = self._tried(events[_NONE], resumed), resumed.ahead is None
        if found is None or not is_alike:
            return None
        before, after = (each.tolist() for each in (begins, found.rows.searchsorted(begins)))
        found = replace(found, rows=rows[found.rows])
        some = zip(of or [base] * len(parts), map(slice, before, before[1:]), map(slice, after, after[1:]))
        return [_some(found, left, found.cutflow.part(flow, then)) for flow, then, left in some]

    def beside(
        self, parts: Sequence[Events], checkpoint: Checkpoint | None, nominal: Selected | None = None
    ) -> list[Selected] | None:
        """As `jointly`, where no cut and no weight follows: numpy computes once what depends on no branch with values of each part."""
        begin, follow = self._begin(self.nominal.beside(parts), checkpoint)
        follow.beside = len(parts)
        found = self._tried(begin, follow)
        base = nominal or found
        if found is None or base is None or len(found.rows) != len(base.rows) or len(parts) == len(base.rows):
            return None
        several = {name: each for name, each in found.columns.items() if isinstance(each, np.ndarray) and each.ndim > 1}
        columns = ({name: each[number] for name, each in several.items()} for number in range(len(parts)))
        return [Selected(base.rows, {**base.columns, **each}, base.cutflow) for each in columns]

    def united(
        self, parts: Sequence[Events], checkpoint: Checkpoint | None, branches: Set[str]
    ) -> list[Selected] | None:
        """As `jointly`, for many events, if the next cut narrows nothing but them.

        What follows is done once, for the events that pass it under any shift, up to the next use of these branches.
        """
        then, passed = self.then, []
        for each in parts:
            part = each.under(each.shift, then.rows)  # what is made of it is not kept
            begin, ending = self._begin(part, checkpoint)
            ending.until = then.progress[0]
            try:
                self._tried(begin, ending)
                return None
            except ReachedError as reached:
                name, mask, narrowed = reached.args
            is_alike = ending.progress == then.progress and len(mask) == len(part)
            if not is_alike or any(not isinstance(it, Events) or it.differing(part) for it in narrowed):
                return None
            passed.append(mask)
            part.forget(self.nominal)
        union = then.copied()
        union.cut(name, np.any(passed, axis=0))
        events = self.nominal.under("", union.rows).watched(branches, _end)
        follow = _UnionCutflow(Checkpoint(union, (events,) * len(narrowed)), events, None, self.begun)
        try:
            once = self._tried(self.nominal[_NONE], follow)
            if once is None or follow.ahead is not None:
                return None
            results = [once] * len(parts)
        except ReachedError:
            at, flow = follow.checkpoint, follow.copied()
            if follow.ahead is not None or at is None or not at.is_free_of(branches, events):
                return None
            rest = _Place(self.select, flow, self.whole, self.begun, self.nominal.under("", flow.rows))
            is_last = flow.progress == self.whole.progress
            beside = rest.beside([part.under(part.shift, flow.rows) for part in parts], at) if is_last else None
            if beside is None:
                inside, most = then.rows.searchsorted(flow.rows), max(MOST_EVENTS // max(len(flow.rows), 1), 1)
                parts = [part.under(part.shift, flow.rows[mask[inside]]) for part, mask in zip(parts, passed)]
                of = [at.cutflow.part(then, slice(None), mask) for mask in passed]
                blocks = [slice(first, first + most) for first in range(0, len(parts), most)]
                several = [rest.jointly(parts[block], at, of[block]) for block in blocks]
                return None if None in several else [each for found in several if found for each in found]
            results = beside
        inside, some = then.rows.searchsorted(results[0].rows), zip(results, passed)  # they have the same rows
        return [_some(it, np.flatnonzero(m[inside]), it.cutflow.part(then, slice(None), m)) for it, m in some]

    def alone(self, shift: Shift, events: Events) -> Selected:
        """The result under one shift, from the beginning."""
        try:
            again = self.select(events, self.whole.restarted(self.begun, self.then.rows))
            return Selected(again.rows, again.columns, self.then.followed_by(again.cutflow))
        except NanoMLError as problem:
            raise NanoMLError(f"{problem} That is under the shift {shift}.") from None

    def _begin(self, events: Events, checkpoint: Checkpoint | None) -> tuple[Events, Cutflow]:
        """With what `select` comes to events at the place: from the checkpoint, or from the beginning."""
        if checkpoint is None:
            return events, self.whole.restarted(self.begun, self.then.rows)
        return self.nominal[_NONE], _ResumedCutflow(checkpoint, events, np.arange(len(events)), self.begun)

    def _tried(self, events: Events, cutflow: Cutflow) -> Selected | None:
        """The result; None after a mistake."""
        try:
            return self.select(events, cutflow)
        except NanoMLError as problem:
            traceback.clear_frames(problem.__traceback__)  # which would keep the events until garbage is collected
            return None


def _some(found: Selected, places: slice | NDArray[np.int64], cutflow: Cutflow) -> Selected:
    """A part of a result, with its own cut flow."""
    return Selected(found.rows[places], {name: it[places] for name, it in found.columns.items()}, cutflow)


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
    begun, _ = cutflow.progress
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
            groups.setdefault(place.cutflow.progress, []).append(shift)
    known, end = dict(ways), cutflow.progress
    for key, group in groups.items():
        branches = set().union(*(changes[shift] for shift in group))
        place = uses.first(branches)
        assert place is not None
        then, rows = place.checkpoint, place.cutflow.rows
        unshifted = events.under("", rows)
        at = _Place(select, place.cutflow, cutflow, begun, unshifted)
        is_free = then is not None and key[0] > begun and then.is_free_of(branches, events)
        checkpoints = [then, None] if is_free else [None]
        # the first that is proven: all columns side by side if nothing else follows, then one shift after the other
        tries = [(False, checkpoint) for checkpoint in checkpoints]
        if key == end:
            tries.insert(0, (True, checkpoints[0]))
        most = MOST_EVENTS // max(len(rows), 1)
        most = 1 if uses.asked_for_shift or most < LEAST_COPIES else most
        way = (*key, "united", is_free)  # what follows the next cut once
        if len(rows) >= MANY_EVENTS and key[0] < end[0] and not uses.asked_for_shift and known.get(way, True):
            parts = [shifted[shift].under(str(shift), rows) for shift in group]
            tried = [] if way in known else [unshifted]
            results = at.united([*tried, *parts], then if is_free else None, branches)
            known[way] = results is not None and (not tried or _repeats(nominal, results.pop(0)))
            if results is not None and known[way]:
                found.update(zip(group, results))
                group = []
        while group:
            some, group = group[:most], group[most:]
            parts = [shifted.pop(shift).under(str(shift), rows) for shift in some]
            results = None
            for is_beside, checkpoint in tries:
                way = (*key, "beside" if is_beside else "jointly", checkpoint is not None)
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
        if len(rows) >= LEAST_EVENTS:
            ways.update({way: is_same for way, is_same in known.items() if way[:2] == key})
    uses.forget()
    return joined(nominal, {shift: found[shift] for shift in changes}, varied)


def _repeats(one: Selected, other: Selected | None) -> bool:
    """Whether the result of a selection that went on from a checkpoint is that of the whole one."""
    if other is None or one.cutflow.steps != other.cutflow.steps or not np.array_equal(one.rows, other.rows):
        return False
    return all(is_same(values, other.columns[name]) for name, values in one.columns.items())
