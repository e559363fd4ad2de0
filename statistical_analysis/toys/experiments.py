"""Pseudo-experiments: limits and significances where asymptotic formulae are wrong, since few events are expected; and checks of a fit.

The checks are bias, pulls, and how often the limit covers a signal that is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

import numpy as np
from scipy.stats import norm

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.terminal.progress import Bar, progress
from statistical_analysis.asymptotic import BANDS, OutOfReachError, cls, discovery_statistic
from statistical_analysis.likelihood import Floats, Likelihood
from statistical_analysis.maximum import Maximum, maximum
from statistical_analysis.results import CREATOR, LEVEL, STATISTICAL, Limit, Significance
from statistical_analysis.toys.batch import ManyMaxima, Maxima
from statistical_analysis.unbinned import Points

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


@dataclass(frozen=True)
class Pulls:
    """Mean and width of (fitted - true) / error of a parameter in pseudo-experiments."""

    parameter: str
    kind: str
    mean: float
    width: float


@dataclass(frozen=True)
class Experiments:
    """The results of fits to pseudo-experiments whose truth is known.

    Attributes
    ----------
    strength
        The true signal strength. All other parameters are as they are expected to be before the fit.
    fitted, errors
        Best fit and its error in each pseudo-experiment; the error is None where the likelihood has no curvature, as without any event.
    roots
        The pull of the signal strength by the likelihood ratio: the root of the test statistic of the true strength, with the sign of
        (fitted - true). It is normally distributed with far fewer events than (fitted - true) / error, since errors grow with the fitted
        strength where there are few.
    pulls
        Those by the error, of all parameters; the first is the signal strength.
    covered
        In how many of them the upper limit is above the true signal strength.
    is_by_toys
        Whether limits are from toys, since few events are expected, or asymptotic.
    """

    creator: str
    strength: float
    seed: int
    fitted: tuple[float, ...]
    errors: tuple[Optional[float], ...]
    roots: tuple[float, ...]
    pulls: tuple[Pulls, ...]
    covered: int
    is_by_toys: bool

    @property
    def count(self) -> int:
        """How many pseudo-experiments there are."""
        return len(self.fitted)

    def write(self, path: Path) -> None:
        """Write a JSON file."""
        write_json(path, plain(self))

    def lines(self) -> list[str]:
        """The results in words."""
        spread, (poi, *others) = np.std(self.fitted), self.pulls
        error = self.count**-0.5
        constrained = [it for it in others if it.kind != STATISTICAL]
        share = self.covered / self.count
        both = (("likelihood ratio", np.mean(self.roots), np.std(self.roots)), ("error", poi.mean, poi.width))
        found = [
            f"{self.count} pseudo-experiments with a signal strength of {self.strength:g}:",
            f"best fit {np.mean(self.fitted):.3g} ± {spread * error:.2g}",
            *(
                f"pulls by the {what} {mean:+.2f} ± {error:.2f} on average, {width:.2f} ± {error / 2**0.5:.2f} wide"
                for what, mean, width in both
            ),
            f"{LEVEL:.0%} limits{' by toys' if self.is_by_toys else ''} cover in {share:.1%} "
            f"(± {(share * (1 - share)) ** 0.5 * error:.1%})".replace("%", " %"),
        ]
        if constrained:
            worst = max(constrained, key=lambda it: max(abs(it.mean), abs(it.width - 1)))
            found.append(
                f"the other parameter furthest off is {worst.parameter}: {worst.mean:+.2f}, {worst.width:.2f} wide"
            )
        lost = sum(it is None for it in self.errors)
        return [*found, f"{lost} have no error, and no pull"] if lost else found


def experiment(
    workspace: Mapping[str, object], strength: float, count: int, seed: int, points: Points | None = None
) -> Experiments:
    """Throw and fit pseudo-experiments of a model; its data are not used.

    Parameters
    ----------
    workspace
        A workspace of pyhf, with the signal strength as parameter of interest.
    strength
        The true signal strength.
    points
        As of `likelihood.Likelihood`.
    """
    likelihood = Likelihood(workspace, points=points)
    truth, random, poi = likelihood.with_strength(strength), np.random.default_rng(seed), likelihood.poi
    low, high = likelihood.bounds[likelihood.poi]
    if not (low <= strength <= high and likelihood.is_possible(truth)):
        raise NanoMLError(
            f"A signal strength of {strength:g} is not possible: it is out of its range, or bins would have less than no events."
        )
    toys = throw(likelihood, truth, count, random)
    with progress("toys", None, "fits") as bar:
        many = ManyMaxima(likelihood)
        free = many(toys, truth, bar=bar)
        fixed = many(toys, truth, {poi: strength}, bar=bar)
        found = q_tilde(fixed, many(toys, truth, lowest=0.0, bar=bar), strength, poi)
        is_by_toys = background_events(likelihood, strength or 1.0) < FEWEST
        levels = _by_toys(many, found, strength, bar) if is_by_toys else _asymptotic(many, found, toys, strength, bar)
    errors = np.array([_errors(likelihood, *each) for each in zip(toys, free.at, strict=True)])
    distances = (free.at - truth) / errors
    roots = np.copysign(np.sqrt(np.maximum(fixed.twice_nll - free.twice_nll, 0.0)), free.at[:, poi] - strength)
    chosen = [poi, *(int(it) for it in np.flatnonzero(~likelihood.is_fixed) if it != poi)]
    columns = ((likelihood.names[it], likelihood.kinds[it], distances[:, it]) for it in chosen)
    pulls = tuple(Pulls(name, kind, float(np.nanmean(x)), float(np.nanstd(x))) for name, kind, x in columns)
    return Experiments(
        CREATOR,
        strength,
        seed,
        tuple(free.at[:, poi].tolist()),
        tuple(float(it) if np.isfinite(it) else None for it in errors[:, poi]),
        tuple(roots.tolist()),
        pulls,
        int(np.sum(levels >= 1 - LEVEL)),
        is_by_toys,
    )


def _errors(likelihood: Likelihood, data: Floats, at: Floats) -> Floats:
    """Errors of all parameters; not a number where there are none."""
    try:
        errors: Floats = np.sqrt(np.diag(likelihood.covariance(data, at)))
    except NanoMLError:
        return np.full(len(at), np.nan)
    return np.where(errors > 0, errors, np.nan)


def _asymptotic(many: ManyMaxima, found: Floats, toys: Floats, strength: float, bar: Bar) -> Floats:
    """CLs of the true strength in each pseudo-experiment, from its test statistic, by asymptotic formulae."""
    likelihood, poi, truth = many.likelihood, many.likelihood.poi, many.likelihood.with_strength(strength)
    without = likelihood.with_strength(0.0)[None]
    if likelihood.distributions is None:  # else a data set of each would have all events of the reference
        without = many(toys, truth, {poi: 0.0}, bar=bar).at
    asimov = np.array([likelihood.expected(at) for at in without])
    at_zero, at_truth = (many(asimov, truth, {poi: it}, bar=bar).twice_nll for it in (0.0, strength))
    return cls(found, np.sqrt(np.maximum(at_truth - at_zero, 0)))


def _by_toys(many: ManyMaxima, found: Floats, strength: float, bar: Bar) -> Floats:
    """The same by more pseudo-experiments, all with the true parameters."""
    likelihood, poi, random = many.likelihood, many.likelihood.poi, np.random.default_rng(COUNT)
    truth = likelihood.with_strength(strength)
    with_signal, without = (
        q_tilde(many(each, truth, {poi: strength}, bar=bar), many(each, truth, lowest=0.0, bar=bar), strength, poi)
        for each in (throw(likelihood, at, COUNT, random) for at in (truth, likelihood.with_strength(0.0)))
    )
    return np.array([cls_of(with_signal, without, it) for it in found])
