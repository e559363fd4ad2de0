"""The inputs of a network: its shape, the inputs as tensors, and training events in batches, drawn in each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class CollectionShape:
    """A collection of objects, such as the jets of an event, padded to the same number in each event."""

    name: str  # prefix of its branches, as in Jet
    fields: tuple[str, ...]  # its branches without the prefix, in the order of the last axis
    max: int  # largest number of objects
    order: str | None = None  # they are sorted by this field, "-pt" for descending; None for the file's order

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields with the prefix: Jet_pt."""
        return tuple(f"{self.name}_{field}" for field in self.fields)


@dataclass(frozen=True)
class Shape:
    """The inputs and outputs of a network."""

    features: tuple[str, ...]  # event-level columns
    collections: tuple[CollectionShape, ...]
    outputs: int  # number of logits (one for each class) or of regression targets
    # number of targets of a network that has a head for them beside the classes; hashes of events were made without it
    targets: int = field(default=0, repr=False)
    # columns whose values may be missing, for each of which the core reads an indicator
    missing: tuple[str, ...] = field(default=(), repr=False)
    # values that count as missing, by column; with none, nothing but what is not finite does
    named: Mapping[str, tuple[float, ...]] = field(default_factory=dict, repr=False, hash=False)

    @property
    def inside(self) -> Shape:
        """The shape behind the scaling, as the core reads it: indicators of missing values follow the features, and the fields."""

        def extended(names: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
            return (*names, *(f"{names[i]}_missing" for i in self.missing_in(columns)))

        collections = tuple(replace(it, fields=extended(it.fields, it.columns)) for it in self.collections)
        return Shape(extended(self.features, self.features), collections, self.outputs, self.targets)

    def missing_in(self, columns: Sequence[str]) -> list[int]:
        """Which of some columns have an indicator."""
        return [i for i, name in enumerate(columns) if name in self.missing]

    def named_in(self, columns: Sequence[str]) -> dict[int, tuple[float, ...]]:
        """The values of some columns that are named as missing, by their numbers."""
        return {i: self.named[name] for i, name in enumerate(columns) if name in self.named}

    @property
    def tensors(self) -> list[str]:
        """Names of the tensors that a model file reads: the features, then values and mask of each collection."""
        names = ["features"] if self.features else []
        return names + [name for it in self.collections for name in (it.name, f"{it.name}_mask")]


class ObjectTensors(NamedTuple):
    """Objects of one collection in N events."""

    values: Tensor  # float32, (N, max, fields); padding is 0
    mask: Tensor  # bool, (N, max): True for an object, False for padding
    # float32, (N, max, 4): pt, eta, phi, mass [GeV] as they were before scaling, without a field `mass` 0;
    # None before scaling, and if the collection lacks pt, eta or phi
    vectors: Tensor | None = None


class Inputs(NamedTuple):
    """N events as a network reads them."""

    features: Tensor  # float32, (N, features), which may be (N, 0)
    objects: dict[str, ObjectTensors]  # by the name of the collection

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same with every tensor changed, for instance moved or indexed."""
        return Inputs(
            change(self.features),
            {
                name: ObjectTensors(*(None if tensor is None else change(tensor) for tensor in it))  # type: ignore[arg-type]
                for name, it in self.objects.items()
            },
        )

    @classmethod
    def of_tensors(cls, shape: Shape, tensors: Sequence[Tensor]) -> Inputs:
        """Inputs from float32 tensors in the order of `shape.tensors`; a mask is above 0.5 for an object."""
        rest = list(tensors)
        features = rest.pop(0) if shape.features else rest[0].new_zeros((rest[0].shape[0], 0))
        pairs = zip(rest[::2], rest[1::2], strict=True)
        objects = {
            it.name: ObjectTensors(values, mask > 0.5)
            for it, (values, mask) in zip(shape.collections, pairs, strict=True)
        }
        return cls(features, objects)


_OF_EVENTS = ("labels", "weights", "targets", "spectator", "free", "channel", "varied", "event")
"""Tensors of `EventTensors`."""


@dataclass(frozen=True)
class EventTensors:
    """N events of a training as tensors, ready for a network."""

    inputs: Inputs  # scaled
    labels: Tensor  # int64, (N,)
    weights: Tensor  # of the training, float32, (N,)
    targets: Tensor  # of a regression, standardized, float32, (N, targets)
    spectator: Tensor  # what the output must not depend on, float32, (N,), or (0,) if there is none
    free: Tensor  # bool, (N,): the parameter is drawn anew in each epoch; (0,) without a parameter
    estimate: float | str = "huber"  # what a regression estimates: also "mean", or a quantile
    # for the result of a fit: the channel, int64, (N,), and expected events and all that varies them, float32, (N, columns); else (0,)
    channel: Tensor = field(default_factory=lambda: torch.empty(0))
    varied: Tensor = field(default_factory=lambda: torch.empty(0))
    # the number of the event, int64, (N,), if one may be there more than once: then all of it comes in one batch; else (0,)
    event: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def join(cls, parts: Sequence[EventTensors]) -> EventTensors:
        """All events of `parts`."""
        objects = {
            name: ObjectTensors(
                torch.cat([it.inputs.objects[name].values for it in parts]),
                torch.cat([it.inputs.objects[name].mask for it in parts]),
            )
            for name in parts[0].inputs.objects
        }
        inputs = Inputs(torch.cat([it.inputs.features for it in parts]), objects)
        joined: dict[str, Any] = {name: torch.cat([getattr(it, name) for it in parts]) for name in _OF_EVENTS}
        return replace(parts[0], inputs=inputs, **joined)

    def __len__(self) -> int:
        return len(self.labels)

    def map(self, change: Callable[[Tensor], Tensor]) -> EventTensors:
        """The same with every tensor changed, except the empty ones."""

        def each(tensor: Tensor) -> Tensor:
            return change(tensor) if len(tensor) == len(self.labels) else tensor

        changed: dict[str, Any] = {name: each(getattr(self, name)) for name in _OF_EVENTS}
        return replace(self, inputs=self.inputs.map(each), **changed)

    def __getitem__(self, rows: Tensor | slice) -> EventTensors:
        return self.map(lambda tensor: tensor[rows])

    def pieces(self, size: int) -> list[EventTensors]:
        """The events in pieces of this size; one piece if there are none."""
        return [self[start : start + size] for start in range(0, max(len(self), 1), size)]


def drawn(labels: Tensor, weights: Tensor, sampler: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of events, in random order and as many as there are, by `train.sampler`; and their weights in the loss.

    Of n events one that is drawn with probability p gets the weight w / (n p), so that sums of weights have the same expectation with all
    samplers. The draws are at equal steps of the cumulative probability: an event comes n p times but for less than one, and sums vary
    less than with draws that know nothing of each other.
    """
    count, order = len(labels), torch.randperm(len(labels), generator=generator)
    sizes, of = weights.abs().cpu().double(), labels.cpu()
    if sampler == "every" or not sizes.any():
        order = order.to(labels.device)
        return order, weights[order]
    shares, is_balanced = sizes / sizes.sum(), sampler == "balanced"
    if is_balanced:
        of_class = torch.zeros(int(of.max()) + 1).double().index_add(0, of, sizes)
        shares = (sizes / of_class[of]).nan_to_num() / (of_class > 0).sum()  # a class may have no weight here
        order = order[torch.argsort(of[order], stable=True)]
    sums = shares[order].cumsum(0)
    steps = (torch.arange(count).double() + torch.rand(1, generator=generator)) / count
    rows = order[torch.searchsorted(sums, steps * sums[-1], right=True)]
    rows = rows[torch.randperm(count, generator=generator)]
    if is_balanced:  # every class comes once before one comes again, so that any batch has as many of each
        rows = rows[torch.argsort(of[rows], stable=True)]
        of_each = torch.bincount(of[rows])
        turn = torch.arange(count) - (of_each.cumsum(0) - of_each)[of[rows]]
        rows = rows[torch.argsort(turn + torch.rand(count, generator=generator).double())]
    found, factors = rows.to(labels.device), (1 / (count * shares[rows])).to(weights)
    return found, weights[found] * factors


@dataclass(frozen=True)
class Position:
    """A place in a training: the epoch, the block of its order, and the batch in that block, all from 0."""

    epoch: int = 0
    block: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Batches:
    """The training events of one network, drawn anew in each epoch.

    The blocks come in random order, and the events of each block in random order. The order depends on the seed and
    the epoch alone, so that an interrupted epoch can continue at any batch.
    """

    blocks: int  # number of blocks
    block: Callable[[int], EventTensors]  # reads a block by its number; it may have no event
    size: int  # events per batch, about: those of a block are divided into equal batches
    seed: int  # of the order
    ahead: bool  # read the next block while this one is used
    # changes what is random in the events of a block, in place
    redraw: Callable[[EventTensors, torch.Generator], None] | None = None
    sampler: str = "every"  # how the events of a block are drawn

    def epoch(self, start: Position) -> Iterator[tuple[Position, EventTensors]]:
        """Batches from `start` to the end of its epoch, each with the position after it."""
        order = torch.randperm(self.blocks, generator=self._generator(start.epoch)).tolist()
        for place, events in self._read(order, start.block):
            generator = self._generator(start.epoch, order[place])
            if len(events.event):
                numbers = events.event.cpu()
                rows = torch.randperm(int(numbers.max()) + 1, generator=generator)[numbers].argsort(stable=True)
                weights = events.weights[rows]
            else:
                rows, weights = drawn(events.labels, events.weights, self.sampler, generator)
            mixed = replace(events[rows], weights=weights)
            if self.redraw is not None:
                self.redraw(mixed, generator)
            batches = -(-len(events) // self.size)
            edges = [len(events) * i // max(batches, 1) for i in range(batches + 1)]
            first = start.batch if place == start.block else 0
            for i in range(first, batches):
                end = i + 1 == batches
                after = Position(start.epoch, place + end, 0 if end else i + 1)
                yield after, mixed[edges[i] : edges[i + 1]]

    def together(self) -> EventTensors:
        """All events at once, which takes memory; what is random in them is drawn once."""
        events = EventTensors.join([self.block(i) for i in range(self.blocks)])
        if self.redraw is not None:
            self.redraw(events, self._generator(0))
        return events

    def _read(self, order: list[int], first: int) -> Iterator[tuple[int, EventTensors]]:
        if not self.ahead:
            yield from ((place, self.block(order[place])) for place in range(first, len(order)))
            return
        with ThreadPoolExecutor(1) as reader:
            coming: Future[EventTensors] | None = None
            for place in range(first, len(order)):
                events = (coming or reader.submit(self.block, order[place])).result()
                last = place + 1 == len(order)
                coming = None if last else reader.submit(self.block, order[place + 1])
                yield place, events

    def _generator(self, *numbers: int) -> torch.Generator:
        """A generator of its own for each epoch and block."""
        seed = self.seed
        for number in numbers:
            seed = (seed * 0x9E3779B97F4A7C15 + number + 1) % 2**63
        return torch.Generator().manual_seed(seed)
