"""`nanoml convert` and `shuffle`: HDF5 files are made from ROOT files, and joined in random order."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import click

from MLTools.NanoML.commands.options import (
    FILE,
    command,
    config_only,
    echo,
    find_files,
    flag,
    json_option,
    memory_option,
    output_option,
    reading_options,
    run_one,
)
from MLTools.NanoML.terminal.progress import say

_compression_option = click.option("--compression", default="gzip:1", show_default=True, metavar="gzip:LEVEL|none")


class _Collection(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    name = "NAME:MAX|NAME:SHARE%"

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> tuple[str, Optional[int], Optional[float]]:
        name, _, number = str(value).partition(":")
        if name and number.isdigit() and int(number) >= 1:
            return name, int(number), None
        with contextlib.suppress(ValueError):
            if name and number.endswith("%") and 0 < float(number[:-1]) <= 100:
                return name, None, float(number[:-1]) / 100
        return self.fail(f'"{value}": write a collection and how many objects to keep, as in Muon:4, or Muon:99%.')


@command(
    "nanoml convert examples/trilepton.yaml",
    "nanoml convert -o events.h5 --branches 'MET_*' --objects Muon:4 --objects Jet:6 skims/*.root",
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="CONFIG | FILE...")
@output_option(
    "OUT.h5 | DIR",
    "Convert FILEs, without a configuration, to this one file, or each to one of its own in this directory.",
)
@click.option(
    "--branches",
    multiple=True,
    metavar="GLOB",
    help="Event-level branches; may be repeated. Default: all but trigger bits and counters.",
)
@click.option(
    "--objects",
    multiple=True,
    type=_Collection(),
    metavar="NAME:MAX",
    help="A collection, padded or cut to MAX objects of highest pt; may be repeated. Muon:99% takes as many as "
    "99 % of the events need.",
)
@click.option("--drop", multiple=True, metavar="GLOB", help="Branches to leave out; may be repeated.")
@click.option("--float16", multiple=True, metavar="GLOB", help="Columns to store with half precision.")
@flag(
    "--allow-gaps",
    "Convert even if entries of files are missing that nano_postproc.py read in ranges; the normalisation is scaled.",
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
    **settings: Any,
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
        echo(json.dumps((without_cuts(metadata) if is_data else metadata).to_json(), indent=1))


def _convert_all(job: Any, convert_files: Callable[[Any], Any]) -> Any:
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
    from MLTools.NanoML.workflow.pipeline import run_stage
    from MLTools.NanoML.workflow.runner import Stage

    stages = import_part("data_processing.convert.stage")
    tasks = stages.convert_tasks(job.sources, job.output.resolve(), job)
    run_stage(Stage("convert", tasks, 0, stages.convert_summary), job.sources, job.output, force)


@command(
    "nanoml shuffle examples/trilepton.yaml",
    "nanoml shuffle -o all.h5 --seed 1 signal.h5 background.h5",
    short="Join HDF5 files in random order.",
)
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="CONFIG | FILE...")
@output_option("ALL.h5", "Shuffle FILEs into this file, without a configuration.")
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Seed of the random order."
)
@memory_option
@_compression_option
@flag("--force", "Shuffle again, even what is up to date (with CONFIG).")
def shuffle(
    files: tuple[str, ...], output: Optional[Path], seed: int, memory: int, compression: str, force: bool
) -> None:
    """Join HDF5 files of `nanoml convert` to one, with their events in random order.

    They need not fit into memory; next to the output there must be room for all rows, uncompressed. The same
    files in the same order and the same seed give the same result. With CONFIG this is done if convert.shuffle is
    given.
    """
    if output is None:
        run_one(config_only(files, "-o ALL.h5", "HDF5"), "shuffle", force)
        return
    from MLTools.NanoML.stages import import_part

    shuffling = import_part("data_processing.shuffle.shuffle")
    sources = [Path(path) for path in find_files(files)]
    shuffling.shuffle_files(shuffling.ShuffleJob(sources, output, seed, memory, compression))
