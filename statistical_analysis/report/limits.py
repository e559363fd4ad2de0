"""The results of the fits at all values of the parameter of a signal: limits and p-values against its mass, and their page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import norm

from MLTools.NanoML.atomic import make_directory, write_json, write_text
from MLTools.NanoML.contracts.blinding import Unblinding
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.errors import listed
from MLTools.NanoML.report.figures import Figures, in_style, legend_above, remove_others, single
from MLTools.NanoML.report.page import Digest, digits, table
from MLTools.NanoML.report.section import COLORS, Block, Caption, Document, Style
from MLTools.NanoML.schema.plain import plain
from statistical_analysis.asymptotic import BANDS
from statistical_analysis.report.page import lead_of, unblindings
from statistical_analysis.report.plots import ONE_SIGMA, TWO_SIGMA
from statistical_analysis.results import (
    LEVEL,
    SCHEMA,
    FittedPoint,
    Limit,
    LimitsJob,
    NoFit,
    Parameter,
    Results,
    Significance,
    read_results,
)

_DECADES = 12  # of p-values that are shown
_PROBABILITIES = Caption(
    "Local p-values",
    "The probability that background alone gives such an excess, or a larger one, at this value. It does not account for how many "
    "values were tried.",
    is_small=True,
)
_UNKNOWN = Significance(np.nan, np.nan)  # a gap
Floats = NDArray[np.float64]
Ranges = tuple[tuple[float, float], ...]


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


def collect(job: LimitsJob, only: Sequence[str] = ()) -> dict[str, str]:
    """Read the results of all fits, and write what they are together: numbers, figures, page; return the summary.

    With `only`, no other figures are drawn than those that it chooses.
    """
    templates = Templates.read(job.source)
    limits = together([(it, read_results(it.results)) for it in job.points])
    directory = make_directory(job.directory)
    channels = [it for each in templates.histograms for it in each.channels if it.region in job.regions]
    drawn = draw_limits(job.style, limits, job.style.conditions(templates.seen(channels)), directory, only)
    write_text(directory / "report.html", limits_report(limits, drawn, job.style, directory, job.log))
    write_json(directory / "results.json", {"schema": SCHEMA, **plain(limits), "digest": plain(limits.digest)})
    return {"summary": limits.summary}


def draw_limits(style: Style, limits: Limits, right: str, directory: Path, only: Sequence[str] = ()) -> list[str]:
    """Draw limits, and with data p-values, as PNG and PDF with their numbers; return their names. `right` are luminosity and energy."""
    drawn = Figures(directory, only)
    drawn.add("limits", partial(limit_figure, style, limits, right), plain(limits.points))
    if limits.excluded_observed is not None and any(it.significance for it in limits.points):
        drawn.add("pvalues", partial(probability_figure, style, limits, right), plain(limits.points))
    remove_others(directory, drawn.names)
    return drawn.names


@in_style
def limit_figure(style: Style, limits: Limits, right: str) -> Figure:
    """The limit on the cross section, or else on the signal strength, against the parameter; with the cross section of the signal."""
    drawn, axes = single(style, right, 9.0, has_data=limits.unblinded is not None)
    values, factors = _values(limits), np.array([_factor(limits, it) for it in limits.points])
    nothing = (np.nan,) * len(BANDS)  # a gap
    bands = np.array([it.limit.expected if it.limit else nothing for it in limits.points]) * factors[:, None]
    axes.fill_between(values, bands[:, 0], bands[:, 4], color=TWO_SIGMA, lw=0, label="Expected, 95 %")
    axes.fill_between(values, bands[:, 1], bands[:, 3], color=ONE_SIGMA, lw=0, label="Expected, 68 %")
    axes.plot(values, bands[:, 2], color="black", ls="--", lw=2.5, marker="o", ms=4, label="Expected, median")
    shown = [bands, factors]
    if limits.excluded_observed is not None:
        observed = np.array([it.limit.observed if it.limit else None for it in limits.points], float) * factors
        axes.plot(values, observed, color="black", lw=2.5, marker="o", ms=7, label="Observed")
        shown.append(observed)
    above = np.array([None if it.limit else it.highest for it in limits.points], float) * factors
    if np.isfinite(above).any():
        axes.plot(
            values, above, color="black", ls="", marker=r"$\uparrow$", ms=24, clip_on=False, label="No limit up to here"
        )
        shown.append(above)
    at = "cross section" if limits.is_cross_section else r"$\mu$ = 1"
    name = f"{style.name(limits.signal)}, {at}"
    axes.plot(values, factors, color=style.color(limits.signal), lw=2.5, label=name)
    axes.set_yscale("log")
    heights = np.concatenate([it.ravel() for it in shown])
    low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
    axes.set_ylim(low / 2, high * 2)
    level = f"{LEVEL:.0%}".replace("%", r" %")
    what = r"cross section [pb]" if limits.is_cross_section else r"signal strength $\mu$"
    axes.set_ylabel(f"{level} CL limit on the {what}")
    _axis(style, axes, limits)
    legend_above(axes)
    return drawn


@in_style
def probability_figure(style: Style, limits: Limits, right: str) -> Figure:
    """The local p-value against the parameter: observed, and expected for a signal strength of one."""
    drawn, axes = single(style, right, 9.0, has_data=limits.unblinded is not None)
    values, found = _values(limits), [it.significance or _UNKNOWN for it in limits.points]
    expected, observed = (
        np.maximum(norm.sf(it), 1e-300) for it in ([x.expected for x in found], [x.observed or 0 for x in found])
    )
    axes.plot(values, observed, color="black", lw=2.5, marker="o", ms=7, label="Observed")
    axes.plot(values, expected, color=COLORS[0], lw=2.5, ls="--", label=r"Expected, $\mu$ = 1")
    decades = int(np.clip(np.ceil(-np.log10(np.nanmin([observed, expected]))), 4, _DECADES))
    for number in (it for it in range(1, 8) if norm.sf(it) > 10.0**-decades):
        axes.axhline(norm.sf(number), color="#717581", lw=1.2, ls=":")
        axes.text(
            values[-1], norm.sf(number), rf"{number}$\sigma$ ", ha="right", va="bottom", fontsize=16, color="#717581"
        )
    axes.set_yscale("log")
    axes.set_ylim(10.0**-decades, 1)
    axes.set_yticks(10.0 ** -np.arange(0, decades + 1, 1 + decades // 6))
    axes.minorticks_off()
    axes.set_ylabel("Local p-value")
    _axis(style, axes, limits)
    legend_above(axes)
    return drawn


def _axis(style: Style, axes: Axes, limits: Limits) -> None:
    values = _values(limits)
    axes.set_xlim(values[0], values[-1])
    axes.set_xlabel(style.axis(limits.parameter))


def _values(limits: Limits) -> Floats:
    return np.array([it.value for it in limits.points])


def _factor(limits: Limits, point: Point) -> float:
    """The factor of a limit on the signal strength: the cross section, if all are known."""
    return point.cross_section if limits.is_cross_section and point.cross_section is not None else 1.0


def limits_report(
    limits: Limits, drawn: Sequence[str], style: Style, directory: Path, log: Sequence[Unblinding] = ()
) -> str:
    """The page as HTML, with the figures that are `drawn` in a directory."""
    reading = (
        "The upper limit by CLs at each value, with the bands in which it is expected without a signal. Where it is below the red line, "
        f"the signal as given is excluded. There are samples at {', '.join(f'{it.value:.9g}' for it in limits.points)}: the lines between "
        "them are straight in the logarithm of the limit."
    )
    links = (
        f'<li><a href="{it.fit}/report.html">{escape(limits.parameter)} = {it.value:.9g}</a></li>'
        for it in limits.points
    )
    blocks = [
        Block("limits", "Limits", "", [("limits", Caption("Limits", reading, is_small=True))], True),
        Block("numbers", "Numbers", _table(limits)),
        *[Block("pvalues", "Local p-values", "", [("pvalues", _PROBABILITIES)], True)] * ("pvalues" in drawn),
        Block("fits", "The fits, each with its verdict", f"<ul>{''.join(links)}</ul>"),
        *unblindings(log, ""),
    ]
    lead = lead_of(_verdict(limits), limits.unblinded, limits.creator)
    title = f"Limits on {limits.signal} by {limits.parameter}"
    return Document(title, "fit/report.html", lead, (), blocks).html(style, directory)


def _verdict(limits: Limits) -> str:
    """Which values are excluded, in words."""
    first, last = (f"{limits.points[at].value:.9g}" for at in (0, -1))
    level = f"{LEVEL:.0%}".replace("%", " %")
    text = f"Expected to be excluded at {level} CL: {in_words(limits.parameter, limits.excluded)}."
    if limits.excluded_observed is not None:
        text = f"Excluded at {level} CL: {in_words(limits.parameter, limits.excluded_observed)}. {text}"
    if limits.missing:
        text = f"{text} There is {limits.missing}."
    return f"{text} Nothing is said below {first} and above {last}, where there are no samples."


def _table(limits: Limits) -> str:
    """All numbers."""
    unit, is_seen = " [pb]" if limits.is_cross_section else "", limits.excluded_observed is not None
    head = [limits.parameter, f"expected limit{unit}", "in 68 % of cases", "in 95 % of cases"]
    head += [f"observed limit{unit}"] * is_seen + ["cross section [pb]"] * limits.is_cross_section
    head += ["expected significance", *["observed significance", "local p-value"] * is_seen]
    rows = []
    for it in limits.points:
        factor, found = _factor(limits, it), it.significance
        upper = ["no signal" if it.highest is None else f"above {digits(it.highest * factor, 3)}"] * (3 + is_seen)
        if it.limit:
            numbers = (*it.limit.expected, *[it.limit.observed or 0] * is_seen)
            lowest, low, median, high, highest, *observed = (digits(each * factor, 3) for each in numbers)
            upper = [median, f"{low} to {high}", f"{lowest} to {highest}", *observed]
        of_signal = [digits(it.cross_section or 0.0, 3)] * limits.is_cross_section
        deviations = ["", *["", ""] * is_seen]
        if found:
            seen = [f"{found.observed or 0:.2f}", digits(norm.sf(found.observed or 0), 2)]
            deviations = [f"{found.expected:.2f}", *seen * is_seen]
        rows.append([f"{it.value:.9g}", *upper, *of_signal, *deviations])
    return table(head, rows)
