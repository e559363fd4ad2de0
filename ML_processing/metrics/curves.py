"""Numbers that say how well classes are told apart, right for weights of either sign.

With s and b running over signal and background events, the area under the ROC curve is

    AUC = sum_s sum_b w_s w_b [score_s > score_b] / (sum_s w_s  sum_b w_b),

a tie counting one half. Its error is that of DeLong, DeLong, Clarke-Pearson (Biometrics 44 (1988) 837) carried
over to weights: the sum of the squares of what each event contributes (see `auc_influence`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ML_processing.metrics.measured import Floats, Measured

__all__ = ["Roc", "auc", "auc_difference", "auc_influence", "auc_matrix", "roc"]


@dataclass(frozen=True)
class Roc:
    """A ROC curve: for each threshold, falling, the efficiencies of a cut "score at least this"."""

    thresholds: Floats
    signal: Floats
    background: Floats


def roc(score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike) -> Roc:
    """Weighted ROC curve; negative weights make it step back, as they should, where they are in the majority.

    Parameters
    ----------
    score, is_signal, weight
        Arrays of shape (N,): discriminant, whether the event is signal, weight of either sign.
    """
    s, y, w = _arrays(score, is_signal, weight)
    order = np.argsort(-s, kind="stable")
    s, y, w = s[order], y[order], w[order]
    last = np.flatnonzero(np.append(np.diff(s) != 0, True))  # events of equal score pass together
    signal, background = (np.cumsum(np.where(mask, w, 0.0))[last] for mask in (y, ~y))
    return Roc(
        np.append(np.inf, s[last]), *(np.append(0.0, passed) / passed[-1] for passed in (signal, background))
    )


def auc_influence(score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike) -> tuple[float, Floats] | None:
    """Area under the weighted ROC curve, and what each event contributes to it.

    Parameters
    ----------
    score, is_signal, weight
        As for `roc`.

    Returns
    -------
    The area, and float64 of shape (N,): by how much the area changes per relative change of the event's
    weight. The sum of their squares is the variance of the area. None where signal or background has no
    positive sum of weights.
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
    """AUC of `score` minus that of `other` on the same events, with an error that knows they are the same."""
    first, second = (auc_influence(values, is_signal, weight) for values in (score, other))
    if first is None or second is None:
        return Measured(None, None)
    return Measured(first[0] - second[0], float(np.sqrt(((first[1] - second[1]) ** 2).sum())))


def auc_matrix(scores: NDArray[Any], labels: ArrayLike, weight: ArrayLike) -> list[list[Measured]]:
    """Area for each pair of classes, one against one: row i, column j tells class i from class j by p_i / (p_i + p_j).

    Parameters
    ----------
    scores
        Class probabilities, shape (N, classes).
    labels, weight
        Class and weight of either sign, shape (N,).
    """
    y, w = np.asarray(labels), np.asarray(weight, np.float64)

    def one(i: int, j: int) -> Measured:
        use = (y == i) | (y == j)
        mine, other = (scores[use, k].astype(np.float64) for k in (i, j))
        ratio = np.divide(mine, mine + other, out=np.full(len(mine), 0.5), where=mine + other > 0)
        return auc(ratio, y[use] == i, w[use])

    classes = range(scores.shape[1])
    return [[Measured(None, None) if i == j else one(i, j) for j in classes] for i in classes]


def _weight_below(points: Floats, scores: Floats, weights: Floats) -> Floats:
    """Of each point, the sum of the weights of the scores below it, those equal to it counting one half."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    below = np.append(0.0, np.cumsum(weights[order]))
    left, right = (np.searchsorted(ordered, points, side) for side in ("left", "right"))
    half: Floats = (below[left] + below[right]) / 2
    return half


def _arrays(
    score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    return np.asarray(score, np.float64), np.asarray(is_signal, np.bool_), np.asarray(weight, np.float64)
