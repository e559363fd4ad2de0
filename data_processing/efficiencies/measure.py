"""Measures the efficiencies that a selection names in all simulation of an analysis, and writes a file of correctionlib for each era."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from data_processing.datasets.datasets import output_names
from data_processing.efficiencies import tables
from data_processing.efficiencies.counting import (
    Bins,
    CountingJob,
    Counts,
    FileCounts,
    added,
    count_file,
    in_effective_jets,
)
from data_processing.skim.stage import skim_job
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked, usable_cores
from MLTools.NanoML.rootio.remote.client import adopt_settings
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.plain import read
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import forgive
from MLTools.NanoML.workflow.runner import FailedTasksError, Stage, plan, run
from MLTools.NanoML.workflow.task import Task

GROUPS = ("dataset", "class", "era")
"""What may have efficiencies of its own."""

_FLAVOURS = {5: "b", 4: "c", 0: "light"}


@dataclass(frozen=True)
class Measurement:
    """How efficiencies are measured.

    Attributes
    ----------
    bins
        Bins of |eta| and pt.
    least
        How many effective jets each bin must have.
    group
        What has efficiencies of its own, one of `GROUPS`: the datasets of a class may share them, or all of an era.
    workers
        How many files are read at the same time; 0: one for each usable core.
    """

    bins: Bins
    least: float
    group: str = "dataset"
    workers: int = 0


@dataclass(frozen=True)
class _Era:
    """The simulation of an era, and the file that is made for it."""

    name: str
    datasets: Sequence[str]
    output: Path
    corrections: Path | None  # the YAML file of its corrections

    @property
    def expected(self) -> dict[str, str]:
        """The entries of the YAML file that ask for the file that is made, with the efficiency that each names."""
        if self.corrections is None:
            return {}
        entries = Document.read(self.corrections).data or {}
        return {
            key: str(entry.get("name"))
            for key, entry in entries.items()
            if isinstance(entry, dict) and self._names_output(str(entry.get("file", "")))
        }

    def _names_output(self, file: str) -> bool:
        assert self.corrections is not None
        return (self.corrections.parent / file).resolve() == self.output.resolve()


def measure(config: Config, how: Measurement, dry_run: bool = False, force: bool = False) -> list[str]:
    """Measure the efficiencies of an analysis; return what was found, or with `dry_run` what would be done, in lines.

    Raises
    ------
    NanoMLError
        The analysis has no selection, or none that counts; or files cannot be read.
    """
    if config.skim is None or not config.skim.selection:
        raise config.error("skim", message="has no `selection`, which says of what efficiencies are measured.")
    adopt_settings(config.read)
    workdir, eras = Layout.of(config).workdir, _eras(config)
    with locked(workdir), _assumed(eras):
        analysis = Analysis(config)
        stage = Stage("efficiencies", _tasks(analysis, how, eras), how.workers or usable_cores())
        if dry_run:
            files = [f"  {era.output}: {', '.join(era.datasets)}" for era in eras]
            return [*(line for each in plan([stage], workdir, force) for line in each.lines()), *files]
        try:
            run(plan([stage], workdir, force), workdir)
        except FailedTasksError as failed:
            if not failed.is_unreadable:
                raise
            forgive(failed, analysis.files, workdir, config.read.max_missing_files)
            stage = replace(stage, tasks=[task for task in stage.tasks if task.name not in failed.failures])
            run(plan([stage], workdir), workdir)
        return [line for era in eras for line in _written(config, era, stage.tasks, how)]


def _eras(config: Config) -> list[_Era]:
    """The eras that have simulation; the file of each goes beside the YAML file of its corrections."""
    simulated = [name for name, dataset in config.datasets.items() if not dataset.is_data]
    if not simulated:
        raise config.error("datasets", message="there is no simulation to measure efficiencies in.")
    found: dict[str, list[str]] = {}
    for name in simulated:
        found.setdefault(config.datasets[name].era or "", []).append(name)
    made = []
    for name, datasets in found.items():
        text = config.era_of(datasets[0]).corrections
        corrections = config.path(text) if text else None
        folder = corrections.parent if corrections else config.base
        output = folder / (f"efficiencies_{name}.json" if name else "efficiencies.json")
        made.append(_Era(name, datasets, output, corrections))
    return made


@contextmanager
def _assumed(eras: Sequence[_Era]) -> Iterator[None]:
    """Where corrections name efficiencies that are not there yet, files with the value 1/2 stand in for them meanwhile."""
    made = {}
    try:
        for era in eras:
            names = list(dict.fromkeys(era.expected.values()))
            if names and not era.output.exists():
                text = tables.text_of(tables.assumed(names, era.datasets), "Not measured yet.")
                made[era.output] = text
                tables.write(era.output, text)
        yield
    finally:
        for path, text in made.items():
            if path.exists() and path.read_text() == text:
                path.unlink()


def _tasks(analysis: Analysis, how: Measurement, eras: Sequence[_Era]) -> list[Task]:
    """One task for each file."""
    config, layout = analysis.config, Layout.of(analysis.config)
    made = {str(era.output) for era in eras}
    tasks = []
    for dataset in (dataset for era in eras for dataset in era.datasets):
        skim = skim_job(config, dataset)
        code = code_of(count_file.__module__, *skim.sources())
        settings = {
            "selection": skim.selection, "cut": skim.cut, "dataset": skim.dataset.to_json(),
            "abseta": list(how.bins.abseta), "pt": list(how.bins.pt),
        }  # fmt: skip
        beside = [file for file in skim.dataset.files if file not in made]
        for file, name in output_names(list(analysis.files[dataset]), ".json").items():
            job = CountingJob(
                file, layout.counts(dataset) / name, skim.selection, how.bins, skim.base, skim.cut, skim.dataset, skim.chunk, skim.memory,
            )  # fmt: skip
            work, inputs = functools.partial(count_file, job), (file, *beside)
            task = f"{dataset}/{Path(name).stem}"
            tasks.append(Task("efficiencies", task, inputs, (job.output,), settings, code, work))
    return tasks


def _written(config: Config, era: _Era, tasks: Sequence[Task], how: Measurement) -> Iterator[str]:
    """Write the file of an era; say what is in it."""
    counts: dict[str, list[Counts]] = {name: [] for name in era.datasets}
    for task in tasks:
        name = task.name.partition("/")[0]
        if name in counts:
            counts[name] += read(FileCounts, task.outputs[0], "Give --force to count again.").counts
    groups: dict[str, list[str]] = {}
    for name in era.datasets:
        groups.setdefault(_group(config, name, how.group), []).append(name)
    of_dataset = {name: [in_effective_jets(each) for each in added(found)] for name, found in counts.items()}
    by_group = {group: added(each for name in names for each in of_dataset[name]) for group, names in groups.items()}
    everywhere = {
        (each.name, each.flavour): each for each in added(each for found in by_group.values() for each in found)
    }
    names = list(dict.fromkeys(name for name, _ in everywhere))
    if not names:
        raise NanoMLError(
            f"{config.where('skim', 'selection')}: {config.skim and config.skim.selection} counted no jets in "
            f"{', '.join(era.datasets)}. Call `cutflow.count_efficiency(NAME, jets, passed)` where the efficiency is needed."
        )
    flavours = {name: dict.fromkeys((*tables.FLAVOURS, *(f for n, f in everywhere if n == name))) for name in names}
    corrections = []
    here = Path.cwd()
    yield f"{era.output.relative_to(here) if era.output.is_relative_to(here) else era.output}:"
    for name in names:
        by_dataset = {}
        for group, datasets in groups.items():
            own = {each.flavour: each for each in by_group[group] if each.name == name}
            found = [
                tables.efficiency(each, own.get(each), everywhere.get((name, each)), how.bins, how.least)
                for each in flavours[name]
            ]
            by_dataset.update(dict.fromkeys(datasets, found))
            yield f"  {name}, {group}: {', '.join(map(_described, reversed(found)))}"
        corrections.append(tables.correction(name, {dataset: by_dataset[dataset] for dataset in era.datasets}))
    about = f"Measured in simulation by NanoML; bins are joined until each has {how.least:g} effective jets."
    tables.write(era.output, tables.text_of(corrections, about))
    yield from _advice(era, names)


def _group(config: Config, dataset: str, group: str) -> str:
    """What a dataset shares its efficiencies with, by its name."""
    if group == "era":
        return "all datasets"
    return (config.datasets[dataset].class_ if group == "class" else None) or dataset


def _described(found: tables.Efficiency) -> str:
    note = f", {found.note}" if found.note else ""
    return f"{_FLAVOURS.get(found.flavour, found.flavour)} {found.mean:.3g} ({found.jets:,} jets{note})"


def _advice(era: _Era, names: Sequence[str]) -> Iterator[str]:
    """Lines for the YAML file of corrections, as far as it does not have them; and entries that nothing was counted for."""
    expected = era.expected
    for entry, name in expected.items():
        if name not in names:
            yield f"  WARNING: {entry} of {era.corrections} asks for {name}, which the selection does not count."
    lacking = [name for name in names if name not in expected.values()]
    if lacking:
        yield f"  For {era.corrections or 'the YAML file of corrections'}:"
        yield from (f"    {name}_efficiency: {{file: {era.output.name}, name: {name}}}" for name in lacking)
