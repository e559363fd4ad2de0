"""The networks of all folds as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models.network import Network

__all__ = ["Ensemble"]


class Ensemble(nn.Module):
    """The networks of all folds as one, on tensors: what is exported.

    Parameters
    ----------
    networks
        One network per fold.
    shape
        What they read and give.
    task
        "classification" for probabilities, "regression" for values.
    """

    def __init__(
        self, networks: Sequence[Network], shape: Shape, task: Literal["classification", "regression"]
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.shape = shape
        self.task = task

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the classes, or values of the targets.

        Parameters
        ----------
        tensors
            float32, in the order of `shape.tensors`.

        Returns
        -------
        mean
            Mean over the networks, float32 of shape (N, outputs).
        each
            Of each network, float32 of shape (N, networks, outputs).
        """
        inputs = Inputs.of_tensors(self.shape, tensors)
        each = torch.stack([self._outputs(network, inputs) for network in self.networks], dim=1)
        return each.mean(dim=1), each

    def _outputs(self, network: nn.Module, inputs: Inputs) -> Tensor:
        assert isinstance(network, Network)
        if self.task == "regression":
            return network.outputs(inputs)
        return torch.softmax(network(inputs), dim=1)
