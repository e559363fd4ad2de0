"""Deep sets: every object alone, then their mean and maximum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models.layers import check_options, dense, perceptron, pool, pooled_width
from ML_processing.models.network import network


@network
class DeepSets(nn.Module):
    """Deep sets (arXiv:1703.06114, arXiv:1810.05165): the order of the objects does not matter.

    Each collection has a network that sees one object at a time. The mean and the maximum of its outputs, the number of
    objects, and the event-level features go into a second network.

    Parameters
    ----------
    width
        Width of the two layers that see one object.
    hidden
        Width of each hidden layer of the second network.
    dropout
        Share of the hidden values of the second network that are left out at random in training, 0 to under 1.

    Raises
    ------
    ConfigError
        An option has no meaning.
    """

    object_fields = ()

    def __init__(self, shape: Shape, width: int = 64, hidden: Sequence[int] = (64, 64), dropout: float = 0.1) -> None:
        super().__init__()
        check_options(dropout, width=width, hidden=hidden)
        self.shape = shape
        self.objects = nn.ModuleList(
            nn.Sequential(*dense(len(it.fields), [width, width], 0.0)) for it in shape.collections
        )
        inputs = len(shape.features) + len(shape.collections) * pooled_width(width)
        self.event = perceptron(inputs, hidden, shape.outputs, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Outputs, float32 of shape (N, outputs), of scaled inputs."""
        parts = [inputs.features] if self.shape.features else []
        for it, encoder in zip(self.shape.collections, self.objects, strict=True):
            values, mask, _ = inputs.objects[it.name]
            parts.append(pool(encoder(values), mask, it.max))
        return self.event(torch.cat(parts, dim=1))
