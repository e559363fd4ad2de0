"""Figures of histograms, as an analysis note has them: stacked simulation, data, ratio; and what each uncertainty changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar

import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from mplhep.error_estimation import poisson_interval
from numpy.typing import NDArray

from MLTools.NanoML.atomic import replacing
from MLTools.NanoML.contracts.templates import (
    DATA,
    FilledHistogram,
    HistogramChannel,
    Template,
    Templates,
    added,
    summed,
)

# M. Petroff, Accessible color sequences for data visualization (arXiv:2107.02270), as CMS recommends them
_COLORS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
_SIGNAL = "#e42536"
_MOST_SHOWN = 6  # nuisance parameters in a figure
Floats = NDArray[np.float64]
_Draw = TypeVar("_Draw", bound=Callable[..., Any])


def _shown(has_data: bool) -> str:
    """What a figure shows, to stand above it."""
    return f"Private work (CMS {'data/' if has_data else ''}simulation)"


def _in_style(draw: _Draw) -> _Draw:
    styled: _Draw = plt.style.context(mplhep.style.CMS)(draw)
    return styled


def draw_histograms(templates: Templates, directory: Path, energies: Mapping[str, Optional[float]]) -> list[str]:
    """Draw all histograms of one axis into `directory`, as PNG and PDF; return the names of the figures, without suffix.

    For each region there is a figure of all eras, with a linear and a logarithmic axis, one of the largest uncertainties, and, if
    there are several eras, one of each.
    """
    drawn = []
    for histogram in (it for it in templates.histograms if len(it.axes) == 1):
        for region in dict.fromkeys(channel.region for channel in histogram.channels):
            channels = [it for it in histogram.channels if it.region == region and it.processes]
            if not channels:
                continue
            whole = added(channels)
            figures = {region: (whole, False), f"{region}_log": (whole, True)}
            figures.update({it.name: (it, False) for it in channels if len(channels) > 1})
            for name, (channel, logarithmic) in figures.items():
                eras = [channel.era] if channel.era else [it.era for it in channels]
                right = templates.conditions(eras, energies)
                _save(
                    stack(histogram, channel, templates.signal, right, logarithmic),
                    directory / f"{histogram.name}_{name}",
                )
                drawn.append(f"{histogram.name}_{name}")
            right = templates.conditions([it.era for it in channels], energies)
            figure = uncertainties(histogram, whole, templates.signal, right)
            if figure is not None:
                _save(figure, directory / f"{histogram.name}_{region}_uncertainties")
                drawn.append(f"{histogram.name}_{region}_uncertainties")
    return drawn


def total_error(channel: HistogramChannel, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Statistical, and statistical and systematic error of the sum of some processes, float64 of shape (bins + 2,).

    All variations of one nuisance parameter change all processes together; those of different ones are independent.
    """
    total = summed([channel.processes[name] for name in names])
    squares = total.variances
    for nuisance in total.up:
        changes = (np.abs(varied[nuisance] - total.nominal) for varied in (total.up, total.down))
        squares = squares + np.maximum(*changes) ** 2
    return np.sqrt(total.variances), np.sqrt(squares)


def _backgrounds(channel: HistogramChannel, signal: Optional[str]) -> list[str]:
    """From the smallest to the largest."""
    names = [name for name in channel.processes if name not in (DATA, signal)]
    return sorted(names, key=lambda name: float(channel.processes[name].nominal.sum()))


@_in_style
def stack(
    histogram: FilledHistogram, channel: HistogramChannel, signal: Optional[str], right: str, logarithmic: bool
) -> Figure:
    """Backgrounds on each other, the signal as a line, data as points, and the ratio of data to the backgrounds below.

    Without data, the ratio is that of signal to background. Overflow and underflow are not shown.
    """
    edges, names = np.array(histogram.axes[0].edges), _backgrounds(channel, signal)
    figure = Figure(figsize=(9, 9.5))
    axes, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    figure.subplots_adjust(left=0.15, right=0.965, bottom=0.105, top=0.94, hspace=0.06)
    bottom = np.zeros(len(edges) - 1)
    for number, name in enumerate(names):
        top = bottom + channel.processes[name].nominal[1:-1]
        color = _COLORS[(len(names) - 1 - number) % len(_COLORS)]
        axes.stairs(top, edges, baseline=bottom, fill=True, color=color, label=name)
        bottom = top
    _, error = (each[1:-1] for each in total_error(channel, names)) if names else (None, np.zeros_like(bottom))
    band = {"fill": True, "facecolor": "none", "edgecolor": "#4c4c4c", "lw": 0, "hatch": "////"}
    if names:
        axes.stairs(bottom + error, edges, baseline=bottom - error, label="Stat. and syst.", **band)
    shown = channel.processes.get(signal) if signal else None
    if shown is not None:
        axes.stairs(shown.nominal[1:-1], edges, color=_SIGNAL, lw=3, label=signal)
    data = channel.processes.get(DATA)
    low, high = _data(axes, edges, data)
    _ratio(below, edges, bottom, error, data, (low, high), shown)
    highest = max(float(np.max([*(bottom + error), *high, *(shown.nominal[1:-1] if shown else [0])])), 1e-9)
    axes.set_xlim(edges[0], edges[-1])
    if logarithmic:
        known = bottom[bottom > 0]
        least = max(float(known.min()) if known.size else highest / 10, highest * 1e-5) / 3
        axes.set_yscale("log")
        axes.set_ylim(least, highest * (highest / least) ** 0.45)
    else:
        axes.set_ylim(0, highest * 1.5)
    axes.set_ylabel("Events")
    below.set_xlabel(histogram.axes[0].title)
    axes.legend(ncols=2, fontsize=17, loc="upper right", title=channel.name, title_fontsize=17)
    mplhep.label.exp_label(exp="", text=_shown(data is not None), data=True, rlabel=right, fontsize=19, ax=axes)
    figure.align_ylabels()
    return figure


def _data(axes: Axes, edges: Floats, data: Optional[Template]) -> tuple[Floats, Floats]:
    """Points with Garwood's central intervals; their ends."""
    if data is None:
        nothing = np.zeros(len(edges) - 1)
        return nothing, nothing
    counts, centers = data.nominal[1:-1], (edges[1:] + edges[:-1]) / 2
    low, high = poisson_interval(counts, counts)
    low = np.nan_to_num(low)
    axes.errorbar(centers, counts, [counts - low, high - counts], fmt="o", color="black", ms=7, label="Data")
    return low, high


def _ratio(
    axes: Axes,
    edges: Floats,
    expected: Floats,
    error: Floats,
    data: Optional[Template],
    ends: tuple[Floats, Floats],
    signal: Optional[Template],
) -> None:
    safe = np.where(expected > 0, expected, np.nan)
    axes.set_xlim(edges[0], edges[-1])
    if data is None:
        if signal is not None:
            axes.stairs(np.nan_to_num(signal.nominal[1:-1] / safe), edges, color=_SIGNAL, lw=2.5)
            axes.set_ylim(0, None)
        axes.set_ylabel("S / B")
        return
    relative = np.nan_to_num(error / safe)
    axes.stairs(1 + relative, edges, baseline=1 - relative, fill=True, color="#d0d0d6")
    axes.axhline(1, color="black", lw=1)
    counts, centers = data.nominal[1:-1], (edges[1:] + edges[:-1]) / 2
    known = expected > 0
    ratio, (low, high) = counts / safe, (each / safe for each in ends)
    axes.errorbar(
        centers[known], ratio[known], [(ratio - low)[known], (high - ratio)[known]], fmt="o", color="black", ms=6
    )
    axes.set_ylim(0.3, 1.7)
    axes.set_ylabel("Data / exp.")


@_in_style
def uncertainties(
    histogram: FilledHistogram, channel: HistogramChannel, signal: Optional[str], right: str
) -> Optional[Figure]:
    """The largest uncertainties: background and signal up and down, in ratio to nominal; None if there are none."""
    groups = {"Background": _backgrounds(channel, signal), "Signal": [it for it in channel.processes if it == signal]}
    names = dict.fromkeys(name for each in channel.processes.values() for name in each.up)
    changes = {name: {group: _change(channel, each, name) for group, each in groups.items() if each} for name in names}
    largest = sorted(names, key=lambda name: -max(np.abs(each).max() for each in changes[name].values()))[:_MOST_SHOWN]
    if not largest:
        return None
    plt.rcParams.update({"font.size": 13, "axes.titlesize": 14, "axes.labelsize": 14, "legend.fontsize": 13})
    columns = min(3, len(largest))
    rows = math.ceil(len(largest) / columns)
    figure = Figure(figsize=(max(4.2 * columns, 7), 3.4 * rows + 1), layout="constrained")
    edges = np.array(histogram.axes[0].edges)
    for axes, name in zip(figure.subplots(rows, columns, squeeze=False).ravel(), largest):
        for (group, each), color in zip(changes[name].items(), (_COLORS[0], _SIGNAL)):
            for values, style, direction in zip(each, ("-", "--"), ("up", "down")):
                axes.stairs(
                    1 + values, edges, baseline=None, color=color, ls=style, lw=2, label=f"{group}, {direction}"
                )
        axes.axhline(1, color="black", lw=0.8)
        reach = max(0.02, 1.3 * max(float(np.abs(each).max()) for each in changes[name].values()))
        axes.set_ylim(1 - min(reach, 1), 1 + min(reach, 2))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_title(name, loc="left")
        axes.set_xlabel(histogram.axes[0].title)
    for unused in figure.axes[len(largest) :]:
        unused.remove()
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=4)
    figure.suptitle(f"{_shown(False)}, {channel.name}, {right}", x=0.01, ha="left", fontsize=15, fontstyle="italic")
    return figure


def _change(channel: HistogramChannel, names: Sequence[str], nuisance: str) -> Floats:
    """Relative change of the sum of some processes, up and down, float64 of shape (2, bins)."""
    total = summed([channel.processes[name] for name in names])
    nominal, found = total.nominal[1:-1], []
    for varied in (total.up, total.down):
        change = varied[nuisance][1:-1] - nominal if nuisance in varied else np.zeros_like(nominal)
        found.append(np.divide(change, nominal, out=np.zeros_like(nominal), where=nominal > 0))
    return np.array(found)


@_in_style
def _save(figure: Figure, stem: Path) -> None:
    with replacing(stem.with_name(f"{stem.name}.png")) as aside, open(aside, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)
    with replacing(stem.with_name(f"{stem.name}.pdf")) as aside, open(aside, "wb") as file:
        FigureCanvasPdf(figure).print_pdf(file, metadata={"CreationDate": None})
