"""The commands about files: what is in them, whether models are whole, and what is made of HDF5 files."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import (
    FILE,
    PATH,
    command,
    config_only,
    echo,
    echo_json,
    find_files,
    flag,
    json_option,
    memory_option,
    option,
    output_option,
    reading_options,
    run_one,
    show_data_flag,
)
from MLTools.NanoML.terminal.progress import say

_TITLES = {
    "file": "the file can be read",
    "metadata": "the metadata are complete and consistent",
    "columns": "events have the fields and types of the metadata",
    "collections": "collections have the fields, types and shapes of the metadata",
    "padding": "objects come first, and padding is zero",
    "order": "objects are sorted",
    "truncated": "as many objects are stored as were counted",
    "labels": "labels are those of the datasets",
    "finite": "numbers are finite",
    "unique": "no event appears twice",
    "events": "there are as many events as the accounting says",
    "weights": "weights are those of cross section and luminosity",
    "sums": "weights add up to what the last cut left",
    "cutflow": "cut flows fall from all events to those kept",
    "books": "the accounting of the files adds up",
}
_ADVICE = {
    "finite": "Fix what makes it and convert again, or accept NaN with --allow-nan.",
    "unique": "Look for a file that was given twice, and convert again.",
    "cutflow": "Skim and convert again.",
    "books": "Skim and convert again.",
}
_MARKS = {"passed": ("✓", "ok", "green"), "failed": ("✗", "bad", "red"), "skipped": ("-", "-", "dim")}


@command(
    "nanoml inspect skims/WZ.root",
    "nanoml inspect skims/WZ.root --branches 'Muon_*'",
    "nanoml inspect histograms/histograms.root",
    "nanoml inspect model.onnx --json",
    under="Look at results",
    short="Show what is in a ROOT, HDF5 or ONNX file, or a workspace.",
)
@click.argument("file", type=FILE)
@option("--branches", "List the branches of a ROOT file that match, with types and titles.", "GLOB")
@show_data_flag
@json_option
def inspect(file: str, branches: Optional[str], show_data: bool, as_json: bool) -> int:
    """Show what is in a ROOT, HDF5 or ONNX file of the pipeline, or in the workspace of a fit.

    It shows nothing of data after the first cut, unless --show-data is given. The exit code
    is 1 if the file is damaged, or does not agree with its own metadata.
    """
    from MLTools.NanoML.inspection import inspect_file

    found = inspect_file(file, show_data)
    if as_json:
        echo_json(found.to_json())
    else:
        found.show(branches)
    return 1 if found.errors else 0


@command(
    "nanoml validate examples/trilepton/hdf5/*.h5",
    "nanoml validate --json --allow-nan events.h5",
    under="Look at results",
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
@flag("--allow-nan", "Accept NaN, but nothing infinite, in features and fields of objects.")
@json_option
@click.pass_context
def validate(context: click.Context, files: tuple[str, ...], allow_nan: bool, as_json: bool) -> None:
    """Check HDF5 files against their metadata and accounting.

    All checks are made, even if some fail. The exit code is 0 if all files are valid, and 1 if not.
    """
    from MLTools.NanoML.stages import import_part

    validation, contents = import_part("data_processing.convert.validation"), []
    for file in files:
        found = validation.validate_file(file, allow_nan)
        checks = [_check(found, check) for check in _TITLES]
        valid = not found.faults
        events = None if found.is_data else found.events
        contents.append({"path": found.path, "valid": valid, "events": events, "checks": list(map(asdict, checks))})
        if not as_json:
            _show(found, checks)
    if as_json:
        echo_json(contents)
    if not all(content["valid"] for content in contents):
        context.exit(1)


@dataclass(frozen=True)
class _Fault:
    where: Optional[str]
    row: Optional[int]  # the first
    times: Optional[int]
    message: str


@dataclass(frozen=True)
class _Check:
    """The finding of one check."""

    check: str
    title: str
    status: str  # "passed", "failed" or "skipped"
    note: Optional[str]  # why it was left out
    faults: list[_Fault]


def _check(found: Any, check: str) -> _Check:
    faults = []
    for (name, where, what), (row, times) in found.faults.items():
        if name == check:
            rows = f" (in row {row})" if times == 1 else f" ({times:,} times, first in row {row})" if times else ""
            message = f"{found.path}: {where}: {what}{rows}. {_ADVICE.get(check, 'Convert again.')}"
            # without a place, the message is complete
            faults.append(_Fault(where or None, row if times else None, times or None, message if where else what))
    note = found.skipped.get(check) if found.complete or check == "file" else "not reached"
    return _Check(check, _TITLES[check], "failed" if faults else "skipped" if note else "passed", note, faults)


def _show(found: Any, checks: Sequence[_Check]) -> None:
    from rich.text import Text

    from MLTools.NanoML.terminal.page import Page, TableColumn, count

    page = Page()
    faults = [fault.message for check in checks for fault in check.faults]
    if found.events is not None:
        page.title(found.path)
        events = "blind" if found.is_data else count(found.events)
        page.facts(("events", events), ("valid", "no" if faults else "yes"))
        pretty = 0 if sys.stdout.encoding.lower().startswith("utf") else 1
        rows = []
        for check in checks:
            mark = _MARKS[check.status]
            note = f" ({check.note})" if check.status == "skipped" else ""
            rows.append((Text(mark[pretty], style=mark[2]), check.check, check.title + note))
        page.table("Checks", ["", "check", TableColumn("what", "rest")], rows)
        page.line()
    for fault in faults:
        page.line(fault, "red")
    if faults and found.events is not None:
        page.line()


@command(
    "nanoml verify model.onnx",
    "nanoml verify model.onnx --onnxruntime 1.17.1",
    "nanoml verify model.onnx --run examples/trilepton/training",
    under="Look at results",
    short="Check that a model computes what it should.",
)
@click.argument("model", type=PATH, metavar="MODEL.onnx")
@option(
    "--onnxruntime, version",
    "Run it with this version of ONNX Runtime, which is installed for this and removed again.",
    "VERSION",
)
@option("--run, training", "Directory of the training: compare with its networks in PyTorch.", "DIR", type=PATH)
def verify(model: Path, version: Optional[str], training: Optional[Path]) -> None:
    """Run a model on its reference events, and on inputs that are known to break models.

    These are unusual numbers of events and objects, also none, NaN, infinities and extreme numbers.
    """
    from MLTools.NanoML.model.verification import verify_model
    from MLTools.NanoML.stages import import_part

    networks = None
    if training is not None:
        networks = import_part("ML_processing.export.export").TrainedNetworks.of(training)
    for line in verify_model(model, version, networks):
        echo(line)


_compression_option = option("--compression", "", "gzip:LEVEL|none", default="gzip:1")


def _collection(text: str) -> tuple[str, Optional[int], Optional[float]]:
    """The name of a collection, and how many of its objects to keep, or for which share of the events."""
    name, _, number = text.partition(":")
    if name and number.isdigit() and int(number) >= 1:
        return name, int(number), None
    with contextlib.suppress(ValueError):
        if name and number.endswith("%") and 0 < float(number[:-1]) <= 100:
            return name, None, float(number[:-1]) / 100
    raise click.BadParameter(f'"{text}": write a collection and how many objects to keep, as in Muon:4, or Muon:99%.')


@command(
    "nanoml convert examples/trilepton.yaml",
    "nanoml convert -o events.h5 --branches 'MET_*' --objects Muon:4 --objects Jet:6 skims/*.root",
)
@click.argument("files", nargs=-1, type=FILE, metavar="[CONFIG | FILE...]")
@output_option(
    "OUT.h5 | DIR",
    "Convert FILEs, without a configuration, to this one file, or each to one of its own in this directory.",
)
@option(
    "--branches",
    "Event-level branches; may be repeated. Default: all but trigger bits and counters.",
    "GLOB",
    multiple=True,
)
@option(
    "--objects",
    "A collection, padded or cut to MAX objects of highest pt; may be repeated. Muon:99% takes as many as "
    "99 % of the events need.",
    "NAME:MAX",
    multiple=True,
    type=_collection,
)
@option("--drop", "Branches to leave out; may be repeated.", "GLOB", multiple=True)
@option("--float16", "Columns to store with half precision.", "GLOB", multiple=True)
@flag(
    "--allow-gaps",
    "Convert even if nano_postproc.py read files in ranges of which some are missing; the normalisation is scaled.",
)
@_compression_option
@memory_option
@reading_options
@flag("--force", "Convert again, even what is up to date (with CONFIG).")
@json_option
def convert(
    files: tuple[str, ...],
    output: Optional[Path],
    branches: tuple[str, ...],
    objects: tuple[tuple[str, Optional[int], Optional[float]], ...],
    reading: Any,
    force: bool,
    as_json: bool,
    **settings: object,
) -> None:
    """Convert ROOT files to HDF5, skimmed before or not.

    The result needs no manual: h5py, pandas and scikit-learn read it, and its metadata describe it.
    """
    if output is None:
        run_one(config_only(files, "-o OUT.h5"), "convert", force, reading)
        return
    from MLTools.NanoML.inspection.hdf5 import without_cuts
    from MLTools.NanoML.rootio.rootfile import RootFile
    from MLTools.NanoML.stages import import_part

    columns, conversion, stage_of = (
        import_part(f"data_processing.convert.{name}") for name in ("columns", "convert", "stage")
    )
    sources = find_files(files, reading)
    with RootFile(sources[0]) as first:
        features, left_out = columns.event_level_branches(first, branches, settings["drop"])
        wanted = {
            name: columns.StoredCollection((), most, "-pt" if f"{name}_pt" in first.branches else None, share)
            for name, most, share in objects
        }
    job = conversion.ConvertJob(sources, output, features, wanted, **settings)
    if left_out:
        say(f"{left_out} trigger bits and counters are left out; name them by --branches to have them.")
    if output.suffix not in (".h5", ".hdf5"):
        _convert_each(job, force)
        return
    metadata = _convert_all(job, conversion.convert_files)
    is_data = any(dataset.is_data for dataset in metadata.datasets)
    for line in stage_of.losses(output.name, metadata, is_data):
        say(line)
    if as_json:
        echo_json((without_cuts(metadata) if is_data else metadata).to_json())


def _convert_all(job: Any, convert_files: Callable[[object], object]) -> Any:
    """Convert all files to one, except those that cannot be read and may be missing."""
    from MLTools.NanoML.contracts import missing
    from MLTools.NanoML.errors import UnreadableError
    from MLTools.NanoML.rootio.remote.client import current_settings

    most = missing.allowed(current_settings().max_missing_files, len(job.sources))
    while True:
        try:
            return convert_files(job)
        except UnreadableError as problem:
            if len(job.missing) == most or problem.path not in job.sources:
                raise
            gone = missing.Missing.now(problem.path, str(problem))
            sources = [source for source in job.sources if source != gone.file]
            job = replace(job, sources=sources, missing=(*job.missing, gone))
            say(missing.lines({"": [gone]})[0])


def _convert_each(job: Any, force: bool) -> None:
    from MLTools.NanoML.stages import import_part
    from MLTools.NanoML.workflow.analysis import Stage
    from MLTools.NanoML.workflow.pipeline import run_stage

    stages = import_part("data_processing.convert.stage")
    tasks = stages.convert_tasks(job.sources, job.output.resolve(), job)
    run_stage(Stage("convert", tasks, 0, stages.convert_summary), job.sources, job.output, force)


@command(
    "nanoml shuffle examples/trilepton.yaml",
    "nanoml shuffle -o all.h5 --seed 1 signal.h5 background.h5",
    short="Join HDF5 files in random order.",
)
@click.argument("files", nargs=-1, type=FILE, metavar="[CONFIG | FILE...]")
@output_option("ALL.h5", "Shuffle FILEs into this file, without a configuration.")
@option("--seed", "Seed of the random order.", default=1, type=click.IntRange(0, 2**32 - 1))
@memory_option
@_compression_option
@flag("--force", "Shuffle again, even what is up to date (with CONFIG).")
def shuffle(
    files: tuple[str, ...], output: Optional[Path], seed: int, memory: int, compression: str, force: bool
) -> None:
    """Join HDF5 files of `nanoml convert` into one, with their events in random order.

    They need not fit into memory; the disk of the output needs room for all rows, uncompressed. The same
    files in the same order and the same seed give the same result. With CONFIG it runs if convert.shuffle is
    given.
    """
    if output is None:
        run_one(config_only(files, "-o ALL.h5", "HDF5"), "shuffle", force)
        return
    from MLTools.NanoML.stages import import_part

    shuffling = import_part("data_processing.shuffle")
    sources = [Path(path) for path in find_files(files)]
    shuffling.shuffle_files(shuffling.ShuffleJob(sources, output, seed, memory, compression))
