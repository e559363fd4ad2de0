"""Figures of one plot: those of a classification, and the losses of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from ML_processing.metrics.measured import Measured
from ML_processing.plots.style import LEGEND, array, in_style, line, marker, number, room, shorten, single

if TYPE_CHECKING:
    from ML_processing.training.description import Epoch


@in_style
def roc(content: dict[str, Any]) -> Figure:
    """Background efficiency against signal efficiency; the last curve is the reference."""
    figure, axes = single(f"{content['events']:,} events")
    curves, lowest = content["curves"], 1.0
    for i, it in enumerate(curves):
        reference = i == len(curves) - 1
        style = {"color": "black", "ls": (0, (5, 2)), "lw": 1.8} if reference else line(i, len(curves))
        signal, background = array(it["signal"]), array(it["background"])
        shown = background > 0
        area = number(Measured(it["auc"], it["auc_error"]))
        axes.plot(signal[shown], background[shown], label=f"{it['label']}: AUC {area}", **style)
        lowest = min(lowest, background[shown].min())
    if content["band"] and curves:
        signal, low, high = (array(content["band"][key]) for key in ("signal", "low", "high"))
        shown = high > 0
        low = np.maximum(low, lowest / 2)
        color = line(0, len(curves))["color"]
        axes.fill_between(signal[shown], low[shown], high[shown], color=color, alpha=0.25, lw=0)
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(lowest / (1 / lowest) ** room(len(curves)), 1.3)
    axes.set_xlabel("Signal efficiency")
    axes.set_ylabel("Background efficiency")
    if curves:
        axes.legend(loc="lower right", fontsize=LEGEND)
    return figure


@in_style
def scores(content: dict[str, Any]) -> Figure:
    """Signal probability by class: histograms for training events, points with errors for test events."""
    figure, axes = single(f"{content['events']:,} events")
    edges, classes = array(content["edges"]), content["classes"]
    centers = (edges[1:] + edges[:-1]) / 2
    heights = []
    for i, it in enumerate(classes):
        style, name = line(i, len(classes)), shorten(it["name"], 16)
        training, test, errors = (
            array(values) for values in (it["training"]["values"], it["test"]["values"], it["test"]["errors"])
        )
        axes.stairs(training, edges, label=f"{name}, training", **style)
        if it["name"] == content["signal"]:
            axes.stairs(training, edges, fill=True, color=style["color"], alpha=0.15)
        p = it.get("probability")
        shown = f"{name}, test" + (f" (KS {p:.2g})" if p is not None else "")
        axes.errorbar(centers, test, errors, label=shown, **marker(i, len(classes)))
        heights += [training, test]
    every = np.concatenate(heights)
    lowest, highest = min(every[every > 0], default=0.1) / 2, max(every.max(), 0.1)
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(lowest, highest * 1.5 * (highest / lowest) ** room(len(classes)))
    axes.set_xlabel(f"Probability of {content['signal']}")
    axes.set_ylabel(f"Fraction of events / {edges[1] - edges[0]:.2g}")
    axes.legend(loc="upper center", ncols=2, fontsize=LEGEND - 2)
    return figure


@in_style
def confusion(content: dict[str, Any]) -> Figure:
    """Fraction by weight of each true class (row) assigned to each class (column), with the numbers of events."""
    classes, sums, counts = content["classes"], array(content["weights"]), array(content["counts"])
    totals = sums.sum(axis=1, keepdims=True)
    fractions = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    figure, axes = single(f"{content['events']:,} events", max(9.0, 2.4 * len(classes)))
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(fractions):
        text = f"{value:.1%}\n{counts[row, column]:,.0f} events"
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


@in_style
def calibration(content: dict[str, Any]) -> Figure:
    """Observed against predicted probability of each class."""
    figure, axes = single(f"{content['events']:,} events")
    classes = content["classes"]
    axes.plot([0, 1], [0, 1], color="black", lw=1.5, ls=(0, (5, 2)), label="Perfect")
    for i, it in enumerate(classes):
        predicted, observed, error = (array(it[key]) for key in ("predicted", "observed", "error"))
        style = line(i, len(classes))
        label = (
            f"{shorten(it['name'], 16)}: ECE {it['expected_calibration_error']:.3f} ({it['by_chance']:.3f} by chance)"
        )
        axes.plot(predicted, observed, color=style["color"], lw=1.4, ls=style["ls"])
        axes.errorbar(predicted, observed, error, label=label, capsize=3, **marker(i, len(classes), 8))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1 / (1 - min(0.065 * (len(classes) + 1) + 0.03, 0.6)))
    axes.set_xlabel("Predicted probability")
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel("Observed fraction")
    axes.legend(loc="upper left", fontsize=LEGEND)
    return figure


@in_style
def significance(content: dict[str, Any]) -> Figure:
    """Expected significance against the cut, with the efficiencies below."""
    figure, axes = single(f"{content['events']:,} events")
    cuts, plain, error, careful = (array(content[key]) for key in ("cuts", "plain", "plain_error", "significance"))
    usable, best = np.array(content["usable"], bool), content["best"]
    color = line(0, 3)["color"]
    label = "Expected significance" if content["physical"] else "Significance (weights not normalised)"
    axes.plot(cuts[usable], plain[usable], color=color, lw=2.2, label=label)
    low, high = (plain - error)[usable], (plain + error)[usable]
    axes.fill_between(cuts[usable], low, high, color=color, alpha=0.25, lw=0)
    style = {"color": line(2, 3)["color"], "lw": 2.2, "ls": "--"}
    axes.plot(cuts[usable], careful[usable], label="with the background's statistical error", **style)
    label = f"Best cut {best['score_at_least']:.3f}"
    axes.axvline(best["score_at_least"], ymax=0.75, color="black", lw=1.5, ls=":", label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(np.nanmax(high), 1e-9) / 0.72)
    axes.set_xlabel("Cut on the signal probability")
    axes.set_ylabel("Significance (standard deviations)")
    axes.legend(loc="upper left", fontsize=LEGEND)
    return figure


@in_style
def losses(histories: Sequence[Sequence[Epoch]], title: str = "Loss (weighted cross entropy)") -> Figure:
    """Training and validation loss of each network by epoch, with the epoch whose weights were kept."""
    figure, axes = single(f"{len(histories)} network{'s' * (len(histories) > 1)}")
    for i, history in enumerate(histories):
        color = line(i, len(histories))["color"]
        epoch, train, validation = (
            [getattr(entry, key) for entry in history] for key in ("epoch", "train_loss", "validation_loss")
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
    axes.set_ylabel(title)
    axes.legend(loc="best", ncols=2, fontsize=LEGEND)
    return figure
