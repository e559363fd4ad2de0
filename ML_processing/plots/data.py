"""Figures of data against simulation: stacks with points, and their ratio below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ML_processing.plots.panels import legend_below
from ML_processing.plots.style import in_style, line, ratio_grid, shorten

if TYPE_CHECKING:
    from ML_processing.evaluation.data_comparison.comparison import DataComparison, DataPanel

_LONG = 30
_MOST_OUTSIDE = 0.25  # share of the points of a ratio beyond its axis
_GREY = "#4c4c4c"


@in_style
def inputs(content: DataComparison) -> Figure:
    """Each input in data and simulation."""
    return _figure(content, content.inputs, [""] * len(content.inputs), 4, False)


@in_style
def scores(content: DataComparison) -> Figure:
    """Each discriminant and output of the networks, of all events, and each output of those that are assigned to its class."""
    assigned = content.assigned
    panels = [*content.scores, *(it.score for it in assigned)]
    notes = [""] * len(content.scores) + [f"assigned to {it.name}" for it in assigned]
    return _figure(content, panels, notes, min(len(content.scores), 4), True)


def _figure(
    content: DataComparison, panels: Sequence[DataPanel], notes: Sequence[str], columns: int, logarithmic: bool
) -> Figure:
    luminosity = "" if content.luminosity is None else f", {content.luminosity:.4g} fb$^{{-1}}$"
    figure, pairs = ratio_grid(len(panels), f"{content.data:,} events of data{luminosity}", columns)
    for (axes, below), panel, note in zip(pairs, panels, notes, strict=True):
        _stack(axes, panel, content, logarithmic)
        _ratio(below, panel, content)
        p = panel.agreement.probability
        text = "few events" if p is None else f"p = {p:.2g}"
        axes.text(
            0.96,
            0.95,
            "\n".join(filter(None, [shorten(note, 26), text])),
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=11,
        )
        below.set_xlabel(shorten(panel.label, _LONG))
    legend_below(figure, pairs[0][0], 6)
    return figure


def _stack(axes: Axes, panel: DataPanel, content: DataComparison, logarithmic: bool) -> None:
    edges, of = panel.edges, len(panel.classes)
    colors = {it.name: line(i, of)["color"] for i, it in enumerate(panel.classes)}
    below = np.zeros(len(edges) - 1)
    stacked = [it for it in panel.classes if it.name != content.signal]
    for it in sorted(stacked, key=lambda it: it.bins.values.sum()):
        axes.stairs(below + it.bins.values, edges, baseline=below, fill=True, color=colors[it.name], label=it.name)
        below = below + it.bins.values
    total = panel.without(content.signal)
    expected, errors = total.values, total.errors
    style: dict[str, Any] = {"fill": True, "facecolor": "none", "edgecolor": _GREY, "lw": 0, "hatch": "////"}
    axes.stairs(expected + errors, edges, baseline=expected - errors, label="Statistical error", **style)
    for it in panel.classes:
        if it.name == content.signal:
            axes.stairs(it.bins.values, edges, baseline=None, color=colors[it.name], lw=2, label=it.name)
    data = panel.data
    centers, shown = (edges[1:] + edges[:-1]) / 2, data.values > 0
    errors_of_data = np.array([data.values - data.low, data.high - data.values])
    axes.errorbar(
        centers[shown],
        data.values[shown],
        errors_of_data[:, shown],
        fmt="o",
        color="black",
        ms=4,
        elinewidth=1,
        label="Data",
    )
    axes.set_xlim(edges[0], edges[-1])
    highest = max(float(data.high.max(where=shown, initial=0)), float((expected + errors).max()), 1e-9)
    if logarithmic:
        every = np.append(expected[expected > 0], 1.0)
        axes.set_yscale("log")
        axes.set_ylim(max(every.min(), highest * 1e-5) / 2, highest * 30)
    else:
        axes.set_ylim(0, highest * 1.45)
    axes.set_ylabel("Events" if content.physical else "Events (simulation scaled)")


def _ratio(axes: Axes, panel: DataPanel, content: DataComparison) -> None:
    edges, data = panel.edges, panel.data
    total = panel.without(content.signal)
    expected, errors = total.values, total.errors
    known = expected > 0
    safe = np.where(known, expected, np.nan)
    band = np.nan_to_num(errors / safe)
    axes.stairs(1 + band, edges, baseline=1 - band, fill=True, color="#d8d8de")
    axes.axhline(1, color="black", lw=0.8)
    shown = known & (data.values > 0)
    centers = (edges[1:] + edges[:-1]) / 2
    ratio, ends = data.values / safe, np.array([data.values - data.low, data.high - data.values]) / safe
    axes.errorbar(centers[shown], ratio[shown], ends[:, shown], fmt="o", color="black", ms=3.5, elinewidth=1)
    axes.set_xlim(edges[0], edges[-1])
    low, high = 0.4, 1.6
    if (
        shown.any() and np.mean((ratio[shown] < low) | (ratio[shown] > high)) > _MOST_OUTSIDE
    ):  # data are not what is expected at all
        low, high = 0.0, float(np.clip(1.2 * ratio[shown].max(), 1.6, 5))
    axes.set_ylim(low, high)
    margin = 0.04 * (high - low)
    for places, marker, height in ((ratio > high, "^", high - margin), (ratio < low, "v", low + margin)):
        outside = shown & places
        axes.plot(centers[outside], np.full(outside.sum(), height), marker, color="#e42536", ms=5)
    axes.set_ylabel("Data / exp.")
