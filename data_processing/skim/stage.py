"""The stage skim: a skim of each file."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_processing.datasets.datasets import output_names
from data_processing.eventloop import load_module
from data_processing.skim.nanoaodtools_engine import postprocess_file
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.config.data import Skim
from MLTools.NanoML.dependencies import code_of, source_of
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.selection import load_selection
from MLTools.NanoML.workflow.runner import Stage
from MLTools.NanoML.workflow.stages import Analysis, Layout
from MLTools.NanoML.workflow.task import Task

_ENGINES = {"columnar": skim_file, "nanoaodtools": postprocess_file}


def skim_settings(skim: Skim) -> dict[str, Any]:
    """The settings that a skim's content depends on, as in `SkimJob`."""
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

    `settings` are those of `SkimJob` that its content depends on, and `memory` are its `chunk` and `memory`; files are
    relative to `base`. `prefix` is put before the tasks' names: the dataset.
    """
    code = code_of(_ENGINES[settings["engine"]].__module__, *_sources(settings, base))
    settings_files = [str(Path(base, settings[name])) for name in ("certified", "branches") if settings[name]]
    tasks = []
    for file, name in output_names(list(files)).items():
        job = SkimJob(file, directory / name, base=str(base), **memory, **settings)
        work = functools.partial(_ENGINES[job.engine], job)
        tasks.append(
            Task("skim", prefix + Path(name).stem, (file, *settings_files), (job.output,), settings, code, work)
        )
    return tasks


def _sources(settings: Mapping[str, Any], base: Path) -> list[Path]:
    """The users' files that a skim depends on."""
    things: list[object] = [load_selection(settings["selection"], base)] if settings["selection"] else []
    things += [module for spec in settings["modules"] for module in load_module(spec, base)]
    return [source_of(thing) for thing in things]


def skim_tasks_stage(tasks: Sequence[Task], directories: Mapping[str, Path], workers: int) -> Stage:
    """The stage of skim tasks, with each dataset's directory of skims."""
    return Stage("skim", tasks, workers, functools.partial(skim_summary, directories))


def skim_summary(directories: Mapping[str, Path], done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Events and weights, one line for each dataset; `done` has the accounting of each task as JSON.

    The luminosity sections of data are written beside the skims, as a JSON file that brilcalc takes.
    """
    groups: dict[str, Accounting] = {}
    for task, content in done.items():
        groups.setdefault(task.rpartition("/")[0], Accounting()).files += Accounting.from_json(dict(content)).files
    lines = []
    for dataset, accounting in groups.items():
        steps = ", ".join(f"{step.cut} {step.events:,}" for step in accounting.cutflow)
        kept = f"{accounting.selected:,} of {accounting.entries:,} events kept"
        lines.append(
            f"{dataset + ': ' if dataset else ''}{kept}, sum of weights {accounting.sum_of_weights:.6g} ({steps})"
        )
        if any(file.is_data for file in accounting.files):
            path = directories[dataset] / "luminosity.json"
            sections = accounting.luminosity_sections
            sections.write(path)
            lines.append(f"{len(sections):,} luminosity sections of data, for brilcalc: {path}")
    return lines


def skim_stage(analysis: Analysis) -> Stage:
    """Skims of all datasets."""
    config = analysis.config
    assert config.skim is not None
    skim, layout = config.skim, Layout.of(config)
    settings, memory = skim_settings(skim), {"chunk": skim.chunk, "memory": skim.memory}
    tasks = [
        task
        for name, paths in analysis.files.items()
        for task in skim_tasks(paths, layout.skims(name), settings, config.base, memory, name + "/")
        if task.inputs[0] not in analysis.left_out(name)
    ]
    directories = {name: layout.skims(name) for name in analysis.files}
    return skim_tasks_stage(tasks, directories, skim.workers or usable_cores())
