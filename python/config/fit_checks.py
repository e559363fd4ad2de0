"""Contradictions between settings of histograms and the fit, and between these and other settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from MLTools.NanoML.config.analysis import (
    Config,
    fitted_signal,
    hypotheses,
    luminosity_components,
    regions_of,
    scored_values,
    signal_of,
)
from MLTools.NanoML.config.data import FIT, TRAINING
from MLTools.NanoML.config.data_checks import expression
from MLTools.NanoML.config.fit import ALL, EACH, EVERYWHERE, RESULT, Blind, Fit, as_list, axes_of, log_normal, norm
from MLTools.NanoML.schema.document import Key, Problem
from MLTools.NanoML.schema.settings import REGION, unknown

_MOST_AXES = 3


def _histograms(config: Config) -> Iterator[Problem]:
    """Contradictions between histograms, and between them and other settings."""
    for number, region in enumerate(config.blind.regions if isinstance(config.blind, Blind) else ()):
        if config.train is None or config.train.files is None:
            yield from unknown(("blind", "regions", number), region, config.regions, "one of `regions`")
    if config.histogram and not config.datasets:
        yield ("histogram",), 'there are no events to fill. Add some under "datasets:"'
    yield from _uses(config)
    if config.histogram and config.score is not None and config.score.files:
        yield ("histogram",), "fills the scores of datasets, but score.files has others. Remove one of them"
    elif config.histogram and config.train is None and config.score is None:
        what = 'needs the weights of events beside their scores. Add "score: {model: []}", or a "train" section'
        yield ("histogram",), what
    yield from _varied(config)
    for name, histogram in config.histogram.items():
        place = ("histogram", name)
        for each in hypotheses(config):
            if f"{name}_{each.ending}" in config.histogram:
                other = f"{name}_{each.ending}"
                yield ("histogram", other), f"is what {name} is called at {each}. Rename it"
        for number, text in enumerate(axes_of(name, histogram)):
            yield from expression((*place, "of", number) if histogram.of else place, text)
        for number, region in enumerate(histogram.regions):
            yield from unknown((*place, "regions", number), region, config.regions, "one of `regions`")
        count = len(axes_of(name, histogram))
        if count > _MOST_AXES:
            yield (*place, "of"), f"has {count} axes, and a histogram has {_MOST_AXES} at most"
        if histogram.is_auto:
            if count > 1:
                yield (*place, "bins"), f"{histogram.bins} is for one axis. Give the bins of each"
            if histogram.bins == RESULT and (config.fit is None or name not in config.fit.channels.values()):
                yield (*place, "bins"), "result needs a fit of this histogram. Add it to fit.channels, or choose auto"
            continue
        try:
            edges = histogram.edges()
        except ValueError as problem:
            yield (*place, "bins"), str(problem)
            continue
        if len(edges) != count:
            what = f"are for {len(edges)} axes, but there are {count}: {', '.join(axes_of(name, histogram))}"
            yield (*place, "bins"), what


def _uses(config: Config) -> Iterator[Problem]:
    """Contradictions about what is trained on, and what is in histograms."""
    simulated = [it for it in config.datasets.values() if not it.is_data]
    if (config.histogram or config.fit) and simulated and not any(it.class_ for it in simulated):
        what = 'no dataset has a class, so none would be filled. Give each process its class, as in "class: WZ"'
        yield ("histogram" if config.histogram else "fit",), what
    signal = signal_of(config)
    for section in ("datasets", "data_driven"):
        for name, it in getattr(config, section).items():
            place, class_ = (section, name, "only"), name if section == "data_driven" else it.class_
            if it.only is not None and class_ is None:
                yield place, "says where a class counts, but there is none. Remove it"
            elif it.only == FIT and not config.histogram:
                yield place, "there are no histograms, so there is no fit. Remove this, or the dataset"
            elif config.histogram and class_ == signal and signal not in config.processes:
                yield place, f"{signal} is the signal of histograms. Remove this, or add a dataset for them"


def _varied(config: Config) -> Iterator[Problem]:
    """Contradictions of datasets that show a variation of others."""
    for name, dataset in config.datasets.items():
        place = ("datasets", name)
        if bool(dataset.varies) != (dataset.variation is not None):
            yield place, 'needs both "varies", the datasets, and "variation", what it shows, or neither'
        if not dataset.varies:
            continue
        if dataset.class_ is not None or dataset.is_data:
            yield (*place, "varies"), 'is for simulation without a class. Remove this, or "class" and "data"'
        for number, other in enumerate(dataset.varies):
            yield from unknown((*place, "varies", number), other, config.datasets, "one of `datasets`")
        others = [config.datasets[other] for other in dataset.varies if other in config.datasets]
        if any(it.only == TRAINING for it in others):
            yield (*place, "varies"), "takes datasets that are in histograms, and one of these is in the training only"
        if any(it.class_ is None for it in others) or len({it.class_ for it in others}) > 1:
            yield (*place, "varies"), "takes datasets of one class"
        if any(it.era != dataset.era for it in others):
            yield (*place, "era"), "is not that of the datasets that it varies"


def _fits(config: Config) -> Iterator[Problem]:
    """Contradictions in the section `fit` and in uncertainties of the luminosity."""
    yield from _luminosity(("luminosity_uncertainty",), config.luminosity_uncertainty, "")
    for name, era in config.eras.items():
        yield from _luminosity(("eras", name, "luminosity_uncertainty"), era.luminosity_uncertainty, name)
    fit = config.fit
    if fit is None:
        return
    yield from _channels(config, fit)
    yield from _nuisances(config, fit)
    yield from _hypotheses(config, fit)
    yield from _unbinned(config, fit)
    known, strengths = config.processes, fit.strengths(signal_of(config))
    named: dict[str, list[tuple[tuple[Key, ...], str]]] = {
        "signal": [] if fit.signal is None else [((), fit.signal)],
        "signals": [((name,), process) for name, classes in fit.signals.items() for process in classes],
        "free": [((number,), process) for number, process in enumerate(fit.free)],
        "uncertainties": [it for name, entry in fit.uncertainties.items() for it in _processes(name, entry)],
    }
    for key, processes in named.items():
        for place, process in processes:
            yield from unknown(("fit", key, *place), process, known, "one of the classes")
            if key == "uncertainties" and process in fit.free:
                yield ("fit", key, *place), f"{process} is normalised by the fit (fit.free). Remove one of them"
            if key == "free" and process in known and any(process in it for it in strengths.values()):
                yield ("fit", key, *place), "is the signal, whose strength is fitted in any case. Remove it"
            if key == "signals" and sum(process in it for it in strengths.values()) > 1:
                yield ("fit", key, *place), f"{process} has two strengths. Remove one"
    if fit.signals and (fit.signal is not None or hypotheses(config)):
        others = "fit.signal" if fit.signal is not None else f"a fit for each {hypotheses(config)[0].parameter}"
        yield ("fit", "signals"), f"is for one fit of several signals, and there is {others}. Remove one of them"
    for name, entry in fit.uncertainties.items():
        place = ("fit", "uncertainties", name)
        yield from _percentages(place, entry if isinstance(entry, Mapping) else {name: entry})
        if isinstance(entry, Mapping):
            yield from _name(place, name)
            if not entry:
                yield place, 'names no class. Give it some, as in "{WZ: 3 %}"'
            if name in map(norm, known):
                yield place, "is the name of the normalisation of one class. Take another"


def _nuisances(config: Config, fit: Fit) -> Iterator[Problem]:
    known = {
        "processes": list(config.processes),
        "regions": list(config.regions) or [EVERYWHERE],
        "eras": list(config.eras),
    }
    for key, nuisance in fit.nuisances.items():
        for what, names in known.items():
            sharing, place = getattr(nuisance, what), ("fit", "nuisances", key, what)
            if sharing in (ALL, EACH, None):
                continue
            if not isinstance(sharing, Mapping) or not sharing:
                yield place, f'takes {ALL}, {EACH}, or groups by name, as in "{{A: [{", ".join(names[:2])}]}}"'
                continue
            seen: dict[str, str] = {}
            for group, values in sharing.items():
                if not re.fullmatch("[A-Za-z0-9_]+", str(group)):
                    yield (*place, group), "cannot be a part of a name: expected letters, digits and _"
                for value in map(str, as_list(values)):
                    yield from unknown((*place, group), value, names, f"one of the {what}")
                    if seen.setdefault(value, str(group)) != str(group):
                        yield (*place, group), f"{value} is in {seen[value]} already. Remove one"


def _hypotheses(config: Config, fit: Fit) -> Iterator[Problem]:
    parameter = fit.parameter or (config.train.parameter if config.train is not None else None)
    if parameter is None:
        return
    names = {name for dataset in config.datasets.values() for name in dataset.parameters}
    if fit.parameter is not None and parameter not in names:
        yield from unknown(("fit", "parameter"), parameter, names, "in the parameters of a dataset")
        return
    signal, found, members = fitted_signal(config, fit), hypotheses(config), config.members(FIT)
    mine = {name: it for name, it in config.datasets.items() if members.get(name) == signal}
    for name, dataset in mine.items():
        if parameter not in dataset.parameters:
            what = f'is of {signal}, which is fitted at each {parameter}, but has none. Add it, as in "parameters: {{{parameter}: 600}}"'
            yield ("datasets", name), what
    if fit.parameter is not None and len(found) == 1:
        yield ("fit", "parameter"), f"{found[0]} is its only value. Add datasets with others, or remove this"
    for each in found:
        eras = {it.era for it in mine.values() if it.parameters.get(parameter) == each.value}
        lacking = [era for era in config.eras or [None] if era not in eras]
        if lacking:
            where = f" in the era {lacking[0]}" if lacking[0] is not None else ""
            yield ("datasets",), f"{signal} has no dataset with {each}{where}, where it is fitted. Add one"
    scored = scored_values(config).get(parameter, [])
    for each in found if len(scored) > 1 else ():
        if each.value not in scored:
            what = f"lacks {each.value:g}, a value of datasets, which is fitted. Add it"
            yield ("score", "parameter", parameter), what


def _channels(config: Config, fit: Fit) -> Iterator[Problem]:
    if not fit.channels:
        yield ("fit", "channels"), 'names no region. Add one with its histogram, as in "{SR: discriminant}"'
    regions: Sequence[str] = list(config.regions) or [EVERYWHERE]
    for region, name in fit.channels.items():
        place: tuple[Key, ...] = ("fit", "channels", region)
        yield from unknown(place, region, regions, "one of `regions`")
        yield from unknown(place, name, config.histogram, "one of `histogram`")
        if region in regions and name in config.histogram and region not in regions_of(config, config.histogram[name]):
            yield place, f"the histogram {name} is not filled in {region}. Add {region} to histogram.{name}.regions"


def _unbinned(config: Config, fit: Fit) -> Iterator[Problem]:
    """Contradictions between unbinned channels and the training, by whose events their networks learn."""
    given, train, place = fit.of_events, config.train, ("fit", "unbinned")
    if given is None:
        return
    for region in given.regions:
        yield from unknown((*place, "regions"), region, fit.channels, "one of the regions in fit.channels")
    if hypotheses(config):
        yield (
            place,
            f"is for one fit, and there is a fit for each {hypotheses(config)[0].parameter}. Remove one of them",
        )
    if train is None or config.convert is None:
        yield place, 'needs events to learn the densities from. Add the sections "convert" and "train"'
        return
    others = {"files": train.files, "per_object": train.per_object, "targets": config.is_regression}
    for name in (name for name, there in others.items() if there):
        yield place, f"is not for a training with train.{name}. Remove one of the two"
    if train.model == "bdt":
        yield place, "trees cannot learn ratios of densities with variations. Take another train.model"
    if train.folds == 1:
        yield place, "needs networks that have not seen an event for all of them, and train.folds is 1. Give 3 or more"
    for name in given.features or ():
        yield from unknown((*place, "features"), name, config.convert.features, "in convert.features")
    for name in (name for name in config.processes if name not in config.classes):
        yield place, f'{name} is in the fit only, and so no network learns its density. Remove "only", or this'
    for name in (name for name, it in config.datasets.items() if it.varies):
        yield place, f"learns variations of weights and shifts alone, and {name} is another dataset. Remove one of them"


def _processes(name: str, entry: object) -> Iterator[tuple[tuple[Key, ...], str]]:
    """The processes that an entry of `uncertainties` names, each with its place there."""
    if isinstance(entry, Mapping):
        yield from (((name, process), process) for process in entry)
    else:
        yield (name,), name


def _name(place: tuple[Key, ...], name: str) -> Iterator[Problem]:
    if not re.fullmatch(REGION["pattern"], name):
        yield place, f'"{name}" cannot be a nuisance parameter: expected {REGION["form"]}'


def _luminosity(place: tuple[Key, ...], uncertainty: object, era: str) -> Iterator[Problem]:
    components = luminosity_components(uncertainty, era)
    if isinstance(uncertainty, Mapping):
        for name in components:
            yield from _name(place, name)
    yield from _percentages(place, components)


def _percentages(place: tuple[Key, ...], values: Mapping[str, object]) -> Iterator[Problem]:
    for name, value in values.items():
        try:
            log_normal(value)
        except ValueError as problem:
            yield place, f"{name}: {problem}"


CHECKS = (_histograms, _fits)
