"""Limits, significances and contours by the asymptotic formulae of G. Cowan, K. Cranmer, E. Gross and O. Vitells (arXiv:1007.1727)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm

from MLTools.NanoML.errors import NanoMLError
from statistical_analysis.likelihood import Floats, Likelihood
from statistical_analysis.maximum import AGREE, Maximum, maximum
from statistical_analysis.results import LEVEL, Contour, Limit, Significance

BANDS = (-2, -1, 0, 1, 2)
"""Standard deviations of the expected limits."""
CONTOURS = (0.68, 0.95)
"""The confidence levels of regions of two signal strengths."""
_RAYS, _HALVINGS, _MOST_STEPS = 24, 4, 40  # from the best fit, between them at ends of ranges, and along each
_SECOND_LOOKS = 4  # at a limit, until a second fit finds nothing else


class OutOfReachError(NanoMLError):
    """A limit is above the highest signal strength that a fit can find."""


class _Profile:
    """Twice the negative logarithm of the likelihood at fixed signal strengths: that of `likelihood.poi`, or others by their positions.

    Each fit starts where the last one ended, where second fits found something else and, if one strength is fixed, where the first one did:
    a maximum may be one in a short range only.
    """

    def __init__(self, likelihood: Likelihood, data: Floats, start: Floats, places: Sequence[int] = ()) -> None:
        self._likelihood, self._data, self._last = likelihood, data, start
        self._places, self._start = places or (likelihood.poi,), start
        self._others = [] if places else [start]
        self._known: dict[tuple[float, ...], float] = {}

    def __call__(self, *strength: float) -> float:
        if strength not in self._known:
            fixed = dict(zip(self._places, strength, strict=True))
            starts = [self._last, *self._others]
            found = min(
                (maximum(self._likelihood, self._data, fixed, it) for it in starts), key=lambda it: it.twice_nll
            )
            self._last, self._known[strength] = found.at, found.twice_nll
        return self._known[strength]

    def holds(self, *strength: float) -> bool:
        """Whether a second fit at these strengths finds no larger likelihood; if it finds one, later fits start there as well."""
        fixed = dict(zip(self._places, strength, strict=True))
        found = maximum(self._likelihood, self._data, fixed, self._start, twice=True)
        if found.twice_nll > self(*strength) - AGREE:
            return True
        self._others, self._known = [*self._others, found.at], {}
        return False


def cls(q: Any, expected: Any) -> Any:
    """CLs of a test statistic, whose root is expected without a signal: equations 65 and 66 there."""
    shift = np.where(q <= expected**2, np.sqrt(q) - expected, (q - expected**2) / np.maximum(2 * expected, 1e-9))
    return np.exp(norm.logsf(shift + expected) - norm.logsf(shift))  # both may be too small for a quotient


def limit(likelihood: Likelihood, data: Floats, best: Maximum, is_observed: bool) -> Limit:
    """The upper limit by CLs with the test statistic for limits on positive signals, q tilde (section 3.4 there).

    It raises OutOfReachError if a part of it is above all signal strengths that are possible.
    """
    poi = likelihood.poi
    without = maximum(likelihood, data, {poi: 0.0}, twice=True)
    asimov = likelihood.expected(without.at)
    of_asimov = _Profile(likelihood, asimov, without.at)
    at_zero = maximum(likelihood, asimov, {poi: 0.0}, without.at, twice=True).twice_nll
    of_data, alpha = _Profile(likelihood, data, best.at), 1 - LEVEL
    # what is lowest for strengths that a signal can have
    lowest = best.twice_nll if best.at[poi] > 0 else without.twice_nll

    def distance(strength: float) -> float:
        """Standard deviations between the background-only data and this strength."""
        return float(np.sqrt(max(of_asimov(strength) - at_zero, 0.0)))

    def excess(strength: float) -> float:
        """CLs of the data, above 1 - level."""
        q = max(of_data(strength) - lowest, 0.0) if strength > best.at[poi] else 0.0
        return float(cls(q, distance(strength))) - alpha

    # without a signal the data are at a band's quantile: CLs = sf(distance - band) / cdf(band)
    wanted = [band + float(norm.isf(alpha * norm.cdf(band))) for band in BANDS]
    expected = [_root(likelihood, lambda it, at=at: distance(it) - at, [of_asimov]) for at in wanted]  # type: ignore[misc]
    observed = _root(likelihood, lambda it: -excess(it), [of_asimov, of_data]) if is_observed else None
    return Limit(LEVEL, tuple(expected), observed)


def upper_error(likelihood: Likelihood, data: Floats, best: Maximum) -> float | None:
    """How far above the best fit twice the logarithm of the profile likelihood is lower by one; None if that is out of reach."""
    profile, center = _Profile(likelihood, data, best.at), float(best.at[likelihood.poi])
    with suppress(OutOfReachError):
        return _root(likelihood, lambda it: profile(it) - best.twice_nll - 1, [profile], center) - center
    return None


def _root(
    likelihood: Likelihood, rising: Callable[[float], float], profiles: Sequence[_Profile], begin: float = 0.0
) -> float:
    """Where a function of the signal strength that rises from below zero crosses it; second fits there must agree."""
    for _ in range(_SECOND_LOOKS):
        low, high = begin, min(begin + likelihood.precision, likelihood.highest)
        while rising(high) < 0:
            if high == likelihood.highest:
                raise OutOfReachError(f"The limit on the signal strength is above {high:.3g}.")
            low, high = high, min(2 * high - begin, likelihood.highest)
        found = float(brentq(rising, low, high, rtol=1e-4, xtol=1e-6 * likelihood.precision))
        looks = [profile.holds(found) for profile in profiles]
        if all(looks):
            return found
    raise NanoMLError(
        f"The likelihood has several maxima at a signal strength of {found:.3g}, and each further fit finds a larger one."
    )


def significance(likelihood: Likelihood, data: Floats, best: Maximum, is_observed: bool) -> Significance:
    """The significance of discovery (section 3.2 there): of a strength of one, with the other parameters as they fit best then."""
    poi = likelihood.poi
    signal = maximum(likelihood, data, {poi: 1.0}, twice=True)
    asimov = likelihood.expected(signal.at)
    at_one, at_zero = (maximum(likelihood, asimov, {poi: it}, signal.at, twice=True) for it in (1.0, 0.0))
    expected = np.sqrt(max(at_zero.twice_nll - at_one.twice_nll, 0.0))
    if not is_observed:
        return Significance(float(expected), None)
    return Significance(float(expected), float(np.sqrt(discovery_statistic(likelihood, data, best))))


def discovery_statistic(likelihood: Likelihood, data: Floats, best: Maximum) -> float:
    """The test statistic of a discovery, q0 (equation 12 there): 0 if fewer events were seen than expected without a signal."""
    if best.at[likelihood.poi] <= 0:
        return 0.0
    without = maximum(likelihood, data, {likelihood.poi: 0.0}, best.at, twice=True)
    return max(without.twice_nll - best.twice_nll, 0.0)


def contours(likelihood: Likelihood, data: Floats, best: Maximum, covariance: Floats) -> tuple[Contour, ...]:
    """The lines of each two signal strengths on which the profile likelihood ratio has a value, which asymptotically is a level's.

    Where it has that value is found along rays from the best fit, which are even if the likelihood is a parabola, and closer where a
    line comes to the end of a range.
    """
    lines, pairs = list[Contour](), itertools.combinations(likelihood.pois, 2)
    for pair, level in itertools.product(pairs, CONTOURS):
        places, reach = [*pair], (height := float(chi2.ppf(level, 2) ** 0.5))
        center, axes = best.at[places], np.linalg.cholesky(covariance[np.ix_(places, places)])
        profile, bounds = _Profile(likelihood, data, best.at, pair), likelihood.bounds[places] - center[:, None]
        found = dict[float, tuple[float, float, int]]()  # both strengths, and which of them is at an end
        angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False).tolist()
        for _ in range(_HALVINGS):
            for angle in angles:
                ray = axes @ [np.cos(angle), np.sin(angle)]
                ends = (bounds / np.where(ray == 0, 1e-300, ray)[:, None]).max(axis=1).clip(0)
                reach = _reach(profile, best.twice_nll, center, ray, height, reach, float(ends.min()))
                first, second = (center + reach * ray).tolist()
                found[angle] = first, second, 1 + int(ends.argmin()) if reach == ends.min() else 0
                reach = max(reach, height / 2)
            line = sorted(found)
            following = [*line[1:], 2 * np.pi]
            angles = [
                (one + two) / 2
                for one, two in zip(line, following, strict=True)
                if found[one][2] != found[two % (2 * np.pi)][2]
            ]
        points = [found[angle] for angle in sorted(found)]
        one, two, cut = zip(*points, strict=True)
        names = tuple(likelihood.names[it] for it in places)
        lines.append(Contour(names, level, one, two, tuple(map(bool, cut))))
    return tuple(lines)


def _reach(
    profile: _Profile, lowest: float, center: Floats, ray: Floats, height: float, guess: float, end: float
) -> float:
    """How far along a ray the root of the likelihood ratio, which is nearly straight, has some height; `end` if it is lower there."""
    low, high, before, reach = 0.0, end, (0.0, 0.0), min(guess, end)
    for _ in range(_MOST_STEPS):
        at = center + reach * ray
        now = reach, max(profile(*at.tolist()) - lowest, 0.0) ** 0.5
        if abs(now[1] ** 2 - height**2) < AGREE / 2 or (reach == end and now[1] < height):
            if profile.holds(*at.tolist()):
                return reach
            low, high, before = 0.0, end, (0.0, 0.0)  # the profile likelihood is another one now
            continue
        low, high = (reach, high) if now[1] < height else (low, reach)
        slope = (now[1] - before[1]) / (now[0] - before[0])
        before, reach = now, reach + (height - now[1]) / slope if slope > 0 else np.inf
        if not low < reach < high:
            reach = end if high == end < 2 * low else min(2 * low, (low + high) / 2)
    raise NanoMLError(f"The profile likelihood has several maxima near {at[0]:.3g}, {at[1]:.3g}: there is no contour.")
