"""A selection on one file, as nanoAOD-tools goes through it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import add_shift_sums, add_steps, add_weight_sums, weights_in
from MLTools.NanoML.nanoaod.fileaccounting import SELECTED, ShiftSums, Step, WeightSums
from MLTools.NanoML.nanoaodtools.branches import Filler, Inputs, Made, Scoring, declare, declared
from MLTools.NanoML.nanoaodtools.source import Source
from MLTools.NanoML.rootio.lists import Array, Picker
from MLTools.NanoML.selection import Selected, Selection
from MLTools.NanoML.selection.selection import UncountedError

_STEP = 8  # factor by which fewer events are tried when a selection fails, and more when it works again
_FIRST = 5000  # entries that are read first, since there may be no more to do
_GROWTH = 4  # factor for the next ones
_BLOCK = 1000  # events whose values are Python numbers at a time: these take ten times as much memory as arrays
_NOMINAL = b"\1"  # flags of an event where there are no shifts


@dataclass(frozen=True)
class Counts:
    """Cut flow and sums of weights, nominally and under each shift of objects."""

    steps: list[Step] = field(default_factory=list)
    weights: list[WeightSums] = field(default_factory=list)
    shifts: list[ShiftSums] = field(default_factory=list)

    def __add__(self, more: Counts) -> Counts:
        return Counts(
            add_steps([self.steps, more.steps]),
            add_weight_sums([self.weights, more.weights]),
            add_shift_sums([self.shifts, more.shifts]),
        )

    @property
    def flows(self) -> list[list[Step]]:
        """The cut flows: the nominal one, then those under shifts."""
        return [self.steps, *(each.cutflow for each in self.shifts)]


def counts_of(selected: Selected, shifts: Sequence[str], reached: NDArray[np.bool_]) -> Counts:
    """The counts of a selection, of the events of a chunk that reached it.

    `reached` has shape (events, 1 + shifts) and says for each event whether it did nominally, and under each of the `shifts` of
    an earlier selection. A selection with shifts of its own comes after none with shifts: then the events did or did not.
    """
    cutflow, nominal = selected.cutflow, reached[:, 0]
    found = [
        ShiftSums(shift, cutflow.steps_of(mask), [each.unvaried for each in cutflow.weight_sums(mask)])
        for shift, mask in zip(shifts, reached.T[1:])
    ]
    return Counts(cutflow.steps_of(nominal), cutflow.weight_sums(nominal), found or selected.shift_sums(nominal))


@dataclass(frozen=True)
class _Chunk:
    """A range of entries that was read, with the branches that the selection reads and the generator weights."""

    start: int
    stop: int
    arrays: dict[str, ak.Array]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class _Window:
    """A range of entries on which the selection was evaluated."""

    start: int
    stop: int
    entries: NDArray[np.int64]  # in it that may be asked for
    selected: Selected  # of these
    passed: NDArray[np.int64]  # entries that the selection keeps
    columns: dict[str, Array]  # its columns for these
    before: Optional[_Window]  # that of the selection before
    inside: NDArray[np.int64]  # for each entry that is kept, its place among those that the selection before keeps
    places: list[int]  # for each entry of the window, its place among those that are kept, or -1
    rows: _Rows  # for each entry that is kept, the values of the columns
    flags: bytes  # and, if there are shifts, its flags
    reached: bytearray  # for each entry of the window, the flags with which it came, or zeros


class _Rows:
    """The values of columns, event by event."""

    def __init__(self, columns: Sequence[Any], events: int) -> None:
        self._columns, self._events = columns, events
        self._first, self._block = 0, list[tuple[Any, ...]]()

    def __getitem__(self, place: int) -> tuple[Any, ...]:
        if not self._first <= place < self._first + len(self._block):
            self._first = place - place % _BLOCK
            stop = min(self._first + _BLOCK, self._events)
            # a column that does not differ under a shift is the same array
            lists = {id(values): values[self._first : stop].tolist() for values in self._columns}
            self._block = list(zip(*(lists[id(values)] for values in self._columns)))
            self._block = self._block or [()] * (stop - self._first)
        return self._block[place - self._first]


def _column(window: Optional[_Window], name: str) -> Array:
    """A column of the events that a selection keeps, which it made or one before it."""
    assert window is not None  # one of them declares it
    return window.columns[name] if name in window.columns else _column(window.before, name)[window.inside]


class Evaluation:
    """Evaluates a selection for one event after the other, but computes many events at once.

    A selection may fail on events that never reach it, because an earlier module drops them: then it is tried on fewer
    and fewer, down to the one event that is asked for. `earlier` are the evaluations of earlier modules on the same file,
    `size` is the number of entries that are read and evaluated at once; `note` is called with the reason if that is not
    possible.

    It is an error if an earlier selection has shifts and this one has, too.
    """

    def __init__(
        self,
        selection: Selection,
        source: Source,
        earlier: Sequence[Evaluation],
        input_tree: Any,
        output_tree: Any,
        size: int,
        note: Callable[[str], None],
    ) -> None:
        self.source = source
        self._earlier = [other for other in earlier if other._is_bulk]
        self._previous = earlier[-1] if earlier else None
        self._size = size
        self._note = note
        counters = {made.counter for other in earlier for made in other.made.values()}
        before = {
            name: made
            for name, made in declared(output_tree).items()
            # the counter of a collection of the file is that of the file
            if not (name in counters and name in source.branches)
        }
        # a module that is not a selection may have declared the column of a selection anew
        inherited = {
            name: made
            for other in self._earlier
            for name, made in other.made.items()
            if output_tree is None or before[name].branch is made.branch
        }
        known = {**{name: made for other in earlier for name, made in other.made.items()}, **before}
        # the shifts under which events reach it, and those under which they pass, as the endings of columns
        self._reached_under: list[str] = self._previous.shifts if self._previous else []
        if isinstance(selection, Scoring):
            shifts = self._reached_under or [each.shift for each in source.accounting.shifts]
            selection = selection.under(shifts, {*source.branches, *known} if shifts else ())
        self.selection = selection
        self._inputs = Inputs(selection, source.file.path, source.branches, known)
        self._is_bulk: bool = inherited.keys() >= set(self._inputs.from_modules)
        self._most = self._reach = size if self._is_bulk else 1  # entries that are evaluated at once
        own = [shift.suffix for shift in selection.each_shift]
        if own and self._reached_under:
            raise NanoMLError(
                f"{selection.where()}: has shifts, and a selection before it has shifts as well. Both would say in the column "
                f"{SELECTED} which events pass: make one selection of them, or take the shifts out of one."
            )
        self._has_shifts = bool(own)
        self.shifts: list[str] = own or self._reached_under
        self._nominal = selection.made.nominal
        self.made: dict[str, Made] = declare(selection, output_tree)
        self._fill = Filler(self.made, input_tree, output_tree)
        self._chunk = self._read(0, 0)
        self._window: Optional[_Window] = None
        self._counts = Counts()
        self.flags = _NOMINAL  # whether the last event that passed did so nominally, and under each of the shifts
        # for each event that passed, how many were in the output before it
        self._passed: array[int] = array("q")
        self._weights: array[float] = array("d")
        self._flags: array[int] = array("b")
        self._written: Callable[[], int] = (
            self._passed.__len__ if output_tree is None else output_tree.tree().GetEntries
        )

    def analyze(self, event: Any) -> bool:
        """Whether the selection keeps an event, nominally or under a shift; then its columns are filled."""
        entry = self.source.entry(event)
        window = self._window
        if window is None or not window.start <= entry < window.stop:
            window = self._window_around(event, entry)
        offset, flags = entry - window.start, self._previous.flags if self._previous else _NOMINAL
        window.reached[offset * len(flags) : (offset + 1) * len(flags)] = flags
        place = window.places[offset]
        if place < 0:
            return False
        size = 1 + len(self.shifts)
        self.flags = window.flags[place * size : (place + 1) * size] or flags
        self._passed.append(self._written())
        self._weights.append(self._chunk.weights[entry - self._chunk.start])
        self._flags.frombytes(self.flags)
        self._fill(window.rows[place])
        return True

    def finish(self) -> Counts:
        """The counts of the events that were asked for."""
        self._count()
        if self._counts.steps:
            return self._counts
        # no event reached it: the cut flow has zeros, but is not empty
        if self._inputs.from_modules:
            steps = [Step("all", 0, 0.0)]
            return Counts(steps, [], [ShiftSums(shift, steps, []) for shift in self.shifts])
        self._chunk = self._read(0, 0)
        reached = np.zeros((0, 1 + len(self._reached_under)), np.bool_)
        return counts_of(self._apply(np.arange(0), {}), self._reached_under, reached)

    def kept(self) -> tuple[Counts, int]:
        """The events that passed and were not dropped by a module after this one, and how many are so under shifts alone."""
        is_kept = np.diff(np.append(np.asarray(self._passed), self._written())) > 0
        flags = np.asarray(self._flags).astype(np.bool_).reshape(len(is_kept), 1 + len(self.shifts))
        weights = np.asarray(self._weights)
        steps = [Step("kept by all modules", int(mask.sum()), float(weights[mask].sum())) for mask in is_kept & flags.T]
        shifts = [ShiftSums(shift, [step], []) for shift, step in zip(self.shifts, steps[1:])]
        return Counts(steps[:1], [], shifts), int(is_kept.sum()) - steps[0].events

    def _read(self, start: int, stop: int) -> _Chunk:
        arrays = self.source.read(self._inputs.from_file, start, stop)
        return _Chunk(start, stop, arrays, weights_in(self.source.file, start, stop))

    def _read_chunk(self, entry: int) -> None:
        if self._chunk.start <= entry < self._chunk.stop:
            return
        # the same borders for all selections on a file, so that their windows fit
        start, stop = 0, min(_FIRST, self._size)
        while stop <= entry:
            start, stop = stop, stop + min(_GROWTH * stop, self._size)
        self._chunk = self._read(start, min(stop, self.source.file.entries))

    def _window_around(self, event: Any, entry: int) -> _Window:
        """The next window, with an entry; of fewer entries if the selection fails."""
        self._count()
        self._read_chunk(entry)
        reach, failed = self._reach, None
        while self._window is None:
            try:
                self._window = self._evaluate(event, entry, reach)
            except NanoMLError as problem:
                if reach == 1 or isinstance(problem, UncountedError):
                    raise
                reach, failed = max(reach // _STEP, 1), problem
        if failed is not None:
            self._note(f"fewer events are evaluated at once: it fails on some that do not reach it ({failed})")
        if not self._is_bulk:
            made = ", ".join(self._inputs.from_modules)
            self._note(f"events are evaluated one by one, which is slow: other modules make what it reads ({made})")
        self._reach = min(reach * _STEP, self._most)
        return self._window

    def _evaluate(self, event: Any, entry: int, reach: int) -> _Window:
        """Evaluate the selection on the entries near that of an event, except those that earlier selections drop."""
        start = max(entry - entry % reach, self._chunk.start)
        stop = min(start + reach, self._chunk.stop)
        before = self._earlier[-1]._window if self._earlier else None
        if before is None:
            entries = self.source.entries(start, stop)
            inside: NDArray[np.int64] = np.arange(len(entries))
        else:
            start, stop = max(start, before.start), min(stop, before.stop)
            inside = np.flatnonzero((before.passed >= start) & (before.passed < stop))
            entries = before.passed[inside]
        names = self._inputs.from_modules
        made = {name: _column(before, name)[inside] for name in names} if self._is_bulk else self._inputs.made(event)
        selected = self._apply(entries, made)
        rows, own = selected.rows, selected.columns
        columns = {name: own[name] if name in own else own[self._nominal[name]] for name in self.made}
        passed = [selected.passed(shift) for shift in ("", *self.shifts)] if self._has_shifts else []
        places = np.full(stop - start, -1)
        places[entries[rows] - start] = np.arange(len(rows))
        return _Window(
            start,
            stop,
            entries,
            selected,
            entries[rows],
            columns,
            before,
            inside[rows],
            places.tolist(),
            _Rows(list(columns.values()), len(rows)),
            np.transpose(passed).tobytes(),
            bytearray((stop - start) * (1 + len(self._reached_under))),
        )

    def _apply(self, entries: NDArray[np.int64], made: Mapping[str, object]) -> Selected:
        """Evaluate the selection on entries of the chunk."""
        chunk = self._chunk
        arrays, weights = chunk.arrays, chunk.weights
        if len(entries) < len(weights):
            rows = entries - chunk.start
            pick = Picker(rows)
            arrays, weights = {name: pick(values) for name, values in arrays.items()}, weights[rows]
        made = {name: ak.Array(values) for name, values in made.items()}
        return self._inputs.apply({**arrays, **made}, weights)

    def _count(self) -> None:
        """Count the events of the window that were asked for."""
        window, self._window = self._window, None
        if window is not None:
            flags = np.frombuffer(window.reached, np.bool_).reshape(window.stop - window.start, -1)
            reached = flags[window.entries - window.start]
            self._counts += counts_of(window.selected, self._reached_under, reached)
            if isinstance(self.selection, Scoring):
                self.selection.count(reached[:, 0])
