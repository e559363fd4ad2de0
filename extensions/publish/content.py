"""The content of capsule.json, which `reproduce.py` reads: models with their selection inside, channels and likelihoods.

Reference events are real inputs with decisions and scores; cuts are in the language of NumPy. How a published signal compares
with what `reproduce.py` makes of its files is noted, too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import awkward as ak
import numpy as np
import uproot

from MLTools.NanoML.config.analysis import Config, hypotheses, luminosity_uncertainties
from MLTools.NanoML.config.data import FIT
from MLTools.NanoML.config.evaluation import Export
from MLTools.NanoML.contracts.templates import Hypothesis, Templates, inner
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.publish import reproduce
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.file import KEY, write_described
from MLTools.NanoML.model.inside import decide
from MLTools.NanoML.nanoaod.expression import Call, Leaf, Node, Number
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.rootio.versions import IDENTIFIERS
from MLTools.NanoML.schema.plain import content_of, plain, read_or_none
from MLTools.NanoML.selection import load_selection
from MLTools.NanoML.stages import import_part
from MLTools.NanoML.terminal.progress import progress
from MLTools.NanoML.workflow.analysis import Analysis, Stage
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from MLTools.NanoML.workflow.task import Record

_SIGNS = {**{it: it for it in ("<", ">", "<=", ">=", "==", "!=", "+", "-", "*", "/", "**")}, "^": "**"}
_LOGIC = {"&&": " & ", "||": " | "}
_FUNCTIONS = ("abs", "sqrt", "exp", "log", "pow", "min", "max", "cos", "sin", "cosh", "sinh", "tanh", "atan2")


@dataclass(frozen=True)
class InputEntry:
    """A tensor that a model reads: numbers of the event, or of `max` objects, with a mask."""

    tensor: str
    columns: Sequence[str]
    mask: Optional[str] = None
    max: Optional[int] = None


@dataclass(frozen=True)
class ModelEntry:
    """A model of an era, and its reference events."""

    file: str
    reference: str
    events: int
    inputs: Sequence[InputEntry]
    scores: str  # the tensor with `outputs`
    outputs: Sequence[str]
    columns: Sequence[str]
    cuts: Sequence[str]
    defaults: dict[str, float]  # of branches that a file may lack
    folds: int
    corrected: Sequence[str]  # branches that the analysis corrects before its selection
    parameter: Optional[float]  # that of the network for the reference events
    also: Sequence[str] = ()  # further branches that cuts and quantities read


@dataclass(frozen=True)
class ChannelEntry:
    """A channel of a fit."""

    era: str
    cut: str  # an expression of NumPy, as `quantities` are
    quantities: Sequence[str]  # along each axis
    edges: Sequence[Sequence[float]]
    is_folded: bool  # whether what is outside of the bins counts in the first and the last
    fitted: Sequence[bool]  # which bins, those of several axes in a row, the fit has
    luminosity: float
    average: float = 1.0  # the mean weight of the published signal, with what calibrations change


@dataclass(frozen=True)
class FitEntry:
    """A likelihood and its limits."""

    name: str
    likelihood: str
    parameter: Optional[float]
    expected: Sequence[float]
    observed: Optional[float]
    events: float  # of the signal
    luminosity: Sequence[str]  # nuisance parameters that change all signals alike
    carried: Sequence[str]
    channels: dict[str, ChannelEntry]
    why_not: str = ""  # why there can be no other signal
    signal: str = ""  # what figures call it


def as_python(text: str, known: Collection[str], prefix: str) -> tuple[str, list[str]]:
    """A cut, or a quantity, as an expression of NumPy, and the branches in it that are not `known`.

    `prefix` may stand before the name of an output of the network. An error if it reads lists.

    Examples
    --------
    >>> as_python("nJet == 0 && abs(mass - 91.2) < 15", ["mass"], "net_")
    ('((nJet == 0.0) & (abs((mass - 91.2)) < 15.0))', ['nJet'])
    """
    others: list[str] = []

    def written(node: Node) -> str:
        if isinstance(node, Number):
            return repr(node.value)
        if isinstance(node, Leaf) and node.index is None:
            short = node.name[len(prefix) :] if node.name.startswith(prefix) else node.name
            name = short if short in known else node.name
            others.extend([] if name in known else [name])
            return name
        if isinstance(node, Call):
            name, parts = node.function, [written(it) for it in node.arguments]
            if name in _LOGIC:
                return f"({_LOGIC[name].join(parts)})"
            if name in ("!", "negative"):
                return f"({parts[0]} == 0)" if name == "!" else f"(-{parts[0]})"
            if name in _SIGNS:
                return f"({parts[0]} {_SIGNS[name]} {parts[1]})"
            if name in _FUNCTIONS:
                return f"{name}({', '.join(parts)})"
        raise NanoMLError(f'"{text}" has what is not a number of the event, or a function that is not known there')

    return written(Formula(text).root), list(dict.fromkeys(others))


def compile_stage(config: Config) -> Stage:
    """The models of simulation with the selection inside, also if the analysis does not ask for them."""
    export: Any = config.export or Export()
    (stage,) = pipeline_stages(replace(config, export=replace(export, selection=True)), ["compile"])
    data = {Layout.of(config).with_selection(it.era, True) for it in config.datasets.values()}
    return replace(stage, tasks=[task for task in stage.tasks if task.outputs[0] not in data])


def write_model(directory: Path, job: Any, most: int, parameter: Optional[float]) -> ModelEntry:
    """Write the model of a job of this stage, without what it says of files and data, and its reference events."""
    model, info = Model(job.output), job.sources[0].dataset
    about, ending = model.description, f"_{info.era}" if info.era else ""
    inside, features = about.inside, about.features
    assert inside is not None
    file, reference = f"model{ending}.onnx", f"reference{ending}.root"
    _write_public(Path(job.output), directory / file)
    inputs = [InputEntry(features.tensor, model.columns)] if features is not None else []
    inputs += [InputEntry(it.tensor, it.columns, it.mask, it.max) for it in model.objects]
    value = parameter if about.parameter is not None else None
    return ModelEntry(
        file, reference, _write_reference(directory / reference, model, job, most, value), inputs, about.output_tensors[0],
        model.outputs, [it.name for it in inside.columns], inside.cuts, inside.defaults, model.folds, inside.corrected, value,
    )  # fmt: skip


def _write_public(source: Path, path: Path) -> None:
    """A copy of a model that does not name files of this machine, nor say how many events of data there are."""
    import onnx  # only where models are made

    model = onnx.load(source)
    (entry,) = (it for it in model.metadata_props if it.key == KEY)
    content = json.loads(entry.value)
    training = content["training"]
    training["data"] = {"sha256": training["data"]["sha256"]}
    training["datasets"] = [
        {key: value for key, value in it.items() if key != "books"} for it in training.get("datasets", ())
    ]
    write_described(model, json.dumps(content, allow_nan=False), path)


def _write_reference(path: Path, model: Model, job: Any, most: int, parameter: Optional[float]) -> int:
    """Write the first events of each dataset, as the model reads them, with its decisions; return how many there are."""
    from MLTools.NanoML.extensions.compiled.with_selection import first_events

    selection, about = load_selection(job.wanted.selection, job.wanted.base), model.description
    cut, names = Formula(job.wanted.cut) if job.wanted.cut else None, [*IDENTIFIERS, *model.reads]
    samples = [first_events(selection, cut, about, source, most) for source in job.sources]
    there = [name for name in dict.fromkeys(names) if all(name in it.arrays for it in samples)]
    arrays = {name: ak.concatenate([it.arrays[name] for it in samples]) for name in there}
    run, block, event = (np.asarray(arrays[name]) for name in IDENTIFIERS)
    found = decide(model, arrays, fold_of(run, block, event, model.folds), parameter)
    columns = {name: array for name, array in arrays.items() if array.ndim == 1}
    for each in model.objects:
        fields = [name for name in each.columns if name in arrays]
        prefix = len(each.collection) + 1
        columns.update({each.collection: ak.zip({name[prefix:]: arrays[name] for name in fields})} if fields else {})
    columns["n_cuts"] = ak.Array(np.sum([*found.cuts.values()], axis=0).astype(np.int32))
    columns["passed"], columns["failed"] = ak.Array(found.passed), ak.Array(found.failed > 0)
    columns.update((f"score_{name}", ak.Array(found.scores[:, number])) for number, name in enumerate(model.outputs))
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: array.type for name, array in columns.items()}).extend(columns)
    return len(run)


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


def figures_of(analysis: Analysis, stage: str, task: str) -> list[str]:
    """The names of the figures that a task made, as its record lists them."""
    record = read_or_none(Record, Layout.of(analysis.config).workdir / RECORDS / stage / f"{task}.json")
    names = record.summary.get("figures") if record is not None else None
    if not isinstance(names, list):
        what = "its record lists no figures, since an older NanoML wrote it"
        raise NanoMLError(f"{stage} {task}: {what}. Use `nanoml run --force --from {stage}`.")
    return names


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
    signal = ", ".join(
        [*map(analysis.style().name, fitted.results.signals), *([str(fitted.hypothesis)] if fitted.hypothesis else [])]
    )
    entry = FitEntry(
        fitted.ending[1:], likelihood, value, limit.expected, limit.observed, events, alike, carried, {}, signal=signal
    )
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
