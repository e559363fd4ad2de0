"""Checks a configuration against the real files, before any long work starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from data_processing.datasets.datasets import resolve_datasets
from data_processing.skim.plan import SkimPlan
from data_processing.skim.skim import plan_file
from data_processing.skim.stage import skim_job
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.fit import EVERYWHERE, Blind, axes_of
from MLTools.NanoML.config.training import DISCRIMINANT
from MLTools.NanoML.contracts.hdf5 import RESERVED
from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError, plural, told_once
from MLTools.NanoML.nanoaod.accounting import accounting_of, check_declared, is_simulation
from MLTools.NanoML.nanoaod.fileaccounting import EVENT_WEIGHT, SELECTED
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.networks import NetworkClass
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.remote.client import adopt_settings
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.document import Key
from MLTools.NanoML.selection import Step
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.unblinding import Blinded, blinded

_MOST_TRIED = 3  # files of a dataset
_BESIDE_SCORES = (EVENT_WEIGHT, "in", "label", "dataset", "era", SELECTED)  # with their endings


def check(config: Config, tried: int = 0) -> list[str]:
    """Check branches, features, objects and expressions of columns against the first file of each dataset.

    Parameters
    ----------
    config
        The configuration.
    tried
        On how many events of each of these files the skim is tried.

    Returns
    -------
    The checks in words, a sentence for each dataset.

    Raises
    ------
    ConfigError
        All that is missing, one per line.
    """
    adopt_settings(config.read)
    done: list[str] = []
    problems: list[tuple[str, str, tuple[str, ...]]] = []
    blind = blinded(config)
    shifted: set[str | None] = set()  # eras
    for name, files in resolve_datasets(config).items():
        with _first(files, config.place("datasets", name)) as file:
            try:
                record, dataset = Provenance.of(file), config.datasets[name]
                found = record.accounting.files[0] if record else accounting_of(file, dataset.generator_weights)
                check_declared("", found, dataset.is_data)
            except NanoMLError as problem:
                problems.append((name, str(config.error("datasets", name, message=str(problem))), (file.path,)))
                continue
            try:
                # of an era one dataset shows a mistake in a shift; each of tens of them takes as long as all else
                era = dataset.era
                plan, steps = _planned(config, name, file, tried, era not in shifted)
                if steps and steps[-1].events and is_simulation(file):
                    shifted.add(era)
                problems += [(name, message, (file.path,)) for message in _missing(config, name, file, plan)]
                done += _found(name, files, file, steps, name in blind.hidden)
            except ConfigError:
                raise
            except NanoMLError as problem:
                problems.append((name, f"{config.where('skim')}: {problem}", (file.path,)))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(told_once(problems))))
    return [*done, *_touched(config, blind)]


def _touched(config: Config, blind: Blinded) -> Iterator[str]:
    """Warn of settings that use data that are blind."""
    shares = blind.in_eras({era for _, era in blind.shares})
    for number, name in enumerate(config.evaluate.data_in if config.evaluate is not None else ()):
        if not shares.get(name, shares.get(EVERYWHERE, 1.0)):
            where = config.where("evaluate", "data_in", number)
            yield f'WARNING: {where}: data in "{name}" are blind: until `nanoml unblind`, `nanoml run` stops at this.'
    named = config.blind.regions if isinstance(config.blind, Blind) else []
    for class_, wanted in config.data_driven.items():
        if wanted.region in named and wanted.region in shares:
            where, what = config.where("data_driven", class_, "region"), f'data in "{wanted.region}", which are blind'
            yield f"WARNING: {where}: {class_} is made of {what}: whatever shows {class_} shows them."


def _first(files: Sequence[str], place: str) -> RootFile:
    """The first file that can be read; others are reported by the stage that reads them."""
    problems: list[UnreadableError] = []
    for file in files[:_MOST_TRIED]:
        try:
            return RootFile(file)
        except UnreadableError as problem:
            problems.append(problem)
    raise UnreadableError(f"{place}: {problems[0]}", problems[0].path)


def _planned(
    config: Config, dataset: str, file: RootFile, tried: int, with_shifts: bool
) -> tuple[SkimPlan | None, list[Step]]:
    """The skim of a file, if there is one, and the cut flow of its first events."""
    if config.skim is None:
        return None, []
    job = replace(skim_job(config, dataset), source=file.path)
    try:
        job.sources()
    except ConfigError as problem:
        problem.args = (f"{config.where('skim')}: {problem}",)
        raise
    return plan_file(job, file, tried, with_shifts)


def _found(dataset: str, files: Sequence[str], file: RootFile, steps: Sequence[Step], is_hidden: bool) -> Iterator[str]:
    """Say what there is of a dataset, and what the skim keeps of the first events; of blind data that is not said."""
    text = f"{dataset}: {plural(len(files), 'file')}; {file.path}"
    if is_hidden:
        yield f"{text} is in order"
        return
    text += f" has {plural(file.entries, 'event')}"
    if not steps:
        yield text
        return
    yield f"{text}, and the skim keeps {steps[-1].events:,} of the first {steps[0].events:,}"
    if steps[0].events and not steps[-1].events:
        cut = next(step.cut for step in steps if not step.events)
        yield f'  WARNING: none of these events is left after "{cut}".'


def _expressions(config: Config, dataset: str) -> Iterator[tuple[tuple[Key, ...], str]]:
    """The expressions of columns that are evaluated for the events of a dataset, with their places."""
    weight = config.datasets[dataset].weight
    if weight:
        yield ("datasets", dataset, "weight"), weight
    for name, cut in config.regions.items():
        yield ("regions", name), cut
    for class_ in dict.fromkeys(part.class_ for part in config.parts if part.dataset == dataset):
        wanted = config.data_driven[class_]
        yield ("data_driven", class_, "weight"), str(wanted.weight)
        for name, cut in wanted.into.items():
            yield ("data_driven", class_, "into", name), cut


def _outputs(config: Config) -> list[str] | None:
    """The outputs of the model that is trained; None if the events are scored by others, or not all outputs are known yet."""
    train, score = config.train, config.score
    if train is None or train.per_object or train.files is not None or (score is not None and score.model is not None):
        return None
    network, several = NetworkClass.of(train.model, config.base), [DISCRIMINANT] if len(config.classes) > 2 else []
    return [*config.classes, *(train.discriminants or several), *train.targets, *(network.heads if network else ())]


def _unknown(config: Config, branches: Collection[str]) -> Iterator[tuple[tuple[Key, ...], str]]:
    """Names in histograms that are neither in the skims nor beside the scores; with their places."""
    outputs = _outputs(config)
    if outputs is None:
        return
    model = Layout.of(config).name
    known = (*outputs, *(f"{model}_{it}" for it in (*outputs, "fold")), *_BESIDE_SCORES)
    for histogram, settings in config.histogram.items():
        for name in (name for text in axes_of(histogram, settings) for name in Formula(text).branches):
            if versions.resolve(name, branches) is None and not any(f"{name}_".startswith(f"{it}_") for it in known):
                hint = versions.did_you_mean(name, [*branches, *outputs])
                message = f'"{name}" is in no skim, and no output of the model: these are {", ".join(outputs)}.{hint}'
                yield ("histogram", histogram), message


def _missing(config: Config, dataset: str, file: RootFile, plan: SkimPlan | None) -> Iterator[str]:
    """Find what the conversion will miss in a file, or in the skim of it."""
    branches: Mapping[str, Branch] = file.branches if plan is None else plan.written
    if config.convert is None:
        return
    modules = config.skim is not None and config.skim.modules

    def absent(keys: tuple[Key, ...], name: str, known: Collection[str]) -> Iterator[str]:
        if modules:  # only when they run is it known what they make
            return
        hint = versions.did_you_mean(name, known)
        left_out = [name for name in (name, f"{name}_pt") if versions.resolve(name, file.branches) is not None]
        if plan is not None and left_out:
            kept = name if left_out[0] == name else f'"{name}_*"'
            hint = f" The input has it: add {kept} to skim.keep."
        elif plan is not None and not hint:
            hint = " A branch of the input must be listed in skim.keep."
        place = "file" if config.skim is None else "skim"
        message = f'"{name}" is in no {place} of dataset {dataset} (first file: {file.path}).{hint}'
        yield str(config.error(*keys, message=message.rstrip(".")))

    keys: tuple[Key, ...]
    for keys, text in _expressions(config, dataset):
        formula = Formula(text)
        lacking = [name for name in formula.branches if versions.resolve(name, branches) is None]
        for name in lacking:
            yield from absent(keys, name, branches)
        try:
            if not lacking:
                formula.resolve(branches, file.path)
        except NanoMLError as problem:
            yield str(config.error(*keys, message=str(problem)))
    for place, message in () if modules else _unknown(config, branches):
        yield str(config.error(*place, message=message.rstrip(".")))
    for number, feature in enumerate(config.convert.features):
        keys = ("convert", "features", number)
        actual = versions.resolve(feature, branches)
        if feature in RESERVED:
            message = f"{feature} cannot be a feature: every file has it anyway, and a network must not learn from it"
            yield str(config.error(*keys, message=message))
        elif actual is None:
            yield from absent(keys, feature, branches)
        elif branches[actual].shape not in ("flat", "fixed"):
            what = "is a list of objects in each event, not one number: give its collection in convert.objects"
            yield str(config.error(*keys, message=f"{feature} {what}"))
    for collection, objects in config.convert.objects.items():
        keys = ("convert", "objects", collection)
        members = {branch.field for branch in branches.values() if branch.is_jagged and branch.collection == collection}
        if not members:
            every = (*branches.values(), *file.branches.values())
            yield from absent(keys, collection, {branch.collection for branch in every if branch.collection})
            continue
        for field in (*objects.fields, *filter(None, [(objects.order or "").lstrip("-")])):
            if field not in members:
                yield from absent(keys, f"{collection}_{field}", branches)
