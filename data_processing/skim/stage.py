"""The stage skim: a skim of each file."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_processing.datasets.datasets import output_names
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import ConfigError, listed, plural
from MLTools.NanoML.nanoaod.accounting import BY_EVENTS, Accounting, shift_changes
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL, OUTLIER, FileAccounting, Step
from MLTools.NanoML.selection import DatasetInfo
from MLTools.NanoML.workflow.analysis import Analysis, Stage
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Task

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

_ODD_MEAN = 0.1  # that the mean of a weight of all events may differ from 1
_ODD_RATIO = 100  # of the mean generator weights of two files of a dataset, if both have so many events
_SECTIONS = "luminosity.json"  # of data


def skim_job(config: Config, name: str | None = None) -> SkimJob:
    """The skim that the configuration asks for, of no file yet; of a dataset, if it is named."""
    assert config.skim is not None
    known, settings = {it.name for it in fields(SkimJob)}, vars(config.skim)
    job = SkimJob(
        "",
        Path(),
        base=str(config.base),
        **{it: value for it, value in settings.items() if it in known and value is not None},
    )
    if name is None:
        return job
    dataset = config.datasets[name]
    certified = config.era_of(name).certified or job.certified
    return replace(job, certified=certified, dataset=config.info_of(name), generator_weights=dataset.generator_weights)


def skim_tasks(files: Sequence[str], directory: Path, job: SkimJob, prefix: str = "") -> list[Task]:
    """One task for each file to be skimmed into a directory; the source and output of `job` do not matter.

    `prefix` is put before the tasks' names: the dataset.
    """
    if job.format != "TTree" and job.engine != "columnar":
        instead = "Leave the format out: modules run there" if job.modules else "Use the engine columnar"
        raise ConfigError(f"skim.format: the engine {job.engine} writes no {job.format}. {instead}.")
    skim = _engine(job.engine)
    code = code_of(skim.__module__, *job.sources())
    certified, branches = (text and str(Path(job.base, text)) for text in (job.certified, job.branches))
    # nothing but a selection asks what the dataset is
    dataset = job.dataset if job.selection else DatasetInfo(is_data=job.dataset.is_data)
    job = replace(job, certified=certified, branches=branches, dataset=dataset)
    return [
        Task.of("skim", prefix + os.path.splitext(name)[0], skim, job.of_file(file, directory / name), code)
        for file, name in output_names(list(files)).items()
    ]


def _engine(name: str) -> Callable[[SkimJob], Accounting]:
    if name == "columnar":
        return skim_file
    from data_processing.skim.nanoaodtools_engine import postprocess_file  # few skims need it

    return postprocess_file


def skim_tasks_stage(
    tasks: Sequence[Task],
    directories: Mapping[str, Path],
    workers: int,
    data: Collection[str] = (),
    told: Collection[str] = (),
) -> Stage:
    """The stage of skim tasks, with each dataset's directory of skims, which are known to be data, and which of them are to be told."""
    written = [directories[name] / _SECTIONS for name in data]
    return Stage("skim", tasks, workers, functools.partial(skim_summary, directories, told=told), written=written)


def skim_summary(
    directories: Mapping[str, Path], done: Mapping[str, Mapping[str, object]], told: Collection[str] = ()
) -> list[str]:
    """Events and weights, with a cut flow for each dataset; `done` has the accounting of each task as JSON.

    Of data nothing is said after the first cut, unless their dataset is to be `told`; "" is that of files without an analysis. Their
    luminosity sections are written beside the skims, as a JSON file that brilcalc takes.
    """
    groups: dict[str, Accounting] = {}
    for task, content in done.items():
        groups.setdefault(task.rpartition("/")[0], Accounting()).files += Accounting.from_json(dict(content)).files
    lines: list[str] = []
    tables = _cutflow_tables({name: accounting.cutflow for name, accounting in groups.items()})
    for dataset, accounting in groups.items():
        kept = f"{accounting.selected:,} of {accounting.entries:,} events kept"
        begin = len(lines)
        lines.append(f"{dataset + ': ' if dataset else ''}{kept}, sum of weights {accounting.sum_of_weights:.6g}")
        lines += tables[dataset]
        if not accounting.written:
            cuts = [f' after "{step.cut}"' for step in accounting.cutflow if not step.events]
            lines.append(f"  WARNING: no event is left{cuts[0] if cuts else ''}.")
        lines += _doubts(dataset, accounting.files)
        if accounting.shifts:
            others = accounting.written - accounting.selected
            lines.append(
                f"  {plural(others, 'more event')} under shifts alone; selected under shifts: {shift_changes(accounting)}"
            )
        lines += _weight_lines(accounting)
        if any(file.is_data for file in accounting.files) and dataset not in told:
            who, how = (f"{dataset}: ", "") if dataset else ("", " (--show-data)")
            lines[begin:] = [f"{who}{accounting.entries:,} events read; how many are kept is blind{how}"]
        lines += _absent(accounting.files)
        if any(file.is_data for file in accounting.files):
            path = directories[dataset] / _SECTIONS
            sections = accounting.luminosity_sections
            sections.write(path)
            lines.append(f"{len(sections):,} luminosity sections of data, for brilcalc: {path}")
    return lines


def _cutflow_tables(flows: Mapping[str, Sequence[Step]]) -> dict[str, list[str]]:
    """The lines of a table for each dataset, all with the same columns; sums of weights where they are not numbers of events."""
    steps = [step for flow in flows.values() for step in flow]
    width, has_weights = max((len(step.cut) for step in steps), default=0), any(it.weights != it.events for it in steps)

    def line(cut: str, events: str, of_all: str, of_previous: str, weights: str) -> str:
        return f"  {cut:<{width}}{events:>12}{of_all:>10}{of_previous:>13}" + f"{weights:>14}" * has_weights

    tables = {
        name: [line("cut", "events", "of all", "of previous", "weights")] * bool(flow) for name, flow in flows.items()
    }
    for name, flow in flows.items():
        for before, step in zip([*flow[:1], *flow], flow):
            of_all, of_previous = (f"{100 * step.events / (of.events or 1):.1f} %" for of in (flow[0], before))
            tables[name].append(line(step.cut, f"{step.events:,}", of_all, of_previous, f"{step.weights:,.6g}"))
    return tables


def _doubts(dataset: str, files: Sequence[FileAccounting]) -> list[str]:
    """Warnings about generator weights: sums that may lack events, and a dataset with files of different generators."""
    lines, bare = [], [file.file for file in files if file.sum_of_weights_source == BY_EVENTS]
    if bare:
        others = f", like {len(bare) - 1:,} more" if bare[1:] else ""
        lines.append(
            f"  WARNING: {bare[0]} has no tree Runs{others}. The sum of weights is that of the events in the file, which is "
            "right only if none were cut away before."
        )
    means = {
        file.file: abs(file.cutflow[0].weights) / file.entries
        for file in files
        if file.entries >= _ODD_RATIO and file.cutflow
    }
    if dataset and means:
        light, heavy = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
        if means[heavy] > _ODD_RATIO * means[light] > 0:
            lines.append(
                f"  WARNING: an event of {heavy} weighs {means[heavy] / means[light]:,.0f} times as much as one of {light}. "
                "Files of different generators are different datasets, each with its cross section."
            )
    return lines


def _absent(files: Sequence[FileAccounting]) -> list[str]:
    """A line for the trigger bits that files lack: nothing is known of them there, though the selection reads them."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for file in files:
        if file.absent:
            lacking.setdefault(tuple(file.absent), []).append(file.file)
    return [
        f"  NOTE: {sources[0]} has no branch {listed(names, 3)}{f', like {len(sources) - 1:,} more' if sources[1:] else ''}. "
        "Their defaults were taken there; those of a dataset's triggers count as not fired."
        for names, sources in lacking.items()
    ]


def _weight_lines(accounting: Accounting) -> list[str]:
    """The means of the weights that the selection gave to simulation, and a warning about one that changes all events."""
    if accounting.is_data or not accounting.weights:
        return []
    means, warnings = [], []
    for each in accounting.weights:
        mean = each.means
        if not mean:
            continue
        nominal, others = mean[NOMINAL], each.varied_means(3)
        means.append(f"{each.weight} {nominal:.3f}{f' ({others})' if others else ''}")
        if each.cut == "all" and not each.keeps_yield and abs(nominal - 1) > _ODD_MEAN:
            about = "If it should not, as the shape of b-tagging, its declaration says Weight(..., keeps_yield=True)."
            if re.match("pu|pile", each.weight, re.IGNORECASE):
                about = "The mean of pile-up weights is near 1 over all generated events: is this the profile of the sample?"
            warnings.append(
                f"  WARNING: {each.weight} changes the sum of weights of all events by {nominal - 1:+.0%}. {about}"
            )
        if each.outlier is not None and each.outlier_ratio > OUTLIER:
            name = each.weight if each.outlier.variation == NOMINAL else f"{each.weight}, {each.outlier.variation},"
            warnings.append(
                f"  WARNING: {name} is {each.outlier.value:.4g} in the event {each.outlier.event}: {each.outlier_ratio:.3g} times its mean."
            )
    return [f"  mean weights: {'; '.join(means)}", *warnings]


def skim_stage(analysis: Analysis) -> Stage:
    """Skims of all datasets."""
    config = analysis.config
    assert config.skim is not None
    skim, layout = config.skim, Layout.of(config)
    tasks: list[Task] = []
    for name, paths in analysis.files.items():
        left_out = analysis.left_out(name)
        of_dataset = skim_tasks(paths, layout.skims(name), skim_job(config, name), name + "/")
        tasks += [task for task in of_dataset if task.inputs[0] not in left_out]
    directories = {name: layout.skims(name) for name in analysis.files}
    data = [name for name in directories if config.datasets[name].is_data]
    told = set(data) - analysis.blinded.hidden
    return skim_tasks_stage(tasks, directories, skim.workers, data, told)
