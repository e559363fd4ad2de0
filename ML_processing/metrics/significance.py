"""How significant a signal would be in the events that pass a cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ML_processing.metrics.measured import Floats

__all__ = ["Scan", "asimov", "scan"]

_FEWEST = 5.0  # effective background events behind a cut: below, its expectation is a guess


@dataclass(frozen=True)
class Scan:
    """Expectation against the cut "score at least this".

    Attributes
    ----------
    cuts
        Thresholds, rising, shape (cuts,).
    signal, background
        Sums of weights that pass.
    plain, plain_error
        Asimov significance of a background that is known exactly, and its statistical error.
    significance
        The same with the statistical error of the background's expectation as its uncertainty.
    usable
        Where at least 5 effective background events pass.
    best
        Index of the usable cut with the largest `significance`; None if there is none.
    """

    cuts: Floats
    signal: Floats
    background: Floats
    plain: Floats
    plain_error: Floats
    significance: Floats
    usable: NDArray[np.bool_]
    best: int | None


def asimov(signal: ArrayLike, background: ArrayLike, uncertainty: ArrayLike = 0.0) -> Floats:
    """Expected median significance of a discovery in a counting experiment.

    Without uncertainty, sqrt(2 ((s + b) ln(1 + s / b) - s)): G. Cowan, K. Cranmer, E. Gross, O. Vitells,
    Eur. Phys. J. C 71 (2011) 1554 (arXiv:1007.1727), equation 97. With the uncertainty of the background, sigma:

        sqrt(2 ((s + b) ln[(s + b)(b + sigma^2) / (b^2 + (s + b) sigma^2)]
                - b^2 / sigma^2 ln[1 + sigma^2 s / (b (b + sigma^2))])),

    G. Cowan, "Discovery sensitivity for a counting experiment with background uncertainty" (2012), equation 20.

    Returns
    -------
    0 without signal, NaN without background.
    """
    s, b, sigma = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (signal, background, uncertainty)))
    s, v = np.clip(s, 0, None), sigma**2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        plain = (s + b) * np.log1p(s / b) - s
        first = (s + b) * np.log((s + b) * (b + v) / (b**2 + (s + b) * v))
        second = b**2 / v * np.log1p(v * s / (b * (b + v)))
        # a tiny uncertainty is a difference of large numbers
        half = np.where(v > 1e-8 * np.maximum(b, 0) ** 2, first - second, plain)
        return np.where(b > 0, np.sqrt(2 * np.clip(half, 0, None)), np.nan)


def scan(score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike, points: int = 100) -> Scan | None:
    """Significance against the cut.

    Parameters
    ----------
    score, is_signal, weight
        Probability of the signal, whether the event is signal, physical weight of either sign; shape (N,).
    points
        About half as many cuts; those are evenly spaced, others follow the signal.

    Returns
    -------
    None where signal or background has no positive sum of weights.
    """
    s, y, w = np.asarray(score, np.float64), np.asarray(is_signal, np.bool_), np.asarray(weight, np.float64)
    if not (w[y].sum() > 0 and w[~y].sum() > 0):
        return None
    even, dense = np.linspace(0, 1, points, endpoint=False), np.quantile(s[y], np.linspace(0, 0.995, points))
    cuts = np.unique(np.concatenate([even, dense]))
    signal, signal_squares = _passing(s[y], w[y], cuts)
    background, squares = _passing(s[~y], w[~y], cuts)
    plain, errors = asimov(signal, background), np.sqrt(squares)
    significance = asimov(signal, background, errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_signal = np.log1p(signal / background) / plain
        by_background = (np.log1p(signal / background) - signal / background) / plain
        plain_error = np.sqrt(by_signal**2 * signal_squares + by_background**2 * squares)
        usable = (background > 0) & (background**2 / squares >= _FEWEST) & np.isfinite(significance)
    best = int(np.argmax(np.where(usable, significance, -1))) if usable.any() else None
    return Scan(cuts, signal, background, plain, plain_error, significance, usable, best)


def _passing(score: Floats, weight: Floats, cuts: Floats) -> tuple[Floats, Floats]:
    """Sums of weights and of their squares at or above each cut."""
    order = np.argsort(score, kind="stable")
    first = np.searchsorted(score[order], cuts, "left")
    sums = (np.append(np.cumsum(part[::-1])[::-1], 0.0) for part in (weight[order], weight[order] ** 2))
    passing, squares = (part[first] for part in sums)
    return passing, np.clip(squares, 0, None)
