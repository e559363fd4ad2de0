"""Numbers and curves of a classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ML_processing.evaluation.cuts import Efficiency, SculptedMasses, Significance
from ML_processing.evaluation.scored import EFFICIENCIES, Areas, OutOfFold, Scored
from ML_processing.metrics.classification import Reliability, reliability
from ML_processing.metrics.distances import Kolmogorov, bonferroni, kolmogorov
from ML_processing.metrics.measured import MERGED, PAIR, Floats, Histogram, Measured, histogram
from ML_processing.metrics.roc import Band, Bootstrap, Roc, WorkingPoint, auc, auc_matrix, roc, working_points

_EDGES = np.linspace(0, 1, 26)
_POINTS = 400  # of a drawn curve


@dataclass(frozen=True)
class AreasAgainst:
    """AUC against one other class, with the weights of the events and without."""

    weighted: Areas
    unweighted: Areas


@dataclass(frozen=True)
class ParameterArea:
    """AUC at one value of the parameter."""

    parameter: float
    signal_events: int
    auc: Measured = field(metadata=MERGED)


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
    auc: Areas
    auc_unweighted: Areas
    auc_against: dict[str, AreasAgainst]
    auc_bootstrap_error: float | None
    auc_one_against_all: dict[str, Measured]
    auc_one_against_one: dict[str, dict[str, Measured]]
    cuts: list[WorkingPoint]  # for some efficiencies of the signal
    confusion: list[list[float]]
    auc_at_parameter: list[ParameterArea]  # none without a parameter
    auc_on_training_events: float | None
    overtraining: Overtraining
    baseline: str  # what the BDT is


def classification(
    scored: Scored, resampled: Bootstrap | None, at_parameter: list[ParameterArea], tests: Overtraining, baseline: str
) -> Classification:
    """All numbers of a classification, on all events."""
    names, against = scored.names, {scored.names[i]: scored.against(i) for i in scored.backgrounds}
    pairs = auc_matrix(scored.network, scored.labels, scored.weights)
    return Classification(
        "classification",
        names[scored.signal],
        scored.areas(),
        scored.unweighted().areas(),
        {name: AreasAgainst(part.areas(), part.unweighted().areas()) for name, part in against.items()},
        resampled.auc_error if resampled else None,
        {name: auc(scored.network[:, i], scored.labels == i, scored.weights) for i, name in enumerate(names)},
        {
            name: {other: area for other, area in zip(names, row, strict=True) if other != name}
            for name, row in zip(names, pairs, strict=True)
        },
        working_points(scored.roc(), EFFICIENCIES, resampled.errors) if scored.has_roc and resampled else [],
        scored.confusion().tolist(),
        at_parameter,
        tests.auc_on_training_events,
        tests,
        baseline,
    )


def areas_at_parameter(tested: OutOfFold) -> list[ParameterArea]:
    """AUC at each value of the parameter, if there is one: signal with this value against all background, scored at it."""
    training, table = tested.training, tested.table
    is_signal, own = table.labels == training.signal, table.features[:, -1:]
    found = []
    for value in training.parameter.values if training.parameter else ():
        part = table[~is_signal | (own[:, 0] == np.float32(value))]
        features = part.features.copy()
        features[:, -1] = value
        part = replace(part, features=features)
        rows, scores = training.out_of_fold(part)
        truth = part.labels[rows] == training.signal
        area = auc(scores[:, training.signal], truth, part.weights[rows])
        found.append(ParameterArea(value, int(truth.sum()), area))
    return found


def overtraining(seen: Sequence[Scored], unseen: Sequence[Scored]) -> Overtraining:
    """Compare each network's scores on the events that it was trained on (`seen`) with those that it tests on.

    There is one Kolmogorov-Smirnov test for each network, since its two samples share no event.
    """

    def mean_area(parts: Sequence[Scored]) -> float | None:
        values = [auc(part.score, part.truth, part.weights).value for part in parts]
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
    """ROC curves of the networks, that of the BDT as the last, and a band around the first."""

    curves: list[Curve]
    band: Band | None
    events: int


def roc_curves(scored: Scored, resampled: Bootstrap | None) -> RocCurves:
    """ROC curves of the signal against all others and against each."""
    parts = [("Network (vs all)", scored, scored.network)]
    if len(scored.backgrounds) > 1:
        against = {scored.names[i]: scored.against(i) for i in scored.backgrounds}
        parts += [(f"Network (vs {name})", part, part.network) for name, part in against.items()]
    curves = []
    for title, part, scores in (*parts, ("BDT (vs all)", scored, scored.baseline)):
        events = scores[:, scored.signal], part.truth, part.weights
        if part.has_roc:
            curves.append(Curve(title, *_thinned(roc(*events)), auc(*events)))
    return RocCurves(curves, resampled.band if resampled else None, len(scored))


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
    """Signal probability of the events of a class, and of a test that those trained on are like the others."""

    name: str
    training: Histogram
    test: Histogram
    probability: float | None


@dataclass(frozen=True)
class Scores:
    """Signal probability by class, of events that the networks were trained on and of others."""

    signal: str
    edges: Floats
    classes: list[ClassScores]
    events: int


def scores_by_class(scored: Scored, seen: Scored, tests: Overtraining) -> Scores:
    """Signal probability by class, for events that the networks have `seen` in their training and others."""

    def of_class(part: Scored, i: int) -> Histogram:
        mine = part.labels == i
        return histogram(part.score[mine], part.weights[mine], _EDGES)

    classes = [
        ClassScores(name, of_class(seen, i), of_class(scored, i), tests.kolmogorov_smirnov[name].probability)
        for i, name in enumerate(scored.names)
    ]
    return Scores(scored.names[scored.signal], _EDGES, classes, len(scored))


@dataclass(frozen=True)
class Probabilities:
    """Probability of every class by class."""

    panels: list[Scores]  # none for two classes: the second is 1 minus the first


def probabilities_by_class(scored: Scored, seen: Scored, tests: Overtraining) -> Probabilities:
    """As `scores_by_class`, for the probability of every class if there are more than two."""
    every = range(scored.classes) if scored.classes > 2 else ()
    untested = {name: ClassTests(None, []) for name in tests.kolmogorov_smirnov}
    return Probabilities([
        scores_by_class(
            replace(scored, signal=i), replace(seen, signal=i), replace(tests, kolmogorov_smirnov=untested)
        )
        for i in every
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
    """Calibration of the probability of a class."""

    name: str
    curve: Reliability = field(metadata=MERGED)


@dataclass(frozen=True)
class Calibration:
    """Calibration of every class probability."""

    classes: list[ClassCalibration]
    events: int

    @classmethod
    def of(cls, scored: Scored) -> Calibration | None:
        """With the equal weights of the classes that they had in the training; None if these are not defined."""
        weights = scored.balanced()
        if weights is None:
            return None
        classes = []
        for i, name in enumerate(scored.names):
            found = reliability(scored.network[:, i], scored.labels == i, weights)
            if found is None:
                return None
            classes.append(ClassCalibration(name, found))
        return cls(classes, len(scored))


@dataclass(frozen=True)
class ClassificationPlots:
    """What the plots of a classification show; None if that is not defined."""

    roc: RocCurves
    scores: Scores
    probabilities: Probabilities
    confusion: Confusion
    calibration: Calibration | None
    significance: Significance | None
    efficiency: Efficiency | None
    sculpting: SculptedMasses | None
