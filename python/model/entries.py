"""Entries of a model's description: its discriminants, the selection that is compiled into it, and the domain of its inputs.

The domain is between which values the inputs were in the training; how many events lie outside is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import listed

SHARES = (0.001, 0.16, 0.5, 0.84, 0.999)
"""The shares of the weight below the quantiles of an input."""

_PIECE = 1024
_MOST = 5  # inputs, and datasets, that a line names
SMALLEST = 1e-30
"""The least that a discriminant is divided by: where none of its classes has any probability, it is 0."""
Floats = NDArray[np.float32]


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


def outside_of(domain: Domain, tensors: Mapping[str, NDArray[np.generic]]) -> NDArray[np.bool_]:
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


@dataclass(frozen=True)
class Discriminant:
    """The probability of one class among others, if they have given shares of the events.

    A network is trained with equal total weights of all classes. From its probabilities p follows that of class s for other
    shares f by Bayes' theorem, f_s p_s / (f_s p_s + sum over the others of f_k p_k). By the lemma of Neyman and Pearson no other
    function of the inputs tells s better from a mixture of the others in these shares, if p is right.

    Attributes
    ----------
    name
        Its name.
    signal
        The class s.
    shares
        The shares f of all classes that count, s included: none is 0 or less. Only their ratios matter, and that of s changes
        the scale but no order of events.
    """

    name: str
    signal: str
    shares: dict[str, float]

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Discriminant:
        """Read its entry in a model's metadata; KeyError, TypeError or ValueError if it is not one."""
        name, signal = str(content["name"]), str(content["signal"])
        shares = {str(key): float(value) for key, value in content["shares"].items()}
        if signal not in shares or len(shares) < 2 or not all(0 < share < np.inf for share in shares.values()):
            raise ValueError(f"discriminant {name}: shares {shares}")
        return cls(name, signal, shares)

    def formula(self, classes: Sequence[str]) -> str:
        """The shares of those of `classes` that count, in their order: "signal against WZ 0.7, ZZ 0.3"."""
        own = "" if self.shares[self.signal] == 1 else f" {self.shares[self.signal]:g}"
        others = [f"{name} {self.shares[name]:g}" for name in classes if name in self.shares and name != self.signal]
        return f"{self.signal}{own} against {', '.join(others)}"

    def of(self, probabilities: Floats, classes: Sequence[str]) -> Floats:
        """Its values, shape (...), from probabilities of `classes`, shape (..., classes): numbers from 0 to 1."""
        above, below = coefficients([self], classes)
        return ((probabilities @ above) / np.maximum(probabilities @ below, np.float32(SMALLEST)))[..., 0]


def coefficients(discriminants: Sequence[Discriminant], classes: Sequence[str]) -> tuple[Floats, Floats]:
    """By what the probabilities of `classes` enter numerator and denominator, float32, shape (classes, discriminants)."""
    below = np.array([[each.shares.get(name, 0.0) for each in discriminants] for name in classes], np.float32)
    is_signal = np.array([[name == each.signal for each in discriminants] for name in classes])
    return np.where(is_signal, below, np.float32(0)), below


@dataclass(frozen=True)
class MadeNumber:
    """A column that a selection in a model gives, as the selection declares it."""

    name: str
    dtype: str
    title: str


@dataclass(frozen=True)
class MadeCollection:
    """A collection that a selection in a model gives, as a tensor made_NAME and its mask made_NAME_mask.

    There is room for `size` objects of an event; `fields` are their columns, in the order of the last axis.
    """

    name: str
    size: int
    fields: tuple[MadeNumber, ...]


@dataclass(frozen=True)
class SelectionInside:
    """The selection that is compiled into a model, in front of its networks.

    Attributes
    ----------
    name
        The selection, as "module:Class".
    dataset
        What it was compiled for, as far as it depends on that: "era", "is_data", "triggers".
    cuts
        Its cuts: columns of the tensor `cuts`, which are 1 for an event that passes this one and all before.
    columns
        Its columns: those of the tensor `columns`.
    collections
        The collections that it makes.
    defaults
        Branches that an input may lack, and the number to take then.
    corrected
        Branches that must have corrected values.
    corrections
        SHA-256 of the files with these corrections, by their names.
    events
        On how many events it was compared with the selection itself.
    """

    name: str
    dataset: dict[str, Any]
    cuts: tuple[str, ...]
    columns: tuple[MadeNumber, ...]
    collections: tuple[MadeCollection, ...]
    defaults: dict[str, float]
    corrected: tuple[str, ...]
    corrections: dict[str, str]
    events: int
