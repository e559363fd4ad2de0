"""Figures of what could be another way: eras, seeds, and numbers of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ML_processing.plots.panels import legend_below, note_in
from MLTools.NanoML.report.figures import grid, in_style, line, marker, shorten

if TYPE_CHECKING:
    from ML_processing.evaluation.stability import Eras, Repeats


@in_style
def eras(content: Eras) -> Figure:
    """AUC in each era, and the shape of the discriminant of each class in each era."""
    shown = {era: it.discriminant for era, it in content.eras.items() if it.discriminant is not None}
    panels = content.classes if shown else []
    figure, all_axes = grid(1 + len(panels), "", 3, (5.4, 4.4))
    axes, places = all_axes[0], np.arange(len(content.eras))
    areas = [it.measured.auc for it in content.eras.values()]
    values, errors = np.array([(it.value, it.error) for it in areas], float).T
    axes.errorbar(places, values, errors, capsize=3, **marker(0, 3, 7))
    mean = content.auc
    if mean.value is not None and mean.error is not None:
        axes.axhspan(mean.value - mean.error, mean.value + mean.error, color="#d8d8de", zorder=0)
        axes.axhline(mean.value, color="black", lw=0.8, zorder=0)
    if content.probability is not None:
        note_in(axes, f"p = {content.probability:.2g}")
    axes.set_xlim(-0.6, len(areas) - 0.4)
    axes.margins(y=0.3)
    axes.set_xticks(places, [shorten(era, 12) for era in content.eras])
    axes.set_xlabel("Era")
    axes.set_ylabel("AUC")
    for number, (axes, name) in enumerate(zip(all_axes[1:], panels, strict=True)):
        for i, (era, it) in enumerate(shown.items()):
            bins, edges = it.classes[number].bins, it.edges
            style = line(i, len(shown))
            axes.stairs(bins.values, edges, **{**style, "lw": 1.6}, label=era)
            shift = (i - (len(shown) - 1) / 2) * (edges[1] - edges[0]) * 0.15
            centers = (edges[1:] + edges[:-1]) / 2 + shift
            axes.errorbar(centers, bins.values, bins.errors, fmt="none", ecolor=style["color"], elinewidth=1)
        first = next(iter(shown.values()))
        axes.set_xlim(first.edges[0], first.edges[-1])
        axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
        axes.set_xlabel(shorten(first.label, 40))
        axes.set_ylabel("Fraction of events")
        note_in(axes, shorten(name, 30))
    if panels:
        legend_below(figure, all_axes[-1], 6)
    return figure


@in_style
def repeats(content: Repeats) -> Figure:
    """AUC of trainings with several seeds, and against the number of events that they learned from."""
    panels = [name for name, there in (("seeds", len(content.seeds) > 1), ("curve", bool(content.curve))) if there]
    figure, all_axes = grid(len(panels), "", 2, (6.2, 4.6), legend=False)
    for axes, name in zip(all_axes, panels, strict=True):
        found = content.seeds if name == "seeds" else content.curve
        values, errors = np.array([(it.auc.value, it.auc.error) for it in found], float).T
        if name == "curve":
            events = [it.events for it in found]
            axes.errorbar(events, values, errors, capsize=3, ls="-", lw=1, **marker(0, 3, 7))
            axes.set_xscale("log")
            axes.minorticks_off()
            axes.set_xticks(events, [f"{each:,}" for each in events], rotation=30, ha="right")
            axes.set_xlabel("Training events of a network")
        else:
            places, mean, spread = np.arange(len(found)), values.mean(), content.spread.value or 0.0
            axes.axhspan(mean - spread, mean + spread, color="#d8d8de", zorder=0)
            axes.axhline(mean, color="black", lw=0.8, zorder=0)
            axes.errorbar(places, values, errors, capsize=3, **marker(0, 3, 7))
            axes.set_xlim(-0.6, len(found) - 0.4)
            axes.set_xticks(places, [str(it.seed) for it in found])
            axes.set_xlabel("Seed")
            note_in(axes, f"{mean:.4f} ± {spread:.4f} (standard deviation)", 11)
        axes.margins(y=0.3)
        axes.set_ylabel("AUC")
    return figure
