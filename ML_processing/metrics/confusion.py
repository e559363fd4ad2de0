"""To which class the events of each class are given."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ML_processing.metrics.measured import Floats

__all__ = ["confusion"]


def confusion(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike, classes: int) -> Floats:
    """Sum of weights by true class (row) and predicted class (column), float64 of shape (classes, classes)."""
    cell = np.asarray(truth, np.int64) * classes + np.asarray(predicted, np.int64)
    sums = np.bincount(cell, np.asarray(weight, np.float64), classes * classes).astype(np.float64)
    return sums.reshape(classes, classes)
