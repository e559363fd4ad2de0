"""Multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models.layers import check_options, perceptron, row, row_width
from ML_processing.models.network import network


@network
class MLP(nn.Module):
    """Multilayer perceptron: each event is one row of numbers.

    The objects of collections become part of the row, in their order, padded to their largest number, with the
    mask. So the order matters and should have a meaning, such as descending pt.

    Parameters
    ----------
    hidden
        Width of each hidden layer.
    dropout
        Share of the hidden values that are left out at random in training, 0 to under 1.

    Raises
    ------
    ConfigError
        There is nothing to read, or an option has no meaning.
    """

    def __init__(self, shape: Shape, hidden: Sequence[int] = (128, 128), dropout: float = 0.2) -> None:
        super().__init__()
        check_options(dropout, hidden=hidden)
        self.shape = shape
        self.layers = perceptron(row_width(shape), hidden, shape.outputs, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Outputs, float32 of shape (N, outputs), of scaled inputs."""
        parts = [inputs.features] if self.shape.features else []
        for it in self.shape.collections:
            parts += row(inputs.objects[it.name], it.max)
        return self.layers(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
