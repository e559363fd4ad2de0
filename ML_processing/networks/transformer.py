"""Transformer like the Particle Transformer: every object attends to every other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models.layers import (
    PAIR_FEATURES,
    Embedding,
    check_options,
    extended,
    has_vectors,
    joined_vectors,
    packed,
    pair_features,
    perceptron,
    pool,
    pooled_width,
)
from ML_processing.models.network import network
from MLTools.NanoML.errors import ConfigError

_HIDDEN = -1e4  # added to the attention to padding: exp of it is 0, and half precision can hold it


@network
class Transformer(nn.Module):
    """Transformer (Particle Transformer, arXiv:2202.03772) over the objects of all collections.

    The event-level features are one more object. If all collections have pt, eta and phi, the attention between two
    objects also depends on their ln kT, ln z, ln DeltaR and ln m2. In the end a class token attends to all objects.
    Unlike in the paper, the output is computed from it, from the objects' mean, maximum and number, and from the
    event-level features: attention alone cannot count, and needs many events to learn what these say directly.

    Parameters
    ----------
    width
        Numbers for each object; a multiple of `heads`.
    blocks
        Number of blocks in which the objects attend to one another; the class token has one more.
    heads
        Number of attentions side by side in a block.
    pair_width
        Width of the hidden layer for the pairwise features.
    dropout
        Share of the values that are left out at random in training, 0 to under 1.

    Raises
    ------
    ConfigError
        An option has no meaning.
    """

    object_fields = ()

    def __init__(
        self, shape: Shape, width: int = 64, blocks: int = 2, heads: int = 4, pair_width: int = 16, dropout: float = 0.1
    ) -> None:
        super().__init__()
        check_options(dropout, width=width, blocks=blocks, heads=heads, pair_width=pair_width)
        if width % heads:
            raise ConfigError(f"train.options.width: is {width}, but must be a multiple of heads, {heads}.")
        self.shape = shape
        self.embedding = Embedding(shape, width)
        self.event = nn.Linear(len(shape.features), width) if shape.features else None
        self.pairs = (
            nn.Sequential(nn.Linear(len(PAIR_FEATURES), pair_width), nn.SiLU(), nn.Linear(pair_width, heads))
            if has_vectors(shape)
            else None
        )
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(blocks))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.last = _Block(width, heads, dropout)
        self.norm = nn.LayerNorm(width)
        inputs = width + pooled_width(width) + len(shape.features)
        self.output = perceptron(inputs, [width], shape.outputs, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Outputs, float32 of shape (N, outputs), of scaled inputs."""
        values, mask = self.embedding(inputs)
        if self.pairs is None:
            mask, values = packed(mask, values)
            bias = None
        else:
            mask, values, vectors = packed(mask, values, joined_vectors(inputs, self.shape))
            features = pair_features(vectors.unsqueeze(2), vectors.unsqueeze(1))
            bias = self.pairs(features).permute(0, 3, 1, 2)
        if self.event is not None:
            values = torch.cat([values, self.event(inputs.features).unsqueeze(1)], dim=1)
            mask = extended(mask, 1, 1, 1.0)
            bias = None if bias is None else extended(extended(bias, 2, 1, 0.0), 3, 1, 0.0)
        hidden = _hide(mask, values)
        bias = hidden if bias is None else bias + hidden
        for block in self.blocks:
            values = block(values, values, bias)
        token = self.token.expand(values.shape[0], 1, values.shape[2])
        everything = torch.cat([values, token], dim=1)
        token = self.last(token, everything, extended(hidden, 3, 1, 0.0))
        if self.event is not None:
            values, mask = values[:, :-1], mask[:, :-1]
        pooled = pool(self.norm(values), mask, sum(it.max for it in self.shape.collections))
        parts = [self.norm(token[:, 0]), pooled] + ([inputs.features] if self.shape.features else [])
        return self.output(torch.cat(parts, dim=1))


class _Block(nn.Module):
    """Attention and a layer for each object, both added to its features."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.each = heads, width // heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.joined = nn.Linear(width, width)
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """New values (N, M, width), which attend to the context (N, T, width) with a bias (N, 1 or heads, M or 1, T)."""
        query = self._split(self.query(self.norm(values)))
        key, value = (self._split(part) for part in self.key_value(self.norm(context)).chunk(2, dim=-1))
        scores = torch.matmul(query / math.sqrt(self.each), key.transpose(2, 3)) + bias
        seen = torch.matmul(torch.softmax(scores, dim=-1), value).transpose(1, 2)
        # a size of -1 cannot be inferred in a graph with 0 events or objects
        joined = seen.reshape(seen.shape[0], seen.shape[1], self.heads * self.each)
        values = values + self.dropout(self.joined(joined))
        return values + self.dropout(self.layers(values))

    def _split(self, values: Tensor) -> Tensor:
        """(N, T, width) to (N, heads, T, width / heads)."""
        split = values.reshape(values.shape[0], values.shape[1], self.heads, self.each)
        return split.transpose(1, 2)


def _hide(mask: Tensor, like: Tensor) -> Tensor:
    """Shape (N, 1, 1, M): what is added to the attention to an object, 0, or to padding."""
    return ((1 - mask.to(like.dtype)) * _HIDDEN).unsqueeze(1).unsqueeze(1)
