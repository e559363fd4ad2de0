"""Which inputs a network lives on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.metrics.measured import Measured

__all__ = ["integrated_gradients", "permutation_importance"]

Loss = Callable[[NDArray[Any]], Measured]


def permutation_importance(
    names: Sequence[str],
    scores_without: Callable[[str, np.random.Generator], NDArray[Any]],
    loss: Loss,
    seed: int,
    repeats: int = 5,
) -> dict[str, Measured]:
    """By how much a network gets worse without each of its inputs.

    L. Breiman, Machine Learning 45 (2001) 5: an input whose values are shuffled among the events tells nothing
    any more, while its distribution stays.

    Parameters
    ----------
    names
        Of the inputs.
    scores_without
        Scores of all events after the values of the named input were shuffled with the random numbers given.
    loss
        What is lost with such scores, and the statistical error of that.
    seed, repeats
        Of the shuffling.

    Returns
    -------
    Of each input the mean loss over the repetitions, the error of which contains the spread of the repetitions and
    the limited number of events.
    """
    found = {}
    for i, name in enumerate(names):
        drawn = [
            loss(scores_without(name, np.random.default_rng([seed, i, repeat]))) for repeat in range(repeats)
        ]
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

    M. Sundararajan, A. Taly, Q. Yan, ICML 2017 (arXiv:1703.01365): the gradient along the straight way from 0, the
    middle of the scaled inputs, to the event, times its distance. The contributions of an event sum to the
    difference of the output between the two ends.

    Parameters
    ----------
    function
        From tensors like `inputs` to an output of shape (N,).
    inputs
        Scaled inputs, each of shape (N, ...).
    steps
        Points on the way, in the middles of equal parts.

    Returns
    -------
    Tensors like `inputs`.
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
