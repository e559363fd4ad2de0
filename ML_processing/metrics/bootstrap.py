"""Errors by resampling: what other events of the same number would have given.

Each repetition gives every event a random number of copies, of a Poisson distribution with mean 1, which stands for
drawing with replacement and allows weights of either sign (A. Chamandy et al., "Estimating uncertainty for massive
data streams", Google, 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ML_processing.metrics.curves import roc
from ML_processing.metrics.measured import Floats, Measured

__all__ = ["Resampled", "Working", "resample"]

_GRID = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Working:
    """A working point: the loosest cut "score at least this" that keeps so much signal.

    Attributes
    ----------
    signal
        Wanted signal efficiency.
    threshold
        The cut.
    background
        Background efficiency.
    """

    signal: float
    threshold: float
    background: Measured

    @property
    def rejection(self) -> Measured:
        """One over the background efficiency; None where no background is left."""
        value, error = self.background.value, self.background.error
        if value is None or error is None or value <= 0:
            return Measured(None, None)
        return Measured(1 / value, error / value**2)


@dataclass(frozen=True)
class Resampled:
    """What repetitions of a ROC curve say of its errors.

    Attributes
    ----------
    auc_error
        Standard deviation of the area.
    signal, low, high
        Band of the curve, shape (101,): signal efficiency, and the central 68 % of the background efficiency.
    working
        The working points.
    """

    auc_error: float
    signal: Floats
    low: Floats
    high: Floats
    working: list[Working]


def resample(
    score: ArrayLike,
    is_signal: ArrayLike,
    weight: ArrayLike,
    efficiencies: Sequence[float],
    seed: int,
    repeats: int = 200,
) -> Resampled | None:
    """Errors of a ROC curve, its area and its working points.

    Parameters
    ----------
    score, is_signal, weight
        As for `roc`.
    efficiencies
        Signal efficiencies of the working points.
    seed, repeats
        Of the repetitions.

    Returns
    -------
    None where signal or background has no positive sum of weights.
    """
    s, y, w = np.asarray(score, np.float64), np.asarray(is_signal, np.bool_), np.asarray(weight, np.float64)
    if not (w[y].sum() > 0 and w[~y].sum() > 0):
        return None
    order = np.argsort(-s, kind="stable")
    s, y, w = s[order], y[order], w[order]
    last = np.flatnonzero(np.append(np.diff(s) != 0, True))
    random = np.random.default_rng(seed)
    areas, curves, points = [], [], []
    for _ in range(repeats):
        counted = w * random.poisson(1.0, len(w))
        signal, background = (
            np.append(0.0, np.cumsum(np.where(part, counted, 0.0))[last]) for part in (y, ~y)
        )
        if not (signal[-1] > 0 and background[-1] > 0):
            continue
        signal, background = signal / signal[-1], background / background[-1]
        areas.append(float((np.diff(background) * (signal[1:] + signal[:-1])).sum() / 2))
        curves.append(np.interp(_GRID, np.maximum.accumulate(signal), background))
        points.append([background[_first(signal, wanted)] for wanted in efficiencies])
    if len(areas) < 2:
        return None
    curve, errors = roc(s, y, w), np.std(points, axis=0, ddof=1)
    found = [_first(curve.signal, wanted) for wanted in efficiencies]
    working = [
        Working(wanted, float(curve.thresholds[i]), Measured(float(curve.background[i]), float(error)))
        for wanted, i, error in zip(efficiencies, found, errors, strict=True)
    ]
    low, high = np.quantile(curves, (0.16, 0.84), axis=0)
    return Resampled(float(np.std(areas, ddof=1)), _GRID, low, high, working)


def _first(signal: Floats, wanted: float) -> int:
    """The first threshold at which so much signal passes; rounding does not count."""
    return int(np.argmax(signal >= min(wanted, signal.max()) - 1e-12))
