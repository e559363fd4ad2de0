"""The way back: columns of an HDF5 file as branches of a ROOT file, entry for entry with the one they came from.

It takes four steps, each of which is tasks of the runner: the events of the HDF5 file are sorted once (`index`),
the events of each ROOT file are looked up by run, luminosityBlock and event (`match`), what was found is judged over
all files (`check`), and only then are files written (`attach`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_processing.convert.duplicateevents import identify
from data_processing.convert.expressions import branches_of, nominal_cuts
from data_processing.datasets.datasets import output_names
from MLTools.NanoML.atomic import replacing, write_json
from MLTools.NanoML.contracts.hdf5 import EVENTS
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.extensions.attach.table import AttachedColumn, EventTable
from MLTools.NanoML.nanoaod.accounting import Accounting, all_events_of
from MLTools.NanoML.nanoaod.provenance import Criteria, MadeColumn, Provenance
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.rootio.branches import Branch, flat_branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.schema.roles import READS, WRITES
from MLTools.NanoML.terminal.progress import progress
from MLTools.NanoML.workflow.analysis import Stage
from MLTools.NanoML.workflow.task import Task

_INDEX = np.dtype([("lumi", "u8"), ("event", "u8"), ("row", "i8")])
_BLOCK = 200_000  # rows read at once
_MISSING, _ONLY_SHIFTED = -1, -2  # instead of a row: not there; not there, and not selected but under a shift
_ENTRIES = 1_000_000  # entries in memory at once; if rows were shuffled, each time needs all of the HDF5 file


@dataclass(frozen=True)
class AttachJob:
    """Columns to be attached to files."""

    events: Path  # path of the HDF5 file
    sources: Sequence[str]  # paths and URLs of the ROOT files
    directory: Path  # where the files with the columns go, under the names of the ROOT files
    columns: Sequence[str]  # names and globs of the columns
    dataset: str = EVENTS  # the dataset of the HDF5 file that has run, luminosityBlock and event as fields
    prefix: str = ""  # put before the names of the columns
    # value of the columns for an event that is not in the HDF5 file; None if every event must be there, but for those that
    # pass under shifts alone, whose values are NaN
    missing: float | None = None
    partial: bool = False  # whether the HDF5 file may have events that are in none of the ROOT files
    compression: str = "ZLIB:5"  # "ALGORITHM:LEVEL"


@dataclass(frozen=True)
class IndexJob:
    """The events of an HDF5 file, to be sorted."""

    events: Path = field(metadata=READS)
    dataset: str
    output: Path = field(metadata=WRITES)


@dataclass(frozen=True)
class MatchJob:
    """A ROOT file whose events are to be found."""

    source: str = field(metadata=READS)
    index: Path = field(metadata=READS)  # the output of an IndexJob
    output: Path = field(metadata=WRITES)


@dataclass(frozen=True)
class _WithColumns:
    """Columns, and their value for missing events, as in an AttachJob."""

    events: Path = field(metadata=READS)
    dataset: str
    columns: Sequence[AttachedColumn]
    missing: float | None


@dataclass(frozen=True)
class CheckJob(_WithColumns):
    """All events that were found, to be judged."""

    partial: bool
    index: Path = field(metadata=READS)
    matches: Mapping[str, Path] = field(metadata=READS)  # the outputs of MatchJobs, by their sources
    output: Path = field(metadata=WRITES)


@dataclass(frozen=True)
class WriteJob(_WithColumns):
    """Columns of one ROOT file, to be written."""

    compression: str
    source: str = field(metadata=READS)
    match: Path = field(metadata=READS)
    output: Path = field(metadata=WRITES)


@dataclass(frozen=True)
class MatchCounts:
    """How many events were found."""

    entries: int  # of all ROOT files
    missing: int  # of these, not in the HDF5 file
    only_shifted: int  # not in the HDF5 file either, as they pass under shifts alone
    shared: int  # in several ROOT files
    unused: int  # of the HDF5 file, in none of the ROOT files


def index_events(job: IndexJob) -> dict[str, int]:
    """Sort the events of an HDF5 file by their identifiers, and count them.

    The output is a .npy file of `lumi`, `event` and `row`, which all processes can share by mapping it into memory.
    """
    with EventTable(job.events, job.dataset) as table:
        lumi, event = np.empty(table.events, np.uint64), np.empty(table.events, np.uint64)
        with progress(f"read {job.events.name}", table.events) as bar:
            for start in range(0, table.events, _BLOCK):
                block = table.identifiers(start, start + _BLOCK)
                lumi[start : start + _BLOCK], event[start : start + _BLOCK] = block["lumi"], block["event"]
                bar.advance(len(block))
    order = np.lexsort((event, lumi))  # stable: the first of equal events is the one of the lowest row
    header = {"descr": np.lib.format.dtype_to_descr(_INDEX), "fortran_order": False, "shape": order.shape}
    with replacing(job.output) as aside, open(aside, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(order), _BLOCK):
            rows = order[start : start + _BLOCK]
            part = np.empty(len(rows), _INDEX)
            part["lumi"], part["event"], part["row"] = lumi[rows], event[rows], rows
            file.write(part.tobytes())
    return {"events": len(order)}


def match_file(job: MatchJob) -> dict[str, int]:
    """Find the events of one ROOT file in the HDF5 file, and count them.

    The output is a .npy file of the row of each entry, int64, negative for an event that is not there.
    """
    known = np.load(job.index, mmap_mode="r")
    with RootFile(job.source) as file:
        rows = np.empty(file.entries, np.int64)
        cuts = nominal_cuts(file, Provenance.of(file))
        for start in range(0, file.entries, _BLOCK):
            arrays = file.read([*IDENTIFIERS, *branches_of(cuts)], start, start + _BLOCK)
            found = _search(known, identify(job.source, arrays))
            for cut in cuts:
                found[(found == _MISSING) & ~cut.passes(arrays, len(found))] = _ONLY_SHIFTED
            rows[start : start + _BLOCK] = found
    with replacing(job.output) as aside:
        np.save(aside, rows)
    return {"entries": len(rows)}


def _search(index: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.int64]:
    """Rows of identifiers in the HDF5 file, `_MISSING` if it lacks them: a binary search for all of them at once."""
    rows = np.full(len(wanted), _MISSING, np.int64)
    if len(index) == 0:
        return rows
    low: NDArray[np.int64] = np.zeros(len(wanted), np.int64)
    high: NDArray[np.int64] = np.full(len(wanted), len(index), np.int64)
    for _ in range(len(index).bit_length()):
        middle = (low + high) // 2
        at = index[np.minimum(middle, len(index) - 1)]
        before = (at["lumi"] < wanted["lumi"]) | ((at["lumi"] == wanted["lumi"]) & (at["event"] < wanted["event"]))
        undecided = low < high
        low = np.where(undecided & before, middle + 1, low)
        high = np.where(undecided & ~before, middle, high)
    at = index[np.minimum(low, len(index) - 1)]
    found = (at["lumi"] == wanted["lumi"]) & (at["event"] == wanted["event"])
    rows[found] = at["row"][found]
    return rows


def check_events(job: CheckJob) -> MatchCounts:
    """Judge what was found, over all files; the errors are events twice with different values, missing, or unused."""
    known = np.load(job.index, mmap_mode="r")
    again = np.zeros(len(known), bool)  # index entries with the same event as the one before
    again[1:] = (known["lumi"][1:] == known["lumi"][:-1]) & (known["event"][1:] == known["event"][:-1])
    _check_repeated(job, known, np.flatnonzero(again))
    used = np.zeros(len(known), bool)  # rows of the HDF5 file that are in a ROOT file
    entries = missing = only_shifted = shared = 0
    first_missing = ""
    for source, path in job.matches.items():
        rows = np.load(path)
        absent = np.flatnonzero(rows == _MISSING)
        if len(absent) and not first_missing:
            with RootFile(source) as file:
                (event,) = identify(source, file.read(IDENTIFIERS, int(absent[0]), int(absent[0]) + 1))
            first_missing = f"{_name_of(event)} in {source}"
        own = np.unique(rows[rows >= 0])
        shared += int(used[own].sum())
        used[own] = True
        entries += len(rows)
        missing += len(absent)
        only_shifted += int((rows == _ONLY_SHIFTED).sum())
    whole = next((column.source for column in job.columns if np.dtype(column.dtype).kind != "f"), None)
    if only_shifted and whole is not None and job.missing is None:
        raise NanoMLError(
            f"{job.events}: lacks {only_shifted:,} events of the ROOT files, which pass under shifts alone. There is no NaN for them in "
            f"column {whole}: fill in a value by --missing VALUE."
        )
    if missing and job.missing is None:
        raise NanoMLError(
            f"{job.events}: {missing:,} of {entries:,} events of the ROOT files are not in it; the first is {first_missing}. "
            "Leave out the ROOT files that it was not made from, or fill in a value for such events by --missing VALUE."
        )
    unused = np.flatnonzero(~used[known["row"]] & ~again)
    if len(unused) and not job.partial:
        raise NanoMLError(
            f"{job.events}: {len(unused):,} of its {len(known) - int(again.sum()):,} events are in none of the ROOT files; the first "
            f"is {_name_of(known[unused[0]])}. Name all ROOT files that it was made from, or allow it by --partial."
        )
    found = MatchCounts(entries, missing, only_shifted, shared, len(unused))
    write_json(job.output, asdict(found))
    return found


def _name_of(event: Any) -> str:
    lumi = int(event["lumi"])
    return f"{lumi >> 32}:{lumi & 0xFFFFFFFF}:{int(event['event'])}"


def _check_repeated(job: CheckJob, known: NDArray[Any], repeated: NDArray[np.int64]) -> None:
    different = np.zeros(len(repeated), bool)
    with EventTable(job.events, job.dataset) as table:
        for start in range(0, len(repeated), _ENTRIES):
            part = repeated[start : start + _ENTRIES]
            one = table.take(job.columns, known["row"][part - 1])
            other = table.take(job.columns, known["row"][part])
            for name, values in one.items():
                both_nan = (values != values) & (other[name] != other[name])
                different[start : start + _ENTRIES] |= (values != other[name]) & ~both_nan
    events = np.unique(known[["lumi", "event"]][repeated[different]])
    if len(events):
        raise NanoMLError(
            f"{job.events}: {len(events):,} events are in it more than once, with different values; the first is "
            f"{_name_of(events[0])}. Simulated datasets may share such numbers: if it holds several datasets, make a file of each, "
            "and attach it to that dataset's ROOT files."
        )


def check_summary(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say what was found, in lines; `done` has the `MatchCounts` as JSON."""
    lines = []
    for found in (MatchCounts(**content) for content in done.values()):
        there = found.entries - found.missing - found.only_shifted
        lines.append(f"{there:,} of {found.entries:,} events found in the HDF5 file")
        if found.only_shifted:
            lines.append(
                f"{found.only_shifted:,} events that pass under shifts alone are not in it: they get NaN, or the value of --missing."
            )
        if found.missing:
            lines.append(f"WARNING: {found.missing:,} events are not in it: they get the value of --missing.")
        if found.unused:
            lines.append(f"{found.unused:,} events of the HDF5 file are in none of the ROOT files.")
        if found.shared:
            lines.append(
                f"WARNING: {found.shared:,} events are in several of the ROOT files, and get the same values in each. This is right for "
                "the same events, but not for simulated datasets that share numbers: attach these one by one."
            )
    return lines


def attach_file(job: WriteJob) -> dict[str, int]:
    """Write the columns of one ROOT file, and count its events.

    The output has a tree `Events` with run, luminosityBlock, event, the flags of a skim with shifts and the columns, entry for
    entry with the ROOT file and in its format, so that it can be its friend. If the ROOT file has a branch of the same name,
    nothing is written.
    """
    rows = np.load(job.match)
    with RootFile(job.source) as file, EventTable(job.events, job.dataset) as table:
        if len(rows) != file.entries:
            raise NanoMLError(f"{job.source}: was changed meanwhile: nothing was written. Run it again.")
        made = {column.branch: _branch(job, column) for column in job.columns}
        twice = next((name for name in made if name in file.branches), None)
        if twice is not None:
            raise NanoMLError(
                f"{job.source}: has a branch {twice} of its own, which would hide the one of a friend: choose other names by --prefix."
            )
        provenance = Provenance.of(file)
        copied = {name: file.branches[file.name_of(name)] for name in IDENTIFIERS}
        copied.update(
            {name: file.branches[name] for name in (provenance.flags if provenance else ()) if name in file.branches}
        )
        with (
            replacing(job.output) as aside,
            NanoWriter(aside, {**copied, **made}, job.compression, file.format) as writer,
            progress(f"attach to {Path(job.source).name}", file.entries) as bar,
        ):
            for start in range(0, file.entries, _ENTRIES):
                part = rows[start : start + _ENTRIES]
                arrays: dict[str, object] = file.read(list(copied), start, start + _ENTRIES)
                writer.events.extend({**arrays, **table.take(job.columns, part, job.missing)})
                bar.advance(len(part))
            record = Provenance(
                "attached",
                provenance.accounting if provenance else Accounting([all_events_of(file)]),
                provenance.selection if provenance else None,
                {name: MadeColumn.of(branch) for name, branch in made.items()},
                criteria=provenance.criteria if provenance else Criteria(),
            )
            writer.finish(record.tree())
    return {"entries": len(rows)}


def _branch(job: WriteJob, column: AttachedColumn) -> Branch:
    number = "" if column.item is None else f", number {column.item}"
    filled = "" if job.missing is None else f"; {job.missing:g} where the event is not in it"
    title = f"{column.source}{number} of {job.events.name}{filled}"
    return flat_branch(column.branch, column.dtype, title)


def attach_stages(job: AttachJob, workers: int) -> list[Stage]:
    """The stages that attach columns; their records belong in the job's directory.

    It is an error if the HDF5 file lacks a column, or if the value for missing events does not fit.
    """
    with EventTable(job.events, job.dataset) as table:
        columns = table.columns(job.columns, job.prefix)
    _check_missing(job.missing, columns)
    outputs = {source: job.directory / name for source, name in output_names(list(job.sources)).items()}
    records, name = job.directory / RECORDS, job.events.stem
    index, verdict = records / "index" / f"{name}.npy", records / "found" / f"{name}.json"
    matches = {source: records / "match" / f"{path.stem}.npy" for source, path in outputs.items()}
    code, wanted = code_of(__name__), (job.events, job.dataset, columns, job.missing)
    indexing = IndexJob(job.events, job.dataset, index)
    checking = CheckJob(*wanted, job.partial, index, matches, verdict)
    matching = [MatchJob(source, index, path) for source, path in matches.items()]
    writing = [WriteJob(*wanted, job.compression, it, matches[it], path) for it, path in outputs.items()]
    return [
        Stage("index", [Task.of("index", name, index_events, indexing, code)]),
        Stage("match", [Task.of("match", it.output.stem, match_file, it, code) for it in matching], workers),
        Stage("check", [Task.of("check", name, check_events, checking, code)], summary=check_summary),
        Stage("attach", [Task.of("attach", it.output.stem, attach_file, it, code) for it in writing], workers),
    ]


def _check_missing(value: float | None, columns: Sequence[AttachedColumn]) -> None:
    if value is None:
        return
    for column in columns:
        with np.errstate(all="ignore"):
            stored = np.asarray(value).astype(column.dtype)
        fits = np.isfinite(stored) == np.isfinite(value) if stored.dtype.kind == "f" else stored == value
        if not fits:
            raise ConfigError(
                f"--missing {value:g}: does not fit into column {column.source}, which is {column.dtype}."
            )
