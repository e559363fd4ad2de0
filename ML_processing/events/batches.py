"""Events of one network as tensors, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ML_processing.events.inputs import Inputs

__all__ = ["Batches", "Events", "Position"]


@dataclass(frozen=True)
class Events:
    """Events as tensors, ready for a network.

    Attributes
    ----------
    inputs
        What the network reads, scaled.
    labels
        int64, shape (N,).
    weights
        Weights of the training, float32, shape (N,).
    targets
        What is to be estimated, standardised, float32, shape (N, targets).
    spectator
        What the output must not depend on, float32, shape (N,), or (0,) if there is no such thing.
    free
        bool, shape (N,): events whose parameter is drawn anew in each epoch; or (0,) without a parameter.
    """

    inputs: Inputs
    labels: Tensor
    weights: Tensor
    targets: Tensor
    spectator: Tensor
    free: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def map(self, change: Callable[[Tensor], Tensor]) -> Events:
        """The same with every tensor changed; those of no events stay."""

        def each(tensor: Tensor) -> Tensor:
            return change(tensor) if len(tensor) == len(self.labels) else tensor

        rest = (self.labels, self.weights, self.targets, self.spectator, self.free)
        return Events(self.inputs.map(each), *(each(tensor) for tensor in rest))

    def __getitem__(self, rows: Tensor | slice) -> Events:
        return self.map(lambda tensor: tensor[rows])


@dataclass(frozen=True)
class Position:
    """A place in a training: the epoch, the block of its order, and the batch in that block, all from 0."""

    epoch: int = 0
    block: int = 0
    batch: int = 0


class Batches:
    """The training events of one network, shuffled anew in each epoch.

    The blocks come in random order, and the events of each block in random order. The order depends on the seed and
    the epoch alone, so that an interrupted epoch goes on where it was.

    Parameters
    ----------
    blocks
        Number of blocks.
    block
        Reads a block by its number; it may have no event.
    size
        Events per batch, about: those of a block are divided into equal batches.
    seed
        Seed of the order.
    ahead
        Read the next block while this one is used.
    redraw
        Changes what is random in the events of a block, given a generator; in place.
    """

    def __init__(
        self,
        blocks: int,
        block: Callable[[int], Events],
        size: int,
        seed: int,
        ahead: bool,
        redraw: Callable[[Events, torch.Generator], None] | None = None,
    ) -> None:
        self.blocks, self.block, self.size, self.seed, self.redraw = blocks, block, size, seed, redraw
        self.ahead = ahead

    def epoch(self, start: Position) -> Iterator[tuple[Position, Events]]:
        """Batches from `start` to the end of its epoch, each with the position after it."""
        order = torch.randperm(self.blocks, generator=self._generator(start.epoch)).tolist()
        for place, events in self._read(order, start.block):
            generator = self._generator(start.epoch, order[place])
            mixed = events[torch.randperm(len(events), generator=generator).to(events.labels.device)]
            if self.redraw is not None:
                self.redraw(mixed, generator)
            batches = -(-len(events) // self.size)
            edges = [len(events) * i // max(batches, 1) for i in range(batches + 1)]
            first = start.batch if place == start.block else 0
            for i in range(first, batches):
                end = i + 1 == batches
                after = Position(start.epoch, place + end, 0 if end else i + 1)
                yield after, mixed[edges[i] : edges[i + 1]]

    def _read(self, order: list[int], first: int) -> Iterator[tuple[int, Events]]:
        if not self.ahead:
            for place in range(first, len(order)):
                yield place, self.block(order[place])
            return
        with ThreadPoolExecutor(1) as reader:
            coming: Future[Events] | None = None
            for place in range(first, len(order)):
                ready = coming or reader.submit(self.block, order[place])
                events = ready.result()
                last = place + 1 == len(order)
                coming = None if last else reader.submit(self.block, order[place + 1])
                yield place, events

    def _generator(self, *numbers: int) -> torch.Generator:
        """A generator of its own for each epoch and block."""
        seed = self.seed
        for number in numbers:
            seed = (seed * 0x9E3779B97F4A7C15 + number + 1) % 2**63
        return torch.Generator().manual_seed(seed)
