"""The statistical model of an analysis: expected events by channel and process, and what changes them; no program's format."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.config.fit import UNCORRELATED, Fit, norm
from MLTools.NanoML.contracts.templates import DATA, FilledHistogram, HistogramChannel, Template, Templates
from MLTools.NanoML.errors import NanoMLError

SMALLEST_CHANGE = 1e-3
"""A shape that changes no bin by more than this, relative to its content, is left out."""
EFFECTIVE_EVENTS = 10
"""Where fewer effective background events are expected in a bin, Combine gives each process a statistical parameter of its own."""
_LEAST_LEFT = 0.01  # of a process, in a variation that leaves less than nothing
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Expected events at +1 and at -1 sigma of a nuisance parameter, float64 of shape (bins,)."""

    up: Floats
    down: Floats


@dataclass(frozen=True)
class Sample:
    """The expected events of a process in a channel.

    Attributes
    ----------
    nominal, errors
        Expected events and their statistical errors, float64 of shape (bins,).
    shapes
        Variations, by nuisance parameter.
    factors
        What the yield is multiplied by at +1 sigma, and divided by at -1 sigma, by nuisance parameter: log-normal uncertainties.
    free
        The parameter by which the fit normalises the process; None if there is none.
    """

    process: str
    is_signal: bool
    nominal: Floats
    errors: Floats
    shapes: Mapping[str, Shape]
    factors: Mapping[str, float]
    free: str | None


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
class Remark:
    """Something about the model that its user should know."""

    kind: str  # negative, emptied, empty, pruned, one-sided, few events, no background or unknown
    channel: str
    process: str
    what: str


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
        Nuisance parameters by what they are: luminosity, normalisation (log-normal uncertainties of the configuration) and shape
        (weights and shifts of the selection).
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
    def nuisances(self) -> tuple[str, ...]:
        """All nuisance parameters with a Gaussian constraint, but for statistical errors."""
        return tuple(name for names in self.groups.values() for name in names)


def statistical_model(
    templates: Templates,
    settings: Fit,
    luminosity: Mapping[str, Mapping[str, float]],
    from_data: Collection[str] = (),
    asimov: float | None = 0.0,
) -> StatisticalModel:
    """Make the statistical model of histograms.

    - All processes of a histogram but the signal are backgrounds. Underflow and overflow are not part of the fit.
    - A process without events in a channel, or with a negative yield, is left out there.
    - Bins with negative contents are set to zero, and the others scaled so that the yield stays the same. If a variation leaves no
      positive yield, it leaves a hundredth of each bin.
    - A shape that changes no bin by more than 0.1 % is left out.
    - The signal is left out of bins where no background is expected.
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
        Relative uncertainties of the luminosity by era and nuisance parameter, as of `config.fit.luminosity_uncertainties`.
    from_data
        The processes that are estimated from data.
    asimov
        The strength of the signal in Asimov data, which are the expected events; None for observed data.

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
    maker = _Maker(settings, luminosity, {*from_data, *settings.free}, signal, [])
    channels = tuple(maker.channels(templates, asimov))
    if not any(sample.is_signal for channel in channels for sample in channel.samples):
        raise NanoMLError(f"fit: no channel has events of {signal}. Choose other channels, or another signal.")
    samples = [sample for channel in channels for sample in channel.samples]
    factors = list(dict.fromkeys(name for sample in samples for name in sample.factors))
    shapes = tuple(dict.fromkeys(name for sample in samples for name in sample.shapes))
    twice = [name for name in factors if name in shapes]
    if twice:
        raise NanoMLError(f"fit: {twice[0]} is both a variation of a shape and a log-normal uncertainty. Rename one.")
    of_luminosity = {name for components in luminosity.values() for name in components}
    groups = {
        "luminosity": tuple(name for name in factors if name in of_luminosity),
        "normalisation": tuple(name for name in factors if name not in of_luminosity),
        "shape": shapes,
    }
    free = tuple(dict.fromkeys(sample.free for sample in samples if sample.free is not None))
    remarks = (*maker.remarks, *_unknown(settings, templates, [*factors, *shapes, *free]))
    return StatisticalModel(signal, channels, {key: it for key, it in groups.items() if it}, free, asimov, remarks)


def _unknown(settings: Fit, templates: Templates, names: Sequence[str]) -> Iterator[Remark]:
    """What `uncorrelated` names, and nothing is called."""
    eras = [era for era in templates.luminosity if era]
    for pattern in settings.uncorrelated:
        possible = [pattern, *(f"{pattern}_{era}" for era in eras)]
        if eras and pattern not in UNCORRELATED and not any(fnmatchcase(name, it) for name in names for it in possible):
            yield Remark("unknown", "", "", f"fit.uncorrelated: no nuisance parameter is called {pattern}")


@dataclass(frozen=True)
class _Maker:
    """Makes channels, and remarks about them."""

    settings: Fit
    luminosity: Mapping[str, Mapping[str, float]]
    not_by_luminosity: Collection[str]
    signal: str
    remarks: list[Remark]

    def channels(self, templates: Templates, asimov: float | None) -> Iterator[FitChannel]:
        for region, name in self.settings.channels.items():
            histogram = templates.histogram(name)
            found = [each for each in histogram.channels if each.region == region]
            if not found:
                raise NanoMLError(f"fit.channels: the histogram {name} has no region {region}. Fill it there.")
            for each in found:
                channel = self._channel(histogram, each)
                if channel is None:
                    self.remarks.append(Remark("empty", each.name, "", "no events are expected: it is not fitted"))
                    continue
                data = channel.expected(asimov) if asimov is not None else _observed(name, each)
                self.remarks.extend(_few_events(channel))
                yield replace(channel, data=data)

    def _channel(self, histogram: FilledHistogram, channel: HistogramChannel) -> FitChannel | None:
        """A channel without data yet; None without any events."""
        samples = tuple(
            self._sample(channel, process, template)
            for process, template in channel.processes.items()
            if process != DATA and self._has_events(channel, process, template)
        )
        samples = tuple(self._above_background(channel, samples))
        if not samples:
            return None
        nothing = np.zeros_like(samples[0].nominal)
        (axis, *others) = histogram.axes
        edges = axis.edges if not others else tuple(map(float, range(len(nothing) + 1)))  # bins of planes by number
        title = ", ".join(each.quantity for each in histogram.axes)
        return FitChannel(channel.name, channel.region, channel.era, title, edges, samples, nothing)

    def _above_background(self, channel: HistogramChannel, samples: Sequence[Sample]) -> Iterator[Sample]:
        """The processes, the signal without bins where no background is expected: there any event would be a discovery."""
        bare = np.sum([it.nominal for it in samples if not it.is_signal], axis=0) <= 0
        for each in samples:
            lost = float(each.nominal[bare].sum()) if each.is_signal and np.ndim(bare) else 0.0
            if lost > 0:
                share = lost / float(each.nominal.sum())
                what = f"{share:.2g} of it is left out, in bins where no background is expected. Use wider bins"
                self.remarks.append(Remark("no background", channel.name, each.process, what))
                shapes = {
                    name: Shape(np.where(bare, 0, it.up), np.where(bare, 0, it.down))
                    for name, it in each.shapes.items()
                }
                left = np.where(bare, 0, each.nominal)
                each = replace(each, nominal=left, errors=np.where(bare, 0, each.errors), shapes=shapes)
            if each.nominal.sum() > 0:
                yield each

    def _has_events(self, channel: HistogramChannel, process: str, template: Template) -> bool:
        total = float(_inner(template.nominal).sum())
        if total <= 0:
            self.remarks.append(Remark("empty", channel.name, process, f"is left out: {total:.3g} expected events"))
        return total > 0

    def _sample(self, channel: HistogramChannel, process: str, template: Template) -> Sample:
        nominal = _inner(template.nominal)
        positive, scale = _positive(nominal)
        if scale != 1:
            bins = int(np.count_nonzero(nominal < 0))
            what = f"{bins} negative bin{'s are' if bins > 1 else ' is'} set to zero, the others scaled by {scale:.4g}"
            self.remarks.append(Remark("negative", channel.name, process, what))
        shapes = {}
        for nuisance in template.up:
            up, down = (
                self._varied(channel, process, nuisance, positive, _inner(varied.get(nuisance, template.nominal)))
                for varied in (template.up, template.down)
            )
            if self._matters(channel, process, nuisance, positive, Shape(up, down)):
                shapes[self._named(nuisance, channel.era)] = Shape(up, down)
        errors = scale * np.sqrt(_inner(template.variances))
        free = self._named(norm(process), channel.era) if process in self.settings.free else None
        factors = self._factors(process, channel.era)
        return Sample(process, process == self.signal, positive, errors, shapes, factors, free)

    def _varied(
        self, channel: HistogramChannel, process: str, nuisance: str, nominal: Floats, varied: Floats
    ) -> Floats:
        """A variation without negative bins."""
        if varied.sum() <= 0:
            what = f"{nuisance} leaves {varied.sum():.3g} events; taken is {_LEAST_LEFT:.0%} of each bin"
            self.remarks.append(Remark("emptied", channel.name, process, what))
            return _LEAST_LEFT * nominal
        return _positive(varied)[0]

    def _matters(self, channel: HistogramChannel, process: str, nuisance: str, nominal: Floats, shape: Shape) -> bool:
        """Whether a shape is kept; a remark if it is not, and if it changes the yield to one side alone."""
        if all((np.abs(each - nominal) <= SMALLEST_CHANGE * nominal).all() for each in (shape.up, shape.down)):
            self.remarks.append(Remark("pruned", channel.name, process, f"{nuisance} changes nothing: it is left out"))
            return False
        up, down = (float(each.sum() / nominal.sum()) - 1 for each in (shape.up, shape.down))
        if up * down > 0 and min(abs(up), abs(down)) > SMALLEST_CHANGE:
            what = f"{nuisance} changes the yield by {up:+.1%} up and {down:+.1%} down, both to one side"
            self.remarks.append(Remark("one-sided", channel.name, process, what))
        return True

    def _factors(self, process: str, era: str | None) -> dict[str, float]:
        """The log-normal uncertainties of a process."""
        found: dict[str, float] = {}
        if process not in self.not_by_luminosity:
            found = {name: 1 + value for name, value in self.luminosity.get(era or "", {}).items()}
        for nuisance, processes in self.settings.normalisations.items():
            if process in processes:
                name = self._named(nuisance, era)
                found[name] = found.get(name, 1.0) * (1 + processes[process])
        return found

    def _named(self, nuisance: str, era: str | None) -> str:
        """The name of a parameter in an era: its own if eras do not share it."""
        is_own = era is not None and any(fnmatchcase(nuisance, it) for it in self.settings.uncorrelated)
        return f"{nuisance}_{era}" if is_own and not nuisance.endswith(f"{era}") else nuisance


def _inner(values: Floats) -> Floats:
    """The bins without underflow and overflow, those of several axes in a row."""
    return values[(slice(1, -1),) * values.ndim].ravel()


def _positive(values: Floats) -> tuple[Floats, float]:
    """Contents with negative bins set to zero and the others scaled to the same positive sum, and by how much."""
    positive = np.maximum(values, 0)
    scale = float(values.sum() / positive.sum()) if (values < 0).any() else 1.0
    return scale * positive, scale


def _observed(name: str, channel: HistogramChannel) -> Floats:
    data = channel.processes.get(DATA)
    if data is None:
        raise NanoMLError(
            f"fit: the histogram {name} has no observed data in {channel.name}. Fit the expected events, or unblind."
        )
    return _inner(data.nominal)


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
