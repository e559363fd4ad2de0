"""The statistical model of an analysis: expected events by channel and process, and what changes them; no program's format."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.config.fit import UNCORRELATED, Fit, LogNormal
from MLTools.NanoML.contracts.bins import with_background
from MLTools.NanoML.contracts.templates import DATA, FilledHistogram, HistogramChannel, Templates, inner
from MLTools.NanoML.errors import NanoMLError, listed
from statistical_analysis.samples import Floats, Remark, Sample, SampleMaker, is_called, outside

EFFECTIVE_EVENTS = 10
"""Where fewer effective background events are expected in a bin, Combine gives each process a statistical parameter of its own."""


@dataclass(frozen=True)
class FitChannel:
    """The bins of a histogram in a region and an era, without underflow and overflow."""

    name: str
    region: str
    era: str | None
    title: str  # of the axis
    edges: tuple[float, ...]
    samples: tuple[Sample, ...]
    data: Floats
    fitted: NDArray[np.bool_]  # bins in which anything is expected: the others are no part of the fit

    def expected(self, strength: float = 1.0, name: str | None = None) -> Floats:
        """Expected events at a strength of all signals, or of one with the others at 1, float64 of shape (bins,)."""
        mine = (it.strength and name in (None, it.strength) for it in self.samples)
        parts = [(strength if is_mine else 1.0) * it.nominal for is_mine, it in zip(mine, self.samples, strict=True)]
        return np.sum(parts, axis=0)


MOST = 10.0
"""The largest normalisation that a fit may give a process, and at least the highest strength of a signal."""


@dataclass(frozen=True)
class Range:
    """Where a free parameter begins, and between which values it stays."""

    start: float = 1.0
    low: float = 0.0
    high: float = MOST


@dataclass(frozen=True)
class StatisticalModel:
    """Channels that are fitted together, for the strengths of signals.

    Attributes
    ----------
    strengths
        The processes of each strength that is fitted, by its name.
    channels
        All channels, in the order of the configuration, and by era.
    groups
        Nuisance parameters by group. Those that are in none of the configuration's are in luminosity, normalisation (log-normal
        uncertainties of the configuration) or shape (weights and shifts of the selection).
    free
        The parameters by which the fit normalises processes.
    asimov
        The first signal strength in the data of all channels, which are those expected, the others being one; None if they are observed.
    remarks
        Changes, what is left out, and what looks wrong.
    ranges
        Ranges of free parameters, of strengths too, that are not those of `Range`.
    """

    strengths: Mapping[str, Sequence[str]]
    channels: tuple[FitChannel, ...]
    groups: Mapping[str, tuple[str, ...]]
    free: tuple[str, ...]
    asimov: float | None
    remarks: tuple[Remark, ...]
    ranges: Mapping[str, Range] = field(default_factory=dict)

    @property
    def has_signal(self) -> bool:
        """Whether any events of the signal are expected."""
        return any(sample.strength and sample.nominal.any() for each in self.channels for sample in each.samples)

    @property
    def nuisances(self) -> tuple[str, ...]:
        """All nuisance parameters with a Gaussian constraint, but for statistical errors."""
        return tuple(dict.fromkeys(name for names in self.groups.values() for name in names))


def statistical_model(
    templates: Templates,
    settings: Fit,
    luminosity: Mapping[str, Mapping[str, LogNormal]],
    from_data: Collection[str] = (),
    asimov: float | None = 0.0,
    needs_signal: bool = True,
) -> StatisticalModel:
    """Make the statistical model of histograms.

    - All processes of a histogram but the signals are backgrounds. Underflow and overflow are not part of the fit.
    - A process without events in a channel, or with a negative yield, is left out there.
    - Bins with negative contents are set to zero, and the others scaled so that the yield stays the same. If a variation leaves no
      positive yield, it leaves a hundredth of each bin.
    - Shapes that `settings.smooth` names are smoothed, see `shapes.smooth`: the ratio to the nominal events, at the same yield.
    - A shape that changes no bin by more than 0.1 % is left out.
    - A bin with a signal needs background, or another signal: any event there would be a discovery. A bin with nothing is no part of the
      fit, nor is a channel of such bins.
    - The luminosity changes all processes but those that are estimated from data or normalised by the fit.
    - A nuisance parameter is shared by all processes and channels that have it, but for what `settings.nuisances` and
      `settings.uncorrelated` say.

    Parameters
    ----------
    templates
        The histograms of the analysis.
    settings
        The section `fit`.
    luminosity
        Uncertainties of the luminosity by era and nuisance parameter, as of `config.fit.luminosity_uncertainties`.
    from_data
        The processes that are estimated from data.
    asimov
        The first signal strength in Asimov data, which are the expected events, the others being one; None for observed data.
    needs_signal
        Whether it is an error if no events of a signal are expected; if not, it has none in the first channel.

    Raises
    ------
    NanoMLError
        A histogram is missing, there is no signal, a bin has signal and no background, observed data are asked for where there are
        none, and so on.
    """
    strengths = settings.strengths(templates.signal)
    if not strengths:
        raise NanoMLError("fit: there is no signal. Give the class whose strength is fitted, as fit.signal.")
    of_signals = {process: name for name, processes in strengths.items() for process in processes}
    for signal in sorted(of_signals.keys() & {*settings.free}):
        raise NanoMLError(f"fit.free: {signal} is the signal, whose strength is fitted in any case. Remove it.")
    remarks: list[Remark] = []
    maker = SampleMaker(settings, luminosity, {*from_data, *settings.free}, of_signals, remarks)
    channels = tuple(_channels(maker, templates, asimov))
    if not channels:
        raise NanoMLError("fit: no channel has a background. Choose other channels, or wider regions.")
    for name in [*strengths.keys() - {it.strength for channel in channels for it in channel.samples}]:
        if needs_signal:
            raise NanoMLError(
                f"fit: {no_signal(strengths[name] or [name])}. Use wider bins, other channels, or another signal."
            )
        nothing = np.zeros_like(channels[0].data)
        absent = Sample(strengths[name][0], name, nothing, nothing, {}, {}, ())
        channels = (replace(channels[0], samples=(absent, *channels[0].samples)), *channels[1:])
    samples = [sample for channel in channels for sample in channel.samples]
    factors = list(dict.fromkeys(name for sample in samples for name in sample.factors))
    shapes = tuple(dict.fromkeys(name for sample in samples for name in sample.shapes))
    twice = [name for name in factors if name in shapes]
    if twice:
        raise NanoMLError(f"fit: {twice[0]} is both a variation of a shape and a log-normal uncertainty. Rename one.")
    free = tuple(dict.fromkeys(name for sample in samples for name in sample.free))
    taken = strengths.keys() & {*factors, *shapes, *free}
    if taken:
        raise NanoMLError(f"fit.signals: {min(taken)} is a nuisance parameter, too. Rename one.")
    eras = [era for era in templates.luminosity if era]
    of_luminosity = {name for components in luminosity.values() for name in components}
    kinds = {name: "luminosity" if maker.sources[name] in of_luminosity else "normalisation" for name in factors}
    sources = {name: (name, maker.sources[name]) for name in (*factors, *shapes, *free)}
    groups = _groups(settings, {**kinds, **dict.fromkeys(shapes, "shape")}, sources, eras)
    remarks.extend(_unknown(settings, eras, sources, {*shapes}, {*free}))
    return StatisticalModel(strengths, channels, groups, free, asimov, tuple(remarks))


def no_signal(signals: Sequence[str]) -> str:
    """Why there is nothing to fit, in words."""
    return f"no channel has events of {listed(signals)}"


def _groups(
    settings: Fit, kinds: Mapping[str, str], sources: Mapping[str, tuple[str, str]], eras: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The groups of the settings, by both names of a parameter, and the others."""
    found = {
        group: [name for name in kinds if any(is_called(each, it, eras) for each in sources[name] for it in patterns)]
        for group, patterns in settings.groups.items()
    }
    return completed(found, kinds)


def completed(groups: Mapping[str, Sequence[str]], kinds: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Groups of those parameters that there are; the parameters that are in none are together by kind."""
    found = {group: [it for it in names if it in kinds] for group, names in groups.items()}
    grouped = {name for names in found.values() for name in names}
    for name, kind in kinds.items():
        if name not in grouped:
            found.setdefault(kind, []).append(name)
    return {group: tuple(names) for group, names in found.items() if names}


def model_of(
    channels: Sequence[FitChannel],
    groups: Mapping[str, Sequence[str]],
    ranges: Mapping[str, Range],
    remarks: Sequence[Remark],
) -> StatisticalModel:
    """The model of channels that are not made of an analysis's histograms, with its data."""
    strengths: dict[str, dict[str, None]] = {}
    kinds: dict[str, str] = {}
    for it in (sample for channel in channels for sample in channel.samples):
        if it.strength:
            strengths.setdefault(it.strength, {})[it.process] = None
        kinds |= {name: kinds.get(name, "normalisation") for name in it.factors} | dict.fromkeys(it.shapes, "shape")
    free = dict.fromkeys(name for channel in channels for it in channel.samples for name in it.free)
    few = [remark for channel in channels for remark in few_events(channel, channel.data)]
    parts = (completed(groups, kinds), tuple(free), None, (*remarks, *few), ranges)
    return StatisticalModel({name: [*each] for name, each in strengths.items()}, tuple(channels), *parts)


def _unknown(
    settings: Fit,
    eras: Sequence[str],
    sources: Mapping[str, tuple[str, str]],
    shapes: Collection[str],
    free: Collection[str],
) -> Iterator[Remark]:
    """Names in settings that nothing has."""
    own = [it for it in settings.uncorrelated if eras and it not in UNCORRELATED]
    patterns = {"uncorrelated": (own, [*sources]), "smooth": (settings.smooth, shapes)}
    patterns["nuisances"] = ([*settings.nuisances], [*sources])
    known = [name for name in sources if name not in free]
    patterns.update({f"groups.{group}": (each, known) for group, each in settings.groups.items()})
    for key, (each, among) in patterns.items():
        for pattern in each:
            if not any(is_called(it, pattern, eras) for name in among for it in sources[name]):
                yield Remark("unknown", "", "", f"fit.{key}: no nuisance parameter is called {pattern}")


def _channels(maker: SampleMaker, templates: Templates, asimov: float | None) -> Iterator[FitChannel]:
    first = next(iter(maker.strengths.values()), None)
    for region, name in maker.settings.channels.items():
        histogram = templates.histogram(name)
        found = [each for each in histogram.channels if each.region == region]
        if not found:
            raise NanoMLError(f"fit.channels: the histogram {name} has no region {region}. Fill it there.")
        channels = [_channel(maker, histogram, each) for each in found]
        for strength in {it.strength: it for each in channels for it in each.samples if it.strength}:
            _check_background(histogram, channels, strength)
        for channel, each in zip(channels, found, strict=True):
            if not channel.fitted.any():
                what = "is not fitted, since nothing is expected there"
                maker.remarks.append(Remark("not fitted", each.name, "", what))
                continue
            data = channel.expected(asimov, first) if asimov is not None else _observed(name, each)
            maker.remarks.extend(few_events(channel, data if asimov is None else None))
            yield replace(channel, data=data)


def _channel(maker: SampleMaker, histogram: FilledHistogram, channel: HistogramChannel) -> FitChannel:
    """A channel without data yet."""
    maker.remarks.extend(outside(channel))
    samples = []
    for process, template in channel.processes.items():
        total = float(inner(template.nominal).sum())
        if process != DATA and total > 0:
            samples.append(maker.sample(channel, process, template))
        elif process != DATA:
            maker.remarks.append(Remark("empty", channel.name, process, f"is left out: {total:.3g} expected events"))
    (axis, *others) = histogram.axes
    nothing = np.zeros(math.prod(len(each.edges) - 1 for each in histogram.axes))
    fitted = np.sum([nothing, *(it.nominal for it in samples)], axis=0) > 0
    # variations do not fill bins that nominally have nothing: to the other side there would be less
    samples = [replace(it, shapes={name: each.where(fitted) for name, each in it.shapes.items()}) for it in samples]
    edges = axis.edges if not others else tuple(map(float, range(len(nothing) + 1)))  # bins of planes by number
    title = ", ".join(each.quantity for each in histogram.axes)
    return FitChannel(channel.name, channel.region, channel.era, title, edges, tuple(samples), nothing, fitted)


def _observed(name: str, channel: HistogramChannel) -> Floats:
    data = channel.processes.get(DATA)
    if data is None:
        raise NanoMLError(
            f"fit: the histogram {name} has no observed data in {channel.name}. Fit the expected events, or unblind."
        )
    return inner(data.nominal)


def _check_background(histogram: FilledHistogram, channels: Sequence[FitChannel], strength: str | None) -> None:
    """An error if a bin has signal of this strength and nothing else, with bins that would do."""
    parts = [
        [
            sum((it.nominal for it in each.samples if (it.strength == strength) == is_signal), np.zeros_like(each.data))
            for each in channels
        ]
        for is_signal in (True, False)
    ]
    bare = [(signal > 0) & (background <= 0) for signal, background in zip(*parts, strict=True)]
    wrong = [number for number, bins in enumerate(bare) if bins.any()]
    if not wrong:
        return
    first, is_line = channels[wrong[0]], len(histogram.axes) == 1
    places = [
        f"{first.edges[it]:g} to {first.edges[it + 1]:g}" if is_line else f"{it + 1}"
        for it in np.flatnonzero(bare[wrong[0]])
    ]
    empty = [channels[it].name for it in wrong if not parts[1][it].any()]
    starts, do = with_background([*range(len(bare[0]))], *parts), "Use wider bins"
    if empty:
        do = f"{listed(empty)} has no background at all: leave it out of fit.channels, or widen its cut"
    elif is_line:
        edges = ", ".join(f"{it:.6g}" for it in [*(first.edges[it] for it in starts), first.edges[-1]])
        do = f"These edges work: {{edges: [{edges}]}}; `bins: auto` chooses edges by itself"
    raise NanoMLError(
        f"histogram {histogram.name}: a signal without any background is expected in {listed([channels[it].name for it in wrong])}, in "
        f"{first.name} in bin {listed(places)}. Any event there would be a discovery. {do}."
    )


def few_events(channel: FitChannel, data: Floats | None) -> Iterator[Remark]:
    """The bins in which Combine gives each process its own statistical parameter, and the workspace does not; and those not fitted."""
    backgrounds = [sample for sample in channel.samples if not sample.strength]
    total = sum((each.nominal for each in backgrounds), np.zeros_like(channel.data))
    variances = sum((each.errors**2 for each in backgrounds), np.zeros_like(channel.data))
    few = np.flatnonzero(
        (variances > 0) & (np.rint(total**2 / np.where(variances > 0, variances, 1)) <= EFFECTIVE_EVENTS)
    )
    if few.size:
        what = f"{EFFECTIVE_EVENTS} effective background events or fewer in bin{'s' if few.size > 1 else ''} {_numbers(few)}"
        yield Remark("few events", channel.name, "", what)
    empty = np.flatnonzero(~channel.fitted)
    if empty.size:
        seen = "" if data is None else f", and {data[empty].sum():.0f} events of data are there"
        bins = f"bins {_numbers(empty)} are" if empty.size > 1 else f"bin {_numbers(empty)} is"
        yield Remark("empty", channel.name, "", f"{bins} not fitted, since nothing is expected there{seen}")


def _numbers(places: NDArray[np.int64]) -> str:
    return ", ".join(str(it + 1) for it in places)
