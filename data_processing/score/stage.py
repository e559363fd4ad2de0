"""The stage score: the scores of each file."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from data_processing.datasets.datasets import find_files, output_names, root_files
from data_processing.score.score import ScoreJob, load_models, score_file
from MLTools.NanoML.config.data import Score
from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.selection import load_selection
from MLTools.NanoML.workflow.runner import Stage
from MLTools.NanoML.workflow.stages import Analysis, Layout
from MLTools.NanoML.workflow.task import Task

__all__ = ["score_stage", "score_tasks"]


def score_stage(analysis: Analysis) -> Optional[Stage]:
    """Scores of all datasets, or of the files that `score.files` names.

    Without a section for them, an analysis that trains is scored if it has files, and the model needs no parameter.

    Raises
    ------
    NanoMLError
        A model that is there already, and not made by the analysis itself, cannot be used like that.
    """
    config = analysis.config
    if config.score is None and (
        config.train is None or config.train.parameter is not None or not analysis.files
    ):
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
    """One task for each file to be scored into a directory.

    Parameters
    ----------
    files
        Paths and URLs.
    directory
        Of the scores.
    job
        All else; its own source and output do not matter.
    prefix
        Of the tasks' names: the dataset.
    own
        The model is made by the same analysis: it may not be there yet, and its selection has been run in the skims.
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
