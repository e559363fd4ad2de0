"""Shifts of objects, as of the jets' energy: the selection runs again under each, on the events that these can concern."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.accounting import SELECTED, ShiftSums, shifted_column
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection.cutflow import Cutflow, Place
from MLTools.NanoML.selection.events import Events


@dataclass(frozen=True)
class Shift:
    """One shift of objects in one direction."""

    name: str
    direction: str

    def __str__(self) -> str:
        return f"{self.name}_{self.direction}"

    @property
    def suffix(self) -> str:
        """What names of columns end with: "jesUp"."""
        return shifted_column("", self.name, self.direction)[1:]

    def column(self, name: str) -> str:
        """The column with the values of another one under this shift."""
        return shifted_column(name, self.name, self.direction)


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
        Values of each column for these events, in the declared types. With shifts, `selected` and `selected_jesUp` say which
        events passed, and there are columns such as `ZCand_mass_jesUp` where some values differ. An event that passed only
        under shifts has the values of the first of these.
    cutflow
        Events and weights after each cut.
    shifts
        The cut flow under each shift, by the ending of its columns: "jesUp".
    """

    rows: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    cutflow: Cutflow
    shifts: dict[str, Cutflow] = field(default_factory=dict)

    def passed(self, suffix: str = "") -> NDArray[np.bool_]:
        """Which of the events passed: nominally, or under a shift given by the ending of its columns."""
        if not self.shifts:
            return np.ones(len(self.rows), bool)
        return self.columns[f"{SELECTED}_{suffix}" if suffix else SELECTED]

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

    def __init__(self, cutflow: Cutflow) -> None:
        self._cutflow = cutflow
        self._places: dict[str, Place] = {}

    def __call__(self, branch: str) -> None:
        """A branch is used now; the empty name stands for all."""
        if branch not in self._places:
            self._places[branch] = self._cutflow.place

    def first(self, branches: set[str]) -> Place | None:
        """Where the first of them was used; None if none was."""
        used = (self._places[name] for name in (*branches, "") if name in self._places)
        return min(used, key=lambda place: (place.cuts, place.weights), default=None)


def select_under_shifts(
    select: Callable[[Events, Cutflow], Selected],
    restart: Callable[[NDArray[np.int64]], Cutflow],
    events: Events,
    cutflow: Cutflow,
    shifted: Mapping[Shift, Events],
    kept: Sequence[str],
) -> Selected:
    """Select nominally and under each shift, and join the results.

    Up to the place where a selection first uses a branch that a shift changes, the shift makes no difference. So only what
    follows is done again, for the events that are left there.

    Parameters
    ----------
    select
        Selects events, with the cut flow that counts them.
    restart
        Makes a new cut flow for the events at positions in the chunk.
    events, cutflow
        The nominal events, and the cut flow that counts them.
    shifted
        The events under each shift.
    kept
        The columns that have no values of their own under shifts: variations of weights.
    """
    changes = {shift: each.differing(events) for shift, each in shifted.items()}
    uses = FirstUses(cutflow)
    nominal = select(events.watched(set().union(*changes.values()), uses), cutflow)
    found: dict[Shift, Selected] = {}
    for shift, branches in changes.items():
        place = uses.first(branches)
        if place is None:
            found[shift] = nominal
            continue
        try:
            again = select(shifted[shift].under(str(shift), place.rows), restart(place.rows))
            found[shift] = Selected(again.rows, again.columns, cutflow.followed_by(again.cutflow, place))
        except NanoMLError as problem:
            raise NanoMLError(f"{problem} That is under the shift {shift}.") from None
    return _joined(nominal, found, kept)


def _joined(nominal: Selected, shifted: Mapping[Shift, Selected], kept: Sequence[str]) -> Selected:
    """The events that pass nominally or under a shift."""
    rows = nominal.rows
    for each in shifted.values():
        if not np.array_equal(each.rows, rows):
            rows = np.union1d(rows, each.rows)
    places = {shift: rows.searchsorted(each.rows) for shift, each in shifted.items()}
    passed = np.zeros(len(rows), bool)
    passed[rows.searchsorted(nominal.rows)] = True
    columns = {name: np.zeros(len(rows), values.dtype) for name, values in nominal.columns.items()}
    for name, values in nominal.columns.items():
        columns[name][passed] = values
    is_filled = passed.copy()
    for shift, each in shifted.items():
        fresh = ~is_filled[places[shift]]
        if fresh.any():
            for name, values in each.columns.items():
                columns[name][places[shift][fresh]] = values[fresh]
            is_filled[places[shift]] = True
    flags, differing = {SELECTED: passed}, {}
    for shift, each in shifted.items():
        flags[shift.column(SELECTED)] = flag = np.zeros(len(rows), bool)
        flag[places[shift]] = True
        for name, values in each.columns.items() if each is not nominal else ():
            if name not in kept and not np.array_equal(columns[name][places[shift]], values):
                differing[shift.column(name)] = varied = columns[name].copy()
                varied[places[shift]] = values
    cutflows = {shift.suffix: each.cutflow for shift, each in shifted.items()}
    return Selected(rows, {**columns, **flags, **differing}, nominal.cutflow, cutflows)
