"""The way back: columns of an HDF5 file as branches of a ROOT file, entry for entry with the one they came from.

It goes in four steps, each of which is tasks of the runner: the events of the HDF5 file are sorted once (`index`),
the events of each ROOT file are looked up (`match`), what was found is judged over all files (`check`), and only
then are files written (`attach`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_processing.datasets import output_names
from data_processing.matching import ENTRIES, AttachJob, check_events, check_summary, index_events, match_file
from data_processing.nanowriter import NanoWriter
from data_processing.table import Column, Table
from MLTools.NanoML import nanoaod
from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.books import Books, all_events_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.progress import progress
from MLTools.NanoML.provenance import Criteria, Provenance
from MLTools.NanoML.rootfile import Branch, RootFile
from MLTools.NanoML.runner import RECORDS, Stage
from MLTools.NanoML.task import Task, code_hash, source_of

__all__ = ["AttachJob", "attach_file", "attach_stages"]

_CODE = (
    "MLTools.NanoML.nanoaod",
    "MLTools.NanoML.baskets",
    "MLTools.NanoML.rootfile",
    "MLTools.NanoML.books",
    "MLTools.NanoML.entryranges",
    "MLTools.NanoML.provenance",
    "MLTools.NanoML.hdf5",
    "data_processing.nanotree",
    "data_processing.nanowriter",
    "data_processing.table",
    "data_processing.matching",
    "data_processing.attach",
)


def attach_file(
    job: AttachJob, columns: Sequence[Column], source: str, match: Path, output: Path
) -> dict[str, Any]:
    """Write the columns of one ROOT file.

    The output has a tree `Events` with run, luminosityBlock, event and the columns, entry for entry with the ROOT
    file, so that it can be its friend.

    Returns
    -------
    {"entries": events written}.

    Raises
    ------
    NanoMLError
        A file cannot be read, or the ROOT file has a branch of the same name; nothing is written then.
    """
    rows = np.load(match)
    with RootFile(source) as file, Table(job.events, job.dataset) as table:
        if len(rows) != file.entries:
            raise NanoMLError(f"{source}: was changed meanwhile: nothing was written. Run it again.")
        made = {column.branch: _branch(job, column) for column in columns}
        twice = next((name for name in made if name in file.branches), None)
        if twice is not None:
            raise NanoMLError(
                f"{source}: has a branch {twice} of its own, which would hide the one of a friend: choose other names by --prefix."
            )
        provenance = Provenance.of(file)
        identifiers = {name: file.branches[file.name_of(name)] for name in nanoaod.IDENTIFIERS}
        with (
            replacing(output) as aside,
            NanoWriter(aside, {**identifiers, **made}, job.compression) as writer,
            progress(f"attach to {Path(source).name}", file.entries) as bar,
        ):
            for start in range(0, file.entries, ENTRIES):
                part = rows[start : start + ENTRIES]
                arrays: dict[str, Any] = file.read(nanoaod.IDENTIFIERS, start, start + ENTRIES)
                writer.events.extend({**arrays, **table.take(columns, part, job.missing or 0)})
                bar.advance(len(part))
            record = Provenance(
                "attached",
                provenance.books if provenance else Books([all_events_of(file)]),
                provenance.selection if provenance else None,
                {name: {"dtype": branch.dtype or "", "title": branch.title} for name, branch in made.items()},
                criteria=provenance.criteria if provenance else Criteria(),
            )
            writer.finish(record)
    return {"entries": len(rows)}


def _branch(job: AttachJob, column: Column) -> Branch:
    number = "" if column.item is None else f", number {column.item}"
    filled = "" if job.missing is None else f"; {job.missing:g} where the event is not in it"
    return Branch(
        column.branch, column.dtype, "flat", f"{column.source}{number} of {job.events.name}{filled}", None, ""
    )


def attach_stages(job: AttachJob, workers: int) -> list[Stage]:
    """The stages that attach columns; their records belong in the job's directory.

    Raises
    ------
    NanoMLError
        The HDF5 file lacks a column, the value for missing events does not fit, or a ROOT file would be overwritten.
    """
    with Table(job.events, job.dataset) as table:
        columns = table.columns(job.columns, job.prefix)
    _check_missing(job.missing, columns)
    outputs = {source: job.directory / name for source, name in output_names(list(job.sources)).items()}
    records = job.directory / RECORDS
    name = job.events.stem
    index, verdict = records / "index" / f"{name}.npy", records / "found" / f"{name}.json"
    matches = {source: records / "match" / f"{path.stem}.npy" for source, path in outputs.items()}
    wanted = {"dataset": job.dataset, "columns": [asdict(column) for column in columns]}
    allowed = {"missing": job.missing is not None, "partial": job.partial}
    value = {"missing": None if job.missing is None else str(job.missing), "compression": job.compression}

    code = code_hash(source_of(*_CODE))

    def task(
        stage: str,
        of: str,
        inputs: Iterable[Any],
        settings: dict[str, Any],
        output: Path,
        work: Any,
        *given: Any,
    ) -> Task:
        does = functools.partial(work, *given, output)
        return Task(stage, of, tuple(map(str, inputs)), (output,), settings, code, does)

    indexing = task(
        "index",
        name,
        [job.events],
        {"dataset": job.dataset},
        index,
        index_events,
        job.events,
        job.dataset,
    )
    matching = [
        task("match", path.stem, [source, index], {}, path, match_file, source, index)
        for source, path in matches.items()
    ]
    inputs = [job.events, index, *matches.values()]
    checking = task(
        "check", name, inputs, {**wanted, **allowed}, verdict, check_events, job, columns, index, matches
    )
    attaching = [
        task(
            "attach",
            path.stem,
            [source, job.events, match],
            {**wanted, **value},
            path,
            attach_file,
            job,
            columns,
            source,
            match,
        )
        for (source, match), path in zip(matches.items(), outputs.values())
    ]
    return [
        Stage("index", [indexing]),
        Stage("match", matching, workers),
        Stage("check", [checking], summary=check_summary),
        Stage("attach", attaching, workers),
    ]


def _check_missing(value: float | None, columns: Sequence[Column]) -> None:
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
