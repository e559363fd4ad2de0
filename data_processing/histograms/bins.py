"""Bins of histograms: where values are in them, and fine ones that become one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SEARCHED = 16  # bins up to which they are searched
Floats = NDArray[np.float64]


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
