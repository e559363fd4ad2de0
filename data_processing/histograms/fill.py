"""Fills the histograms of one file of events with scores: sums of weights, nominal, under each variation and each shift."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import awkward as ak
import h5py
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.expressions import Expression
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.blinding import Shares, share_in
from MLTools.NanoML.contracts.densities import varied_output
from MLTools.NanoML.contracts.templates import DATA, Hypothesis
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import EVENT_WEIGHT, under_shift
from MLTools.NanoML.nanoaod.folds import fold_of, part_of
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.baskets import rows_at_once
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Arrays
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.roles import HOW, READS, WRITES
from MLTools.NanoML.terminal.progress import progress

_SEARCHED = 16  # bins up to which they are searched
TITLES = "titles of columns"
NOMINAL = ""
"""Ending of the columns that are not varied."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """The quantity along an axis of a histogram, and the edges of its bins."""

    quantity: Expression
    edges: Sequence[float]


@dataclass(frozen=True)
class Plan:
    """A histogram that is filled."""

    name: str
    axes: Sequence[Axis]
    regions: Sequence[str]
    hypothesis: Optional[Hypothesis] = None  # scores are those at its value
    is_folded: bool = False  # whether what is below and above an axis counts in its first and last bin
    has_halves: bool = False  # whether it is filled for two halves of the events, which a hash tells apart
    # if any, it has no axes: its one cell has all events, and each is kept with what the model of its name says of these classes
    classes: Sequence[str] = ()

    @property
    def ending(self) -> str:
        """The ending of the names of scores."""
        return f"_{self.hypothesis.ending}" if self.hypothesis else ""

    @property
    def quantities(self) -> list[tuple[Expression, str]]:
        """The quantity on each axis, and the ending of the names of scores in it."""
        return [(axis.quantity, self.ending) for axis in self.axes]

    @property
    def cells(self) -> tuple[int, ...]:
        """Numbers of bins of its axes, underflow and overflow among them."""
        return tuple(len(axis.edges) + 1 for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of the sums that are filled: those of the second half of the events come after those of the first."""
        return math.prod(self.cells) * (2 if self.has_halves else 1)


@dataclass(frozen=True)
class Process:
    """The process that events of a file belong to."""

    name: str  # a class, or "data_obs"
    prefix: str = ""  # of the branches with its weights and regions
    shares: Shares = field(default_factory=dict)  # of the events that may be seen in some regions of its era
    is_seen: bool = True  # whether networks were trained on them


@dataclass(frozen=True)
class FillJob:
    """A file whose events are filled."""

    scores: str = field(metadata=READS)  # the file with scores, weights and regions
    events: str = field(metadata=READS)  # the file that it is a friend of, or the same if it is a copy
    output: Path = field(metadata=WRITES)  # an HDF5 file
    plans: Sequence[Plan]
    processes: Sequence[Process]
    model: str  # name of the model, whose outputs can be named without it
    has_regions: bool = True  # False if the analysis has none, so that all events are in the only one
    # the number of folds if one network was trained, which has seen all but the first: only the events of this have a score that counts
    single_of: Optional[int] = None
    chunk: int = field(default=500_000, metadata=HOW)  # largest number of events read at once
    memory: int = field(default=200, metadata=HOW)  # memory for their branches [MB]


@dataclass
class _Filled:
    """Sums of weights and of their squares, by ending of the column of weights; each of shape (cells,)."""

    of_scores: bool  # so that only events count whose network has not seen them; False if it has seen none
    sums: dict[str, Floats] = field(default_factory=dict)
    squares: dict[str, Floats] = field(default_factory=dict)
    without: set[str] = field(default_factory=set)  # other regions with events of it, of which not all may be seen
    events: list[NDArray[np.float32]] = field(default_factory=list)  # their weights, and outputs of a model

    def add(self, ending: str, cell: NDArray[np.int64], weights: Floats, count: int) -> None:
        for found, each in ((self.sums, weights), (self.squares, weights**2)):
            found[ending] = np.add(np.bincount(cell, each, count), found.get(ending, 0.0), dtype=np.float64)


def fill_file(job: FillJob) -> dict[str, int]:
    """Fill the histograms of one file, and write the sums; return how many events there are.

    It is an error if the file lacks a branch, or is not as long as the one that it is a friend of.
    """
    with _Friends(job.scores, job.events) as files:
        found: dict[tuple[str, str, str], _Filled] = {}
        views = [view for process in job.processes for view in _views(job, process, files)]
        names = list(dict.fromkeys(name for view in views for name in view.reads))
        axes = {axis.quantity.text for plan in job.plans for axis in plan.axes}
        titles = {name: files.branches[name].title for name in sorted(axes) if name in files.branches}
        is_data = any(process.name == DATA for process in job.processes)
        with progress(f"fill {Path(job.scores).name}", files.entries, is_share=is_data) as bar:
            for start, stop in files.ranges(names, job.chunk, job.memory):
                arrays = files.read(names, start, stop)
                for view in views:
                    view.fill(arrays, stop - start, found)
                bar.advance(stop - start)
    with replacing(job.output) as aside, h5py.File(aside, "w") as file:
        file.attrs[TITLES] = json.dumps(titles)
        for view in (it for it in views if not it.shift):
            file.attrs[view.process.name] = [view.all_weights, view.unseen_weights]
        for key, filled in found.items():
            group = file.create_group("/".join(key))
            group.attrs["endings"] = json.dumps(list(filled.sums))
            group.attrs["of_scores"] = filled.of_scores
            group.attrs["without"] = json.dumps(sorted(filled.without))
            group["sums"], group["squares"] = (np.array([*it.values()]) for it in (filled.sums, filled.squares))
            if filled.events:
                group["events"] = np.concatenate(filled.events)
                group.attrs["outputs"] = json.dumps(views[0].outputs[key[0]])
    return {"events": files.entries}


class _Friends:
    """A file with scores and the events that it is a friend of, read as one."""

    def __init__(self, scores: str, events: str) -> None:
        self.path = scores
        self._files = [RootFile(path) for path in dict.fromkeys([scores, events])]
        self.entries = self._files[0].entries
        if any(file.entries != self.entries for file in self._files):
            self.close()
            raise NanoMLError(f"{scores}: has another number of events than {events}. Score that file again.")
        self.branches: dict[str, Branch] = {}
        for file in reversed(self._files):
            self.branches.update(file.branches)
        self.record = Provenance.of(self._files[0])

    def __enter__(self) -> _Friends:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _of(self, names: Sequence[str]) -> Iterator[tuple[RootFile, list[str]]]:
        """The files, each with those of some branches that are read from it."""
        left = list(names)
        for file in self._files:
            yield file, [name for name in left if name in file.branches]
            left = [name for name in left if name not in file.branches]

    def ranges(self, names: Sequence[str], chunk: int, memory: int) -> Iterator[tuple[int, int]]:
        size = sum(file.bytes_per_event(mine) for file, mine in self._of(names))
        most = min(chunk, rows_at_once(size, memory))
        yield from self._files[-1].ranges([*self._of(names)][-1][1], most) if self.entries else ()

    def read(self, names: Sequence[str], start: int, stop: int) -> dict[str, ak.Array]:
        found: dict[str, ak.Array] = {}
        for file, mine in self._of(names):
            found.update(file.read(mine, start, stop))
        return found


def _views(job: FillJob, process: Process, files: _Friends) -> Iterator[_View]:
    """The events of a process, nominal with all variations of weights, and under each shift of objects."""
    shifts, weight = files.record.shifts if files.record else [], f"{process.prefix}{EVENT_WEIGHT}"
    if weight not in files.branches:
        raise NanoMLError(f"{files.path}: has no branch {weight}. Score the events again, as part of the analysis.")
    endings = [name[len(weight) :] for name in files.branches if name.startswith(f"{weight}_")]
    under = [ending for ending in endings if ending[1:] in shifts]
    yield _View(job, process, files, [NOMINAL, *(ending for ending in endings if ending not in under)], "")
    for ending in under:
        yield _View(job, process, files, [ending], ending[1:])


class _View:
    """Events of a process with one or more columns of weights, under a shift of objects or none."""

    def __init__(self, job: FillJob, process: Process, files: _Friends, endings: Sequence[str], shift: str) -> None:
        self.process, self._files, self.shift = process, files, shift
        self._single_of = job.single_of if process.is_seen else None
        # sums of the nominal weights, of all events and of those with a score that counts
        self.all_weights = self.unseen_weights = 0.0
        self._weights = {ending: f"{process.prefix}{EVENT_WEIGHT}{ending}" for ending in endings}
        self._quantities = {each: self._bound(*each, job.model) for it in job.plans for each in it.quantities}
        outputs = {name for name in files.branches if name.startswith(f"{job.model}_")}
        self._of_scores = {it for it, (_, names) in self._quantities.items() if outputs & set(names.values())}
        self._fills: list[tuple[Plan, str, str]] = []  # with the branch that says whether an event is in the region
        self._is_data = process.name == DATA
        flags = {it: f"{process.prefix}in_{it}" for it in process.shares}
        self._limited = {it: flag for it, flag in flags.items() if job.has_regions and flag in files.branches}
        for plan in job.plans:
            for region in plan.regions:
                flag = f"{process.prefix}in_{region}" if job.has_regions else ""
                is_blind = self._is_data and process.shares.get(region) == 0
                if not is_blind and (not flag or flag in files.branches):
                    self._fills.append((plan, region, flag))
        self.outputs = {it.name: self._kept(it) for it in job.plans if it.classes and not shift}
        """The outputs that are kept of each event, by their model."""

    def _kept(self, plan: Plan) -> list[str]:
        names = [name.removeprefix(f"{plan.name}_") for name in self._files.branches]
        lacking = next((it for it in plan.classes if it not in names), None)
        if lacking is not None:
            raise NanoMLError(f"{self._files.path}: has no branch {plan.name}_{lacking}. Score the events again.")
        varied = tuple(varied_output(it, "") for it in plan.classes)
        return [*plan.classes, *(it for it in names if it.startswith(varied))]

    def _bound(self, quantity: Expression, ending: str, model: str) -> tuple[Formula, dict[str, str]]:
        """A quantity, and the branch for each name in it; an output of the model can be named without it, and without an ending."""
        formula, branches = Formula(quantity.text), self._files.branches
        aliases = {}
        for name in (name for name in formula.branches if versions.resolve(name, branches) is None):
            known = [it for it in (f"{name}{ending}", f"{model}_{name}{ending}", f"{model}_{name}") if it in branches]
            if known:
                aliases[name] = known[0]
        try:
            found = formula.resolve(
                {**branches, **{name: branches[other] for name, other in aliases.items()}}, self._files.path
            )
        except NanoMLError as problem:
            raise ConfigError(f"{quantity.where}: {problem}") from None
        return formula, {**found, **aliases}

    @property
    def reads(self) -> list[str]:
        """All branches that it needs."""
        columns = [name for _, names in self._quantities.values() for name in names.values()]
        columns += [f"{model}_{it}" for model, outputs in self.outputs.items() for it in outputs]
        flags = [*(flag for _, _, flag in self._fills if flag), *self._limited.values()]
        has_halves = any(plan.has_halves for plan, _, _ in self._fills)
        is_needed = self._single_of or has_halves or (self._is_data and self.process.shares)
        identifiers = versions.IDENTIFIERS if is_needed else ()
        return [*self._weights.values(), *map(self._under_shift, [*columns, *flags]), *identifiers]

    def _under_shift(self, name: str) -> str:
        """The branch with the values of another one under the shift: that itself if they are the same."""
        branches = self._files.branches
        other = under_shift(name, self.shift, branches[name].collection or "") if self.shift else name
        return other if other in branches else name

    def fill(self, arrays: Arrays, length: int, found: dict[tuple[str, str, str], _Filled]) -> None:
        """Add some events, given all that it reads of them."""
        values = {
            quantity: formula.entries(
                {name: arrays[self._under_shift(actual)] for name, actual in names.items()}, length
            )
            for quantity, (formula, names) in self._quantities.items()
        }
        weights = {ending: np.asarray(ak.to_numpy(arrays[name])) for ending, name in self._weights.items()}
        unseen = self._unseen(arrays, length)
        if NOMINAL in weights:
            self.all_weights += float(weights[NOMINAL].sum(dtype=np.float64))
            self.unseen_weights += float(weights[NOMINAL][unseen].sum(dtype=np.float64))
        cells = {
            plan.name: self._cells(plan, values, arrays) for plan in dict.fromkeys(plan for plan, _, _ in self._fills)
        }
        named = dict.fromkeys([*(flag for _, _, flag in self._fills), *self._limited.values()])
        flags = {it: np.asarray(ak.to_numpy(arrays[self._under_shift(it)]), bool) for it in named if it}
        # one entry for each event is the rule: then the weights of a region are picked once for all histograms
        every = np.arange(length)
        is_plain = {name: np.array_equal(event, every) for name, (event, _) in cells.items()}
        last, chosen = None, {}
        for plan, region, flag in sorted(self._fills, key=lambda it: it[2]):
            event, cell = cells[plan.name]
            of_scores = self._single_of is not None and not self._of_scores.isdisjoint(plan.quantities)
            key = (flag, of_scores) if is_plain[plan.name] else None
            if key is None or key != last:
                inside, seen, without = self._seen(region, flags.get(flag, np.ones(length, bool)), flags, arrays)
                if of_scores:
                    inside = inside & unseen
                picked = np.flatnonzero(inside[event])
                rows = event[picked]
                chosen = {ending: each[rows] * seen[rows] for ending, each in weights.items()}
                last = key
            filled = found.setdefault((plan.name, region, self.process.name), _Filled(of_scores))
            filled.without |= without
            places = cell[picked]
            for ending, each in chosen.items():
                filled.add(ending, places, each, plan.size)
            if plan.name in self.outputs:
                outputs = (arrays[f"{plan.name}_{it}"] for it in self.outputs[plan.name])
                kept = [np.asarray(ak.to_numpy(each))[event[picked]] for each in outputs]
                filled.events.append(np.stack([chosen[NOMINAL], *kept], axis=1).astype(np.float32))

    def _seen(
        self, region: str, inside: NDArray[np.bool_], flags: Mapping[str, NDArray[np.bool_]], arrays: Arrays
    ) -> tuple[NDArray[np.bool_], Floats, set[str]]:
        """Which events of a region may be seen, with which share, and which other regions take a part of it.

        Data are seen as a whole or not at all.
        """
        of_region = {it: flags[flag] for it, flag in self._limited.items()}
        share = np.broadcast_to(share_in(region, self.process.shares, of_region.get), len(inside)).astype(np.float64)
        if self._is_data and self.process.shares:
            return inside & (_parts(arrays) < share), np.ones(len(inside)), set()
        least = self.process.shares.get(region, 1.0)
        others = {it for it, flag in of_region.items() if self.process.shares[it] < least and (flag & inside).any()}
        return inside, share, others

    def _unseen(self, arrays: Arrays, length: int) -> NDArray[np.bool_]:
        """Which events have a score that counts: by a network that has not seen them."""
        if self._single_of is None:
            return np.ones(length, bool)
        run, block, event = (np.asarray(ak.to_numpy(arrays[name])) for name in versions.IDENTIFIERS)
        return np.asarray(fold_of(run, block, event, self._single_of) == 0)

    def _cells(
        self, plan: Plan, values: Mapping[tuple[Expression, str], tuple[NDArray[np.int64], Floats]], arrays: Arrays
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The event and the bin of each entry; what is not a number is in none."""
        if plan.classes:
            length = len(next(iter(arrays.values())))
            return np.arange(length), np.zeros(length, np.int64)
        entries = [values[each] for each in plan.quantities]
        event = entries[0][0]
        if any(not np.array_equal(event, other) for other, _ in entries[1:]):
            raise ConfigError(
                f"{plan.axes[0].quantity.where}: the axes of the histogram {plan.name} have different numbers of entries in an event. Use "
                "columns of one collection, or of the event."
            )
        columns = [column for _, column in entries]
        known = np.logical_and.reduce([~np.isnan(column) for column in columns])
        if not known.all():
            event, columns = event[known], [column[known] for column in columns]
        places = [places_in(np.asarray(axis.edges), column) for axis, column in zip(plan.axes, columns)]
        cell = np.ravel_multi_index(places, plan.cells) if len(places) > 1 else places[0]
        if plan.has_halves:
            cell = cell + (_parts(arrays)[event] >= 0.5) * math.prod(plan.cells)
        return event, cell


def _parts(arrays: Arrays) -> Floats:
    """A number from 0 to 1 for each event, by a hash."""
    return part_of(*(np.asarray(ak.to_numpy(arrays[name])) for name in versions.IDENTIFIERS))


def places_in(edges: Floats, values: Floats) -> NDArray[np.int64]:
    """The bin of each value: 0 below all edges, their number at or above the last one."""
    count = len(edges) - 1
    width = (edges[-1] - edges[0]) / count
    if count < _SEARCHED or np.abs(np.diff(edges) - width).max() > 0.01 * width:
        return np.searchsorted(edges, values, "right")
    # in even bins the place is known to one bin, which is quicker than to search it
    guess = np.clip((values - edges[0]) / width, -1, count).astype(np.int64) + 1
    low, high = np.concatenate([[-np.inf], edges]), np.concatenate([edges, [np.inf]])
    return np.minimum(guess + (values >= high[guess]) - (values < low[guess]), count + 1)
