"""Draws fits: their figures and pages, of results that are there; and fits of workspaces and other models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from MLTools.NanoML import extending
from MLTools.NanoML.atomic import make_directory, write_text
from MLTools.NanoML.contracts.templates import HistogramChannel, Templates
from MLTools.NanoML.report.figures import remove_others
from MLTools.NanoML.report.section import PRIVATE_WORK, Style
from MLTools.NanoML.report.stack import Bins
from statistical_analysis.fit import (
    FitJob,
    fitted_processes,
    foreign_model,
    judged,
    model_of,
    read_fit,
    read_workspace,
    whole,
)
from statistical_analysis.inference import infer
from statistical_analysis.model import FitChannel, completed
from statistical_analysis.report.page import no_fit_report, report
from statistical_analysis.report.plots import Axis, draw_results, draw_smoothed
from statistical_analysis.report.verdict import ANCHOR, Unbinned
from statistical_analysis.results import ANSWERS, NoFit, read_results
from statistical_analysis.workspace import workspace

_GROUPS = {"normsys": "normalisation", "lumi": "luminosity", "histosys": "shape"}  # of parameters of a workspace


def draw_fit(job: FitJob, style: Style, only: Sequence[str] = ()) -> list[str]:
    """Draw the figures of a fit, or some of them, and write its page; return the names of all. Those of an earlier fit are removed."""
    results, directory = read_results(job.directory / "results.json"), job.directory
    if isinstance(results, NoFit):  # the other values of the parameter have fits
        write_text(directory / "report.html", no_fit_report(results, style, directory))
        remove_others(directory, ())
        return []
    job, templates, unbinned = read_fit(job)
    _, model = model_of(job, templates, 0.0)  # no data: those that may be seen are in the results
    fitted = job.settings.channels.items()
    shown = [it for region, name in fitted for it in templates.histogram(name).channels if it.region == region]
    by_name = {it.name: it for it in shown}
    axes = {it.name: _axis(job, style, templates, it, by_name[it.name]) for it in model.channels}
    right = conditions_of(job, style, templates, [*axes])
    drawn = draw_results(style, results, axes, right, directory, only)
    drawn += draw_smoothed(style, model, axes, directory, only)
    blocks = []
    if unbinned:
        found = Unbinned.read(unbinned, job.closures)
        answers = (extending.loaded(it)(directory) for it in extending.entries(ANSWERS).values())
        verdict = (*results.verdict, *(replace(it, link=f"#{ANCHOR}") for it in answers))
        results = replace(results, verdict=verdict)
        blocks = [found.block(results, directory)]
    write_text(directory / "report.html", report(results, drawn, axes, style, directory, blocks))
    remove_others(directory, drawn)
    return drawn


def conditions_of(job: FitJob, style: Style, templates: Templates, fitted: Collection[str]) -> str:
    """Luminosity and energy of the channels that are fitted."""
    channels = (it for name in job.settings.channels.values() for it in templates.histogram(name).channels)
    return style.conditions(templates.seen(it for it in channels if it.name in fitted))


def _axis(job: FitJob, style: Style, templates: Templates, channel: FitChannel, shown: HistogramChannel) -> Axis:
    """The axis of a channel; bins of planes are drawn by number."""
    first, *others = templates.histogram(job.settings.channels[channel.region]).axes
    title = ", ".join(style.axis(it.quantity, it.title) for it in (first, *others))
    unit = "" if others else style.unit(first.quantity, first.title)
    return Axis(title, Bins(np.array(channel.edges), unit), style.conditions(templates.seen([shown])), first.note)


def fit_workspace(
    source: Path,
    directory: Path,
    is_blind: bool,
    toys: int | str,
    strengths: tuple[float, float] | None = None,
    **options: object,
) -> str:
    """Fit a workspace of pyhf, or what an extension reads, which becomes one, with a page like that of an analysis; return the summary.

    Parameters
    ----------
    source
        A workspace, which ends with .json, or another file with a model.
    is_blind
        Whether nothing may depend on the data of the workspace.
    toys
        As the setting of the same name in the section `fit`.
    strengths
        The range of each signal strength; by default that of the workspace.
    options
        What the reader of the other file takes.
    """
    model = foreign_model(source, directory, is_blind, **options)
    content = read_workspace(source) if model is None else workspace(model)
    bins = {channel["name"]: len(channel["samples"][0]["data"]) for channel in content["channels"]}
    axes = {name: Axis("Bin", Bins(np.arange(0.5, count + 1, dtype=np.float64))) for name, count in bins.items()}
    unblinded = None if is_blind else f"with the data of {source.name}"
    modifiers = (it for channel in content["channels"] for sample in channel["samples"] for it in sample["modifiers"])
    kinds = {it["name"]: _GROUPS[it["type"]] for it in modifiers if it["type"] in _GROUPS}
    groups = completed({}, kinds) if model is None else model.groups
    results = infer(content, unblinded, is_blind, groups, toys, strengths)
    results = replace(results, processes=fitted_processes(content, {}))
    if model is not None:
        axes = {it.name: Axis(it.title, Bins(np.array(it.edges))) for it in model.channels}
        results = whole(results, model)
    results, directory = judged(results, None), make_directory(directory)
    drawn = draw_results(PRIVATE_WORK, results, axes, "", directory)
    write_text(directory / "report.html", report(results, drawn, axes, PRIVATE_WORK, directory, ()))
    results.write(directory / "results.json")  # last: it stands for all of them
    return results.summary
