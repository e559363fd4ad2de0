"""What is trained: the scaling of the inputs, and a core behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models.scaling import Scaling, center_and_width

__all__ = ["Network"]


class Network(nn.Module):
    """A network that reads inputs as they are in the files.

    Parameters
    ----------
    shape
        What it reads and gives.
    core
        Module from scaled `Inputs` to outputs, float32 of shape (N, shape.outputs).

    Attributes
    ----------
    scaling
        The scaling of the inputs.
    core
        As given.
    target_center, target_width
        float32, shape (outputs,): the scale of the targets of a regression; 0 and 1 for classes.
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
        """Take the scales of inputs and targets from the training events.

        Parameters
        ----------
        features, objects
            As for `Scaling.fit`.
        targets
            Of a regression, shape (N, outputs).
        """
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
        """Targets (N, outputs) of a regression, brought to a centre of 0 and a width of 1."""
        return (targets - self.target_center) / self.target_width

    def outputs(self, inputs: Inputs) -> Tensor:
        """Logits, or regression outputs on the scale of the targets, float32 of shape (N, outputs)."""
        outputs: Tensor = self(inputs) * self.target_width + self.target_center
        return outputs
