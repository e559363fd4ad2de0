"""ROC curves: how much background a cut keeps for each share of the signal; and pairs of classes that nothing separates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure

from ML_processing.evaluation.content import Evaluation, Part, section
from ML_processing.evaluation.measurement import Measurement
from ML_processing.metrics.measured import PAIR, Floats, Measured, number
from ML_processing.metrics.roc import Band, Roc, auc, auc_matrix, roc
from MLTools.NanoML.report.figures import legend_above, single
from MLTools.NanoML.report.page import Answer
from MLTools.NanoML.report.section import Caption, Style

_POINTS = 400  # of a drawn curve
_NOTHING = 0.55  # AUC: two classes that are surely below are not separated


@dataclass(frozen=True)
class Curve:
    """A drawn ROC curve."""

    label: str
    signal: Floats
    background: Floats
    auc: Measured = field(metadata=PAIR)
    against: str | None = None  # the only class that it is against


@section("roc", only="classification", after="residuals")
@dataclass(frozen=True)
class RocCurves(Part):
    """ROC curves of the networks, that of the BDT, if there is one, as the last, and a band around the first."""

    caption = Caption(
        "ROC curve",
        "Each point is a cut on the score, which the numbers above name: how much signal passes it, and how much background still does. "
        "Lower is better. The band is the central 68 % of repetitions with resampled events.",
        "The network's curve well above a black one, which is that of a BDT; or a straight line to the corner, which is "
        "guessing (on this logarithmic axis guessing bends steeply down at the left).",
        is_small=True,
    )

    curves: list[Curve]
    has_baseline: bool
    band: Band | None
    events: int

    @classmethod
    def compute(cls, of: Measurement) -> RocCurves:
        """Curves of the signal against all classes that count in the discriminant, and against each."""
        scored, resampled = of.scored, of.resampled
        counted, backgrounds = scored.counted(), scored.discriminant.backgrounds
        every = (
            "all" if len(backgrounds) == len(scored.backgrounds) else " + ".join(scored.names[i] for i in backgrounds)
        )
        nothing: str | None = None
        parts = [(f"Network (vs {every})", counted, counted.score, nothing)]
        if len(backgrounds) > 1:
            against = {scored.names[i]: scored.against(i) for i in backgrounds}
            parts += [(f"Network (vs {name})", part, part.score, name) for name, part in against.items()]
        reference = counted.reference
        if reference is not None:
            parts.append((f"BDT (vs {every})", counted, reference, None))
        curves = []
        for title, part, score, name in parts:
            events = score, part.truth, part.weights
            if part.has_roc:
                curves.append(Curve(title, *_thinned(roc(*events)), auc(*events), name))
        return cls(curves, reference is not None, resampled.band if resampled else None, len(scored))

    def draw(self, style: Style) -> Figure:
        """Background efficiency against signal efficiency."""
        figure, axes = single(style, f"{self.events:,} events")
        curves, lowest = self.curves, 1.0
        for i, it in enumerate(curves):
            reference = self.has_baseline and i == len(curves) - 1
            look = {"color": "black", "lw": 2.2} if it.against is None else style.line(it.against)
            look = {**look, "ls": (0, (5, 2)), "lw": 1.8} if reference else look
            text = it.label if it.against is None else f"Network (vs {style.name(it.against)})"
            signal, background = it.signal, it.background
            shown = background > 0
            axes.plot(signal[shown], background[shown], label=f"{text}: AUC {number(it.auc)}", **look)
            lowest = min(lowest, background[shown].min())
        if self.band and curves:
            shown = self.band.high > 0
            low, high = (each[shown] for each in (np.maximum(self.band.low, lowest / 2), self.band.high))
            axes.fill_between(self.band.signal[shown], low, high, color="black", alpha=0.2, lw=0)
        axes.set_yscale("log")
        axes.set_xlim(0, 1)
        axes.set_ylim(lowest / 1.3, 1.3)
        axes.set_xlabel("Signal efficiency")
        axes.set_ylabel("Background efficiency")
        if curves:
            legend_above(axes, ncols=1, loc="upper left")
        axes.set_yticks([it for it in axes.get_yticks() if lowest / 1.3 <= it <= 1])  # above is the legend alone
        axes.set_yticks([it for it in axes.get_yticks(minor=True) if lowest / 1.3 <= it <= 1], minor=True)
        return figure


def _thinned(curve: Roc) -> tuple[Floats, Floats]:
    """A curve of few points: evenly spaced in signal efficiency, and in the logarithm of background efficiency."""
    count = len(curve.signal)
    rows = np.arange(count)
    if count > 2 * _POINTS:
        by_signal = np.searchsorted(np.maximum.accumulate(curve.signal), np.linspace(0, 1, _POINTS))
        by_background = np.searchsorted(np.maximum.accumulate(curve.background), np.geomspace(1e-7, 1, _POINTS))
        rows = np.unique(np.clip(np.concatenate([by_signal, by_background, [0, count - 1]]), 0, count - 1))
    return curve.signal[rows], curve.background[rows]


@dataclass(frozen=True)
class Unseparated:
    """Two classes whose AUC are compatible with 0.5: that of the networks, and that of a BDT if there is one."""

    classes: tuple[str, str]
    has_signal: bool
    auc: list[Measured]


@section("separation", only="classification", place="last", after="drift", asked_after="")
@dataclass(frozen=True)
class Separation(Part):
    """The pairs of classes that neither networks nor BDT tell apart."""

    pairs: list[Unseparated]

    @classmethod
    def compute(cls, of: Measurement) -> Separation:
        """By the AUC of one against one."""
        scored, pairs = of.scored, []
        every = [it for it in (scored.network, scored.baseline) if it is not None]
        matrices = [auc_matrix(scores, scored.labels, scored.weights) for scores in every]
        for i, j in combinations(range(scored.classes), 2):
            both = [matrix[i][j] for matrix in matrices]
            if all(it.value is not None and it.value - 0.5 < 2 * (it.error or 0) for it in both):
                pairs.append(Unseparated((scored.names[i], scored.names[j]), scored.signal in (i, j), both))
        return cls(pairs)

    def answers(self, page: Evaluation) -> Iterator[Answer]:
        """One about each pair, if it is sure or has the signal."""
        for it in self.pairs:
            areas = " by the networks, ".join(map(number, it.auc)) + (" by a BDT" if it.auc[1:] else "")
            text = f"AUC of {' and '.join(it.classes)} {areas}: "
            if all((each.value or 0) + 2 * (each.error or 0) < _NOTHING for each in it.auc):
                advice = "Is each the process that it is named after? If so, give inputs in which they differ, or make them one class."
                text += f"nothing separates them, so longer training will not. {advice}"
                yield Answer("Separated?", "bad" if it.has_signal else "look", text, "#roc")
            elif it.has_signal:
                yield Answer("Separated?", "open", f"{text}more events are needed to tell.", "#roc")
