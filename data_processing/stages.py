"""The stages of this part, as tasks: skim, convert, shuffle, score."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from data_processing.columns import Objects, Parameter
from data_processing.convert import (
    ConvertJob,
    Sample,
    convert_files,
    duplicate_lines,
    gap_lines,
    truncation_lines,
)
from data_processing.datasets import find_files, output_names, resolve_datasets
from data_processing.modules import load_module
from data_processing.nanoaodtools_engine import postprocess_file
from data_processing.score import ScoreJob, load_models, score_tasks
from data_processing.shuffle import ShuffleJob, shuffle_files
from data_processing.skim import skim_file
from data_processing.skimjob import SkimJob
from MLTools.NanoML.books import Books
from MLTools.NanoML.config import Config, Score
from MLTools.NanoML.config.document import dotted
from MLTools.NanoML.config.sections import FROM_WHERE, Skim
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.grid.missing import Missing
from MLTools.NanoML.grid.missing import lines as missing_lines
from MLTools.NanoML.layout import Layout
from MLTools.NanoML.loading import load_selection
from MLTools.NanoML.runner import Stage, usable_cores
from MLTools.NanoML.sources import source_files
from MLTools.NanoML.task import Task, code_hash, source_of

__all__ = ["convert_stage", "score_stage", "shuffle_stage", "skim_stage", "skim_tasks", "stages"]


Left = Mapping[str, Sequence[Missing]]
"""Of each dataset the files that are missing."""

_NONE: Left = MappingProxyType({})
_READING = (
    "MLTools.NanoML.nanoaod",
    "MLTools.NanoML.access",
    "MLTools.NanoML.baskets",
    "MLTools.NanoML.grid.remote",
    "MLTools.NanoML.grid.upsource",
    "MLTools.NanoML.rootfile",
    "MLTools.NanoML.ttree",
    "MLTools.NanoML.books",
    "MLTools.NanoML.entryranges",
    "MLTools.NanoML.provenance",
)
_SKIM = (
    *_READING,
    "MLTools.NanoML.events",
    "MLTools.NanoML.cutflow",
    "MLTools.NanoML.selection",
    "MLTools.NanoML.formula",
    "MLTools.NanoML.lumimask",
    "MLTools.NanoML.picking",
    "data_processing.branchrules",
    "data_processing.filters",
    "data_processing.modules",
    "data_processing.nanotree",
    "data_processing.nanowriter",
    "data_processing.others",
    "data_processing.skim",
    "data_processing.skimplan",
)
_ENGINES = {"columnar": skim_file, "nanoaodtools": postprocess_file}
_POSTPROCESSING = (
    "MLTools.NanoML.nanoaodtools.columns",
    "MLTools.NanoML.nanoaodtools.evaluation",
    "MLTools.NanoML.nanoaodtools.module",
    "MLTools.NanoML.nanoaodtools.reads",
    "MLTools.NanoML.nanoaodtools.record",
    "MLTools.NanoML.nanoaodtools.scoring",
    "MLTools.NanoML.nanoaodtools.source",
    "data_processing.nanoaodtools_engine",
    "data_processing.nanoaodtools_process",
)
_CONVERT = (
    *_READING,
    "MLTools.NanoML.folds",
    "MLTools.NanoML.hdf5",
    "data_processing.blocks",
    "data_processing.buckets",
    "data_processing.columns",
    "data_processing.duplicateevents",
    "data_processing.table",
    "data_processing.rows",
    "data_processing.convert",
)
_SHUFFLE = (
    "MLTools.NanoML.folds",
    "MLTools.NanoML.hdf5",
    "data_processing.alike",
    "data_processing.blocks",
    "data_processing.buckets",
    "data_processing.duplicateevents",
    "data_processing.joined",
    "data_processing.shuffle",
    "data_processing.table",
)


def stages(config: Config, left_out: Left = _NONE) -> dict[str, Stage]:
    """The stages of this part that a configuration asks for.

    Parameters
    ----------
    config
        The analysis.
    left_out
        Of each dataset the files that are missing.

    Raises
    ------
    NanoMLError
        A dataset has no files, or the selection cannot be imported.
    """
    files = resolve_datasets(config)
    found = {}
    if config.skim:
        found["skim"] = skim_stage(config, files, left_out)
    if config.convert:
        found["convert"] = convert_stage(config, files, left_out)
        if config.convert.shuffle is not None:
            found["shuffle"] = shuffle_stage(config)
    if config.score or (config.train and files and config.train.parameter is None):
        found["score"] = score_stage(config, files, left_out)
    return found


def skim_settings(skim: Skim) -> dict[str, Any]:
    """What of the configuration a skim's content depends on, as in `SkimJob`."""
    return {
        "selection": skim.selection or "",
        "modules": list(skim.modules),
        "cut": skim.cut or "",
        "certified": skim.certified or "",
        "branches": skim.branches or "",
        "keep": list(skim.keep),
        "compression": skim.compression,
        "engine": skim.engine,
    }


def skim_tasks(
    files: Sequence[str],
    directory: Path,
    settings: dict[str, Any],
    base: Path,
    memory: Mapping[str, Any],
    prefix: str = "",
) -> list[Task]:
    """One task for each file to be skimmed into a directory.

    Parameters
    ----------
    files
        Paths and URLs.
    directory
        Of the skims.
    settings
        Those of `SkimJob` that say what is in the skim.
    base
        Directory that a selection's file is relative to.
    memory
        chunk and memory, as in `SkimJob`.
    prefix
        Of the tasks' names: the dataset.
    """
    engine = _POSTPROCESSING if settings["engine"] == "nanoaodtools" else ()
    code = code_hash((*source_of(*_SKIM, *engine), *_sources(settings, base)))
    settings_files = [str(Path(base, settings[name])) for name in ("certified", "branches") if settings[name]]
    tasks = []
    for file, name in output_names(list(files)).items():
        job = SkimJob(file, directory / name, base=str(base), **memory, **settings)
        work = functools.partial(_ENGINES[job.engine], job)
        tasks.append(
            Task(
                "skim", prefix + Path(name).stem, (file, *settings_files), (job.output,), settings, code, work
            )
        )
    return tasks


def _sources(settings: Mapping[str, Any], base: Path) -> list[Path]:
    """The users' files that a skim depends on."""
    found = source_files(load_selection(settings["selection"], base)) if settings["selection"] else []
    modules = [module for spec in settings["modules"] for module in load_module(spec, base)]
    return [*found, *(path for module in modules for path in source_files(module))]


def skim_tasks_stage(tasks: Sequence[Task], directories: Mapping[str, Path], workers: int) -> Stage:
    """The stage of skim tasks, with each dataset's directory of skims."""
    return Stage("skim", tasks, workers, functools.partial(skim_summary, directories))


def skim_summary(directories: Mapping[str, Path], done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Events and weights, one line for each dataset; `done` are the books of each task.

    The luminosity sections of data are written beside the skims, as a JSON file that brilcalc takes.
    """
    groups: dict[str, Books] = {}
    for task, content in done.items():
        groups.setdefault(task.rpartition("/")[0], Books()).files += Books.from_dict(dict(content)).files
    lines = []
    for dataset, books in groups.items():
        steps = ", ".join(f"{step.cut} {step.events:,}" for step in books.cutflow)
        kept = f"{books.selected:,} of {books.entries:,} events kept"
        lines.append(
            f"{dataset + ': ' if dataset else ''}{kept}, sum of weights {books.sum_of_weights:.6g} ({steps})"
        )
        if any(file.is_data for file in books.files):
            path = directories[dataset] / "luminosity.json"
            sections = books.luminosity_sections
            sections.write(path)
            lines.append(f"{len(sections):,} luminosity sections of data, for brilcalc: {path}")
    return lines


def skim_stage(config: Config, files: dict[str, list[str]], left_out: Left = _NONE) -> Stage:
    """Skims of all datasets."""
    assert config.skim is not None
    skim, layout = config.skim, Layout.of(config)
    settings, memory = skim_settings(skim), {"chunk": skim.chunk, "memory": skim.memory}
    tasks = [
        task
        for name, paths in files.items()
        for task in skim_tasks(paths, layout.skims(name), settings, config.base, memory, name + "/")
        if task.inputs[0] not in _names(left_out, name)
    ]
    directories = {name: layout.skims(name) for name in files}
    return skim_tasks_stage(tasks, directories, skim.workers or usable_cores())


def _names(left_out: Left, dataset: str) -> set[str]:
    return {each.file for each in left_out.get(dataset, ())}


def _root_files(config: Config, files: dict[str, list[str]], left_out: Left) -> dict[str, list[str]]:
    """What the stages after the skim read: the skims, or the datasets' files where there is no skim."""
    skims = Layout.of(config).skims
    return {
        name: [
            str(skims(name) / output) if config.skim else path
            for path, output in output_names(paths).items()
            if path not in _names(left_out, name)
        ]
        for name, paths in files.items()
    }


def convert_stage(config: Config, files: dict[str, list[str]], left_out: Left = _NONE) -> Stage:
    """One HDF5 file for each dataset."""
    assert config.convert is not None
    convert, layout = config.convert, Layout.of(config)
    objects = {
        name: Objects(wanted.fields, wanted.max, wanted.order, wanted.quantile)
        for name, wanted in convert.objects.items()
    }
    groups = _root_files(config, files, left_out)
    # every file has as many objects as the others, so a quantile is taken over all of them
    quantiles = any(wanted.quantile is not None for wanted in convert.objects.values())
    survey = tuple(path for paths in groups.values() for path in paths) if quantiles else ()
    tasks = []
    code = code_hash(source_of(*_CONVERT))
    parameters = _parameters(config)
    for name, paths in groups.items():
        dataset = config.datasets[name]
        job = ConvertJob(
            paths,
            layout.hdf5(name),
            convert.features,
            objects,
            Sample(name, dataset.class_, dataset.cross_section, dataset.is_data),
            config.classes,
            config.luminosity,
            convert.compression or "none",
            convert.memory,
            convert.float16,
            survey=survey,
            parameters=[replace(one, value=dataset.parameters.get(one.name, math.nan)) for one in parameters],
            missing=left_out.get(name, ()),
            earlier={other: groups[other] for other in config.earlier(name)},
            allow_gaps=convert.allow_gaps,
        )
        settings = {**config.as_dict("convert"), "dataset": config.as_dict("datasets")[name]}
        settings.update(classes=list(config.classes), luminosity=config.luminosity)
        settings.update(parameters=[one.name for one in parameters], earlier=list(job.earlier))
        inputs = dict.fromkeys(
            [*(survey or paths), *(path for each in job.earlier.values() for path in each)]
        )
        for key in ("memory", "shuffle"):
            settings.pop(key, None)
        for key in FROM_WHERE:
            settings["dataset"].pop(key, None)
        tasks.append(
            Task(
                "convert",
                name,
                tuple(inputs),
                (job.output,),
                settings,
                code,
                functools.partial(convert_files, job),
            )
        )
    return Stage("convert", tasks, usable_cores(), convert_summary)


def _parameters(config: Config) -> list[Parameter]:
    """The parameters of all datasets, each with the first place that it is at; every file has all of them."""
    found: dict[str, Parameter] = {}
    for name, dataset in config.datasets.items():
        for key in dataset.parameters:
            place = ("datasets", name, "parameters", key)
            found.setdefault(key, Parameter(key, math.nan, f"{config.where(*place)}: {dotted(place)}"))
    return list(found.values())


def convert_tasks(files: Sequence[str], directory: Path, job: ConvertJob) -> list[Task]:
    """One task for each file to be converted into a directory.

    Parameters
    ----------
    files
        Paths and URLs.
    directory
        Of the HDF5 files.
    job
        All else; its own sources and output do not matter.
    """
    settings: dict[str, Any] = {
        "allow_gaps": job.allow_gaps,
        "compression": job.compression,
        "features": list(job.features),
        "float16": list(job.float16),
    }
    settings.update(
        drop=list(job.drop), objects={name: asdict(wanted) for name, wanted in job.objects.items()}
    )
    tasks = []
    code = code_hash(source_of(*_CONVERT))
    for file, name in output_names(list(files), ".h5").items():
        one = replace(job, sources=(file,), output=directory / name, survey=tuple(files))
        inputs = tuple(files) if any(wanted.quantile for wanted in job.objects.values()) else (file,)
        work = functools.partial(convert_files, one)
        tasks.append(Task("convert", Path(name).stem, inputs, (one.output,), settings, code, work))
    return tasks


def convert_summary(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Events of each file, and what was cut off; `done` are the metadata of each file."""
    lines = []
    for name, metadata in done.items():
        sample = metadata["datasets"][0]
        label = f"class {sample['class']}" if sample["class"] else "data" if sample["is_data"] else "no class"
        lines.append(f"{name}: {sample['books']['selected']:,} events, {label}")
        gone = [Missing(**each) for each in sample.get("missing", ())]
        lines += missing_lines({name: gone} if gone else {})
        lines += duplicate_lines(name, sample)
        lines += gap_lines(name, metadata)
        lines += truncation_lines(name, metadata)
    return lines


def shuffle_stage(config: Config) -> Stage:
    """One HDF5 file of all datasets that are trained on."""
    assert config.convert is not None
    assert config.convert.shuffle is not None
    layout, convert, seed = Layout.of(config), config.convert, config.convert.shuffle
    sources = [layout.hdf5(name) for name in config.trained]
    compression = convert.compression or "none"
    job = ShuffleJob(sources, layout.hdf5_all, seed, convert.memory, compression)
    task = Task(
        "shuffle",
        "all",
        tuple(str(path) for path in sources),
        (job.output,),
        {"shuffle": seed, "compression": compression},
        code_hash(source_of(*_SHUFFLE)),
        functools.partial(shuffle_files, job),
    )
    return Stage("shuffle", [task], summary=shuffle_summary)


def shuffle_summary(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Events of the file; `done` is its metadata."""
    lines = []
    for name, metadata in done.items():
        events = sum(dataset["books"]["selected"] for dataset in metadata["datasets"])
        lines.append(f"{name}: {events:,} events of {len(metadata['datasets'])} datasets")
    return lines


def score_stage(config: Config, files: dict[str, list[str]], left_out: Left = _NONE) -> Stage:
    """Scores of all datasets, or of the files that `score.files` names.

    Raises
    ------
    NanoMLError
        A model that is there already, and not made by the analysis itself, cannot be used like that.
    """
    layout, score = Layout.of(config), config.score or Score()
    models = [config.path(model) for model in score.model or ()] or [layout.model]
    own = config.train is not None and layout.model.resolve() in [model.resolve() for model in models]
    if not own and all(model.is_file() for model in models):
        try:
            load_models(models, score.parameter)  # one message now, not one for each file
        except ConfigError as problem:
            raise config.error("score", message=str(problem)) from None
    groups = (
        {"": find_files(score.files, config.base)} if score.files else _root_files(config, files, left_out)
    )
    job = ScoreJob("", Path(), tuple(models), score.parameter, score.copy, base=str(config.base))
    tasks = [
        task
        for name, paths in groups.items()
        for task in score_tasks(paths, layout.scores(name), job, f"{name}/" if name else "", own)
    ]
    return Stage("score", tasks, usable_cores())
