"""Measures the efficiencies that a selection names in all simulation of an analysis, and writes a file of correctionlib for each era.

Bins that have too few jets are joined.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from data_processing.datasets.datasets import output_names
from data_processing.skim.stage import skim_job
from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.efficiencies.counting import (
    Bins,
    CountingJob,
    Counts,
    FileCounts,
    added,
    count_file,
    in_effective_jets,
)
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.rootio.remote.client import adopt_settings
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.plain import read
from MLTools.NanoML.workflow.analysis import Analysis, FailedTasksError, Stage, plan, run
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import forgive
from MLTools.NanoML.workflow.task import Task

_FLAVOURS = {0: "light", 4: "c", 5: "b"}  # of NanoAOD's hadronFlavour
_INPUTS = {
    "dataset": ("string", "name of the dataset"),
    "flavor": ("int", "hadronFlavour: 5, 4 or 0"),
    "abseta": ("real", "|eta|"),
    "pt": ("real", "transverse momentum [GeV]"),
}  # what an efficiency depends on, with types and meanings


@dataclass(frozen=True)
class Efficiency:
    """The efficiency of one dataset and flavour."""

    flavour: int
    node: Any  # of correctionlib: bins of |eta|, each with bins of pt of its own
    mean: float
    jets: int  # how many were counted in this dataset
    note: str  # in words, if it is not that of this dataset


class _Histogram:
    """Sums of weights in bins of |eta| and pt."""

    def __init__(self, sums: NDArray[np.float64]) -> None:
        self._sums = sums
        self.all, self.squares, self.passed = sums

    @classmethod
    def of(cls, counts: Optional[Counts], bins: Bins) -> _Histogram:
        empty = np.zeros((3, *bins.shape))
        return cls(np.array([counts.all_, counts.squares, counts.passed]) if counts else empty)

    def __getitem__(self, what: Union[int, slice]) -> _Histogram:
        return _Histogram(self._sums[:, what])

    @property
    def over_eta(self) -> _Histogram:
        """The same for all |eta|."""
        return _Histogram(self._sums.sum(axis=1))

    @property
    def entries(self) -> float:
        """The number of effective jets, (sum of weights)^2 / sum of squared weights."""
        squares = float(self.squares.sum())
        return float(self.all.sum()) ** 2 / squares if squares and self.all.sum() > 0 else 0.0

    @property
    def value(self) -> float:
        """The efficiency; as far from 0 and 1 as half a jet is."""
        if not self.entries:
            return 0.5
        least = 0.5 / (self.entries + 1)
        return float(np.clip(self.passed.sum() / self.all.sum(), least, 1 - least))

    def suffices(self, least: float) -> bool:
        """Whether there are enough jets, of which some pass and some do not."""
        return self.entries >= least and bool(0 < self.passed.sum() < self.all.sum())


def efficiency(
    flavour: int, own: Optional[Counts], everywhere: Optional[Counts], bins: Bins, least: float
) -> Efficiency:
    """The efficiency of jets of one flavour in one dataset, by its own counts and those of all datasets; None without any such jet.

    Bins of pt are joined with those below until they have `least` effective jets, and until some jets pass and some do not. A bin of
    |eta| without so many takes the efficiency for all |eta|; a dataset without so many, that of all datasets.
    """
    mine, all_ = _Histogram.of(own, bins), _Histogram.of(everywhere, bins)
    chosen, note = (mine, "") if mine.suffices(least) else (all_, "so those of all datasets")
    if not chosen.suffices(least):
        note += ", which are too few" if chosen.entries else ", and none there: 1/2 stands in"
    rows = [chosen[row] if chosen[row].suffices(least) else chosen.over_eta for row in range(bins.shape[0])]
    content = [_binning("pt", *_joined(row, bins.pt, least)) for row in rows]
    return Efficiency(flavour, _binning("abseta", bins.abseta, content), chosen.value, own.jets if own else 0, note)


def _joined(row: _Histogram, edges: Sequence[float], least: float) -> tuple[list[float], list[float]]:
    """Edges and values of bins of pt, joined from the highest on until each suffices; what is left at the low end joins the last."""
    stops, stop = [len(edges) - 1], len(edges) - 1
    for start in reversed(range(len(edges) - 1)):
        if row[start:stop].suffices(least):
            stops.append(start)
            stop = start
    stops = [*stops[:-1], 0] if len(stops) > 1 else [*stops, 0]
    places = stops[::-1]
    values = [row[start:end].value for start, end in zip(places, places[1:])]
    return [float(edges[place]) for place in places], values


def _binning(name: str, edges: Sequence[float], content: Sequence[object]) -> dict[str, object]:
    return {
        "nodetype": "binning", "input": name, "edges": list(map(float, edges)), "content": list(content), "flow": "clamp",
    }  # fmt: skip


def correction(name: str, by_dataset: Mapping[str, Sequence[Efficiency]]) -> dict[str, Any]:
    """One efficiency of all datasets as a correction of correctionlib."""

    def category(key: str, values: Mapping[Any, object]) -> dict[str, object]:
        return {
            "nodetype": "category", "input": key, "content": [{"key": it, "value": node} for it, node in values.items()],
        }  # fmt: skip

    data = {
        dataset: category("flavor", {each.flavour: each.node for each in found})
        for dataset, found in by_dataset.items()
    }
    return {
        "name": name,
        "description": "Efficiency in simulation, by generator weights.",
        "version": 1,
        "inputs": [{"name": key, "type": kind, "description": text} for key, (kind, text) in _INPUTS.items()],
        "output": {"name": "efficiency", "type": "real"},
        "data": category("dataset", data),
    }


def assumed(names: Sequence[str], datasets: Sequence[str]) -> list[dict[str, object]]:
    """Corrections with the efficiency 1/2, for selections that ask for one before it is measured."""
    half = [Efficiency(flavour, 0.5, 0.5, 0, "") for flavour in _FLAVOURS]
    return [correction(name, dict.fromkeys(datasets, half)) for name in names]


def text_of(corrections: Sequence[Mapping[str, object]], description: str) -> str:
    """The content of a file of correctionlib."""
    content = {"schema_version": 2, "description": description, "corrections": list(corrections)}
    return json.dumps(content, indent=1) + "\n"


@dataclass(frozen=True)
class Measurement:
    """How efficiencies are measured."""

    bins: Bins
    least: float  # how many effective jets each bin must have
    group: str = "dataset"  # what has efficiencies of its own: a "dataset"; the datasets of a "class", or of an "era", may share them
    workers: int = 0  # how many files are read at the same time; 0: as many as they are worth


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
        folder, output = self.corrections.parent, self.output.resolve()
        return {
            key: str(entry.get("name"))
            for key, entry in entries.items()
            if isinstance(entry, dict) and (folder / str(entry.get("file", ""))).resolve() == output
        }


def measure(config: Config, how: Measurement, dry_run: bool = False, force: bool = False) -> list[str]:
    """Measure the efficiencies of an analysis; return what was found, or with `dry_run` what would be done, in lines.

    Raises NanoMLError if the analysis has no selection, or none that counts; or files cannot be read.
    """
    if config.skim is None or not config.skim.selection:
        raise config.error("skim", message="has no `selection`, which names the jets whose efficiencies are measured.")
    adopt_settings(config.read)
    workdir, eras = Layout.of(config).workdir, _eras(config)
    with locked(workdir), _assumed(eras):
        analysis = Analysis(config)
        stage = Stage("efficiencies", _tasks(analysis, how, eras), how.workers)
        if dry_run:
            files = [f"  {era.output}: {', '.join(era.datasets)}" for era in eras]
            return [*(line for each in plan([stage], workdir, force, config.base) for line in each.lines()), *files]
        try:
            run(plan([stage], workdir, force, config.base), workdir, config.base)
        except FailedTasksError as failed:
            if not failed.is_unreadable:
                raise
            forgive(failed, analysis.files, workdir, config.read.max_missing_files)
            stage = replace(stage, tasks=[task for task in stage.tasks if task.name not in failed.failures])
            run(plan([stage], workdir, base=config.base), workdir, config.base)
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
                text = text_of(assumed(names, era.datasets), "Not measured yet.")
                made[era.output] = text
                write_text(era.output, text)
        yield
    finally:
        for path, text in made.items():
            if path.exists() and path.read_text() == text:
                path.unlink()


def _tasks(analysis: Analysis, how: Measurement, eras: Sequence[_Era]) -> list[Task]:
    """One task for each file."""
    config, counts = analysis.config, Layout.of(analysis.config).workdir / "efficiencies"
    made = {str(era.output) for era in eras}
    tasks = []
    for dataset in (dataset for era in eras for dataset in era.datasets):
        skim = skim_job(config, dataset)
        code = code_of(count_file.__module__, *skim.sources())
        for file, name in output_names(list(analysis.files[dataset]), ".json").items():
            job = CountingJob(
                file, counts / dataset / name, skim.selection, how.bins, skim.base, skim.cut, skim.dataset, skim.chunk, skim.memory,
            )  # fmt: skip
            task = Task.of("efficiencies", f"{dataset}/{Path(name).stem}", count_file, job, code)
            tasks.append(replace(task, inputs=tuple(it for it in task.inputs if it not in made)))
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
    flavours = {name: dict.fromkeys((*_FLAVOURS, *(f for n, f in everywhere if n == name))) for name in names}
    corrections = []
    here = Path.cwd()
    yield f"{era.output.relative_to(here) if era.output.is_relative_to(here) else era.output}:"
    for name in names:
        by_dataset = {}
        for group, datasets in groups.items():
            own = {each.flavour: each for each in by_group[group] if each.name == name}
            found = [
                efficiency(each, own.get(each), everywhere.get((name, each)), how.bins, how.least)
                for each in flavours[name]
            ]
            by_dataset.update(dict.fromkeys(datasets, found))
            yield f"  {name}, {group}: {', '.join(map(_described, reversed(found)))}"
        corrections.append(correction(name, {dataset: by_dataset[dataset] for dataset in era.datasets}))
    about = f"Measured in simulation by NanoML; bins are joined until each has {how.least:g} effective jets."
    write_text(era.output, text_of(corrections, about))
    yield from _advice(era, names)


def _group(config: Config, dataset: str, group: str) -> str:
    """The group with which a dataset shares its efficiencies, by its name."""
    if group == "era":
        return "all datasets"
    return (config.datasets[dataset].class_ if group == "class" else None) or dataset


def _described(found: Efficiency) -> str:
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
