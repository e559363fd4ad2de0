"""Likelihoods, their channels, and how a published signal compares with what `reproduce.py` makes of its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from MLTools.NanoML.config.analysis import hypotheses, luminosity_uncertainties
from MLTools.NanoML.config.data import FIT
from MLTools.NanoML.contracts.templates import Hypothesis, Templates, inner
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.publish import reproduce
from MLTools.NanoML.publish.models import ChannelEntry, FitEntry, ModelEntry, as_python
from MLTools.NanoML.schema.plain import content_of, plain
from MLTools.NanoML.stages import import_part
from MLTools.NanoML.terminal.progress import progress
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import pipeline_stages


@dataclass(frozen=True)
class Fitted:
    """A fit of an analysis: its job and results, and the hypothesis of the signal if there is one."""

    job: Any  # statistical_analysis.fit.FitJob
    results: Any  # statistical_analysis.results.Results
    hypothesis: Optional[Hypothesis]

    @property
    def ending(self) -> str:
        """The ending of names of its files."""
        return f"_{self.hypothesis.ending}" if self.hypothesis else ""


def fits_of(analysis: Analysis) -> Iterator[Fitted]:
    """The fits of an analysis, without hypotheses that have none."""
    reading, known = import_part("statistical_analysis.results"), hypotheses(analysis.config)
    (stage,) = pipeline_stages(analysis.config, ["fit"])
    for number, task in enumerate(stage.tasks):
        work: Any = task.work
        results = reading.read_results(work.args[0].directory / "results.json")
        if not isinstance(results, reading.NoFit):
            yield Fitted(work.args[0], results, known[number] if known else None)


def fit_entry(analysis: Analysis, fitted: Fitted, models: dict[str, ModelEntry], directory: Path) -> FitEntry:
    """A fit, whose models are in a directory; `models` get the branches that another signal needs."""
    workspace = content_of(fitted.job.directory / "workspace.json")
    limit = import_part("statistical_analysis.inference").asymptotic_limit(
        workspace, fitted.results.unblinded is not None
    )
    poi = workspace["measurements"][0]["config"]["poi"]
    samples = [it for channel in workspace["channels"] for it in channel["samples"]]
    signals = [it for it in samples if any(each["name"] == poi for each in it["modifiers"])]
    names = dict.fromkeys(each["name"] for it in signals for each in it["modifiers"] if each["name"] != poi)
    known = {name for each in luminosity_uncertainties(analysis.config).values() for name in each}
    knows = any(it.parameter is not None for it in models.values())  # the network, what the fit has a value of
    value = fitted.hypothesis.value if fitted.hypothesis and knows else None
    likelihood, events = f"likelihood{fitted.ending}.json", float(sum(sum(it["data"]) for it in signals))
    alike, carried = ([it for it in names if (it in known) == is_known] for is_known in (True, False))
    entry = FitEntry(fitted.ending[1:], likelihood, value, limit.expected, limit.observed, events, alike, carried, {})
    templates = Templates.read(Layout.of(analysis.config).histograms(".h5"))
    try:
        entry = replace(entry, channels=dict(_channels(analysis, fitted, templates, models)))
        return replace(entry, channels=dict(_averaged(analysis, fitted, entry, templates, models, directory)))
    except (NanoMLError, reproduce.CapsuleError) as problem:
        return replace(entry, channels={}, why_not=str(problem))


def _channels(
    analysis: Analysis, fitted: Fitted, templates: Templates, models: dict[str, ModelEntry]
) -> Iterator[tuple[str, ChannelEntry]]:
    config, prefix = analysis.config, f"{Layout.of(analysis.config).name}_"
    assert config.fit is not None
    _, model = import_part("statistical_analysis.fit").model_of(fitted.job, templates, 0.0)
    for it in model.channels:
        histogram, era = templates.histogram(fitted.job.settings.channels[it.region]), it.era or ""
        about, luminosity = models.get(era), templates.luminosity.get(era)
        if about is None or luminosity is None:
            raise NanoMLError(f"{it.name} has no simulation that is selected, or no luminosity")
        known = {*about.columns, *about.outputs}
        cut, *axes = (
            as_python(text, known, prefix)
            for text in (config.regions.get(it.region, "1"), *(axis.quantity for axis in histogram.axes))
        )
        also = dict.fromkeys([*about.also, *(name for _, others in (cut, *axes) for name in others)])
        models[era] = replace(about, also=list(also))
        (share,) = (channel.share for channel in histogram.channels if channel.name == it.name)
        yield (
            it.name,
            ChannelEntry(
                era,
                cut[0],
                [text for text, _ in axes],
                [axis.edges for axis in histogram.axes],
                config.histogram[config.fit.channels[it.region]].overflow is not None,
                it.fitted.tolist(),
                luminosity * share,
            ),
        )


def _averaged(
    analysis: Analysis,
    fitted: Fitted,
    entry: FitEntry,
    templates: Templates,
    models: Mapping[str, ModelEntry],
    directory: Path,
) -> Iterator[tuple[str, ChannelEntry]]:
    """The channels with mean weights: the events of the published signal over those that `reproduce.py` finds in its files."""
    config, members, only, signals = (
        analysis.config,
        analysis.config.members(FIT),
        fitted.hypothesis,
        fitted.results.signals,
    )
    mine = {
        name: it
        for name, it in config.datasets.items()
        if members.get(name) in signals and (only is None or only.allows(it.parameters))
    }
    events, content = {name: np.zeros(len(it.fitted)) for name, it in entry.channels.items()}, plain(entry)
    with progress("signal", sum(len(analysis.files[name]) for name in mine), "files") as bar:
        for name, dataset in mine.items():
            era, sigma, files = dataset.era or "", config.cross_section_of(name), analysis.files[name]
            if sigma is None:
                raise NanoMLError(f"the cross section of {name} is not known")
            model = reproduce.Model(directory, plain(models[era]))
            scale = sigma * 1000 / sum(map(reproduce.sum_of_weights, files))
            for path in files:
                for channel, (sums, _) in reproduce.templates(model, content, era, path).items():
                    events[channel] += scale * entry.channels[channel].luminosity * sums
                bar.advance(1)
    chosen = ((region, templates.histogram(name)) for region, name in fitted.job.settings.channels.items())
    made = {it.name: it.processes for region, each in chosen for it in each.channels if it.region == region}
    for name, it in entry.channels.items():
        found = made[name]
        right = sum(float(inner(found[each].nominal)[it.fitted].sum()) for each in signals if each in found)
        bare = float(events[name][it.fitted].sum())
        if not bare > 0:
            raise NanoMLError(f"no event of the published signal is in {name}")
        yield name, replace(it, average=right / bare)
