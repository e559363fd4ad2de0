"""The stage score: the scores of each file; and the stages of `nanoml attach`."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from data_processing.datasets.datasets import find_files, output_names, root_files
from data_processing.score.attach import AttachJob, attach_file, check_events, check_summary, index_events, match_file
from data_processing.score.score import ScoreJob, load_models, score_file
from data_processing.score.table import AttachedColumn, EventTable
from MLTools.NanoML.config.data import Score
from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.parallel import RECORDS, usable_cores
from MLTools.NanoML.selection import load_selection
from MLTools.NanoML.workflow.runner import Stage
from MLTools.NanoML.workflow.stages import Analysis, Layout
from MLTools.NanoML.workflow.task import Task


def score_stage(analysis: Analysis) -> Optional[Stage]:
    """Scores of all datasets, or of the files that `score.files` names.

    Without a section for them, an analysis that trains is scored if it has files and the model needs no parameter. It
    is an error if a model that is not made by the analysis itself cannot be used like that.
    """
    config = analysis.config
    if config.score is None and (config.train is None or config.train.parameter is not None or not analysis.files):
        return None
    layout, score = Layout.of(config), config.score or Score()
    models = [config.path(model) for model in score.model or ()] or [layout.model]
    own = config.train is not None and layout.model.resolve() in [model.resolve() for model in models]
    if not own and all(model.is_file() for model in models):
        try:
            load_models(models, score.parameter)  # one message now, not one for each file
        except ConfigError as problem:
            raise config.error("score", message=str(problem)) from None
    groups = {"": find_files(score.files, config.base)} if score.files else root_files(analysis)
    job = ScoreJob("", Path(), tuple(models), score.parameter, score.copy, base=str(config.base))
    tasks = [
        task
        for name, paths in groups.items()
        for task in score_tasks(paths, layout.scores(name), job, f"{name}/" if name else "", own)
    ]
    return Stage("score", tasks, usable_cores())


def score_tasks(
    files: Sequence[str], directory: Path, job: ScoreJob, prefix: str = "", own: bool = False
) -> list[Task]:
    """One task for each file to be scored into a directory; the source and output of `job` do not matter.

    `prefix` is put before the tasks' names: the dataset. `own` says that the model is made by the same analysis: it may
    not exist yet, and its selection has been run in the skims.
    """
    settings = {"parameters": dict(job.parameters), "copy": job.copy, "compression": job.compression}
    code = code_of(score_file.__module__, *([] if own else _selection_sources(job)))
    tasks = []
    for file, name in output_names(list(files)).items():
        one = replace(job, source=file, output=directory / name)
        inputs = (file, *map(str, job.models))
        work = functools.partial(score_file, one)
        tasks.append(Task("score", prefix + Path(name).stem, inputs, (one.output,), settings, code, work))
    return tasks


def _selection_sources(job: ScoreJob) -> list[Path]:
    """The files of the selections that models ask for; a faulty model is reported when it is used."""
    found: list[Path] = []
    for path in job.models:
        try:
            specs = set(Model(path).selection_columns.values())
            found += [source_of(load_selection(spec, job.base)) for spec in specs]
        except NanoMLError:
            continue
    return found


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
    dataset = {"dataset": job.dataset}
    wanted = {**dataset, "columns": [asdict(column) for column in columns]}
    allowed = {"missing": job.missing is not None, "partial": job.partial}
    value = {"missing": None if job.missing is None else str(job.missing), "compression": job.compression}
    code = code_of(attach_file.__module__)

    def task(stage: str, inputs: Iterable[Any], settings: dict[str, Any], output: Path, work: Any, *given: Any) -> Task:
        work = functools.partial(work, *given, output)
        return Task(stage, output.stem, tuple(map(str, inputs)), (output,), settings, code, work)

    inputs = [job.events, index, *matches.values()]
    indexing = task("index", [job.events], dataset, index, index_events, job.events, job.dataset)
    matching = [task("match", [source, index], {}, path, match_file, source, index) for source, path in matches.items()]
    checking = task("check", inputs, {**wanted, **allowed}, verdict, check_events, job, columns, index, matches)
    attaching = [
        task("attach", [source, job.events, matches[source]], {**wanted, **value}, path,
             attach_file, job, columns, source, matches[source])
        for source, path in outputs.items()
    ]  # fmt: skip
    return [
        Stage("index", [indexing]),
        Stage("match", matching, workers),
        Stage("check", [checking], summary=check_summary),
        Stage("attach", attaching, workers),
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
