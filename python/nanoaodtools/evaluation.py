"""A selection on one file, as nanoAOD-tools goes through it."""

from __future__ import annotations

from array import array
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, cast

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.contracts.accounting import WeightSums
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.nanoaod.accounting import add_steps, add_weight_sums, weights_in
from MLTools.NanoML.nanoaodtools.output import Filler, Made, declare, declared
from MLTools.NanoML.nanoaodtools.source import Source
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Picker
from MLTools.NanoML.selection import Selected, Selection, Step
from MLTools.NanoML.selection.selection import UncountedError

_STEP = 8  # factor by which fewer events are tried when a selection fails, and more when it works again
_FIRST = 5000  # entries that are read first, since there may be no more to do
_GROWTH = 4  # factor for the next ones


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
    selected: Selected
    passed: NDArray[np.int64]  # entries that the selection keeps
    columns: dict[str, NDArray[Any]]  # values for these, also from earlier selections
    places: list[int]  # for each entry of the window, its place among those that are kept, or -1
    rows: list[tuple[Any, ...]]  # for each entry that is kept, the values of the selection's own columns
    asked: bytearray  # for each entry of the window, whether it was asked for


class _Inputs:
    """The selection with its branches: those that earlier modules have declared come before those of the file.

    Modules may also give each event attributes that exist nowhere else, which are taken for their branches.
    """

    def __init__(
        self, selection: Selection, path: str, branches: Mapping[str, Branch], earlier: Mapping[str, Made]
    ) -> None:
        self._selection, self._path, self._earlier = selection, path, earlier
        self._available = list(dict.fromkeys([*branches, *earlier]))
        self._undeclared = [
            name
            for name in selection.branches
            if not versions.is_glob(name)
            and name not in selection.optional
            and versions.resolve(name, self._available) is None
        ]
        made = {name: self._branch(name, each.counter) for name, each in earlier.items()}
        made.update({name: self._branch(name, None) for name in self._undeclared})
        self._bound = selection.bind(ChainMap(made, cast("dict[str, Branch]", branches)), path)
        self.from_modules = [name for name in self._bound.branches if name in made]
        self.from_file = [name for name in self._bound.branches if name not in made]

    def _branch(self, name: str, counter: Optional[str]) -> Branch:
        if counter is None:
            return Branch(name, "", "flat", "", None, "")
        return Branch(name, "", "jagged", "", versions.collection_of(name, counter, self._available), "")

    def apply(self, arrays: Mapping[str, ak.Array], weights: NDArray[np.float64]) -> Selected:
        """Evaluate the selection; whether an undeclared attribute is a list shows in `arrays` only."""
        lists = {
            name: versions.collection_of(name, None, self._available)
            for name in self._undeclared
            if arrays[name].ndim > 1
        }
        bound = replace(self._bound, collections={**self._bound.collections, **lists})
        return bound.apply(arrays, weights)

    def made(self, event: Any) -> dict[str, ak.Array]:
        """What earlier modules made for an event, in the types of their branches, as arrays of length one."""
        return {name: self._value(event, name) for name in self.from_modules}

    def _value(self, event: Any, name: str) -> ak.Array:
        try:
            value = getattr(event, name)
        except (RuntimeError, AttributeError):
            value = None
        if value is None:
            if name in self._undeclared:
                self._selection.resolve(self._available, self._path)  # says what is missing
            raise NanoMLError(
                f"{self._path}: selection {self._selection.name} reads {name}, which an earlier module declares, "
                f"but did not fill for event {event._entry}."
            )
        dtype = self._earlier[name].dtype if name in self._earlier else None
        if np.isscalar(value):
            return ak.Array(np.array([value], dtype))
        # ROOT gives numbers of eight bits as characters
        numbers = np.array([ord(one) if isinstance(one, str) else one for one in value], dtype)
        return ak.unflatten(numbers, [len(numbers)])


class Evaluation:
    """Evaluates a selection for one event after the other, but computes many events at once.

    A selection may fail on events that never reach it, because an earlier module drops them: then it is tried on fewer
    and fewer, down to the one event that is asked for. `earlier` are the evaluations of earlier modules on the same file,
    `size` is the number of entries that are read and evaluated at once; `note` is called with the reason if that is not
    possible.
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
        known = {name: made for other in earlier for name, made in other.made.items()}
        self._inputs = _Inputs(selection, source.file.path, source.branches, {**known, **before})
        self._is_bulk: bool = inherited.keys() >= set(self._inputs.from_modules)
        self.made: dict[str, Made] = declare(selection, output_tree)
        self._fill = Filler(self.made, input_tree, output_tree)
        self._chunk = self._read(0, 0)
        self._window: Optional[_Window] = None
        self._steps: list[Step] = []
        self.weights: list[WeightSums] = []
        # for each event that passed, how many were in the output before it
        self._passed: array[int] = array("q")
        self._weights: array[float] = array("d")
        self._written: Callable[[], int] = (
            self._passed.__len__ if output_tree is None else output_tree.tree().GetEntries
        )

    def analyze(self, event: Any) -> bool:
        """Whether the selection keeps an event; then its columns are filled."""
        entry = self.source.entry(event)
        values: Optional[tuple[Any, ...]]
        if self._is_bulk:
            window = self._window
            if window is None or not window.start <= entry < window.stop:
                window = self._window_around(entry)
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
        if not self._steps and not self._inputs.from_modules:
            # no event reached it: the cut flow has zeros, but is not empty
            self._chunk = self._read(0, 0)
            cutflow = self._apply(np.arange(0), {}).cutflow
            self._steps, self.weights = cutflow.steps, cutflow.weight_sums()
        return self._steps or [Step("all", 0, 0.0)]

    def kept(self) -> Step:
        """The events that passed and were not dropped by a module after this one."""
        kept = np.diff(np.append(np.asarray(self._passed), self._written())) > 0
        return Step("kept by all modules", int(kept.sum()), float(np.asarray(self._weights)[kept].sum()))

    def _read(self, start: int, stop: int) -> _Chunk:
        arrays = self.source.read(self._inputs.from_file, start, stop)
        return _Chunk(start, stop, arrays, weights_in(self.source.file, start, stop))

    def _read_chunk(self, entry: int) -> None:
        """Read the chunk with an entry."""
        if self._chunk.start <= entry < self._chunk.stop:
            return
        # the same borders for all selections on a file, so that their windows fit
        start, stop = 0, min(_FIRST, self._size)
        while stop <= entry:
            start, stop = stop, stop + min(_GROWTH * stop, self._size)
        self._chunk = self._read(start, min(stop, self.source.file.entries))

    def _window_around(self, entry: int) -> _Window:
        """The next window, with an entry; of fewer entries if the selection fails."""
        self._count()
        self._read_chunk(entry)
        reach, failed = self._reach, None
        while self._window is None:
            try:
                self._window = self._evaluate(entry, reach)
            except NanoMLError as problem:
                if reach == 1 or isinstance(problem, UncountedError):
                    raise
                reach, failed = max(reach // _STEP, 1), problem
        if failed is not None:
            self._note(f"fewer events are evaluated at once: it fails on some that do not reach it ({failed})")
        self._reach = min(reach * _STEP, self._size)
        return self._window

    def _evaluate(self, entry: int, reach: int) -> _Window:
        """Evaluate the selection on the entries near one, except those that earlier selections drop."""
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
        made = {name: columns[name] for name in self._inputs.from_modules}
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
        return self._inputs.apply({**arrays, **made}, weights)

    def _alone(self, event: Any, entry: int) -> Optional[tuple[Any, ...]]:
        """The values of the columns of one event, evaluated alone, or None if it is not kept."""
        self._read_chunk(entry)
        selected = self._apply(np.array([entry]), self._inputs.made(event))
        made = ", ".join(self._inputs.from_modules)
        self._note(f"events are evaluated one by one, which is slow: other modules make what it reads ({made})")
        self._add(selected.cutflow.steps, selected.cutflow.weight_sums())
        rows = list(zip(*(values.tolist() for values in selected.columns.values())))
        return (rows or [()])[0] if len(selected.rows) else None

    def _count(self) -> None:
        """Add the events of the window that were asked for to the cut flow."""
        window, self._window = self._window, None
        if window is None:
            return
        asked = np.frombuffer(window.asked, np.bool_)[window.entries - window.start]
        cutflow = window.selected.cutflow
        self._add(cutflow.steps_of(asked), cutflow.weight_sums(asked))

    def _add(self, steps: list[Step], weights: list[WeightSums]) -> None:
        self._steps = add_steps([self._steps, steps])
        self.weights = add_weight_sums([self.weights, weights])
