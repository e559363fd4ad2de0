"""Bins of a score, which are chosen by what is expected in them: those of histograms, and those by which networks are judged."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FINE = 1000
"""Number of fine bins between 0 and 1 from which the bins are chosen."""
_FARTHEST = 16.0  # log-odds of the last edge: float32 tells no more steps from 1
LEAST_EVENTS, MOST_BINS = 10.0, 15
"""The request to `chosen_bins` unless an analysis says otherwise."""


@functools.cache
def fine_edges() -> tuple[float, ...]:
    """The edges of the fine bins, even in the log-odds of the score, of which the last one has a score of 1, too.

    So bins near 0 and 1 are as fine as the others in what counts, the ratio of signal to background, which grows by 3 % from one edge to
    the next. They are rounded to three digits of their distance from 0 or 1.
    """
    half = [float(f"{1 / (1 + math.exp(_FARTHEST * (1 - 2 * number / FINE))):.2e}") for number in range(1, FINE // 2)]
    return (0.0, *half, 0.5, *(round(1 - low, 10) for low in reversed(half)), 1 + sys.float_info.epsilon)


def chosen_bins(
    signal: NDArray[np.float64],
    background: NDArray[np.float64],
    squares: NDArray[np.float64],
    least: float = LEAST_EVENTS,
    most: int = MOST_BINS,
) -> list[int]:
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
    fine = list(zip(signal.tolist(), background.tolist(), squares.tolist()))
    part_of_signal, part_of_background = float(signal.sum()) / most, float(background.sum()) / most
    found: list[tuple[int, float, float]] = []  # the beginning of each bin, its signal and its background
    s = b = w2 = 0.0
    for start in range(len(fine) - 1, -1, -1):
        more = fine[start]
        s, b, w2 = s + more[0], b + more[1], w2 + more[2]
        if b > 0 and b**2 >= least * w2 and (b >= part_of_background or 0 < part_of_signal <= s):
            found.append((start, s, b))
            s = b = w2 = 0.0
    if not found:
        return [0, len(fine)]
    _, last_s, last_b = found[-1]
    found[-1] = (0, last_s + s, last_b + b)
    pooled: list[tuple[int, float, float]] = []  # from the lowest scores up
    for start, s, b in reversed(found):
        pooled.append((start, s, b))
        while len(pooled) > 1 and _share(*pooled[-1]) <= _share(*pooled[-2]):
            (first, s1, b1), (_, s2, b2) = pooled[-2:]
            pooled[-2:] = [(first, s1 + s2, b1 + b2)]
    return [*(start for start, _, _ in pooled), len(fine)]


def with_background(
    starts: Sequence[int], signals: Sequence[NDArray[np.float64]], backgrounds: Sequence[NDArray[np.float64]]
) -> list[int]:
    """Fewer of some bins, so that none has signal and no background in a channel; those at high values are joined first.

    Parameters
    ----------
    starts
        Rising numbers of fine bins at which a bin begins; the first is 0.
    signals, backgrounds
        Expected events of each channel, float64 of shape (fine bins,). A channel without any background does not count.

    Returns
    -------
    The `starts` that are left; none if no channel has any background.
    """
    channels = [(s, b) for s, b in zip(signals, backgrounds) if b.sum() > 0]
    if not channels:
        return []

    def is_fine(start: int, end: int) -> bool:
        return all(b[start:end].sum() > 0 or s[start:end].sum() <= 0 for s, b in channels)

    found = [len(channels[0][0])]
    for start in reversed(starts):
        if is_fine(start, found[0]):
            found.insert(0, start)
    found[0] = 0  # what is left at the low end joins its neighbour, as many as it must
    while len(found) > 2 and not is_fine(0, found[1]):
        del found[1]
    return found[:-1]


def bins_of_channels(channels: Sequence[NDArray[np.float64]], least: float, most: int) -> list[int]:
    """Edges of bins, as of `chosen_bins`, by what is expected in all channels together; with background in each of them.

    Parameters
    ----------
    channels
        Sums of weights of signal and background, and of the squares of the background's, float64 of shape (3, fine bins), of each.
    """
    parts = [[each[number] for each in channels] for number in range(3)]
    signal, background, squares = (sum(of[1:], of[0]) for of in parts)
    *starts, last = chosen_bins(signal, background, squares, least, most)
    return [*(with_background(starts, *parts[:2]) or starts), last]


def _share(_: int, signal: float, background: float) -> float:
    """The share of signal in a bin; -infinity where nothing is expected."""
    total = signal + background
    return signal / total if total > 0 else float("-inf")
