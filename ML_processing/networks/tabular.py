"""A network for tables: an ensemble of perceptrons that share most of their weights."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, silu

from ML_processing.events.inputs import EventTensors, Inputs, Shape
from ML_processing.models.layers import check_options, row, row_width, target_losses
from ML_processing.models.network import network


@network
class Tabular(nn.Module):
    """TabM (Gorishniy, Kotelnikov, Babenko, ICLR 2025, arXiv:2410.24210): an ensemble in one network.

    Its members are perceptrons with the same weights but for factors of their own for inputs and hidden values, and a last layer of
    their own. Each member learns by itself, and the mean of what they give is the answer: on few events it is much steadier than one
    perceptron. Objects of collections are part of the row of an event, as in the `mlp`.

    Parameters
    ----------
    members
        How many perceptrons there are.
    width
        Width of the hidden layers.
    depth
        Number of hidden layers.
    dropout
        Share of the hidden values that are left out at random in training, 0 to under 1.

    Raises
    ------
    ConfigError
        There is nothing to read, or an option has no meaning.
    """

    defaults = {"learning_rate": 0.003, "batch_size": 512, "weight_decay": 0.01, "patience": 12}

    def __init__(self, shape: Shape, members: int = 8, width: int = 64, depth: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        check_options(dropout, members=members, width=width, depth=depth)
        self.shape = shape
        inputs = row_width(shape)
        sizes = [inputs, *[width] * depth]
        self.signs = nn.Parameter(torch.randint(0, 2, (members, 1, inputs)) * 2.0 - 1.0)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.factors = nn.ParameterList(torch.ones(members, 1, width) for _ in range(depth))
        self.dropout = nn.Dropout(dropout)
        bound = 1 / math.sqrt(width)
        self.last = nn.Parameter(torch.empty(members, width, shape.outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(members, 1, shape.outputs))
        self._each: Tensor | None = None

    def forward(self, inputs: Inputs) -> Tensor:
        """Means over the members, float32 of shape (N, outputs), of scaled inputs."""
        objects = [part for it in self.shape.collections for part in row(inputs.objects[it.name], it.max)]
        hidden = torch.cat([inputs.features, *objects], dim=1) * self.signs  # (members, N, inputs)
        for layer, factors in zip(self.layers, self.factors, strict=True):
            hidden = self.dropout(silu(layer(hidden) * factors))
        each = torch.baddbmm(self.bias, hidden, self.last)
        if self.training:
            self._each = each  # for the loss
        return each.mean(dim=0)

    def loss(self, outputs: Tensor, batch: EventTensors) -> Tensor:
        """The loss of each event, shape (N,): in training the mean of those of the members, afterwards that of their mean."""
        each, self._each = self._each if self.training else None, None
        found = outputs.unsqueeze(0) if each is None else each.float()
        if batch.targets.shape[1]:
            targets = batch.targets.expand_as(found)
            return target_losses(found, targets, batch.estimate).sum(dim=2).mean(dim=0)
        labels = batch.labels.expand(len(found), -1)
        return cross_entropy(found.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape).mean(dim=0)
