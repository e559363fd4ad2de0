"""The section `fit`: histograms that are fitted together, and their uncertainties; and what can be wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Optional, Union

from MLTools.NanoML.config.datasets import FIT
from MLTools.NanoML.config.document import Key, Problem
from MLTools.NanoML.config.histogram import EVERYWHERE, hypotheses, regions_of, scored_values, signal_of
from MLTools.NanoML.config.schema import BRANCH, REGION, setting, unknown
from MLTools.NanoML.contracts.hypothesis import Hypothesis

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

UNCORRELATED = ("*hfstats*", "*lfstats*", "*uncorrelated*", "*_stat", "*_stat_*", "jer")
"""Nuisance parameters of each era alone, by the rules of the POGs: statistical ones, as of BTV's shapes and of efficiencies, and the
resolution of jets."""
ALL, EACH = "all", "each"
"""Whether all processes, regions or eras share a nuisance parameter, or each has its own."""
AUTO, NEVER = "auto", "never"
"""Whether toys give limits: where few events are expected, or never."""
TOYS = {"pattern": f"{AUTO}|{NEVER}|[1-9][0-9]{{3,}}", "form": f"{AUTO}, {NEVER}, or a number of at least 1000"}
_NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)"
_PERCENTAGE = re.compile(rf"\s*{_NUMBER}\s*%\s*")
_TWO_PERCENTAGES = re.compile(rf"\s*([+-])\s*{_NUMBER}\s*%?\s*/?\s*([+-])\s*{_NUMBER}\s*%\s*")


@dataclass(frozen=True)
class LogNormal:
    """A log-normal uncertainty of a yield: what it is multiplied by at +1 and at -1 sigma."""

    up: float
    down: float

    def __mul__(self, other: LogNormal) -> LogNormal:
        """Both by one nuisance parameter."""
        return LogNormal(self.up * other.up, self.down * other.down)


@dataclass(frozen=True)
class Nuisance:
    """What a nuisance parameter is called in workspace and card, and what shares it."""

    name: Optional[str] = setting(
        None,
        "Its name, by default that of the weight, shift or uncertainty; * is what * stands for in the key. What follows is appended.",
        pattern=r"[A-Za-z_][A-Za-z0-9_]*\*?[A-Za-z0-9_]*",
        form="a name of letters, digits and _, with one * at most",
        examples=["CMS_scale_j", "QCDscale"],
    )
    processes: Any = setting(
        ALL,
        "all: one parameter moves all classes; each: every class has its own, as in QCDscale_WZ; groups by name: each has its own, as in "
        "pdf_qqbar, and what is in none shares the rest.",
        examples=["each", "{qqbar: [WZ, ZZ], gg: [tt]}"],
    )
    regions: Any = setting(ALL, "The same for regions.", examples=["each", "{SR: [SR_high, SR_low]}"])
    eras: Any = setting(
        None,
        "The same for eras; by default all, but each for what `uncorrelated` names.",
        examples=["each", "{Run2: [2016, 2017, 2018]}"],
    )


def own_part(sharing: Any, value: Optional[str]) -> Optional[str]:
    """What is appended to the name of a parameter for a process, region or era; None if all share it."""
    if value is None or sharing == ALL:
        return None
    if sharing == EACH:
        return value
    return next((group for group, values in sharing.items() if value in map(str, _listed(values))), None)


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


@dataclass(frozen=True)
class Fit:
    """A fit of the strength of a signal to histograms in several regions."""

    channels: dict[str, str] = setting(
        ...,
        "The regions that are fitted, each with its histogram.",
        names=REGION,
        examples=["{SR: wprime, CR_ZZ: ZCand_mass}"],
    )
    signal: Optional[str] = setting(
        None, "The class whose strength is fitted; by default the one that the histograms call signal."
    )
    parameter: Optional[str] = setting(
        None,
        "A name in `datasets.NAME.parameters`, such as the mass of the signal: each of its values has its own fit, without the signals "
        "of the others. By default that of `train.parameter`.",
        **BRANCH,
    )
    free: list[str] = setting(
        list, "Classes that are normalised by the fit, in all channels together.", uniqueItems=True, examples=[["ZZ"]]
    )
    uncertainties: dict[str, Any] = setting(
        dict,
        "Log-normal uncertainties of the yields of classes, in per cent, or up and down. "
        "A name and a mapping of classes stand for one that they share.",
        examples=["{WZ: 5 %, fakes: +30 % -20 %, scale: {WZ: 3 %, ZZ: 4 %}}"],
    )
    uncorrelated: list[str] = setting(
        list(UNCORRELATED),
        "Nuisance parameters that each era has for itself, with * for any text; the others are shared by eras.",
        examples=[["jer", "*_stat*", "norm_fakes"]],
    )
    nuisances: dict[str, Nuisance] = setting(
        dict,
        "Names of nuisance parameters, and which processes, regions and eras share them, by the names of weights, shifts and "
        "uncertainties, with * for any text; the first that fits counts.",
        names={"pattern": r"[^*]*\*?[^*]*", "form": "a name, with one * at most"},
        examples=["{scale: {name: QCDscale, processes: each}, jes: {name: CMS_scale_j, eras: each}}"],
    )
    smooth: list[str] = setting(
        list,
        "Weights and shifts whose changes of histograms are smoothed, with * for any text.",
        uniqueItems=True,
        examples=[["jes*", "scale"]],
    )
    groups: dict[str, list[str]] = setting(
        dict,
        "Nuisance parameters whose part of the uncertainty of the signal strength is given together, with * for any text.",
        names=REGION,
        examples=["{theory: [scale, pdf*], experimental: [jes*, lumi*]}"],
    )
    toys: Union[str, int] = setting(
        AUTO,
        "Pseudo-experiments of each hypothesis that give limit and significance. By default there are 5000 where fewer than 10 background "
        "events are expected; elsewhere, or with never, asymptotic formulae give both.",
        **TOYS,
        examples=[20000],
    )

    def shared(self, nuisance: str) -> tuple[Nuisance, str]:
        """What shares a nuisance parameter, and its name without what tells processes, regions and eras apart."""
        eras = EACH if any(fnmatchcase(nuisance, it) for it in self.uncorrelated) else ALL
        for key, given in self.nuisances.items():
            found = re.fullmatch(re.escape(key).replace(r"\*", "(.*)"), nuisance)
            if found:
                name = (given.name or nuisance).replace("*", found[1] if found.groups() else "")
                return (given if given.eras is not None else replace(given, eras=eras)), name
        return Nuisance(eras=eras), nuisance

    @property
    def normalisations(self) -> dict[str, dict[str, LogNormal]]:
        """Uncertainties of the yields of processes, by nuisance parameter; that of one class alone is norm_CLASS."""
        return {
            name if isinstance(entry, Mapping) else norm(name): {
                process: log_normal(value)
                for process, value in (entry if isinstance(entry, Mapping) else {name: entry}).items()
            }
            for name, entry in self.uncertainties.items()
        }


def norm(process: str) -> str:
    """The name of the parameter by which a process's yield changes."""
    return f"norm_{process}"


def log_normal(value: Any) -> LogNormal:
    """What a text stands for, as 2.5 % or +5 % -3 %; ValueError for anything else.

    x % alone is a factor of 1 + x at +1 sigma, and the inverse at -1 sigma.
    """
    text = value if isinstance(value, str) else ""
    found, pair = _PERCENTAGE.fullmatch(text), _TWO_PERCENTAGES.fullmatch(text)
    if found is not None and float(found[1]) > 0:
        up = (100 + float(found[1])) / 100
        return LogNormal(up, 1 / up)
    if pair is None:
        raise ValueError("takes a percentage above 0, as in 2.5 %, or one up and one down, as in +5 % -3 %")
    up, down = ((100 + float(f"{sign}{size}")) / 100 for sign, size in (pair.group(1, 2), pair.group(3, 4)))
    if pair[1] == pair[3] or up == down:
        raise ValueError("takes one percentage up and one down, as in +5 % -3 %")
    if min(up, down) <= 0:
        raise ValueError("leaves nothing: give less than 100 % down")
    return LogNormal(up, down)


def luminosity_uncertainties(config: Config) -> dict[str, dict[str, LogNormal]]:
    """Uncertainties of the luminosity by era, and then by nuisance parameter; an analysis without eras has the era "".

    A single percentage is the parameter lumi_ERA, or lumi without eras. Components of one name are shared by eras.
    """
    given = {name: era.luminosity_uncertainty for name, era in config.eras.items()} or {
        "": config.luminosity_uncertainty
    }
    return {
        era: {name: log_normal(value) for name, value in _components(uncertainty, era).items()}
        for era, uncertainty in given.items()
    }


def _components(uncertainty: Any, era: str) -> Mapping[str, Any]:
    if uncertainty is None or isinstance(uncertainty, Mapping):
        return uncertainty or {}
    return {f"lumi_{era}" if era else "lumi": uncertainty}


def fitted_signal(config: Config, fit: Fit) -> Optional[str]:
    """The class whose strength is fitted; None if there are no classes."""
    return fit.signal or signal_of(config)


def cross_section(config: Config, fit: Fit, hypothesis: Hypothesis) -> Optional[float]:
    """The cross section [pb] of the signal, as its datasets give it; None if it is not known, or not the same in all eras."""
    found: dict[Optional[str], float] = {}
    members, signal = config.members(FIT), fitted_signal(config, fit)
    for name, dataset in config.datasets.items():
        if members.get(name) == signal and hypothesis.allows(dataset.parameters):
            value, whole = config.cross_section_of(name), config.era_of(name).luminosity
            if value is None:
                return None
            # a part of an era has its part of the cross section
            share = (config.luminosity_of(name) or 0.0) / whole if whole else 1.0
            found[dataset.era] = found.get(dataset.era, 0.0) + value * share
    values = list(found.values())
    return values[0] if values and max(values) - min(values) <= 1e-6 * values[0] else None


def fits(config: Config) -> Iterator[Problem]:
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
    known = config.processes
    named: dict[str, list[tuple[tuple[Key, ...], str]]] = {
        "signal": [] if fit.signal is None else [((), fit.signal)],
        "free": [((number,), process) for number, process in enumerate(fit.free)],
        "uncertainties": [it for name, entry in fit.uncertainties.items() for it in _processes(name, entry)],
    }
    for key, processes in named.items():
        for place, process in processes:
            yield from unknown(("fit", key, *place), process, known, "one of the classes")
            if key == "uncertainties" and process in fit.free:
                yield ("fit", key, *place), f"{process} is normalised by the fit (fit.free). Remove one of them"
            if key == "free" and process in known and process == fitted_signal(config, fit):
                yield ("fit", key, *place), "is the signal, whose strength is fitted in any case. Remove it"
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
                for value in map(str, _listed(values)):
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
            what = f'is of {signal}, which is fitted at each {parameter}, and has none. Add it, as in "parameters: {{{parameter}: 600}}"'
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


def _processes(name: str, entry: Any) -> Iterator[tuple[tuple[Key, ...], str]]:
    """The processes that an entry of `uncertainties` names, each with its place there."""
    if isinstance(entry, Mapping):
        yield from (((name, process), process) for process in entry)
    else:
        yield (name,), name


def _name(place: tuple[Key, ...], name: str) -> Iterator[Problem]:
    if not re.fullmatch(REGION["pattern"], name):
        yield place, f'"{name}" cannot be a nuisance parameter: expected {REGION["form"]}'


def _luminosity(place: tuple[Key, ...], uncertainty: Any, era: str) -> Iterator[Problem]:
    components = _components(uncertainty, era)
    if isinstance(uncertainty, Mapping):
        for name in components:
            yield from _name(place, name)
    yield from _percentages(place, components)


def _percentages(place: tuple[Key, ...], values: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in values.items():
        try:
            log_normal(value)
        except ValueError as problem:
            yield place, f"{name}: {problem}"
