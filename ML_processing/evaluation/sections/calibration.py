"""Whether predicted probabilities are those that are observed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from ML_processing.evaluation.content import Evaluation, Part, judged, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.evaluation.sections.classification import separated
from ML_processing.metrics.measured import MERGED
from ML_processing.metrics.roc import Reliability, reliability
from MLTools.NanoML.report.figures import legend_above, shorten, single
from MLTools.NanoML.report.page import Answer
from MLTools.NanoML.report.section import Caption, Style

_OFF = (0.01, 0.05)  # between probabilities and observed fractions


@dataclass(frozen=True)
class ClassCalibration:
    """Calibration of the probability of a class, or of a discriminant."""

    name: str
    curve: Reliability = field(metadata=MERGED)


@section("calibration", only="classification", after="sculpting", asked_after="importance")
@dataclass(frozen=True)
class Calibration(Part):
    """Calibration of every class probability, and of every discriminant in its shares."""

    caption = Caption(
        "Calibration",
        "How many of the events with a given probability of a class belong to it, where all classes have the same "
        "total weight, as in the training; for a discriminant how many belong to its signal, where the classes have its shares. "
        "Points should follow the dashed line within their errors. ECE is the mean distance from it, next to what a perfect "
        "network would have by chance.",
        "Points above the line at the left and below it at the right: the network is overconfident, which is "
        "overtraining. Cuts on the score remain valid.",
        is_small=True,
    )
    unmeasured = "Calibrated?", "Calibration is not defined: a class has no positive sum of weights."

    classes: list[ClassCalibration]
    discriminants: list[ClassCalibration]
    events: int

    @classmethod
    def compute(cls, of: Measurement) -> Calibration | None:
        """With the equal weights of the classes that they had in the training; None if these are not defined.

        For a discriminant, these are multiplied by its shares: then it is the fraction of the signal, if it is right.
        """
        scored = of.scored
        weights = scored.balanced()
        if weights is None:
            return None
        classes = []
        for i, name in enumerate(scored.names):
            found = reliability(scored.network[:, i], scored.labels == i, weights)
            if found is None:
                return None
            classes.append(ClassCalibration(name, found))
        shared = []
        for it in of.training.discriminants:
            found = reliability(
                it.values(scored.network), scored.labels == it.signal, weights * it.shares[scored.labels]
            )
            if found is not None:
                shared.append(ClassCalibration(it.title, found))
        return cls(classes, shared, len(scored))

    def draw(self, style: Style) -> Figure:
        """Observed against predicted probability of each class, and of the signal by each discriminant."""
        figure, axes = single(style, f"{self.events:,} events")
        axes.plot([0, 1], [0, 1], color="black", lw=1.5, ls=(0, (5, 2)), label="Perfect")
        for it in [*self.classes, *self.discriminants]:
            curve, look = it.curve, style.line(it.name)
            deviation = f"ECE {curve.expected_calibration_error:.3f} ({curve.by_chance:.3f} by chance)"
            label = f"{shorten(style.name(it.name), 20)}: {deviation}"
            axes.plot(curve.predicted, curve.observed, color=look["color"], lw=1.4, ls=look["ls"])
            axes.errorbar(
                curve.predicted, curve.observed, curve.error, label=label, capsize=3, **style.marker(it.name, 8)
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("Predicted probability")
        axes.set_ylabel("Observed fraction")
        legend_above(axes, ncols=1, loc="upper left")
        axes.set_yticks(np.linspace(0, 1, 6))
        return figure

    def answer(self, page: Evaluation) -> Answer | None:
        """By the class that is furthest from its probabilities."""
        if not separated(page):
            return None
        worst = max(self.classes, key=lambda it: it.curve.expected_calibration_error - it.curve.by_chance)
        deviation, chance = worst.curve.expected_calibration_error, worst.curve.by_chance
        limits, is_blunt = ("twice chance", f"{_OFF[0]} beyond chance"), 2 * chance > _OFF[1]
        state, remark = judged(deviation > 2 * chance, deviation - chance > _OFF[0], *limits, is_blunt)
        names = [it.name for it in self.classes]
        text = (
            f"Where {', '.join(names[:-1])} and {names[-1]} are equally frequent, as in the training, the probabilities of "
            f"{worst.name} are {deviation:.3f} off on average; chance alone gives {chance:.3f}. That is {remark}"
        )
        advice = {
            "look": "use them as a score to cut on, not as the odds of a single event.",
            "open": "more events are needed to tell.",
            "good": "there they can be used as probabilities, but not in another mixture, such as data.",
        }[state]
        return Answer(
            self.unmeasured[0], "bad" if state == "look" and deviation > _OFF[1] else state, f"{text}: {advice}"
        )
