"""Skims: NanoAOD in, the events that pass all filters out, as NanoAOD with the columns that were made."""

from __future__ import annotations

import ctypes
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_processing.skim.plan import Filter, FilterSet, SkimJob, SkimPlan, made_by, plan_skim
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import (
    Accounting,
    add_shift_sums,
    add_steps,
    add_weight_sums,
    check_declared,
    event_weights,
    is_simulation,
)
from MLTools.NanoML.nanoaod.fileaccounting import (
    OUTLIER,
    SELECTED,
    FileAccounting,
    Outlier,
    ShiftSums,
    WeightSums,
    under_shift,
)
from MLTools.NanoML.nanoaod.lumimask import LumiMask, sections_of
from MLTools.NanoML.nanoaod.provenance import MadeColumn, Provenance, accounting_of_input, refuse_shifts
from MLTools.NanoML.rootio.baskets import joined_baskets, rows_at_once
from MLTools.NanoML.rootio.lists import Picker, joined
from MLTools.NanoML.rootio.nanowriter import NanoWriter, copy_auxiliary
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.selection import Step
from MLTools.NanoML.terminal.progress import progress

# by weight and variation, its largest value and the entry in the file
_Largest = dict[tuple[str, str], tuple[float, int]]
_AHEAD = 2  # ranges of events of a remote file that are selected before one is written


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt in malloc.h


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of arrays for the next ones: it comes page by page from the kernel, which takes a fifth of the time."""
    with suppress(AttributeError, OSError, TypeError):  # only glibc has it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        mallopt(_M_TRIM_THRESHOLD, 1 << 28)


def skim_file(job: SkimJob) -> Accounting:
    """Skim one file, even if no event is kept; return its accounting.

    It is an error if the input lacks branches, or the selection made a mistake; nothing is written then.
    """
    _keep_freed_memory()
    filter_set = FilterSet.of(job)
    with RootFile(job.source) as file:
        differing: set[str] = set()
        while True:
            try:
                return _skim(job, file, filter_set, differing)
            except _MoreColumnsError as more:  # then all that the file needs are known
                differing |= more.columns


class _MoreColumnsError(Exception):
    """Columns differ under shifts that the output was begun without."""

    def __init__(self, columns: set[str]) -> None:
        self.columns = columns


def _skim(job: SkimJob, file: RootFile, filter_set: FilterSet, differing: set[str]) -> Accounting:
    """Skim a file, with the columns that differ under shifts, as far as they are known; the first events show most of them."""
    accounting = accounting_of_input(file, job.generator_weights)
    check_declared(job.dataset.name, accounting, job.dataset.is_data)
    refuse_shifts(accounting)
    filters = filter_set.open(file, accounting.is_data, differing)
    plan = plan_skim(file, filters, job, accounting.weights)
    chunks = _chunks(job, file, filters, plan.read)
    first = next(chunks)
    differing |= first.more
    plan = replace(plan, made=made_by(filters))
    flows, sums, shifts, more = [], [], [], set[str]()
    largest: _Largest = {}
    with replacing(job.output) as aside, NanoWriter(aside, plan.written, job.compression, job.format) as writer:
        is_data = accounting.is_data is not False
        with progress(f"skim {Path(job.source).name}", file.entries, is_share=is_data) as bar:
            columns = writer.events.columns
            for chunk in _announced(itertools.chain([first], chunks), file, job, plan, columns):
                more |= chunk.more - differing
                if not more:
                    for arrays in chunk.output(job, plan, columns):
                        writer.events.extend(arrays)
                flows.append(chunk.steps)
                sums.append(chunk.weights)
                for key, value in chunk.largest.items():
                    largest[key] = max(largest.get(key, value), value, key=lambda it: abs(it[0]))
                shifts.append(chunk.shifts)
                accounting.only_shifted += chunk.only_shifted
                bar.advance(chunk.entries)
        if more:
            raise _MoreColumnsError(more)
        accounting.cutflow = add_steps(flows)
        weights = add_weight_sums(sums)
        _name_outliers(weights, largest, file)
        accounting.weights += weights
        accounting.shifts = add_shift_sums(shifts)
        accounting.absent = plan.absent
        certified = filter_set.certified if accounting.is_data else None
        not_copied = copy_auxiliary(file, writer, certified.rows if certified is not None else None)
        if accounting.is_data:
            accounting.luminosity_sections = sections_read(file, certified)
        made = plan.made.items()
        record = Provenance(
            "skim",
            Accounting([accounting]),
            job.selection or None,
            {name: MadeColumn.of(branch) for name, branch in made},
            not_copied=not_copied,
            criteria=filter_set.criteria(job, accounting.is_data),
        )
        _close_accounting(accounting, writer, record)
    return record.accounting


def _name_outliers(weights: Sequence[WeightSums], largest: _Largest, file: RootFile) -> None:
    """Note the event in which a weight is far above its mean."""
    for each, variation in ((it, key) for it in weights for key in it.means):
        value, entry = largest.get((each.weight, variation), (0.0, 0))
        found = replace(each, outlier=Outlier(variation, value, ""))
        if found.outlier_ratio > max(OUTLIER, each.outlier_ratio):
            numbers = file.read(IDENTIFIERS, entry, entry + 1)
            each.outlier = Outlier(variation, value, ":".join(str(numbers[name][0]) for name in IDENTIFIERS))


def _chunks(job: SkimJob, file: RootFile, filters: Sequence[Filter], read: Sequence[str]) -> Iterator[_Chunk]:
    """The ranges of a file's events, with the events that pass all filters."""
    most = _most(job, file, read)
    # one range even for a file without events, so that its cut flow has zeros
    for start, stop in file.ranges(read, most) if file.entries else [(0, 0)]:
        yield _Chunk(file, read, start, stop).narrowed(filters)


def _announced(
    chunks: Iterable[_Chunk], file: RootFile, job: SkimJob, plan: SkimPlan, columns: Sequence[str]
) -> Iterator[_Chunk]:
    """The chunks of a file, some selected before the first is written: so what they keep is on its way from a server meanwhile."""
    coming: deque[_Chunk] = deque()
    for chunk in chunks:
        chunk.announce(job, plan, columns)
        coming.append(chunk)
        if len(coming) > (_AHEAD if file.is_far else 0):
            yield coming.popleft()
    while coming:
        yield coming.popleft()


def plan_file(job: SkimJob, file: RootFile, tried: int = 0, with_shifts: bool = True) -> tuple[SkimPlan, list[Step]]:
    """The branches that a job would read from a file and write, and the cut flow of the first `tried` events.

    The filters run on these, without any output: so they show most mistakes in a selection, and `with_shifts` those in its shifts.
    """
    if job.engine == "nanoaodtools":
        job = replace(job, cut="")  # ROOT reads it, and may know more than `Formula`
    all_filters = FilterSet.of(job)
    if all_filters.selection is not None and not with_shifts:
        vars(all_filters.selection)["shifts"] = {}
    filters = all_filters.open(file, not is_simulation(file), set())
    record = Provenance.of(file)
    plan = plan_skim(file, filters, job, record.accounting.weights if record else ())
    steps: list[Step] = []
    if tried and job.engine == "columnar":
        steps = _Chunk(file, plan.read, 0, min(tried, file.entries)).narrowed(filters).steps
    return plan, steps


def sections_read(file: RootFile, certified: LumiMask | None) -> dict[str, list[list[int]]]:
    """The luminosity sections of a file of data that a skim read, as in a luminosity JSON."""
    sections = sections_of(file)
    return (sections if certified is None else sections & certified).as_dict()


def _most(job: SkimJob, file: RootFile, names: Sequence[str]) -> int:
    """How many events of these branches, read by filters or kept, may be in memory at once."""
    return min(job.chunk, rows_at_once(file.bytes_per_event(names), job.memory))


class _Chunk:
    """A range of a file's events while it is being narrowed."""

    def __init__(self, file: RootFile, read: Sequence[str], start: int, stop: int) -> None:
        self._file, self._start, self._stop = file, start, stop
        self._arrays = file.read(read, start, stop)
        self._weights = event_weights(self._arrays, stop - start)
        wrong = np.flatnonzero(~np.isfinite(self._weights))
        if len(wrong):
            raise NanoMLError(
                f"{file.path}: genWeight is NaN or infinite in entry {start + wrong[0]} (and in {len(wrong) - 1} more nearby): "
                "the file is damaged. Fetch it again or leave it out."
            )
        self._rows: NDArray[Any] = np.arange(stop - start)
        self._columns: dict[str, Any] = {}
        self._nominal: dict[str, str] = {}  # columns that may differ under a shift, and those from which they do
        self.more: set[str] = set()  # those that do
        self.weights: list[WeightSums] = []
        self.largest: _Largest = {}
        self.shifts: list[ShiftSums] = []
        self.steps = [Step("all", stop - start, float(self._weights.sum()))]

    @property
    def entries(self) -> int:
        return self._stop - self._start

    @property
    def only_shifted(self) -> int:
        """How many of the events that are left pass under shifts alone."""
        return len(self._rows) - int(np.sum(self._columns[SELECTED])) if self.shifts else 0

    def narrowed(self, filters: Sequence[Filter]) -> _Chunk:
        """The same, with the events that pass filters, and nothing of the others."""
        for each in filters:
            self._narrow(each)
        pick = Picker(self._rows)
        self._arrays = {name: pick(array) for name, array in self._arrays.items()}
        return self

    def _narrow(self, filter_: Filter) -> None:
        everything = len(self._rows) == self.entries
        pick = Picker(self._rows)
        arrays = {name: self._arrays[name] if everything else pick(self._arrays[name]) for name in filter_.branches}
        selected = filter_.apply(arrays, self._weights[self._rows])
        known = {step.cut for step in self.steps}
        twice = [step.cut for step in selected.cutflow.steps[1:] if step.cut in known]
        if twice:
            raise NanoMLError(
                f'{self._file.path}: there are two cuts named "{twice[0]}". Give the one of the selection another name.'
            )
        cutflow, before = selected.cutflow, self.steps
        self.steps = [*before, *(cutflow.steps_of(self._columns[SELECTED]) if self.shifts else cutflow.steps)[1:]]
        for sums in self.shifts:
            sums.cutflow += cutflow.steps_of(self._columns[under_shift(SELECTED, sums.shift)])[1:]
        if selected.shifts:
            self.shifts = selected.shift_sums()
            for sums in self.shifts:
                sums.cutflow[:1] = before
        self.weights += cutflow.weight_sums()
        for key, (value, row) in cutflow.largest_weights().items():
            self.largest[key] = value, self._start + int(self._rows[row])
        if len(selected.rows) < len(self._rows):
            again = Picker(selected.rows)
            self._columns = {name: again(column) for name, column in self._columns.items()}
        self._columns.update(selected.columns)
        self._nominal.update(filter_.nominal)
        self.more |= selected.columns.keys() & filter_.nominal.keys()
        self._rows = self._rows[selected.rows]

    def announce(self, job: SkimJob, plan: SkimPlan, names: Sequence[str]) -> None:
        """Say what `output` will read, with the same arguments."""
        missing = self._missing(plan, names)
        self._file.announce(missing, self._clusters(missing, _most(job, self._file, missing)))

    def _missing(self, plan: SkimPlan, names: Sequence[str]) -> list[str]:
        """The branches that are written, and have not been read."""
        return [name for name in names if name in plan.kept and name not in self._arrays]

    def output(self, job: SkimJob, plan: SkimPlan, names: Sequence[str]) -> Iterator[Mapping[str, object]]:
        """The rows to be written, in parts; branches are read only where events are kept."""
        missing = self._missing(plan, names)
        for start, stop in self._clusters(missing, _most(job, self._file, missing)):
            first, last = self._rows.searchsorted([start - self._start, stop - self._start]).tolist()
            kept: NDArray[np.int64] = self._rows[first:last]
            have = Picker(np.arange(first, last))
            part = self._read_rows(missing, kept + self._start, start, stop)
            for name in names:
                made = name if name in self._columns else self._nominal.get(name)
                if made is not None:
                    part[name] = self._columns[made][first:last]
                elif name in plan.defaults:
                    part[name] = np.full(len(kept), plan.defaults[name])
                elif name not in part:
                    part[name] = have(self._arrays[name])
            yield part

    def _read_rows(self, names: Sequence[str], rows: NDArray[np.int64], start: int, stop: int) -> dict[str, object]:
        """Branches at some rows of the file, all of them in a range."""
        parts = []
        for begin, end in self._file.portions(names, start, stop):
            first, last = rows.searchsorted([begin, end])
            parts.append(self._file.read_plain(names, begin, end, Picker(rows[first:last] - begin)))
        return {name: joined([part[name] for part in parts]) for name in names}

    def _clusters(self, names: Sequence[str], most: int) -> Iterator[tuple[int, int]]:
        """The ranges between ends of baskets in which events are kept, neighbours joined."""
        ends = self._file.basket_ends(names, self._start, self._stop)
        places = self._rows.searchsorted(np.asarray(ends) - self._start)
        for is_kept, each in itertools.groupby(
            range(len(ends) - 1), lambda basket: places[basket] < places[basket + 1]
        ):
            if is_kept:
                baskets = list(each)
                yield from joined_baskets(ends[baskets[0] : baskets[-1] + 2], most)


def _close_accounting(accounting: FileAccounting, writer: NanoWriter, record: Provenance) -> None:
    """Compare what the cut flow counted with what is in the output, then write the record."""
    accounting.selected = accounting.cutflow[-1].events
    if accounting.cutflow[0].events != accounting.entries:
        raise NanoMLError(
            f"{accounting.file}: has {accounting.entries} events, but {accounting.cutflow[0].events} were read. Nothing was written."
        )
    writer.finish(record.tree())
    if writer.events.entries != accounting.written:
        raise NanoMLError(
            f"{accounting.file}: {accounting.written} events passed, but {writer.events.entries} were kept. Nothing was written."
        )
