"""Processes of histograms as samples of a fit: their templates, and what is uncertain about them.

Templates and their variations are made such that a fit can use them: without negative bins, and smooth where that is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from MLTools.NanoML.config.fit import Fit, LogNormal, norm
from MLTools.NanoML.contracts.bins import LEAST_LEFT, positive
from MLTools.NanoML.contracts.templates import DATA, HistogramChannel, Template, inner
from MLTools.NanoML.errors import NanoMLError

SMALLEST_CHANGE = 1e-3
"""A shape that changes no bin by more than this, relative to its content, is left out."""
LEAST_BINS = 3
"""Fewer cannot be smoothed."""
Floats = NDArray[np.float64]
_LOPSIDED, _LARGE = 3.0, 0.02  # a change to one side over that to the other, and of the yield
LARGE_CHANGE = 0.1
"""The largest part of a template that clipping or smoothing may have made: beyond it, the page is red."""


@dataclass(frozen=True)
class Shape:
    """Expected events at +1 and at -1 sigma of a nuisance parameter, float64 of shape (bins,)."""

    up: Floats
    down: Floats

    def changes(self, nominal: Floats) -> bool:
        """Whether it changes a bin by more than `SMALLEST_CHANGE`."""
        return any((np.abs(each - nominal) > SMALLEST_CHANGE * nominal).any() for each in (self.up, self.down))

    def smoothed(self, nominal: Floats) -> Shape:
        """The same with smooth ratios to `nominal`, and with the same yields."""
        return Shape(*(_smooth_ratio(each, nominal) for each in (self.up, self.down)))

    def distance(self, other: Shape, nominal: Floats) -> float:
        """The largest difference in a bin, relative to its content."""
        filled = nominal > 0
        differences = (np.abs(one - two)[filled] for one, two in ((self.up, other.up), (self.down, other.down)))
        return float(max((each / nominal[filled]).max() for each in differences))

    def times(self, factor: LogNormal) -> Shape:
        """The same with a factor up and down."""
        return Shape(factor.up * self.up, factor.down * self.down)

    def where(self, kept: NDArray[np.bool_]) -> Shape:
        """The same with nothing in the other bins."""
        return Shape(np.where(kept, self.up, 0), np.where(kept, self.down, 0))


def _smooth_ratio(varied: Floats, nominal: Floats) -> Floats:
    """Bins without nominal events say nothing about the ratio, and stay empty."""
    ratio = np.divide(varied, nominal, out=np.ones_like(nominal), where=nominal > 0)
    found = nominal * smooth(ratio)
    total = float(found.sum())
    return found * float(varied.sum()) / total if total > 0 else varied


def smooth(values: Floats) -> Floats:
    """Smooth a row of numbers by the algorithm 353QH, twice: J. Friedman, Proc. of the 1974 CERN School of Computing.

    Running medians of 3, 5 and 3 numbers, parabolas through flat pieces, and running means; then the same for what is left, which is
    added. These are the numbers of `TH1::Smooth`. See https://cds.cern.ch/record/186223. There are at least `LEAST_BINS` numbers.
    """
    first = _353qh(values)
    found = first + _353qh(values - first)
    return np.maximum(found, 0) if (values >= 0).all() else found


def _353qh(values: Floats) -> Floats:
    found = _medians(values, 3)
    # the ends: medians with where the line through their neighbours would be
    found[0] = np.median([found[1], values[0], 3 * found[1] - 2 * found[2]])
    found[-1] = np.median([found[-2], values[-1], 3 * found[-2] - 2 * found[-3]])
    found = _with_parabolas(_medians(_medians(found, 5), 3))
    means = 0.25 * found[:-2] + 0.5 * found[1:-1] + 0.25 * found[2:]
    return np.concatenate([found[:1], means, found[-1:]])


def _medians(values: Floats, width: int) -> Floats:
    """Running medians, of fewer numbers near the ends, which are kept."""
    found = values.copy()
    for each in range(3, min(width, len(values)) + 1, 2):
        found[each // 2 : len(values) - each // 2] = np.median(sliding_window_view(values, each), axis=-1)
    return found


def _with_parabolas(values: Floats) -> Floats:
    """Medians make peaks and valleys flat: three equal numbers at one become a parabola, which is steep on its steep side."""
    found = values.copy()
    for at in range(2, len(values) - 2):
        flat = values[at]
        left, right = values[at - 2] - flat, values[at + 2] - flat
        if values[at - 1] == flat == values[at + 1] and left * right > 0:
            side = 1 if abs(right) <= abs(left) else -1
            before, after = values[at - 2 * side], values[at + 2 * side]
            found[at] = flat / 0.75 - 0.5 * before + after / 6
            found[at + side] = flat + 0.5 * (after - before)
    return found


@dataclass(frozen=True)
class Sample:
    """The expected events of a process in a channel.

    Attributes
    ----------
    strength
        The strength of the signal that it is; None for a background.
    nominal, errors
        Expected events and their statistical errors, float64 of shape (bins,).
    shapes
        Variations, by nuisance parameter.
    factors
        Log-normal uncertainties of the yield, by nuisance parameter.
    free
        The parameters by which the fit normalises the process.
    rough
        Variations as they were before they were smoothed, by nuisance parameter.
    """

    process: str
    strength: str | None
    nominal: Floats
    errors: Floats
    shapes: Mapping[str, Shape]
    factors: Mapping[str, LogNormal]
    free: tuple[str, ...]
    rough: Mapping[str, Shape] = field(default_factory=dict)

    def times(self, factor: float) -> Sample:
        """The same with all events multiplied."""
        shapes = {name: it.times(LogNormal(factor, factor)) for name, it in self.shapes.items()}
        return replace(self, nominal=factor * self.nominal, errors=factor * self.errors, shapes=shapes)


@dataclass(frozen=True)
class Remark:
    """Something about the model that its user should know."""

    # negative, emptied, empty, outside, pruned, smoothed, one-sided, few events, not fitted, renamed, unknown or translated
    kind: str
    channel: str
    process: str
    what: str
    share: float = 0.0  # of a template that this change made


def outside(channel: HistogramChannel) -> Iterator[Remark]:
    """A remark on the events of processes that are not fitted, since they are in no bin."""
    expected = {name: template.outside for name, template in channel.processes.items() if name != DATA}
    found = ", ".join(f"{name} {text}" for name, text in expected.items() if text)
    if found:
        yield Remark(
            "outside", channel.name, "", f"{found}, where nothing is fitted: use `overflow: add`, or other bins"
        )


def is_called(name: str, pattern: str, eras: Sequence[str]) -> bool:
    """Whether a pattern names a parameter, with or without the era at the end of its name."""
    return any(fnmatchcase(name, it) for it in (pattern, *(f"{pattern}_{era}" for era in eras)))


@dataclass(frozen=True)
class SampleMaker:
    """Makes samples of templates, and remarks on what is changed.

    Attributes
    ----------
    settings, luminosity
        As of `model.statistical_model`.
    not_by_luminosity
        Processes whose yields do not depend on the luminosity.
    strengths
        The strength of each process that is a signal.
    remarks
        To which remarks are added.
    sources
        To which names of parameters are added, each with what it was called in the settings or histograms.
    """

    settings: Fit
    luminosity: Mapping[str, Mapping[str, LogNormal]]
    not_by_luminosity: Collection[str]
    strengths: Mapping[str, str]
    remarks: list[Remark]
    sources: dict[str, str] = field(default_factory=dict)

    def sample(self, channel: HistogramChannel, process: str, template: Template) -> Sample:
        """A process of a channel, with a positive yield."""
        nominal = inner(template.nominal)
        kept, scale = positive(nominal)
        if scale != 1:
            self.remarks.append(_negative(channel, process, "", nominal, scale))
        errors, rough = scale * np.sqrt(inner(template.variances)), {}
        sources: dict[str, str] = {}
        for nuisance in template.up:
            name = self._named(nuisance, channel, process)
            if sources.setdefault(name, nuisance) != nuisance:
                raise NanoMLError(
                    f"fit.nuisances: {sources[name]} and {nuisance} of {process} would both be {name} in {channel.name}. Give one "
                    "another name."
                )
            varied = (inner(each.get(nuisance, template.nominal)) for each in (template.up, template.down))
            rough[name] = Shape(*(self._varied(channel, process, nuisance, kept, each) for each in varied))
        smoothed = self._smoothed(channel, process, template, kept, rough, sources)
        shapes = {
            name: shape
            for name, shape in {**rough, **smoothed}.items()
            if channel.is_unbinned or self._matters(channel, process, name, kept, errors, shape)
        }
        return Sample(
            process,
            self.strengths.get(process),
            kept,
            errors,
            shapes,
            self._factors(channel, process),
            (self._named(norm(process), channel, process),) if process in self.settings.free else (),
            {name: rough[name] for name in smoothed if name in shapes},
        )

    def _varied(
        self, channel: HistogramChannel, process: str, nuisance: str, nominal: Floats, varied: Floats
    ) -> Floats:
        """A variation without negative bins."""
        if varied.sum() <= 0:
            what = f"{nuisance} leaves {varied.sum():.3g} events; {LEAST_LEFT:.0%} of each bin is taken instead"
            self.remarks.append(Remark("emptied", channel.name, process, what, 1.0))
            return LEAST_LEFT * nominal
        found, scale = positive(varied)
        if 1 - scale > LARGE_CHANGE:
            self.remarks.append(_negative(channel, process, f"{nuisance}: ", varied, scale))
        return found

    def _smoothed(
        self,
        channel: HistogramChannel,
        process: str,
        template: Template,
        nominal: Floats,
        shapes: Mapping[str, Shape],
        sources: Mapping[str, str],
    ) -> dict[str, Shape]:
        """The variations that settings want smooth; a remark on what that changes."""
        eras, wanted = [channel.era] if channel.era else [], self.settings.smooth
        names = [
            name for name in shapes if any(is_called(it, each, eras) for it in (name, sources[name]) for each in wanted)
        ]
        if names and (template.nominal.ndim > 1 or len(nominal) < LEAST_BINS):
            why = "there are several axes" if template.nominal.ndim > 1 else f"there are fewer than {LEAST_BINS} bins"
            what = f"not smoothed, since {why}: {', '.join(names)}"
            self.remarks.append(Remark("smoothed", channel.name, process, what))
            return {}
        found = {name: shapes[name].smoothed(nominal) for name in names}
        changes = {name: it.distance(shapes[name], nominal) for name, it in found.items()}
        seen = {name: change for name, change in changes.items() if change >= SMALLEST_CHANGE}
        if seen:
            what = f"smoothing changes bins by up to {', '.join(f'{100 * it:.2g} % ({name})' for name, it in seen.items())}"
            self.remarks.append(Remark("smoothed", channel.name, process, what, max(seen.values())))
        return found

    def _matters(
        self, channel: HistogramChannel, process: str, nuisance: str, nominal: Floats, errors: Floats, shape: Shape
    ) -> bool:
        """Whether a shape is kept; a remark if it is not, and if its changes of the yield up and down do not balance."""
        if not shape.changes(nominal):
            self.remarks.append(Remark("pruned", channel.name, process, f"{nuisance} changes nothing: it is left out"))
            return False
        up, down = (float(each.sum() / nominal.sum()) - 1 for each in (shape.up, shape.down))
        # by n events of weight w, the change is known to w times the root of n at best: of fewer than four it is noise
        least = max(SMALLEST_CHANGE, 4 * float(((errors / nominal.sum()) ** 2).sum()))
        if up * down > 0 and min(abs(up), abs(down)) > least:
            how = "both in the same direction"
        elif max(abs(up), abs(down)) > max(_LARGE, least, _LOPSIDED * min(abs(up), abs(down))):
            how = "which do not balance"
        else:
            return True
        what = f"{nuisance} changes the yield by {up:+.1%} up and {down:+.1%} down, {how}"
        self.remarks.append(Remark("one-sided", channel.name, process, what))
        return True

    def _factors(self, channel: HistogramChannel, process: str) -> dict[str, LogNormal]:
        """The log-normal uncertainties of a process."""
        luminosity = {} if process in self.not_by_luminosity else self.luminosity.get(channel.era or "", {})
        return self.settings.factors(process, luminosity, lambda nuisance: self._named(nuisance, channel, process))

    def _named(self, nuisance: str, channel: HistogramChannel, process: str) -> str:
        """The name of a parameter for a process in a channel, which is that of all that share it."""
        name = self.settings.named(nuisance, process, channel.region, channel.era)
        self.sources.setdefault(name, nuisance)
        return name


def _negative(channel: HistogramChannel, process: str, of: str, values: Floats, scale: float) -> Remark:
    """That bins were set to zero, and which part of the template that is."""
    bins = int(np.count_nonzero(values < 0))
    what = f"{of}{bins} negative bin{'s are' if bins > 1 else ' is'} set to zero, the others scaled by {scale:.4g}"
    return Remark("negative", channel.name, process, what, 1 - scale)
