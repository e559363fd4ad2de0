"""Templates and their variations as a fit can use them: without negative bins, and smooth where that is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SMALLEST_CHANGE = 1e-3
"""A shape that changes no bin by more than this, relative to its content, is left out."""
LEAST_BINS = 3
"""Fewer cannot be smoothed."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Expected events at +1 and at -1 sigma of a nuisance parameter, float64 of shape (bins,)."""

    up: Floats
    down: Floats

    def changes(self, nominal: Floats) -> bool:
        """Whether it changes a bin by more than `SMALLEST_CHANGE`."""
        return any((np.abs(each - nominal) > SMALLEST_CHANGE * nominal).any() for each in (self.up, self.down))

    def smoothed(self, nominal: Floats) -> Shape:
        """The same with smooth ratios to `nominal`, and with the same yields."""
        return Shape(*(_smooth_ratio(each, nominal) for each in (self.up, self.down)))

    def distance(self, other: Shape, nominal: Floats) -> float:
        """The largest difference in a bin, relative to its content."""
        filled = nominal > 0
        differences = (np.abs(one - two)[filled] for one, two in ((self.up, other.up), (self.down, other.down)))
        return float(max((each / nominal[filled]).max() for each in differences))

    def where(self, kept: NDArray[np.bool_]) -> Shape:
        """The same with nothing in the other bins."""
        return Shape(np.where(kept, self.up, 0), np.where(kept, self.down, 0))


def inner(values: Floats) -> Floats:
    """The bins without underflow and overflow, those of several axes in a row."""
    return values[(slice(1, -1),) * values.ndim].ravel()


def positive(values: Floats) -> tuple[Floats, float]:
    """Contents with negative bins set to zero and the others scaled to the same positive sum, and by how much."""
    found = np.maximum(values, 0)
    scale = float(values.sum() / found.sum()) if (values < 0).any() else 1.0
    return scale * found, scale


def _smooth_ratio(varied: Floats, nominal: Floats) -> Floats:
    """Bins without nominal events say nothing about the ratio, and stay empty."""
    ratio = np.divide(varied, nominal, out=np.ones_like(nominal), where=nominal > 0)
    found = nominal * smooth(ratio)
    total = float(found.sum())
    return found * float(varied.sum()) / total if total > 0 else varied


def smooth(values: Floats) -> Floats:
    """Smooth a row of numbers by the algorithm 353QH, twice: J. Friedman, Proc. of the 1974 CERN School of Computing.

    Running medians of 3, 5 and 3 numbers, parabolas through flat pieces, and running means; then the same for what is left, which is
    added. These are the numbers of `TH1::Smooth`. See https://cds.cern.ch/record/186223.

    Parameters
    ----------
    values
        At least `LEAST_BINS` numbers, float64 of shape (N,).
    """
    first = _353qh(values)
    found = first + _353qh(values - first)
    return np.maximum(found, 0) if (values >= 0).all() else found


def _353qh(values: Floats) -> Floats:
    found = _medians(values, 3)
    # the ends: medians with where the line through their neighbours would be
    found[0] = np.median([found[1], values[0], 3 * found[1] - 2 * found[2]])
    found[-1] = np.median([found[-2], values[-1], 3 * found[-2] - 2 * found[-3]])
    found = _with_parabolas(_medians(_medians(found, 5), 3))
    means = 0.25 * found[:-2] + 0.5 * found[1:-1] + 0.25 * found[2:]
    return np.concatenate([found[:1], means, found[-1:]])


def _medians(values: Floats, width: int) -> Floats:
    """Running medians, of fewer numbers near the ends, which are kept."""
    found = values.copy()
    for each in range(3, min(width, len(values)) + 1, 2):
        found[each // 2 : len(values) - each // 2] = np.median(sliding_window_view(values, each), axis=-1)
    return found


def _with_parabolas(values: Floats) -> Floats:
    """Medians make peaks and valleys flat: three equal numbers at one become a parabola, which is steep on its steep side."""
    found = values.copy()
    for at in range(2, len(values) - 2):
        flat = values[at]
        left, right = values[at - 2] - flat, values[at + 2] - flat
        if values[at - 1] == flat == values[at + 1] and left * right > 0:
            side = 1 if abs(right) <= abs(left) else -1
            before, after = values[at - 2 * side], values[at + 2 * side]
            found[at] = flat / 0.75 - 0.5 * before + after / 6
            found[at + side] = flat + 0.5 * (after - before)
    return found
