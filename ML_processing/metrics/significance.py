"""Expected significance: of a cut on the score, and of a fit to it in bins with errors of simulation and correlated variations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ML_processing.metrics.measured import Floats, Measured
from MLTools.NanoML.contracts.bins import FINE, chosen_bins, fine_edges

FEWEST = 5.0  # effective background events behind a cut: below, its expectation is a guess
_STEPS = 100  # of Newton's method, which takes about ten
_PRECISION = 1e-10  # of twice the logarithm of the likelihood, at its minimum


def asimov(signal: ArrayLike, background: ArrayLike, uncertainty: ArrayLike = 0.0) -> Floats:
    """Expected median significance of a discovery in a counting experiment.

    Without uncertainty, sqrt(2 ((s + b) ln(1 + s / b) - s)): G. Cowan, K. Cranmer, E. Gross, O. Vitells,
    Eur. Phys. J. C 71 (2011) 1554 (arXiv:1007.1727), equation 97. With an uncertainty sigma of the background:

        sqrt(2 ((s + b) ln[1 + s b / (b^2 + (s + b) sigma^2)]
                - b^2 / sigma^2 ln[1 + sigma^2 s / (b (b + sigma^2))])),

    G. Cowan, "Discovery sensitivity for a counting experiment with background uncertainty" (2012), equation 20.

    It is 0 without signal, and NaN without background.
    """
    s, b, sigma = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (signal, background, uncertainty)))
    s, v = np.clip(s, 0, None), sigma**2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        plain = (s + b) * np.log1p(s / b) - s
        first = (s + b) * np.log1p(s * b / (b**2 + (s + b) * v))
        second = b**2 / v * np.log1p(v * s / (b * (b + v)))
        # the second is not defined without uncertainty
        half = np.where(v > 1e-8 * np.maximum(b, 0), first - second, plain)
        return np.where(b > 0, np.sqrt(2 * np.clip(half, 0, None)), np.nan)


@dataclass(frozen=True)
class CutScan:
    """Expected significance against the cut "score at least this"."""

    cuts: Floats  # thresholds, rising, (cuts,) as all
    signal: Floats  # sum of weights that passes
    background: Floats
    plain: Floats  # Asimov significance for an exactly known background
    plain_error: Floats  # its statistical error
    significance: Floats  # with the statistical error of the expected background as its uncertainty
    usable: NDArray[np.bool_]  # at least 5 effective background events pass

    @property
    def best(self) -> int | None:
        """Index of the usable cut with the largest `significance`; None if there is none."""
        return int(np.argmax(np.where(self.usable, self.significance, -1))) if self.usable.any() else None


def scan_cuts(
    score: ArrayLike, is_signal: ArrayLike, weight: ArrayLike, points: int = 100, at: float | None = None
) -> CutScan | None:
    """Significance against the cut on arrays of shape (N,); None if signal or background has no positive sum of weights.

    The weights are physical, of either sign. Half of the cuts, `points`, are evenly spaced, the others follow the signal;
    or there is but one cut, `at`.
    """
    s, y, w = np.asarray(score, np.float64), np.asarray(is_signal, np.bool_), np.asarray(weight, np.float64)
    if not (w[y].sum() > 0 and w[~y].sum() > 0):
        return None
    even, dense = np.linspace(0, 1, points, endpoint=False), np.quantile(s[y], np.linspace(0, 0.995, points))
    cuts = np.unique(np.concatenate([even, dense])) if at is None else np.array([at])
    signal, signal_squares = _passing(s[y], w[y], cuts)
    background, squares = _passing(s[~y], w[~y], cuts)
    plain, errors = asimov(signal, background), np.sqrt(squares)
    significance = asimov(signal, background, errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_signal = np.log1p(signal / background) / plain
        by_background = (np.log1p(signal / background) - signal / background) / plain
        plain_error = np.sqrt(by_signal**2 * signal_squares + by_background**2 * squares)
        usable = (background > 0) & (background**2 / squares >= FEWEST) & np.isfinite(significance)
    return CutScan(cuts, signal, background, plain, plain_error, significance, usable)


def _passing(score: Floats, weight: Floats, cuts: Floats) -> tuple[Floats, Floats]:
    """Sums of weights and of their squares at or above each cut."""
    order = np.argsort(score, kind="stable")
    first = np.searchsorted(score[order], cuts, "left")
    sums = (np.append(np.cumsum(part[::-1])[::-1], 0.0) for part in (weight[order], weight[order] ** 2))
    passing, squares = (part[first] for part in sums)
    return passing, np.clip(squares, 0, None)


def discovery(
    signal: ArrayLike, background: ArrayLike, errors: ArrayLike = 0.0, shifts: ArrayLike = ()
) -> tuple[float, Floats]:
    """Expected significance of a discovery by a fit to independent bins.

    The data are exactly what is expected with the signal. The test statistic is that of section 3.2 of G. Cowan, K. Cranmer, E. Gross
    and O. Vitells (arXiv:1007.1727): twice the logarithm of the ratio of likelihoods with and without the signal. Without it the
    background of bin i is b_i + e_i x_i + sum over j of d_ji y_j, with a parameter x_i for each bin (Barlow and Beeston's "light") and a
    parameter y_j for each source of uncertainty, all of them constrained by standard Gaussians.

    Parameters
    ----------
    signal, background, errors
        Expected events and the statistical errors of the background's expectation, of shape (bins,). Bins without any background do not
        count, nor does less than no signal.
    shifts
        How many more background events each source gives at one standard deviation, of shape (sources, bins).

    Returns
    -------
    significance
        In standard deviations; NaN if no bin has background.
    fitted
        Background events that fit the data best without the signal, float64 of shape (bins,).
    """
    s, b, e = np.broadcast_arrays(*(np.asarray(it, np.float64) for it in (signal, background, errors)))
    use = b > 0
    if not use.any():
        return np.nan, np.array(b)
    s, b, e = np.clip(s[use], 0, None), b[use], e[use]
    d = np.reshape(np.asarray(shifts, np.float64), (-1, use.size))[:, use]
    n = s + b
    y: Floats = np.zeros(len(d))

    def profiled(y: Floats) -> tuple[float, Floats]:
        """The test statistic and the background, with the parameters of bins at their best."""
        centre = b + y @ d - e**2
        # the root of fitted^2 - centre fitted - n e^2 = 0, without a difference of large numbers
        root = np.sqrt(centre**2 + 4 * n * e**2)
        at = np.where(centre > 0, (centre + root) / 2, 2 * n * e**2 / np.where(root > centre, root - centre, 1.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            pull = np.where(e > 0, 1 - n / at, 0.0)  # times -e: the parameter of the bin
            # tiny for a small signal: n ln(n / at) and n - at would lose all digits of their difference
            over = (n - at) / at
            found = 2 * (n * np.log1p(over) - at * over).sum() + ((pull * e) ** 2).sum() + y @ y
        return (float(found) if (at > 0).all() else np.inf), at

    value, at = profiled(y)
    for _ in range(_STEPS if len(d) else 0):
        # derivatives by the background alone, as the parameters of bins follow it
        slope, curvature = 2 * (1 - n / at), 2 / (at**2 / n + e**2)
        gradient, hessian = d @ slope + 2 * y, (d * curvature) @ d.T + 2 * np.eye(len(d))
        step = np.linalg.solve(hessian, gradient)
        size, change = 1.0, np.inf
        while size > 1e-6:
            new, where = profiled(y - size * step)
            if new <= value:
                change, value, y, at = value - new, new, y - size * step, where
                break
            size /= 2
        if not change > _PRECISION:
            break
    fitted = np.zeros(use.size)
    fitted[use] = at
    return float(np.sqrt(max(value, 0.0))), fitted


@dataclass(frozen=True)
class ExpectedEvents:
    """How many events of each class are expected, float64 of shape (classes,), and how many folds of them fill the templates of a fit."""

    events: Floats
    folds: int


@dataclass(frozen=True)
class BinnedScore:
    """Expected events in bins of a score.

    Attributes
    ----------
    starts
        Numbers of the fine bins at which a bin begins, and at the end their number.
    signal, background, signal_errors, background_errors
        Expected events and their statistical errors, float64 of shape (bins,).
    folds
        For one that is measured here, how many folds fill the templates of a fit, whose errors are so much smaller.
    """

    starts: list[int]
    signal: Floats
    background: Floats
    signal_errors: Floats
    background_errors: Floats
    folds: int = 1

    @classmethod
    def of(cls, sums: Floats, starts: Sequence[int], folds: int = 1) -> BinnedScore:
        """From the sums in fine bins, as of `fine_sums`."""
        signal, background, of_signal, of_background = np.add.reduceat(sums, starts[:-1], axis=1)
        return cls(list(starts), signal, background, np.sqrt(of_signal), np.sqrt(of_background), folds)

    @property
    def edges(self) -> Floats:
        """Edges of the bins, between 0 and 1."""
        return np.clip(np.array(fine_edges())[self.starts], 0, 1)

    def significance(self, shifts: ArrayLike = ()) -> Measured:
        """As of `discovery`, and its statistical error; None for both if it is not defined."""
        value, by_signal, by_background = self._fit(shifts)
        terms = (by_signal * self.signal_errors) ** 2 + (by_background * self.background_errors) ** 2
        return Measured.of(value, float(np.sqrt(terms.sum())))

    def influence(self, score: ArrayLike, is_signal: ArrayLike) -> Floats:
        """By how much the significance changes for each expected event at the scores of some events, (N,)."""
        _, by_signal, by_background = self._fit(())
        place = np.searchsorted(self.starts[1:-1], fine_bins(score), "right")
        return np.where(is_signal, by_signal[place], by_background[place])

    def _fit(self, shifts: ArrayLike) -> tuple[float, Floats, Floats]:
        """The significance, and its derivatives by signal and by background in each bin."""
        errors = self.background_errors / np.sqrt(self.folds)
        value, fitted = discovery(self.signal, self.background, errors, shifts)
        expected = np.clip(self.signal, 0, None) + self.background
        ratio = np.divide(expected, fitted, out=np.ones_like(fitted), where=fitted > 0)
        scale = value if value > 0 else np.inf
        return value, np.log(ratio) / scale, (np.log(ratio) + 1 - ratio) / scale


def standing_for(labels: NDArray[np.int64], weights: ArrayLike, totals: ArrayLike) -> Floats | None:
    """Weights of some events, (N,), scaled so that each class has the sum of weights of all its events, `totals` (classes,).

    None if the weights of a class do not sum to something positive.
    """
    w, wanted = np.asarray(weights, np.float64), np.asarray(totals, np.float64)
    here = np.bincount(labels, w, len(wanted))
    scale = np.divide(wanted, here, out=np.zeros_like(here), where=here != 0)
    return None if ((scale <= 0) & (wanted != 0)).any() else w * scale[labels]


def fine_bins(score: ArrayLike) -> NDArray[np.int64]:
    """The fine bin of each score between 0 and 1."""
    return np.clip(np.searchsorted(fine_edges(), np.asarray(score, np.float64), "right") - 1, 0, FINE - 1)


def fine_sums(score: ArrayLike, is_signal: ArrayLike, weights: ArrayLike) -> Floats:
    """Sums of weights of signal and of background, and of their squares, in fine bins of the score: float64 of shape (4, fine bins)."""
    place, y, w = fine_bins(score), np.asarray(is_signal, np.bool_), np.asarray(weights, np.float64)
    parts = [(place[mine], w[mine] ** power) for power in (1, 2) for mine in (y, ~y)]
    return np.array([np.bincount(where, values, FINE) for where, values in parts])


def by_own_bins(sums: Floats) -> BinnedScore:
    """The bins that `histogram` would choose for one channel, by the same events."""
    return BinnedScore.of(sums, chosen_bins(sums[0], sums[1], sums[3]))


def by_bins_of_others(sums: Floats, others: Floats, folds: int) -> BinnedScore:
    """The bins that other events choose: neighbours are joined where these here have fewer than 5 effective background events."""
    starts = chosen_bins(others[0], others[1], others[3])
    here = np.add.reduceat(sums, starts[:-1], axis=1)
    joined = chosen_bins(here[0], here[1], here[3], FEWEST, FINE)
    return BinnedScore.of(sums, [starts[number] for number in joined], folds)
