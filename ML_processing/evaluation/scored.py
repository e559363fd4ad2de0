"""Events with the scores of networks that have not seen them, and of the baseline; what can be read off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing import metrics
from ML_processing.metrics import Measured, Roc

__all__ = ["EFFICIENCIES", "Scored", "sampled"]

EFFICIENCIES = (0.3, 0.5, 0.7, 0.9)
"""Of the signal, for the table of working points."""


@dataclass(frozen=True)
class Scored:
    """Scores of N events.

    Attributes
    ----------
    labels
        int64, shape (N,).
    weights
        Physical weights, shape (N,).
    network, baseline
        Class probabilities, shape (N, classes).
    signal
        Index of the signal.
    """

    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    network: NDArray[np.float32]
    baseline: NDArray[np.float32]
    signal: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.network.shape[1]

    @property
    def backgrounds(self) -> list[int]:
        """Indices of the other classes."""
        return [i for i in range(self.classes) if i != self.signal]

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Which events are signal, shape (N,)."""
        return self.labels == self.signal

    @property
    def score(self) -> NDArray[np.float32]:
        """Signal probability of the network, shape (N,)."""
        return self.network[:, self.signal]

    def select(self, rows: NDArray[Any]) -> Scored:
        """Some of the events: an index or a mask."""
        return Scored(
            self.labels[rows], self.weights[rows], self.network[rows], self.baseline[rows], self.signal
        )

    def against(self, background: int) -> Scored:
        """The events of the signal and of one other class alone."""
        return self.select(self.truth | (self.labels == background))

    @classmethod
    def join(cls, parts: Sequence[Scored]) -> Scored:
        """All events of `parts`, which have the same signal."""
        of = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("labels", "weights", "network", "baseline")
        }
        return cls(**of, signal=parts[0].signal)

    def unweighted(self) -> Scored:
        """The same with every weight 1."""
        return Scored(self.labels, np.ones_like(self.weights), self.network, self.baseline, self.signal)

    def balanced(self) -> NDArray[np.float64] | None:
        """Weights with which every class has the same sum, as in the training; None if a class has no positive one."""
        sums = np.bincount(self.labels, self.weights.astype(np.float64), self.classes)
        return self.weights / sums[self.labels] if (sums > 0).all() else None

    def auc(self) -> dict[str, float | None]:
        """AUC of the signal probability against all others, of network and baseline, their difference, and errors."""
        truth, ours, theirs = self.truth, self.score, self.baseline[:, self.signal]
        found = {
            "network": metrics.auc(ours, truth, self.weights),
            "baseline": metrics.auc(theirs, truth, self.weights),
            "difference": metrics.auc_difference(ours, theirs, truth, self.weights),
        }
        numbers: dict[str, float | None] = {}
        for name, measured in found.items():
            numbers[name], numbers[f"{name}_error"] = measured.value, measured.error
        return numbers

    def roc(self, of: str) -> tuple[Roc, Measured] | None:
        """ROC curve of "network" or "baseline" with its AUC; None where it is not defined."""
        score = getattr(self, of)[:, self.signal]
        area = metrics.auc(score, self.truth, self.weights)
        return None if area.value is None else (metrics.roc(score, self.truth, self.weights), area)

    def cut_at(self, background: float) -> float | None:
        """The loosest cut on the signal probability that keeps at most this share of the background."""
        found = self.roc("network")
        if found is None:
            return None
        curve = found[0]
        return float(curve.thresholds[max(1, int(np.argmax(curve.background > background)) - 1)])

    def confusion(self) -> NDArray[np.float64]:
        """Sum of weights by true class (row) and class of the highest probability (column)."""
        return metrics.confusion(self.labels, self.network.argmax(axis=1), self.weights, self.classes)


def sampled(
    labels: NDArray[np.int64], limit: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A random choice of at most about `limit` events, as many of each class as there are or its equal share.

    Returns
    -------
    rows
        int64, rising: all of them if there are no more than `limit`.
    factors
        float32: what makes up for those of its class that are left out, for each chosen event.
    """
    if len(labels) <= limit:
        return np.arange(len(labels)), np.ones(len(labels), np.float32)
    random, counts = np.random.default_rng(seed), np.bincount(labels)
    share = limit // int((counts > 0).sum())
    rows = np.sort(
        np.concatenate(
            [random.permutation(np.flatnonzero(labels == i))[:share] for i in np.flatnonzero(counts)]
        )
    )
    factors = counts / np.clip(np.minimum(counts, share), 1, None)
    return rows, factors[labels[rows]].astype(np.float32)
