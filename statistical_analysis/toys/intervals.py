"""Limits and significances by pseudo-experiments, where asymptotic formulae are wrong, since few events are expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from MLTools.NanoML.terminal.progress import Bar
from statistical_analysis.asymptotic import BANDS, OutOfReachError, discovery_statistic
from statistical_analysis.likelihood import Floats, Likelihood
from statistical_analysis.maximum import Maximum, maximum
from statistical_analysis.results import Limit, Significance
from statistical_analysis.toys.batch import ManyMaxima, Maxima

COUNT = 5000
"""Pseudo-experiments of each hypothesis, at each strength of the signal."""
FEWEST = 10.0
"""With fewer expected background events, pseudo-experiments take the place of asymptotic formulae."""
_SEED = 1
_STEP = 1.25  # from one signal strength to the next
_NEAR = 5.0  # CLs used: up to so many times what it is at the limit, or so many times less
_MORE = 10  # times as many without a signal for a significance
_LEAST_ABOVE = 10  # of them beyond the data; otherwise there are too few
_RESAMPLED = 50  # times, for statistical errors
_TIE = 1e-3  # twice the logarithm; equal data differ by less


def background_events(likelihood: Likelihood, strength: float) -> float:
    r"""Expected background events where a signal of some strength is: the effective number with weights s / (s + b).

    It is :math:`(\sum_i w_i b_i)^2 / \sum_i w_i^2 b_i`: the events of a counting experiment whose result fluctuates as much as the
    best sum of weights of the bins. A bin without signal does not count, nor does the scale of the signal.
    """
    background, total = (likelihood.finest(likelihood.with_strength(it)) for it in (0.0, strength))
    weights = np.where(total > 0, (total - background) / np.where(total > 0, total, 1.0), 0.0)
    spread = float(np.sum(weights**2 * background))
    return float(np.sum(weights * background)) ** 2 / spread if spread > 0 else 0.0


def throw(likelihood: Likelihood, at: Floats, count: int, random: np.random.Generator) -> Floats:
    """Pseudo-experiments with true parameters: events, and auxiliary data, as if all uncertainties had been measured anew.

    Returns
    -------
    float64 of shape (count, bins + constraints), and as `likelihood.Likelihood.observed` if there are unbinned channels.
    """
    config = likelihood.model.config
    expected, bins = likelihood.expected(at)[: likelihood.counts], int(config.nmaindata)
    sets = [(likelihood.widths[config.par_slice(name)], config.param_set(name)) for name in config.auxdata_order]
    is_count = np.concatenate(
        [np.ones(bins, bool), *(np.full(len(it), each.pdf_type == "poisson") for it, each in sets)]
    )
    widths = np.concatenate([np.zeros(bins), *(it for it, _ in sets)])
    shape = (count, len(expected))
    normal = expected + np.where(is_count, 0.0, widths) * random.standard_normal(shape)
    found = np.where(is_count, random.poisson(np.where(is_count, expected, 0.0), shape), normal)
    if likelihood.distributions is None:
        return found
    return np.append(found, likelihood.distributions.thrown(likelihood.by_sample(at), at, found, random), axis=1)


@dataclass(frozen=True)
class _Point:
    """Test statistics at a signal strength: of toys with that signal, float64 of shape (toys,), without any, and of data."""

    strength: float
    with_signal: Floats
    without: Floats
    observed: float


class _Scan:
    """Throws and fits toys at signal strengths."""

    def __init__(self, many: ManyMaxima, data: Floats, best: Maximum, count: int, bar: Bar) -> None:
        likelihood = self._likelihood = many.likelihood
        self._many, self._data, self._best, self._count, self._bar = many, data, best, count, bar
        self._random = np.random.default_rng(_SEED)
        self._without = maximum(likelihood, data, {likelihood.poi: 0.0})
        self._toys = throw(likelihood, self._without.at, count, self._random)
        self._free = self._many(self._toys, self._without.at, lowest=0.0, bar=bar)

    def at(self, strength: float) -> _Point:
        """Nuisance parameters of the toys are those that fit the data best at the strength."""
        poi = self._likelihood.poi
        true = maximum(self._likelihood, self._data, {poi: strength})
        lowest = self._best.twice_nll if self._best.at[poi] > 0 else self._without.twice_nll
        observed = max(true.twice_nll - lowest, 0.0) if strength > self._best.at[poi] else 0.0
        toys = throw(self._likelihood, true.at, self._count, self._random)
        free = self._many(toys, true.at, lowest=0.0, bar=self._bar)
        with_signal, without = (
            q_tilde(self._many(each, true.at, {poi: strength}, bar=self._bar), it, strength, poi)
            for each, it in ((toys, free), (self._toys, self._free))
        )
        return _Point(strength, with_signal, without, observed)


def q_tilde(fixed: Maxima, free: Maxima, strength: float, poi: int) -> Floats:
    """The test statistic for limits on positive signals, of fits with a signal strength and of those with any that is positive."""
    return np.where(free.at[:, poi] < strength, np.maximum(fixed.twice_nll - free.twice_nll, 0.0), 0.0)


def limit(many: ManyMaxima, data: Floats, best: Maximum, asymptotic: Limit, count: int, bar: Bar) -> Limit:
    """The upper limit by CLs with pseudo-experiments, as LHC experiments agreed on (ATL-PHYS-PUB-2011-11, CMS NOTE-2011/005).

    Signal strengths go in steps up and down from the asymptotic limit, until CLs of all limits that are wanted is crossed. Between them
    the logarithm of the strength is a parabola of that of CLs. Statistical errors are found by drawing toys anew from the toys.
    """
    scan, alpha, likelihood = _Scan(many, data, best, count, bar), 1 - asymptotic.level, many.likelihood
    is_observed = asymptotic.observed is not None
    points = [scan.at(asymptotic.expected[2])]
    while min(_cls(points[0], is_observed)) < _NEAR * alpha and len(points) < 40:
        points.insert(0, scan.at(points[0].strength / _STEP))
    while max(_cls(points[-1], is_observed)) > alpha / _NEAR:
        highest = likelihood.bounds[likelihood.poi][1]
        if points[-1].strength * _STEP > highest:
            raise OutOfReachError(f"The limit on the signal strength is above {highest:.3g}.")
        points.append(scan.at(points[-1].strength * _STEP))
    random = np.random.default_rng(_SEED)
    found = _crossings(points, alpha, is_observed)
    errors = np.std([_crossings(_again(points, random), alpha, is_observed) for _ in range(_RESAMPLED)], axis=0)
    expected, observed = tuple(found[: len(BANDS)].tolist()), float(found[-1]) if is_observed else None
    return replace(
        asymptotic,
        expected=expected,
        observed=observed,
        expected_errors=tuple(errors[: len(BANDS)].tolist()),
        observed_error=float(errors[-1]) if is_observed else None,
    )


def _cls(point: _Point, is_observed: bool) -> list[float]:
    """CLs of the expected limits, and of the observed one."""
    wanted = [float(np.quantile(point.without, norm.cdf(-band), method="inverted_cdf")) for band in BANDS]
    if is_observed:
        wanted.append(point.observed)
    return [cls_of(point.with_signal, point.without, it) for it in wanted]


def cls_of(with_signal: Floats, without: Floats, found: float) -> float:
    """CLs of a test statistic that was found, by those of toys with a signal and without."""
    above, above_without = (float(np.mean(each >= found - _TIE)) for each in (with_signal, without))
    return above / max(above_without, 1 / len(without))


def _crossings(points: Sequence[_Point], alpha: float, is_observed: bool) -> Floats:
    strengths = np.log([each.strength for each in points])
    found, least = [], 0.5 / len(points[0].with_signal)
    for curve in np.array([_cls(each, is_observed) for each in points]).T:
        distance = np.log(np.maximum(curve, least) / alpha)
        near = np.abs(distance) < np.log(_NEAR)
        if len(set(distance[near])) > 3:
            # the relative error of a fraction falls with its root
            middle = np.polyfit(distance[near], strengths[near], 2, w=np.sqrt(curve[near]))[-1]
        else:
            order = np.argsort(distance)
            middle = np.interp(0.0, distance[order], strengths[order])
        found.append(np.exp(middle))
    return np.array(found)


def _again(points: Sequence[_Point], random: np.random.Generator) -> list[_Point]:
    """Toys drawn from the toys; those without a signal are the same at all strengths."""
    count = len(points[0].without)
    without = random.integers(0, count, count)
    return [
        replace(each, with_signal=each.with_signal[random.integers(0, count, count)], without=each.without[without])
        for each in points
    ]


def significance(
    many: ManyMaxima, data: Floats, best: Maximum, asymptotic: Significance, count: int, bar: Bar
) -> Significance:
    """The significance of discovery by pseudo-experiments without a signal; asymptotic where too few of them are like the data."""
    likelihood, poi, random = many.likelihood, many.likelihood.poi, np.random.default_rng(_SEED)
    without, signal = (maximum(likelihood, data, {poi: it}).at for it in (0.0, 1.0))

    def statistic(toys: Floats, start: Floats) -> Floats:
        fixed, free = many(toys, without, {poi: 0.0}, bar=bar), many(toys, start, lowest=0.0, bar=bar)
        return np.maximum(fixed.twice_nll - free.twice_nll, 0.0)

    background = np.sort(statistic(throw(likelihood, without, _MORE * count, random), without))
    signals = statistic(throw(likelihood, signal, count, random), signal)
    expected = _deviations(background, float(np.median(signals)))
    if expected is not None:
        spread = [
            _deviations(background, float(np.median(random.choice(signals, count)))) or expected
            for _ in range(_RESAMPLED)
        ]
        expected = (expected[0], float(np.hypot(expected[1], np.std([value for value, _ in spread]))))
        asymptotic = replace(asymptotic, expected=expected[0], expected_error=expected[1])
    if asymptotic.observed is not None:
        observed = _deviations(background, discovery_statistic(likelihood, data, best))
        if observed is not None:
            asymptotic = replace(asymptotic, observed=observed[0], observed_error=observed[1])
    return asymptotic


def _deviations(background: Floats, found: float) -> tuple[float, float] | None:
    """Standard deviations with their error, from sorted toys without a signal; None if too few are as large as what was found."""
    above = len(background) - int(np.searchsorted(background, found - _TIE))
    if above < _LEAST_ABOVE:
        return None
    share = above / len(background)
    value = max(float(norm.isf(share)), 0.0)
    return value, float(np.sqrt(share * (1 - share) / len(background)) / norm.pdf(value))
