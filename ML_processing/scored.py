"""Events with the scores of networks that have not seen them, and of the baseline; what can be read off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ML_processing import metrics
from ML_processing.metrics import Measured, Roc

__all__ = ["Scored", "histogram"]

_EFFICIENCIES = (0.5, 0.7, 0.9)  # of the signal, for the table of cuts


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

    def against(self, background: int) -> Scored:
        """The events of the signal and of one other class alone."""
        use = (self.labels == self.signal) | (self.labels == background)
        return Scored(self.labels[use], self.weights[use], self.network[use], self.baseline[use], self.signal)

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

    def auc(self) -> dict[str, float | None]:
        """AUC of the signal probability against all others, of network and baseline, their difference, and errors."""
        truth = self.labels == self.signal
        ours, theirs = self.network[:, self.signal], self.baseline[:, self.signal]
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
        truth = self.labels == self.signal
        score = getattr(self, of)[:, self.signal]
        area = metrics.auc(score, truth, self.weights)
        return None if area.value is None else (metrics.roc(score, truth, self.weights), area)

    def cuts(self) -> list[dict[str, float]]:
        """Cuts on the signal probability of the network, for some efficiencies of the signal."""
        found = self.roc("network")
        if found is None:
            return []
        curve = found[0]
        first = [int(np.argmax(curve.signal >= wanted)) for wanted in _EFFICIENCIES]
        return [
            {
                "score_at_least": float(curve.thresholds[i]),
                "signal_efficiency": float(curve.signal[i]),
                "background_efficiency": float(curve.background[i]),
            }
            for i in first
        ]

    def confusion(self) -> NDArray[np.float64]:
        """Sum of weights by true class (row) and class of the highest probability (column)."""
        return metrics.confusion(self.labels, self.network.argmax(axis=1), self.weights, self.classes)

    def histograms(self, edges: NDArray[np.float64]) -> list[metrics.Histogram]:
        """Of each class the distribution of the network's signal probability."""
        score = self.network[:, self.signal]
        return [
            histogram(score[self.labels == i], self.weights[self.labels == i], edges)
            for i in range(self.classes)
        ]


def histogram(score: NDArray[Any], weights: NDArray[Any], edges: NDArray[np.float64]) -> metrics.Histogram:
    """Sums of weights per bin and their errors, scaled to a total of 1."""
    weights = weights.astype(np.float64)
    values = np.histogram(score, edges, weights=weights)[0]
    errors = np.sqrt(np.histogram(score, edges, weights=weights**2)[0])
    scale = 1 / values.sum() if values.sum() > 0 else 0.0
    return values * scale, errors * scale
