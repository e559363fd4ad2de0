"""Expected events in bins, how well a fit measures the strengths of signals in them, and bins of a score that are chosen by both.

The arrays are NumPy's or tensors of PyTorch. The data of such a fit are what is expected with a signal of strength one (Asimov
data), so the likelihood is largest where all parameters have their values before the fit. There its second derivatives follow from
the first derivatives of the expected events alone:

    I_jk = sum over bins of d_j d_k / (n + v) + 1 for a nuisance parameter with itself.

n are the expected events, d_j their derivatives by parameter j, and v the variance of the simulated background. The parameters of the
statistical errors (Barlow-Beeston light, with a Gaussian constraint) are at their best for all values of the others: that is the v.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


STRENGTH = "mu"
"""The strength of the signal, if there is one alone."""
# of the polynomial that interpolates a factor between -1 and 1 sigma (code 4 of HistFactory): its slope at 0 has 1, ln and ln^2 of it
_SLOPE = (15 / 16, -7 / 16, 1 / 16)
LEAST_LEFT = 0.01
"""The share of each bin of a process that is taken in a variation that leaves less than nothing."""
FINE = 1000
"""Number of fine bins between 0 and 1 from which the bins are chosen."""
_FARTHEST = 16.0  # log-odds of the last edge: float32 tells no more steps from 1
LEAST_EVENTS, MOST_BINS = 11.0, 15  # up to 10.5, Combine and the fit call them few: they round, and want more than 10
"""The request to `chosen_bins` unless an analysis says otherwise."""


@dataclass(frozen=True)
class Sides:
    """A number, or expected events (..., bins), at +1 and at -1 sigma of a nuisance parameter."""

    up: Any
    down: Any


@dataclass(frozen=True)
class Counts:
    """The expected events of a process in the bins of a channel, and what changes them.

    Attributes
    ----------
    strength
        The strength of the signal that it is; None for a background.
    nominal, variances
        Events, and the squares of their statistical errors, which do not count for the signal; of shape (bins,).
    shapes, factors
        Events under variations, and log-normal uncertainties of the yield (numbers `up` and `down`), by nuisance parameter.
    free
        The parameter by which the fit normalises the process, if it does.
    """

    strength: Optional[str]
    nominal: Any
    variances: Any
    shapes: Mapping[str, Sides]
    factors: Mapping[str, Any]
    free: Optional[str]


def positive(values: Any) -> tuple[Any, float]:
    """Contents with negative bins set to zero and the others scaled to the same positive sum, and by how much."""
    found = (values + abs(values)) / 2
    scale = values.sum() / found.sum() if (values < 0).any() else 1.0
    return scale * found, scale


def split(nominal: Any, up: Any, down: Any) -> tuple[Any, Any, Any, Any]:
    """A variation (..., bins) as Combine splits it: the factors of the yield up and down, (..., 1), and the shapes at the same yield."""
    more, less = (each.sum(-1)[..., None] / nominal.sum() for each in (up, down))
    return more, less, up / more, down / less


def _factor_slope(up: Any, down: Any, log: Callable[[Any], Any]) -> Any:
    """The derivative of a factor by its nuisance parameter, at 0."""
    return sum(part * (up * log(up) ** power - down * log(down) ** power) for power, part in enumerate(_SLOPE))


def _slopes(sample: Counts, xp: Any) -> tuple[list[str], Any]:
    """The derivatives of the events of a process by its parameters, (parameters, bins), and the names of these."""
    nominal = sample.nominal
    names = [it for it in (sample.strength, sample.free) if it is not None]
    rows = [
        *(nominal for _ in names),
        *(nominal * _factor_slope(it.up, it.down, math.log) for it in sample.factors.values()),
    ]
    parts = [xp.stack(rows)] if rows else []
    if sample.shapes:
        up, down = (xp.stack([getattr(it, side) for it in sample.shapes.values()]) for side in ("up", "down"))
        more, less, higher, lower = split(nominal, up, down)
        parts.append(nominal * _factor_slope(more, less, xp.log) + (higher - lower) / 2)
    return [*names, *sample.factors, *sample.shapes], xp.concatenate(parts) if parts else None


def information(channels: Iterable[Sequence[Counts]], xp: Any) -> tuple[list[str], Any]:
    """Names of the parameters, strengths of signals first, and their Fisher information: half the second derivatives of -2 ln L.

    It is that of all parameters but those of statistical errors, of shape (parameters, parameters); its inverse is their covariance.

    Parameters
    ----------
    channels
        The processes of each channel. A bin in which nothing is expected does not count.
    xp
        The module of the arrays: numpy or torch.
    """
    every = [[(sample, *_slopes(sample, xp)) for sample in samples] for samples in channels]
    found = [it for samples in every for it in samples]
    strengths = [sample.strength for sample, *_ in found if sample.strength is not None] or [STRENGTH]
    names = list(dict.fromkeys([*strengths, *(name for _, mine, _ in found for name in mine)]))
    free = {*strengths, *(sample.free for sample, *_ in found)}
    unit = xp.eye(len(names), dtype=found[0][0].nominal.dtype)
    total = unit * xp.asarray([0.0 if name in free else 1.0 for name in names], dtype=unit.dtype)
    for samples in every:
        spread: Any = 0.0
        slopes: Any = 0.0
        for sample, mine, rows in samples:
            spread = spread + sample.nominal + (sample.variances if sample.strength is None else 0.0)
            if rows is not None:
                slopes = slopes + unit[[names.index(name) for name in mine]].T @ rows
        if samples:
            known = xp.where(spread > 0, spread, xp.ones_like(spread))
            total = total + (slopes * (spread > 0) / known) @ slopes.T
    return names, total


def strength_error(channels: Iterable[Sequence[Counts]], xp: Any) -> Any:
    """The expected uncertainty of the signal strength; of several the geometric mean, each with the others free. All are one."""
    channels = [*channels]
    count = len({it.strength for samples in channels for it in samples} - {None}) or 1
    return xp.diagonal(xp.linalg.inv(information(channels, xp)[1]))[:count].prod() ** (0.5 / count)


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
    channels: Iterable[tuple[NDArray[np.float64], NDArray[np.float64], float]] = (),
) -> list[int]:
    """Edges of bins, by what is expected in fine bins of a score that rises with the share of signal.

    From the highest scores down, a bin ends as soon as its background has enough effective events, and it has its part of all
    signal or of all background; what is left at the end joins the last ones, until there are enough. Then neighbours in which the share
    of signal does not rise with the score are one bin, until it rises everywhere (pool adjacent violators).

    Parameters
    ----------
    signal, background, squares
        Sums of weights of signal and background, and of the squares of the background's, float64 of shape (fine bins,).
    least
        Least effective number of background events in a bin, (sum of weights)^2 / sum of squares.
    most
        How many bins signal or background are divided into at most.
    channels
        Sums of weights of the background, of their squares, and the least number, of each channel that must have enough in each bin, too.

    Returns
    -------
    Rising numbers of fine bins at which a bin begins; the first is 0, the last the number of fine bins.
    """
    part_of_signal, part_of_background = float(signal.sum()) / most, float(background.sum()) / most
    every = [(background, squares, least), *channels]

    def sums(start: int, end: int, *of: NDArray[np.float64]) -> tuple[float, ...]:
        return tuple(float(each[start:end].sum()) for each in of)

    def is_enough(start: int, end: int) -> bool:
        found = ((*sums(start, end, b, w2), n) for b, w2, n in every)
        return all(b > 0 and b**2 >= n * w2 for b, w2, n in found)

    def share(start: int, end: int) -> float:
        s, b = sums(start, end, signal, background)
        return s / (s + b) if s + b > 0 else -math.inf

    found = [len(signal)]
    for start in range(len(signal) - 1, -1, -1):
        s, b = sums(start, found[0], signal, background)
        if (b >= part_of_background or 0 < part_of_signal <= s) and is_enough(start, found[0]):
            found.insert(0, start)
    found[:-1] = [0, *found[1:-1]]  # what is left at the low end joins its neighbour, as many as it must
    while len(found) > 2 and not is_enough(0, found[1]):
        del found[1]
    pooled: list[int] = []
    for start, end in zip(found, found[1:]):
        pooled.append(start)
        while len(pooled) > 1 and share(pooled[-1], end) <= share(pooled[-2], pooled[-1]):
            del pooled[-1]
    return [*pooled, len(signal)]


def with_background(
    starts: Sequence[int], signals: Sequence[NDArray[np.float64]], backgrounds: Sequence[NDArray[np.float64]]
) -> list[int]:
    """Fewer of some bins, so that none has signal and no background in a channel; those at high values are joined first.

    Of the rising numbers of fine bins at which a bin begins, the first of which is 0, it returns those that are left; none if no channel
    has any background. Expected events are float64 of shape (fine bins,); a channel without any background does not count.
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


def bins_of_channels(
    channels: Sequence[NDArray[np.float64]], least: float, most: int, least_in_each: float = 0.0
) -> list[int]:
    """Edges of bins, as of `chosen_bins`, by what is expected in all channels together; with background in each of them.

    Parameters
    ----------
    channels
        Sums of weights of signal and background, and of the squares of the background's, float64 of shape (3, fine bins), of each.
    least, most, least_in_each
        Least effective number of background events in a bin of all channels together, most bins, and the least number in each channel
        that has any background; 0 for none.
    """
    parts = [[each[number] for each in channels] for number in range(3)]
    signal, background, squares = (sum(of[1:], of[0]) for of in parts)
    counted = [(b, w2, least_in_each) for _, b, w2 in channels if least_in_each > 0 and w2.any()]
    *starts, last = chosen_bins(signal, background, squares, least, most, counted)
    return [*(with_background(starts, *parts[:2]) or starts), last]
