"""Whether a cut on the score changes the shape of another quantity, such as a mass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ML_processing.metrics.distances import jensen_shannon
from ML_processing.metrics.measured import Floats, bin_of, effective

__all__ = ["Sculpting", "sculpting"]

_FEWEST = 10  # effective events on either side of a cut: below, there is no shape


@dataclass(frozen=True)
class Sculpting:
    """Jensen-Shannon divergence between the events that pass a cut and those that fail it.

    Attributes
    ----------
    divergence
        In bits; None where fewer than 10 effective events pass or fail.
    by_chance, spread
        Mean and standard deviation of what as many random events would give.
    """

    divergence: float | None
    by_chance: float | None
    spread: float | None

    @property
    def excess(self) -> float | None:
        """By how many standard deviations the divergence exceeds what chance gives."""
        if self.divergence is None or self.by_chance is None or not self.spread:
            return None
        return (self.divergence - self.by_chance) / self.spread


def sculpting(
    values: ArrayLike, passed: ArrayLike, weight: ArrayLike, edges: Floats, seed: int, repeats: int = 20
) -> Sculpting:
    """Compare the shape of events that pass with that of those that fail.

    Parameters
    ----------
    values, passed, weight
        The quantity, whether the event passes the cut, its weight of either sign; shape (N,). Values beyond the
        edges count in the outermost bins, those that are not finite nowhere.
    edges
        Of the bins.
    seed, repeats
        Of the random cuts.
    """
    x, p, w = np.asarray(values, np.float64), np.asarray(passed, np.bool_), np.asarray(weight, np.float64)
    known = np.isfinite(x)
    x, p, w = x[known], p[known], w[known]
    bins = len(edges) - 1
    index = bin_of(x, edges)
    all_events = np.bincount(index, w, bins)

    def divergence(rows: NDArray[np.int64]) -> float | None:
        inside = np.bincount(index[rows], w[rows], bins)
        return jensen_shannon(inside, all_events - inside)

    found = divergence(np.flatnonzero(p))
    if found is None or min(effective(w[p]), effective(w[~p])) < _FEWEST:
        return Sculpting(None, None, None)
    random, count = np.random.default_rng(seed), int(p.sum())
    drawn = [divergence(random.permutation(len(x))[:count]) for _ in range(repeats)]
    chance = [it for it in drawn if it is not None]
    if len(chance) < 2:
        return Sculpting(found, None, None)
    return Sculpting(found, float(np.mean(chance)), float(np.std(chance, ddof=1)))
