"""ParticleNet and Particle Transformer of weaver-core as networks of NanoML, which `bench/field.py` trains beside ours.

Options have the names and defaults of ours, and give layers of the same widths. weaver's networks read one set of particles and no
event-level features. So a particle has the fields of all collections, a number for each collection that says whether it belongs
to it, and the event-level features, the same for all particles of an event. An event needs a particle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from weaver.nn.model.ParticleNet import ParticleNet as Graph
from weaver.nn.model.ParticleTransformer import ParticleTransformer as Attention

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models.layers import joined_vectors


class ParticleNet(nn.Module):
    """weaver's ParticleNet."""

    object_fields = ("pt", "eta", "phi")

    def __init__(
        self,
        shape: Shape,
        width: int = 64,
        blocks: int = 2,
        neighbors: int = 7,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.shape = shape
        rounds, last = [(neighbors, (width,) * 3)] * blocks, [(each, dropout) for each in hidden]
        # it fails where it has trimmed particles to fewer than there are neighbours
        self.core = Graph(_channels(shape), shape.outputs, conv_params=rounds, fc_params=last, trim=False)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, float32 of shape (N, outputs), of scaled inputs."""
        particles, mask = _particles(inputs, self.shape)
        points = joined_vectors(inputs, self.shape)[..., 1:3].transpose(1, 2)
        outputs: Tensor = self.core(points, particles, mask)
        return outputs


class ParticleTransformer(nn.Module):
    """weaver's Particle Transformer."""

    object_fields = ("pt", "eta", "phi")

    def __init__(
        self, shape: Shape, width: int = 64, blocks: int = 2, heads: int = 4, pair_width: int = 16, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.shape = shape
        self.core = Attention(
            _channels(shape),
            shape.outputs,
            pair_input_dim=4,
            embed_dims=(width, width),
            pair_embed_dims=(pair_width,),
            num_heads=heads,
            num_layers=blocks,
            num_cls_layers=1,
            block_params={"ffn_ratio": 2, "dropout": dropout},
            cls_block_params={"ffn_ratio": 2, "dropout": 0.0, "attn_dropout": 0.0, "activation_dropout": 0.0},
            fc_params=[(width, dropout)],
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits, float32 of shape (N, outputs), of scaled inputs."""
        particles, mask = _particles(inputs, self.shape)
        pt, eta, phi, mass = joined_vectors(inputs, self.shape).unbind(dim=-1)
        momentum = pt * torch.cosh(eta)
        energy = torch.sqrt(momentum * momentum + mass * mass)
        vectors = torch.stack([pt * torch.cos(phi), pt * torch.sin(phi), pt * torch.sinh(eta), energy], dim=1)
        outputs: Tensor = self.core(particles, vectors, mask)
        return outputs


def _fields(shape: Shape) -> list[str]:
    """The fields of all collections."""
    return list(dict.fromkeys(field for it in shape.collections for field in it.fields))


def _channels(shape: Shape) -> int:
    return len(_fields(shape)) + len(shape.collections) + len(shape.features)


def _particles(inputs: Inputs, shape: Shape) -> tuple[Tensor, Tensor]:
    """Particles (N, channels, M), and their mask (N, 1, M)."""
    fields, parts = _fields(shape), []
    for number, it in enumerate(shape.collections):
        values = inputs.objects[it.name].values
        found = values.new_zeros(*values.shape[:2], _channels(shape))
        found[..., [fields.index(field) for field in it.fields]] = values
        found[..., len(fields) + number] = 1
        found[..., len(fields) + len(shape.collections) :] = inputs.features.unsqueeze(1)
        parts.append(found)
    mask = torch.cat([inputs.objects[it.name].mask for it in shape.collections], dim=1)
    return torch.cat(parts, dim=1).transpose(1, 2), mask.unsqueeze(1)
