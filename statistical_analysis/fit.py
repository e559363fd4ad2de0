"""Fits the histograms of an analysis: model, workspace, datacard and results.

The results say of what processes a fit consists, and whether the training expected as many events of each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.atomic import make_directory, write_json
from MLTools.NanoML.config.fit import EVERYWHERE, Fit, LogNormal
from MLTools.NanoML.contracts.blinding import Unblinding
from MLTools.NanoML.contracts.densities import UnbinnedChannel, UnbinnedChannels
from MLTools.NanoML.contracts.templates import DATA, HistogramChannel, Origin, Template, Templates, added
from MLTools.NanoML.errors import ConfigError, NanoMLError, listed
from MLTools.NanoML.extending import entries, loaded
from MLTools.NanoML.report.page import Answer, digits
from MLTools.NanoML.schema.plain import content_of
from MLTools.NanoML.schema.roles import HOW, READS, WRITES
from MLTools.NanoML.terminal.progress import say
from statistical_analysis.model import StatisticalModel, no_signal, statistical_model
from statistical_analysis.results import CREATOR, FittedProcess, NoFit, Results, Yields
from statistical_analysis.samples import Remark
from statistical_analysis.workspace import CARDS, for_combine, with_range, workspace, write_datacard

if TYPE_CHECKING:
    from statistical_analysis.unbinned import Points

_ROUNDING = 1e-4  # relative, of a sum of weights
_MOST = 8  # names in a sentence
_NOTHING = Template(np.zeros(1), np.zeros(1))


@dataclass(frozen=True)
class FitJob:
    """The settings and files of a fit.

    Attributes
    ----------
    source, directory
        The file of histograms, and where results go.
    settings
        The section `fit`.
    luminosity
        Uncertainties of the luminosity by era and nuisance parameter.
    reports, apart
        metrics.json of each training by era, "" for all together, with whose expected events those here are compared; but for classes
        of which the training has other datasets.
    is_blind
        Whether nothing may depend on observed data; nor may it if a bin of a channel is blind.
    unblinded
        Who unblinded the analysis, and when, or why data may be looked at; None if it is blind.
    place
        Where the section is, as in "analysis.yaml:34".
    hypothesis
        The hypothesis of the signal, in words; None if there is one alone.
    fitted
        Regions and histograms of the fits under all hypotheses: if data of one are blind, they are in all.
    log
        Who unblinded what, and when.
    densities, closures
        The file with the densities of channels that have no bins in this fit, None if all have; and the closure of the ratios in each.
    """

    source: Path = field(metadata=READS)
    directory: Path = field(metadata=WRITES)
    settings: Fit
    luminosity: Mapping[str, Mapping[str, LogNormal]]
    reports: Mapping[str, Path]
    apart: Sequence[str]
    is_blind: bool
    unblinded: str | None
    place: str = field(metadata=HOW)
    hypothesis: str | None = None
    fitted: Sequence[tuple[str, str]] = ()
    log: Sequence[Unblinding] = ()
    densities: Path | None = field(default=None, metadata=READS)
    closures: Mapping[str, Path] = field(default_factory=dict, metadata=READS)


def fit(job: FitJob) -> dict[str, Any]:
    """Write results, model and card; return the summary."""
    # jax takes seconds
    from statistical_analysis.inference import compared
    from statistical_analysis.report.verdict import Unbinned

    settings = job.settings  # with the histograms of all channels
    job, templates, unbinned = read_fit(job)
    fitted = [*job.fitted, *job.settings.channels.items()]
    found = [it for region, name in fitted for it in templates.histogram(name).channels if it.region == region]
    is_blind = job.is_blind or any(it.processes and (it.blind is None or it.blind.any()) for it in found)
    origins, model = model_of(job, templates, 0.0 if is_blind else None)
    directory, of_card = make_directory(job.directory), for_combine(model)
    unblinded = None if is_blind else job.unblinded
    if unbinned:  # a card would have numbers of events alone
        for name in CARDS:
            (directory / name).unlink(missing_ok=True)
    else:
        write_datacard(of_card, directory)
    if job.hypothesis is not None and not model.has_signal:
        write_json(directory / "workspace.json", workspace(model))
        (signals,) = model.strengths.values()
        without = NoFit(CREATOR, f"no fit: {no_signal(signals)}", unblinded, tuple(signals), job.hypothesis)
        without.write(directory / "results.json")
        return {"summary": without.summary}
    results = _results(job, model, unblinded, {it.name: it for it in found}, unbinned)
    results = replace(results, processes=fitted_processes(workspace(model), origins))
    apart = [*job.apart, *(it for each in model.strengths.values() for it in each if job.hypothesis is not None)]
    answers = [agreement(templates, job.settings.channels, job.reports, apart)]
    if unbinned:
        given = settings, templates, unbinned
        ways = compared(*given, lambda *it: model_of(replace(job, settings=it[0]), it[1], 0.0)[1])
        results = replace(results, comparisons=tuple(ways))
        answers = [*Unbinned.read(unbinned, job.closures).answers(results), *answers]
    results = judged(results, of_card.remarks, answers)
    results.write(directory / "results.json")  # last: it stands for all of them
    return {"summary": results.summary}


def judged(results: Results, remarks: Sequence[Remark] | None, answers: Sequence[Answer] = ()) -> Results:
    """The same with verdict and digest; `answers` come first, and `remarks` are None if nobody looked at the templates."""
    from statistical_analysis.report.verdict import digest, verdict

    return replace(results, verdict=(*answers, *verdict(results, remarks)), digest=digest(results))


def model_of(job: FitJob, templates: Templates, asimov: float | None) -> tuple[dict[str, Origin], StatisticalModel]:
    """Where the processes are from, and the model."""
    mine = [templates.histogram(it) for it in job.settings.channels.values()]
    origins = {process: it for histogram in mine for process, it in histogram.origins.items()}
    from_data = [process for process, it in origins.items() if it.is_from_data]
    try:
        return origins, statistical_model(
            templates, job.settings, job.luminosity, from_data, asimov, needs_signal=job.hypothesis is None
        )
    except NanoMLError as problem:
        raise ConfigError(f"{job.place}: {problem}") from None


def expected_alone(job: FitJob) -> tuple[float | None, float] | None:
    """The expected limit on the signal strength by asymptotic formulae, None if it is out of reach, and the error of a strength of one.

    It is much quicker than a fit with all that belongs to it, and writes nothing; None if there is no signal.
    """
    from statistical_analysis.inference import expected_limit

    job, templates, unbinned = read_fit(job)
    _, model = model_of(job, templates, 0.0)
    return expected_limit(workspace(model), points_of(job, unbinned)) if model.has_signal else None


def read_fit(job: FitJob) -> tuple[FitJob, Templates, tuple[UnbinnedChannel, ...]]:
    """A fit, its histograms, where a channel without bins has one for all of its events, and these channels."""
    templates = Templates.read(job.source)
    if job.densities is None:
        return job, templates, ()
    from statistical_analysis.unbinned import in_place

    unbinned = UnbinnedChannels.read(job.densities).channels
    settings, templates = in_place(job.settings, templates, [it.counted for it in unbinned], "all events")
    return replace(job, settings=settings), templates, unbinned


def points_of(job: FitJob, unbinned: Sequence[UnbinnedChannel]) -> Points | None:
    """The events of channels without bins, as the likelihood has them; None if there are no such channels."""
    from statistical_analysis.unbinned import Points

    return Points.of(unbinned, job.settings.named) if unbinned else None


def _results(
    job: FitJob,
    model: StatisticalModel,
    unblinded: str | None,
    channels: Mapping[str, HistogramChannel],
    unbinned: Sequence[UnbinnedChannel],
) -> Results:
    """Fit, and write the workspace; the last channel of a name is that of this fit."""
    from statistical_analysis.inference import expectation, infer

    place, content, is_blind = job.directory / "workspace.json", workspace(model), model.asimov is not None
    points = points_of(job, unbinned)
    write_json(place, content)
    results = whole(infer(content, unblinded, is_blind, model.groups, job.settings.toys, points=points), model)
    write_json(place, with_range(content, {it.strength.name: it.farthest for it in results.by_strength}))
    # as it was expected before: without data
    expected = expectation(content, job.settings.toys, points) if job.log and not is_blind else results.expected
    parts = [f"{it.name}: {it.note}" for it in channels.values() if it.share < 1]
    noted = tuple(replace(it, note=channels[it.name].note) for it in results.channels)
    results = replace(results, channels=noted, expected="; ".join([expected, *parts]))
    return replace(results, hypothesis=job.hypothesis, log=tuple(job.log))


def whole(results: Results, model: StatisticalModel) -> Results:
    """Results with all channels as they are given, and all bins; nothing is expected in those that are not fitted."""

    def every(values: Sequence[float], fitted: NDArray[np.bool_]) -> tuple[float, ...]:
        found = np.zeros(len(fitted))
        found[fitted] = values
        return tuple(found.tolist())

    channels, known = [], {it.name: it for it in results.channels}  # in an order of pyhf's
    for made in model.channels:
        channel = known[made.name]
        prefit, postfit = (
            tuple(Yields(it.sample, every(it.events, made.fitted), every(it.errors, made.fitted)) for it in stage)
            for stage in (channel.prefit, channel.postfit)
        )
        observed = None if channel.observed is None else tuple(made.data.tolist())
        channels.append(replace(channel, prefit=prefit, postfit=postfit, observed=observed))
    return replace(results, channels=tuple(channels))


@dataclass(frozen=True)
class Reader:
    """How an extension reads files as statistical models, by `entries("models")`; a workspace, which ends with .json, is read here."""

    files: str  # the pattern of their names
    read: Callable[..., StatisticalModel]  # takes a path, and the options by which extensions add to `nanoml fit`
    hint: str  # how a workspace is made of one


def readers() -> list[Reader]:
    """What reads files that are no workspaces."""
    return [loaded(place) for place in entries("models").values()]


def foreign_model(source: Path, directory: Path, is_blind: bool = False, **options: object) -> StatisticalModel | None:
    """The model in a file that is no workspace, which is written as one; None if it is a workspace, or nobody reads it."""
    found = [it for it in readers() if source.suffix != ".json" and fnmatchcase(source.name, it.files)]
    if not found:
        return None
    model = found[0].read(source, **options)
    write_json(make_directory(directory) / "workspace.json", workspace(model))
    say_remarks(model, is_blind)
    return model


def say_remarks(model: StatisticalModel, is_blind: bool) -> None:
    """Print the remarks on a model; if it is blind, not those on data in bins that are not fitted."""
    for it in (it for it in model.remarks if not is_blind or it.kind != "empty"):
        say(": ".join(filter(None, (it.channel, it.process, it.what))))


def read_workspace(path: Path) -> dict[str, Any]:
    """A workspace of pyhf with a parameter of interest; a NanoMLError says what is wrong with it."""
    import pyhf

    try:
        content: dict[str, Any] = content_of(path)
        pyhf.schema.validate(content, "workspace.json")
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
        if content["measurements"] and content["measurements"][0]["config"]["poi"]:
            _build(content)
    except FileNotFoundError:
        raise NanoMLError(f"{path}: no such file. `nanoml fit` of an analysis makes one.") from None
    except Exception as problem:  # pyhf raises whatever it stumbles over
        what = ", ".join(it[:200] for it in str(problem).split("\n\t")[:2])  # and where
        ways = "; ".join(["Give one, or the YAML file of an analysis", *(it.hint for it in readers())])
        raise NanoMLError(f"{path}: is not a workspace of pyhf ({type(problem).__name__}: {what}). {ways}.") from None
    if not content["measurements"] or not content["measurements"][0]["config"]["poi"]:
        raise NanoMLError(
            f"{path}: the first measurement names no parameter of interest (poi). Add the signal strength."
        )
    return content


def _build(content: dict[str, Any]) -> None:
    """Make the model of a workspace; any exception if that cannot be done."""
    import pyhf

    seen = {it["name"] for it in content["observations"]}
    known = {it["name"] for it in content["measurements"][0]["config"]["parameters"] if {"auxdata", "sigmas"} <= {*it}}
    for channel in content["channels"]:
        if channel["name"] not in seen:
            raise ValueError(f"channel {channel['name']} has no observation")
        for it in (it for sample in channel["samples"] for it in sample["modifiers"]):
            if it["type"] == "lumi" and it["name"] not in known:
                raise ValueError(f"lumi {it['name']} has no auxdata and sigmas in the first measurement")
    made = pyhf.Workspace(content)
    model = made.model(measurement_index=0)
    made.data(model)
    model.config.suggested_init()


def fitted_processes(content: Mapping[str, Any], origins: Mapping[str, Origin]) -> tuple[FittedProcess, ...]:
    """The processes of all channels of a workspace, with what changes them but for strengths and statistical errors of single bins."""
    names, pois = dict[str, dict[str, None]](), {it["config"]["poi"] for it in content["measurements"]}
    for sample in (it for channel in content["channels"] for it in channel["samples"]):
        mine = [it["name"] for it in sample["modifiers"] if it["type"] not in ("staterror", "shapesys")]
        names.setdefault(sample["name"], {}).update(dict.fromkeys(it for it in mine if it not in pois))
    return tuple(FittedProcess(name, origins.get(name, Origin()), tuple(each)) for name, each in names.items())


def agreement(
    templates: Templates, channels: Mapping[str, str], reports: Mapping[str, Path], apart: Collection[str]
) -> Answer:
    """Whether histograms of regions have the events that reports of the training expect there, but for the classes `apart`."""
    question, different, same = "As many events as in the training?", list[str](), list[str]()
    silent = [f"{class_} (the training has other datasets)" for class_ in apart]
    for era, path in reports.items():
        known = _expected(path)
        for region, name in channels.items():
            found = [it for it in templates.histogram(name).channels if it.region == region and era in ("", it.era)]
            whole, where = added(found), " ".join(filter(None, (region, era)))
            processes, why = whole.processes, f"not in {path.parent.name}/{path.name}" * (region not in known)
            if whole.note or why:
                silent.append(f"{where} ({whole.note or why})")
                continue
            for class_ in sorted({*known[region], *processes} - {*apart, DATA}):
                there, template = known[region].get(class_, {}), processes.get(class_, _NOTHING)
                events = (float(there.get("sum_of_weights", 0)), float(template.nominal.sum()))
                # the rounding of each weight, which counts where signs cancel
                size = float(np.finfo(np.float32).eps * np.sqrt(there.get("events", 0) * template.variances.sum()))
                if math.isclose(*events, rel_tol=_ROUNDING, abs_tol=size):
                    same.append(f"{class_} in {where}")
                else:
                    numbers = "{} in the report, {} here".format(*(digits(it, 6) for it in events))
                    different.append(f"{class_} in {where} ({numbers})")
    left = f"Not compared: {listed(silent, _MOST)}." if silent else ""
    if different:
        text = f"One of the two lacks events, or has some twice: {listed(different, _MOST)}."
    elif same:
        text = f"The report of the training has the same: {listed(same, _MOST)}."
    else:
        text = "" if silent else "There is no report of a training in folds on these datasets."
    return Answer(question, "bad" if different else "good" if same else "open", f"{text} {left}".strip(), "#processes")


def _expected(path: Path) -> dict[str, Any]:
    """Events and sums of weights by region and class, of a metrics.json; nothing if there is none."""
    try:
        content = content_of(path)
        regions = {region: it["yields"] for region, it in content["regions"].items()}
        return {EVERYWHERE: content["events"]["classes"], **regions}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
