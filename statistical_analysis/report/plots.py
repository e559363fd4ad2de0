"""The figures of a fit: limit, scan, contours, impacts, pulls, correlations, channels and smoothed variations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from MLTools.NanoML.report.figures import (
    LEGEND,
    Figures,
    grid,
    in_style,
    legend_above,
    legend_below,
    name_cells,
    name_rows,
    single,
    small,
)
from MLTools.NanoML.report.page import rounded
from MLTools.NanoML.report.section import COLORS, Caption, Style
from MLTools.NanoML.report.stack import Bins, Drawn, Observed, Ratio, Stack, show_varied, stack_figure
from MLTools.NanoML.schema.plain import plain
from statistical_analysis.model import StatisticalModel
from statistical_analysis.results import CONSTRAINED, TOTAL, Channel, Parameter, Results, ending
from statistical_analysis.samples import Sample

_MOST_IMPACTS, _MOST_PULLS, _MOST_CORRELATED = 30, 60, 20  # parameters
_MOST_SMOOTHED = 12  # variations
ONE_SIGMA, TWO_SIGMA = "#607641", "#f5bb54"
"""The bands of expected limits, as CMS recommends them."""
UP, DOWN, PREFIT = "#964a8b", "#5790fc", "#7a21dd"
"""Variations, and what is expected prefit: they are no processes."""
Floats = NDArray[np.float64]
_Draw = TypeVar("_Draw", bound=Callable[..., Figure | None])


@dataclass(frozen=True)
class Axis:
    """The axis of a channel: its title, its bins, luminosity and energy of its events, and what else is to be said of it."""

    title: str
    bins: Bins
    right: str = ""
    note: str = ""


NUMBERS = {
    "limit": ("limit", "highest"),
    "scan": ("scan", "strength"),
    "contours": ("contours",),
    "impacts": ("impacts", "strength"),
    "pulls": ("parameters",),
    "correlations": ("parameters", "correlations"),
}
"""The fields of results that figures of all parameters show."""
FIGURES: dict[str, tuple[Caption, Callable[..., Figure | None]]] = {}
"""The figures of all parameters, by their names, in the order of the page: how to read each, and what draws it, if there is something."""


_OF_STRENGTH = ("limit", "scan", "impacts")  # of which each strength has one


def figures_of(results: Results) -> Iterator[tuple[str, Caption, Callable[..., Figure | None], object]]:
    """The figures of all parameters in the order of the page, those of each strength and of each two: name, caption, draw, numbers."""
    of_one, of_two = {it.of: it for it in results.by_strength}, dict[str, Results]()
    for it in results.contours:
        mine = tuple(each for each in results.contours if each.strengths == it.strengths)
        of_two[f" ({', '.join(it.strengths)})"] = replace(results, contours=mine)
    for name, (caption, draw) in FIGURES.items():
        for of, each in (of_one if name in _OF_STRENGTH else of_two if name == "contours" else {"": results}).items():
            numbers = {key: plain(getattr(each, key)) for key in NUMBERS[name]}
            yield name + ending(of), replace(caption, title=caption.title + of), partial(draw, results=each), numbers


def _symbol(results: Results) -> str:
    """The strength in mathematical notation."""
    name = results.strength.name.replace("_", r"\_")
    start, _, of = name.partition(r"\_")
    if not results.others or name == "mu":
        return r"\mu"
    return rf"\mu_{{\mathrm{{{of}}}}}" if start == "mu" else rf"\mathrm{{{name}}}"


def _measured(results: Results) -> str:
    """The same with its value and error."""
    measured = results.strength.measured.replace("±", r"\pm").replace("+", r"\;{+}")
    return f"${_symbol(results)} = {measured}$"


def shown(caption: Caption) -> Callable[[_Draw], _Draw]:
    """Make a function draw a figure of the page."""

    def register(draw: _Draw) -> _Draw:
        FIGURES[draw.__name__] = caption, draw
        return draw

    return register


@shown(
    Caption(
        "Limit",
        "The upper limit on the signal strength by CLs, with the bands in which it is expected without a signal. The dotted line is the "
        "strength of one: left of it, the signal as given is excluded.",
        is_small=True,
    )
)
@in_style
def limit(style: Style, results: Results, right: str) -> Figure | None:
    """The upper limit with the bands of what is expected without a signal."""
    found = results.limit
    if found is None:
        return None
    figure, axes = single(style, right, ratio=0.62, has_data=results.unblinded is not None)
    lowest, low, median, high, highest = found.expected
    axes.barh(0, highest - lowest, 0.6, left=lowest, color=TWO_SIGMA, label="Expected, 95 %")
    axes.barh(0, high - low, 0.6, left=low, color=ONE_SIGMA, label="Expected, 68 %")
    axes.plot([median, median], [-0.3, 0.3], color="black", ls="--", lw=2.5, label="Expected, median")
    ends = [highest, 1.0]
    if found.observed is not None:
        axes.plot([found.observed] * 2, [-0.3, 0.3], color="black", lw=3, label="Observed")
        ends.append(found.observed)
    axes.axvline(1, 0, 0.5, color=style.color(results.signals[0]), lw=1.5, ls=":")
    axes.set_ylim(-0.6, 0.6)
    axes.set_yticks([])
    axes.set_xlim(0, 1.1 * max(ends))
    axes.set_xlabel(rf"{found.level:.0%} CL limit on the signal strength ${_symbol(results)}$".replace("%", r" %"))
    legend_above(axes)
    return figure


@shown(
    Caption(
        "Likelihood",
        "Twice the negative logarithm of the profile likelihood ratio. It crosses the dashed lines at one and two standard deviations. "
        "Dotted: all parameters with a prefit uncertainty are fixed at their best fit.",
        is_small=True,
    )
)
@in_style
def scan(style: Style, results: Results, right: str) -> Figure:
    """Twice the negative logarithm of the profile likelihood ratio, and of that with statistical errors of the data alone."""
    figure, axes = single(style, right, ratio=0.85, has_data=results.unblinded is not None)
    found = results.scan
    strength = np.linspace(found.strength[0], found.strength[-1], 1000)
    sign = np.sign(np.array(found.strength) - results.strength.value)  # the root of a parabola is a straight line
    likelihood, of_statistics = (
        np.interp(strength, found.strength, sign * np.sqrt(np.maximum(it, 0.0))) ** 2
        for it in (found.likelihood, found.statistical)
    )
    color, total = "black" if results.unblinded else COLORS[0], results.strength
    top = min(max(float(likelihood.max()), 4.0), 9.0)
    total_curve, of_data_curve = (np.where(it <= top, it, np.nan) for it in (likelihood, of_statistics))
    axes.plot(strength, total_curve, color=color, lw=2.5, label="Total uncertainty")
    axes.plot(strength, of_data_curve, color=color, lw=2, ls=":", label="Statistics of data alone")
    text = _measured(results)
    if total.error and results.breakdown:
        of_data = results.breakdown[0].error
        systematic = max(total.error**2 - of_data**2, 0.0) ** 0.5
        value, error, other = (rounded(it, of_data) for it in (total.value, of_data, systematic))
        text = rf"${_symbol(results)} = {value} \pm {error}$ (stat.) $\pm$ {other} (syst.)"
    for level, name in ((1, r"1$\sigma$"), (4, r"2$\sigma$")):
        axes.axhline(level, color="#717581", lw=1.2, ls="--")
        axes.text(strength[-1], level, f"{name} ", ha="right", va="bottom", fontsize=18, color="#717581")
    axes.set_xlim(strength[0], strength[-1])
    axes.set_ylim(0, 1.05 * top)
    legend_above(axes, loc="upper center", title=text, title_fontsize=LEGEND)
    axes.set_xlabel(f"Signal strength ${_symbol(results)}$")
    axes.set_ylabel(r"$-2\,\Delta\ln L$")
    return figure


@shown(
    Caption(
        "Contours",
        "Regions of two signal strengths, by the profile likelihood ratio: twice its negative logarithm is 2.28 (68 %) and 5.99 (95 %) on "
        "the lines, with all other parameters fitted at each point.",
        "A line that ends at a straight edge is cut off by the range of a strength.",
        is_small=True,
    )
)
@in_style
def contours(style: Style, results: Results, right: str) -> Figure:
    """The contours of two signal strengths, the best fit, and where both are one."""
    figure, axes = single(style, right, ratio=0.85, has_data=results.unblinded is not None)
    color, views = "black" if results.unblinded else COLORS[0], {it.strength.name: it for it in results.by_strength}
    for line, ls in zip(results.contours, ("-", "--"), strict=True):
        points = np.array([line.first, line.second]).T[[*range(len(line.first)), 0]]
        if not any(line.is_cut):
            points = CubicSpline(range(len(points)), points, bc_type="periodic")(np.linspace(0, len(points) - 1, 500))
        axes.plot(*points.T, color=color, lw=2.5, ls=ls, label=f"{line.level:.0%} CL".replace("%", " %"))
    first, second = (views[it] for it in results.contours[0].strengths)
    best = "Best fit" if results.unblinded else "Expected"
    axes.plot(first.strength.value, second.strength.value, color=color, marker="P", ms=11, ls="", label=best)
    axes.plot(1, 1, color=UP, marker="D", ms=9, ls="", fillstyle="none", mew=2.5, label="Both are one")
    axes.set_xlabel(f"Signal strength ${_symbol(first)}$")
    axes.set_ylabel(f"Signal strength ${_symbol(second)}$")
    legend_above(axes)
    return figure


@shown(
    Caption(
        "Impacts",
        "Left: pulls, with what the fit leaves of the uncertainty as error bars. Right: change of the signal strength if the parameter is "
        "moved by its postfit (filled) or prefit (open) uncertainty, and all others are fitted again. The impacts of "
        "statistical uncertainties of single bins (mcstat) follow from the covariance matrix.",
    )
)
@in_style
def impacts(style: Style, results: Results, right: str) -> Figure | None:
    """Pulls on the left, impacts on the signal strength on the right, the largest on top."""
    if not results.impacts:
        return None
    largest = results.impacts[:_MOST_IMPACTS]
    known = {it.name: it for it in results.parameters}
    size, text = (10, 0.3 * len(largest) + 2.4), f"{right}    {_measured(results)}"
    figure = small(style, size, text, results.unblinded is not None)
    left, axes = figure.subplots(1, 2, sharey=True, width_ratios=[1.1, 1])
    axes.tick_params(axis="y", which="both", length=0)
    place = _pull_points(left, [known[it.parameter] for it in largest])
    for sign, color in (("up", UP), ("down", DOWN)):
        prefit, postfit = ([getattr(it, f"{stage}_{sign}") for it in largest] for stage in ("prefit", "postfit"))
        axes.barh(place, prefit, 0.8, fill=False, edgecolor=color, lw=1.2, label=f"prefit, {sign}")
        axes.barh(place, postfit, 0.8, color=color, alpha=0.75, label=f"postfit, {sign}")
    reach = 1.15 * max(1e-9, *(abs(it) for each in largest for it in astuple(each)[1:]))
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel(rf"$\Delta{_symbol(results)}$")
    legend_below(figure, axes)
    return figure


@shown(
    Caption(
        "Pulls",
        "Shift of each parameter by the fit and its uncertainty, in units of the prefit uncertainty. Expected data pull "
        "nothing; an error bar well inside the inner band is a parameter that the fit constrains.",
        is_small=True,
    )
)
@in_style
def pulls(style: Style, results: Results, right: str) -> Figure | None:
    """The shift of each parameter from its prefit value, and its error, in units of the prefit error."""
    parameters = [it for it in results.parameters if it.kind == CONSTRAINED]
    if not parameters:
        return None
    order = {it.parameter: number for number, it in enumerate(results.impacts)}
    first = sorted(parameters, key=lambda it: order.get(it.name, len(order)))[:_MOST_PULLS]
    figure = small(style, (5.5, 0.3 * len(first) + 2.4), right, results.unblinded is not None)
    _pull_points(figure.subplots(), first)
    return figure


def _pull_points(axes: Axes, shown: Sequence[Parameter]) -> Floats:
    """The pulls of parameters, from the top to the bottom; return their places."""
    place = name_rows(axes, [it.name for it in shown])
    axes.axvspan(-2, 2, color=TWO_SIGMA, alpha=0.45, lw=0)
    axes.axvspan(-1, 1, color=ONE_SIGMA, alpha=0.45, lw=0)
    axes.axvline(0, color="black", lw=0.8, ls=":")
    pull = np.array([it.pull or 0.0 for it in shown])
    axes.errorbar(
        pull, place, xerr=[it.constraint or 0.0 for it in shown], fmt="o", color="black", ms=5, lw=1.6, capsize=0
    )
    reach = max(2.6, 1.1 * float(np.max(np.abs(pull) + 1)))
    axes.set_xlim(-reach, reach)
    axes.set_xlabel(r"$(\hat{\theta} - \theta_0) / \Delta\theta$")
    return place


@shown(Caption("Correlations", "Correlation coefficients in per cent, of the parameters with the largest ones."))
@in_style
def correlations(style: Style, results: Results, right: str) -> Figure | None:
    """The correlation coefficients of the parameters that have the largest ones."""
    if len(results.parameters) < 2:
        return None
    matrix = np.array(results.correlations)
    off = np.abs(matrix - np.diag(np.diag(matrix)))
    names = [it.name for it in results.parameters]
    order = np.argsort(-off.max(axis=0), kind="stable")[:_MOST_CORRELATED]
    strength = names.index(results.strength.name)
    chosen = np.array(sorted({strength, *order.tolist()}, key=lambda it: (it != strength, it)))
    size = 3.4 + 0.46 * len(chosen)
    figure = small(style, (size + 0.8, size), right, results.unblinded is not None)
    axes = figure.subplots()
    largest = matrix[np.ix_(chosen, chosen)]
    image = axes.imshow(largest, vmin=-1, vmax=1, cmap="RdBu_r")
    texts = [[f"{round(100 * it)}" for it in row] for row in largest]
    name_cells(axes, largest, [names[it] for it in chosen], texts, 9, rotation=90)
    figure.colorbar(image, ax=axes, shrink=0.8, label="Correlation coefficient")
    return figure


def channel_stack(style: Style, results: Results, channel: Channel, axis: Axis, is_postfit: bool) -> Stack:
    """Stacked samples, the signal on top of them, data if there are any; postfit with the prefit sum."""
    yields = channel.postfit if is_postfit else channel.prefit
    of_signal = [name for it in results.by_strength for name in it.signals]
    events = {it.sample: np.maximum(it.events, 0) for it in yields}
    backgrounds = {it: float(events[it].sum()) for it in events if it not in (TOTAL, *of_signal)}
    names = [*style.from_bottom(backgrounds), *(it for it in events if it in of_signal)]
    errors = {it.sample: np.array(it.errors) for it in yields}
    before = next(it for it in channel.prefit if it.sample == TOTAL)
    return Stack(
        axis.bins,
        [Drawn(style.name(it), events[it], style.color(it)) for it in names],
        errors[TOTAL],
        "Uncertainty",
        data=None if channel.observed is None else Observed.of(channel.observed),
        prefit=Drawn("Prefit", np.array(before.events), PREFIT, np.array(before.errors)) if is_postfit else None,
    )


def draw_results(
    style: Style, results: Results, axes: Mapping[str, Axis], right: str, directory: Path, only: Sequence[str] = ()
) -> list[str]:
    """Draw all figures into `directory`, as PNG and PDF with their numbers; return their names, without suffix.

    The axes are those of the channels, by their names; `right` is luminosity and energy, for the upper right corner.
    """
    samples = {it.sample for each in results.channels for it in each.prefit} - {TOTAL}
    style = style.with_processes(sorted(samples), results.signals[0])
    drawn = Figures(directory, only)
    for name, _, draw, numbers in figures_of(results):
        drawn.add(name, partial(draw, style, right=right), numbers)
    for channel in results.channels:
        for stage in ("prefit", "postfit"):
            axis = axes[channel.name]
            stack = channel_stack(style, results, channel, axis, stage == "postfit")
            said = {"luminosity and energy": axis.right, "channel": channel.name, "fit": stage}
            numbers = stack.numbers(axis.title, {**said, "data": channel.note, "bins": axis.note})
            has_data = results.unblinded is not None
            draw = partial(in_style(stack_figure), style, stack, axis.title, axis.right, has_data)
            drawn.add(f"{stage}_{channel.name}", draw, numbers)
    return drawn.names


def draw_smoothed(
    style: Style, model: StatisticalModel, axes: Mapping[str, Axis], directory: Path, only: Sequence[str] = ()
) -> list[str]:
    """Draw the smoothed variations of each channel into `directory`, as `draw_results`; return the names of the figures."""
    drawn = Figures(directory, only)
    for channel in model.channels:
        every = [(sample, name) for sample in channel.samples for name in sample.rough]
        found, axis = sorted(every, key=lambda it: -_smoothing(*it))[:_MOST_SMOOTHED], axes[channel.name]
        shown = {f"{sample.process}, {name}": _ratios(sample, name) for sample, name in found}
        ratios = {key: {it.name: it.values.tolist() for it in each} for key, each in shown.items()}
        if found:
            draw = partial(_smoothed_figure, style, style.region(channel.name), axis, found)
            numbers = {"axis": axis.title, "edges": channel.edges, "varied / nominal": ratios}
            drawn.add(f"smoothed_{channel.name}", draw, numbers)
    return drawn.names


def _smoothing(sample: Sample, name: str) -> float:
    return sample.shapes[name].distance(sample.rough[name], sample.nominal)


@in_style
def _smoothed_figure(style: Style, name: str, axis: Axis, shown: Sequence[tuple[Sample, str]]) -> Figure:
    """Ratios to the nominal events, the largest changes by smoothing first."""
    header = ", ".join(filter(None, (name, axis.note, axis.right)))
    figure, panels = grid(style, len(shown), header, columns=3, panel=(4.4, 3.5))
    for axes, (sample, nuisance) in zip(panels, shown, strict=True):
        error = sample.errors / np.where(sample.nominal > 0, sample.nominal, np.nan)
        show_varied(axes, axis.bins, axis.title, _ratios(sample, nuisance), error)
        axes.set_title(f"{style.name(sample.process)}, {nuisance}", loc="left")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _ratios(sample: Sample, name: str) -> list[Ratio]:
    """The variations over the nominal events, raw and smoothed."""
    safe, found = np.where(sample.nominal > 0, sample.nominal, np.nan), []
    for shape, look, state in ((sample.rough, (1.2, ":"), "raw"), (sample.shapes, (2.2, "-"), "smoothed")):
        for direction, color in (("up", UP), ("down", DOWN)):
            ratio = np.nan_to_num(getattr(shape[name], direction) / safe, nan=1.0)
            found.append(Ratio(f"{direction}, {state}", ratio, {"color": color, "lw": look[0], "ls": look[1]}))
    return found
