"""Figures of many small plots, one for each feature or mass."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ML_processing.plots.style import array, grid, in_style, line, marker, shorten, shortened

__all__ = ["drift", "efficiency", "features", "sculpting"]

_DRAWN = 12  # features whose shapes are drawn in a comparison
_LONG = 26  # characters under a panel


@in_style
def features(content: dict[str, Any]) -> Figure:
    """Shape of each input by class."""
    panels = content["panels"]
    figure, all_axes = grid(len(panels), f"{content['events']:,} events")
    for axes, panel in zip(all_axes, panels, strict=True):
        edges = array(panel["edges"])
        for i, it in enumerate(panel["classes"]):
            style = line(i, len(panel["classes"]))
            _shape(axes, edges, it, {**style, "lw": 1.6}, it["name"])
        _finish(axes, panel, edges)
        if panel["missing"] > 0:
            text = f"{panel['missing']:.1%} missing"
            axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=11)
    _legend(figure, all_axes[0])
    return figure


@in_style
def efficiency(content: dict[str, Any]) -> Figure:
    """Efficiency of a cut by class against each feature."""
    panels = content["features"]
    figure, all_axes = grid(
        len(panels), f"{content['events']:,} events, score ≥ {content['score_at_least']:.3f}"
    )
    for axes, panel in zip(all_axes, panels, strict=True):
        edges = array(panel["edges"])
        shown = shortened(edges)
        centers, half = (shown[1:] + shown[:-1]) / 2, (shown[1:] - shown[:-1]) / 2
        highest = 0.0
        for i, it in enumerate(panel["classes"]):
            values, errors = array(it["values"]), array(it["errors"])
            shift = (i - (len(panel["classes"]) - 1) / 2) * half * 0.25
            style = marker(i, len(panel["classes"]), 5)
            axes.errorbar(
                centers + shift, values, errors, half * 0, elinewidth=1.2, label=it["name"], **style
            )
            axes.stairs(values, shown, color=style["color"], lw=0.8, alpha=0.6)
            highest = max(highest, float(np.nanmax(np.append(values + errors, 0))))
        axes.set_xlim(shown[0], shown[-1])
        axes.set_ylim(-0.03 * max(highest, 0.05), max(highest, 0.05) * 1.1)
        axes.set_xlabel(shorten(panel["label"], _LONG))
        axes.set_ylabel("Efficiency")
    _legend(figure, all_axes[0])
    return figure


@in_style
def sculpting(content: dict[str, Any]) -> Figure:
    """Shape of each mass for each background, before and after cuts on the score."""
    panels, cuts = content["panels"], content["cuts"]
    figure, all_axes = grid(len(panels), f"{content['events']:,} events", _columns(panels), panel=(4.6, 3.6))
    for axes, panel in zip(all_axes, panels, strict=True):
        edges = array(panel["edges"])
        before, highest = array(panel["before"]["values"]), 0.0
        axes.stairs(before, edges, fill=True, color="#d8d8de", label="All")
        axes.stairs(before, edges, color="#717581", lw=1)
        for i, (cut, it) in enumerate(zip(cuts, panel["after"], strict=True)):
            label = f"Score ≥ {cut['score_at_least']:.3f} (keeps {100 * cut['background_efficiency']:.3g} % of the background)"
            style = marker(i, len(cuts), 4)
            centers = (edges[1:] + edges[:-1]) / 2 + (i - len(cuts) / 2 + 0.5) * (edges[1] - edges[0]) * 0.2
            values, errors = array(it["values"]), array(it["errors"])
            few = it["jensen_shannon"] is None
            values[(errors == 0) | few] = np.nan  # no point without an event, no shape of a few
            axes.errorbar(centers, values, errors, elinewidth=1, label=label, **style)
            highest = max(highest, float(np.nanmax(np.append(values + errors, 0))))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, max(before.max(), highest) * 1.35 or 1)
        divergences = ", ".join(
            "-" if it["jensen_shannon"] is None else f"{it['jensen_shannon']:.3f}" for it in panel["after"]
        )
        axes.text(
            0.97,
            0.95,
            f"{shorten(panel['background'], 18)}\nJSD {divergences}",
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=12,
        )
        axes.set_xlabel(shorten(panel["label"], 34))
        axes.set_ylabel("Fraction of events")
    _legend(figure, all_axes[0], columns=1)
    return figure


def _columns(panels: list[dict[str, Any]]) -> int:
    """One column for each background, if that leaves a few."""
    return min(len({panel["background"] for panel in panels}), 4) if len(panels) > 3 else len(panels)


@in_style
def drift(content: dict[str, Any]) -> Figure:
    """Shape of the features in the events of the training and in others, the most different ones."""
    panels = content["panels"][:_DRAWN]
    figure, all_axes = grid(len(panels), f"{content['events']:,} and {content['other_events']:,} events")
    first = "Training sample" + (" without signal" if content["without_signal"] else "")
    for axes, panel in zip(all_axes, panels, strict=True):
        edges = array(panel["edges"])
        style = {"color": line(0, 2)["color"], "lw": 1.8, "fill": True, "alpha": 0.35}
        _shape(axes, edges, panel["training"], style, first)
        values, errors = array(panel["other"]["values"]), array(panel["other"]["errors"])
        axes.errorbar(
            (edges[1:] + edges[:-1]) / 2,
            values,
            errors,
            fmt="o",
            color="black",
            ms=4,
            elinewidth=1,
            label="Compared files",
        )
        _finish(axes, panel, edges, 1.35)
        index = panel["stability_index"]
        text = f"PSI {index:.3f}" if index is not None else ""
        axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=12)
    _legend(figure, all_axes[0])
    return figure


def _shape(axes: Axes, edges: Any, it: dict[str, Any], style: dict[str, Any], label: str) -> None:
    axes.stairs(array(it["values"]), edges, label=label, **style)


def _finish(axes: Axes, panel: dict[str, Any], edges: Any, above: float = 1.2) -> None:
    """Titles and limits of a panel of shapes."""
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0)
    axes.set_ylim(0, axes.get_ylim()[1] * above)
    axes.set_xlabel(shorten(panel["label"], _LONG))
    axes.set_ylabel("Fraction")


def _legend(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [shorten(text, 60) for text in labels]
    width = max(1, int(figure.get_size_inches()[0] / (0.6 + 0.12 * max(map(len, labels), default=1))))
    figure.legend(handles, labels, loc="outside lower center", ncols=min(width, max(columns, 1), len(labels)))
