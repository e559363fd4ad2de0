"""Figures of one plot: those of a classification, and the losses of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from ML_processing.metrics.measured import number
from MLTools.NanoML.report.figures import LEGEND, in_style, line, marker, shorten, single

if TYPE_CHECKING:
    from ML_processing.evaluation.classification import Calibration, Confusion, RocCurves, Scores
    from ML_processing.evaluation.cuts import Significance
    from ML_processing.training.description import Epoch


@in_style
def roc(content: RocCurves) -> Figure:
    """Background efficiency against signal efficiency; a BDT beside the networks is the last curve."""
    figure, axes = single(f"{content.events:,} events")
    curves, lowest = content.curves, 1.0
    for i, it in enumerate(curves):
        reference = content.has_baseline and i == len(curves) - 1
        style = {"color": "black", "ls": (0, (5, 2)), "lw": 1.8} if reference else line(i, len(curves))
        signal, background = it.signal, it.background
        shown = background > 0
        axes.plot(signal[shown], background[shown], label=f"{it.label}: AUC {number(it.auc)}", **style)
        lowest = min(lowest, background[shown].min())
    if content.band and curves:
        shown = content.band.high > 0
        low, high = (each[shown] for each in (np.maximum(content.band.low, lowest / 2), content.band.high))
        color = line(0, len(curves))["color"]
        axes.fill_between(content.band.signal[shown], low, high, color=color, alpha=0.25, lw=0)
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(lowest / (1 / lowest) ** _room(len(curves)), 1.3)
    axes.set_xlabel("Signal efficiency")
    axes.set_ylabel("Background efficiency")
    if curves:
        axes.legend(loc="lower right", fontsize=LEGEND)
    return figure


@in_style
def scores(content: Scores) -> Figure:
    """Scores by class: histograms for training events, points with errors for test events."""
    figure, axes = single(f"{content.events:,} events")
    edges, classes = content.edges, content.classes
    centers = (edges[1:] + edges[:-1]) / 2
    heights = []
    for i, it in enumerate(classes):
        style, name = line(i, len(classes)), shorten(it.name, 16)
        training, test = it.training.values, it.test.values
        axes.stairs(training, edges, label=f"{name}, training", **style)
        if it.name == content.signal:
            axes.stairs(training, edges, fill=True, color=style["color"], alpha=0.15)
        shown = f"{name}, test" + (f" (KS {it.probability:.2g})" if it.probability is not None else "")
        axes.errorbar(centers, test, it.test.errors, label=shown, **marker(i, len(classes)))
        heights += [training, test]
    every = np.concatenate(heights)
    lowest, highest = min(every[every > 0], default=0.1) / 2, max(every.max(), 0.1)
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(lowest, highest * 1.5 * (highest / lowest) ** _room(len(classes)))
    axes.set_xlabel(content.label)
    axes.set_ylabel(f"Fraction of events / {edges[1] - edges[0]:.2g}")
    axes.legend(loc="upper center", ncols=2, fontsize=LEGEND - 2)
    return figure


@in_style
def confusion(content: Confusion) -> Figure:
    """Fraction by weight of each true class (row) assigned to each class (column), with the numbers of events."""
    classes, sums, counts = content.classes, content.weights, content.counts
    totals = sums.sum(axis=1, keepdims=True)
    fractions = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    figure, axes = single(f"{content.events:,} events", max(9.0, 2.4 * len(classes)))
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
def calibration(content: Calibration) -> Figure:
    """Observed against predicted probability of each class, and of the signal by each discriminant."""
    figure, axes = single(f"{content.events:,} events")
    classes = [*content.classes, *content.discriminants]
    axes.plot([0, 1], [0, 1], color="black", lw=1.5, ls=(0, (5, 2)), label="Perfect")
    for i, it in enumerate(classes):
        curve, style = it.curve, line(i, len(classes))
        deviation = f"ECE {curve.expected_calibration_error:.3f} ({curve.by_chance:.3f} by chance)"
        label = f"{shorten(it.name, 20)}: {deviation}"
        axes.plot(curve.predicted, curve.observed, color=style["color"], lw=1.4, ls=style["ls"])
        axes.errorbar(
            curve.predicted, curve.observed, curve.error, label=label, capsize=3, **marker(i, len(classes), 8)
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1 / (1 - min(0.065 * (len(classes) + 1) + 0.03, 0.6)))
    axes.set_xlabel("Predicted probability")
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel("Observed fraction")
    axes.legend(loc="upper left", fontsize=LEGEND)
    return figure


@in_style
def significance(content: Significance) -> Figure:
    """Expected significance against the cut, with the efficiencies below."""
    figure, axes = single(f"{content.events:,} events")
    scan, usable, best = content.scan, content.scan.usable, content.best.score_at_least
    cuts, plain, error = scan.cuts[usable], scan.plain[usable], scan.plain_error[usable]
    color = line(0, 3)["color"]
    label = "Expected significance" if content.physical else "Significance (weights not normalised)"
    axes.plot(cuts, plain, color=color, lw=2.2, label=label)
    axes.fill_between(cuts, plain - error, plain + error, color=color, alpha=0.25, lw=0)
    style = {"color": line(2, 3)["color"], "lw": 2.2, "ls": "--"}
    axes.plot(cuts, scan.significance[usable], label="with the background's statistical error", **style)
    label = f"Best cut {best:.3f}"
    axes.axvline(best, ymax=0.75, color="black", lw=1.5, ls=":", label=label)
    highest = float(np.nanmax(plain + error))
    if content.cross_fit is not None:
        points = np.array([(it.score_at_least, it.asimov, it.asimov_error) for it in content.cross_fit.halves])
        axes.errorbar(*points.T, label="cut chosen on other events", **marker(0, 3, 9))
        highest = max(highest, float((points[:, 1] + points[:, 2]).max()))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(highest, 1e-9) / 0.68)
    axes.set_xlabel(f"Cut on the {content.score}")
    axes.set_ylabel("Significance (standard deviations)")
    axes.legend(loc="upper left", fontsize=LEGEND)
    return figure


@in_style
def losses(histories: Sequence[Sequence[Epoch]], is_boosted: bool) -> Figure:
    """Training and validation loss of each network by epoch, or round if it `is_boosted`, with that whose weights were kept."""
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
    axes.set_xlabel("Round" if is_boosted else "Epoch")
    axes.set_ylabel("Weighted mean loss")
    axes.legend(loc="best", ncols=2, fontsize=LEGEND)
    return figure


def _room(rows: int) -> float:
    """The power by which to stretch a logarithmic axis, so that a legend with this number of rows covers no curve."""
    share = min(0.06 * rows + 0.05, 0.6)
    return share / (1 - share)
