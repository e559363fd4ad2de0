"""Entries of a model's description: its discriminants, and the selection that is compiled into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-30
"""The least that a discriminant is divided by: where none of its classes has any probability, it is 0."""

Floats = NDArray[np.float32]


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
    """A column that a selection in a model gives.

    Attributes
    ----------
    name, dtype, title
        As the selection declares it.
    """

    name: str
    dtype: str
    title: str


@dataclass(frozen=True)
class MadeCollection:
    """A collection that a selection in a model gives, as a tensor made_NAME and its mask made_NAME_mask.

    Attributes
    ----------
    name
        Its name.
    size
        For how many objects of an event there is room.
    fields
        The columns of its objects, in the order of the last axis.
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
