"""Whether the events of other files are like those of the training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ML_processing.evaluation.classifier_test import ClassifierTest, classifier_test
from ML_processing.evaluation.content import Evaluation, Part, finding, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.scored import MOST_EVENTS, OutOfFold, edges_of, label, missing_share, sampled
from ML_processing.events.data import Table
from ML_processing.metrics.distances import Kolmogorov, bonferroni, kolmogorov
from ML_processing.metrics.measured import MERGED, Floats, Histogram, histogram, quantile
from ML_processing.training.data import EventSample, TrainingFiles
from MLTools.NanoML.contracts.hdf5 import read_metadata
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.figures import finish_panel, line, middles, note_in, panels
from MLTools.NanoML.report.page import Answer, worst_of
from MLTools.NanoML.report.section import Caption, Style

_DRAWN = 12  # features whose shapes are drawn in a comparison
_CHANCE = 0.01  # below this probability it is not chance
_SHIFT = (0.08, 0.2)  # a distance of Kolmogorov-Smirnov: of Gaussians that are 0.2 and 0.5 standard deviations apart
_BY_CHANCE = 1.36  # times sqrt(1 / n + 1 / m): a distance that chance exceeds once in 20 times
_DETAIL = 0.52  # an AUC of one against the other: below, a difference is a detail


@dataclass(frozen=True)
class FeatureDrift:
    """A feature in the events of the training and in others."""

    name: str
    label: str
    test: Kolmogorov = field(metadata=MERGED)
    missing: tuple[float, float]  # share of the values
    edges: Floats
    training: Histogram
    other: Histogram
    shift: float | None = None  # of the median, in widths: halves of the central 68 % of the training

    @classmethod
    def of(cls, title: str, name: str, ours: Any, weights: Any, other: Any, other_weights: Any) -> FeatureDrift:
        """By the values in both, and their weights."""
        samples, edges = (ours, weights, other, other_weights), edges_of(np.concatenate([ours, other]))
        missing = (missing_share(ours), missing_share(other))
        shapes = (histogram(ours, weights, edges), histogram(other, other_weights, edges))
        (low, middle, high), (there, *_) = (
            quantile(x[np.isfinite(x)], w[np.isfinite(x)], shares)
            for x, w, shares in ((ours, weights, (0.16, 0.5, 0.84)), (other, other_weights, (0.5,)))
        )
        shift = float(2 * (there - middle) / (high - low)) if high > low else None
        return cls(name, title, kolmogorov(*samples), missing, edges, *shapes, shift)

    def show(self, axes: Axes, style: Style) -> None:
        """Fill a panel."""
        look = {"color": line(0, 2)["color"], "lw": 1.8, "fill": True, "alpha": 0.35}
        axes.stairs(self.training.values, self.edges, label="Training sample", **look)
        points: dict[str, Any] = {"fmt": "o", "color": "black", "ms": 4, "elinewidth": 1, "label": "Compared files"}
        axes.errorbar(middles(self.edges), self.other.values, self.other.errors, **points)
        finish_panel(axes, self.edges, style.axis(self.name, self.label), "Fraction", 1.35)
        if self.test.distance is not None:
            note_in(axes, f"distance {self.test.distance:.3f}")


@section("drift", after="repeats", asked_after="variations")
@dataclass(frozen=True)
class Drift(Part):
    """The features in the events of the training and in others, the most different one first."""

    caption = Caption(
        "Events of the training against the compared files",
        "Shapes of the features that differ most, with the Kolmogorov-Smirnov distance: the efficiency of no cut on the feature differs by "
        "more.",
        "A shifted feature that is important to the network: the score of those events means something else.",
    )

    files: list[str]
    events: int
    other_events: int
    panels: list[FeatureDrift]
    classifier: ClassifierTest | None = None  # None if there are too few events

    @classmethod
    def compute(cls, of: Measurement) -> Drift | None:
        """Compare the inputs with those of other HDF5 files of simulation, with or without classes.

        None without such files; raises NanoMLError if one lacks an input.
        """
        if not of.compare:
            return None
        tested, table = of.part, _others(of)
        rows, factors = sampled(table.labels, MOST_EVENTS, tested.seed)
        other = OutOfFold(of.training, table, np.zeros((len(table), 0), np.float32)).select(rows, factors)
        found = [
            FeatureDrift.of(label(tested.table, name), name, ours, tested.table.weights, theirs, other.table.weights)
            for name, ours, theirs in zip(
                table.names, tested.table.features.T, other.table.features.T, strict=True
            )
        ]  # fmt: skip
        found.sort(key=lambda it: -(it.test.distance or 0))
        ours = replace(tested, table=replace(tested.table, extras={}))
        counts = (len(tested.table), len(other.table))
        return cls([str(file) for file in of.compare], *counts, found, classifier_test(ours, other))

    def draw(self, style: Style) -> Figure | None:
        """The most different ones."""
        right = f"{self.events:,} and {self.other_events:,} events"
        return panels(style, [it.show for it in self.panels[:_DRAWN]], right)

    def answer(self, page: Evaluation) -> Answer | None:
        """By the feature that differs most, if there is something to compare with."""
        question = "Like the compared files?"
        known = [(it, it.test.distance) for it in self.panels if it.test.distance is not None]
        if not known:
            return Answer(question, "open", "Nothing was tested: no feature could be compared.")
        worst, largest = known[0]
        shifted = [it for it, distance in known if distance > _SHIFT[0]]
        probable = bonferroni([it.test.probability for it, _ in known if it.test.probability is not None])
        significant, relevant, state = probable is not None and probable < _CHANCE, bool(shifted), "good"
        remark = finding(significant, relevant, "a Kolmogorov-Smirnov probability of 1 %", f"a distance of {_SHIFT[0]}")
        text = f"Kolmogorov-Smirnov distance {largest:.3f} of {worst.name}, which differs most. That is {remark}."
        if relevant and significant:
            state = "bad" if largest > _SHIFT[1] else "look"
            by = [it.name if it.shift is None else f"{it.name} by {it.shift:+.2f} widths" for it in shifted]
            text += f" Shifted: {', '.join(by)}."
        elif relevant or _BY_CHANCE * (1 / max(self.events, 1) + 1 / max(self.other_events, 1)) ** 0.5 > _SHIFT[0]:
            state, text = "open", f"{text} More events are needed to tell."
        tested = self.classifier
        if tested is not None:
            text += f" {tested.text('the compared events from those of the training')}"
            if tested.is_apart and (tested.auc.value or 0) > _DETAIL:
                state = worst_of(state, tested.state)
        if state in ("look", "bad"):
            text += " The score of those events means something else: correct them, or train on events like them."
        return Answer(question, state, text)


def _others(of: Measurement) -> Table:
    """The events of the compared files, all of one class, as many as fit into the memory, with weights that stand for all."""
    settings, about, found = of.training.description.config, of.table.about, []
    objects = [it.name for it in about.collections]
    for file in of.compare:
        try:
            regions = [it.name for it in read_metadata(file).regions if it.name in settings.regions]
            features = [name for name in about.names if name != about.parameter]
            wanted = replace(settings, features=features, objects=None if about.labels else objects, regions=regions)
            opened = TrainingFiles.open([file], wanted)
        except NanoMLError as problem:
            raise NanoMLError(f"{file}: cannot be compared with the events of the training: {problem}") from None
        columns = replace(opened.columns, is_labelled=False, extras=())  # or events without a class would be left out
        kept, count = EventSample(settings.memory * 1e6 / len(of.compare)), 0
        for _, raw in opened.parts():
            part = Table.of_rows(file, raw, columns)
            kept.add(part)
            count += len(part)
        table = Table.join(kept.parts)
        found.append(replace(table, weights=table.weights * np.float32(count / max(len(table), 1))))
    table = Table.join(found)
    return of.training.parameter.measured(table) if of.training.parameter else table
