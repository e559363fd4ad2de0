"""How different two distributions of weighted events are, and whether a cut on the score changes one ("sculpting")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc

from ML_processing.metrics.measured import Floats, Histogram, bin_of, effective_events

_FEWEST = 10  # effective events on either side of a cut: below, there is no shape
_COUNTED, _EFFECTIVE = 5.0, 10.0  # events that a bin needs, so that chi2 has its distribution


@dataclass(frozen=True)
class Kolmogorov:
    """Result of a Kolmogorov-Smirnov test: the largest distance, and how probable one as large is by chance."""

    distance: float | None
    probability: float | None


def kolmogorov(first: ArrayLike, weights: ArrayLike, other: ArrayLike, other_weights: ArrayLike) -> Kolmogorov:
    """Kolmogorov-Smirnov test of two samples with weights of either sign.

    The distance is that of the normalised cumulative weights. Its distribution is that of the unweighted test, with
    the effective numbers of events n = (sum of w)^2 / sum of w^2 in place of the numbers of events:

        probability = Q_KS(sqrt(n_1 n_2 / (n_1 + n_2)) distance),
        Q_KS(x) = 2 sum_j (-1)^(j - 1) exp(-2 j^2 x^2),

    as in J. F. Monahan, Numerical Methods of Statistics (2nd ed., Cambridge, 2011), section 12.4, and ROOT's
    TH1::KolmogorovTest. It holds for many events whose weights do not depend on the value. Values that are not finite
    are left out; a sample without a positive sum of weights has no distance.
    """
    a, w = _finite(first, weights)
    b, v = _finite(other, other_weights)
    if not (w.sum() > 0 and v.sum() > 0):
        return Kolmogorov(None, None)
    points = np.concatenate([a, b])
    distance = float(np.abs(_cumulative(a, w, points) - _cumulative(b, v, points)).max())
    n, m = effective_events(w), effective_events(v)
    return Kolmogorov(distance, kolmogorov_probability(np.sqrt(n * m / (n + m)) * distance))


def kolmogorov_probability(x: float) -> float:
    """Q_KS(x), the probability that Kolmogorov's statistic exceeds x."""
    if x < 0.2:
        return 1.0  # to 1e-12; the series no longer converges
    terms = np.arange(1, 101)
    return float(np.clip(2 * ((-1.0) ** (terms - 1) * np.exp(-2 * (terms * x) ** 2)).sum(), 0, 1))


def bonferroni(probabilities: list[float]) -> float | None:
    """Probability that the smallest of several tests is as small by chance, whatever their correlation."""
    return min(1.0, len(probabilities) * min(probabilities)) if probabilities else None


def jensen_shannon(first: ArrayLike, other: ArrayLike) -> float | None:
    """Jensen-Shannon divergence of two histograms in bits: 0 for the same shape, 1 for no overlap.

    J. Lin, IEEE Trans. Inf. Theory 37 (1991) 145. Bins with a negative sum count as empty; None if a histogram is empty.
    """
    p, q = (np.clip(np.asarray(sums, np.float64), 0, None) for sums in (first, other))
    if not (p.sum() > 0 and q.sum() > 0):
        return None
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def divergence(part: Floats) -> float:
        full = part > 0
        return float((part[full] * np.log2(part[full] / middle[full])).sum())

    return max(0.0, (divergence(p) + divergence(q)) / 2)


@dataclass(frozen=True)
class Sculpting:
    """How different the events that pass a cut are from those that fail it; None if too few pass or fail."""

    jensen_shannon: float | None = None  # divergence, in bits
    by_chance: float | None = None  # its mean for random cuts that keep as many events
    standard_deviations: float | None = None  # by how many it exceeds what chance gives

    @property
    def excess(self) -> float:
        """By how much it exceeds what chance gives."""
        return (self.jensen_shannon or 0.0) - (self.by_chance or 0.0)


def sculpting(
    values: ArrayLike, passed: ArrayLike, weight: ArrayLike, edges: Floats, seed: int, repeats: int = 20
) -> Sculpting:
    """Compare the shape of the events that pass a cut with that of the events that fail it, and with random cuts.

    Values (N,) beyond the edges count in the outermost bins, those that are not finite nowhere.
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
    if found is None or min(effective_events(w[p]), effective_events(w[~p])) < _FEWEST:
        return Sculpting()
    random, count = np.random.default_rng(seed), int(p.sum())
    drawn = [divergence(random.permutation(len(x))[:count]) for _ in range(repeats)]
    chance = [it for it in drawn if it is not None]
    if len(chance) < 2:
        return Sculpting(found)
    mean, spread = float(np.mean(chance)), float(np.std(chance, ddof=1))
    return Sculpting(found, mean, (found - mean) / spread if spread else None)


def _finite(values: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats]:
    x, w = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    known = np.isfinite(x)
    return x[known], w[known]


def _cumulative(values: Floats, weights: Floats, points: Floats) -> Floats:
    """Share of the weight up to and including each point."""
    order = np.argsort(values, kind="stable")
    sums = np.append(0.0, np.cumsum(weights[order])) / weights.sum()
    found: Floats = sums[np.searchsorted(values[order], points, "right")]
    return found


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
