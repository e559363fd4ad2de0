"""Figures of many small plots, one for each input, mass, class or target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from MLTools.NanoML.report.figures import grid, in_style, line, marker, shorten

if TYPE_CHECKING:
    from ML_processing.evaluation.classification import Probabilities
    from ML_processing.evaluation.cuts import Efficiency, SculptedMasses
    from ML_processing.evaluation.importance import Importance
    from ML_processing.evaluation.inputs import Correlations, Distributions, Drift
    from ML_processing.evaluation.regression import Predictions
    from ML_processing.evaluation.systematics.variations import VariedDiscriminant
    from ML_processing.metrics.measured import Floats, Histogram

_DRAWN = 12  # features whose shapes are drawn in a comparison
_LONG = 26  # characters under a panel
_MOST_ROWS = 30  # inputs whose importance is drawn
_READABLE = 10  # columns of a matrix whose cells still have room for numbers


@in_style
def features(content: Distributions) -> Figure:
    """Shape of each input by class."""
    panels = content.panels
    figure, all_axes = grid(len(panels), f"{content.events:,} events{of_all(len(panels), content.inputs, 'inputs')}")
    for axes, panel in zip(all_axes, panels, strict=True):
        for i, it in enumerate(panel.classes):
            style = {**line(i, len(panel.classes)), "lw": 1.6}
            axes.stairs(it.bins.values, panel.edges, label=it.name, **style)
        _finish(axes, panel.label, panel.edges)
        if panel.missing > 0:
            note_in(axes, f"{panel.missing:.1%} missing", 11)
    legend_below(figure, all_axes[0])
    return figure


@in_style
def probabilities(content: Probabilities) -> Figure:
    """Probability of every class by class: lines for training events, points with errors for test events."""
    panels, first = content.panels, content.panels[0]
    figure, all_axes = grid(len(panels), f"{first.events:,} events", min(len(panels), 3), (5.4, 4.4))
    for axes, panel in zip(all_axes, panels, strict=True):
        edges, of = panel.edges, len(panel.classes)
        heights: list[NDArray[Any]] = [np.zeros(0)]
        for i, it in enumerate(panel.classes):
            style = line(i, of)
            axes.stairs(it.training.values, edges, label=f"{it.name}, training", **{**style, "lw": 1.6})
            _points(axes, edges, it.test, {**marker(i, of, 4), "elinewidth": 1, "label": f"{it.name}, test"})
            heights += [it.training.values, it.test.values]
        every = np.concatenate(heights)
        axes.set_yscale("log")
        axes.set_ylim(min(every[every > 0], default=0.1) / 2, max(every.max(), 0.1) * 2)
        axes.set_xlim(0, 1)
        axes.set_xlabel(shorten(panel.label, 40))
        axes.set_ylabel("Fraction of events")
    legend_below(figure, all_axes[0], 6)
    return figure


@in_style
def efficiency(content: Efficiency) -> Figure:
    """Efficiency of a cut by class against each feature."""
    panels = content.features
    some = of_all(len(panels), content.columns, "columns")
    figure, all_axes = grid(len(panels), f"{content.events:,} events, score ≥ {content.score_at_least:.3f}{some}")
    for axes, panel in zip(all_axes, panels, strict=True):
        shown = _shortened(panel.edges)
        centers, half = (shown[1:] + shown[:-1]) / 2, (shown[1:] - shown[:-1]) / 2
        highest = 0.0
        for i, it in enumerate(panel.classes):
            values, errors = it.bins.values, it.bins.errors
            shift = (i - (len(panel.classes) - 1) / 2) * half * 0.25
            style = marker(i, len(panel.classes), 5)
            axes.errorbar(centers + shift, values, errors, elinewidth=1.2, label=it.name, **style)
            axes.stairs(values, shown, color=style["color"], lw=0.8, alpha=0.6)
            highest = max(highest, float(np.nanmax(np.append(values + errors, 0))))
        axes.set_xlim(shown[0], shown[-1])
        # weights of both signs, or of very different size, have errors beyond it
        highest = min(max(highest, 0.05), 1.2)
        axes.set_ylim(-0.03 * highest, 1.1 * highest)
        axes.set_xlabel(shorten(panel.label, _LONG))
        axes.set_ylabel("Efficiency")
    legend_below(figure, all_axes[0])
    return figure


@in_style
def sculpting(content: SculptedMasses) -> Figure:
    """Shape of each mass for each background, before and after cuts on the score."""
    panels, cuts = content.panels, content.cuts
    # one column for each background, if that leaves a few
    columns = min(len({panel.background for panel in panels}), 4) if len(panels) > 3 else len(panels)
    some = of_all(len({panel.feature for panel in panels}), content.masses, "masses")
    figure, all_axes = grid(len(panels), f"{content.events:,} events{some}", columns, panel=(4.6, 3.6))
    for axes, panel in zip(all_axes, panels, strict=True):
        edges = panel.edges
        before, highest = panel.before.values, 0.0
        axes.stairs(before, edges, fill=True, color="#d8d8de", label="All")
        axes.stairs(before, edges, color="#717581", lw=1)
        for i, (cut, it) in enumerate(zip(cuts, panel.after, strict=True)):
            kept = 100 * (cut.background_efficiency or 0)
            label = f"Score ≥ {cut.score_at_least:.3f} (keeps {kept:.3g} % of the background)"
            style = marker(i, len(cuts), 4)
            centers = (edges[1:] + edges[:-1]) / 2 + (i - len(cuts) / 2 + 0.5) * (edges[1] - edges[0]) * 0.2
            errors, few = it.bins.errors, it.sculpting.jensen_shannon is None
            # no point without an event, no shape of a few
            values = np.where((errors == 0) | few, np.nan, it.bins.values)
            axes.errorbar(centers, values, errors, elinewidth=1, label=label, **style)
            highest = max(highest, float(np.nanmax(np.append(values + errors, 0))))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, max(before.max(), highest) * 1.35 or 1)
        found = [it.sculpting.jensen_shannon for it in panel.after]
        divergences = ", ".join("-" if it is None else f"{it:.3f}" for it in found)
        note_in(axes, f"{shorten(panel.background, 18)}\nJSD {divergences}")
        axes.set_xlabel(shorten(panel.label, 34))
        axes.set_ylabel("Fraction of events")
    legend_below(figure, all_axes[0], columns=1)
    return figure


@in_style
def drift(content: Drift) -> Figure:
    """Shape of the features in the events of the training and in others, the most different ones."""
    panels = content.panels[:_DRAWN]
    figure, all_axes = grid(len(panels), f"{content.events:,} and {content.other_events:,} events")
    for axes, panel in zip(all_axes, panels, strict=True):
        edges = panel.edges
        style = {"color": line(0, 2)["color"], "lw": 1.8, "fill": True, "alpha": 0.35}
        axes.stairs(panel.training.values, edges, label="Training sample", **style)
        style = {"fmt": "o", "color": "black", "ms": 4, "elinewidth": 1, "label": "Compared files"}
        _points(axes, edges, panel.other, style)
        _finish(axes, panel.label, edges, 1.35)
        if panel.stability_index is not None:
            note_in(axes, f"PSI {panel.stability_index:.3f}")
    legend_below(figure, all_axes[0])
    return figure


@in_style
def importance(content: Importance, loss: str = "Loss of AUC when shuffled") -> Figure:
    """Permutation importance and integrated gradients, if there are any, side by side, the most important at the top."""
    rows = sorted(content.inputs, key=lambda it: -np.inf if it.loss is None else it.loss, reverse=True)
    rows = rows[:_MOST_ROWS]
    names = [shorten(it.name + (" (all)" if it.collection else ""), 28) for it in rows]
    size, panels = (5.2, 1.2 + 0.34 * len(rows)), 1 if all(it.attribution is None for it in rows) else 2
    figure, (left, *rest) = grid(panels, f"{content.events:,} events", panels, size, legend=False)
    places = np.arange(len(rows))[::-1]
    lost, errors, gradients = np.nan_to_num(np.array([(it.loss, it.error, it.attribution) for it in rows], float)).T
    style: dict[str, Any] = {"height": 0.65, "edgecolor": "black", "linewidth": 0.6}
    bars: dict[str, Any] = {"lw": 1.4, "capsize": 3}
    left.barh(places, lost, xerr=errors, color=line(0, 3)["color"], error_kw=bars, **style)
    left.axvline(0, color="black", lw=0.8)
    for right in rest:
        right.barh(places, gradients, color=line(1, 3)["color"], **style)
        right.set_xlabel("Mean |integrated gradient|")
    for axes in (left, *rest):
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.tick_params(axis="y", which="both", length=0)
        axes.set_yticks(places, [])
    left.set_yticks(places, names)
    left.set_xlabel(loss)
    return figure


@in_style
def correlations(content: Correlations) -> Figure:
    """Matrices of linear correlation coefficients, one for each class."""
    names, classes = [shorten(name, 18) for name in content.columns], content.classes
    side = max(4.2, 0.5 * len(names) + 1.0)
    columns, size = max(1, min(3, int(16 / side))), (side, 0.87 * side)
    some = of_all(len(names) - 1, content.features, "features")
    figure, all_axes = grid(len(classes), f"{content.events:,} events{some}", columns, size, legend=False)
    for axes, it in zip(all_axes, classes, strict=True):
        image = _matrix(axes, it.matrix, names)
        axes.set_title(shorten(it.name, 30))
    figure.colorbar(image, ax=all_axes, shrink=0.8, aspect=30, pad=0.01).set_label("Correlation coefficient")
    return figure


def _matrix(axes: Axes, matrix: Floats, names: list[str]) -> Any:
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    if len(names) <= _READABLE:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                color = "white" if abs(value) > 0.6 else "black"
                text = f"{value:.2f}".replace("-0.00", "0.00").replace("0.", ".", 1)
                text = text if abs(value) < 0.995 else f"{value:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=10, color=color)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(which="both", length=0)
    return image


@in_style
def variations(content: VariedDiscriminant) -> Figure:
    """Ratio to nominal in bins of the discriminant, up and down, one panel for each class."""
    panels, edges = content.classes, content.edges
    figure, all_axes = grid(len(panels), f"{content.events:,} events", min(len(panels), 3), (5.4, 4.0))
    for axes, panel in zip(all_axes, panels, strict=True):
        error = np.nan_to_num(panel.error)
        axes.axhline(1, color="black", lw=0.8)
        drawn: list[NDArray[Any]] = [np.zeros(0)]
        for i, it in enumerate(panel.sources):
            color = line(i, len(panel.sources))["color"]
            axes.stairs(
                it.up,
                edges,
                baseline=None,
                color=color,
                lw=2,
                label=f"{it.name} up" if it.down is not None else it.name,
            )
            drawn.append(it.up)
            if it.down is not None:
                axes.stairs(it.down, edges, baseline=None, color=color, lw=2, ls="--", label=f"{it.name} down")
                drawn.append(it.down)
        axes.stairs(
            1 + error,
            edges,
            baseline=1 - error,
            fill=True,
            color="#d8d8de",
            label="Statistical error of nominal",
            zorder=0,
        )
        known = np.concatenate(drawn)
        # the error of a bin with a few events would hide all else
        reach = min(1.4 * float(np.max(np.abs(known[np.isfinite(known)] - 1), initial=0.01)), 1.0)
        axes.set_ylim(1 - reach, 1 + reach)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(shorten(content.label, 40))
        axes.set_ylabel("Varied / nominal")
        note_in(axes, shorten(panel.name, 30))
    legend_below(figure, all_axes[0], columns=2)
    return figure


@in_style
def predictions(content: Predictions) -> Figure:
    """Predicted against true values, one panel for each target."""
    panels = content.panels
    figure, all_axes = grid(len(panels), f"{content.events:,} events", 3, (5.4, 4.6), legend=False)
    colors = plt.get_cmap("viridis").with_extremes(bad="white")
    for axes, panel in zip(all_axes, panels, strict=True):
        edges, sums = panel.edges, panel.sums
        shown = np.where(sums.T > 0, sums.T, np.nan)
        image = axes.pcolormesh(edges, edges, shown, cmap=colors, rasterized=True)
        axes.plot(edges[[0, -1]], edges[[0, -1]], color=line(2, 3)["color"], lw=1.5, ls="--")
        name = shorten(panel.label, 26)
        axes.set_xlabel(f"True {name}")
        axes.set_ylabel(f"Predicted {name}")
        figure.colorbar(image, ax=axes).set_label("Sum of weights")
    return figure


@in_style
def residuals(content: Predictions) -> Figure:
    """Distribution of the residuals, and their bias and resolution against the truth."""
    panels = content.panels
    figure, all_axes = grid(2 * len(panels), f"{content.events:,} events", 2, (6.2, 4.2))
    for axes, panel in zip(all_axes[::2], panels, strict=True):
        edges = panel.residual_edges
        axes.stairs(panel.training.values, edges, color=line(0, 3)["color"], lw=2, label="Network, training")
        if panel.trees is not None:
            axes.stairs(panel.trees.values, edges, color="black", lw=1.4, ls="--", label="BDT, test")
        _points(axes, edges, panel.test, {**marker(0, 3, 5), "elinewidth": 1, "label": "Network, test"})
        axes.set_ylim(0)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(f"Predicted - true {shorten(panel.label, 26)}")
        axes.set_ylabel("Fraction")
    for axes, panel in zip(all_axes[1::2], panels, strict=True):
        profile = panel.profile
        edges = profile.edges
        if not edges.size:
            continue
        edges = _shortened(edges)
        centers, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
        for i, (label, *numbers) in enumerate(
            (
                ("Bias", profile.bias, profile.bias_error),
                ("Resolution (68 %)", profile.resolution, profile.resolution_error),
            )
        ):
            values, errors = (np.array(each, float) for each in numbers)
            axes.errorbar(centers, values, errors, half, elinewidth=1.2, label=label, **marker(i + 1, 3, 6))
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xlabel(f"True {shorten(panel.label, 26)}")
        axes.set_ylabel("Bias, resolution")
    pairs: list[tuple[Any, Any]] = [
        pair for axes in all_axes[:2] for pair in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    handles, labels = ([pair[part] for pair in pairs] for part in (0, 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=12)
    return figure


def of_all(shown: int, all_: int, what: str) -> str:
    """What the title of a figure adds if it does not show all."""
    return f", {shown} of {all_} {what}" if shown < all_ else ""


def _points(axes: Axes, edges: Floats, it: Histogram, style: dict[str, Any]) -> None:
    axes.errorbar((edges[1:] + edges[:-1]) / 2, it.values, it.errors, **style)


def note_in(axes: Axes, text: str, size: float = 12) -> None:
    """Write a text into the upper right corner of a panel."""
    axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=size)


def _finish(axes: Axes, label: str, edges: Floats, above: float = 1.2) -> None:
    """Titles and limits of a panel of shapes."""
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0)
    axes.set_ylim(0, axes.get_ylim()[1] * above)
    axes.set_xlabel(shorten(label, _LONG))
    axes.set_ylabel("Fraction")


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [shorten(text, 60) for text in labels]
    width = max(1, int(figure.get_size_inches()[0] / (0.6 + 0.12 * max(map(len, labels), default=1))))
    figure.legend(handles, labels, loc="outside lower center", ncols=min(width, max(columns, 1), len(labels)))


def _shortened(edges: Floats) -> Floats:
    """Edges of bins with the first and last moved inwards: tails would leave no room for the rest."""
    low, high = edges[1], edges[-2]
    reach = (high - low) * 0.35 or edges[-1] - edges[0]
    return np.clip(edges, low - reach, high + reach)
