"""Made-up events whose best possible separation is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def gaussian(values: Floats, mean: Floats | float, width: Floats | float) -> Floats:
    """Density of independent Gaussians (N,) at values (N, features)."""
    density = np.exp(-0.5 * ((values - mean) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    return np.asarray(density.prod(axis=1), np.float64)


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

    def likelihood_ratio(self, features: Floats, value: float) -> Floats:
        """Signal over background, (N,): the best score at this value."""
        wide = np.array([2.0, 1.0])
        return gaussian(features, self.place(value), self.width) / gaussian(features, np.array([2.0, 0.0]), wide)
