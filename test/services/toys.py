"""Made-up events whose best possible separation is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ML_processing.metrics.significance import asimov

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


def gaussian(values: Floats, mean: Floats | float, width: Floats | float) -> Floats:
    """Density of independent Gaussians (N,) at values (N, features)."""
    density = np.exp(-0.5 * ((values - mean) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    return np.asarray(density.prod(axis=1), np.float64)


@dataclass(frozen=True)
class GaussianClasses:
    """Classes that are Gaussians of width 1 around their means (classes, features)."""

    means: Sequence[Sequence[float]]

    def draw(self, labels: NDArray[np.int64], random: np.random.Generator) -> Floats:
        """Features (N, features) of events of these classes, (N,)."""
        return random.normal(np.asarray(self.means, np.float64)[labels], 1.0)

    def probabilities(self, features: Floats, shares: Sequence[float]) -> Floats:
        """Probabilities (N, classes) that nothing can surpass, if the classes have these shares."""
        of_class = zip(self.means, shares, strict=True)
        weighted = [share * gaussian(features, np.asarray(mean), 1.0) for mean, share in of_class]
        return np.stack(weighted, axis=1) / np.sum(weighted, axis=0)[:, None]


def best_significance(score: Floats, labels: NDArray[np.int64], yields: Sequence[float]) -> float:
    """The largest Asimov significance of a cut on a score, if these numbers of events are expected of the classes."""
    order = np.argsort(-score, kind="stable")
    weights = in_shares(labels, yields)[order]
    signal = labels[order] == 0
    return float(np.nanmax(asimov(np.cumsum(weights * signal), np.cumsum(weights * ~signal))[len(order) // 1000 :]))


def in_shares(labels: NDArray[np.int64], shares: Sequence[float]) -> Floats:
    """Weights that give the classes these sums."""
    return (np.asarray(shares, np.float64) / np.bincount(labels, minlength=len(shares)))[labels]


@dataclass(frozen=True)
class MovingSignal:
    """A narrow signal whose place in two features, x and y, follows a parameter from 0 to 4, on a wide background."""

    width: float = 0.5

    def place(self, value: float) -> Floats:
        """Centre of the signal, (2,)."""
        return np.array([value, np.sin(1.5 * value)])

    def signal(self, value: float, count: int, random: np.random.Generator) -> Floats:
        """Features of signal events, (count, 2)."""
        return random.normal(self.place(value), self.width, (count, 2))

    def background(self, count: int, random: np.random.Generator) -> Floats:
        """Features of background events, (count, 2)."""
        return random.normal([2, 0], [2, 1], (count, 2))

    def sample(self, values: Sequence[float], each: int, random: np.random.Generator) -> tuple[Singles, Singles]:
        """Features, (N, 2), and parameters, (N,): every other event is signal, with `each` of every value; background has NaN."""
        count = len(values) * each
        features, parameters = np.empty((2 * count, 2), np.float32), np.full(2 * count, np.nan, np.float32)
        parameters[::2] = np.repeat(values, each)
        features[::2] = np.concatenate([self.signal(value, each, random) for value in values])
        features[1::2] = self.background(count, random)
        return features, parameters

    def likelihood_ratio(self, features: Floats, value: float) -> Floats:
        """Signal over background, (N,): the best score at this value."""
        wide = np.array([2.0, 1.0])
        return gaussian(features, self.place(value), self.width) / gaussian(features, np.array([2.0, 0.0]), wide)
