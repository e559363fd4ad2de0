"""How well classes are told apart: ROC curves, the area under them with its error, confusion and calibration.

With s and b running over signal and background events, the area under the ROC curve is

    AUC = sum_s sum_b w_s w_b [score_s > score_b] / (sum_s w_s  sum_b w_b),

where a tie counts one half. Its error is that of DeLong, DeLong, Clarke-Pearson (Biometrics 44 (1988) 837) extended
to weights: the sum of the squares of what each event contributes (see `auc_influence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ML_processing.metrics.measured import PAIR, Floats, Measured

_GRID: NDArray[Any] = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Roc:
    """A ROC curve: for each threshold, falling, the efficiencies of a cut "score at least this"."""

    thresholds: Floats
    signal: Floats
    background: Floats


def roc(score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike) -> Roc:
    """Weighted ROC curve of arrays of shape (N,); it steps back, as it should, where negative weights are in the majority."""
    s, y, w, last = _sorted(*_arrays(score, is_signal, weight))
    signal, background = (np.cumsum(np.where(mask, w, 0.0))[last] for mask in (y, ~y))
    return Roc(np.append(np.inf, s[last]), *(np.append(0.0, passed) / passed[-1] for passed in (signal, background)))


def auc_influence(score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike) -> tuple[float, Floats] | None:
    """Area under the weighted ROC curve, and the contribution of each event; the parameters are those of `roc`.

    A contribution is the change of the area per relative change of the event's weight; the sum of their squares is the
    variance of the area. None if signal or background has no positive sum of weights.
    """
    s, y, w = _arrays(score, is_signal, weight)
    total_signal, total_background = w[y].sum(), w[~y].sum()
    if not (total_signal > 0 and total_background > 0):
        return None
    wins = np.empty(len(s))
    wins[y] = _weight_below(s[y], s[~y], w[~y]) / total_background
    wins[~y] = 1 - _weight_below(s[~y], s[y], w[y]) / total_signal
    area = float((w[y] * wins[y]).sum() / total_signal)
    return area, w * (wins - area) / np.where(y, total_signal, total_background)


def auc(score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike) -> Measured:
    """Area under the weighted ROC curve with its error; the parameters are those of `roc`."""
    found = auc_influence(score, is_signal, weight)
    if found is None:
        return Measured(None, None)
    area, influence = found
    return Measured(area, float(np.sqrt((influence**2).sum())))


def auc_difference(score: ArrayLike, other: ArrayLike, is_signal: ArrayLike, weight: ArrayLike) -> Measured:
    """AUC of `score` minus that of `other` on the same events; the error takes their correlation into account."""
    first, second = (auc_influence(values, is_signal, weight) for values in (score, other))
    if first is None or second is None:
        return Measured(None, None)
    return Measured(first[0] - second[0], float(np.sqrt(((first[1] - second[1]) ** 2).sum())))


def auc_matrix(scores: NDArray[np.generic], labels: ArrayLike, weight: ArrayLike) -> list[list[Measured]]:
    """AUC of each pair of classes, one against one: row i, column j separates class i from j by p_i / (p_i + p_j).

    `scores` are the class probabilities (N, classes).
    """
    y, w = np.asarray(labels), np.asarray(weight, np.float64)

    def one(i: int, j: int) -> Measured:
        use = (y == i) | (y == j)
        mine, other = (scores[use, k].astype(np.float64) for k in (i, j))
        ratio = np.divide(mine, mine + other, out=np.full(len(mine), 0.5), where=mine + other > 0)
        return auc(ratio, y[use] == i, w[use])

    classes = range(scores.shape[1])
    return [[Measured(None, None) if i == j else one(i, j) for j in classes] for i in classes]


@dataclass(frozen=True)
class WorkingPoint:
    """The loosest cut "score at least this" with a signal efficiency."""

    score_at_least: float
    signal_efficiency: float
    background_efficiency: Measured = field(metadata=PAIR)
    background_rejection: Measured = field(metadata=PAIR)  # one over the efficiency; None if no background is left


def working_points(curve: Roc, efficiencies: Sequence[float], errors: Floats) -> list[WorkingPoint]:
    """Cuts with some efficiencies of the signal; `errors` are those of the background efficiencies."""
    found = []
    for wanted, error in zip(efficiencies, errors.tolist(), strict=True):
        i = _first(curve.signal, wanted)
        kept = float(curve.background[i])
        rejection = Measured(1 / kept, error / kept**2) if kept > 0 else Measured(None, None)
        found.append(WorkingPoint(float(curve.thresholds[i]), float(curve.signal[i]), Measured(kept, error), rejection))
    return found


@dataclass(frozen=True)
class Band:
    """Band of a ROC curve, shape (101,): signal efficiency, and the central 68 % of the background efficiency."""

    signal: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Bootstrap:
    """Errors of a ROC curve from resampled events: of its area, and of its background at some signal efficiencies."""

    auc_error: float
    band: Band
    errors: Floats


def bootstrap(
    score: ArrayLike,
    is_signal: ArrayLike,
    weight: ArrayLike,
    efficiencies: Sequence[float],
    seed: int,
    repeats: int = 200,
) -> Bootstrap | None:
    """Errors of a ROC curve, its area and its working points.

    Each repetition gives every event a random number of copies from a Poisson distribution with mean 1, which stands
    for drawing with replacement and allows weights of either sign (A. Chamandy et al., "Estimating uncertainty for
    massive data streams", Google, 2012). None if signal or background has no positive sum of weights.
    """
    s, y, w = _arrays(score, is_signal, weight)
    if not (w[y].sum() > 0 and w[~y].sum() > 0):
        return None
    s, y, w, last = _sorted(s, y, w)
    random = np.random.default_rng(seed)
    areas, curves, points = [], [], []
    for _ in range(repeats):
        counted = w * random.poisson(1.0, len(w))
        signal, background = (np.append(0.0, np.cumsum(np.where(part, counted, 0.0))[last]) for part in (y, ~y))
        if not (signal[-1] > 0 and background[-1] > 0):
            continue
        signal, background = signal / signal[-1], background / background[-1]
        areas.append(float((np.diff(background) * (signal[1:] + signal[:-1])).sum() / 2))
        curves.append(np.interp(_GRID, np.maximum.accumulate(signal), background))
        points.append([background[_first(signal, wanted)] for wanted in efficiencies])
    if len(areas) < 2:
        return None
    band = Band(_GRID, *np.quantile(curves, (0.16, 0.84), axis=0))
    return Bootstrap(float(np.std(areas, ddof=1)), band, np.std(points, axis=0, ddof=1))


def _first(signal: Floats, wanted: float) -> int:
    """The first threshold at which this much signal passes, up to rounding."""
    return int(np.argmax(signal >= min(wanted, signal.max()) - 1e-12))


def _weight_below(points: Floats, scores: Floats, weights: Floats) -> Floats:
    """Sum of the weights of the scores below each point; those equal to it count one half."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    below = np.append(0.0, np.cumsum(weights[order]))
    left, right = (np.searchsorted(ordered, points, side) for side in ("left", "right"))
    half: Floats = (below[left] + below[right]) / 2
    return half


def _arrays(score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike) -> tuple[Floats, NDArray[np.bool_], Floats]:
    return np.asarray(score, np.float64), np.asarray(is_signal, np.bool_), np.asarray(weight, np.float64)


def _sorted(
    score: Floats, is_signal: NDArray[np.bool_], weight: Floats
) -> tuple[Floats, NDArray[np.bool_], Floats, NDArray[np.int64]]:
    """The same by falling score, and the last row of each score: events of equal score pass together."""
    order = np.argsort(-score, kind="stable")
    score = score[order]
    return score, is_signal[order], weight[order], np.flatnonzero(np.append(np.diff(score) != 0, True))


def confusion(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike, classes: int) -> Floats:
    """Sum of weights by true class (row) and predicted class (column), float64 of shape (classes, classes)."""
    cell = np.asarray(truth, np.int64) * classes + np.asarray(predicted, np.int64)
    sums = np.bincount(cell, np.asarray(weight, np.float64), classes * classes).astype(np.float64)
    return sums.reshape(classes, classes)


@dataclass(frozen=True)
class Reliability:
    """Observed against predicted probability, in the bins of the predicted one that have positive weight."""

    predicted: Floats  # mean prediction of each bin
    observed: Floats  # fraction of the class
    error: Floats  # its statistical error
    share: Floats  # of all weight
    # mean of |observed - predicted|, by weight (C. Guo et al., ICML 2017, arXiv:1706.04599)
    expected_calibration_error: float
    by_chance: float  # the same of a perfectly calibrated network with this number of events


def reliability(probability: ArrayLike, is_class: ArrayLike, weight: ArrayLike, bins: int = 10) -> Reliability | None:
    """Calibration curve of one class, from arrays of shape (N,); None if no bin has a positive sum of weights.

    The weights, of either sign, must give the classes the shares that they had in the training.
    """
    p, y, w = (np.asarray(values, np.float64) for values in (probability, is_class, weight))
    index = np.clip((p * bins).astype(np.int64), 0, bins - 1)

    def sums(values: Floats) -> Floats:
        return np.bincount(index, values, bins).astype(np.float64)

    total, squares = sums(w), sums(w**2)
    full = total > np.sqrt(squares) * 1e-6
    if not full.any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        predicted, observed = sums(w * p) / total, sums(w * y) / total
        # an event's prediction is a chance too: a bin of ones alone does not have no error
        expected = sums(w**2 * p * (1 - p))
        spread = squares * observed**2 + sums(w**2 * y) * (1 - 2 * observed)
        error = np.sqrt(np.maximum(spread, expected)) / total
    predicted, observed, error, total = (values[full] for values in (predicted, observed, error, total))
    share = total / total.sum()
    deviation = float((share * np.abs(observed - predicted)).sum())
    chance = np.sqrt(expected[full]) / total
    by_chance = float((share * chance).sum() * np.sqrt(2 / np.pi))
    return Reliability(predicted, observed, error, share, deviation, by_chance)
