"""The inputs of the networks: their shapes, and how they are correlated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import (
    ClassHistogram,
    OutOfFold,
    by_class,
    edges_of,
    inputs_of,
    label,
    missing_share,
)
from ML_processing.evaluation.sections.importance import Importance
from ML_processing.metrics.measured import Floats
from MLTools.NanoML.report.figures import finish_panel, grid, name_cells, note_in, of_all, panels, shorten
from MLTools.NanoML.report.page import table as html_table
from MLTools.NanoML.report.section import Caption, Style

_MOST_DRAWN, _MOST_CORRELATED = 24, 25
_EDGES: NDArray[Any] = np.linspace(0, 1, 26)  # of a discriminant
_READABLE = 10  # columns of a matrix whose cells still have room for numbers


@dataclass(frozen=True)
class InputShape:
    """Shape of an input for every class."""

    name: str
    label: str
    edges: Floats
    missing: float  # share of the values
    classes: list[ClassHistogram]

    def show(self, axes: Axes, style: Style) -> None:
        """Fill a panel."""
        for it in self.classes:
            axes.stairs(it.bins.values, self.edges, label=style.name(it.name), **style.line(it.name, 1.6))
        finish_panel(axes, self.edges, style.axis(self.name, self.label), "Fraction", 1.2)
        if self.missing > 0:
            note_in(axes, f"{self.missing:.1%} missing", 11)


@section("features", after="gain")
@dataclass(frozen=True)
class Distributions(Part):
    """Shape of the inputs, the most important ones if there are more `inputs`."""

    caption = Caption(
        "Inputs by class",
        "Shape of each input, every class normalised to one; the first and last bin include all beyond. Each object "
        "of a collection counts. Of many inputs, the most important ones.",
        "Spikes at one value, absurd values, many missing ones: something is wrong in the selection.",
    )

    panels: list[InputShape]
    inputs: int
    events: int
    # by input the shares of its values that are missing, of each class; only inputs that lack some
    missing: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def compute(cls, of: Measurement) -> Distributions | None:
        """Each input for every class; an object counts with the weight of its event."""
        tested, important = of.part, of.once(Importance.compute)
        table, panels, found = tested.table, [], inputs_of(tested.table)
        for it in (found[i] for i in important.leading([it.name for it in found], _MOST_DRAWN)):
            values, rows = it.values(table)
            edges = edges_of(values)
            classes = by_class(table, table.labels[rows], values, table.weights[rows], edges)
            panels.append(InputShape(it.name, label(table, it.name), edges, missing_share(values), classes))
        return cls(panels, len(found), len(table), _missing_by_class(tested))

    def draw(self, style: Style) -> Figure | None:
        """The shape of each by class."""
        some = of_all(len(self.panels), self.inputs, "inputs")
        return panels(style, [it.show for it in self.panels], f"{self.events:,} events{some}")

    def tables(self, page: Evaluation) -> str:
        """How often inputs are missing, by class."""
        if not self.missing:
            return ""
        rows = [[name, *(f"{100 * share:.3g} %" for share in shares)] for name, shares in self.missing.items()]
        text = "How often an input has no value: where the classes differ, this alone tells them apart, in simulation at least."
        return html_table(["missing values", *page.classes], rows) + f"<p>{text}</p>"


@section("discriminants", only="classification", after="probabilities")
class Discriminants(Distributions):
    """Shape of each discriminant for every class."""

    caption = Caption(
        "Discriminants by class",
        "Shape of each discriminant, every class normalised to one. Its own signal should pile up at the right, the classes that "
        "stand against it at the left; others may be anywhere.",
        "The same shape for its signal and for a class that stands against it.",
    )

    @classmethod
    def compute(cls, of: Measurement) -> Discriminants | None:
        """None if there is only one."""
        every, tested, events = of.training.discriminants, of.tested, of.tested.table
        if len(every) < 2:
            return None
        shapes = [by_class(events, events.labels, it.values(tested.scores), events.weights, _EDGES) for it in every]
        panels = [
            InputShape(it.of.name, it.label, _EDGES, 0.0, classes) for it, classes in zip(every, shapes, strict=True)
        ]
        return cls(panels, len(panels), len(events))


def _missing_by_class(tested: OutOfFold) -> dict[str, list[float]]:
    """By input the shares of its values that are missing, of each class; only inputs that lack some."""
    table, sentinels, found = tested.table, tested.training.sentinels, {}
    for it in inputs_of(table):
        values, rows = it.values(table)
        missing = ~np.isfinite(values) | np.isin(values, np.array(sentinels.get(it.name, []), np.float32))
        if missing.any():
            labels = table.labels[rows]
            every, lacking = (np.bincount(which, minlength=len(table.classes)) for which in (labels, labels[missing]))
            found[it.name] = (lacking / np.maximum(every, 1)).tolist()
    return found


@dataclass(frozen=True)
class ClassMatrix:
    """Correlations in the events of a class."""

    name: str
    matrix: Floats


@section("correlations", after="confusion")
@dataclass(frozen=True)
class Correlations(Part):
    """Linear correlation coefficients of the most important of some `features`, and of the output as the last column."""

    caption = Caption(
        "Correlations by class",
        "Linear correlation coefficients of the features with each other and, in the last row, with the output of the "
        "network: 1 or -1 is a straight line, 0 none. Of many features, the most important ones.",
        "Two features with 1 or -1: one of them can be left out. A mass with a large correlation with the score in a "
        "background will be sculpted.",
    )

    columns: list[str]
    classes: list[ClassMatrix]
    features: int
    events: int

    @classmethod
    def compute(cls, of: Measurement) -> Correlations | None:
        """Correlate the features with each other and with the score or the first target, for each class."""
        tested, important = of.part, of.once(Importance.compute)
        table = tested.table
        if len(table.names) < 2:
            return None
        chosen = important.leading(table.names, _MOST_CORRELATED)
        names = [table.names[i] for i in chosen]
        regression = bool(tested.training.targets)
        output = tested.scores[:, 0] if regression else tested.training.discriminant.values(tested.scores)
        values = np.column_stack([table.features[:, chosen], output])
        parts = [(name, table.labels == i) for i, name in enumerate(table.classes)]
        classes = [ClassMatrix(name, correlation(values[mine], table.weights[mine])) for name, mine in parts]
        columns = [*names, "prediction" if regression else "score"]
        return cls(columns, classes, len(table.names), len(table))

    def draw(self, style: Style) -> Figure:
        """Matrices of linear correlation coefficients, one for each class."""
        names, classes = [shorten(style.called(name), 18) for name in self.columns], self.classes
        side = max(4.2, 0.5 * len(names) + 1.0)
        columns, size = max(1, min(3, int(16 / side))), (side, 0.87 * side)
        some = of_all(len(names) - 1, self.features, "features")
        figure, all_axes = grid(style, len(classes), f"{self.events:,} events{some}", columns, size, legend=False)
        for axes, it in zip(all_axes, classes, strict=True):
            image = axes.imshow(it.matrix, cmap="RdBu_r", vmin=-1, vmax=1)
            texts = [[_rounded(each) for each in row] for row in it.matrix] if len(names) <= _READABLE else []
            name_cells(axes, it.matrix, names, texts, 10, rotation=90)
            axes.set_title(shorten(style.name(it.name), 30))
        figure.colorbar(image, ax=all_axes, shrink=0.8, aspect=30, pad=0.01).set_label("Correlation coefficient")
        return figure


def _rounded(value: float) -> str:
    """With two decimals, which begin with the point; empty if it is not defined."""
    if not np.isfinite(value):
        return ""
    text = f"{value:.2f}".replace("-0.00", "0.00").replace("0.", ".", 1)
    return text if abs(value) < 0.995 else f"{value:.0f}"


def correlation(features: ArrayLike, weight: ArrayLike) -> Floats:
    """Linear correlation coefficients, float64 of shape (F, F).

    For each pair of features (N, F) over the events in which both are finite, with weights (N,) of either sign; NaN for
    a feature that does not vary.
    """
    x, w = np.asarray(features, np.float64), np.asarray(weight, np.float64)[:, None]
    known = np.isfinite(x)
    pairs = zip(x.T, known.T, strict=True)
    middle = np.array([np.median(column[mask]) if mask.any() else 0.0 for column, mask in pairs])
    with np.errstate(invalid="ignore"):
        x = np.where(known, x - middle, 0.0)  # near 0, where the sums lose no digits
    mask = known.astype(np.float64)
    total = (mask * w).T @ mask
    first, squares, products = (x * w).T @ mask, (x**2 * w).T @ mask, (x * w).T @ x
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = first / total
        variance = squares / total - mean**2
        covariance = products / total - mean * mean.T
        variance[variance <= 1e-12 * np.abs(squares / total)] = np.nan
        found: Floats = np.clip(covariance / np.sqrt(variance * variance.T), -1, 1)
    return found
