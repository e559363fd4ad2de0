"""Numbers and curves of a regression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing.evaluation.inputs import edges_of
from ML_processing.evaluation.scored import Json, OutOfFold, label, listed, shape
from ML_processing.metrics.distances import kolmogorov
from ML_processing.metrics.measured import Floats, Measured, bin_of, quantile_edges
from ML_processing.metrics.regression import residuals, resolution, rmse_difference

__all__ = ["accuracy", "predictions", "residual_loss"]

_BINS = 8


def accuracy(tested: OutOfFold, bdt: NDArray[np.float32]) -> Json:
    """Bias, RMSE and resolution of every target for the networks and the BDT, whose values are (N, targets)."""
    truth, weights, found = tested.table.targets(), tested.table.weights, {}
    for i, name in enumerate(tested.training.targets):
        network, baseline = (
            residuals(truth[:, i], values[:, i], weights, tested.seed) for values in (tested.scores, bdt)
        )
        difference = rmse_difference(truth[:, i], bdt[:, i], tested.scores[:, i], weights)
        found[name] = {
            "network": network.to_json(),
            "baseline": baseline.to_json(),
            "gain_in_rmse": difference.to_json(),
        }
    return found


def residual_loss(part: OutOfFold) -> Callable[[NDArray[Any]], Measured]:
    """Relative growth of the RMSE with changed values, averaged over the targets."""
    truth, weights = part.table.targets(), part.table.weights

    def loss(scores: NDArray[Any]) -> Measured:
        found = []
        for i in range(truth.shape[1]):
            growth = rmse_difference(truth[:, i], scores[:, i], part.scores[:, i], weights)
            own = residuals(truth[:, i], part.scores[:, i], weights, 0, 2).rmse.value
            if growth.value is not None and growth.error is not None and own:
                found.append((growth.value / own, growth.error / own))
        if not found:
            return Measured(None, None)
        values, errors = np.array(found).T
        return Measured(float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors)))

    return loss


def predictions(tested: OutOfFold, bdt: NDArray[np.float32], seen: tuple[NDArray[Any], ...]) -> Json:
    """What the plots "predictions" and "residuals" show; `seen` are truth, values and weights of training events."""
    truth, panels = tested.table.targets(), []
    for i, name in enumerate(tested.training.targets):
        t, p = truth[:, i].astype(np.float64), tested.scores[:, i].astype(np.float64)
        known = np.isfinite(t)
        t, p, w = t[known], p[known], tested.table.weights[known].astype(np.float64)
        edges = edges_of(t)
        sums = np.histogram2d(t, p, (edges, edges), weights=w)[0]
        residual, on_training = p - t, (seen[1][:, i] - seen[0][:, i], seen[2])
        width = max(resolution(residual, w) * 5, 1e-12)
        bins = np.linspace(-width, width, 41)
        panels.append(
            {
                "name": name,
                "label": label(tested.table, name),
                "edges": listed(edges),
                "sums": listed(sums),
                "profile": _profile(t, residual, w, tested.seed),
                "residual_edges": listed(bins),
                "test": shape(residual, w, bins),
                "trees": shape(bdt[known, i] - t, w, bins),
                "training": shape(*on_training, bins),
                "probability": kolmogorov(*on_training, residual, w).probability,
            }
        )
    return {"panels": panels, "events": len(tested.table)}


def _profile(truth: Floats, residual: Floats, weights: Floats, seed: int) -> Json:
    """Bias and resolution in bins of the truth with about the same number of events each."""
    edges = quantile_edges(truth, _BINS)
    index = bin_of(truth, edges)
    rows = [np.flatnonzero(index == number) for number in range(max(len(edges) - 1, 0))]
    found = [residuals(np.zeros(len(it)), residual[it], weights[it], seed, 50) for it in rows]
    return {
        "edges": listed(edges),
        "bias": [it.bias.value for it in found],
        "bias_error": [it.bias.error for it in found],
        "resolution": [it.resolution.value for it in found],
        "resolution_error": [it.resolution.error for it in found],
    }
