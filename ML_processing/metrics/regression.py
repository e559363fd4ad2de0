"""How near predicted values are to the true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ML_processing.metrics.measured import Floats, Measured, quantile

__all__ = ["Residuals", "residuals", "resolution"]

_CENTRAL = (0.16, 0.84)


@dataclass(frozen=True)
class Residuals:
    """Numbers of the residuals, predicted minus true.

    Attributes
    ----------
    bias
        Mean.
    rmse
        Root of the mean square.
    resolution
        Half the interval that holds the central 68 %.
    """

    bias: Measured
    rmse: Measured
    resolution: Measured

    def to_json(self) -> dict[str, dict[str, float | None]]:
        """As JSON holds it."""
        return {name: getattr(self, name).to_json() for name in ("bias", "rmse", "resolution")}


def residuals(
    truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike, seed: int, repeats: int = 100
) -> Residuals:
    """Bias, RMSE and resolution with their statistical errors.

    Parameters
    ----------
    truth, predicted, weight
        Shape (N,); weights of either sign. Events without a finite truth are left out.
    seed, repeats
        Of the resampling that gives the error of the resolution.
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
    return Residuals(
        Measured.of(bias, bias_error),
        Measured.of(rmse, rmse_error),
        _with_error(r, w, np.random.default_rng(seed), repeats),
    )


def resolution(residual: Floats, weight: Floats) -> float:
    """Half the interval that holds the central 68 % of the weight."""
    low, high = quantile(residual, weight, _CENTRAL)
    return float(high - low) / 2


def _with_error(residual: Floats, weight: Floats, random: np.random.Generator, repeats: int) -> Measured:
    order = np.argsort(residual, kind="stable")  # sorted once, not in each repetition
    r, w = residual[order], weight[order]
    drawn = [resolution(r, w * random.poisson(1.0, len(w))) for _ in range(repeats)]
    return Measured.of(
        resolution(r, w), float(np.nanstd(drawn, ddof=1)) if np.isfinite(drawn).sum() > 1 else np.nan
    )
