"""The sections `histogram`, quantities in bins, and `blind`; and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from MLTools.NanoML.config.datasets import FIT, TRAINING
from MLTools.NanoML.config.document import Problem
from MLTools.NanoML.config.schema import REGION, setting, unknown
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.bins import LEAST_EVENTS, MOST_BINS
from MLTools.NanoML.contracts.hypothesis import Hypothesis

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

AUTO = "auto"
"""Bins that are chosen by what is expected in them."""
EVERYWHERE = "all"
"""What the events of all regions are called, if the analysis has no regions."""
NONE = "none"
"""What `blind` says if nothing is."""
MOST_AXES = 3


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
        "auto, for outputs between 0 and 1, chooses bins with enough background events in each.",
        examples=["[40, 60, 120]", "{edges: [0, 0.5, 0.8, 1]}", "auto"],
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
        LEAST_EVENTS, "With auto: the least effective number of background events in a bin.", exclusiveMinimum=0
    )
    most_bins: int = setting(MOST_BINS, "With auto: the largest number of bins.", minimum=1)

    @property
    def is_auto(self) -> bool:
        """Whether the bins are chosen."""
        return bool(self.bins == AUTO)

    def edges(self) -> list[list[float]]:
        """The edges of each axis; ValueError with what is wrong with `bins`, which are not auto."""
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


def _edges(bins: Any) -> list[float]:
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
    raise ValueError('takes [NUMBER, LOW, HIGH], "edges: [...]" or auto')


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list) or any(isinstance(it, bool) or not isinstance(it, (int, float)) for it in values):
        raise ValueError("takes numbers alone")
    return [float(value) for value in values]


def axes_of(name: str, histogram: Histogram) -> list[str]:
    """What is filled on each axis."""
    return histogram.of or [name]


def regions_of(config: Config, histogram: Histogram) -> Sequence[str]:
    """The regions of a histogram; EVERYWHERE alone if the analysis has none."""
    return histogram.regions or list(config.regions) or [EVERYWHERE]


def hypotheses(config: Config) -> list[Hypothesis]:
    """The values that datasets have of the parameter of the fit, or else of the network; none without one."""
    named = [section.parameter for section in (config.fit, config.train) if section is not None and section.parameter]
    fitted = [it.parameters for it in config.datasets.values() if it.only != TRAINING]
    values = {it[named[0]] for it in fitted if named and named[0] in it}
    return [Hypothesis(named[0], value) for value in sorted(values)]


def scored_values(config: Config) -> dict[str, list[float]]:
    """The values of the models' parameters at which there are scores: by default all that datasets have."""
    given = config.score.parameter if config.score is not None else {}
    name = config.train.parameter if config.train is not None else None
    if name is None or given or (config.score is not None and config.score.model is not None):
        return given
    values = {it.parameters[name] for it in config.datasets.values() if name in it.parameters}
    return {name: sorted(values)} if values else {}


def signal_of(config: Config) -> Optional[str]:
    """The class that histograms call signal, by default that of the training; None without classes."""
    known = config.classes if config.train is not None else config.processes
    return (config.train or Train()).signal_among(known) if known else None


def histograms(config: Config) -> Iterator[Problem]:
    """Contradictions between histograms, and between them and other settings."""
    from MLTools.NanoML.config.regions import expression

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
        if count > MOST_AXES:
            yield (*place, "of"), f"has {count} axes, and a histogram has {MOST_AXES} at most"
        if histogram.is_auto:
            if count > 1:
                yield (*place, "bins"), "auto is for one axis. Give the bins of each"
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
                yield place, "says where a class counts, and there is none. Remove it"
            elif it.only == FIT and not config.histogram:
                yield place, "there are no histograms, and so no fit. Remove this, or the dataset"
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
