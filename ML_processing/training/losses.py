"""What a training minimizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss

from ML_processing.events.inputs import EventTensors

__all__ = ["distance_correlation", "event_losses", "penalty"]


def event_losses(outputs: Tensor, events: EventTensors) -> Tensor:
    """Loss of each event, float32 of shape (N,), from logits or standardized estimates (N, outputs).

    Cross entropy for a classification; for a regression the Huber loss of the standardized values, summed over the
    targets: quadratic near 0 and linear for outliers.
    """
    if events.targets.shape[1]:
        return smooth_l1_loss(outputs, events.targets, reduction="none").sum(dim=1)
    return cross_entropy(outputs, events.labels, reduction="none")


def penalty(outputs: Tensor, events: EventTensors, signal: int) -> Tensor:
    """How much the output depends on the spectator for background events, from 0 to 1.

    This is the squared distance correlation (DisCo, Kasieczka and Shih, arXiv:2001.05310) between the spectator and the
    probability of the signal; for a regression between the spectator and the first estimate, for all events.
    """
    if events.targets.shape[1]:
        use, score = torch.ones_like(events.labels, dtype=torch.bool), outputs[:, 0]
    else:
        use, score = events.labels != signal, torch.softmax(outputs, dim=1)[:, signal]
    use = use & torch.isfinite(events.spectator)
    # a mean of distances needs weights that are not negative: absolute values
    return distance_correlation(score[use], events.spectator[use], events.weights[use].abs())


def distance_correlation(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Squared distance correlation of two variables (N,), a number from 0 (independent) to 1.

    Szekely, Rizzo, Bakirov, Annals of Statistics 35 (2007) 2769, with weights (N,), none negative. Memory grows with the
    square of N.
    """
    if len(x) < 2:
        return x.sum() * 0
    share = weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    a, b = (_centred(values, share) for values in (x, y))
    pairs = share[:, None] * share[None, :]
    covariance, of_x, of_y = ((pairs * one * two).sum() for one, two in ((a, b), (a, a), (b, b)))
    return covariance / (of_x * of_y).clamp_min(1e-20).sqrt()


def _centred(values: Tensor, share: Tensor) -> Tensor:
    distances = (values[:, None] - values[None, :]).abs()
    rows = (distances * share[None, :]).sum(dim=1)
    return distances - rows[:, None] - rows[None, :] + (rows * share).sum()
