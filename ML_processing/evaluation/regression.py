"""Numbers and curves of a regression: how near predicted values are to the true ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ML_processing.evaluation.baseline import REGRESSION
from ML_processing.evaluation.inputs import edges_of
from ML_processing.evaluation.scored import OutOfFold, label
from ML_processing.metrics.distances import kolmogorov
from ML_processing.metrics.measured import (
    UNDEFINED,
    Floats,
    Histogram,
    Measured,
    bin_of,
    histogram,
    quantile,
    quantile_edges,
)

_BINS = 8


@dataclass(frozen=True)
class Accuracy:
    """How near the networks and, if there is one beside them, a BDT come to a target, and by how much the RMSE of the BDT is larger."""

    network: Residuals
    baseline: Residuals | None
    gain_in_rmse: Measured


@dataclass(frozen=True)
class Regression:
    """How well networks estimate their targets."""

    task: str
    targets: dict[str, Accuracy]
    baseline: str | None  # what the BDT is; None without one


def regression(tested: OutOfFold, bdt: NDArray[np.float32] | None) -> Regression:
    """Accuracy of every target for the networks and the BDT, whose values are (N, targets)."""
    truth, weights, found = tested.table.targets(), tested.table.weights, {}
    for i, name in enumerate(tested.training.targets):
        ours, trees, gain = tested.scores[:, i], None, UNDEFINED
        if bdt is not None:
            trees = residuals(truth[:, i], bdt[:, i], weights, tested.seed)
            gain = rmse_difference(truth[:, i], bdt[:, i], ours, weights)
        found[name] = Accuracy(residuals(truth[:, i], ours, weights, tested.seed), trees, gain)
    return Regression("regression", found, None if bdt is None else REGRESSION)


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
            return UNDEFINED
        values, errors = np.array(found).T
        return Measured(float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors)))

    return loss


@dataclass(frozen=True)
class Profile:
    """Bias and resolution in bins of the truth."""

    edges: Floats
    bias: list[float | None]
    bias_error: list[float | None]
    resolution: list[float | None]
    resolution_error: list[float | None]


@dataclass(frozen=True)
class Prediction:
    """Predicted values of a target against the true ones, and their residuals."""

    name: str
    label: str
    edges: Floats
    sums: Floats
    profile: Profile
    residual_edges: Floats
    test: Histogram
    trees: Histogram | None
    training: Histogram
    probability: float | None  # of the Kolmogorov-Smirnov test that events of the training are like the others


@dataclass(frozen=True)
class Predictions:
    """What the plots "predictions" and "residuals" show."""

    panels: list[Prediction]
    events: int


@dataclass(frozen=True)
class RegressionPlots:
    """What the plots of a regression show."""

    predictions: Predictions


def predictions(tested: OutOfFold, bdt: NDArray[np.float32] | None, seen: tuple[NDArray[Any], ...]) -> Predictions:
    """Predicted and true values; `seen` are truth, values and weights of training events."""
    truth, panels = tested.table.targets(), []
    for i, name in enumerate(tested.training.targets):
        t, p = truth[:, i].astype(np.float64), tested.scores[:, i].astype(np.float64)
        known = np.isfinite(t)
        t, p, w = t[known], p[known], tested.table.weights[known].astype(np.float64)
        edges, residual, on_training = edges_of(t), p - t, (seen[1][:, i] - seen[0][:, i], seen[2])
        width = max(resolution(residual, w) * 5, 1e-12)
        bins: NDArray[Any] = np.linspace(-width, width, 41)
        panels.append(
            Prediction(
                name,
                label(tested.table, name),
                edges,
                np.histogram2d(t, p, (edges, edges), weights=w)[0],
                _profile(t, residual, w, tested.seed),
                bins,
                histogram(residual, w, bins),
                None if bdt is None else histogram(bdt[known, i] - t, w, bins),
                histogram(*on_training, bins),
                kolmogorov(*on_training, residual, w).probability,
            )
        )
    return Predictions(panels, len(tested.table))


def _profile(truth: Floats, residual: Floats, weights: Floats, seed: int) -> Profile:
    """Bias and resolution in bins of the truth with about the same number of events each."""
    edges = quantile_edges(truth, _BINS)
    index = bin_of(truth, edges)
    rows = [np.flatnonzero(index == number) for number in range(max(len(edges) - 1, 0))]
    found = [residuals(np.zeros(len(it)), residual[it], weights[it], seed, 50) for it in rows]
    return Profile(
        edges,
        [it.bias.value for it in found],
        [it.bias.error for it in found],
        [it.resolution.value for it in found],
        [it.resolution.error for it in found],
    )


@dataclass(frozen=True)
class Residuals:
    """Mean of predicted minus true, root of the mean square, and half the interval of the central 68 %."""

    bias: Measured
    rmse: Measured
    resolution: Measured


def residuals(truth: ArrayLike, predicted: ArrayLike, weight: ArrayLike, seed: int, repeats: int = 100) -> Residuals:
    """Bias, RMSE and resolution with their statistical errors; that of the resolution is from random repetitions.

    Events without a finite truth are left out; weights may have either sign.
    """
    t, p, w = (np.asarray(values, np.float64) for values in (truth, predicted, weight))
    known = np.isfinite(t) & np.isfinite(p)
    r, w = (p - t)[known], w[known]
    total = w.sum()
    if not total > 0:
        return Residuals(UNDEFINED, UNDEFINED, UNDEFINED)
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
        return UNDEFINED
    squares = [(values - t) ** 2 for values in (a, b)]
    means = [float((w * square).sum() / total) for square in squares]
    if not min(means) > 0:
        return UNDEFINED
    roots = np.sqrt(means)
    influence = sum(
        sign * (square - mean) / (2 * root)
        for sign, square, mean, root in zip((1, -1), squares, means, roots, strict=True)
    )
    return Measured.of(roots[0] - roots[1], float(np.sqrt((w**2 * influence**2).sum()) / total))
