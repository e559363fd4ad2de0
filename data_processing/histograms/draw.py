"""Figures of histograms, as an analysis note has them: stacked simulation, data, ratio; and what each uncertainty changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Optional

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from MLTools.NanoML.contracts.templates import DATA, HistogramChannel, TemplateAxis, Templates, added, summed
from MLTools.NanoML.report.figures import Figures, grid, in_style, legend_above, with_ratio
from MLTools.NanoML.report.section import UNKNOWN, Style
from MLTools.NanoML.report.stack import Bins, Drawn, Observed, Stack, draw_ratio, draw_stack

_MOST_SHOWN = 6  # nuisance parameters in a figure
Floats = NDArray[np.float64]


def draw_histograms(style: Style, templates: Templates, directory: Path, only: Sequence[str] = ()) -> list[str]:
    """Draw all histograms of one axis into `directory`, as PNG and PDF with their numbers; return the names of the figures, without suffix.

    With `only`, no others are drawn than those that it chooses (see `Figures`).

    For each region there is a figure of all eras, with a linear and a logarithmic axis, one of the largest uncertainties, and, if
    there are several eras, one of each.
    """
    drawn, signal = Figures(directory, only), templates.signal
    style = style.with_processes(templates.classes, signal)
    for histogram in (it for it in templates.histograms if len(it.axes) == 1):
        for region in dict.fromkeys(channel.region for channel in histogram.channels):
            channels = [it for it in histogram.channels if it.region == region and it.processes]
            if not channels:
                continue
            whole, axis = added(channels), histogram.axes[0]
            figures = {region: (whole, False), f"{region}_log": (whole, True)}
            figures.update({it.name: (it, False) for it in channels if len(channels) > 1})
            for name, (channel, logarithmic) in figures.items():
                right = style.conditions(templates.seen([channel] if channel.era else channels))
                content = stacked(style, axis, channel, signal)
                said = {"luminosity and energy": right, "region": channel.name, "bins": axis.note}
                drawn.add(
                    f"{histogram.name}_{name}",
                    partial(stack, style, axis, channel, content, signal, right, logarithmic),
                    content.numbers(style.axis(axis.quantity, axis.title), said),
                )
            right = style.conditions(templates.seen(channels))
            changes = _largest(whole, signal)
            if changes:
                found = {
                    name: {group: (1 + each).tolist() for group, each in groups.items()}
                    for name, groups in changes.items()
                }
                drawn.add(
                    f"{histogram.name}_{region}_uncertainties",
                    partial(uncertainties, style, axis, whole.name, changes, signal, right),
                    {"axis": style.axis(axis.quantity, axis.title), "edges": axis.edges, "up, down / nominal": found},
                )
    return drawn.names


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


def _groups(channel: HistogramChannel, signal: Optional[str]) -> Iterator[tuple[str, list[str]]]:
    """Background and signal, as far as there are any, each with its processes."""
    for name, is_signal in (("Background", False), ("Signal", True)):
        found = [it for it in channel.processes if it != DATA and (it == signal) == is_signal]
        if found:
            yield name, found


def _bins(style: Style, axis: TemplateAxis) -> Bins:
    return Bins(np.array(axis.edges), style.unit(axis.quantity, axis.title))


def stacked(style: Style, axis: TemplateAxis, channel: HistogramChannel, signal: Optional[str]) -> Stack:
    """Backgrounds on each other, the signal as a line, and data as points."""
    found, data = channel.processes, channel.processes.get(DATA)
    names = style.from_bottom({name: float(found[name].nominal.sum()) for name in found if name not in (DATA, signal)})
    error = total_error(channel, names)[1][1:-1] if names else np.zeros(len(axis.edges) - 1)
    drawn = {it: Drawn(style.name(it), found[it].nominal[1:-1], style.color(it)) for it in found}
    line, counts = drawn.get(signal or ""), None if data is None else Observed.of(data.nominal[1:-1])
    return Stack(_bins(style, axis), [drawn[it] for it in names], error, "Stat. and syst.", line, counts)


@in_style
def stack(
    style: Style,
    axis: TemplateAxis,
    channel: HistogramChannel,
    content: Stack,
    signal: Optional[str],
    right: str,
    logarithmic: bool,
) -> Figure:
    """What is expected and observed, and the ratio of data to the backgrounds below.

    Without data, the ratio is that of signal to background. Bins that are blind are hatched. The legend says what is not in the bins.
    """
    figure, axes, below = with_ratio(style, right, content.data is not None)
    draw_stack(axes, content, logarithmic)
    if content.data is not None or content.line is None:
        draw_ratio(below, content)
    else:
        expected = content.expected
        ratio = np.divide(content.line.events, expected, out=np.zeros_like(expected), where=expected > 0)
        below.stairs(ratio, content.bins.drawn, color=content.line.color, lw=2.5)
        below.set_ylim(0, None)
        below.set_ylabel("S / B")
        content.bins.label(below)
    below.set_xlabel(style.axis(axis.quantity, axis.title))
    outside = {name: summed([channel.processes[it] for it in each]).outside for name, each in _groups(channel, signal)}
    remarks = (f"{name.lower()}: {text}" for name, text in outside.items() if text)
    legend_above(
        axes, title="\n".join(filter(None, (channel.name, channel.note, axis.note, *remarks))), title_fontsize=17
    )
    figure.align_ylabels()
    return figure


_Changes = dict[str, dict[str, Floats]]
"""By nuisance parameter and group of processes, the relative change up and down, float64 of shape (2, bins)."""


def _largest(channel: HistogramChannel, signal: Optional[str]) -> _Changes:
    """The largest uncertainties of background and signal."""
    groups = dict(_groups(channel, signal))
    names = dict.fromkeys(name for each in channel.processes.values() for name in each.up)
    changes = {name: {group: _change(channel, each, name) for group, each in groups.items()} for name in names}
    largest = sorted(names, key=lambda name: -max(np.abs(each).max() for each in changes[name].values()))[:_MOST_SHOWN]
    return {name: changes[name] for name in largest}


@in_style
def uncertainties(
    style: Style, axis: TemplateAxis, name: str, changes: _Changes, signal: Optional[str], right: str
) -> Figure:
    """The largest uncertainties: background and signal up and down, in ratio to nominal."""
    header, bins = ", ".join(filter(None, (name, axis.note, right))), _bins(style, axis)
    figure, all_axes = grid(style, len(changes), header, 3, (4.2, 3.4))
    for axes, (nuisance, groups) in zip(all_axes, changes.items()):
        for (group, each), color in zip(groups.items(), (UNKNOWN, style.color(signal))):
            for values, dashes, direction in zip(each, ("-", "--"), ("up", "down")):
                text = f"{group}, {direction}"
                axes.stairs(1 + values, bins.drawn, baseline=None, color=color, ls=dashes, lw=2, label=text)
        axes.axhline(1, color="black", lw=0.8)
        reach = max(0.02, 1.3 * max(float(np.abs(each).max()) for each in groups.values()))
        axes.set_ylim(1 - min(reach, 1), 1 + min(reach, 2))
        bins.label(axes)
        axes.set_title(nuisance, loc="left")
        axes.set_xlabel(style.axis(axis.quantity, axis.title))
        axes.set_ylabel("Varied / nominal")
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
