"""Accounting: which events of which files were read and kept, and their weights. Nothing is lost in silence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import (
    EntryRange,
    FileAccounting,
    RecordedAccounting,
    ShiftSums,
    Step,
    WeightSums,
)
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.schema.plain import build, plain
from MLTools.NanoML.terminal.progress import say_once

if TYPE_CHECKING:
    from MLTools.NanoML.rootio.lists import Arrays
    from MLTools.NanoML.rootio.rootfile import RootFile

# source of the sum of weights of simulation that has no generator weights: each event counts 1
UNWEIGHTED = "number of events (simulation without genWeight)"
# that of simulation whose generator weights are not to count
BY_SETTING = "number of events (generator_weights: false)"
# that of simulation whose file has no tree Runs
BY_EVENTS = "genWeight of the file's events"
_SHIFTS_SHOWN = 6
_RUNS_AT_ONCE = 1_000_000  # run numbers that are read at once


@dataclass
class Accounting:
    """The accounting of any number of input files."""

    files: list[FileAccounting] = field(default_factory=list)

    @property
    def entries(self) -> int:
        """Events read."""
        return sum(file.entries for file in self.files)

    @property
    def selected(self) -> int:
        """Events kept."""
        return sum(file.selected for file in self.files)

    @property
    def written(self) -> int:
        """Events in the files that were made, those that pass under shifts alone among them."""
        return sum(file.written for file in self.files)

    @property
    def duplicates(self) -> int:
        """Events that were left out as copies."""
        return sum(file.duplicates for file in self.files)

    @property
    def sum_of_weights(self) -> float:
        """Sum of the generator weights behind all files.

        The sum of a file counts once, however many ranges of entries it was read in. If entries were left out, it is
        scaled by the fraction of the generator weights that was read.
        """
        return math.fsum(file.sum_of_weights for file in self._by_file())

    @property
    def sum_in_runs(self) -> float:
        """Sum of weights in the Runs tree beside these events: its rows go with a file's first entry."""
        files = [file.ranges for file in self._by_file()]
        return math.fsum(ranges[0].sum_of_weights for ranges in files if any(each.has_beginning for each in ranges))

    @property
    def gaps(self) -> list[EntryRange]:
        """The entries that no range covers, in files that were read in ranges."""
        return [gap for file in self._by_file() for gap in file.gaps]

    def check(self, owners: Sequence[str] = (), allow_gaps: bool = False) -> None:
        """Make sure that no events count twice and that weights are right; with `allow_gaps`, entries may be left out.

        For messages, `owners` has for each of `files` the ROOT file with its events. Raises NanoMLError if entries of a file
        were read twice or not at all, or it is not known whether they were, or the file was changed between the passes.
        """
        owner = dict(zip(map(id, self.files), owners))
        for file in self._by_file():
            if len(file.ranges) > 1 or file.ranges[0].part is not None:
                file.check([owner.get(id(each), each.file) for each in file.ranges], allow_gaps)

    def _by_file(self) -> list[_InputFile]:
        found: dict[tuple[str, int, float], list[FileAccounting]] = {}
        for file in self.files:
            found.setdefault(file.identity, []).append(file)
        return [_InputFile(sorted(ranges, key=_place_of)) for ranges in found.values()]

    @property
    def is_data(self) -> bool | None:
        """Whether all files are data; None if data and simulation are mixed, or if there are no files."""
        kinds = {file.is_data for file in self.files}
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def cutflow(self) -> list[Step]:
        """Sum of the files' cut flows."""
        return add_steps(file.cutflow for file in self.files)

    @property
    def weights(self) -> list[WeightSums]:
        """The sums of all files' weights."""
        return add_weight_sums(file.weights for file in self.files)

    @property
    def shifts(self) -> list[ShiftSums]:
        """The sums of all files' shifts."""
        return add_shift_sums(file.shifts for file in self.files)

    @property
    def luminosity_sections(self) -> LumiMask:
        """The luminosity sections of data that were read."""
        found = LumiMask()
        for file in self.files:
            found |= LumiMask.from_dict(file.luminosity_sections, file.file)
        return found

    def recorded(self) -> RecordedAccounting:
        """The files with their sums, as an HDF5 file records them."""
        counts = self.entries, self.selected, self.duplicates
        return RecordedAccounting(list(self.files), *counts, self.sum_of_weights, self.cutflow)

    def to_json(self) -> dict[str, Any]:
        """Plain content, for JSON, with the sums."""
        return plain(self.recorded())

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Accounting:
        """Undo `to_json`."""
        return cls([build(FileAccounting, file) for file in content["files"]])


def _place_of(file: FileAccounting) -> tuple[int, int]:
    """Key by which the ranges of a file are sorted; unknown ones come first."""
    read = file.read
    return (-1, -1) if read is None else (read.first, read.stop)


class _InputFile:
    """The ranges of one file that were read, in their order."""

    def __init__(self, ranges: Sequence[FileAccounting]) -> None:
        self.ranges = ranges
        self.gaps = self._gaps()
        parts = [each.part for each in ranges if each.part is not None]
        self._parts = parts if len(parts) == len(ranges) else []  # none if a range is the whole file

    def _gaps(self) -> list[EntryRange]:
        """The entries that no range covers; none if a range is not known."""
        reads, end = [each.read for each in self.ranges if each.read is not None], self.ranges[0].file_entries
        found, reached = [], 0
        for read in [*reads, EntryRange(self.ranges[0].file, end, end)] if len(reads) == len(self.ranges) else ():
            first = min(read.first, end)
            if first > reached:
                found.append(EntryRange(read.file, reached, first))
            reached = max(reached, read.stop)
        return found

    @property
    def sum_of_weights(self) -> float:
        """The weights behind the entries that were read."""
        total = self.ranges[0].sum_of_weights
        if not self.gaps:
            return total
        whole = self._parts[0].file_weights
        return total * (math.fsum(part.weights for part in self._parts) / whole) if whole else 0.0

    def check(self, owners: Sequence[str], allow_gaps: bool) -> None:
        """As `Accounting.check`."""
        name = self.ranges[0].file
        unknown = next((owner for each, owner in zip(self.ranges, owners) if each.read is None), None)
        if unknown is not None:
            raise NanoMLError(
                f"{unknown}: its record does not say which entries of {name} it was made from, because something "
                "other than nanoAOD-tools' PostProcessor ran the selection. Make it again by nano_postproc.py or nanoml skim."
            )
        self._check_overlaps(owners)
        if self.gaps and not allow_gaps:
            more = f" (and {len(self.gaps) - 1} more ranges)" if len(self.gaps) > 1 else ""
            raise NanoMLError(
                f"{owners[0]}: lacks {self.gaps[0]}{more}, and no other file here was made from them. Add the files that were. Or allow "
                "gaps (--allow-gaps, convert.allow_gaps): then only the weights that were read count in the normalisation."
            )
        if self.gaps and not self._parts[0].file_weights:
            raise NanoMLError(
                f"{owners[0]}: lacks {self.gaps[0]}, and the generator weights of that file add up to zero: the normalisation cannot "
                "be scaled. Add the files that were made from them."
            )
        read = math.fsum(part.weights for part in self._parts)
        scale = math.fsum(abs(part.weights) for part in self._parts)
        for part in self._parts if not self.gaps else ():
            if not is_same_sum(read, part.file_weights, scale + abs(part.file_weights)):
                raise NanoMLError(
                    f"{owners[0]}: the generator weights of the ranges of {name} add up to {read:.9g}, but "
                    f"those of the file to {part.file_weights:.9g}: it was changed between the passes. Make all ranges "
                    "again."
                )

    def _check_overlaps(self, owners: Sequence[str]) -> None:
        last = 0  # the range that reaches farthest
        for number in range(1, len(self.ranges)):
            earlier, later = self.ranges[last], self.ranges[number]
            one, other = earlier.read, later.read
            assert one is not None
            assert other is not None
            stop = min(one.stop, other.stop)
            if other.first < stop or _place_of(earlier) == _place_of(later):
                is_part = earlier.part is not None and later.part is not None
                what = EntryRange(other.file, other.first, stop) if is_part else other.file
                raise NanoMLError(
                    f"{owners[number]}: was made from {what}, as {owners[last]} was: these events and their weights would count "
                    "twice. Take one of them."
                )
            if other.stop >= one.stop:
                last = number


def is_same_sum(one: float, other: float, scale: float) -> bool:
    """Whether two sums of weights agree but for rounding; `scale` is the sum of their absolute values."""
    return abs(one - other) <= 1e-12 * scale


def add_steps(flows: Iterable[Iterable[Step]]) -> list[Step]:
    """Add cut flows, cut by cut, in the order in which the cuts first appear."""
    total: dict[str, Step] = {}
    for flow in flows:
        for step in flow:
            sofar = total.setdefault(step.cut, Step(step.cut, 0, 0.0))
            sofar.events += step.events
            sofar.weights += step.weights
    return list(total.values())


def aligned(flows: Mapping[str, Sequence[Step]]) -> dict[str, list[Step]]:
    """Cut flows of several datasets with the same cuts, in the order in which these act.

    A cut that is not made on a dataset, as certified luminosity sections on simulation, leaves its events as they are.
    """
    cuts: list[str] = []
    for flow in flows.values():
        at = 0
        for step in flow:
            if step.cut not in cuts:
                cuts.insert(at, step.cut)
            at = cuts.index(step.cut) + 1
    found: dict[str, list[Step]] = {}
    for name, flow in flows.items():
        known, steps = {step.cut: step for step in flow}, found.setdefault(name, [])
        for cut in cuts:
            steps += [known[cut]] if cut in known else [replace(it, cut=cut) for it in steps[-1:]]
    return found


def add_weight_sums(parts: Iterable[Iterable[WeightSums]]) -> list[WeightSums]:
    """Add the sums of weights of several ranges or files, weight by weight."""
    total: dict[str, WeightSums] = {}
    for part in parts:
        for each in part:
            sofar = total.setdefault(
                each.weight, WeightSums(each.weight, each.cut, each.keeps_yield, each.is_binned, {}, {}, each.combine)
            )
            _add_to(sofar.without, each.without)
            for variation, sums in each.sums.items():
                _add_to(sofar.sums.setdefault(variation, {}), sums)
            if each.outlier_ratio > sofar.outlier_ratio:
                sofar.outlier = each.outlier
    return list(total.values())


def add_shift_sums(parts: Iterable[Iterable[ShiftSums]]) -> list[ShiftSums]:
    """Add what several ranges or files have for each shift."""
    total: dict[str, ShiftSums] = {}
    for part in parts:
        for each in part:
            sofar = total.setdefault(each.shift, ShiftSums(each.shift, [], []))
            sofar.cutflow = add_steps([sofar.cutflow, each.cutflow])
            sofar.weights = add_weight_sums([sofar.weights, each.weights])
    return list(total.values())


def shift_changes(accounting: Accounting) -> str:
    """By how much the number of selected events changes under each shift, the largest changes first; empty without shifts."""
    nominal = accounting.selected
    found: dict[str, dict[str, int]] = {}
    for each in accounting.shifts:
        direction = next((end for end in ("Up", "Down") if each.shift.endswith(end)), "")
        name = each.shift[: len(each.shift) - len(direction)]
        found.setdefault(name, {})[direction] = each.cutflow[-1].events - nominal
    ordered = sorted(found.items(), key=lambda item: -max(map(abs, item[1].values())))
    told = []
    for name, changes in ordered[:_SHIFTS_SHOWN]:
        both = len(changes) == 2
        numbers = " / ".join(_change(changes[end], nominal) for end in sorted(changes, reverse=True))
        told.append(f"{name}{'' if both else next(iter(changes))} {numbers}")
    if len(ordered) > _SHIFTS_SHOWN:
        most = max(map(abs, ordered[_SHIFTS_SHOWN][1].values()))
        told.append(f"and {len(ordered) - _SHIFTS_SHOWN} more, at most {_change(most, nominal)[1:]}")
    return ", ".join(told)


def _change(events: int, nominal: int) -> str:
    return f"{100 * events / nominal:+.1f} %" if nominal else f"{events:+,}"


def _add_to(total: dict[int, float], more: Mapping[int, float]) -> None:
    for place, value in more.items():
        total[place] = total.get(place, 0.0) + value


def event_weights(arrays: Arrays, length: int) -> NDArray[np.float64]:
    """Generator weights of a chunk, float64 of shape (length,): `genWeight`, or ones if there is none, as in data."""
    if "genWeight" not in arrays:
        return np.ones(length)
    return np.asarray(arrays["genWeight"], np.float64)


def weights_in(file: RootFile, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
    """As `event_weights`, of a range of a file's entries."""
    stop = file.entries if stop is None else min(stop, file.entries)
    return event_weights(file.read({"genWeight"} & set(file.branches), start, stop), stop - start)


def accounting_of(file: RootFile, generator_weights: bool = True) -> FileAccounting:
    """The accounting of a file that was not skimmed here: entries and sum of weights, with no event selected yet.

    Without `generator_weights`, the sum is the number of generated events: that in `Runs`, or else of the events in the file.
    """

    def counted(total: float, source: str, is_data: bool = False) -> FileAccounting:
        return FileAccounting(file.path, file.entries, 0, total, source, is_data, uuid=file.uuid)

    runs = file.other_tree("Runs") or {}
    name = next((name for name in versions.SUM_OF_WEIGHTS if name in runs), None)
    if not generator_weights and is_simulation(file):
        count = (name or "").replace("Sumw", "Count")
        return counted(float(np.sum(runs[count])) if count in runs else float(file.entries), BY_SETTING)
    if name is not None:
        return counted(math.fsum(np.asarray(runs[name]).tolist()), f"Runs/{name}")
    if "genWeight" in file.branches:
        return counted(float(weights_in(file).sum()), BY_EVENTS)
    mark = _mark_of_simulation(file)
    if mark is None:
        return counted(float(file.entries), "number of events (data)", is_data=True)
    if file.entries:
        say_once(
            UNWEIGHTED,
            f"WARNING: {file.path}: is simulation (its run number is 1, and it has {mark}), but has neither genWeight nor "
            "a sum of weights in Runs. Each event counts 1, here and in all files like it: that is right only if all "
            "generator weights are equal and no events were cut away before; then say `generator_weights: false` of the dataset.",
        )
    return counted(float(file.entries), UNWEIGHTED)


def all_events_of(file: RootFile) -> FileAccounting:
    """The accounting of a file of which every event is taken, without a selection."""
    return replace(accounting_of(file), selected=file.entries)


def check_declared(dataset: str, found: FileAccounting, is_data: bool | None) -> None:
    """Raise NanoMLError if a file is not what the configuration says of its dataset: data or not; None if it does not say."""
    whose = f"dataset {dataset}: " if dataset else ""
    if is_data and not found.is_data:
        source = found.sum_of_weights_source
        raise NanoMLError(f"{whose}`data: true`, but {found.file} is simulation (its sum of weights: {source}).")
    if is_data is False and found.is_data:
        raise NanoMLError(
            f"{whose}{found.file} is data, without generator weights and of no run of simulation. Add `data: true`."
        )


def is_simulation(file: RootFile) -> bool:
    """Whether the events of a file were simulated, also if they have no generator weights."""
    return "genWeight" in file.branches or _mark_of_simulation(file) is not None


def _mark_of_simulation(file: RootFile) -> str | None:
    """A branch that only simulation has, if all events are of run 1 as well, which data never are; else None."""
    mark = versions.generator_branch(file.branches)
    if mark is None or "run" not in file.branches:
        return None
    for start in range(0, file.entries, _RUNS_AT_ONCE):
        runs = np.asarray(file.read(["run"], start, start + _RUNS_AT_ONCE)["run"])
        if (runs != 1).any():
            return None
    return mark
