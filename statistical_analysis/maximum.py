"""Where a likelihood is largest: Minuit searches, and whether a maximum is one is examined."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from iminuit import Minuit
from numpy.typing import NDArray
from scipy.optimize import minimize

from MLTools.NanoML.errors import NanoMLError
from statistical_analysis.likelihood import Floats, Likelihood

AGREE = 1e-3
"""Fits whose twice the logarithm differs by less agree."""
_LOWER = 1e-6  # twice the logarithm: what is lower by less is not lower
_ROUNDS = 60  # of steps to what is lower, until there is nothing
_SECOND_FITS = 4  # that must not find anything lower, one after the other, before the fit is given up
_LENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # of steps along a direction in which the likelihood bends the wrong way
_TOLERANCE = 1e-3  # the goal is 0.002 of it, in units of twice the logarithm
_WALLS = (1e2, 1e4, 1e6)  # how steep they are, one after the other
_FLAT = 1e-10  # square of the derivatives by parameters whose uncertainty is about one
_STEEP = 1e-2  # that from which on no minimum is believed
_PLACES, _ASIDE = (-1.0, 1.0, -2.0, 2.0, -0.5, 0.5), (-0.03, 0.03)
"""Where constrained parameters are tried, and how far aside, in sigma."""
_TURNS = 0.7  # sigma: what is interpolated turns no farther from the value before the fit


@dataclass(frozen=True)
class Maximum:
    """Where the likelihood is largest: parameters, float64 of shape (parameters,), and twice its negative logarithm."""

    at: Floats
    twice_nll: float


def maximum(
    likelihood: Likelihood,
    data: Floats,
    fixed: Mapping[int, float] | None = None,
    start: Floats | None = None,
    twice: bool = False,
) -> Maximum:
    """Maximise a likelihood.

    No parameter whose up and down are on the same side gives a larger likelihood if it is moved alone, to +1 or -1 sigma or a little, nor
    beyond where its effect turns: the fit goes on from there until this is so.

    Parameters
    ----------
    data
        Events and auxiliary data, float64 of shape (bins + constraints,).
    fixed
        Parameters that are fixed, by position.
    start
        Where the search begins; by default at the values before the fit.
    twice
        Whether the maximum is examined: its second derivatives, all constrained parameters at more places, and other fits that start
        elsewhere must not lead to a larger likelihood.

    Raises
    ------
    NanoMLError
        The search does not end, or each further fit finds a larger likelihood.
    """
    begin, mask = np.array(likelihood.start if start is None else start, float), likelihood.is_fixed.copy()
    for position, value in (fixed or {}).items():
        begin[position], mask[position] = value, True
    search = _Search(likelihood, data, mask)
    found = search.lowest(begin, twice)
    if not twice or mask.all():
        return found
    for number in range(_SECOND_FITS):
        elsewhere = [likelihood.displaced(found.at, number)]
        if start is not None and number == 0:
            elsewhere.append(likelihood.start)  # far from what fits another strength, there may be another maximum
        others = (search.lowest(np.where(mask, begin, it), False) for it in elsewhere)
        other = min(others, key=lambda it: it.twice_nll)
        if other.twice_nll > found.twice_nll - AGREE:
            return min(found, other, key=lambda it: it.twice_nll)
        found = other
    raise NanoMLError(
        "The likelihood has several maxima, and each further fit finds a larger one. Look for variations whose up and down are alike, or "
        "far too large."
    )


class _Minuit(Minuit):
    def _make_covariance(self) -> None:
        """Nothing: copying the matrix, which nobody reads, took longer than the search with some hundred parameters."""


@dataclass(frozen=True)
class _Search:
    """A search for the minimum of twice the negative logarithm, without the parameters of a mask."""

    likelihood: Likelihood
    data: Floats
    mask: NDArray[np.bool_]
    known: deque[tuple[Maximum, Floats]] = field(default_factory=lambda: deque(maxlen=8))

    def at(self, point: Floats) -> tuple[Maximum, Floats]:
        """The value there, and its derivatives: Minuit asks for one after the other."""
        found = next((it for it in self.known if np.array_equal(it[0].at, point)), None)
        if found is None:
            value, slope = self.likelihood.value_and_slope(point, self.data)
            found = Maximum(point.copy(), float(value)), np.asarray(slope)
            self.known.append(found)
        return found

    def inside(self, points: Floats) -> Floats:
        """The points with all free parameters in their ranges."""
        return np.where(self.mask, points, np.clip(points, *self.likelihood.bounds.T))

    def lowest(self, begin: Floats, is_examined: bool) -> Maximum:
        """A minimum; an error if there is something lower after many rounds."""
        found, slope = self.at(self.inside(begin))
        # Minuit does not end where it begins at a minimum
        is_near = self._is_flat(slope, self.mask, _FLAT)
        for _ in range(_ROUNDS):
            is_valid = is_near
            if not is_near:
                found, is_valid = self._by_minuit(found)
                if not is_valid:
                    again = self._by_minuit(self._in_box(found))
                    found, is_valid = min((found, False), again, key=lambda it: it[0].twice_nll)
            needs_more = is_examined or not is_valid
            places, new, old = moves_of(self.likelihood, self.mask, is_examined)
            new = np.clip(new + old * found.at[places], *self.likelihood.bounds[places].T)
            moved = np.where(places[:, None] == np.arange(len(self.mask)), new[..., None], found.at)
            alone = self.likelihood.alone(found.at, places, new, self.data)
            steps = self.inside(self._steps(found)) if needs_more else moved[0, :0]
            values = np.concatenate([self.likelihood.values(steps, self.data), alone.ravel(), [np.inf]])
            best = int(np.nanargmin(values))
            if values[best] < found.twice_nll - _LOWER:
                found, is_near = self.at(np.concatenate([steps, *moved])[best])[0], needs_more and best == 0
                continue
            other = self._beyond(found, places, moved, alone)
            if not other.twice_nll < found.twice_nll - _LOWER:
                return found
            found, is_near = other, True
        raise NanoMLError(
            "The fit does not converge. Look for bins without expected events, and for variations that are far too large."
        )

    def _by_minuit(self, begin: Maximum) -> tuple[Maximum, bool]:
        """A minimum as good as Minuit finds one, and whether it is one.

        A parameter that leaves its range is held at its end, until it would be lower inside.
        """
        (low, high), mask, is_valid = self.likelihood.bounds.T, self.mask, False
        found, slope = self.at(begin.at)
        held = ~mask & self.likelihood.pushed(begin.at, slope)
        for _ in range(_ROUNDS):
            at, free = found.at, np.flatnonzero(~(mask | held))
            if free.size:
                at, is_valid = self._migrad(at, free)
            beyond = ~mask & ((at < low) | (at > high))
            found, slope = self.at(self.inside(at))
            released = held & ~self.likelihood.pushed(found.at, slope)
            if not (beyond | released).any():
                break
            held = (held | beyond) & ~released
        is_valid = is_valid and self._is_flat(slope, held, _STEEP)
        return (found if found.twice_nll < begin.twice_nll else begin), is_valid

    def _in_box(self, begin: Maximum) -> Maximum:
        """Where steps that stay in all ranges lead, with walls that become steeper: Minuit gets lost far outside, and at a steep wall."""
        scales, point = self.likelihood.scales, begin.at
        ranges = np.where(self.mask, point, self.likelihood.bounds.T).T / scales[:, None]

        def both(part: Floats, wall: float) -> tuple[float, Floats]:
            value, slope = self.likelihood.value_and_slope(part * scales, self.data, wall)
            return float(value), np.asarray(slope) * scales

        for wall in _WALLS:
            point = minimize(both, point / scales, wall, "L-BFGS-B", True, bounds=ranges).x * scales
        return self.at(self.inside(np.where(self.mask, begin.at, point)))[0]

    def _migrad(self, begin: Floats, free: NDArray[np.int64]) -> tuple[Floats, bool]:
        """Minuit's minimum in some parameters, whatever their range: in sums that are uncorrelated where a signal is as expected."""
        axes = self.likelihood.axes(free)

        def moved(part: Floats) -> Floats:
            point = begin.copy()
            point[free] += axes @ part
            return point

        minuit = _Minuit(
            lambda part: self.at(moved(part))[0].twice_nll,
            np.zeros(len(free)),
            grad=lambda part: axes.T @ self.at(moved(part))[1][free],
            g2=lambda _: np.full(len(free), 2.0),
        )
        minuit.errordef, minuit.strategy, minuit.tol = Minuit.LEAST_SQUARES, 0, _TOLERANCE
        minuit.errors = np.ones(len(free))
        minuit.migrad(iterate=1, use_simplex=False)  # a simplex needs thousands of calls
        return moved(np.array(minuit.values, float)), bool(minuit.valid)

    def _is_flat(self, slope: Floats, held: NDArray[np.bool_], limit: float) -> bool:
        """Whether the squared derivatives by all other free parameters, in units of their uncertainties, are below a limit."""
        return bool(np.sum((slope * self.likelihood.scales)[~(self.mask | held)] ** 2) < limit)

    def _beyond(self, found: Maximum, places: NDArray[np.int64], moved: Floats, values: Floats) -> Maximum:
        """Another minimum, where a parameter is beyond the value at which its effect turns, and the others follow.

        It is looked for if some value beyond is lower than that at the turn, with that parameter moved alone.
        """
        likelihood, starts, new = self.likelihood, list[Floats](), moved[:, range(len(places)), places]
        beyond = (new - new[-2]) * (found.at[places] - new[-2]) < 0
        for number in np.flatnonzero((beyond & (values < values[-2])).any(axis=0)):
            others = np.flatnonzero(~self.mask & (np.arange(len(self.mask)) != places[number]))
            axes = likelihood.axes(others)
            for point in moved[beyond[:, number], number]:
                point[others] -= axes @ (axes.T @ self.at(point)[1][others]) / 2
                starts.append(point)
        if not starts:
            return found
        inside = self.inside(np.array(starts))
        return self._by_minuit(self.at(inside[np.nanargmin(likelihood.values(inside, self.data))])[0])[0]

    def _steps(self, found: Maximum) -> Floats:
        """Points that second derivatives lead to, float64 of shape (points, parameters).

        These are the minimum of the parabola; steps along the direction in which it bends least, or the wrong way; and each constrained
        parameter at some places with the others following, as the parabola says.
        """
        likelihood, at = self.likelihood, found.at
        slope = self.at(at)[1]
        inside = np.flatnonzero(~(self.mask | self.likelihood.pushed(at, slope)))
        if not inside.size:
            return at[None]
        scales = likelihood.scales[inside]
        bends = likelihood.second_derivatives(at, self.data)[np.ix_(inside, inside)] * np.outer(scales, scales)
        values, vectors = np.linalg.eigh(bends)
        inverse = (vectors / np.maximum(np.abs(values), 1e-10 * np.abs(values).max())) @ vectors.T
        reach = min(1.0, (2 / abs(values[0])) ** 0.5) if values[0] else 1.0  # a sharp peak is narrow
        lengths = reach * np.array([sign * length for length in _LENGTHS for sign in (1, -1)])
        moves = [-(inverse @ (slope[inside] * scales)), *np.outer(lengths, vectors[:, 0])]
        for number in np.flatnonzero(likelihood.tested[inside]):
            place = inside[number]
            shifts = likelihood.start[place] + likelihood.widths[place] * np.array(_PLACES) - at[place]
            moves.extend(np.outer(shifts / scales[number], inverse[number] / inverse[number, number]))
        points = np.tile(at, (len(moves), 1))
        points[:, inside] += scales * np.array(moves)
        return points


def mirrored(likelihood: Likelihood, data: Floats, found: Maximum) -> list[int]:
    """Positions of the parameters whose value is as good with the other sign, and not between: up and down are alike."""
    places, start = np.flatnonzero(likelihood.tested), likelihood.start
    rows, points = range(len(places)), np.tile(found.at, (2, len(places), 1))
    points[0, rows, places], points[1, rows, places] = 2 * start[places] - found.at[places], start[places]
    values = likelihood.values(points.reshape(-1, len(start)), data).reshape(2, -1)
    other, between = values - found.twice_nll
    return places[(np.abs(other) < AGREE) & (between > AGREE)].tolist()


def moves_of(
    likelihood: Likelihood, mask: NDArray[np.bool_], is_examined: bool
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """How constrained parameters of a likelihood are moved alone: their positions, and new values, less which part of the old ones.

    They are those whose up and down are on the same side, or all of them if a maximum is examined. The values have the shape (moves,
    parameters), the parts (moves, 1). The last two moves are to where the effect turns, and as far beyond it; not a number: nowhere.
    """
    places = np.flatnonzero((likelihood.tested if is_examined else ~np.isnan(likelihood.turns)) & ~mask)
    start, width, turn = likelihood.start[places], likelihood.widths[places], likelihood.turns[places]
    turn = np.where(np.abs(turn - start) < _TURNS * width, turn, np.nan)
    new = [*(start + np.outer(_PLACES, width)), *np.outer(_ASIDE, width), turn, 2 * turn]
    return places, np.array(new), np.repeat([[0.0], [1.0], [0.0], [-1.0]], [len(_PLACES), len(_ASIDE), 1, 1], axis=0)
