"""The scores of events by class: of those that the networks were trained on, and of others; and which class is the most probable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ML_processing.evaluation.content import Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import Scored
from ML_processing.evaluation.sections.classification import overtraining
from ML_processing.metrics.measured import Floats, Histogram, histogram
from ML_processing.models.discriminant import BoundDiscriminant
from MLTools.NanoML.report.figures import (
    finish_panel,
    fit_label,
    legend_above,
    middles,
    name_cells,
    panels,
    shorten,
    single,
)
from MLTools.NanoML.report.section import Caption, Style

_EDGES: NDArray[Any] = np.linspace(0, 1, 26)


@dataclass(frozen=True)
class ClassScores:
    """Scores of the events of a class, and of a test that those trained on are like the others."""

    name: str
    training: Histogram
    test: Histogram
    probability: float | None


@section("scores", only="classification", after="regression")
@dataclass(frozen=True)
class Scores(Part):
    """Scores by class, of events that the networks were trained on and of others."""

    caption = Caption(
        "Score by class",
        "Lines are the events that the networks were trained on, points with statistical errors those they have not "
        "seen. Signal should pile up at the right, background at the left. KS is the probability of a "
        "Kolmogorov-Smirnov test that both have the same distribution: that of the least probable network, times the "
        "number of networks.",
        "Points that are several errors away from the line of their colour in many bins, and KS below 0.01, which is "
        "overtraining; or the same shape for all classes.",
        is_small=True,
    )

    signal: str
    label: str
    edges: Floats
    classes: list[ClassScores]
    events: int

    @classmethod
    def compute(cls, of: Measurement) -> Scores:
        """With the probabilities of Kolmogorov-Smirnov tests that both are alike."""
        tests = of.once(overtraining).kolmogorov_smirnov
        return cls.by_class(of.scored, Scored.join(of.seen), {name: it.probability for name, it in tests.items()})

    @classmethod
    def by_class(cls, scored: Scored, seen: Scored, probabilities: Mapping[str, float | None]) -> Scores:
        """For events that the networks have `seen` in their training, and others."""

        def of_class(part: Scored, i: int) -> Histogram:
            mine = part.labels == i
            return histogram(part.score[mine], part.weights[mine], _EDGES)

        classes = [
            ClassScores(name, of_class(seen, i), of_class(scored, i), probabilities.get(name))
            for i, name in enumerate(scored.names)
        ]
        return cls(scored.names[scored.signal], scored.discriminant.label, _EDGES, classes, len(scored))

    def draw(self, style: Style) -> Figure:
        """Histograms for training events, points with errors for test events."""
        figure, axes = single(style, f"{self.events:,} events")
        self.show(axes, style, 1.5, 2.2, 6)
        for it in (it for it in self.classes if it.name == self.signal):
            axes.stairs(it.training.values, self.edges, fill=True, color=style.color(it.name), alpha=0.15)
        axes.set_ylabel(f"Fraction of events / {self.edges[1] - self.edges[0]:.2g}")
        legend_above(axes, loc="upper center")
        return figure

    def show(self, axes: Axes, style: Style, above: float, width: float, size: float) -> None:
        """Fill a panel: with room `above`, lines of a width, and points of a size."""
        heights: list[NDArray[np.generic]] = []
        for it in self.classes:
            name, (training, test) = shorten(style.name(it.name), 16), (it.training.values, it.test.values)
            axes.stairs(training, self.edges, label=f"{name}, training", **style.line(it.name, width))
            shown = f"{name}, test" + (f" (KS {it.probability:.2g})" if it.probability is not None else "")
            axes.errorbar(middles(self.edges), test, it.test.errors, label=shown, **style.marker(it.name, size))
            heights += [training, test]
        every = np.concatenate(heights)
        axes.set_yscale("log")
        axes.set_ylim(min(every[every > 0], default=0.1) / 2, max(every.max(), 0.1) * above)
        finish_panel(axes, self.edges, style.axis(self.label))


@section("probabilities", only="classification", after="scores")
@dataclass(frozen=True)
class Probabilities(Part):
    """Probability of every class by class."""

    caption = Caption(
        "Probability of every class",
        "The probability of each class, for all classes; lines and points as above. Each class should pile up at the right in its own "
        "panel, and at the left in those of the others.",
        "A class that looks in its own panel as it does in those of others: the network does not know it.",
    )

    panels: list[Scores]  # none for two classes: the second is 1 minus the first

    @classmethod
    def compute(cls, of: Measurement) -> Probabilities:
        """If there are more than two classes."""
        scored, seen = of.scored, Scored.join(of.seen)
        names = scored.names if scored.classes > 2 else []
        every = [BoundDiscriminant.probability(name, names) for name in names]
        return cls(
            [Scores.by_class(replace(scored, discriminant=it), replace(seen, discriminant=it), {}) for it in every]
        )

    def draw(self, style: Style) -> Figure | None:
        """Lines for training events, points with errors for test events."""
        events = self.panels[0].events if self.panels else 0
        shows = [partial(it.show, above=2, width=1.6, size=4) for it in self.panels]
        return panels(style, shows, f"{events:,} events", 3, (5.4, 4.4), 6)


@section("confusion", only="classification", after="calibration")
@dataclass(frozen=True)
class Confusion(Part):
    """Sums of weights and numbers of events by true class (row) and most probable class (column)."""

    caption = Caption(
        "Confusion matrix",
        "Each row is a true class, and shows which class has the highest probability for its events; every row "
        "sums to 100 %. The diagonal should be dark.",
        "A row without a dark cell, or a column that takes everything.",
        is_small=True,
    )

    classes: list[str]
    weights: Floats
    counts: Floats
    events: int

    @classmethod
    def compute(cls, of: Measurement) -> Confusion:
        """The confusion of all events."""
        scored = of.scored
        return cls(scored.names, scored.confusion(), scored.unweighted().confusion(), len(scored))

    def draw(self, style: Style) -> Figure:
        """Fraction by weight of each true class (row) assigned to each class (column), with the numbers of events."""
        classes, sums, counts = [style.name(it) for it in self.classes], self.weights, self.counts
        totals = sums.sum(axis=1, keepdims=True)
        fractions = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
        figure, axes = single(style, f"{self.events:,} events", max(9.0, 2.4 * len(classes)))
        image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        texts = [
            [f"{100 * fraction:.1f} %\n{count:,.0f} events" for fraction, count in zip(*row, strict=True)]
            for row in zip(fractions, counts, strict=True)
        ]
        slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if max(map(len, classes)) > 8 else {}
        name_cells(axes, fractions, classes, texts, 18, **slanted)
        axes.minorticks_off()
        axes.set_xlabel("Class of the highest probability")
        axes.set_ylabel("True class")
        figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03).set_label("Fraction of the true class")
        fit_label(figure, axes)
        return figure
