"""Processes of histograms as samples of a fit: their templates, and what is uncertain about them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from MLTools.NanoML.config.fit import Fit, LogNormal, norm
from MLTools.NanoML.contracts.templates import HistogramChannel, Template
from statistical_analysis.shapes import LEAST_BINS, SMALLEST_CHANGE, Floats, Shape, inner, positive

_LOPSIDED, _LARGE = 3.0, 0.02  # a change to one side over that to the other, and of the yield
_LEAST_LEFT = 0.01  # of a process, in a variation that leaves less than nothing


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
        Log-normal uncertainties of the yield, by nuisance parameter.
    free
        The parameter by which the fit normalises the process; None if there is none.
    rough
        Variations as they were before they were smoothed, by nuisance parameter.
    """

    process: str
    is_signal: bool
    nominal: Floats
    errors: Floats
    shapes: Mapping[str, Shape]
    factors: Mapping[str, LogNormal]
    free: str | None
    rough: Mapping[str, Shape] = field(default_factory=dict)


@dataclass(frozen=True)
class Remark:
    """Something about the model that its user should know."""

    # negative, emptied, empty, pruned, smoothed, one-sided, few events, no background, not fitted, renamed or unknown
    kind: str
    channel: str
    process: str
    what: str


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
    signal
        The process whose strength is fitted.
    remarks
        To which remarks are added.
    """

    settings: Fit
    luminosity: Mapping[str, Mapping[str, LogNormal]]
    not_by_luminosity: Collection[str]
    signal: str
    remarks: list[Remark]

    def sample(self, channel: HistogramChannel, process: str, template: Template) -> Sample:
        """A process of a channel, with a positive yield."""
        nominal = inner(template.nominal)
        kept, scale = positive(nominal)
        if scale != 1:
            bins = int(np.count_nonzero(nominal < 0))
            what = f"{bins} negative bin{'s are' if bins > 1 else ' is'} set to zero, the others scaled by {scale:.4g}"
            self.remarks.append(Remark("negative", channel.name, process, what))
        era, errors = channel.era, scale * np.sqrt(inner(template.variances))
        rough = {
            self._named(nuisance, era): Shape(
                *(
                    self._varied(channel, process, nuisance, kept, inner(varied.get(nuisance, template.nominal)))
                    for varied in (template.up, template.down)
                )
            )
            for nuisance in template.up
        }
        smoothed = self._smoothed(channel, process, template, kept, rough)
        shapes = {
            name: shape
            for name, shape in {**rough, **smoothed}.items()
            if self._matters(channel, process, name, kept, shape)
        }
        return Sample(
            process,
            process == self.signal,
            kept,
            errors,
            shapes,
            self._factors(process, era),
            self._named(norm(process), era) if process in self.settings.free else None,
            {name: rough[name] for name in smoothed if name in shapes},
        )

    def _varied(
        self, channel: HistogramChannel, process: str, nuisance: str, nominal: Floats, varied: Floats
    ) -> Floats:
        """A variation without negative bins."""
        if varied.sum() <= 0:
            what = f"{nuisance} leaves {varied.sum():.3g} events; {_LEAST_LEFT:.0%} of each bin is taken instead"
            self.remarks.append(Remark("emptied", channel.name, process, what))
            return _LEAST_LEFT * nominal
        return positive(varied)[0]

    def _smoothed(
        self, channel: HistogramChannel, process: str, template: Template, nominal: Floats, shapes: Mapping[str, Shape]
    ) -> dict[str, Shape]:
        """The variations that settings want smooth; a remark on what that changes."""
        eras = [channel.era] if channel.era else []
        names = [name for name in shapes if any(is_called(name, it, eras) for it in self.settings.smooth)]
        if names and (template.nominal.ndim > 1 or len(nominal) < LEAST_BINS):
            why = "there are several axes" if template.nominal.ndim > 1 else f"there are fewer than {LEAST_BINS} bins"
            what = f"not smoothed, since {why}: {', '.join(names)}"
            self.remarks.append(Remark("smoothed", channel.name, process, what))
            return {}
        found = {name: shapes[name].smoothed(nominal) for name in names}
        if found:
            changes = (f"{100 * it.distance(shapes[name], nominal):.2g} % ({name})" for name, it in found.items())
            what = f"smoothing changes bins by up to {', '.join(changes)}"
            self.remarks.append(Remark("smoothed", channel.name, process, what))
        return found

    def _matters(self, channel: HistogramChannel, process: str, nuisance: str, nominal: Floats, shape: Shape) -> bool:
        """Whether a shape is kept; a remark if it is not, and if its changes of the yield up and down do not balance."""
        if not shape.changes(nominal):
            self.remarks.append(Remark("pruned", channel.name, process, f"{nuisance} changes nothing: it is left out"))
            return False
        up, down = (float(each.sum() / nominal.sum()) - 1 for each in (shape.up, shape.down))
        if up * down > 0 and min(abs(up), abs(down)) > SMALLEST_CHANGE:
            how = "both in the same direction"
        elif max(abs(up), abs(down)) > max(_LARGE, _LOPSIDED * min(abs(up), abs(down))):
            how = "which do not balance"
        else:
            return True
        what = f"{nuisance} changes the yield by {up:+.1%} up and {down:+.1%} down, {how}"
        self.remarks.append(Remark("one-sided", channel.name, process, what))
        return True

    def _factors(self, process: str, era: str | None) -> dict[str, LogNormal]:
        """The log-normal uncertainties of a process."""
        found: dict[str, LogNormal] = {}
        if process not in self.not_by_luminosity:
            found.update(self.luminosity.get(era or "", {}))
        for nuisance, processes in self.settings.normalisations.items():
            if process in processes:
                name, given = self._named(nuisance, era), processes[process]
                found[name] = found[name] * given if name in found else given
        return found

    def _named(self, nuisance: str, era: str | None) -> str:
        """The name of a parameter in an era: its own if eras do not share it."""
        is_own = era is not None and any(fnmatchcase(nuisance, it) for it in self.settings.uncorrelated)
        return f"{nuisance}_{era}" if is_own and not nuisance.endswith(f"{era}") else nuisance
