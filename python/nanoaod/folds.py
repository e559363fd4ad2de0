"""The fold of an event: the same in every stage and on every machine.

The fold depends only on run, luminosityBlock and event, so an event keeps its fold in whatever file it is, whatever was
skimmed away around it, and in whatever order it is read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RULE", "SINGLE", "fold_of", "mixed", "part_of"]

RULE = "mix64(mix64(mix64(run) + luminosityBlock) + event) % k, mix64 of SplitMix64, all in uint64"
"""The rule, as in the metadata of a model."""

SINGLE = 5
"""Number of folds of a training of a single network, which is tested on the first."""


def mix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def mixed(run: ArrayLike, luminosity_block: ArrayLike, event: ArrayLike) -> NDArray[np.uint64]:
    """A hash of each event, uint64 of the arrays' shape; parameters as in `fold_of`."""
    run64, block64, event64 = (np.atleast_1d(np.asarray(a)).astype(np.uint64) for a in (run, luminosity_block, event))
    return mix64(mix64(mix64(run64) + block64) + event64)


def fold_of(run: ArrayLike, luminosity_block: ArrayLike, event: ArrayLike, k: int) -> NDArray[np.int64]:
    """Fold of each event, 0 to k - 1.

    Parameters
    ----------
    run, luminosity_block, event
        Arrays of the same shape, any integer type.
    k
        Number of folds.

    Returns
    -------
    int64 array of the same shape.

    Examples
    --------
    >>> fold_of([1, 1, 1], [7, 7, 7], [101, 102, 103], k=5).tolist()
    [4, 4, 1]
    """
    return (mixed(run, luminosity_block, event) % np.uint64(k)).astype(np.int64)


def part_of(run: ArrayLike, luminosity_block: ArrayLike, event: ArrayLike) -> NDArray[np.float64]:
    """A number from 0 to 1 for each event, float64, which does not depend on its fold: a tenth of the data has one below 0.1.

    Examples
    --------
    >>> part_of([1, 1], [7, 7], [101, 102]).round(3).tolist()
    [0.235, 0.605]
    """
    return (mix64(mixed(run, luminosity_block, event)) >> np.uint64(11)).astype(np.float64) / 2**53
