"""What the values of a column tell of it: centre and width, and values that stand for "no value"."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_SHARE = 0.01  # of the values must be equal to a sentinel: a single outlier is an outlier
_ISOLATION = 5.0  # widths between a sentinel and the nearest other value
_CONTINUOUS = 100  # different values that the others must have: labels, counts and grids have fewer
_SPIKE = 20  # times as frequent as a usual value is a value that is asked about


def center_and_width(values: NDArray[np.floating]) -> tuple[float, float]:
    """Centre and width of finite values, shape (N,): the median, and half of the central 68 % interval.

    For a Gaussian these are mean and standard deviation, but they are insensitive to outliers. If the width is 0 (most
    values are the same), it is the standard deviation, and 1 for a constant; no values have the centre 0 and the width 1.
    """
    if not values.size:
        return 0.0, 1.0
    low, middle, high = np.quantile(values.astype(np.float64), (0.16, 0.5, 0.84))
    tiny = np.finfo(np.float32).tiny  # a smaller width would be 0 where subnormal numbers are
    widths = ((high - low) / 2, values.std(dtype=np.float64))
    return float(middle), next((float(width) for width in widths if width >= tiny), 1.0)


def sentinels(values: NDArray[np.float64]) -> tuple[float, float]:
    """The innermost sentinels at the lower and the upper end of finite values; infinities if there are none.

    The smallest or the largest value is a sentinel if at least 1 % of the values are exactly it, if no other
    value is nearer to it than 5 widths of the others, and if the others take at least 100 different values. So
    a spike at the edge of a spectrum is not one (it is not isolated), nor is a flag, a charge, a count, an
    identifier or a point of a grid of parameters (they take few values). There may be several, as in -99 and -999.
    """
    below, above = -math.inf, math.inf
    while values.size:
        edges = [edge for edge in (values.min(), values.max()) if (values == edge).mean() >= _SHARE]
        rest = values[~np.isin(values, edges)] if edges else values[:0]
        if not rest.size:
            break
        apart = _ISOLATION * center_and_width(rest)[1]
        low = [edge for edge in edges if rest.min() - edge > apart]
        high = [edge for edge in edges if edge - rest.max() > apart]
        if not (low or high) or len(np.unique(rest)) < _CONTINUOUS:
            break
        below, above = max([below, *low]), min([above, *high])
        values = values[(values > below) & (values < above)]
    return below, above


def spikes(values: NDArray[np.floating]) -> list[float]:
    """Values among finite ones that may stand for "no value", and only the user knows: at most three, the most frequent first.

    At least 1 % of the values are exactly it, it is 20 times as frequent as half of all values are, and the others take at least 100
    different values.
    """
    found, counts = np.unique(values, return_counts=True)
    if len(found) <= _CONTINUOUS:
        return []
    usual = np.median(np.repeat(counts, np.minimum(counts, _SPIKE)))
    least = max(_SHARE * len(values), _SPIKE * usual)
    order = np.argsort(-counts, kind="stable")[:3]
    return [float(found[i]) for i in order if counts[i] >= least]
