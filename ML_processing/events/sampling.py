"""How the training events of a block are drawn in an epoch."""

from __future__ import annotations

import torch
from torch import Tensor


def drawn(labels: Tensor, weights: Tensor, sampler: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of events, in random order and as many as there are, by `train.sampler`; and their weights in the loss.

    Of n events one that is drawn with probability p gets the weight w / (n p), so that sums of weights have the same expectation with all
    samplers. The draws are at equal steps of the cumulative probability: an event comes n p times but for less than one, and sums vary
    less than with draws that know nothing of each other.
    """
    count, order = len(labels), torch.randperm(len(labels), generator=generator)
    sizes, of = weights.abs().cpu().double(), labels.cpu()
    if sampler == "every" or not sizes.any():
        order = order.to(labels.device)
        return order, weights[order]
    shares, is_balanced = sizes / sizes.sum(), sampler == "balanced"
    if is_balanced:
        of_class = torch.zeros(int(of.max()) + 1).double().index_add(0, of, sizes)
        shares = (sizes / of_class[of]).nan_to_num() / (of_class > 0).sum()  # a class may have no weight here
        order = order[torch.argsort(of[order], stable=True)]
    sums = shares[order].cumsum(0)
    steps = (torch.arange(count).double() + torch.rand(1, generator=generator)) / count
    rows = order[torch.searchsorted(sums, steps * sums[-1], right=True)]
    rows = rows[torch.randperm(count, generator=generator)]
    if is_balanced:  # every class comes once before one comes again, so that any batch has as many of each
        rows = rows[torch.argsort(of[rows], stable=True)]
        of_each = torch.bincount(of[rows])
        turn = torch.arange(count) - (of_each.cumsum(0) - of_each)[of[rows]]
        rows = rows[torch.argsort(turn + torch.rand(count, generator=generator).double())]
    found, factors = rows.to(labels.device), (1 / (count * shares[rows])).to(weights)
    return found, weights[found] * factors
