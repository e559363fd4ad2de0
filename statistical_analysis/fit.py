"""Fits the histograms of an analysis: model, workspace, datacard, results, figures, and the page about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import make_directory, write_json, write_text
from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.errors import ConfigError, NanoMLError
from statistical_analysis.datacard import for_combine, write_datacard
from statistical_analysis.model import statistical_model
from statistical_analysis.report.verdict import verdict
from statistical_analysis.workspace import workspace


@dataclass(frozen=True)
class FitJob:
    """What a fit needs to know.

    Attributes
    ----------
    source, directory
        The file of histograms, and where results go.
    settings
        The section `fit`.
    luminosity
        Uncertainties of the luminosity by era and nuisance parameter.
    from_data
        The processes that are estimated from data.
    is_blind
        Whether nothing may depend on observed data; nor may it if a bin of a channel is blind.
    unblinded
        Who unblinded the analysis, and when, or why data may be looked at; None if it is blind.
    energies
        The energy [TeV] of each era.
    place
        Where the section is, as in "analysis.yaml:34".
    hypothesis
        The hypothesis of the signal, in words; None if there is one alone.
    fitted
        Regions and histograms of the fits under all hypotheses: if data of one are blind, they are in all.
    """

    source: Path
    directory: Path
    settings: Fit
    luminosity: Mapping[str, Mapping[str, LogNormal]]
    from_data: Sequence[str]
    is_blind: bool
    unblinded: str | None
    energies: Mapping[str, float | None]
    place: str
    hypothesis: str | None = None
    fitted: Sequence[tuple[str, str]] = ()


def fit(job: FitJob) -> dict[str, str]:
    """Write everything into the directory; return the summary."""
    # importing jax takes seconds, and matplotlib one
    from statistical_analysis.inference import Origin, infer
    from statistical_analysis.report.page import report
    from statistical_analysis.report.plots import Axis, draw_results
    from statistical_analysis.report.shapes import draw_smoothed

    templates = Templates.read(job.source)
    is_blind = job.is_blind or _has_blind_bins(templates, [*job.settings.channels.items(), *job.fitted])
    asimov = 0.0 if is_blind else None
    try:
        model = statistical_model(templates, job.settings, job.luminosity, job.from_data, asimov)
    except NanoMLError as problem:
        raise ConfigError(f"{job.place}: {problem}") from None
    directory, content = make_directory(job.directory), workspace(model)
    write_json(directory / "workspace.json", content)
    of_card, unblinded = for_combine(model), None if is_blind else job.unblinded
    write_datacard(of_card, directory)
    origin = Origin(f"NanoML {__version__}", model.signal, unblinded, job.hypothesis)
    results = infer(content, origin, is_blind, model.groups)
    axes = {channel.name: Axis(channel.title, channel.edges) for channel in model.channels}
    eras = dict.fromkeys(channel.era for channel in model.channels)
    right = templates.conditions(eras, job.energies)
    drawn = [*draw_results(results, axes, right, directory), *draw_smoothed(model, right, directory)]
    write_text(directory / "report.html", report(results, verdict(results, of_card.remarks), drawn, directory))
    results.write(directory / "results.json")  # last: it stands for all of them
    return {"summary": results.summary}


def _has_blind_bins(templates: Templates, channels: Sequence[tuple[str, str]]) -> bool:
    """Whether a region of a histogram has bins whose data must not be looked at."""
    found = (it for region, name in channels for it in templates.histogram(name).channels if it.region == region)
    return any(channel.blind is not None and bool(channel.blind.any()) for channel in found)
