"""Inputs on which models are known to go wrong: other sizes than the traced ones, nothing, too much, no numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.model.description import Description, Objects

__all__ = ["SIZES", "Trial", "trials"]

SIZES = (1, 7, 300)
"""Numbers of rows: a model may have the size that it was traced with baked in."""

Floats = NDArray[np.float32]
Feeds = dict[str, Floats]


@dataclass(frozen=True)
class Trial:
    """Inputs of one kind.

    Attributes
    ----------
    name
        What they are: "events with NaN".
    feeds
        float32 tensors by name, of max(SIZES) rows each.
    same_as
        Name of an earlier trial that must have the same outputs.
    """

    name: str
    feeds: Feeds
    same_as: Optional[str] = None

    def rows(self, size: int) -> Feeds:
        """The first rows."""
        return {name: values[:size] for name, values in self.feeds.items()}


def trials(description: Description, sample: Mapping[str, Floats]) -> list[Trial]:
    """All trials of a model.

    Parameters
    ----------
    description
        Of the model.
    sample
        Real events (or objects): each tensor, all numbers finite.
    """
    rows, what = max(SIZES), f"{description.level}s"
    real = {name: np.resize(values, (rows, *values.shape[1:])) for name, values in sample.items()}
    masks = {tensor.tensor: tensor.mask for tensor in description.objects}
    numbers = [name for name in real if name not in masks.values()]
    random = np.random.default_rng(0)

    def changed(values: Mapping[str, NDArray[Any]]) -> Feeds:
        # padding stays 0
        return {
            **real,
            **{
                name: np.where(real[masks[name]][..., None] > 0, value, 0).astype(np.float32)
                if name in masks
                else value.astype(np.float32)
                for name, value in values.items()
            },
        }

    def filled(positive: float, negative: float) -> Feeds:
        signs = {name: random.random(real[name].shape) < 0.5 for name in numbers}
        return changed({name: np.where(sign, positive, negative) for name, sign in signs.items()})

    def varied() -> dict[str, NDArray[Any]]:
        return {name: real[name] * random.uniform(0.5, 2, real[name].shape) for name in numbers}

    def holes() -> dict[str, NDArray[Any]]:
        return {name: np.where(random.random(real[name].shape) < 0.3, np.nan, real[name]) for name in numbers}

    limits = np.finfo(np.float32)
    largest, smallest = float(limits.max), float(limits.smallest_subnormal)
    found = [
        Trial(f"real {what}", real),
        Trial(f"varied {what}", changed(varied())),
        Trial(f"{what} with NaN", changed(holes())),
        Trial("only NaN", filled(np.nan, np.nan)),
        Trial("infinity", filled(np.inf, -np.inf)),
        Trial("zeros", filled(0, 0)),
        Trial("the largest numbers", filled(largest, -largest)),
        Trial("the smallest numbers", filled(smallest, smallest)),
    ]
    return found + list(_of_objects(description.objects, real, f"real {what}"))


def _of_objects(objects: Sequence[Objects], real: Feeds, plain: str) -> Iterator[Trial]:
    """What can go wrong with collections."""
    if not objects:
        return
    most = max(tensor.max for tensor in objects)
    yield Trial("as many objects as there may be", _full(objects, real))
    for length in dict.fromkeys((0, 1, most // 2)):
        if length < most:
            kept = _cut(objects, real, length)
            name = f"{length} objects at most" if length > 1 else ("no objects", "1 object at most")[length]
            yield Trial(name, kept)
            yield Trial(f"{name}, in tensors of this length", _shortened(objects, kept, length), name)
    yield Trial("padding with numbers in it", _dirty(objects, real), plain)


def _cut(objects: Sequence[Objects], real: Feeds, length: int) -> Feeds:
    """Events that lose their objects beyond a number."""
    found = dict(real)
    for tensor in objects:
        found[tensor.mask] = real[tensor.mask].copy()
        found[tensor.mask][:, length:] = 0
        found[tensor.tensor] = real[tensor.tensor].copy()
        found[tensor.tensor][:, length:] = 0
    return found


def _shortened(objects: Sequence[Objects], feeds: Feeds, length: int) -> Feeds:
    short = {name: length for tensor in objects for name in (tensor.tensor, tensor.mask)}
    return {
        name: np.ascontiguousarray(values[:, : short[name]]) if name in short else values
        for name, values in feeds.items()
    }


def _full(objects: Sequence[Objects], real: Feeds) -> Feeds:
    """Events with the largest number of objects, which are those of all events in turn."""
    found = dict(real)
    for tensor in objects:
        values, mask = real[tensor.tensor], real[tensor.mask] > 0
        there = values[mask] if mask.any() else np.ones((1, values.shape[2]), np.float32)
        found[tensor.tensor] = np.resize(there, values.shape)
        found[tensor.mask] = np.ones_like(real[tensor.mask])
    return found


def _dirty(objects: Sequence[Objects], real: Feeds) -> Feeds:
    found = dict(real)
    for tensor in objects:
        padding = real[tensor.mask][..., None] == 0
        found[tensor.tensor] = np.where(padding, np.float32(1234.5), real[tensor.tensor])
    return found
