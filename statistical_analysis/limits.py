"""The results of the fits at all values of the parameter of a signal: limits against its mass, and which masses are excluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MLTools.NanoML.atomic import make_directory, write_json, write_text
from MLTools.NanoML.contracts.hypothesis import Hypothesis
from MLTools.NanoML.contracts.plain import plain
from MLTools.NanoML.contracts.templates import Templates
from statistical_analysis.results import SCHEMA, Limit, Parameter, Results, Significance

Ranges = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class FittedPoint:
    """A value of the parameter, the directory of its fit, and the cross section [pb] of the signal there, if that is known."""

    hypothesis: Hypothesis
    directory: Path
    cross_section: float | None

    @property
    def results(self) -> Path:
        """The file with the results of the fit."""
        return self.directory / "results.json"


@dataclass(frozen=True)
class LimitsJob:
    """The fits at all values in rising order, the file of the histograms, where results go, and the energy [TeV] of each era."""

    points: Sequence[FittedPoint]
    source: Path
    directory: Path
    energies: Mapping[str, float | None]


@dataclass(frozen=True)
class Point:
    """The results at a value of the parameter; `fit` is the directory of its fit, and the cross section [pb] that of the samples."""

    value: float
    fit: str
    cross_section: float | None
    strength: Parameter
    limit: Limit
    significance: Significance


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
        values its logarithm is interpolated linearly; beyond them nothing is excluded.
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
    def is_cross_section(self) -> bool:
        """Whether the cross section is known everywhere, so that limits on it can be given."""
        return all(point.cross_section is not None for point in self.points)


def collect(job: LimitsJob) -> dict[str, str]:
    """Read the results of all fits, and write what they are together: numbers, figures, page; return the summary."""
    from statistical_analysis.report.limits import draw_limits, limits_report  # matplotlib takes a second

    templates = Templates.read(job.source)
    limits = together([(it, Results.read(it.results)) for it in job.points])
    directory = make_directory(job.directory)
    drawn = draw_limits(limits, templates.conditions(templates.luminosity, job.energies), directory)
    write_text(directory / "report.html", limits_report(limits, drawn, directory))
    write_json(directory / "results.json", {"schema": SCHEMA, **plain(limits)})
    return {"summary": limits.summary}


def together(fits: Sequence[tuple[FittedPoint, Results]]) -> Limits:
    """The results of fits at values of the parameter in rising order."""
    points = tuple(
        Point(it.hypothesis.value, it.directory.name, it.cross_section, found.strength, found.limit, found.significance)
        for it, found in fits
    )
    (first, results), values = fits[0], [point.value for point in points]
    expected = excluded(values, [point.limit.expected[2] for point in points])
    seen = [point.limit.observed for point in points if point.limit.observed is not None]
    observed = excluded(values, seen) if len(seen) == len(values) else None
    text = summary(first.hypothesis.parameter, points, expected, observed, results.unblinded)
    return Limits(
        results.creator, text, results.unblinded, results.signal, first.hypothesis.parameter, points, expected, observed
    )


def excluded(values: Sequence[float], limits: Sequence[float]) -> Ranges:
    """Ranges of rising values in which limits on the signal strength are below one; their logarithms are interpolated linearly."""
    heights, found, begin = np.log(limits), [], None
    for number, (value, height) in enumerate(zip(values, heights, strict=True)):
        if (height < 0) != (begin is not None):  # it crosses one between the last value and this
            edge = value
            if number:
                last = heights[number - 1]
                edge = values[number - 1] + (value - values[number - 1]) * last / (last - height)
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


def summary(
    parameter: str, points: Sequence[Point], expected: Ranges, observed: Ranges | None, unblinded: str | None
) -> str:
    """The result in one line: limits on the signal strength, and which values are excluded."""
    ordered = sorted(points, key=lambda it: it.limit.expected[2])
    strengths = " to ".join(
        f"{it.limit.expected[2]:.3g} ({parameter} = {it.value:.9g})" for it in (ordered[0], ordered[-1])
    )
    text = f"expected limits on the signal strength from {strengths} at {points[0].limit.level:.0%}".replace("%", " %")
    text = f"{text} CL; expected to be excluded: {in_words(parameter, expected)}"
    if observed is None:
        return f"{text}; blinded"
    return f"{text}; excluded: {in_words(parameter, observed)}; {unblinded or 'with data'}"
