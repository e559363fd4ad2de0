"""Bins of histograms: where values are in them, and those of a score, which are chosen by what is expected in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FINE = 1000
"""Number of fine bins between 0 and 1 from which the bins are chosen."""
_SEARCHED = 16  # bins up to which they are searched
Floats = NDArray[np.float64]


def fine_edges() -> list[float]:
    """The edges of the fine bins, of which the last one has a score of 1, too."""
    return [*(number / FINE for number in range(FINE)), float(np.nextafter(1, 2))]


def chosen_bins(signal: Floats, background: Floats, squares: Floats, least: float, most: int) -> list[int]:
    """Edges of bins, by what is expected in fine bins of a score that rises with the share of signal.

    From the highest scores down, a bin ends as soon as its background has enough effective events, and it has its part of all
    signal or of all background; what is left at the end joins the last one. Then neighbours in which the share of signal does not fall
    with the score are one bin, until it falls everywhere (pool adjacent violators).

    Parameters
    ----------
    signal, background, squares
        Sums of weights of signal and background, and of the squares of the background's, float64 of shape (fine bins,).
    least
        Least effective number of background events in a bin, (sum of weights)^2 / sum of squares.
    most
        How many bins signal or background are divided into at most.

    Returns
    -------
    Rising numbers of fine bins at which a bin begins; the first is 0, the last the number of fine bins.
    """
    sums = np.array([signal, background, squares])
    parts = sums.sum(axis=1) / most
    starts, inside = [], np.zeros(3)
    for start in range(len(signal) - 1, -1, -1):
        inside += sums[:, start]
        s, b, w2 = inside
        if b > 0 and b**2 >= least * w2 and (b >= parts[1] or 0 < parts[0] <= s):
            starts.append(start)
            inside = np.zeros(3)
    edges = [*reversed(starts), len(signal)]
    edges[0] = 0
    pooled: list[tuple[int, Floats]] = []  # the beginning of each bin and its sums, from the lowest scores up
    for start, stop in zip(edges, edges[1:]):
        pooled.append((start, sums[:, start:stop].sum(axis=1)))
        while len(pooled) > 1 and _share(pooled[-1][1]) <= _share(pooled[-2][1]):
            (first, one), (_, other) = pooled[-2:]
            pooled[-2:] = [(first, one + other)]
    return [*(start for start, _ in pooled), len(signal)] if pooled else [0, len(signal)]


def _share(sums: Floats) -> float:
    """The share of signal; -infinity where nothing is expected."""
    total = sums[0] + sums[1]
    return float(sums[0] / total) if total > 0 else -np.inf


def merged_bins(values: NDArray[np.float64], edges: list[int]) -> NDArray[np.float64]:
    """Sums over bins of fine bins, for an array (..., fine bins + 2) with underflow and overflow at its ends."""
    inner = np.add.reduceat(values[..., 1:-1], edges[:-1], axis=-1)
    return np.concatenate([values[..., :1], inner, values[..., -1:]], axis=-1)


def places_in(edges: Floats, values: Floats) -> NDArray[np.int64]:
    """The bin of each value: 0 below all edges, their number at or above the last one."""
    count = len(edges) - 1
    width = (edges[-1] - edges[0]) / count
    if count < _SEARCHED or np.abs(np.diff(edges) - width).max() > 0.01 * width:
        return np.searchsorted(edges, values, "right")
    # in even bins the place is known to one bin, which is quicker than to search it
    guess = np.clip((values - edges[0]) / width, -1, count).astype(np.int64) + 1
    low, high = np.concatenate([[-np.inf], edges]), np.concatenate([edges, [np.inf]])
    return np.minimum(guess + (values >= high[guess]) - (values < low[guess]), count + 1)
