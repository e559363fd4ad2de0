"""The stages fill, histogram and draw: the histograms of each file, of all, and their figures."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Optional

from data_processing.convert.expressions import Expression
from data_processing.datasets.datasets import output_names, root_files
from data_processing.histograms.densities import DensityJob, make_densities
from data_processing.histograms.fill import NOMINAL, Axis, FillJob, Plan, Process, fill_file
from data_processing.histograms.resultbins import FitOf
from data_processing.histograms.sums import Part, VariedParts, added_parts
from data_processing.histograms.templates import ChosenBins, TemplateJob, make_templates
from data_processing.score.eventcolumns import prefix_of
from MLTools.NanoML.config.analysis import (
    Config,
    hypotheses,
    luminosity_uncertainties,
    regions_of,
    signal_of,
    unbinned_channels,
)
from MLTools.NanoML.config.data import FIT
from MLTools.NanoML.config.fit import EACH, EVERYWHERE, RESULT, Histogram, axes_of
from MLTools.NanoML.config.training import DISCRIMINANT
from MLTools.NanoML.contracts.bins import fine_edges
from MLTools.NanoML.contracts.blinding import Place
from MLTools.NanoML.contracts.densities import ratios_model
from MLTools.NanoML.contracts.templates import DATA, Origin, Templates
from MLTools.NanoML.dependencies import FIGURES, code_of
from MLTools.NanoML.errors import listed
from MLTools.NanoML.nanoaod.folds import SINGLE
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.report.section import Style
from MLTools.NanoML.schema.roles import READS, WRITES
from MLTools.NanoML.terminal.progress import say_once
from MLTools.NanoML.workflow.analysis import Analysis, Stage
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Task
from MLTools.NanoML.workflow.unblinding import Blinded


def fill_stage(analysis: Analysis) -> Optional[Stage]:
    """One task for each file of events with scores."""
    config, layout = analysis.config, Layout.of(analysis.config)
    if not config.histogram:
        return None
    plans, unbinned = _plans(config), unbinned_channels(config)
    code, copies = code_of(fill_file.__module__), config.score is not None and config.score.copy
    single = SINGLE if config.train is not None and config.train.folds == 1 else None
    others = [name for name in config.datasets if not _processes(analysis, name)]
    why = (f"{name} ({'only: training' if config.datasets[name].class_ else 'it has no class'})" for name in others)
    if others:
        say_once("only scored", f"histogram: only scored, and in no histogram: {listed(why)}.")
    tasks = []
    for dataset, processes, events, scores, output in _files(analysis):
        source = str(scores) if copies else events
        parameters = config.datasets[dataset].parameters
        # what is below and above an axis is filled in any case
        allowed = (it for it in plans if it.hypothesis is None or it.hypothesis.allows(parameters))
        mine = [replace(it, is_folded=False) for it in allowed]
        here = (it for it in unbinned if it.era == config.datasets[dataset].era)
        mine += [Plan(ratios_model(it.name), (), (it.region,), classes=config.classes) for it in here]
        job = FillJob(str(scores), source, output, mine, processes, layout.name, bool(config.regions), single)
        tasks.append(Task.of("fill", f"{dataset}/{output.stem}", fill_file, job, code))
    return Stage("fill", tasks, 0)


def histogram_stage(analysis: Analysis) -> Optional[Stage]:
    """The histograms of all files together."""
    config, layout = analysis.config, Layout.of(analysis.config)
    if not config.histogram:
        return None
    plans = _plans(config)
    files: dict[str, list[Part]] = {}
    for dataset, *_, output in _files(analysis):
        files.setdefault(dataset, []).append(Part(output, config.datasets[dataset].era))
    parts = [part for name, mine in files.items() if not config.datasets[name].varies for part in mine]
    varied = [
        VariedParts(it.variation, name, files[name], [part for other in it.varies for part in files[other]])
        for name, it in sorted(config.datasets.items())
        if it.variation is not None
    ]
    normalisations = [layout.normalisation(name) for name in files]
    channels = config.fit.channels if config.fit is not None else {}
    chosen = {
        plan.name: ChosenBins(
            _signal_of(config, name, each),
            each.least_events,
            each.most_bins,
            [it for it, fitted in channels.items() if fitted == name] or plan.regions,
            each.least_events_in == EACH,
            _fit_of(config, plan) if plan.has_halves else None,
        )
        for name, each in config.histogram.items()
        if each.is_auto
        for plan in _plans_of(config, name, each)
    }
    luminosity = {name: era.luminosity for name, era in config.eras.items()} or {"": config.luminosity}
    signal = signal_of(config)
    output, root = layout.histograms(".h5"), layout.histograms(".root")
    has_data = any(dataset.is_data for dataset in config.datasets.values())
    blinded = analysis.blinded
    blind, opened = blinded.bins if has_data else None, list(blinded.opened)
    processes, origins = config.processes, {plan.name: _origins(config, plan) for plan in plans}
    job = TemplateJob(
        parts, normalisations, plans, chosen, processes, signal, luminosity, output, root, blind, varied,
        blinded.shares, opened, origins,
    )  # fmt: skip
    task = Task.of("histogram", "all", make_templates, job, code_of(make_templates.__module__))
    tasks, unbinned = [task], unbinned_channels(config)
    if unbinned:
        densities = DensityJob(parts, normalisations, unbinned, processes, layout.densities, blind, opened)
        tasks.append(Task.of("histogram", "densities", make_densities, densities, code_of(make_densities.__module__)))
    return Stage("histogram", tasks, summary=_summary)


def _summary(done: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = {name: count for each in done.values() for name, count in each.get("blind", {}).items()}
    bins = ", ".join(f"{count} of {name}" for name, count in found.items())
    lines = [f"{name}: {text}" for each in done.values() for name, text in each.get("chosen", {}).items()]
    return [*lines, *([f"data stay blind in bins where the signal may show: {bins}"] if found else [])]


def _fit_of(config: Config, plan: Plan) -> FitOf:
    """The fit of a histogram, with the others at the same hypothesis."""
    assert config.fit is not None
    ending = plan.ending
    channels = {region: f"{name}{ending}" for region, name in config.fit.channels.items()}
    signal = config.fit.signal or signal_of(config)
    return FitOf(replace(config.fit, channels=channels, signal=signal), luminosity_uncertainties(config))


def draw_stage(analysis: Analysis) -> Optional[Stage]:
    """The figures and tables of all histograms, where matplotlib is installed."""
    config, layout = analysis.config, Layout.of(analysis.config)
    if not config.histogram:
        return None
    if importlib.util.find_spec("mplhep") is None:
        say_once("draw", "draw: left out, since the Python package mplhep is missing: pip install mplhep.")
        return None
    source, page = layout.histograms(".h5"), layout.histograms(".html")
    code = code_of("data_processing.histograms.draw", FIGURES)
    outputs = (page, *(page.with_name(f"yields.{suffix}") for suffix in ("md", "tex")))
    job = DrawJob(source, page, analysis.style())
    task = Task.of("draw", "all", _draw, job, code, outputs=outputs, folders=(page.parent,))
    return Stage("draw", [task])


@dataclass(frozen=True)
class DrawJob:
    """The histograms, the page on which they are drawn, and how."""

    source: Path = field(metadata=READS)
    page: Path = field(metadata=WRITES)
    style: Style


def _draw(job: DrawJob, only: Sequence[str] = ()) -> dict[str, object]:
    from data_processing.histograms.draw import (
        draw_histograms,  # imports matplotlib
        write_tables,
    )

    templates, folder = Templates.read(job.source), job.page.parent
    drawn = draw_histograms(job.style, templates, folder, only)
    write_tables(templates, folder, drawn, job.style)
    return {"figures": drawn}


def _files(analysis: Analysis) -> Iterator[tuple[str, list[Process], str, Path, Path]]:
    """The datasets in histograms, the processes of each, and its files: events, scores, and the file with its histograms."""
    layout = Layout.of(analysis.config)
    for name, paths in root_files(analysis).items():
        processes = _processes(analysis, name)
        for events, file in output_names(list(paths)).items() if processes else ():
            yield name, processes, events, layout.scores(name) / file, layout.filled(name) / f"{Path(file).stem}.h5"


def _plans(config: Config) -> list[Plan]:
    return [plan for name, histogram in config.histogram.items() for plan in _plans_of(config, name, histogram)]


def _plans_of(config: Config, name: str, histogram: Histogram) -> list[Plan]:
    """One, or one for each hypothesis of the signal if it is fitted or shows a score that depends on it."""
    plan, train = _plan(config, name, histogram), config.train
    found = config.fit is not None and name in config.fit.channels.values()
    if train is not None and train.parameter is not None:
        model, outputs = Layout.of(config).name, {*config.classes, *(train.against or [DISCRIMINANT])}
        read = {name for axis in plan.axes for name in Formula(axis.quantity.text).branches}
        found = found or any(name.removeprefix(f"{model}_") in outputs for name in read)
    known = hypotheses(config) if found else ()
    return [replace(plan, name=f"{name}_{it.ending}", hypothesis=it) for it in known] or [plan]


def _plan(config: Config, name: str, histogram: Histogram) -> Plan:
    edges = [fine_edges()] if histogram.is_auto else histogram.edges()
    place = config.place("histogram", name)
    quantities = (Expression(text, place) for text in axes_of(name, histogram))
    axes = tuple(Axis(quantity, tuple(each)) for quantity, each in zip(quantities, edges))
    regions, is_folded = tuple(regions_of(config, histogram)), histogram.overflow is not None
    return Plan(name, axes, regions, is_folded=is_folded, has_halves=histogram.bins == RESULT)


def _processes(analysis: Analysis, dataset: str) -> list[Process]:
    """The processes of a dataset in histograms: data or a class, and parts of classes from data; none if they are in no histogram."""
    config, blinded = analysis.config, analysis.blinded
    own, process, trained = list[Process](), config.process_of(dataset), config.trained
    if blinded.shares:
        say_once("blind", f"histogram: {blinded}.")
    shares = blinded.in_eras([config.datasets[dataset].era])
    if config.datasets[dataset].is_data:
        own.append(Process(DATA, shares=shares, is_seen=False))
    elif process is not None:
        own.append(Process(process, shares=shares, is_seen=dataset in trained))
    parts = (part for part in config.parts_in(FIT) if part.dataset == dataset)
    return [*own, *(Process(it.class_, prefix_of(it.class_), shares, it.name in trained) for it in parts)]


def events_seen(analysis: Analysis, blinded: Blinded) -> dict[Place, int]:
    """How many events of data may be seen in each region and era by what `blinded` says; they are filled as for histograms."""
    config, layout = analysis.config, Layout.of(analysis.config)
    plan = Plan("seen", (Axis(Expression("run", "unblind"), (0.0, 1.0)),), tuple(config.regions) or (EVERYWHERE,))
    copies, parts = config.score is not None and config.score.copy, list[Part]()
    with TemporaryDirectory() as directory:
        for number, (dataset, _, events, scores, _) in enumerate(_files(analysis)):
            era, output = config.datasets[dataset].era, Path(directory, f"{number}.h5")
            if config.datasets[dataset].is_data:
                source, process = str(scores) if copies else events, Process(DATA, shares=blinded.in_eras([era]))
                fill_file(FillJob(str(scores), source, output, [plan], [process], layout.name, bool(config.regions)))
                parts.append(Part(output, era))
        return {key[1:3]: round(float(it.sums[NOMINAL].sum())) for key, it in added_parts(parts).items()}


def _origins(config: Config, plan: Plan) -> dict[str, Origin]:
    """Where the processes of a histogram are from."""
    parts = {it.name: f"less {it.dataset}" if it.is_subtracted else it.dataset for it in config.parts}
    found: dict[str, list[str]] = {}
    for name, process in config.members(FIT).items():
        if name in parts or plan.hypothesis is None or plan.hypothesis.allows(config.datasets[name].parameters):
            found.setdefault(process, []).append(parts.get(name, name))
    return {process: Origin(tuple(sorted(names)), process in config.data_driven) for process, names in found.items()}


def _signal_of(config: Config, name: str, histogram: Histogram) -> str:
    """The class whose share rises with what a histogram shows: that of the discriminant or class of this name, or the signal."""
    (quantity,) = axes_of(name, histogram)
    against = config.train.against if config.train is not None else {}
    if quantity in against:
        return against[quantity].signal
    return quantity if quantity in config.classes else str(signal_of(config))
