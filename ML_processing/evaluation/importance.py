"""Which inputs a network relies on, and how they are correlated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ML_processing.metrics.measured import Floats, Measured


def permutation_importance(
    names: Sequence[str],
    scores_without: Callable[[str, np.random.Generator], NDArray[Any]],
    loss: Callable[[NDArray[Any]], Measured],
    seed: int,
    repeats: int = 5,
) -> dict[str, Measured]:
    """By how much a network gets worse without each of its inputs.

    L. Breiman, Machine Learning 45 (2001) 5: an input whose values are shuffled among the events carries no
    information, while its distribution stays the same.

    `scores_without` returns the scores of all events after the values of the named input were shuffled with the random
    numbers given, `loss` what is lost with such scores. The error of the mean loss contains the spread of the
    repetitions and the limited number of events.
    """
    found = {}
    for i, name in enumerate(names):
        drawn = [loss(scores_without(name, np.random.default_rng([seed, i, repeat]))) for repeat in range(repeats)]
        values = [it.value for it in drawn if it.value is not None]
        errors = [it.error for it in drawn if it.error is not None]
        if not values:
            found[name] = Measured(None, None)
            continue
        spread = np.var(values, ddof=1) / len(values) if len(values) > 1 else 0.0
        found[name] = Measured.of(float(np.mean(values)), float(np.sqrt(spread + np.mean(errors) ** 2)))
    return found


def integrated_gradients(
    function: Callable[[list[Tensor]], Tensor], inputs: Sequence[Tensor], steps: int = 24
) -> list[Tensor]:
    """What each input contributes to an output, event by event.

    M. Sundararajan, A. Taly, Q. Yan, ICML 2017 (arXiv:1703.01365): the gradient along the straight line from 0, the
    centre of the scaled inputs, to the event, times its distance. The contributions of an event sum to the
    difference of the output between the two ends.

    `function` takes tensors like `inputs`, each of shape (N, ...), and gives an output of shape (N,); `steps` is the
    number of points on the line, in the middles of equal parts. Returns tensors like `inputs`.
    """
    sums = [torch.zeros_like(tensor) for tensor in inputs]
    for step in range(steps):
        share = (step + 0.5) / steps
        points = [(tensor.detach() * share).requires_grad_() for tensor in inputs]
        gradients = torch.autograd.grad(function(points).sum(), points, allow_unused=True)
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total += gradient
    return [tensor.detach() * total / steps for tensor, total in zip(inputs, sums, strict=True)]


def correlation(features: ArrayLike, weight: ArrayLike) -> Floats:
    """Linear correlation coefficients, float64 of shape (F, F).

    For each pair of features over the events in which both are finite; NaN for a feature that does not vary.

    Parameters
    ----------
    features, weight
        Shapes (N, F) and (N,); weights of either sign.
    """
    x, w = np.asarray(features, np.float64), np.asarray(weight, np.float64)[:, None]
    known = np.isfinite(x)
    pairs = zip(x.T, known.T, strict=True)
    middle = np.array([np.median(column[mask]) if mask.any() else 0.0 for column, mask in pairs])
    with np.errstate(invalid="ignore"):
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
