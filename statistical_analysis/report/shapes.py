"""The figures of smoothed variations: before and after smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from MLTools.NanoML.report.figures import BACKGROUNDS, SIGNAL, grid, in_style, save
from statistical_analysis.model import FitChannel, StatisticalModel
from statistical_analysis.samples import Sample

_MOST = 12  # variations in a figure


def draw_smoothed(model: StatisticalModel, right: str, directory: Path) -> list[str]:
    """Draw the smoothed variations of each channel into `directory`, as PNG and PDF; return the names of the figures.

    `right` is luminosity and energy.
    """
    drawn = []
    for channel in model.channels:
        found = [(sample, name) for sample in channel.samples for name in sample.rough]
        if found:
            found.sort(key=lambda it: -_change(*it))
            save(_figure(channel, found[:_MOST], right), directory / f"smoothed_{channel.name}")
            drawn.append(f"smoothed_{channel.name}")
    return drawn


def _change(sample: Sample, name: str) -> float:
    return sample.shapes[name].distance(sample.rough[name], sample.nominal)


@in_style
def _figure(channel: FitChannel, shown: Sequence[tuple[Sample, str]], right: str) -> Figure:
    """Ratios to the nominal events, the largest changes by smoothing first."""
    figure, panels = grid(len(shown), f"{channel.name}, {right}", columns=3, panel=(4.4, 3.5))
    for axes, (sample, name) in zip(panels, shown, strict=True):
        _panel(axes, channel, sample, name)
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _panel(axes: Axes, channel: FitChannel, sample: Sample, name: str) -> None:
    edges, safe = np.array(channel.edges), np.where(sample.nominal > 0, sample.nominal, np.nan)
    error = np.nan_to_num(sample.errors / safe)
    axes.stairs(1 + error, edges, baseline=1 - error, fill=True, color="#d0d0d6", label="Statistics, nominal")
    axes.axhline(1, color="black", lw=0.8)
    ratios = []
    for shape, look, state in ((sample.rough, (1.2, ":"), "raw"), (sample.shapes, (2.2, "-"), "smoothed")):
        for direction, color in (("up", SIGNAL), ("down", BACKGROUNDS[0])):
            ratio = np.nan_to_num(getattr(shape[name], direction) / safe, nan=1.0)
            ratios.append(ratio)
            width, style = look
            axes.stairs(ratio, edges, baseline=None, color=color, lw=width, ls=style, label=f"{direction}, {state}")
    reach = min(1.15 * max(float(np.abs(np.array(ratios) - 1).max()), 0.01), 1.0)
    axes.set_ylim(1 - reach, 1 + reach)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_title(f"{sample.process}, {name}", loc="left")
    axes.set_xlabel(channel.title)
