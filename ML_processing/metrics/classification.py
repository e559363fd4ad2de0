"""Confusion, calibration and significance of a classification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ML_processing.metrics.measured import Floats

FEWEST = 5.0  # effective background events behind a cut: below, its expectation is a guess


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


def asimov(signal: ArrayLike, background: ArrayLike, uncertainty: ArrayLike = 0.0) -> Floats:
    """Expected median significance of a discovery in a counting experiment.

    Without uncertainty, sqrt(2 ((s + b) ln(1 + s / b) - s)): G. Cowan, K. Cranmer, E. Gross, O. Vitells,
    Eur. Phys. J. C 71 (2011) 1554 (arXiv:1007.1727), equation 97. With an uncertainty sigma of the background:

        sqrt(2 ((s + b) ln[1 + s b / (b^2 + (s + b) sigma^2)]
                - b^2 / sigma^2 ln[1 + sigma^2 s / (b (b + sigma^2))])),

    G. Cowan, "Discovery sensitivity for a counting experiment with background uncertainty" (2012), equation 20.

    It is 0 without signal, and NaN without background.
    """
    s, b, sigma = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (signal, background, uncertainty)))
    s, v = np.clip(s, 0, None), sigma**2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        plain = (s + b) * np.log1p(s / b) - s
        first = (s + b) * np.log1p(s * b / (b**2 + (s + b) * v))
        second = b**2 / v * np.log1p(v * s / (b * (b + v)))
        # the second is not defined without uncertainty
        half = np.where(v > 1e-8 * np.maximum(b, 0), first - second, plain)
        return np.where(b > 0, np.sqrt(2 * np.clip(half, 0, None)), np.nan)


@dataclass(frozen=True)
class CutScan:
    """Expected significance against the cut "score at least this"."""

    cuts: Floats  # thresholds, rising, (cuts,) as all
    signal: Floats  # sum of weights that passes
    background: Floats
    plain: Floats  # Asimov significance for an exactly known background
    plain_error: Floats  # its statistical error
    significance: Floats  # with the statistical error of the expected background as its uncertainty
    usable: NDArray[np.bool_]  # at least 5 effective background events pass

    @property
    def best(self) -> int | None:
        """Index of the usable cut with the largest `significance`; None if there is none."""
        return int(np.argmax(np.where(self.usable, self.significance, -1))) if self.usable.any() else None


def scan_cuts(
    score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike, points: int = 100, at: float | None = None
) -> CutScan | None:
    """Significance against the cut on arrays of shape (N,); None if signal or background has no positive sum of weights.

    The weights are physical, of either sign. Half of the cuts, `points`, are evenly spaced, the others follow the signal;
    or there is but one cut, `at`.
    """
    s, y, w = np.asarray(score, np.float64), np.asarray(is_signal, np.bool_), np.asarray(weight, np.float64)
    if not (w[y].sum() > 0 and w[~y].sum() > 0):
        return None
    even, dense = np.linspace(0, 1, points, endpoint=False), np.quantile(s[y], np.linspace(0, 0.995, points))
    cuts = np.unique(np.concatenate([even, dense])) if at is None else np.array([at])
    signal, signal_squares = _passing(s[y], w[y], cuts)
    background, squares = _passing(s[~y], w[~y], cuts)
    plain, errors = asimov(signal, background), np.sqrt(squares)
    significance = asimov(signal, background, errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_signal = np.log1p(signal / background) / plain
        by_background = (np.log1p(signal / background) - signal / background) / plain
        plain_error = np.sqrt(by_signal**2 * signal_squares + by_background**2 * squares)
        usable = (background > 0) & (background**2 / squares >= FEWEST) & np.isfinite(significance)
    return CutScan(cuts, signal, background, plain, plain_error, significance, usable)


def _passing(score: Floats, weight: Floats, cuts: Floats) -> tuple[Floats, Floats]:
    """Sums of weights and of their squares at or above each cut."""
    order = np.argsort(score, kind="stable")
    first = np.searchsorted(score[order], cuts, "left")
    sums = (np.append(np.cumsum(part[::-1])[::-1], 0.0) for part in (weight[order], weight[order] ** 2))
    passing, squares = (part[first] for part in sums)
    return passing, np.clip(squares, 0, None)
