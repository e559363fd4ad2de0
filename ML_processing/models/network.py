"""What is trained and exported: a network behind the scaling of its inputs, and the networks of all folds as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, ObjectTensors, Shape
from ML_processing.events.spectrum import center_and_width
from ML_processing.models.boosted import Boosted
from ML_processing.models.hooks import first, sizes_of_heads
from ML_processing.models.scaling import Scaler, Scaling, Unscaled
from MLTools.NanoML.model import CLASSES, TARGETS, Discriminant
from MLTools.NanoML.model.discriminant import SMALLEST, coefficients


class Network(nn.Module):
    """A network that reads inputs as they are in the files: their scaling, and a core behind it.

    The core goes from scaled `Inputs` to outputs, float32 (N, shape.outputs), or to those of several heads; `models.hooks.Hooks` says
    what else it may have. Targets have a scale, too: `target_center` and `target_width`, float32 (targets,), which are 0 and 1 for
    a classification without.

    Attributes
    ----------
    has_scale, has_target_scale
        Whether the scales of inputs and of targets are known, and do not follow from the training events.
    others
        The number of outputs of each head, if there are several, without the one by which the network is judged; "targets" comes first.
    """

    target_center: Tensor
    target_width: Tensor

    def __init__(self, shape: Shape, core: nn.Module, is_own: bool = False, is_raw: bool = False) -> None:
        super().__init__()
        self.shape = shape
        limit = Scaler.FARTHEST if is_raw else Scaler.LIMIT
        self.scaling = Unscaled(shape) if isinstance(core, Boosted) else Scaling(shape, limit)
        self.has_scale = self.has_target_scale = is_raw
        self.core = core
        size = shape.targets or shape.outputs
        self.register_buffer("target_center", torch.zeros(size))
        self.register_buffer("target_width", torch.ones(size))
        self.others = self._heads(is_own)

    def _heads(self, is_own: bool) -> dict[str, int]:
        """The heads beside the first; a NanoMLError if a user's core does not give what it should."""
        known = {CLASSES: self.shape.outputs, TARGETS: self.shape.targets or self.shape.outputs}
        sizes = sizes_of_heads(self.core, self.scaling(_example(self.shape)), known, is_own)
        main = CLASSES if CLASSES in sizes else TARGETS
        return {name: sizes[name] for name in sorted(sizes, key=lambda name: name != TARGETS) if name != main}

    def fit(
        self,
        features: NDArray[np.float32],
        objects: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]],
        targets: NDArray[np.float32] | None = None,
    ) -> None:
        """Take the scales of the inputs (see `Scaling.fit`) and of targets (N, targets) from the training events, if need be."""
        if not self.has_scale:
            self.scaling.fit(features, objects)
        if targets is None or self.has_target_scale:
            return
        for i, column in enumerate(targets.T):
            center, width = center_and_width(column[np.isfinite(column)])
            self.target_center[i] = center
            self.target_width[i] = width

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, or regression outputs on the scale of `standardize`, float32 of shape (N, outputs)."""
        return first(self.core(self.scaling(inputs)))

    def standardize(self, targets: Tensor) -> Tensor:
        """Targets (N, outputs) of a regression, shifted and scaled to a centre of 0 and a width of 1."""
        return (targets - self.target_center) / self.target_width

    def outputs(self, inputs: Inputs) -> Tensor:
        """Logits, or estimates on the scale of the targets, float32 of shape (N, outputs), and behind them those of `others`."""
        found = self.core(self.scaling(inputs))
        if isinstance(found, Tensor):
            return found * self.target_width + self.target_center
        if TARGETS in found:
            found = {**found, TARGETS: found[TARGETS] * self.target_width + self.target_center}
        return torch.cat([first(found), *(found[name] for name in self.others)], dim=1)


def scores_of(outputs: Tensor, classes: int) -> Tensor:
    """Outputs (N, M) of a network with probabilities instead of the logits of its first columns, one for each class."""
    return torch.cat([torch.softmax(outputs[:, :classes], dim=1), outputs[:, classes:]], dim=1)


def _example(shape: Shape) -> Inputs:
    """Two events for trying a network."""
    objects = {
        it.name: (torch.zeros(2, it.max, len(it.fields)), torch.ones(2, it.max).bool()) for it in shape.collections
    }
    return Inputs(torch.zeros(2, len(shape.features)), {name: ObjectTensors(*it) for name, it in objects.items()})


class Ensemble(nn.Module):
    """The networks of all folds as one module on tensors: what is exported.

    The task is "classification" for probabilities, "regression" for values. A classification into `classes` may have
    `discriminants`, which follow from the probabilities.
    """

    above: Tensor  # float32, (outputs, discriminants): how the probabilities enter the numerators
    below: Tensor  # and the denominators

    def __init__(
        self,
        networks: Sequence[Network],
        shape: Shape,
        task: Literal["classification", "regression"],
        discriminants: Sequence[Discriminant] = (),
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.shape = shape
        self.task = task
        self.has_discriminants = bool(discriminants)
        self.has_others = any(each.others for each in networks)
        if discriminants:
            above, below = coefficients(discriminants, classes)
            self.register_buffer("above", torch.from_numpy(above))
            self.register_buffer("below", torch.from_numpy(below))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Class probabilities and discriminants, or estimates, and other heads, from float32 tensors as in `shape.tensors`.

        Returned are those of the mean over the networks, shape (N, outputs + discriminants + others), and those of each network,
        shape (N, networks, ...). The discriminants of the mean follow from the mean probabilities.
        """
        inputs = Inputs.of_tensors(self.shape, tensors)
        parts = [self._outputs(network, inputs) for network in self.networks]
        each = torch.stack(parts, dim=1)
        if not self.has_discriminants:
            return each.mean(dim=1), each
        # joined network by network, so that the part of one network can be cut out of the exported graph
        return self._complete(each.mean(dim=1)), torch.stack([self._complete(part) for part in parts], dim=1)

    def _complete(self, outputs: Tensor) -> Tensor:
        """Probabilities (N, outputs), behind them the discriminants, and then the other heads."""
        probabilities, others = outputs, []
        if self.has_others:
            probabilities, others = outputs[:, : self.shape.outputs], [outputs[:, self.shape.outputs :]]
        discriminants = (probabilities @ self.above) / (probabilities @ self.below).clamp(min=SMALLEST)
        return torch.cat([probabilities, discriminants, *others], dim=1)

    def _outputs(self, network: nn.Module, inputs: Inputs) -> Tensor:
        assert isinstance(network, Network)
        if self.task == "regression":
            return network.outputs(inputs)
        if self.has_others:
            return scores_of(network.outputs(inputs), self.shape.outputs)
        return torch.softmax(network(inputs), dim=1)
