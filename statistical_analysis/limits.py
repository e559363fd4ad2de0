"""The results of the fits at all values of the parameter of a signal: limits against its mass, and which masses are excluded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

import numpy as np

from MLTools.NanoML.contracts.blinding import Unblinding
from MLTools.NanoML.contracts.templates import Hypothesis
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.page import Digest, digits
from MLTools.NanoML.report.section import PRIVATE_WORK, Style
from MLTools.NanoML.schema.roles import READS, WRITES
from statistical_analysis.results import LEVEL, Limit, NoFit, Parameter, Results, Significance

Ranges = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class FittedPoint:
    """A value of the parameter, the results of its fit, and the cross section [pb] of the signal there, if that is known."""

    hypothesis: Hypothesis
    results: Path = field(metadata=READS)
    cross_section: float | None


@dataclass(frozen=True)
class LimitsJob:
    """The fits in rising order, the histograms, where results go, regions, unblindings, and the style."""

    points: Sequence[FittedPoint]
    source: Path = field(metadata=READS)
    directory: Path = field(metadata=WRITES)
    regions: Sequence[str]
    log: Sequence[Unblinding] = ()
    style: Style = PRIVATE_WORK


@dataclass(frozen=True)
class Point:
    """The results at a value of the parameter.

    Attributes
    ----------
    fit
        The directory of the fit.
    cross_section
        That of the samples [pb].
    limit, highest
        The limit on the signal strength; None if it is above the highest strength that a fit can find.
    strength, highest, significance
        None if there is no fit, since the signal has no events where background is expected.
    """

    value: float
    fit: str
    cross_section: float | None
    strength: Optional[Parameter] = None
    limit: Optional[Limit] = None
    highest: Optional[float] = None
    significance: Optional[Significance] = None

    @classmethod
    def of(cls, point: FittedPoint, found: Results | NoFit) -> Point:
        """From the results of a fit."""
        at = cls(point.hypothesis.value, point.results.parent.name, point.cross_section)
        if isinstance(found, NoFit):
            return at
        return replace(
            at, strength=found.strength, limit=found.limit, highest=found.highest, significance=found.significance
        )


@dataclass(frozen=True)
class Limits:
    """The results at all values of the parameter, in rising order; of expected data alone if the fits are blind.

    Attributes
    ----------
    summary
        The result in words, one line.
    unblinded
        Who unblinded the analysis, and when; None if it is blind.
    excluded, excluded_observed
        Ranges of the parameter in which the limit on the signal strength is below one, expected (median) and observed. Between the
        values its logarithm is interpolated linearly; beyond them, and next to values without a limit, nothing is excluded.
    """

    creator: str
    summary: str
    unblinded: str | None
    signal: str
    parameter: str
    points: tuple[Point, ...]
    excluded: Ranges
    excluded_observed: Ranges | None

    @property
    def digest(self) -> Digest:
        """The result as the page of the analysis has it."""
        is_blind = self.excluded_observed is None
        number = in_words(self.parameter, (self.excluded if is_blind else self.excluded_observed) or ())
        return Digest(number, f"{'expected to be ' * is_blind}excluded at {LEVEL:.0%} CL", f"{self.summary}.")

    @property
    def is_cross_section(self) -> bool:
        """Whether the cross section is known everywhere, so that limits on it can be given."""
        return all(point.cross_section is not None for point in self.points)

    @property
    def missing(self) -> str:
        """Values without a limit, and why, in words; empty if there are none."""
        found = [
            f"{self.parameter} = {point.value:.9g} "
            + ("(no fit)" if point.highest is None else f"(it is above {digits(point.highest, 3)})")
            for point in self.points
            if point.limit is None
        ]
        why = "the signal has too few events, or cannot be told from background"
        return f"no limit at {', '.join(found)}: {why}" if found else ""


def together(fits: Sequence[tuple[FittedPoint, Results | NoFit]]) -> Limits:
    """The results of fits at values of the parameter in rising order."""
    points = tuple(Point.of(it, found) for it, found in fits)
    (first, results), values = fits[0], [point.value for point in points]
    expected = excluded(values, [point.limit.expected[2] if point.limit else None for point in points])
    observed = None
    if all(found.unblinded is not None for _, found in fits):
        observed = excluded(values, [point.limit.observed if point.limit else None for point in points])
    parameter = first.hypothesis.parameter
    signal = listed(results.signals)
    limits = Limits(results.creator, "", results.unblinded, signal, parameter, points, expected, observed)
    return replace(limits, summary=summary(limits))


def excluded(values: Sequence[float], limits: Sequence[Optional[float]]) -> Ranges:
    """Ranges of rising values in which limits on the signal strength are below one; their logarithms are interpolated linearly.

    A range ends at the last value before one without a limit.
    """
    heights, found, begin = [np.inf if it is None else np.log(it) for it in limits], [], None
    for number, (value, height) in enumerate(zip(values, heights, strict=True)):
        if (height < 0) != (begin is not None):  # it crosses one between the last value and this
            edge = value
            if number and heights[number - 1] < np.inf:
                last = heights[number - 1]
                edge = min(values[number - 1] + (value - values[number - 1]) * last / (last - height), value)
            if begin is None:
                begin = float(edge)
            else:
                found.append((begin, float(edge)))
                begin = None
    if begin is not None:
        found.append((begin, float(values[-1])))
    return tuple(found)


def in_words(parameter: str, ranges: Ranges) -> str:
    """Ranges as "mass from 600 to 1240"; "no mass" if there are none."""
    if not ranges:
        return f"no {parameter}"
    return f"{parameter} {' and '.join(f'from {low:.4g} to {high:.4g}' for low, high in ranges)}"


def summary(limits: Limits) -> str:
    """The result in one line: limits on the signal strength, and which values are excluded."""
    parameter = limits.parameter
    found = sorted((it.limit.expected[2], it.value) for it in limits.points if it.limit)
    text = "no limit on the signal strength at all"
    if found:
        strengths = " to ".join(
            f"{strength:.3g} ({parameter} = {value:.9g})" for strength, value in (found[0], found[-1])
        )
        text = f"expected limits on the signal strength from {strengths} at {LEVEL:.0%}".replace("%", " %") + " CL"
    text = f"{text}; expected to be excluded: {in_words(parameter, limits.excluded)}"
    if limits.excluded_observed is not None:
        text = f"{text}; excluded: {in_words(parameter, limits.excluded_observed)}"
    state = "blinded" if limits.excluded_observed is None else limits.unblinded or "with data"
    return "; ".join(filter(None, (text, limits.missing, state)))
