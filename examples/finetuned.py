"""A network that begins with the weights of a pre-trained Particle Transformer: see doc/networks.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from particle_transformer import ParticleTransformer, cosh
from torch import Tensor

if TYPE_CHECKING:
    from ML_processing.events.inputs import Inputs, Shape


class FineTuned(ParticleTransformer):
    """A Particle Transformer that knows particles already and learns new classes."""

    object_fields = ("pt", "eta", "phi", "mass")

    def __init__(self, shape: Shape) -> None:
        super().__init__(features=4, classes=shape.outputs)
        self.names = [it.name for it in shape.collections]

    def forward(self, inputs: Inputs) -> Tensor:
        """Preprocess all objects as for the checkpoint."""
        objects = [inputs.objects[name] for name in self.names]
        vectors = torch.cat([it.values for it in objects], dim=1)
        mask = torch.cat([it.mask for it in objects], dim=1)
        pt, eta, phi, mass = vectors.unbind(dim=2)
        pt, eta = pt.clamp(min=0.01), eta.clamp(-6, 6)
        energy = ((pt * cosh(eta)) ** 2 + mass**2).sqrt()
        features = torch.stack([(pt.log() - 1.7) * 0.7, (energy.log() - 2) * 0.7, eta, phi], dim=2)
        return super().forward(features, vectors, mask)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Take smaller steps for the weights that are not new."""
        new = [*self.output.parameters()]
        old = [it for it in self.parameters() if all(it is not other for other in new)]
        return [{"params": old, "lr": 1e-3}, {"params": new}]
