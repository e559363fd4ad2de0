"""The domain of a model: between which values its inputs were in the training, and how many events lie outside."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import listed

SHARES = (0.001, 0.16, 0.5, 0.84, 0.999)
"""The shares of the weight below the quantiles of an input."""

_PIECE = 1024
_MOST = 5  # inputs, and datasets, that a line names


@dataclass(frozen=True)
class InputRange:
    """The values of an input in the training: of all rows (events, or objects of a model of objects), or of all objects in them."""

    name: str  # the column
    low: float  # from the smallest value to the largest, with a margin for rounding, but without outliers
    high: float
    missing: tuple[float, ...]  # values that stand for a missing one, and count as inside
    may_be_missing: bool  # whether there were values that are not finite, which count as inside then
    quantiles: tuple[float, ...]  # those of `SHARES`, each class having the same weight; empty if all are missing
    outside: float  # the share of rows outside of the range, in the class that has most
    limit: float  # the share above which there is a warning: what the training has, with a margin for its statistics

    def is_missing(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which values are missing ones, as in the training."""
        found = np.isin(values, np.array(self.missing, np.float32))
        return found | ~np.isfinite(values) if self.may_be_missing else found

    def is_exceeded(self, outside: int, rows: int) -> bool:
        """Whether more of some rows lie outside than the limit and their own statistics explain."""
        expected = self.limit * rows
        return outside > expected + 3 * math.sqrt(expected) + 2


@dataclass(frozen=True)
class KnownTensor:
    """A tensor that networks read, and the values of its columns in the training."""

    tensor: str
    mask: Optional[str]  # the tensor with the mask; None without objects
    size: int  # how many objects of an event it has at most; 0 without objects
    inputs: tuple[InputRange, ...]  # its columns, in order

    def outside(self, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Which inputs of each row lie outside, shape (rows, inputs); any of its objects will do."""
        values, width = tensors[self.tensor], len(self.inputs)
        flat, outside = values.reshape(-1), np.empty(values.shape, np.bool_)
        # in pieces that fit into the processor's caches, each compared at once
        low, high = np.tile(np.array([(each.low, each.high) for each in self.inputs], np.float32).T, _PIECE)
        for start in range(0, flat.size, low.size):
            part = flat[start : start + low.size]
            is_inside = (part >= low[: part.size]) & (part <= high[: part.size])
            np.logical_not(is_inside, out=outside.reshape(-1)[start : start + part.size])
        for column, each in enumerate(self.inputs):
            if self.mask is not None and not each.low <= 0 <= each.high:  # padding is 0
                outside[..., column] &= tensors[self.mask] > 0
        places = np.flatnonzero(outside)
        for column, each in enumerate(self.inputs):
            if each.missing or each.may_be_missing:
                places = places[(places % width != column) | ~each.is_missing(flat[places])]
        found = np.zeros((len(values), width), np.bool_)
        found[places // (values[:1].size or 1), places % width] = True
        return found


Domain = tuple[KnownTensor, ...]
"""All tensors that networks read; none of a model that was exported before they travelled in its file."""


def outside_of(domain: Domain, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Which inputs of each row lie outside of a domain, shape (rows, inputs)."""
    found = [each.outside(tensors) for each in domain]
    return np.concatenate(found, axis=1) if found else np.zeros((len(next(iter(tensors.values()))), 0), np.bool_)


def inputs_of(domain: Domain) -> list[InputRange]:
    """All inputs, in order."""
    return [each for tensor in domain for each in tensor.inputs]


@dataclass
class Outside:
    """How many rows were scored, and in how many of them which inputs lie outside."""

    rows: int = 0
    inputs: dict[str, int] = field(default_factory=dict)

    def add(self, domain: Domain, found: NDArray[np.bool_]) -> None:
        """Count rows, given which of their inputs lie outside."""
        numbers = zip(inputs_of(domain), found.sum(axis=0).tolist())
        self.merge(Outside(len(found), {each.name: number for each, number in numbers if number}))

    def merge(self, other: Outside) -> None:
        """Count the rows of another file."""
        self.rows += other.rows
        for name, number in other.inputs.items():
            self.inputs[name] = self.inputs.get(name, 0) + number


def domain_lines(name: str, level: str, domain: Domain, found: Mapping[str, Outside]) -> Iterator[str]:
    """Say how many rows of each dataset lie outside of the domain of a model, and warn of more than the training has.

    `level` is "event" or "object". Files of no dataset are of the dataset "".
    """
    total = Outside()
    for counted in found.values():
        total.merge(counted)
    if not total.rows:
        return
    order = sorted(total.inputs.items(), key=lambda it: -it[1])
    shares = listed([f"{it} in {_percent(number / total.rows)}" for it, number in order] or ["none"], _MOST)
    yield f"{name}: inputs outside of the training's range: {shares} of the {level}s."
    for each in inputs_of(domain):
        numbers = [(it.inputs.get(each.name, 0), it.rows, dataset) for dataset, it in found.items()]
        wrong = [(n / rows, dataset) for n, rows, dataset in numbers if each.is_exceeded(n, rows)]
        places = [
            f"{_percent(share)} of the {level}s{f' of {dataset}' if dataset else ''}"
            for share, dataset in sorted(wrong, reverse=True)
        ]
        if places:
            yield (
                f"WARNING: {name}: {each.name} is outside of the range {each.low:.4g} to {each.high:.4g}, on which the networks were "
                f"trained, in {listed(places, _MOST)}; in the training, in {_percent(each.outside)}."
            )


def _percent(share: float) -> str:
    return f"{100 * share:.{2 if share < 0.995 else 3}g} %"  # not 1e+02
