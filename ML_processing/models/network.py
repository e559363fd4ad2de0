"""What is trained and exported: a network behind the scaling of its inputs, and the networks of all folds as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models.scaling import Scaling, center_and_width

__all__ = ["Ensemble", "Network"]


class Network(nn.Module):
    """A network that reads inputs as they are in the files: their scaling, and a core behind it.

    The core goes from scaled `Inputs` to outputs, float32 (N, shape.outputs). The targets of a regression have a scale, too:
    `target_center` and `target_width`, float32 (outputs,), which are 0 and 1 for a classification.
    """

    target_center: Tensor
    target_width: Tensor

    def __init__(self, shape: Shape, core: nn.Module) -> None:
        super().__init__()
        self.shape = shape
        self.scaling = Scaling(shape)
        self.core = core
        self.register_buffer("target_center", torch.zeros(shape.outputs))
        self.register_buffer("target_width", torch.ones(shape.outputs))

    def fit(
        self,
        features: NDArray[np.float32],
        objects: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]],
        targets: NDArray[np.float32] | None = None,
    ) -> None:
        """Take the scales of the inputs (see `Scaling.fit`) and of targets (N, outputs) from the training events."""
        self.scaling.fit(features, objects)
        if targets is None:
            return
        for i, column in enumerate(targets.T):
            center, width = center_and_width(column[np.isfinite(column)])
            self.target_center[i] = center
            self.target_width[i] = width

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, or regression outputs on the scale of `standardize`, float32 of shape (N, outputs)."""
        outputs: Tensor = self.core(self.scaling(inputs))
        return outputs

    def standardize(self, targets: Tensor) -> Tensor:
        """Targets (N, outputs) of a regression, shifted and scaled to a centre of 0 and a width of 1."""
        return (targets - self.target_center) / self.target_width

    def outputs(self, inputs: Inputs) -> Tensor:
        """Logits, or regression outputs on the scale of the targets, float32 of shape (N, outputs)."""
        outputs: Tensor = self(inputs) * self.target_width + self.target_center
        return outputs


class Ensemble(nn.Module):
    """The networks of all folds as one module on tensors: what is exported.

    The task is "classification" for probabilities, "regression" for values.
    """

    def __init__(
        self, networks: Sequence[Network], shape: Shape, task: Literal["classification", "regression"]
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.shape = shape
        self.task = task

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Class probabilities or estimates from float32 tensors in the order of `shape.tensors`.

        Returned are the mean over the networks (N, outputs), and the output of each network (N, networks, outputs).
        """
        inputs = Inputs.of_tensors(self.shape, tensors)
        each = torch.stack([self._outputs(network, inputs) for network in self.networks], dim=1)
        return each.mean(dim=1), each

    def _outputs(self, network: nn.Module, inputs: Inputs) -> Tensor:
        assert isinstance(network, Network)
        if self.task == "regression":
            return network.outputs(inputs)
        return torch.softmax(network(inputs), dim=1)
