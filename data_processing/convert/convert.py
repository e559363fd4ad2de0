"""Conversion: ROOT files to one HDF5 file of the schema in doc/hdf5.md."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.convert.columns import (
    DatasetParameter,
    FileColumns,
    StoredCollection,
    check_parameters,
    check_same,
    columns_of,
)
from data_processing.convert.duplicateevents import DuplicateEvents, events_of, find_duplicates, scratch
from data_processing.convert.expressions import (
    IS_SELECTED,
    BoundExpression,
    Estimate,
    EventWeights,
    Region,
    Transfer,
    branches_of,
    given_weights,
    nominal_cuts,
    passing,
)
from data_processing.convert.reading import OpenFiles, Sample, described, has_generator_weights, read_ahead, survey
from data_processing.convert.writing import BlockWriter, CoreHash, RowReader, table_writers
from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.hdf5 import (
    EVENTS,
    SHIFTS,
    ConvertedCollection,
    ConvertedDataset,
    HDF5Metadata,
    Truncated,
    new_hdf5,
    write_metadata,
)
from MLTools.NanoML.contracts.missing import Missing
from MLTools.NanoML.errors import ConfigError, NanoMLError, listed, plural
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.roles import BESIDE, HOW, READS, WRITES
from MLTools.NanoML.terminal.progress import Bar, progress, say_once

_COUNTED_AT_ONCE = 1_000_000  # events


@dataclass(frozen=True)
class ConvertJob:
    """One HDF5 file to be made."""

    sources: Sequence[str] = field(metadata=READS)  # the ROOT files of one dataset
    output: Path = field(metadata=WRITES)  # path of the HDF5 file
    features: Sequence[str]  # names of event-level columns: branches, or columns of a selection
    objects: Mapping[str, StoredCollection] = field(default_factory=dict)  # collections to be stored
    sample: Sample = field(default_factory=Sample)  # the dataset
    classes: Sequence[str] = ()  # all classes of the analysis, in the order of their labels
    luminosity: float | None = field(default=None, metadata=BESIDE)  # integrated luminosity [/fb], or None
    compression: str = "gzip:1"  # "gzip:LEVEL" or "none"
    memory: int = field(default=100, metadata=HOW)  # memory for the rows of a block of events [MB]
    float16: Sequence[str] = ()  # globs of columns that are stored in reduced precision
    no_value: Mapping[str, Sequence[float]] = field(default_factory=dict)  # what stands for it, by globs of columns
    drop: Sequence[str] = ()  # globs of branches that are left out of whole collections
    # files over which quantiles of the numbers of objects are taken; empty for `sources`
    survey: Sequence[str] = field(default=(), metadata=READS)
    # parameters of all datasets of the analysis, with their values for this one
    parameters: Sequence[DatasetParameter] = ()
    # files of the dataset that are left out because they cannot be read
    missing: Sequence[Missing] = field(default=(), metadata=HOW)
    # for data: the ROOT files of the datasets whose events are left out here, by the names of these datasets
    earlier: Mapping[str, Sequence[str]] = field(default_factory=dict, metadata=READS)
    allow_gaps: bool = False  # whether files that nanoAOD-tools read in ranges may lack entries
    # the regions of the analysis, for each of which there is a column
    regions: Sequence[Region] = field(default=(), metadata=BESIDE)
    is_corrected: bool = False  # whether a dataset of the analysis has a weight beside the generator's
    others: Sequence[Transfer] = ()  # transfer weights of other classes, of whose variations all files have columns
    estimate: Estimate | None = None  # what its events are in a class that is estimated from data
    shifts: Sequence[str] = ()  # globs of the shifts of objects under which its events are stored as well

    @property
    def flags(self) -> Sequence[Region]:
        """All regions, with the cuts by which events count there."""
        return self.estimate.counted(self.regions) if self.estimate else self.regions

    @property
    def transfers(self) -> Sequence[Transfer]:
        """Its own transfer weight, and what those of other classes are here, in the order of the classes."""
        own = [self.estimate.factor] if self.estimate else []
        return sorted([*own, *(it.of_others for it in self.others)], key=lambda it: self.classes.index(it.class_))

    @property
    def label(self) -> int:
        """Number of the class, -1 without one."""
        return self.classes.index(self.sample.class_) if self.sample.class_ is not None else -1


def convert_files(job: ConvertJob) -> HDF5Metadata:
    """Convert the files of one dataset into one HDF5 file; return the metadata that was written (see doc/hdf5.md).

    For a class that is estimated from data, only the events in the region are taken. It is an error if a file lacks a column,
    or the sum of weights is not positive; nothing is written then.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(OpenFiles())
        surveyed = _survey(job, opened)
        shifts, maxima = _wanted_shifts(job, surveyed.accounting), surveyed.columns.collections
        aside = stack.enter_context(replacing(job.output))
        file = stack.enter_context(new_hdf5(aside))
        metadata = _convert(job, opened, file, surveyed, shifts=shifts)
        alike = {name: replace(it, max=maxima[name].max, quantile=None) for name, it in job.objects.items()}
        under = replace(job, objects=alike)
        if shifts:
            file.flush()
            size = os.path.getsize(aside) * len(shifts) / 1e6
            say_once(
                str(job.output),
                f"{job.output.name}: about {size:.3g} MB more for events under {plural(len(shifts), 'shift')}",
            )
        for shift in shifts:
            with OpenFiles(shift) as shifted:
                _convert(under, shifted, file.create_group(f"{SHIFTS}/{shift}"), _survey(under, shifted, shift), shift)
    return metadata


def _wanted_shifts(job: ConvertJob, accounting: Accounting) -> tuple[str, ...]:
    """The shifts of the files, as "jesUp", that a glob stands for: itself, or without Up and Down."""
    if accounting.is_data:
        return ()
    names = [each.shift for each in accounting.shifts]
    stems = {name: re.sub("(Up|Down)$", "", name) for name in names}
    for glob in job.shifts:
        if not any(fnmatchcase(text, glob) for pair in stems.items() for text in pair):
            skimmed = f"It was skimmed under {listed(dict.fromkeys(stems.values()), 8)}"
            known = skimmed if names else "Its skim has no shifts"
            raise ConfigError(f"convert.shifts: {job.sample.name or job.sources[0]} has no shift {glob}. {known}.")
    return tuple(
        name for name, stem in stems.items() if any(fnmatchcase(text, it) for it in job.shifts for text in (name, stem))
    )


def _convert(
    job: ConvertJob, opened: OpenFiles, file: Any, surveyed: _Surveyed, shift: str = "", shifts: tuple[str, ...] = ()
) -> HDF5Metadata:
    """Convert the files into an HDF5 file, or the group of a shift."""
    columns, accounting, duplicates = surveyed.columns, surveyed.accounting, surveyed.duplicates
    for each in accounting.files:
        each.shifts = []  # no event of the output is under another one
    first = opened(job.sources[0])
    dataset = _dataset(job, accounting, duplicates)
    transfers = [it.unvaried for it in job.transfers] if shift else job.transfers
    given = given_weights(accounting.weights, job.sample.weight, transfers, first)
    weights = EventWeights(dataset.weight_per_genweight, has_generator_weights(accounting), given)
    flags = {it.describe().column: BoundExpression(it.cut, first) for it in job.flags}
    reader = RowReader(columns, dataset.is_data, job.label, weights, job.parameters, job.is_corrected, flags)
    name = f"{job.output.name}, {shift}" if shift else job.output.name
    with (
        table_writers(file, reader.tables, dataset.accounting.selected, job.compression) as writers,
        progress(f"convert {name}", surveyed.entries, is_share=bool(dataset.is_data)) as bar,
    ):
        core = CoreHash(reader.around)
        lost, sum_of_weights = _write(job, opened, reader, surveyed.cuts, duplicates, writers, core, bar)
        written = {name: writer.finish() for name, writer in writers.items()}
        if set(written.values()) != {dataset.accounting.selected}:
            raise NanoMLError(
                f"{job.output}: {written} events were written of {dataset.accounting.selected}. Nothing is kept: run it again."
            )
        if job.estimate:
            dataset = replace(dataset, data_driven=job.estimate.describe(sum_of_weights))
        metadata = replace(
            _metadata(job, columns, dataset, lost),
            weights=tuple(weights.varied),
            regions=tuple(region.describe() for region in job.regions),
            shifts=shifts,
        )
        metadata = replace(metadata, core=core.of(metadata))
        write_metadata(file, metadata)
    return metadata


def _find_duplicates(job: ConvertJob, accounting: Accounting, opened: OpenFiles) -> DuplicateEvents | None:
    """Find events of data that are there more than once, and enter them into the accounting; None for simulation.

    The parts are the earlier datasets, and then this one.
    """
    if not (accounting.is_data if job.sample.is_data is None else job.sample.is_data):
        return None

    def numbers(files: Sequence[str], opened: Callable[[str], RootFile]) -> Iterator[NDArray[np.generic]]:
        for path in files:
            file = opened(path)
            yield from events_of(file, BoundExpression(job.estimate.region.cut, file) if job.estimate else None)

    with scratch(job.output) as directory, OpenFiles() as others:
        parts = [*(numbers(files, others) for files in job.earlier.values()), numbers(job.sources, opened)]
        found = find_duplicates(parts, directory, job.memory)
    found.enter(len(job.earlier), accounting.files)
    return found


def _write(
    job: ConvertJob,
    opened: OpenFiles,
    reader: RowReader,
    cuts: Sequence[BoundExpression],
    duplicates: DuplicateEvents | None,
    writers: Mapping[str, BlockWriter],
    core: CoreHash,
    bar: Bar,
) -> tuple[dict[str, tuple[int, int]], float]:
    """Write the rows of all events that pass the cuts.

    Returns how many objects of each collection there were, and how many were cut off; and the sum of the weights.
    """
    row, sums = 0, list[float]()
    branches = list(dict.fromkeys([*reader.branches, *branches_of(cuts)]))
    bytes_per_event = sum(kind.itemsize for kind in reader.tables.values())
    most = max(1, job.memory * 1_000_000 // bytes_per_event)
    lost = dict.fromkeys(reader.columns.collections, (0, 0))
    ranges = (
        (opened(source), start, stop) for source in job.sources for start, stop in opened(source).ranges(branches, most)
    )
    for file, length, arrays in read_ahead(ranges, branches):
        arrays, kept = passing(cuts, arrays, length)
        begin, row = row, row + kept
        if duplicates:
            arrays, kept = duplicates.without_copies(len(job.earlier), begin, arrays, kept)
        rows, counts = reader.rows(arrays, kept, file.path)
        for name, writer in writers.items():
            writer.write(rows[name])
        core.add(rows)
        lost = {name: (seen + counts[name][0], cut + counts[name][1]) for name, (seen, cut) in lost.items()}
        sums.append(float(rows[EVENTS]["weight"].sum(dtype=np.float64)) if "weight" in rows[EVENTS] else 0.0)
        bar.advance(length)
    return lost, math.fsum(sums)


@dataclass(frozen=True)
class _Surveyed:
    """The properties of all files that are known before anything is written."""

    columns: FileColumns
    accounting: Accounting
    entries: int  # events in the files
    cuts: Sequence[BoundExpression]  # that events must pass
    duplicates: DuplicateEvents | None


def _survey(job: ConvertJob, opened: OpenFiles, shift: str = "") -> _Surveyed:
    """Survey all files, nominally or under a shift."""
    if not job.sources:
        raise NanoMLError(f"{job.sample.name or job.output}: there are no files to convert.")
    columns: list[FileColumns] = []

    def visit(file: RootFile, record: Provenance | None) -> None:
        found = columns_of(file, job.features, job.objects, record, job.float16, job.drop, job.no_value)
        check_parameters(file, found, job.parameters)
        for region in job.regions:
            BoundExpression(region.cut, file)
        if columns:
            check_same(columns[0], found, job.sources[0], file.path)
        else:
            columns.append(found)

    accounting = survey(job.sample, job.sources, opened, job.allow_gaps, visit)
    if shift:
        accounting = Accounting([each.under(shift) for each in accounting.files])
    entries, first = accounting.written, opened(job.sources[0])
    cuts = [BoundExpression(IS_SELECTED, first)] if any(each.only_shifted for each in accounting.files) else []
    if job.estimate:
        cuts.append(BoundExpression(job.estimate.region.cut, first))
        job.estimate.enter(accounting, map(opened, job.sources), job.regions)
    duplicates = _find_duplicates(job, accounting, opened)
    return _Surveyed(_with_quantiles(job, opened, columns[0]), accounting, entries, cuts, duplicates)


def _with_quantiles(job: ConvertJob, opened: OpenFiles, columns: FileColumns) -> FileColumns:
    """The columns, with the quantiles of their numbers of objects as `max` of collections that ask for it."""
    wanted = {name: objects.quantile for name, objects in job.objects.items() if objects.quantile is not None}
    histograms: dict[str, NDArray[Any]] = {name: np.zeros(1, np.int64) for name in wanted}
    for source in (job.survey or job.sources) if wanted else ():
        file = opened(source)
        cuts = nominal_cuts(file, Provenance.of(file))
        for name in wanted:
            branch = columns.collections[name].order_branch
            for start, stop in file.ranges([branch], _COUNTED_AT_ONCE):
                arrays, _ = passing(cuts, file.read([branch, *branches_of(cuts)], start, stop), stop - start)
                objects, seen = np.asarray(ak.num(arrays[branch])), histograms[name]
                histograms[name] = np.bincount(objects, minlength=len(seen))
                histograms[name][: len(seen)] += seen
    collections = dict(columns.collections)
    for name, share in wanted.items():
        below = np.cumsum(histograms[name])
        most = max(1, int(np.searchsorted(below, share * below[-1])))
        collections[name] = replace(collections[name], max=most)
    return replace(columns, collections=collections)


def _dataset(job: ConvertJob, accounting: Accounting, duplicates: DuplicateEvents | None) -> ConvertedDataset:
    """The dataset as the metadata describe it, after a check that its events can be weighted."""
    names = [*job.earlier, job.sample.name]
    copies = duplicates.copies(len(job.earlier)) if duplicates else {}
    return replace(
        described(job.sample, job.label, job.luminosity, accounting),
        parameters={one.name: one.value for one in job.parameters if not math.isnan(one.value)},
        missing=tuple(job.missing),
        duplicates={names[part]: many for part, many in copies.items()},
        gaps=tuple(accounting.gaps),
    )


def _metadata(
    job: ConvertJob, columns: FileColumns, dataset: ConvertedDataset, lost: Mapping[str, tuple[int, int]]
) -> HDF5Metadata:
    features = [columns.describe(name, feature.branch, name) for name, feature in columns.features.items()]
    collections = {}
    for name, stored in columns.collections.items():
        fields = [columns.describe(key, branch, f"{name}_{key}") for key, branch in stored.fields.items()]
        quantile = job.objects[name].quantile
        collections[name] = ConvertedCollection(
            stored.max, stored.order, quantile, tuple(fields), Truncated(*lost[name])
        )
    return HDF5Metadata(
        f"NanoML {__version__}",
        list(job.classes),
        (*features, *(parameter.describe() for parameter in job.parameters)),
        collections,
        columns.skimmed.selection if columns.skimmed else None,
        {"compression": job.compression, "objects": {name: asdict(objects) for name, objects in job.objects.items()}},
        (dataset,),
    )
