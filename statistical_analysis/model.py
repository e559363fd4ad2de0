"""The statistical model of an analysis: expected events by channel and process, and what changes them; no program's format."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from MLTools.NanoML.config.fit import UNCORRELATED, Fit, LogNormal
from MLTools.NanoML.contracts.templates import DATA, FilledHistogram, HistogramChannel, Template, Templates
from MLTools.NanoML.errors import NanoMLError
from statistical_analysis.samples import Remark, Sample, SampleMaker, is_called
from statistical_analysis.shapes import Floats, inner

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

    def expected(self, strength: float = 1.0) -> Floats:
        """Expected events at a strength of the signal, float64 of shape (bins,)."""
        parts = [strength * each.nominal if each.is_signal else each.nominal for each in self.samples]
        return np.sum(parts, axis=0)


@dataclass(frozen=True)
class StatisticalModel:
    """Channels that are fitted together, for the strength of a signal.

    Attributes
    ----------
    signal
        The process whose strength is fitted.
    channels
        All channels, in the order of the configuration, and by era.
    groups
        Nuisance parameters by group. Those that are in none of the configuration's are in luminosity, normalisation (log-normal
        uncertainties of the configuration) or shape (weights and shifts of the selection).
    free
        The parameters by which the fit normalises processes.
    asimov
        The strength of the signal in the data of all channels, which are those expected; None if they are observed.
    remarks
        What was changed, left out, or looks wrong.
    """

    signal: str
    channels: tuple[FitChannel, ...]
    groups: Mapping[str, tuple[str, ...]]
    free: tuple[str, ...]
    asimov: float | None
    remarks: tuple[Remark, ...]

    @property
    def has_signal(self) -> bool:
        """Whether any events of the signal are expected."""
        return any(sample.is_signal and sample.nominal.any() for each in self.channels for sample in each.samples)

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

    - All processes of a histogram but the signal are backgrounds. Underflow and overflow are not part of the fit.
    - A process without events in a channel, or with a negative yield, is left out there.
    - Bins with negative contents are set to zero, and the others scaled so that the yield stays the same. If a variation leaves no
      positive yield, it leaves a hundredth of each bin.
    - Shapes that `settings.smooth` names are smoothed, see `shapes.smooth`: the ratio to the nominal events, at the same yield.
    - A shape that changes no bin by more than 0.1 % is left out.
    - The signal is left out of bins where no background is expected, and a channel without any background is not fitted.
    - The luminosity changes all processes but those that are estimated from data or normalised by the fit.
    - A nuisance parameter is shared by all processes and channels that have it. Those that `settings.uncorrelated` names are each era's
      own, with the era at the end of their names.

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
        The strength of the signal in Asimov data, which are the expected events; None for observed data.
    needs_signal
        Whether it is an error if no events of the signal are expected; if not, it has none in the first channel.

    Raises
    ------
    NanoMLError
        A histogram is missing, there is no signal, observed data are asked for where there are none, and so on.
    """
    signal = settings.signal or templates.signal
    if signal is None:
        raise NanoMLError("fit: there is no signal. Give the class whose strength is fitted, as fit.signal.")
    if signal in settings.free:
        raise NanoMLError(f"fit.free: {signal} is the signal, whose strength is fitted in any case. Remove it.")
    remarks: list[Remark] = []
    maker = SampleMaker(settings, luminosity, {*from_data, *settings.free}, signal, remarks)
    channels = tuple(_Maker(settings, maker, remarks).channels(templates, asimov))
    if not channels:
        raise NanoMLError("fit: no channel has a background. Choose other channels, or wider regions.")
    if not any(sample.is_signal for channel in channels for sample in channel.samples):
        if needs_signal:
            raise NanoMLError(f"fit: {no_signal(signal)}. Use wider bins, other channels, or another signal.")
        nothing = np.zeros_like(channels[0].data)
        absent = Sample(signal, True, nothing, nothing, {}, {}, None)
        channels = (replace(channels[0], samples=(absent, *channels[0].samples)), *channels[1:])
    samples = [sample for channel in channels for sample in channel.samples]
    factors = list(dict.fromkeys(name for sample in samples for name in sample.factors))
    shapes = tuple(dict.fromkeys(name for sample in samples for name in sample.shapes))
    twice = [name for name in factors if name in shapes]
    if twice:
        raise NanoMLError(f"fit: {twice[0]} is both a variation of a shape and a log-normal uncertainty. Rename one.")
    free = tuple(dict.fromkeys(sample.free for sample in samples if sample.free is not None))
    eras = [era for era in templates.luminosity if era]
    of_luminosity = {name for components in luminosity.values() for name in components}
    kinds = {name: "luminosity" if name in of_luminosity else "normalisation" for name in factors}
    groups = _groups(settings, {**kinds, **dict.fromkeys(shapes, "shape")}, eras)
    remarks.extend(_unknown(settings, eras, factors, shapes, free))
    return StatisticalModel(signal, channels, groups, free, asimov, tuple(remarks))


def no_signal(signal: str) -> str:
    """Why there is nothing to fit, in words."""
    return f"no channel has events of {signal} in bins where background is expected"


def _groups(settings: Fit, kinds: Mapping[str, str], eras: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Those of the settings; the parameters that they leave are together by kind."""
    found = {
        group: [name for name in kinds if any(is_called(name, it, eras) for it in patterns)]
        for group, patterns in settings.groups.items()
    }
    grouped = {name for names in found.values() for name in names}
    for name, kind in kinds.items():
        if name not in grouped:
            found.setdefault(kind, []).append(name)
    return {group: tuple(names) for group, names in found.items() if names}


def _unknown(
    settings: Fit, eras: Sequence[str], factors: Sequence[str], shapes: Sequence[str], free: Sequence[str]
) -> Iterator[Remark]:
    """What settings name, and nothing is called."""
    own = [it for it in settings.uncorrelated if eras and it not in UNCORRELATED]
    patterns = {"uncorrelated": (own, [*factors, *shapes, *free]), "smooth": (settings.smooth, shapes)}
    patterns.update({f"groups.{group}": (each, [*factors, *shapes]) for group, each in settings.groups.items()})
    for key, (each, known) in patterns.items():
        for pattern in each:
            if not any(is_called(name, pattern, eras) for name in known):
                yield Remark("unknown", "", "", f"fit.{key}: no nuisance parameter is called {pattern}")


@dataclass(frozen=True)
class _Maker:
    """Makes channels, and remarks about them."""

    settings: Fit
    samples: SampleMaker
    remarks: list[Remark]

    def channels(self, templates: Templates, asimov: float | None) -> Iterator[FitChannel]:
        for region, name in self.settings.channels.items():
            histogram = templates.histogram(name)
            found = [each for each in histogram.channels if each.region == region]
            if not found:
                raise NanoMLError(f"fit.channels: the histogram {name} has no region {region}. Fill it there.")
            for each in found:
                channel = self._channel(histogram, each)
                if all(sample.is_signal for sample in channel.samples):
                    what = "is not fitted, since no background is expected there"
                    self.remarks.append(Remark("not fitted", each.name, "", what))
                    continue
                data = channel.expected(asimov) if asimov is not None else _observed(name, each)
                self.remarks.extend(_few_events(channel))
                yield replace(channel, data=data)

    def _channel(self, histogram: FilledHistogram, channel: HistogramChannel) -> FitChannel:
        """A channel without data yet."""
        samples = tuple(
            self.samples.sample(channel, process, template)
            for process, template in channel.processes.items()
            if process != DATA and self._has_events(channel, process, template)
        )
        samples = tuple(self._above_background(channel, samples))
        (axis, *others) = histogram.axes
        nothing = np.zeros(math.prod(len(each.edges) - 1 for each in histogram.axes))
        edges = axis.edges if not others else tuple(map(float, range(len(nothing) + 1)))  # bins of planes by number
        title = ", ".join(each.quantity for each in histogram.axes)
        return FitChannel(channel.name, channel.region, channel.era, title, edges, samples, nothing)

    def _above_background(self, channel: HistogramChannel, samples: Sequence[Sample]) -> Iterator[Sample]:
        """The processes, the signal without bins where no background is expected: there any event would be a discovery.

        Nor do variations of the background fill them: to the other side there would be less than nothing.
        """
        bare = np.sum([it.nominal for it in samples if not it.is_signal], axis=0) <= 0
        for each in samples:
            if np.ndim(bare) and not each.is_signal:
                each = replace(each, shapes={name: it.where(~bare) for name, it in each.shapes.items()})
            lost = float(each.nominal[bare].sum()) if each.is_signal and np.ndim(bare) else 0.0
            if lost > 0:
                share = lost / float(each.nominal.sum())
                what = f"{share:.2g} of it is left out, in bins where no background is expected. Use wider bins"
                self.remarks.append(Remark("no background", channel.name, each.process, what))
                shapes = {name: it.where(~bare) for name, it in each.shapes.items()}
                left = np.where(bare, 0, each.nominal)
                each = replace(each, nominal=left, errors=np.where(bare, 0, each.errors), shapes=shapes)
            if each.nominal.sum() > 0:
                yield each

    def _has_events(self, channel: HistogramChannel, process: str, template: Template) -> bool:
        total = float(inner(template.nominal).sum())
        if total <= 0:
            self.remarks.append(Remark("empty", channel.name, process, f"is left out: {total:.3g} expected events"))
        return total > 0


def _observed(name: str, channel: HistogramChannel) -> Floats:
    data = channel.processes.get(DATA)
    if data is None:
        raise NanoMLError(
            f"fit: the histogram {name} has no observed data in {channel.name}. Fit the expected events, or unblind."
        )
    return inner(data.nominal)


def _few_events(channel: FitChannel) -> Iterator[Remark]:
    """The bins in which Combine gives each process its own statistical parameter, and the workspace does not."""
    backgrounds = [sample for sample in channel.samples if not sample.is_signal]
    total = sum((each.nominal for each in backgrounds), np.zeros_like(channel.data))
    variances = sum((each.errors**2 for each in backgrounds), np.zeros_like(channel.data))
    few = np.flatnonzero(
        (variances > 0) & (np.rint(total**2 / np.where(variances > 0, variances, 1)) <= EFFECTIVE_EVENTS)
    )
    if few.size:
        bins = ", ".join(str(number + 1) for number in few)
        what = f"{EFFECTIVE_EVENTS} effective background events or fewer in bin{'s' if few.size > 1 else ''} {bins}"
        yield Remark("few events", channel.name, "", what)
    if (total <= 0).any():
        bins = ", ".join(str(number + 1) for number in np.flatnonzero(total <= 0))
        yield Remark("empty", channel.name, "", f"no background is expected in bin {bins}")
