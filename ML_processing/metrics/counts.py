"""Counted events, such as data, and how well weighted ones describe them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc

from ML_processing.metrics.measured import Floats, Histogram

_COUNTED, _EFFECTIVE = 5.0, 10.0  # events that a bin needs, so that chi2 has its distribution


@dataclass(frozen=True)
class ShapeTest:
    """A chi2 test of whether two histograms have the same shape; None if there are too few events."""

    chi2: float | None = None
    degrees_of_freedom: int = 0
    probability: float | None = None


def shape_test(counts: ArrayLike, expected: Histogram) -> ShapeTest:
    """Test whether counted events have the shape of weighted ones, whatever the normalisation of either.

    N. D. Gagunashvili, "Comparison of weighted and unweighted histograms" (physics/0605123), as ROOT's
    TH1::Chi2Test("UW"). With n_i counted events, N in all, and sums of weights w_i with errors s_i, W in all,

        chi2 = sum_i (n_i - N p_i)^2 / (N p_i) + sum_i (w_i - W p_i)^2 / s_i^2,
        p_i = (W w_i - N s_i^2 + sqrt((W w_i - N s_i^2)^2 + 4 W^2 s_i^2 n_i)) / (2 W^2),

    with one degree of freedom less than there are bins. Neighbouring bins are put together until 5 events are expected in each
    and it has 10 effective weighted events.
    """
    n, w, variance = _merged(np.asarray(counts, np.float64), expected.values, expected.errors**2)
    if len(n) < 2:
        return ShapeTest()
    counted, total = n.sum(), w.sum()
    known = total * w - counted * variance
    p = (known + np.sqrt(known**2 + 4 * total**2 * variance * n)) / (2 * total**2)
    mean = counted * p  # 0 only where nothing was counted: then the first term is 0 as well
    chi2 = np.divide((n - mean) ** 2, mean, out=np.zeros_like(n), where=mean > 0) + (w - total * p) ** 2 / variance
    value = float(chi2.sum())
    return ShapeTest(value, len(n) - 1, float(chdtrc(len(n) - 1, value)))


def _merged(n: Floats, w: Floats, variance: Floats) -> tuple[Floats, Floats, Floats]:
    """Neighbouring bins together until each has enough events; what is left over at the end belongs to the last."""
    counted, total = n.sum(), w.sum()
    groups: list[Floats] = []
    if not (counted > 0 and total > 0):
        return n[:0], w[:0], variance[:0]
    sofar = np.zeros(3)
    for one in np.stack([n, w, variance], axis=1):
        sofar = sofar + one
        enough = sofar[1] > 0 and sofar[1] ** 2 >= _EFFECTIVE * sofar[2] > 0
        if enough and counted * sofar[1] / total >= _COUNTED:
            groups.append(sofar)
            sofar = np.zeros(3)
    if groups:
        groups[-1] = groups[-1] + sofar
    while len(groups) > 1 and not groups[-1][1] > 0:
        last = groups.pop()
        groups[-1] = groups[-1] + last
    merged = np.array(groups).reshape(-1, 3)
    return merged[:, 0], merged[:, 1], merged[:, 2]
