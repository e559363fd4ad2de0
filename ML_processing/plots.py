"""Figures of the report, in CMS style and in colours that the colour-blind can tell apart."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ML_processing.metrics import Histogram, Measured, Roc
from MLTools.NanoML.atomic import replacing

__all__ = ["confusion", "losses", "number", "roc", "save", "scores"]

_SIX = ("#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd")
_TEN = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""M. Petroff, Accessible color sequences for data visualization (arXiv:2107.02270), as CMS recommends them."""
_LINES = ("-", "--", ":", "-.")
_SIZE = (9.0, 8.0)
_LEGEND = 17  # font size
_in_style = plt.style.context(mplhep.style.CMS)


def number(measured: Measured, digits: int = 3) -> str:
    """A measured number as text: "0.941 ± 0.006"."""
    if measured.value is None or measured.error is None:
        return "not defined"
    return f"{measured.value:.{digits}f} ± {measured.error:.{digits}f}"


@_in_style
def save(figure: Figure, stem: Path) -> None:
    """Write a figure as `stem`.png and `stem`.pdf."""
    for kind, options in (("png", {"dpi": 100}), ("pdf", {"metadata": {"CreationDate": None}})):
        drawn = io.BytesIO()  # matplotlib cannot end a PDF file on a full disk
        figure.savefig(drawn, format=kind, bbox_inches="tight", **options)
        with replacing(stem.with_name(f"{stem.name}.{kind}")) as aside:
            aside.write_bytes(drawn.getvalue())


@_in_style
def roc(curves: Sequence[tuple[str, Roc, Measured]], right: str) -> Figure:
    """Background efficiency against signal efficiency, one curve per (label, ROC, AUC); the last is the reference."""
    figure, axes = _axes(right)
    lowest = 1.0
    for i, (label, curve, area) in enumerate(curves):
        reference = i == len(curves) - 1
        style = {"color": "black", "ls": (0, (5, 2)), "lw": 1.8} if reference else _line(i, len(curves))
        shown = curve.background > 0
        axes.plot(curve.signal[shown], curve.background[shown], label=f"{label}: AUC {number(area)}", **style)
        lowest = min(lowest, curve.background[shown].min())
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(lowest / (1 / lowest) ** _room(len(curves)), 1.3)
    axes.set_xlabel("Signal efficiency")
    axes.set_ylabel("Background efficiency")
    if curves:
        axes.legend(loc="lower right", fontsize=_LEGEND)
    return figure


@_in_style
def scores(
    edges: NDArray[np.float64],
    classes: Sequence[str],
    training: Sequence[Histogram],
    test: Sequence[Histogram],
    signal: str,
    right: str,
) -> Figure:
    """Signal probability by class: histograms for training events, points with errors for test events."""
    figure, axes = _axes(right)
    centers = (edges[1:] + edges[:-1]) / 2
    for i, name in enumerate(classes):
        style = _line(i, len(classes))
        axes.stairs(training[i][0], edges, label=f"{name}, training", **style)
        if name == signal:
            axes.stairs(training[i][0], edges, fill=True, color=style["color"], alpha=0.15)
        marker = {"fmt": "os^Dvp"[i % 6], "color": style["color"], "ms": 6, "mec": "black", "mew": 0.6}
        axes.errorbar(centers, *test[i], label=f"{name}, test", **marker)
    heights = np.concatenate([values for values, _ in (*training, *test)])
    lowest, highest = min(heights[heights > 0], default=0.1) / 2, max(heights.max(), 0.1)
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(lowest, highest * 1.5 * (highest / lowest) ** _room(len(classes)))
    axes.set_xlabel(f"Probability of {signal}")
    axes.set_ylabel(f"Fraction of events / {edges[1] - edges[0]:.2g}")
    axes.legend(loc="upper center", ncols=2, fontsize=_LEGEND)
    return figure


@_in_style
def confusion(
    sums: NDArray[np.float64], events: NDArray[np.float64], classes: Sequence[str], right: str
) -> Figure:
    """Of each true class (row) the fraction given to each class (column), by weights, with the numbers of events."""
    totals = sums.sum(axis=1, keepdims=True)
    fractions = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    figure, axes = _axes(right, max(_SIZE[0], 2.4 * len(classes)))
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(fractions):
        text = f"{value:.1%}\n{events[row, column]:,.0f} events"
        color = "white" if value > 0.65 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=18, color=color)
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if max(map(len, classes)) > 8 else {}
    axes.set_xticks(range(len(classes)), classes, **slanted)
    axes.set_yticks(range(len(classes)), classes)
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    axes.set_xlabel("Class of the highest probability")
    axes.set_ylabel("True class")
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03).set_label("Fraction of the true class")
    return figure


@_in_style
def losses(histories: Sequence[Sequence[dict[str, Any]]]) -> Figure:
    """Training and validation loss of each network by epoch, with the epoch whose weights were kept."""
    figure, axes = _axes(f"{len(histories)} network{'s' * (len(histories) > 1)}")
    for i, history in enumerate(histories):
        color = _line(i, len(histories))["color"]
        epoch, train, validation = (
            [entry[key] for entry in history] for key in ("epoch", "train_loss", "validation_loss")
        )
        best = int(np.argmin(validation))
        axes.plot(epoch, validation, color=color, lw=2, label=f"Fold {i}")
        axes.plot(epoch, train, color=color, lw=1.6, ls=(0, (2, 1.5)))
        axes.plot(epoch[best], validation[best], "o", color=color, mec="black", ms=9)
    for label, style in (
        ("Validation", {"ls": "-"}),
        ("Training", {"ls": (0, (2, 1.5))}),
        ("Kept", {"ls": "", "marker": "o"}),
    ):
        axes.plot([], [], color="black", label=label, **style)
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Loss (weighted cross entropy)")
    axes.legend(loc="best", ncols=2, fontsize=_LEGEND)
    return figure


def _axes(right: str, size: float = _SIZE[0]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(size, size * _SIZE[1] / _SIZE[0]))
    axes = figure.subplots()
    mplhep.label.exp_label(
        exp="", text="Private work (simulation)", data=True, rlabel=right, fontsize=20, ax=axes
    )
    return figure, axes


def _line(i: int, of: int) -> dict[str, Any]:
    """Style of curve `i` among `of`."""
    colors = _SIX if of <= len(_SIX) else _TEN
    return {"color": colors[i % len(colors)], "ls": _LINES[i % len(_LINES)], "lw": 2.2}


def _room(rows: int) -> float:
    """By what power to stretch a logarithmic axis, so that a legend of so many rows covers no curve."""
    share = min(0.06 * rows + 0.05, 0.6)
    return share / (1 - share)
