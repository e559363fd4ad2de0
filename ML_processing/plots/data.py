"""Figures of expected events on top of each other, and of data against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ML_processing.plots.panels import legend_below, note_in, of_all
from MLTools.NanoML.report.figures import grid, in_style, line, ratio_grid, shorten
from MLTools.NanoML.report.stack import Drawn, Stack, draw_ratio, draw_stack

if TYPE_CHECKING:
    from ML_processing.evaluation.data_comparison.comparison import DataComparison, DataPanel
    from ML_processing.evaluation.regions import BinnedOutput, RegionResult

_LONG = 30
_MOST_DRAWN = 24  # inputs
_SCALE = 0.57  # of points and lines in a small plot


@in_style
def region(content: RegionResult) -> Figure:
    """Expected events in bins of each output: the backgrounds stacked, the signal as a line in front of them."""
    panels, columns = content.outputs, min(len(content.outputs), 3)
    figure, all_axes = grid(len(panels), f"{content.events:,} events", columns, (5.4, 4.4))
    for axes, panel in zip(all_axes, panels, strict=True):
        draw_stack(axes, _stack(panel, content.signal), logarithmic=True, scale=_SCALE)
        axes.set_xlabel(shorten(panel.label, 40))
        axes.set_ylabel("Expected events" if content.physical else "Sum of weights")
    legend_below(figure, all_axes[0])
    return figure


@in_style
def inputs(content: DataComparison) -> Figure:
    """Each input in data and simulation, or those that differ most."""
    probabilities = [1.0 if it.agreement.probability is None else it.agreement.probability for it in content.inputs]
    worst = sorted(np.argsort(probabilities, kind="stable")[:_MOST_DRAWN])
    some = of_all(len(worst), len(content.inputs), "inputs")
    return _compared(content, [content.inputs[i] for i in worst], [""] * len(worst), 4, False, some)


@in_style
def scores(content: DataComparison) -> Figure:
    """Each discriminant and output of the networks, of all events, and each output of those that are assigned to its class."""
    assigned = content.assigned
    panels = [*content.scores, *(it.score for it in assigned)]
    notes = [""] * len(content.scores) + [f"assigned to {it.name}" for it in assigned]
    return _compared(content, panels, notes, min(len(content.scores), 4), True)


def _compared(
    content: DataComparison,
    panels: Sequence[DataPanel],
    notes: Sequence[str],
    columns: int,
    logarithmic: bool,
    some: str = "",
) -> Figure:
    luminosity = "" if content.luminosity is None else f", {content.luminosity:.4g} fb$^{{-1}}$"
    figure, pairs = ratio_grid(len(panels), f"{content.data:,} events of data{luminosity}{some}", columns)
    for (axes, below), panel, note in zip(pairs, panels, notes, strict=True):
        stack = _stack(panel, content.signal)
        draw_stack(axes, stack, logarithmic, _SCALE)
        draw_ratio(below, stack, _SCALE)
        axes.set_ylabel("Events" if content.physical else "Events (simulation scaled)")
        p = panel.agreement.probability
        text = "few events" if p is None else f"p = {p:.2g}"
        note_in(axes, "\n".join(filter(None, [shorten(note, 26), text])), 11)
        below.set_xlabel(shorten(panel.label, _LONG))
    fullest = max((axes for axes, _ in pairs), key=lambda axes: len(axes.get_legend_handles_labels()[1]))
    legend_below(figure, fullest, 6)
    return figure


def _stack(panel: BinnedOutput | DataPanel, signal: str | None) -> Stack:
    """The classes in their colours, a large one below a small one."""
    drawn = [
        (it.bins, Drawn(it.name, it.bins.values, line(i, len(panel.classes))["color"]))
        for i, it in enumerate(panel.classes)
    ]
    stacked = [each for each in drawn if each[1].name != signal]
    stacked.sort(key=lambda each: each[0].values.sum())
    error = np.sqrt(sum((bins.errors**2 for bins, _ in stacked), start=np.zeros(len(panel.edges) - 1)))
    shown = next((it for _, it in drawn if it.name == signal), None)
    processes = [it for _, it in stacked]
    return Stack(panel.edges, processes, error, "Statistical error", shown, getattr(panel, "data", None))
