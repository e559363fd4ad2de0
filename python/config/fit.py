"""The sections `histogram`, quantities in bins, `blind`, and `fit`: histograms that are fitted together, and their uncertainties."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Optional, Union

from MLTools.NanoML.contracts.bins import LEAST_EVENTS, LEAST_LEFT, MOST_BINS, STRENGTH, Counts, Sides, positive
from MLTools.NanoML.errors import listed
from MLTools.NanoML.extending import extended
from MLTools.NanoML.schema.roles import READS
from MLTools.NanoML.schema.settings import BRANCH, REGION, setting

AUTO, RESULT = "auto", "result"
"""Bins that are chosen by what is expected in them, or by the result of the fit."""
ALL, EACH = "all", "each"
"""Whether all channels, processes, regions or eras have something together, as a nuisance parameter, or each has its own."""
EVERYWHERE = "all"
"""The name of the events of all regions, if the analysis has no regions."""
FIGURE_OF_MERIT = "expected uncertainty of the signal strength"
"""The figure of merit of bins and trainings by the result, if there is one strength."""
NONE = "none"
"""The word of `blind` if nothing is."""


@dataclass(frozen=True)
class Histogram:
    """A histogram of events, for each region, class and variation."""

    of: list[str] = setting(
        list,
        "What is filled: a column, an output of the model, or an expression of these in the language of skim.cut, one for each of up to "
        "three axes. A list, such as Jet_pt, has an entry for each object. By default the column or output that has the histogram's name.",
        examples=["ZCand_mass", "WLep_pt / MET_pt"],
    )
    bins: Any = setting(
        AUTO,
        "Number of bins, and lower and upper end, as in [40, 60, 120]; or all edges; with several axes a list of these. "
        "For outputs between 0 and 1, auto chooses bins with enough background events in each, and result those in which the fit "
        "measures the signal best, with its uncertainties.",
        examples=["[40, 60, 120]", "{edges: [0, 0.5, 0.8, 1]}", "auto", "result"],
    )
    regions: list[str] = setting(
        list, "The regions; by default all.", uniqueItems=True, items=REGION, examples=[["SR", "CR_ZZ"]]
    )
    overflow: Optional[str] = setting(
        None,
        "add: what is below the first or above the last edge of an axis counts in the first or last bin. By default figures and fits do "
        "without it.",
        enum=("add",),
    )
    least_events: float = setting(
        LEAST_EVENTS,
        "With auto and result: the least effective number of background events in a bin.",
        exclusiveMinimum=0,
    )
    least_events_in: str = setting(
        EACH,
        "each: in each channel, a region in an era; of a histogram that is fitted, those of the fit. A channel with fewer in all leaves "
        "one bin. all: in all channels together.",
        enum=(EACH, ALL),
    )
    most_bins: int = setting(MOST_BINS, "With auto and result: the largest number of bins.", minimum=1)

    @property
    def is_auto(self) -> bool:
        """Whether the bins are chosen."""
        return self.bins in (AUTO, RESULT)

    def edges(self) -> list[list[float]]:
        """The edges of each axis; ValueError with what is wrong with `bins`, which are not chosen."""
        several = isinstance(self.bins, list) and any(isinstance(each, (list, dict)) for each in self.bins)
        return [_edges(each) for each in (self.bins if several else [self.bins])]


@dataclass(frozen=True)
class Blind:
    """Data that nobody sees until `nanoml unblind`; or none, in one word."""

    regions: list[str] = setting(
        list,
        "The signal regions, whose data stay blind; by default all regions, and all events of an analysis without regions.",
        uniqueItems=True,
        items=REGION,
        examples=[["SR"]],
    )
    signal_over_root_background: Optional[float] = setting(
        0.5,
        "In other regions, data stay blind in bins in which the expected signal is larger than this times the square root of the expected "
        "background; null for none.",
        exclusiveMinimum=0,
    )


def _edges(bins: object) -> list[float]:
    if isinstance(bins, dict) and set(bins) == {"edges"}:
        found = _numbers(bins["edges"])
        if len(found) < 2 or any(low >= high for low, high in zip(found, found[1:])):
            raise ValueError("edges: takes two or more numbers that rise, as in [0, 0.5, 0.8, 1]")
        return found
    if isinstance(bins, list) and len(bins) == 3:
        count, low, high = _numbers(bins)
        if count < 1 or count != int(count) or low >= high:
            raise ValueError("takes a whole number of bins, and a lower end below the upper one, as in [40, 60, 120]")
        width = (high - low) / count
        return [*(low + number * width for number in range(int(count))), high]
    raise ValueError("takes a number and both ends, as in [40, 60, 120], or {edges: [0, 0.5, 0.8, 1]}, auto or result")


def _numbers(values: object) -> list[float]:
    if not isinstance(values, list) or any(isinstance(it, bool) or not isinstance(it, (int, float)) for it in values):
        raise ValueError("takes numbers alone")
    return [float(value) for value in values]


def axes_of(name: str, histogram: Histogram) -> list[str]:
    """The quantity that is filled on each axis."""
    return histogram.of or [name]


UNCORRELATED = ("*hfstats*", "*lfstats*", "*uncorrelated*", "*_stat", "*_stat_*", "jer")
"""Nuisance parameters of each era alone, by the rules of the POGs: statistical ones, as of efficiencies, and the resolution of jets."""
NEVER = "never"
"""Toys give limits AUTO, where few events are expected, or NEVER."""
TOYS = {"pattern": f"{AUTO}|{NEVER}|[1-9][0-9]{{3,}}", "form": f"{AUTO}, {NEVER}, or a number of at least 1000"}
_NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)"
_PERCENTAGE = re.compile(rf"\s*{_NUMBER}\s*%\s*")
_TWO_PERCENTAGES = re.compile(rf"\s*([+-])\s*{_NUMBER}\s*(?:%\s*)?(?:/\s*)?([+-])\s*{_NUMBER}\s*%\s*")


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
    """The name of a nuisance parameter in workspace and card, and what shares it."""

    name: Optional[str] = setting(
        None,
        "Its name, by default that of the weight, shift or uncertainty; * is what * matches in the key. What follows is appended.",
        pattern=r"[A-Za-z_][A-Za-z0-9_]*(?:\*[A-Za-z0-9_]*)?",
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
    """The ending of the name of a parameter for a process, region or era; None if all share it."""
    if value is None or sharing == ALL:
        return None
    if sharing == EACH:
        return value
    return next((group for group, values in sharing.items() if value in map(str, as_list(values))), None)


def as_list(values: object) -> list[Any]:
    """A list of values; of one that is not in a list."""
    return values if isinstance(values, list) else [values]


@dataclass(frozen=True)
class Unbinned:
    """Regions of the fit whose likelihood is that of single events, by networks that learn the ratios of the processes' densities."""

    regions: list[str] = setting(
        ..., "The regions; the others stay in bins.", minItems=1, uniqueItems=True, items=REGION, examples=[["SR"]]
    )
    features: Optional[list[str]] = setting(
        None,
        "Event-level columns whose densities these are; by default those that `train` reads.",
        uniqueItems=True,
        items=BRANCH,
    )
    seeds: int = setting(1, "How many networks of each fold, with other seeds, give the mean ratio.", minimum=1)
    epochs: int = setting(
        200, "The largest number of passes over the training events; `train.patience` ends most before.", minimum=1
    )


@extended("fit")
@dataclass(frozen=True)
class Fit:
    """A fit of the strengths of signals to histograms in several regions."""

    channels: dict[str, str] = setting(
        ...,
        "The regions that are fitted, each with its histogram.",
        names=REGION,
        examples=["{SR: wprime, CR_ZZ: ZCand_mass}"],
    )
    signal: Optional[str] = setting(
        None, "The class whose strength is fitted; by default the one that the histograms call signal."
    )
    signals: dict[str, list[str]] = setting(
        dict,
        "Several strengths that are fitted together, in place of `signal`, each with the classes that it multiplies.",
        names={"pattern": "[A-Za-z_][A-Za-z0-9_]*", "form": "a name of letters, digits and _"},
        sparse=True,
        examples=["{mu_WZ: [WZ], mu_ZZ: [ZZ]}"],
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
        "A name with a mapping of classes is one that they share.",
        examples=["{WZ: 5 %, fakes: +30 % -20 %, scale: {WZ: 3 %, ZZ: 4 %}}"],
    )
    uncorrelated: list[str] = setting(
        list(UNCORRELATED),
        "Nuisance parameters of which each era has its own, with * for any text; the others are shared by eras.",
        examples=[["jer", "*_stat*", "norm_fakes"]],
    )
    nuisances: dict[str, Nuisance] = setting(
        dict,
        "Names of nuisance parameters, and which processes, regions and eras share them, by the names of weights, shifts and "
        "uncertainties, with * for any text; the first match counts.",
        names={"pattern": r"[^*]*(?:\*[^*]*)?", "form": "a name, with one * at most"},
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
    unbinned: Optional[Union[Unbinned, list[str]]] = setting(None, items=REGION, uniqueItems=True, examples=[["SR"]])
    toys: Union[str, int] = setting(
        AUTO,
        "Pseudo-experiments of each hypothesis that give limit and significance. By default there are 5000 where fewer than 10 background "
        "events are expected; elsewhere, or with never, asymptotic formulae give both.",
        **TOYS,
        examples=[20000],
    )

    @property
    def of_events(self) -> Optional[Unbinned]:
        """The settings of unbinned channels, their short form written out; None if all channels are in bins."""
        given = self.unbinned
        return given if isinstance(given, Unbinned) else Unbinned(as_list(given)) if given else None

    def strengths(self, signal: Optional[str]) -> dict[str, list[str]]:
        """The classes of each strength, by its name; `signal` is fitted unless the settings say otherwise."""
        signal = self.signal or signal
        return self.signals or ({STRENGTH: [signal]} if signal else {})

    @property
    def figure_of_merit(self) -> str:
        """The figure of merit of bins and trainings by the result."""
        several = f"geometric mean of the expected uncertainties of {listed([*self.signals])}"
        return several if self.signals else FIGURE_OF_MERIT

    def shared(self, nuisance: str) -> tuple[Nuisance, str]:
        """The sharing of a nuisance parameter, and its name without what tells processes, regions and eras apart."""
        eras = EACH if any(fnmatchcase(nuisance, it) for it in self.uncorrelated) else ALL
        for key, given in self.nuisances.items():
            found = re.fullmatch(re.escape(key).replace(r"\*", "(.*)"), nuisance)
            if found:
                name = (given.name or nuisance).replace("*", found[1] if found.groups() else "")
                return (given if given.eras is not None else replace(given, eras=eras)), name
        return Nuisance(eras=eras), nuisance

    def named(self, nuisance: str, process: str, region: str, era: Optional[str]) -> str:
        """The name of a nuisance parameter for a process in a channel, which is that of all that share it."""
        shared, name = self.shared(nuisance)
        for sharing, value in ((shared.processes, process), (shared.regions, region), (shared.eras, era)):
            part = own_part(sharing, value)
            # sources of the jet energy scale have their era in their names
            if part is not None and not name.endswith(part if value == era else f"_{part}"):
                name = f"{name}_{part}"
        return name

    def factors(
        self, process: str, luminosity: Mapping[str, LogNormal], named: Callable[[str], str]
    ) -> dict[str, LogNormal]:
        """The log-normal uncertainties of a process: those of the `luminosity`, and its own; by the names that these are given."""
        mine = ((nuisance, each[process]) for nuisance, each in self.normalisations.items() if process in each)
        found: dict[str, LogNormal] = {}
        for nuisance, factor in (*luminosity.items(), *mine):
            name = named(nuisance)
            found[name] = found[name] * factor if name in found else factor
        return found

    def counts(
        self, process: str, region: str, era: Optional[str], luminosity: Mapping[str, LogNormal], sums: tuple[Any, Any],
        varied: Iterable[tuple[str, object, object]],
    ) -> Counts:  # fmt: skip
        """The expected events of a process in a channel, a signal or a background.

        Parameters
        ----------
        luminosity
            Uncertainties of the luminosity by which its yield changes, unless the fit normalises it.
        sums
            Sums of weights and of their squares, arrays of shape (bins,).
        varied
            For each weight or shift its name, and the sums up and down.
        """
        (nominal, scale), is_free = positive(sums[0]), process in self.free

        def named(nuisance: str) -> str:
            return self.named(nuisance, process, region, era)

        def left(values: Any) -> object:
            return positive(values)[0] if values.sum() > 0 else LEAST_LEFT * nominal

        return Counts(
            next((name for name, classes in self.strengths(None).items() if process in classes), None),
            nominal,
            scale**2 * sums[1],
            {named(name): Sides(left(up), left(down)) for name, up, down in varied},
            self.factors(process, {} if is_free else luminosity, named),
            named(norm(process)) if is_free else None,
        )

    @property
    def normalisations(self) -> dict[str, dict[str, LogNormal]]:
        """Uncertainties of the yields of processes, by nuisance parameter; that of one class alone is norm_CLASS."""
        found = {}
        for name, entry in self.uncertainties.items():
            key, values = (name, entry) if isinstance(entry, Mapping) else (norm(name), {name: entry})
            found[key] = {process: log_normal(value) for process, value in values.items()}
        return found


@dataclass(frozen=True)
class FitTarget:
    """A fit whose result a training aims at."""

    settings: Fit  # the section `fit`, with the signal
    histograms: dict[str, Histogram]  # those of its channels, by name
    luminosity: dict[str, dict[str, LogNormal]]  # its uncertainties by era and nuisance parameter
    from_data: list[str]  # the classes that are estimated from data
    eras: dict[str, list[str]] = field(metadata=READS)  # the HDF5 files of each era; without eras, of ""

    @property
    def chooses_bins(self) -> bool:
        """Whether histograms leave their bins open."""
        return any(it.is_auto for it in self.histograms.values())


def norm(process: str) -> str:
    """The name of the parameter by which a process's yield changes."""
    return f"norm_{process}"


def log_normal(value: object) -> LogNormal:
    """The uncertainty that a text stands for, as 2.5 % or +5 % -3 %; ValueError for anything else.

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
