"""Figures of a regression."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ML_processing.plots.style import array, grid, in_style, line, marker, shorten, shortened

__all__ = ["predictions", "residuals"]


@in_style
def predictions(content: dict[str, Any]) -> Figure:
    """Predicted against true values, one panel for each target."""
    panels = content["panels"]
    figure, all_axes = grid(len(panels), f"{content['events']:,} events", 3, (5.4, 4.6), legend=False)
    colors = plt.get_cmap("viridis").with_extremes(bad="white")
    for axes, panel in zip(all_axes, panels, strict=True):
        edges, sums = array(panel["edges"]), array(panel["sums"])
        shown = np.where(sums.T > 0, sums.T, np.nan)
        image = axes.pcolormesh(edges, edges, shown, cmap=colors, rasterized=True)
        axes.plot(edges[[0, -1]], edges[[0, -1]], color=line(2, 3)["color"], lw=1.5, ls="--")
        name = shorten(panel["label"], 26)
        axes.set_xlabel(f"True {name}")
        axes.set_ylabel(f"Predicted {name}")
        figure.colorbar(image, ax=axes).set_label("Sum of weights")
    return figure


@in_style
def residuals(content: dict[str, Any]) -> Figure:
    """Distribution of the residuals, and their bias and resolution against the truth."""
    panels = content["panels"]
    figure, all_axes = grid(2 * len(panels), f"{content['events']:,} events", 2, (6.2, 4.2))
    for axes, panel in zip(all_axes[::2], panels, strict=True):
        edges = array(panel["residual_edges"])
        centers = (edges[1:] + edges[:-1]) / 2
        axes.stairs(
            array(panel["training"]["values"]),
            edges,
            color=line(0, 3)["color"],
            lw=2,
            label="Network, training",
        )
        axes.stairs(
            array(panel["trees"]["values"]), edges, color="black", lw=1.4, ls="--", label="Trees, test"
        )
        test = {**marker(0, 3, 5), "elinewidth": 1}
        axes.errorbar(
            centers,
            array(panel["test"]["values"]),
            array(panel["test"]["errors"]),
            label="Network, test",
            **test,
        )
        axes.set_ylim(0)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(f"Predicted - true {shorten(panel['label'], 26)}")
        axes.set_ylabel("Fraction")
    for axes, panel in zip(all_axes[1::2], panels, strict=True):
        profile = panel["profile"]
        edges = array(profile["edges"])
        if not edges.size:
            continue
        edges = shortened(edges)
        centers, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
        for i, (key, label) in enumerate((("bias", "Bias"), ("resolution", "Resolution (68 %)"))):
            values, errors = array(profile[key]), array(profile[f"{key}_error"])
            axes.errorbar(centers, values, errors, half, elinewidth=1.2, label=label, **marker(i + 1, 3, 6))
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xlabel(f"True {shorten(panel['label'], 26)}")
        axes.set_ylabel("Bias, resolution")
    pairs: list[tuple[Any, Any]] = [
        pair for axes in all_axes[:2] for pair in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    handles, labels = ([pair[part] for pair in pairs] for part in (0, 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=12)
    return figure
