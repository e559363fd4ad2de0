"""A small Particle Transformer (arXiv:2202.03772), as the code that a checkpoint comes with: see doc/networks.md."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention


class Block(nn.Module):
    """Attention and two dense layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.each, self.norm = heads, width // heads, nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.join = nn.Linear(width, width)
        self.dense = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """Let each `x` look at the context."""
        query, (key, value) = self.query(self.norm(x)), self.key_value(self.norm(context)).chunk(2, dim=2)
        seen = scaled_dot_product_attention(self.split(query), self.split(key), self.split(value), attn_mask=bias)
        x = x + self.join(seen.transpose(1, 2).reshape(x.shape))
        return x + self.dense(x)

    def split(self, x: Tensor) -> Tensor:
        """Give each head its part."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.each).transpose(1, 2)


class ParticleTransformer(nn.Module):
    """Features (N, P, F) of particles, their (N, P, 4) pt, eta, phi, mass, and a mask (N, P), to classes (N, C)."""

    def __init__(
        self, features: int, classes: int, width: int = 32, heads: int = 4, blocks: int = 2, last_blocks: int = 1
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))
        self.pairs = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, heads))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.last_blocks = nn.ModuleList(Block(width, heads) for _ in range(last_blocks))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, features: Tensor, vectors: Tensor, mask: Tensor) -> Tensor:
        """Give a logit for each class."""
        hidden = torch.where(mask, 0.0, -1e4)[:, None, None, :]  # of attention to padding
        bias = self.pairs(pair_features(vectors)).permute(0, 3, 1, 2) + hidden
        x, token = self.embed(features), self.token.expand(features.shape[0], 1, self.token.shape[2])
        for block in self.blocks:
            x = block(x, x, bias)
        for block in self.last_blocks:
            token = block(token, torch.cat([token, x], dim=1), pad(hidden, (1, 0)))
        logits: Tensor = self.output(self.norm(token[:, 0]))
        return logits


def cosh(x: Tensor) -> Tensor:
    """Give the hyperbolic cosine, of exponentials: for releases before 15_0, PyTorch exports no cosh."""
    return (x.exp() + (-x).exp()) / 2


def pair_features(vectors: Tensor) -> Tensor:
    """Give the logarithms of DeltaR, kT, z and m2 of all pairs, (N, P, P, 4)."""
    pt, eta, phi = vectors[..., 0].clamp(min=0.01), vectors[..., 1].clamp(-6, 6), vectors[..., 2]
    pts = torch.minimum(pt[:, :, None], pt[:, None, :]), pt[:, :, None] + pt[:, None, :]
    deta = eta[:, :, None] - eta[:, None, :]
    dphi = (phi[:, :, None] - phi[:, None, :] + math.pi) % (2 * math.pi) - math.pi
    delta = (deta**2 + dphi**2).clamp(min=1e-6).sqrt()
    m2 = 2 * pt[:, :, None] * pt[:, None, :] * (cosh(deta) - dphi.cos()).clamp(min=1e-6)
    return torch.stack([delta.log(), (pts[0] * delta).log(), (pts[0] / pts[1]).log(), m2.log()], dim=3)
