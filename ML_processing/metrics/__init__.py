"""Numbers that say how good a network is, as functions of arrays, right for weights of either sign."""

from __future__ import annotations

from ML_processing.metrics.bootstrap import Resampled, Working, resample
from ML_processing.metrics.calibration import Reliability, reliability
from ML_processing.metrics.confusion import confusion
from ML_processing.metrics.correlation import correlation
from ML_processing.metrics.curves import Roc, auc, auc_difference, auc_influence, auc_matrix, roc
from ML_processing.metrics.distances import (
    Kolmogorov,
    combined,
    jensen_shannon,
    kolmogorov,
    kolmogorov_probability,
    stability,
)
from ML_processing.metrics.importance import integrated_gradients, permutation_importance
from ML_processing.metrics.measured import (
    Floats,
    Histogram,
    Measured,
    bin_of,
    effective,
    efficiency,
    even_edges,
    histogram,
    quantile,
    quantile_edges,
)
from ML_processing.metrics.regression import Residuals, residuals, resolution
from ML_processing.metrics.sculpting import Sculpting, sculpting
from ML_processing.metrics.significance import Scan, asimov, scan

__all__ = [
    "Floats",
    "Histogram",
    "Kolmogorov",
    "Measured",
    "Reliability",
    "Resampled",
    "Residuals",
    "Roc",
    "Scan",
    "Sculpting",
    "Working",
    "asimov",
    "auc",
    "auc_difference",
    "auc_influence",
    "auc_matrix",
    "bin_of",
    "combined",
    "confusion",
    "correlation",
    "effective",
    "efficiency",
    "even_edges",
    "histogram",
    "integrated_gradients",
    "jensen_shannon",
    "kolmogorov",
    "kolmogorov_probability",
    "permutation_importance",
    "quantile",
    "quantile_edges",
    "reliability",
    "resample",
    "residuals",
    "resolution",
    "roc",
    "scan",
    "sculpting",
    "stability",
]
