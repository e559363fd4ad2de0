"""The stages of this part: fit and limits."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from MLTools.NanoML.config.analysis import (
    Config,
    cross_section,
    hypotheses,
    luminosity_uncertainties,
    unbinned_channels,
)
from MLTools.NanoML.config.data import FIT, TRAINING
from MLTools.NanoML.contracts.closure import CLOSURE
from MLTools.NanoML.dependencies import FIGURES, code_of
from MLTools.NanoML.errors import listed
from MLTools.NanoML.extending import modules
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.report.section import Style
from MLTools.NanoML.workflow.analysis import Analysis, Stage
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Task
from MLTools.NanoML.workflow.unblinding import places_of
from statistical_analysis.fit import FitJob, fit
from statistical_analysis.results import ANSWERS, FittedPoint, LimitsJob
from statistical_analysis.workspace import CARDS

for _package in ("pyhf", "iminuit", "jax", "scipy", "matplotlib", "mplhep"):
    # reported now, not after the histograms; and without importing them, which takes seconds
    if importlib.util.find_spec(_package) is None:
        raise ModuleNotFoundError(f"No module named '{_package}'", name=_package)


def fit_stage(analysis: Analysis) -> Stage:
    """The fit of all channels, at each value of the parameter of the signal if it has one.

    As long as one channel is blind, it is a fit to expected data in all.
    """
    code, tasks = code_of(fit.__module__), []
    for name, job in _fits(analysis).items():
        # nothing but this fit has the densities of events
        cards = CARDS if job.settings.of_events is None else ()
        outputs = tuple(job.directory / name for name in ("results.json", "workspace.json", *cards))
        tasks.append(Task.of("fit", name, fit, job, code, outputs=outputs, folders=(job.directory,)))
    return Stage("fit", tasks, usable_cores(), _summary, "fits")


def plot_stage(analysis: Analysis) -> Stage:
    """The figures and the page of each fit."""
    code, tasks = code_of("statistical_analysis.draw", FIGURES, *modules(ANSWERS)), []
    for name, it in _fits(analysis).items():
        job, outputs = PlotJob(it, analysis.style()), (it.directory / "report.html",)
        tasks.append(Task.of("plot", name, _plot, job, code, outputs=outputs, folders=(it.directory,)))
    return Stage("plot", tasks, usable_cores(), of="fits")


@dataclass(frozen=True)
class PlotJob:
    """A fit that is drawn, and how its figures look."""

    of: FitJob
    style: Style

    @property
    def also_read(self) -> list[Path]:
        """The results of the fit."""
        return [self.of.directory / "results.json"]


def _plot(job: PlotJob, only: Sequence[str] = ()) -> dict[str, object]:
    from statistical_analysis.draw import draw_fit  # matplotlib takes a second

    return {"figures": draw_fit(job.of, job.style, only)}


def _fits(analysis: Analysis) -> dict[str, FitJob]:
    """The fits of an analysis by their names: one, or one for each hypothesis of the signal."""
    config, unblinded, layout = analysis.config, _unblinded(analysis), Layout.of(analysis.config)
    assert config.fit is not None
    channels = config.fit.channels
    known = {it: {region: f"{name}_{it.ending}" for region, name in channels.items()} for it in hypotheses(config)}
    every = FitJob(
        layout.histograms(".h5"),
        layout.fit,
        config.fit,
        luminosity_uncertainties(config),
        _reports(config),
        sorted({class_ for _, class_ in config.members(TRAINING).items() ^ config.members(FIT).items()}),
        unblinded is None,
        unblinded,
        config.where("fit"),
        None,
        tuple(channel for each in known.values() for channel in each.items()),
        analysis.blinded.log,
        layout.densities if config.fit.of_events is not None else None,
        {it.name: layout.ratios(it.name, CLOSURE) for it in unbinned_channels(config)},
    )
    if not known:
        return {"all": every}
    return {
        it.ending: replace(
            every, directory=layout.fit / it.ending, settings=replace(config.fit, channels=each), hypothesis=str(it)
        )
        for it, each in known.items()
    }


def _reports(config: Config) -> dict[str, Path]:
    """The reports of trainings on all events of the datasets. They are no inputs: a fit can do without them."""
    train = config.train
    if train is None or train.files is not None or train.per_object is not None or train.folds == 1:
        return {}
    return {era or "": Layout.of(config).training(era) / "metrics.json" for era in config.trainings}


def _unblinded(analysis: Analysis) -> str | None:
    """Why data may be looked at in all channels; None if they may not."""
    blinded, fit = analysis.blinded, analysis.config.fit
    places = [it for it in places_of(analysis.config) if fit is not None and it[0] in fit.channels]
    if not places or any(blinded.shares.get(place) == 0 for place in places):
        return None
    entries = [blinded.opened[place] for place in places if place in blinded.opened]
    parts = sorted({f"{100 * blinded.shares[it]:g} %" for it in places if it in blinded.shares})
    text = str(max(entries, key=lambda it: it.at)) if entries else "with data: no channel is in a blind region"
    return f"{text}; {listed(parts)} of the data" if parts else text


def limits_stage(analysis: Analysis) -> Stage | None:
    """The results of the fits at all values of the parameter of the signal, if it has one."""
    config, layout = analysis.config, Layout.of(analysis.config)
    assert config.fit is not None
    points = tuple(
        FittedPoint(it, layout.fit / it.ending / "results.json", cross_section(config, config.fit, it))
        for it in hypotheses(config)
    )
    if not points:
        return None
    job = LimitsJob(
        points, layout.histograms(".h5"), layout.fit, [*config.fit.channels], analysis.blinded.log, analysis.style()
    )
    outputs = tuple(layout.fit / name for name in ("results.json", "report.html"))
    code = code_of("statistical_analysis.report.limits", FIGURES)
    task = Task.of("limits", "all", _collect, job, code, outputs=outputs, folders=(layout.fit,))
    return Stage("limits", [task], summary=_summary)


def _collect(job: LimitsJob, only: Sequence[str] = ()) -> dict[str, str]:
    from statistical_analysis.report.limits import collect  # matplotlib takes a second

    return collect(job, only)


def _summary(done: Mapping[str, Mapping[str, object]]) -> list[str]:
    texts = {name: str(each["summary"]) for name, each in done.items()}
    return [f"{name}: {text}" for name, text in texts.items()] if len(texts) > 1 else [*texts.values()]
