"""Numbers and curves of a classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.cuts import Efficiency, FitSignificance, SculptedMasses, Significance
from ML_processing.evaluation.inputs import Distributions, InputShape
from ML_processing.evaluation.scored import EFFICIENCIES, Areas, OutOfFold, Scored, by_class
from ML_processing.metrics.distances import Kolmogorov, bonferroni, kolmogorov
from ML_processing.metrics.measured import MERGED, PAIR, UNDEFINED, Floats, Histogram, Measured, histogram
from ML_processing.metrics.roc import (
    Band,
    Bootstrap,
    Reliability,
    Roc,
    WorkingPoint,
    auc,
    auc_matrix,
    reliability,
    roc,
    working_points,
)
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.training.directory import Training
from MLTools.NanoML.model import Discriminant

_EDGES: NDArray[Any] = np.linspace(0, 1, 26)
_POINTS = 400  # of a drawn curve


@dataclass(frozen=True)
class AreasAgainst:
    """AUC against one other class, with the weights of the events and without."""

    weighted: Areas
    unweighted: Areas


@dataclass(frozen=True)
class DiscriminantAreas:
    """A discriminant, and its AUC against the classes that count in it."""

    of: Discriminant = field(metadata=MERGED)
    auc: Areas


@dataclass(frozen=True)
class ParameterArea:
    """AUC at one value of the parameter."""

    parameter: float
    signal_events: int
    auc: Measured = field(metadata=MERGED)
    without: Measured = field(default=UNDEFINED, metadata=PAIR)  # of networks that were trained without this value


@dataclass(frozen=True)
class ClassTests:
    """Tests of each network, and the probability that the least probable of them is one by chance."""

    probability: float | None
    networks: list[Kolmogorov]


@dataclass(frozen=True)
class Overtraining:
    """The scores of events that the networks were trained on against those of others."""

    auc_on_training_events: float | None
    auc_on_test_events: float | None
    kolmogorov_smirnov: dict[str, ClassTests]  # by class


@dataclass(frozen=True)
class Classification:
    """How well networks classify."""

    task: str
    signal: str
    score: str  # the discriminant or probability in words, with the classes that it tells apart
    auc: Areas
    auc_unweighted: Areas
    auc_against: dict[str, AreasAgainst]
    discriminants: list[DiscriminantAreas]
    auc_bootstrap_error: float | None
    auc_one_against_all: dict[str, Measured]
    auc_one_against_one: dict[str, dict[str, Measured]]
    significance: FitSignificance | None  # None without expected numbers of events
    cuts: list[WorkingPoint]  # for some efficiencies of the signal
    confusion: list[list[float]]
    auc_at_parameter: list[ParameterArea]  # none without a parameter
    auc_on_training_events: float | None
    overtraining: Overtraining
    baseline: str | None  # what the BDT is; None without one


def classification(
    scored: Scored,
    discriminants: Sequence[BoundDiscriminant],
    resampled: Bootstrap | None,
    at_parameter: list[ParameterArea],
    tests: Overtraining,
    fit: FitSignificance | None,
    baseline: str | None,
) -> Classification:
    """All numbers of a classification, on all events."""
    counted = scored.counted()
    names, against = scored.names, {scored.names[i]: scored.against(i) for i in scored.backgrounds}
    pairs = auc_matrix(scored.network, scored.labels, scored.weights)
    return Classification(
        "classification",
        names[scored.signal],
        scored.discriminant.text,
        counted.areas(),
        counted.unweighted().areas(),
        {name: AreasAgainst(part.areas(), part.unweighted().areas()) for name, part in against.items()},
        [DiscriminantAreas(it.of, replace(scored, discriminant=it).counted().areas()) for it in discriminants],
        resampled.auc_error if resampled else None,
        {name: auc(scored.network[:, i], scored.labels == i, scored.weights) for i, name in enumerate(names)},
        {
            name: {other: area for other, area in zip(names, row, strict=True) if other != name}
            for name, row in zip(names, pairs, strict=True)
        },
        fit,
        working_points(counted.roc(), EFFICIENCIES, resampled.errors) if counted.has_roc and resampled else [],
        scored.confusion().tolist(),
        at_parameter,
        tests.auc_on_training_events,
        tests,
        baseline,
    )


def areas_at_parameter(tested: OutOfFold, without: Mapping[float, Training]) -> list[ParameterArea]:
    """AUC at each value of the parameter, if there is one: signal with this value against all background, scored at it.

    `without` are trainings in which a value was left out, by that value.
    """
    training, table = tested.training, tested.table
    is_signal, own = table.labels == training.signal, table.features[:, -1:]
    found = []
    for value in training.parameter.values if training.parameter else ():
        part = table[~is_signal | (own[:, 0] == np.float32(value))]
        features = part.features.copy()
        features[:, -1] = value
        part = replace(part, features=features)
        areas = []
        for each in filter(None, (training, without.get(value))):
            rows, scores = each.out_of_fold(part)
            labels = part.labels[rows]
            areas.append(training.discriminant.area(scores, labels, part.weights[rows]))
        found.append(ParameterArea(value, int((labels == training.signal).sum()), *areas))
    return found


def overtraining(seen: Sequence[Scored], unseen: Sequence[Scored]) -> Overtraining:
    """Compare each network's scores on the events that it was trained on (`seen`) with those that it tests on.

    There is one Kolmogorov-Smirnov test for each network, since its two samples share no event.
    """

    def mean_area(parts: Sequence[Scored]) -> float | None:
        values = [auc(part.score, part.truth, part.weights).value for part in map(Scored.counted, parts)]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    classes = {}
    for i, name in enumerate(seen[0].names):
        tests = []
        for pair in zip(seen, unseen, strict=True):
            a, b = (part.select(part.labels == i) for part in pair)
            tests.append(kolmogorov(a.score, a.weights, b.score, b.weights))
        classes[name] = ClassTests(bonferroni([it.probability for it in tests if it.probability is not None]), tests)
    return Overtraining(mean_area(seen), mean_area(unseen), classes)


@dataclass(frozen=True)
class Curve:
    """A drawn ROC curve."""

    label: str
    signal: Floats
    background: Floats
    auc: Measured = field(metadata=PAIR)


@dataclass(frozen=True)
class RocCurves:
    """ROC curves of the networks, that of the BDT, if there is one, as the last, and a band around the first."""

    curves: list[Curve]
    has_baseline: bool
    band: Band | None
    events: int


def roc_curves(scored: Scored, resampled: Bootstrap | None) -> RocCurves:
    """ROC curves of the signal against all classes that count in the discriminant, and against each."""
    counted, backgrounds = scored.counted(), scored.discriminant.backgrounds
    every = "all" if len(backgrounds) == len(scored.backgrounds) else " + ".join(scored.names[i] for i in backgrounds)
    parts = [(f"Network (vs {every})", counted, counted.score)]
    if len(backgrounds) > 1:
        against = {scored.names[i]: scored.against(i) for i in backgrounds}
        parts += [(f"Network (vs {name})", part, part.score) for name, part in against.items()]
    reference = counted.reference
    if reference is not None:
        parts.append((f"BDT (vs {every})", counted, reference))
    curves = []
    for title, part, score in parts:
        events = score, part.truth, part.weights
        if part.has_roc:
            curves.append(Curve(title, *_thinned(roc(*events)), auc(*events)))
    return RocCurves(curves, reference is not None, resampled.band if resampled else None, len(scored))


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
class ClassScores:
    """Scores of the events of a class, and of a test that those trained on are like the others."""

    name: str
    training: Histogram
    test: Histogram
    probability: float | None


@dataclass(frozen=True)
class Scores:
    """Scores by class, of events that the networks were trained on and of others."""

    signal: str
    label: str
    edges: Floats
    classes: list[ClassScores]
    events: int


def scores_by_class(scored: Scored, seen: Scored, tests: Overtraining) -> Scores:
    """Scores by class, for events that the networks have `seen` in their training and others."""

    def of_class(part: Scored, i: int) -> Histogram:
        mine = part.labels == i
        return histogram(part.score[mine], part.weights[mine], _EDGES)

    classes = [
        ClassScores(name, of_class(seen, i), of_class(scored, i), tests.kolmogorov_smirnov[name].probability)
        for i, name in enumerate(scored.names)
    ]
    return Scores(scored.names[scored.signal], scored.discriminant.label, _EDGES, classes, len(scored))


def discriminants_by_class(tested: OutOfFold) -> Distributions | None:
    """Shape of each discriminant for every class; None if there is only one."""
    every, table = tested.training.discriminants, tested.table
    if len(every) < 2:
        return None
    shapes = [by_class(table, table.labels, it.values(tested.scores), table.weights, _EDGES) for it in every]
    panels = [InputShape(it.of.name, it.label, _EDGES, 0.0, classes) for it, classes in zip(every, shapes, strict=True)]
    return Distributions(panels, len(panels), len(table))


@dataclass(frozen=True)
class Probabilities:
    """Probability of every class by class."""

    panels: list[Scores]  # none for two classes: the second is 1 minus the first


def probabilities_by_class(scored: Scored, seen: Scored, tests: Overtraining) -> Probabilities:
    """As `scores_by_class`, for the probability of every class if there are more than two."""
    names = scored.names if scored.classes > 2 else []
    tests = replace(tests, kolmogorov_smirnov={name: ClassTests(None, []) for name in tests.kolmogorov_smirnov})
    every = [BoundDiscriminant.probability(name, names) for name in names]
    return Probabilities([
        scores_by_class(replace(scored, discriminant=it), replace(seen, discriminant=it), tests) for it in every
    ])  # fmt: skip


@dataclass(frozen=True)
class Confusion:
    """Sums of weights and numbers of events by true class (row) and most probable class (column)."""

    classes: list[str]
    weights: Floats
    counts: Floats
    events: int

    @classmethod
    def of(cls, scored: Scored) -> Confusion:
        """Those of some events."""
        return cls(scored.names, scored.confusion(), scored.unweighted().confusion(), len(scored))


@dataclass(frozen=True)
class ClassCalibration:
    """Calibration of the probability of a class, or of a discriminant."""

    name: str
    curve: Reliability = field(metadata=MERGED)


@dataclass(frozen=True)
class Calibration:
    """Calibration of every class probability, and of every discriminant in its shares."""

    classes: list[ClassCalibration]
    discriminants: list[ClassCalibration]
    events: int

    @classmethod
    def of(cls, scored: Scored, discriminants: Sequence[BoundDiscriminant]) -> Calibration | None:
        """With the equal weights of the classes that they had in the training; None if these are not defined.

        For a discriminant, these are multiplied by its shares: then it is the fraction of the signal, if it is right.
        """
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
        for it in discriminants:
            found = reliability(
                it.values(scored.network), scored.labels == it.signal, weights * it.shares[scored.labels]
            )
            if found is not None:
                shared.append(ClassCalibration(it.title, found))
        return cls(classes, shared, len(scored))


@dataclass(frozen=True)
class ClassificationPlots:
    """What the plots of a classification show; None if that is not defined."""

    roc: RocCurves
    scores: Scores
    probabilities: Probabilities
    discriminants: Distributions | None  # if there are several
    confusion: Confusion
    calibration: Calibration | None
    significance: Significance | None
    efficiency: Efficiency | None
    sculpting: SculptedMasses | None
