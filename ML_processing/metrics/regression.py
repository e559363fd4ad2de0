"""How near predicted values are to the true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ML_processing.metrics.measured import Floats, Measured, quantile

__all__ = ["Residuals", "residuals", "resolution", "rmse_difference"]


@dataclass(frozen=True)
class Residuals:
    """Mean of predicted minus true, root of the mean square, and half the interval of the central 68 %."""

    bias: Measured
    rmse: Measured
    resolution: Measured

    def to_json(self) -> dict[str, dict[str, float | None]]:
        """As JSON holds it."""
        return {name: getattr(self, name).to_json() for name in ("bias", "rmse", "resolution")}


def residuals(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike, seed: int, repeats: int = 100) -> Residuals:
    """Bias, RMSE and resolution with their statistical errors.

    Parameters
    ----------
    truth, predicted, weight
        Shape (N,); weights of either sign. Events without a finite truth are left out.
    seed, repeats
        Seed and number of the repetitions that give the error of the resolution.
    """
    t, p, w = (np.asarray(values, np.float64) for values in (truth, predicted, weight))
    known = np.isfinite(t) & np.isfinite(p)
    r, w = (p - t)[known], w[known]
    total = w.sum()
    if not total > 0:
        nothing = Measured(None, None)
        return Residuals(nothing, nothing, nothing)
    bias, square = (w * r).sum() / total, (w * r**2).sum() / total
    bias_error, square_error = (
        np.sqrt((w**2 * (x - mean) ** 2).sum()) / total for x, mean in ((r, bias), (r**2, square))
    )
    rmse = np.sqrt(square) if square > 0 else np.nan
    rmse_error = square_error / (2 * rmse) if rmse > 0 else 0.0
    order = np.argsort(r, kind="stable")  # sorted once, not in each repetition
    r, w, random = r[order], w[order], np.random.default_rng(seed)
    drawn = [resolution(r, w * random.poisson(1.0, len(w))) for _ in range(repeats)]
    spread = float(np.nanstd(drawn, ddof=1)) if np.isfinite(drawn).sum() > 1 else np.nan
    return Residuals(
        Measured.of(bias, bias_error), Measured.of(rmse, rmse_error), Measured.of(resolution(r, w), spread)
    )


def resolution(residual: Floats, weight: Floats) -> float:
    """Half the interval that holds the central 68 % of the weight."""
    low, high = quantile(residual, weight, (0.16, 0.84))
    return float(high - low) / 2


def rmse_difference(truth: ArrayLike, first: ArrayLike, other: ArrayLike, weight: ArrayLike) -> Measured:
    """RMSE of `first` minus that of `other` on the same events; the error takes their correlation into account."""
    t, a, b, w = (np.asarray(values, np.float64) for values in (truth, first, other, weight))
    known = np.isfinite(t) & np.isfinite(a) & np.isfinite(b)
    t, a, b, w = t[known], a[known], b[known], w[known]
    total = w.sum()
    if not total > 0:
        return Measured(None, None)
    squares = [(values - t) ** 2 for values in (a, b)]
    means = [float((w * square).sum() / total) for square in squares]
    if not min(means) > 0:
        return Measured(None, None)
    roots = np.sqrt(means)
    influence = sum(
        sign * (square - mean) / (2 * root)
        for sign, square, mean, root in zip((1, -1), squares, means, roots, strict=True)
    )
    return Measured.of(roots[0] - roots[1], float(np.sqrt((w**2 * influence**2).sum()) / total))
