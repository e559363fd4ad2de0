"""Discriminants of networks whose outputs are classes in a known order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ML_processing.metrics.measured import Measured
from ML_processing.metrics.roc import auc, auc_difference
from MLTools.NanoML.config.training import DISCRIMINANT
from MLTools.NanoML.model import Discriminant


@dataclass(frozen=True)
class BoundDiscriminant:
    """A discriminant, and the classes of a network in the order of its outputs."""

    of: Discriminant
    classes: Sequence[str]

    @classmethod
    def probability(cls, name: str, classes: Sequence[str]) -> BoundDiscriminant:
        """The probability of one of the classes."""
        return cls(Discriminant(name, name, dict.fromkeys(classes, 1.0)), classes)

    @property
    def signal(self) -> int:
        """Index of the class that is looked for."""
        return self.classes.index(self.of.signal)

    @property
    def backgrounds(self) -> list[int]:
        """Indices of the classes that stand against it."""
        return [i for i, name in enumerate(self.classes) if name in self.of.shares and name != self.of.signal]

    @property
    def is_probability(self) -> bool:
        """Whether it is nothing but the probability of a class, whose name it has."""
        return self.of.name in self.classes

    @property
    def title(self) -> str:
        """What it is called: "probability of signal", "discriminant wprime"."""
        kind = "probability of" if self.is_probability else "discriminant"
        return kind if self.of.name == DISCRIMINANT else f"{kind} {self.of.name}"

    @property
    def label(self) -> str:
        """The title of an axis."""
        return self.title[0].upper() + self.title[1:]

    @property
    def text(self) -> str:
        """Its title and what it tells apart: "discriminant wprime, signal against WZ (60 %) and ZG (40 %)"."""
        shares = self.shares[self.backgrounds] / self.shares[self.backgrounds].sum()
        parts = [f"{self.classes[i]} ({share:.3g} %)" for i, share in zip(self.backgrounds, 100 * shares, strict=True)]
        against = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else self.classes[self.backgrounds[0]]
        return f"{self.title}, {self.of.signal} against {against}"

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each class, 0 of those that do not count, shape (classes,)."""
        return np.array([self.of.shares.get(name, 0.0) for name in self.classes])

    def counts(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether events of these classes, given by their indices (N,), are signal or stand against it."""
        found: NDArray[np.bool_] = (self.shares > 0)[labels]
        return found

    def values(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Its values, shape (N,), from probabilities (N, classes)."""
        return probabilities[:, self.signal] if self.is_probability else self.of.of(probabilities, self.classes)

    def area(
        self, probabilities: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float32]
    ) -> Measured:
        """AUC of the signal against the classes that count, with the weights of N events, from probabilities (N, classes)."""
        use = self.counts(labels)
        return auc(self.values(probabilities[use]), labels[use] == self.signal, weights[use])

    def area_difference(
        self,
        probabilities: NDArray[np.float32],
        others: NDArray[np.float32],
        labels: NDArray[np.int64],
        weights: NDArray[np.float32],
    ) -> Measured:
        """The AUC with some probabilities minus that with others of the same events."""
        use = self.counts(labels)
        first, second = (self.values(each[use]) for each in (probabilities, others))
        return auc_difference(first, second, labels[use] == self.signal, weights[use])

    def log_odds(self, logits: Tensor) -> Tensor:
        """The logarithm of D / (1 - D), shape (N,), from the logits of a network (N, classes)."""
        shifts = torch.from_numpy(np.log(self.shares[self.backgrounds] / self.shares[self.signal])).to(logits)
        return logits[:, self.signal] - torch.logsumexp(logits[:, self.backgrounds] + shifts, dim=1)
