"""Merging: many NanoAOD files in one, with all that they hold. The result is read again, and compared with what was read."""

from __future__ import annotations

import glob
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import events_of, find_duplicates, scratch
from data_processing.merge.plan import MergeInputs, TreePlan, plan_tree
from MLTools.NanoML.atomic import aside_of, replacing
from MLTools.NanoML.errors import NanoMLError, listed
from MLTools.NanoML.nanoaod.accounting import Accounting, accounting_of, is_same_sum
from MLTools.NanoML.nanoaod.provenance import MadeColumn, Provenance
from MLTools.NanoML.rootio.baskets import rows_at_once
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.compression import compression_of
from MLTools.NanoML.rootio.histograms import bins_of, is_histogram
from MLTools.NanoML.rootio.lists import Arrays, Lists, joined, plain
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import PROVENANCE, TREES, RootFile
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.schema.roles import HOW, READS, WRITES
from MLTools.NanoML.terminal.progress import progress


class Checksums:
    """Checksums of the columns of a tree, computed from chunks of rows.

    They do not depend on where a chunk ends, but on everything else: values, their types and order, lengths of lists.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sums: dict[tuple[str, int, str], int] = {}

    def add(self, arrays: Arrays, length: int) -> None:
        """Add all columns of a chunk of `length` rows."""
        self.rows += length
        for name, array in arrays.items():
            for number, part in enumerate(_parts(array)):
                key = (name, number, part.dtype.str)
                self._sums[key] = zlib.crc32(part.data, self._sums.get(key, 0))

    def differing(self, other: Checksums) -> list[str]:
        """Names of the columns that differ, sorted."""
        keys = {*self._sums, *other._sums}
        return sorted({key[0] for key in keys if self._sums.get(key) != other._sums.get(key)})


@dataclass
class FileContent:
    """The content of a file, with checksums in place of the numbers of its trees."""

    # checksums of `Events`, and of those of `TREES` that it has
    trees: dict[str, Checksums] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)  # texts by name, without the record
    # numbers in the bins of histograms, by name
    histograms: dict[str, list[NDArray[np.generic]]] = field(default_factory=dict)
    accounting: Accounting = field(default_factory=Accounting)  # of its record; none without a record

    @classmethod
    def of(cls, file: RootFile, memory: float) -> FileContent:
        """Read all of a file, with chunks of events of up to `memory` MB; its trees must have numbers and lists only."""
        names, sums = _without_counters(file.branches), Checksums()
        with progress("check", file.entries, is_share=True) as bar:
            for start, stop in file.ranges(names, rows_at_once(file.bytes_per_event(names), memory)):
                sums.add(file.read_plain(names, start, stop), stop - start)
                bar.advance(stop - start)
        found = cls({"Events": sums})
        for name, kind in file.keys.items():
            if name in TREES:
                arrays = file.other_tree(name, _without_counters(file.branches_of(name))) or {}
                found.trees[name] = Checksums()
                found.trees[name].add(arrays, len(next(iter(arrays.values()), ())))
            elif kind == "TObjString":
                found.strings[name] = file.string(name) or ""
            elif is_histogram(kind):
                found.histograms[name] = bins_of(file.object(name))
        record = Provenance.of(file)
        if record is not None:
            found.accounting = record.accounting
        return found

    def differing(self, other: FileContent) -> list[str]:
        """The differences, in words."""
        found = []
        for name in {**self.trees, **other.trees}:
            one, two = self.trees.get(name, Checksums()), other.trees.get(name, Checksums())
            if one.rows != two.rows:
                found.append(f"rows of {name} ({one.rows} and {two.rows})")
            else:
                found += [f"{name}/{column}" for column in one.differing(two)]
        strings = self.strings.keys() | other.strings.keys()
        found += sorted(name for name in strings if self.strings.get(name) != other.strings.get(name))
        ours, theirs = self.histograms, other.histograms
        both = ours.keys() & theirs.keys()
        found += sorted({*ours.keys() ^ theirs.keys(), *(it for it in both if not _same(ours[it], theirs[it]))})
        return found if self.accounting == other.accounting else [*found, f"the record {PROVENANCE}"]


def _without_counters(branches: Mapping[str, Branch]) -> list[str]:
    counters = {f"n{branch.collection}" for branch in branches.values() if branch.is_jagged}
    return [name for name in branches if name not in counters]


def _same(one: list[NDArray[np.generic]], other: list[NDArray[np.generic]]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other))


def _parts(values: object) -> Iterator[NDArray[np.generic]]:
    """The numbers of a column; for lists, their lengths first."""
    found = plain(values)
    if isinstance(found, Lists):
        yield np.diff(np.asarray(found.offsets.data))
        found = found.numbers
    yield np.ascontiguousarray(found)


@dataclass(frozen=True)
class MergeJob:
    """One file to be made of others."""

    sources: Sequence[str] = field(metadata=READS)  # paths and URLs of NanoAOD files, each of them once
    output: Path = field(metadata=WRITES)  # path of the merged file
    fill: bool = False  # whether branches that a file lacks are filled with zeros, false or empty lists there
    common: bool = False  # whether branches that are not the same in all files are left out
    compression: str = "ZLIB:5"  # "ALGORITHM:LEVEL"
    memory: float = field(default=100, metadata=HOW)  # how much the events at work may take, in MB


@dataclass(frozen=True)
class MergeRecord:
    """The outcome of a merge."""

    files: int
    entries: int  # events of the merged file
    duplicates: int  # number of events that were left out because an earlier file has them
    sum_of_weights: float  # as in the record of the merged file
    branches: int  # of its events
    filled: Mapping[str, Sequence[str]]  # branches that some files lack, and these files
    not_merged: Mapping[str, str]  # what is left out, and why
    is_hidden: bool = False  # whether these are data after a cut, which may be blind: no number of events is told

    def lines(self, name: str) -> list[str]:
        """Say what was merged into file `name`, and what was not."""
        events = f"{self.entries:,} events, sum of weights {self.sum_of_weights:.9g}, "
        lines = [f"{name}: {self.files:,} files, {'' if self.is_hidden else events}{self.branches:,} branches"]
        if self.duplicates:
            number = "" if self.is_hidden else f"{self.duplicates:,} "
            lines.append(f"{number}events that an earlier file also has were left out")
        filled = [f"{branch} ({len(files)} of {self.files} files)" for branch, files in self.filled.items()]
        if filled:
            lines.append(f"filled where a file lacks it: {listed(filled)}")
        return lines + [f"WARNING {what} is left out: {reason}" for what, reason in self.not_merged.items()]


def summary(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say what was merged; `done` has the `MergeRecord` of each file as JSON, by its name."""
    return [line for name, content in done.items() for line in MergeRecord(**content).lines(name)]


def merge_files(job: MergeJob) -> MergeRecord:
    """Merge files, read the result again, and compare it with what was read.

    The rows of `Events`, `Runs` and `LuminosityBlocks` are concatenated in the order of the files; histograms are summed;
    strings are kept if they are the same; the records are joined. An event of collision data that several files have, such
    as skims of two primary datasets, is taken from the first of them.

    It is an error if the files do not belong together or differ in their branches, or if what was written is not what was
    read; nothing is written then.
    """
    inputs, plans = _look_into(job)
    # what a run that was killed left behind: the lock of the directory of the record is held
    for path in job.output.parent.glob(
        glob.escape(aside_of(job.output, "").stem) + "*" + glob.escape(job.output.suffix)
    ):
        path.unlink(missing_ok=True)
    _find_duplicates(job, inputs, plans["Events"])
    record = _record(inputs, plans)
    with replacing(job.output) as aside:
        with NanoWriter(aside, plans["Events"].branches, job.compression, inputs.format) as writer:
            expected = _write(job, inputs, plans, writer)
            writer.finish(record.tree())
        expected.accounting = record.accounting
        _check(job, aside, expected, inputs)
    return _summary(inputs, plans, record)


def _find_duplicates(job: MergeJob, inputs: MergeInputs, plan: TreePlan) -> None:
    """Note the events of data that are there more than once, and enter them into the accounting."""
    if not inputs.accounting.is_data or not set(IDENTIFIERS) <= set(plan.branches):
        return

    def numbers() -> Iterator[NDArray[np.generic]]:
        for path in inputs.paths:
            with RootFile(path) as file:
                yield from events_of(file)

    with scratch(job.output) as directory:
        inputs.duplicates = find_duplicates([numbers()], directory, job.memory)
    inputs.duplicates.enter(0, inputs.accounting.files)


def foresee(job: MergeJob) -> MergeRecord:
    """Foresee what `merge_files` returns, without duplicates; raises as it does, as far as this is known before."""
    inputs, plans = _look_into(job)
    return _summary(inputs, plans, _record(inputs, plans))


def _look_into(job: MergeJob) -> tuple[MergeInputs, dict[str, TreePlan]]:
    compression_of(job.compression)  # an error comes before the files are read
    inputs = MergeInputs.of(job.sources)
    plans = {}
    for name, sources in inputs.trees.items():
        lacking = inputs.without(name)
        what = f"{listed(lacking, 3)}: has no tree {name}, but {sources[0].path} has it"
        if lacking and name == "Runs" and not inputs.accounting.is_data:
            raise NanoMLError(f"{what}: weights would be lost. Merge them separately.")
        if lacking and not (job.fill or job.common):
            raise NanoMLError(f"{what}. --fill takes it where it is, --common leaves it out.")
        if not (lacking and job.common):
            shifted = inputs.shifted if name == "Events" else {}
            plans[name] = plan_tree(name, sources, job.fill, job.common, shifted)
    return inputs, plans


def _record(inputs: MergeInputs, plans: Mapping[str, TreePlan]) -> Provenance:
    branches = plans["Events"].branches
    columns: dict[str, MadeColumn] = {}
    not_copied: list[str] = []
    for record in inputs.records:
        not_copied += record.not_copied
        for name, made in record.columns.items():
            if name in branches:
                columns.setdefault(name, replace(made, dtype=branches[name].dtype or ""))
    not_copied += [f"{name} ({reason})" for name, reason in _not_merged(inputs, plans).items()]
    first = inputs.records[0]
    return Provenance(
        first.kind,
        inputs.accounting,
        first.selection,
        columns,
        first.model,
        list(dict.fromkeys(not_copied)),
        first.criteria,
    )


def _not_merged(inputs: MergeInputs, plans: Mapping[str, TreePlan]) -> dict[str, str]:
    """All that is left out, with the reason."""
    found = dict(inputs.not_merged)
    for tree in inputs.trees:
        if tree not in plans:
            found[tree] = "is not in all files"
        else:
            names = (f"{tree}/{name}" for name in plans[tree].dropped)
            found.update(dict.fromkeys(names, "is not the same in all files"))
    return found


def _write(job: MergeJob, inputs: MergeInputs, plans: Mapping[str, TreePlan], writer: NanoWriter) -> FileContent:
    """Write all but the record; return what is to be found in the file."""
    written = FileContent({"Events": _write_events(job, inputs, plans["Events"], writer)})
    for name, plan in plans.items():
        if name != "Events" and plan.branches:
            parts = [
                plan.fit(source.branches, {key: source.arrays[key] for key in plan.reads(source.branches)}, source.rows)
                for source in inputs.trees[name]
            ]
            arrays = {key: joined([part[key] for part in parts]) for key in plan.columns}
            writer.write_tree(name, plan.branches, arrays)
            written.trees[name] = Checksums()
            written.trees[name].add(arrays, len(next(iter(arrays.values()))))
    for name, text in inputs.strings.items():
        writer.write_object(name, text)
        written.strings[name] = text
    for name, histogram in inputs.histograms.items():
        writer.write_object(name, histogram)
        written.histograms[name] = bins_of(histogram)
    return written


def _write_events(job: MergeJob, inputs: MergeInputs, plan: TreePlan, writer: NanoWriter) -> Checksums:
    sums, pending, row = Checksums(), 0.0, 0
    with progress(f"merge {job.output.name}", inputs.entries, is_share=inputs.accounting.is_data is not False) as bar:
        for source in inputs.trees["Events"]:
            if not source.rows:
                continue
            names = plan.reads(source.branches)
            with RootFile(source.path) as file:
                if file.entries != source.rows:
                    raise NanoMLError(f"{source.path}: was changed meanwhile: nothing was written. Run it again.")
                # as written: a branch that several columns take counts for each
                most = rows_at_once(file.bytes_per_event(plan.takes(source.branches)), job.memory)
                for start, stop in file.ranges(names, most):
                    arrays = plan.fit(file.branches, file.read_plain(names, start, stop), stop - start)
                    length = kept = stop - start
                    if inputs.duplicates:
                        arrays, kept = inputs.duplicates.without_copies(0, row, arrays, length)
                    row += length
                    writer.events.extend(arrays)
                    sums.add(arrays, kept)
                    pending += (stop - start) / most
                    if pending >= 1:  # as much as may be in the memory
                        writer.events.flush()
                        pending = 0
                    bar.advance(stop - start)
    return sums


def _check(job: MergeJob, written: Path, expected: FileContent, inputs: MergeInputs) -> None:
    """Read what was written, and compare it."""
    with RootFile(written) as file:
        problems = expected.differing(FileContent.of(file, job.memory))
        found = accounting_of(file)
    # a range of entries has no Runs tree, or an empty one, if another range of the same file has it
    source = found.sum_of_weights_source
    weights = [own.sum_of_weights for own in inputs.own if own.sum_of_weights_source == source]
    wanted = math.fsum(weights) - inputs.copies  # data weigh 1 each
    if not is_same_sum(found.sum_of_weights, wanted, math.fsum(map(abs, weights))):
        problems.append(f"sum of weights ({found.sum_of_weights:.9g} for {wanted:.9g})")
    if problems:
        raise NanoMLError(
            f"{job.output}: what was written is not what was read: {listed(problems)}. Nothing is kept: run it again."
        )


def _summary(inputs: MergeInputs, plans: Mapping[str, TreePlan], record: Provenance) -> MergeRecord:
    filled = {f"{tree}/{name}": list(files) for tree, plan in plans.items() for name, files in plan.filled.items()}
    return MergeRecord(
        len(inputs.paths),
        inputs.entries - inputs.copies,
        inputs.copies,
        record.accounting.sum_of_weights,
        len(plans["Events"].branches),
        filled,
        _not_merged(inputs, plans),
        inputs.accounting.is_data is not False and bool(inputs.accounting.cutflow),
    )
