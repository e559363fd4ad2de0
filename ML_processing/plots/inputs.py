"""Figures of what the inputs are good for, and how they go together."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ML_processing.plots.style import array, grid, in_style, line, shorten

__all__ = ["correlations", "importance"]

_MOST_ROWS = 30
_READABLE = 10  # columns of a matrix whose cells still have room for numbers


@in_style
def importance(content: dict[str, Any], loss: str = "Loss of AUC when shuffled") -> Figure:
    """Permutation importance and integrated gradients, side by side, the most important at the top."""
    rows = sorted(
        content["inputs"], key=lambda it: it["loss"] if it["loss"] is not None else -np.inf, reverse=True
    )
    rows = rows[:_MOST_ROWS]
    names = [shorten(it["name"] + (" (all)" if it["collection"] else ""), 28) for it in rows]
    figure, (left, right) = grid(
        2, f"{content['events']:,} events", 2, panel=(5.2, 1.2 + 0.34 * len(rows)), legend=False
    )
    places = np.arange(len(rows))[::-1]
    values, errors = (np.nan_to_num(array([it[key] for it in rows])) for key in ("loss", "error"))
    style: dict[str, Any] = {"height": 0.65, "edgecolor": "black", "linewidth": 0.6}
    left.barh(
        places, values, xerr=errors, color=line(0, 3)["color"], error_kw={"lw": 1.4, "capsize": 3}, **style
    )
    left.axvline(0, color="black", lw=0.8)
    right.barh(
        places, np.nan_to_num(array([it["attribution"] for it in rows])), color=line(1, 3)["color"], **style
    )
    for axes in (left, right):
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.tick_params(axis="y", which="both", length=0)
        axes.minorticks_off()
    left.set_yticks(places, names)
    right.set_yticks(places, [])
    left.set_xlabel(loss)
    right.set_xlabel("Mean |integrated gradient|")
    return figure


@in_style
def correlations(content: dict[str, Any]) -> Figure:
    """Matrices of linear correlation coefficients, one for each class."""
    names, classes = [shorten(name, 18) for name in content["columns"]], content["classes"]
    side = max(4.2, 0.5 * len(names) + 1.0)
    figure, all_axes = grid(
        len(classes),
        f"{content['events']:,} events",
        max(1, min(3, int(16 / side))),
        (side, 0.87 * side),
        legend=False,
    )
    for axes, it in zip(all_axes, classes, strict=True):
        image = _matrix(axes, array(it["matrix"]), names)
        axes.set_title(shorten(it["name"], 30))
    figure.colorbar(image, ax=all_axes, shrink=0.8, aspect=30, pad=0.01).set_label("Correlation coefficient")
    return figure


def _matrix(axes: Axes, matrix: Any, names: list[str]) -> Any:
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    if len(names) <= _READABLE:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                color = "white" if abs(value) > 0.6 else "black"
                text = (
                    f"{value:.2f}".replace("-0.00", "0.00").replace("0.", ".", 1)
                    if abs(value) < 0.995
                    else f"{value:.0f}"
                )
                axes.text(column, row, text, ha="center", va="center", fontsize=10, color=color)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    return image
