"""Numbers and curves of a regression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing import metrics
from ML_processing.evaluation.inputs import edges_of
from ML_processing.evaluation.tested import Tested, label, listed
from ML_processing.metrics import Measured

__all__ = ["accuracy", "predictions", "residual_loss"]

_BINS = 8


def accuracy(tested: Tested, trees: NDArray[np.float32]) -> dict[str, Any]:
    """Bias, RMSE and resolution of every target, of the network and of the trees.

    Parameters
    ----------
    tested
        The events.
    trees
        Values of the trees, shape (N, targets).
    """
    truth, weights, found = tested.table.targets(), tested.table.weights, {}
    for i, name in enumerate(tested.training.targets):
        network, baseline = (
            metrics.residuals(truth[:, i], values[:, i], weights, tested.seed)
            for values in (tested.scores, trees)
        )
        difference = _rmse_difference(truth[:, i], trees[:, i], tested.scores[:, i], weights)
        found[name] = {
            "network": network.to_json(),
            "baseline": baseline.to_json(),
            "gain_in_rmse": difference.to_json(),
        }
    return found


def _rmse_difference(
    truth: NDArray[Any], first: NDArray[Any], other: NDArray[Any], weights: NDArray[Any]
) -> Measured:
    """RMSE of `first` minus that of `other`, with an error that knows that the events are the same."""
    t, a, b, w = (np.asarray(values, np.float64) for values in (truth, first, other, weights))
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


def residual_loss(part: Tested) -> Callable[[NDArray[Any]], Measured]:
    """By how much the RMSE of a target grows with changed values, relative to its own, in the mean over targets."""
    truth, weights = part.table.targets(), part.table.weights

    def loss(scores: NDArray[Any]) -> Measured:
        found = []
        for i in range(truth.shape[1]):
            grown = _rmse_difference(truth[:, i], scores[:, i], part.scores[:, i], weights)
            own = metrics.residuals(truth[:, i], part.scores[:, i], weights, 0, 2).rmse.value
            if grown.value is not None and grown.error is not None and own:
                found.append((grown.value / own, grown.error / own))
        if not found:
            return Measured(None, None)
        values, errors = np.array(found).T
        return Measured(float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors)))

    return loss


def predictions(tested: Tested, trees: NDArray[np.float32], seen: tuple[NDArray[Any], ...]) -> dict[str, Any]:
    """What the plots "predictions" and "residuals" show.

    Parameters
    ----------
    tested, trees
        As for `accuracy`.
    seen
        Truth, values and weights of events that the networks were trained on.
    """
    truth, panels = tested.table.targets(), []
    for i, name in enumerate(tested.training.targets):
        t, p = truth[:, i].astype(np.float64), tested.scores[:, i].astype(np.float64)
        known = np.isfinite(t)
        t, p, w = t[known], p[known], tested.table.weights[known].astype(np.float64)
        edges = edges_of(t)
        sums = np.histogram2d(t, p, (edges, edges), weights=w)[0]
        residual = p - t
        width = max(metrics.resolution(residual, w) * 5, 1e-12)
        bins = np.linspace(-width, width, 41)
        own = [metrics.histogram(residual, w, bins)]
        own.append(metrics.histogram((trees[known, i] - t), w, bins))
        own.append(metrics.histogram(seen[1][:, i] - seen[0][:, i], seen[2], bins))
        test = metrics.kolmogorov(seen[1][:, i] - seen[0][:, i], seen[2], residual, w)
        panels.append(
            {
                "name": name,
                "label": label(tested.table, name),
                "edges": listed(edges),
                "sums": listed(sums),
                "profile": _profile(t, residual, w, tested.seed),
                "residual_edges": listed(bins),
                **{
                    key: {"values": listed(values), "errors": listed(errors)}
                    for key, (values, errors) in zip(("test", "trees", "training"), own, strict=True)
                },
                "probability": test.probability,
            }
        )
    return {"panels": panels, "events": len(tested.table)}


def _profile(truth: NDArray[Any], residual: NDArray[Any], weights: NDArray[Any], seed: int) -> dict[str, Any]:
    """Bias and resolution in bins of the truth with about the same number of events each."""
    edges = metrics.quantile_edges(truth, _BINS)
    index = metrics.bin_of(truth, edges)
    found = [
        metrics.residuals(np.zeros(len(rows)), residual[rows], weights[rows], seed, 50)
        for bin_ in range(max(len(edges) - 1, 0))
        for rows in [np.flatnonzero(index == bin_)]
    ]

    def column(of: str, part: str) -> list[Any]:
        return [getattr(getattr(it, of), part) for it in found]

    return {
        "edges": listed(edges),
        "bias": column("bias", "value"),
        "bias_error": column("bias", "error"),
        "resolution": column("resolution", "value"),
        "resolution_error": column("resolution", "error"),
    }
