"""How features go together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ML_processing.metrics.measured import Floats

__all__ = ["correlation"]


def correlation(features: ArrayLike, weight: ArrayLike) -> Floats:
    """Linear correlation coefficients, float64 of shape (F, F).

    For each pair of features over the events in which both are finite; NaN where a feature does not vary.

    Parameters
    ----------
    features
        Shape (N, F).
    weight
        Of either sign, shape (N,).
    """
    x, w = np.asarray(features, np.float64), np.asarray(weight, np.float64)[:, None]
    known = np.isfinite(x)
    with np.errstate(invalid="ignore"):
        middle = np.array(
            [
                np.median(column[mask]) if mask.any() else 0.0
                for column, mask in zip(x.T, known.T, strict=True)
            ]
        )
        x = np.where(known, x - middle, 0.0)  # near 0, where the sums lose no digits
    mask = known.astype(np.float64)
    total = (mask * w).T @ mask
    first, squares, products = (x * w).T @ mask, (x**2 * w).T @ mask, (x * w).T @ x
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = first / total
        variance = squares / total - mean**2
        covariance = products / total - mean * mean.T
        variance[variance <= 1e-12 * np.abs(squares / total)] = np.nan
        found: Floats = np.clip(covariance / np.sqrt(variance * variance.T), -1, 1)
    return found
