"""Figures of histograms, as an analysis note has them: stacked simulation, data, ratio; and what each uncertainty changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from MLTools.NanoML.contracts.templates import DATA, FilledHistogram, HistogramChannel, Templates, added, summed
from MLTools.NanoML.report.figures import BACKGROUNDS, SIGNAL, grid, in_style, save, with_ratio
from MLTools.NanoML.report.section import Style
from MLTools.NanoML.report.stack import Drawn, Observed, Stack, draw_ratio, draw_stack, drawn_edges, label_edges

_MOST_SHOWN = 6  # nuisance parameters in a figure
Floats = NDArray[np.float64]


def draw_histograms(
    style: Style, templates: Templates, directory: Path, energies: Mapping[str, Optional[float]]
) -> list[str]:
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
                right = templates.conditions([channel] if channel.era else channels, energies)
                save(
                    stack(style, histogram, channel, templates.signal, right, logarithmic),
                    directory / f"{histogram.name}_{name}",
                )
                drawn.append(f"{histogram.name}_{name}")
            right = templates.conditions(channels, energies)
            figure = uncertainties(style, histogram, whole, templates.signal, right)
            if figure is not None:
                save(figure, directory / f"{histogram.name}_{region}_uncertainties")
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


@in_style
def stack(
    style: Style,
    histogram: FilledHistogram,
    channel: HistogramChannel,
    signal: Optional[str],
    right: str,
    logarithmic: bool,
) -> Figure:
    """Backgrounds on each other, the signal as a line, data as points, and the ratio of data to the backgrounds below.

    Without data, the ratio is that of signal to background. Bins that are blind are hatched. The legend says what is not in the bins.
    """
    edges, names = drawn_edges(histogram.axes[0].edges), _backgrounds(channel, signal)
    colors = [BACKGROUNDS[(len(names) - 1 - number) % len(BACKGROUNDS)] for number in range(len(names))]
    shown = [Drawn(it, channel.processes[it].nominal[1:-1], color) for it, color in zip(names, colors)]
    error = total_error(channel, names)[1][1:-1] if names else np.zeros(len(edges) - 1)
    template, data = channel.processes.get(signal or ""), channel.processes.get(DATA)
    line = Drawn(signal, template.nominal[1:-1], SIGNAL) if signal and template else None
    counts = None if data is None else Observed.of(data.nominal[1:-1])
    content = Stack(edges, shown, error, "Stat. and syst.", line, counts)
    figure, axes, below = with_ratio(style, right, data is not None)
    draw_stack(axes, content, logarithmic)
    if data is not None or line is None:
        draw_ratio(below, content)
    else:
        ratio = np.divide(line.events, content.expected, out=np.zeros_like(error), where=content.expected > 0)
        below.stairs(ratio, edges, color=SIGNAL, lw=2.5)
        below.set_ylim(0, None)
        below.set_ylabel("S / B")
    label_edges(below, histogram.axes[0].edges)
    below.set_xlabel(histogram.axes[0].quantity)
    groups = {"background": names, "signal": [line.name] if line else []}
    outside = {name: summed([channel.processes[it] for it in each]).outside for name, each in groups.items() if each}
    remarks = (f"{name}: {text}" for name, text in outside.items() if text)
    title = "\n".join(filter(None, (channel.name, channel.note, *remarks)))
    axes.legend(ncols=2, fontsize=17, loc="upper right", title=title, title_fontsize=17)
    figure.align_ylabels()
    return figure


@in_style
def uncertainties(
    style: Style, histogram: FilledHistogram, channel: HistogramChannel, signal: Optional[str], right: str
) -> Optional[Figure]:
    """The largest uncertainties: background and signal up and down, in ratio to nominal; None if there are none."""
    groups = {"Background": _backgrounds(channel, signal), "Signal": [it for it in channel.processes if it == signal]}
    names = dict.fromkeys(name for each in channel.processes.values() for name in each.up)
    changes = {name: {group: _change(channel, each, name) for group, each in groups.items() if each} for name in names}
    largest = sorted(names, key=lambda name: -max(np.abs(each).max() for each in changes[name].values()))[:_MOST_SHOWN]
    if not largest:
        return None
    figure, all_axes = grid(style, len(largest), f"{channel.name}, {right}", 3, (4.2, 3.4))
    edges = drawn_edges(histogram.axes[0].edges)
    for axes, name in zip(all_axes, largest):
        for (group, each), color in zip(changes[name].items(), (BACKGROUNDS[0], SIGNAL)):
            for values, dashes, direction in zip(each, ("-", "--"), ("up", "down")):
                axes.stairs(
                    1 + values, edges, baseline=None, color=color, ls=dashes, lw=2, label=f"{group}, {direction}"
                )
        axes.axhline(1, color="black", lw=0.8)
        reach = max(0.02, 1.3 * max(float(np.abs(each).max()) for each in changes[name].values()))
        axes.set_ylim(1 - min(reach, 1), 1 + min(reach, 2))
        axes.set_xlim(edges[0], edges[-1])
        label_edges(axes, histogram.axes[0].edges)
        axes.set_title(name, loc="left")
        axes.set_xlabel(histogram.axes[0].quantity)
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=4)
    return figure


def _change(channel: HistogramChannel, names: Sequence[str], nuisance: str) -> Floats:
    """Relative change of the sum of some processes, up and down, float64 of shape (2, bins)."""
    total = summed([channel.processes[name] for name in names])
    nominal, found = total.nominal[1:-1], []
    for varied in (total.up, total.down):
        change = varied[nuisance][1:-1] - nominal if nuisance in varied else np.zeros_like(nominal)
        found.append(np.divide(change, nominal, out=np.zeros_like(nominal), where=nominal > 0))
    return np.array(found)
