"""A selection on one file, as nanoAOD-tools goes through it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import add_steps
from MLTools.NanoML.nanoaodtools.columns import Filler, Made, declare, declared
from MLTools.NanoML.nanoaodtools.reads import Reads
from MLTools.NanoML.nanoaodtools.source import Source
from MLTools.NanoML.rootio.picking import Picker
from MLTools.NanoML.selection import Selected, Selection, Step

__all__ = ["Evaluation"]

_STEP = 8  # how much fewer events are tried when a selection fails, and how many more when it goes well again
_FIRST = 5000  # entries that are read at first, for there may be no more to do
_GROWTH = 4  # how many times as many then


@dataclass(frozen=True)
class _Chunk:
    """A range of entries that was read.

    Attributes
    ----------
    start, stop
        Its first entry, and the one after its last.
    arrays
        What the selection reads from the file.
    weights
        Generator weights.
    """

    start: int
    stop: int
    arrays: dict[str, ak.Array]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class _Window:
    """A range of entries on which the selection was evaluated.

    Attributes
    ----------
    start, stop
        Its first entry, and the one after its last.
    entries
        The entries in it that may be asked for.
    selected
        What the selection returned.
    passed
        The entries that it keeps.
    columns
        Columns of these events, also those of the selections before it.
    places
        For each entry of the window, its number among those that are kept, or -1.
    rows
        For each of those that are kept, the values of the selection's own columns.
    asked
        For each entry of the window, whether it was asked for.
    """

    start: int
    stop: int
    entries: NDArray[np.int64]
    selected: Selected
    passed: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    places: list[int]
    rows: list[tuple[Any, ...]]
    asked: bytearray


class Evaluation:
    """Evaluates a selection for event after event, and in truth for many at once.

    A selection may fail on events that never come to it, because a module before it drops them: then it is tried on
    fewer and fewer, down to the one event that is asked for.

    Parameters
    ----------
    selection
        The selection.
    source
        The file.
    earlier
        The selections that modules before this one evaluate on the same file.
    input_tree, output_tree
        nanoAOD-tools' objects.
    size
        Entries that are read, and evaluated, at once.
    note
        Called with the reason if that cannot be.
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
        self.selection, self.source = selection, source
        self._earlier = [other for other in earlier if other._is_bulk]
        self._size = self._reach = size
        self._note = note
        counters = {made.counter for other in earlier for made in other.made.values()}
        before = {
            name: made
            for name, made in declared(output_tree).items()
            # of a collection of the file this is what the file has
            if not (name in counters and name in source.branches)
        }
        # a module that is no selection may have declared the column of a selection anew
        inherited = {
            name: made
            for other in self._earlier
            for name, made in other.made.items()
            if output_tree is None or before[name].branch is made.branch
        }
        known = {name: made for other in earlier for name, made in other.made.items()}
        self._reads = Reads.of(selection, source.file.path, source.branches, {**known, **before})
        self._is_bulk: bool = inherited.keys() >= set(self._reads.from_modules.values())
        self.made: dict[str, Made] = declare(selection, output_tree)
        self._fill = Filler(self.made, input_tree, output_tree)
        self._chunk = self._read(0, 0)
        self._window: Optional[_Window] = None
        self._steps: list[Step] = []
        # for each event that passed, how many were in the output before it
        self._passed: array[int] = array("q")
        self._weights: array[float] = array("d")
        self._written: Callable[[], int] = (
            self._passed.__len__ if output_tree is None else output_tree.tree().GetEntries
        )

    def analyze(self, event: Any) -> bool:
        """Whether the selection keeps an event; its columns are filled then."""
        entry = self.source.entry(event)
        values: Optional[tuple[Any, ...]]
        if self._is_bulk:
            window = self._window
            if window is None or not window.start <= entry < window.stop:
                window = self._go_on(entry)
            offset = entry - window.start
            window.asked[offset] = True
            place = window.places[offset]
            values = window.rows[place] if place >= 0 else None
        else:
            values = self._alone(event, entry)
        if values is None:
            return False
        self._passed.append(self._written())
        self._weights.append(self._chunk.weights[entry - self._chunk.start])
        self._fill(values)
        return True

    def finish(self) -> list[Step]:
        """The cut flow of the events that were asked for."""
        self._count()
        if not self._steps and not self._reads.from_modules:
            # no event came here: the cut flow has zeros, not nothing
            self._chunk = self._read(0, 0)
            self._steps = self._apply(np.arange(0), {}).cutflow.steps
        return self._steps or [Step("all", 0, 0.0)]

    def kept(self) -> Step:
        """The events that passed and were not dropped by a module after this one."""
        kept = np.diff(np.append(np.asarray(self._passed), self._written())) > 0
        return Step("kept by all modules", int(kept.sum()), float(np.asarray(self._weights)[kept].sum()))

    def _read(self, start: int, stop: int) -> _Chunk:
        raw = self.source.read(self._reads.from_file.values(), start, stop)
        arrays = {asked: raw[name] for asked, name in self._reads.from_file.items()}
        return _Chunk(start, stop, arrays, self.source.weights(start, stop))

    def _go_to(self, entry: int) -> None:
        """Read the chunk that an entry is in."""
        if self._chunk.start <= entry < self._chunk.stop:
            return
        # the same borders for all selections on a file, so that their windows fit
        start, stop = 0, min(_FIRST, self._size)
        while stop <= entry:
            start, stop = stop, stop + min(_GROWTH * stop, self._size)
        self._chunk = self._read(start, min(stop, self.source.file.entries))

    def _go_on(self, entry: int) -> _Window:
        """Evaluate the selection on the entries near one."""
        self._count()
        self._go_to(entry)
        self._window = self._evaluate_around(entry)
        return self._window

    def _evaluate_around(self, entry: int) -> _Window:
        reach, failed = self._reach, None
        while True:
            try:
                window = self._evaluate(entry, reach)
                break
            except NanoMLError as problem:
                if reach == 1:
                    raise
                reach, failed = max(reach // _STEP, 1), problem
        self._check(window.selected)
        if failed is not None:
            self._note(
                f"fewer events are evaluated at once: it fails on some that do not come to it ({failed})"
            )
        self._reach = min(reach * _STEP, self._size)
        return window

    def _evaluate(self, entry: int, reach: int) -> _Window:
        """Evaluate the selection on the entries near one, but not on those that selections before it drop."""
        start = max(entry - entry % reach, self._chunk.start)
        stop = min(start + reach, self._chunk.stop)
        before = self._earlier[-1]._window if self._earlier else None
        if before is None:
            entries, columns = self.source.entries(start, stop), {}
        else:
            start, stop = max(start, before.start), min(stop, before.stop)
            inside = (before.passed >= start) & (before.passed < stop)
            entries = before.passed[inside]
            columns = {name: values[inside] for name, values in before.columns.items()}
        made = {asked: columns[name] for asked, name in self._reads.from_modules.items()}
        selected = self._apply(entries, made)
        rows, own = selected.rows, selected.columns
        places = np.full(stop - start, -1)
        places[entries[rows] - start] = np.arange(len(rows))
        return _Window(
            start,
            stop,
            entries,
            selected,
            entries[rows],
            {**{name: values[rows] for name, values in columns.items()}, **own},
            places.tolist(),
            list(zip(*(values.tolist() for values in own.values()))) if own else [()] * len(rows),
            bytearray(stop - start),
        )

    def _apply(self, entries: NDArray[np.int64], made: Mapping[str, Any]) -> Selected:
        """Evaluate the selection on entries of the chunk."""
        chunk = self._chunk
        arrays, weights = chunk.arrays, chunk.weights
        if len(entries) < len(weights):
            rows = entries - chunk.start
            pick = Picker(rows)
            arrays, weights = {name: pick(values) for name, values in arrays.items()}, weights[rows]
        made = {name: ak.Array(values) for name, values in made.items()}
        return self.selection.apply({**arrays, **made}, self._reads.collections(made), weights)

    def _alone(self, event: Any, entry: int) -> Optional[tuple[Any, ...]]:
        """Evaluate one event: the values of its columns, or None if it is not kept."""
        self._go_to(entry)
        selected = self._apply(np.array([entry]), self._reads.made(event))
        self._check(selected)
        made = ", ".join(self._reads.from_modules.values())
        self._note(
            f"events are evaluated one by one, which is slow: other modules make what it reads ({made})"
        )
        self._steps = add_steps([self._steps, selected.cutflow.steps])
        rows = list(zip(*(values.tolist() for values in selected.columns.values())))
        return (rows or [()])[0] if len(selected.rows) else None

    def _check(self, selected: Selected) -> None:
        counted = selected.cutflow.steps[-1].events
        if counted != len(selected.rows):
            raise NanoMLError(
                f"{self.selection.where()}: {counted} events passed the last cut, but {len(selected.rows)} were kept. "
                "Narrow the events by cutflow.cut only, so that the cut flow counts all."
            )

    def _count(self) -> None:
        """Add the events of the window that were asked for to the cut flow."""
        window, self._window = self._window, None
        if window is None:
            return
        asked = np.frombuffer(window.asked, np.bool_)[window.entries - window.start]
        self._steps = add_steps([self._steps, window.selected.cutflow.steps_of(asked)])
