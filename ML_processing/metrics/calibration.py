"""Whether a probability of 0.8 is right in 80 % of the cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ML_processing.metrics.measured import Floats

__all__ = ["Reliability", "reliability"]


@dataclass(frozen=True)
class Reliability:
    """Observed against predicted probability, in bins of the predicted one; only bins of positive weight.

    Attributes
    ----------
    predicted, observed, error, share
        Of each bin the mean prediction, the share of the class, its statistical error, and the share of all weight.
    deviation
        Expected calibration error: the mean of |observed - predicted|, by weight (C. Guo et al., ICML 2017,
        arXiv:1706.04599).
    by_chance
        What a perfectly calibrated network would have for it on so many events.
    """

    predicted: Floats
    observed: Floats
    error: Floats
    share: Floats
    deviation: float
    by_chance: float


def reliability(
    probability: ArrayLike, is_class: ArrayLike, weight: ArrayLike, bins: int = 10
) -> Reliability | None:
    """Calibration curve of one class.

    Parameters
    ----------
    probability, is_class, weight
        Predicted probability of the class, whether the event is of it, weight of either sign; shape (N,). The
        weights must give the classes the shares that they had in the training.

    Returns
    -------
    None where no bin has a positive sum of weights.
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
