"""Graph network like ParticleNet: every object and its nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.models.layers import (
    PAIR_FEATURES,
    Embedding,
    angular_distance,
    check_options,
    extended,
    is_exporting,
    joined_vectors,
    packed,
    pair_features,
    perceptron,
    pool,
    pooled_width,
)
from ML_processing.models.network import network

_FAR = 3e4  # squared distance of an object that is not a neighbour, within half precision


@network
class ParticleNet(nn.Module):
    """Dynamic graph network (ParticleNet, arXiv:1902.08570) over the objects of all collections.

    In every block each object gets messages from its nearest neighbours: nearest in eta and phi in the first block, in
    the learned features in the others. Unlike in the paper, a message also depends on the pair's ln kT, ln z, ln DeltaR
    and ln m2, and its weight falls with distance, to zero at the distance of the first object that is not a neighbour:
    so rounding cannot change the output by changing the neighbours.
    Every object knows the event-level features, too. The objects' mean, maximum and number, and the event-level features go
    into a last network.

    Parameters
    ----------
    width
        Numbers for each object.
    blocks
        Number of rounds of messages.
    neighbors
        Neighbours of an object; all others if there are fewer.
    hidden
        Width of each hidden layer of the last network.
    dropout
        Share of the hidden values that are left out at random in training, 0 to under 1.

    Raises
    ------
    ConfigError
        An option has no meaning.
    """

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
        check_options(dropout, width=width, blocks=blocks, neighbors=neighbors, hidden=hidden)
        self.shape = shape
        self.neighbors = neighbors
        self.embedding = Embedding(shape, width)
        self.context = nn.Linear(len(shape.features), width, bias=False) if shape.features else None
        self.blocks = nn.ModuleList(_EdgeConv(width, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        inputs = len(shape.features) + pooled_width(width)
        self.event = perceptron(inputs, hidden, shape.outputs, dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """Outputs, float32 of shape (N, outputs), of scaled inputs."""
        values, mask = self.embedding(inputs)
        if self.context is not None:
            values = values + self.context(inputs.features).unsqueeze(1)
        mask, values, vectors = packed(mask, values, joined_vectors(inputs, self.shape))
        if is_exporting():
            # ONNX Runtime 1.17 and 1.20 fail, or crash, without objects or events: pad then
            if torch.compiler.is_exporting():
                raise NotImplementedError("the new exporter takes each length for at least 2, and leaves this out")
            values, vectors, mask = (_never_empty(each) for each in (values, vectors, mask))
        distance = angular_distance(vectors)
        for number, block in enumerate(self.blocks):
            if number:
                distance = _learned_distance(values)
            rows, weight = _nearest(distance, mask, self.neighbors)
            others = nn.functional.embedding(rows, vectors.flatten(0, 1))
            values = block(values, pair_features(vectors.unsqueeze(2), others), rows, weight)
        parts = [inputs.features] if self.shape.features else []
        pooled = pool(self.norm(values), mask, sum(it.max for it in self.shape.collections))
        parts.append(pooled[: inputs.features.shape[0]])
        return self.event(torch.cat(parts, dim=1))


class _EdgeConv(nn.Module):
    """One round of messages, added to the features of the objects."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        # one layer on an object, its neighbour and their pair is a sum, of which two terms are computed once per object
        self.receiver = nn.Linear(width, width)
        self.sender = nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(len(PAIR_FEATURES), width, bias=False)
        self.received = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, pairs: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
        """New values (N, M, width), from values, and pairwise features, row and weight of each neighbour (N, M, k)."""
        normed = self.norm(values)
        sent = nn.functional.embedding(rows, self.sender(normed).flatten(0, 1))
        messages = nn.functional.silu(self.receiver(normed).unsqueeze(2) + sent + self.pair(pairs))
        received = self.received(torch.matmul(weight.unsqueeze(2), messages).squeeze(2))
        return values + self.dropout(received)


def _never_empty(objects: Tensor) -> Tensor:
    """Objects (N, M, ...) with an event of padding if N is 0, and an object of padding if M is 0."""
    events, count = objects.shape[0], objects.shape[1]
    # an ONNX graph evaluates these sizes at each run
    return extended(extended(objects, 0, 1, 0.0), 1, 1, 0.0)[: events + (events == 0), : count + (count == 0)]


@torch.no_grad()
def _learned_distance(values: Tensor) -> Tensor:
    """Squared distance of all pairs of objects, shape (N, M, M), from values (N, M, width)."""
    squares = (values * values).sum(dim=-1, keepdim=True)
    products = torch.matmul(values, values.transpose(1, 2))
    return (squares + squares.transpose(1, 2) - 2 * products).clamp(min=0)


@torch.no_grad()
def _nearest(distance: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The k = `count` nearest objects of each one, from squared distances (N, M, M) and the mask (N, M).

    Returned are their rows, int64 of shape (N, M, k), among the objects of all events, joined to (N * M, width), and
    their weights (N, M, k), which sum to 1 at most; 0 for an object that is not a neighbour.
    """
    events, objects = mask.shape[0], mask.shape[1]
    here = torch.arange(objects, device=mask.device)
    others = mask.unsqueeze(1) & (here.unsqueeze(0) != here.unsqueeze(1))
    far = torch.where(others, distance.clamp(max=_FAR / 2), _FAR)
    # as many columns as are asked for, even if there are fewer objects
    far = extended(far, 2, count + 1, _FAR)
    nearest, index = torch.topk(far, count + 1, dim=-1, largest=False)
    last, nearest, index = nearest[..., count:], nearest[..., :count], index[..., :count]
    fading = (last - nearest) / (last + 1e-6)
    weight = torch.where(last < _FAR, fading, (nearest < _FAR).to(fading.dtype)) / count
    index = torch.where(nearest < _FAR, index, 0)
    rows = index + (torch.arange(events, device=mask.device) * objects).reshape(-1, 1, 1)
    return rows, weight
