"""The stages of `nanoml attach`: an index of the events, where they are, whether all are there, and the columns."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_processing.datasets.datasets import output_names
from data_processing.score.attach import attach_file
from data_processing.score.matching import AttachJob, check_events, check_summary, index_events, match_file
from data_processing.score.table import Column, Table
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.workflow.runner import Stage
from MLTools.NanoML.workflow.task import Task

__all__ = ["attach_stages"]


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

    code = code_of(attach_file.__module__)

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
