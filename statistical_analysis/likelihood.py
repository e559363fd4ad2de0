"""The likelihood of a pyhf model: Minuit maximises it, with derivatives by jax, and whether a maximum is one is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
from iminuit import Minuit
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError, listed
from statistical_analysis.results import CONSTRAINED, FREE, STATISTICAL
from statistical_analysis.workspace import OURS

Floats = NDArray[np.float64]
# smooth in the parameters; those that pyhf takes by default have a kink at the nominal value
_INTERPOLATION = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
_WALL = 1e6  # how steeply it falls where a bin without events has less than nothing
_PART = 0.9  # of the background of a bin that a negative signal may take away
_ROUNDING = 1e-4
_SMALLEST = 1e-6  # expected events over observed ones, below which its logarithm goes on as a parabola
_LOWER = 1e-6  # twice the logarithm: what is lower by less is not lower
AGREE = 1e-3
"""Fits whose twice the logarithm differs by less agree."""
_MOST = 8  # bins in a sentence
_ROUNDS = 60  # of steps to what is lower, until there is nothing
_SECOND_FITS = 4  # that must not find anything lower, one after the other, before the fit is given up
_LENGTHS = (0.1, 0.3, 1.0, 3.0)  # of steps along a direction in which the likelihood bends the wrong way
_COLUMNS = 8  # of second derivatives, found together
_AT_ONCE, _NUMBERS = 32, 20_000_000  # points that are looked at together, and numbers in their events
_REACH = 1e6  # statistical uncertainties of the signal strength
# where constrained parameters are tried alone, and how far aside, in sigma
_PLACES, _ASIDE = (-1.0, 1.0, -2.0, 2.0, -0.5, 0.5), (-0.1, 0.1)
_SAME_SIDE = 0.1  # standard deviations of the data
_TOLERANCE = 1e-3  # the goal is 0.002 of it, in units of twice the logarithm
_FLAT = 1e-10  # square of the derivatives by parameters whose uncertainty is about one


@dataclass(frozen=True)
class Maximum:
    """Where the likelihood is largest: parameters, float64 of shape (parameters,), and twice its negative logarithm."""

    at: Floats
    twice_nll: float


class Likelihood:
    """The likelihood of a workspace, relative to that of a model which expects exactly what is observed.

    Parameters
    ----------
    workspace
        A workspace of pyhf, whose first measurement names the signal strength as its parameter of interest.
    strengths
        The range of the signal strength. By default it is that of the workspace; in one that NanoML made, it ends below where a bin would
        have less than a tenth of its background.

    Attributes
    ----------
    names, kinds
        Those of the parameters; one of STATISTICAL kind has the number of its bin in brackets.
    start, widths
        Values and uncertainties before the fit, float64 of shape (parameters,); the width of a free one is infinite.
    poi
        The position of the signal strength.
    is_fixed
        Which parameters no fit changes, bool of shape (parameters,).
    bounds
        The range of each parameter, float64 of shape (parameters, 2).
    """

    def __init__(self, workspace: Mapping[str, Any], strengths: tuple[float, float] | None = None) -> None:
        pyhf.set_backend("jax", precision="64b")
        self._workspace = pyhf.Workspace(dict(workspace))
        self.model = self._workspace.model(modifier_settings=_INTERPOLATION)
        config = self.model.config
        self.poi, self.names = int(config.poi_index), list(config.par_names)
        self.start = np.array(config.suggested_init(), float)
        self.is_fixed = np.array(config.suggested_fixed(), bool)
        self.bounds = np.array(config.suggested_bounds(), float)
        self.widths = np.full(len(self.names), np.inf)
        statistical = {name for name, kind in config.modifiers if kind in ("staterror", "shapesys")}
        self.kinds = [FREE] * len(self.names)
        for name in config.par_order:
            place, content = config.par_slice(name), config.param_set(name)
            if content.constrained:
                self.widths[place] = content.width()
                kind = STATISTICAL if name in statistical else CONSTRAINED
                self.kinds[place] = [kind] * content.n_parameters
        without, expected = (self.by_sample(self.with_strength(it)).sum(axis=0) for it in (0.0, 1.0))
        if not np.any(expected != without):
            raise NanoMLError(
                "The signal has no events in any channel of the fit: nothing can be said about its strength."
            )
        bare = self._bins((without <= 0) & (expected > without))
        if bare:
            raise NanoMLError(
                f"A signal without any background is expected in {listed(bare, _MOST)}: any event there would be a discovery. Join bins."
            )
        signal = expected - without
        if strengths is not None or workspace["measurements"][0]["name"] == OURS:
            lowest = -_PART * float(np.min(without[signal > 0] / signal[signal > 0], initial=np.inf))
            self.bounds[self.poi] = strengths or (lowest, np.inf)
        self._is_empty = expected <= 0
        self._known_axes: dict[bytes, Floats] = {}

    @cached_property
    def observed(self) -> Floats:
        """Observed events and auxiliary data, float64 of shape (bins + constraints,)."""
        found = np.array(self._workspace.data(self.model), float)
        impossible = self._bins(self._is_empty & (found[: len(self._is_empty)] > 0))
        if impossible:
            raise NanoMLError(
                f"Events are observed in {listed(impossible, _MOST)}, where none are expected, so no fit describes them. Remove these bins."
            )
        return found

    def _bins(self, chosen: NDArray[np.bool_]) -> list[str]:
        """Bins in words."""
        config = self.model.config
        return [
            f"{it} bin {n + 1}" for it in config.channels for n in np.flatnonzero(chosen[config.channel_slices[it]])
        ]

    def expected(self, at: Floats) -> Floats:
        """Data, as `observed`, that are exactly what is expected at some parameters."""
        found = np.array(self._expected(at), float)
        bins = int(self.model.config.nmaindata)
        found[:bins] = np.maximum(found[:bins], 0.0)
        return found

    def with_strength(self, strength: float) -> Floats:
        """The parameters before the fit, with this signal strength."""
        found = self.start.copy()
        found[self.poi] = strength
        return found

    def by_sample(self, at: Floats) -> Floats:
        """Expected events, float64 of shape (samples, bins of all channels); the samples are those of `model.config`."""
        return np.array(self._by_sample(at), float)

    def slopes(self, at: Floats) -> Floats:
        """Derivatives of `by_sample` by the parameters, float64 of shape (samples, bins of all channels, parameters)."""
        return np.array(self._slopes(at), float)

    def is_possible(self, at: Floats) -> bool:
        """Whether no bin expects less than no events, but for rounding."""
        events = self.by_sample(at).sum(axis=0)
        return bool(events.min() >= -_ROUNDING * max(float(events.max()), 1.0))

    @property
    def precision(self) -> float:
        """The uncertainty of the signal strength, roughly: by the statistics of what is expected."""
        return float(self._scales[self.poi])

    @property
    def highest(self) -> float:
        """The highest signal strength at which a limit is looked for."""
        return float(min(self.bounds[self.poi, 1], _REACH * self.precision))

    def at_bounds(self, at: Floats) -> list[int]:
        """Positions of the parameters that are at the end of their range."""
        reach = 1e-3 * np.where(np.isfinite(self.widths), self.widths, np.maximum(np.abs(at), 1e-3))
        near = (at - self.bounds[:, 0] < reach) | (self.bounds[:, 1] - at < reach)
        return np.flatnonzero(near & ~self.is_fixed).tolist()

    def maximum(
        self, data: Floats, fixed: Mapping[int, float] | None = None, start: Floats | None = None, twice: bool = False
    ) -> Maximum:
        """Maximise it.

        No parameter whose up and down are on the same side gives a larger likelihood if it is moved alone, to +1 or -1 sigma or a
        little: the fit goes on from there until this is so.

        Parameters
        ----------
        fixed
            Parameters that are fixed, by position.
        start
            Where the search begins; by default at the values before the fit.
        twice
            Whether the maximum is examined: its second derivatives, all constrained parameters at more places, and another fit that starts
            elsewhere must not lead to a larger likelihood.

        Raises
        ------
        NanoMLError
            The search does not end, or each further fit finds a larger likelihood.
        """
        begin, mask = np.array(self.start if start is None else start), self.is_fixed.copy()
        for position, value in (fixed or {}).items():
            begin[position], mask[position] = value, True
        found = self._lowest(begin, data, mask, twice)
        if not twice or mask.all():
            return found
        for number in range(_SECOND_FITS):
            other = self._lowest(np.where(mask, begin, self.displaced(found.at, number)), data, mask, False)
            if other.twice_nll > found.twice_nll - AGREE:
                return min(found, other, key=lambda it: it.twice_nll)
            found = other
        raise NanoMLError(
            "The likelihood has several maxima, and each further fit finds a larger one. Look for variations whose up and down are "
            "alike, or far too large."
        )

    def displaced(self, at: Floats, number: int) -> Floats:
        """Where a second fit begins: on the other side of the values before the fit, where another maximum may be.

        `at` has the shape (parameters,) or (data sets, parameters); another `number` gives another start.
        """
        random = np.random.default_rng(number)
        reach = np.where([kind == CONSTRAINED for kind in self.kinds], self.widths, self._scales)
        return self.start + np.where(at > self.start, -reach, reach) * np.abs(random.normal(1.0, 0.3, at.shape))

    def moves(self, mask: NDArray[np.bool_], is_examined: bool) -> tuple[NDArray[np.int64], Floats, Floats]:
        """How constrained parameters are moved alone: their positions, and new values, less which part of the old ones; of shape (moves,).

        They are those whose up and down are on the same side, or all of them if a maximum is examined.
        """
        places, width = np.flatnonzero((self._tested if is_examined else self._is_curved) & ~mask), self.widths
        values = [(self.start[it] + sigma * width[it], 0.0) for it in places for sigma in _PLACES]
        values += [(sigma * width[it], 1.0) for it in places for sigma in _ASIDE]
        new, old = np.array(values, float).reshape(-1, 2).T
        return np.concatenate([places.repeat(len(_PLACES)), places.repeat(len(_ASIDE))]), new, old

    def _lowest(self, begin: Floats, data: Floats, mask: NDArray[np.bool_], is_examined: bool) -> Maximum:
        """A minimum of twice the negative logarithm; an error if there is something lower after many rounds."""
        at = np.where(mask, begin, np.clip(begin, *self.bounds.T))
        value, slope = self._both(at, data)
        found = Maximum(at, float(value))
        # Minuit does not end where it begins at a minimum
        is_near = bool(np.sum((np.asarray(slope) * self._scales)[~mask] ** 2) < _FLAT)
        for _ in range(_ROUNDS):
            is_valid = is_near
            if not is_near:
                found, is_valid = self._by_minuit(found, data, mask)
            places, new, old = self.moves(mask, is_examined)
            points = np.tile(found.at, (len(places), 1))
            points[range(len(places)), places] = new + old * found.at[places]
            points = np.where(mask, found.at, np.clip(points, *self.bounds.T))
            if is_examined or not is_valid:
                found, steps = self._by_second_derivatives(found, data, mask)
                points = np.concatenate([steps, points])
            values = np.append(self._values_at(points, data), np.inf)
            best = int(np.nanargmin(values))
            if not values[best] < found.twice_nll - _LOWER:
                return found
            found, is_near = Maximum(points[best], float(values[best])), best == 0 and (is_examined or not is_valid)
        raise NanoMLError(
            "The fit does not converge. Look for bins without expected events, and for variations that are far too large."
        )

    def _by_minuit(self, begin: Maximum, data: Floats, mask: NDArray[np.bool_]) -> tuple[Maximum, bool]:
        """A minimum as good as Minuit finds one, and whether it is one.

        A parameter that leaves its range is held at its end, until it would be lower inside.
        """
        at, is_valid = begin.at, False
        held = ~mask & self._stuck(at, np.asarray(self._both(at, data)[1]))
        for _ in range(_ROUNDS):
            free = np.flatnonzero(~(mask | held))
            if free.size:
                at, is_valid = self._migrad(at, data, free)
            beyond = ~mask & ((at < self.bounds[:, 0]) | (at > self.bounds[:, 1]))
            at = np.where(mask, at, np.clip(at, *self.bounds.T))
            value, slope = self._both(at, data)
            released = held & ~self._stuck(at, np.asarray(slope))
            if not (beyond | released).any():
                break
            held = (held | beyond) & ~released
        found = Maximum(at, float(value))
        return (found, is_valid) if found.twice_nll < begin.twice_nll else (begin, is_valid)

    def _migrad(self, begin: Floats, data: Floats, free: NDArray[np.int64]) -> tuple[Floats, bool]:
        """Minuit's minimum in some parameters, whatever their range: in sums that are uncorrelated where a signal is as expected."""
        axes = self._axes(free)

        def moved(part: Floats) -> Floats:
            at = begin.copy()
            at[free] += axes @ part
            return at

        minuit = Minuit(
            lambda part: float(self._both(moved(part), data)[0]),
            np.zeros(len(free)),
            grad=lambda part: axes.T @ np.asarray(self._both(moved(part), data)[1])[free],
            g2=lambda _: np.full(len(free), 2.0),
        )
        minuit.errordef, minuit.strategy, minuit.tol = Minuit.LEAST_SQUARES, 0, _TOLERANCE
        minuit.errors = np.ones(len(free))
        minuit.migrad(iterate=1, use_simplex=False)  # a simplex needs thousands of calls
        return moved(np.array(minuit.values, float)), bool(minuit.valid)

    def _stuck(self, at: Floats, slope: Floats) -> NDArray[np.bool_]:
        """The parameters at the end of their range that it would be lower beyond."""
        low, high = self.bounds.T
        return ((at <= low) & (slope > 0)) | ((at >= high) & (slope < 0))

    def _axes(self, free: NDArray[np.int64]) -> Floats:
        """Sums of parameters that are uncorrelated, float64 of shape (parameters, sums), of an uncertainty of one."""
        key = free.tobytes()
        if key not in self._known_axes:
            scales = self._scales[free]
            curvature = self._curvature[np.ix_(free, free)] * np.outer(scales, scales) / 2
            lower = np.linalg.cholesky(curvature + 1e-9 * np.eye(len(free)))
            self._known_axes[key] = scales[:, None] * np.linalg.inv(lower).T
        return self._known_axes[key]

    def _by_second_derivatives(self, found: Maximum, data: Floats, mask: NDArray[np.bool_]) -> tuple[Maximum, Floats]:
        """The point, with parameters next to a bound at it; and points that should not be lower.

        These are the minimum of the parabola there; steps along the direction in which it bends least, or the wrong way; and each
        constrained parameter at some places with the others following, as the parabola says.
        """
        at, (low, high) = found.at, self.bounds.T
        slope, scales = np.array(self._both(at, data)[1], float), self._scales
        near = 1e-4 * scales
        at = np.where(mask, at, np.where((at - low < near) & (slope > 0), low, at))
        at = np.where(mask, at, np.where((high - at < near) & (slope < 0), high, at))
        inside = np.flatnonzero(~(mask | self._stuck(at, slope)))
        steps = np.zeros((1, len(at)))
        if inside.size:
            hessian = self._second_derivatives(at, data)[np.ix_(inside, inside)]
            values, vectors = np.linalg.eigh(hessian * np.outer(scales[inside], scales[inside]))
            inverse = (vectors / np.maximum(np.abs(values), 1e-10 * np.abs(values).max())) @ vectors.T
            lengths = np.array([sign * length for length in _LENGTHS for sign in (1, -1)])
            moves = [-(inverse @ (slope[inside] * scales[inside])), *np.outer(lengths, vectors[:, 0])]
            for number in np.flatnonzero(self._tested[inside]):
                place = inside[number]
                shifts = (self.start[place] + self.widths[place] * np.array(_PLACES) - at[place]) / scales[place]
                moves.extend(np.outer(shifts, inverse[number] / inverse[number, number]))
            steps = np.zeros((len(moves), len(at)))
            steps[:, inside] = scales[inside] * np.array(moves)
        return Maximum(at, float(self._both(at, data)[0])), np.clip(at + steps, low, high)

    def mirrored(self, found: Maximum, data: Floats) -> list[int]:
        """Positions of the parameters whose value is as good with the other sign, and not between: up and down are alike."""
        places = np.flatnonzero(self._tested)
        points = [found.at.copy() for _ in range(2 * len(places))]
        for number, place in enumerate(places):
            points[2 * number][place] = 2 * self.start[place] - found.at[place]
            points[2 * number + 1][place] = self.start[place]
        if not points:
            return []
        other, between = (self._values_at(np.array(points), data) - found.twice_nll).reshape(-1, 2).T
        is_mirrored = (np.abs(other) < AGREE) & (between > AGREE)
        return places[is_mirrored].tolist()

    def covariance(self, data: Floats, at: Floats) -> Floats:
        """The covariance matrix of the parameters at a maximum, float64 of shape (parameters, parameters); 0 for fixed ones.

        If the data do not bend the likelihood, as those without any event at a signal strength of 0, what is expected there does.
        """
        free = np.flatnonzero(~self.is_fixed)
        found = np.zeros((len(at), len(at)))
        for given in (data, self.expected(at), self.expected(self.with_strength(1.0))):
            hessian = self._second_derivatives(at, given, 0.0)[np.ix_(free, free)] / 2
            try:
                np.linalg.cholesky(hessian)
            except np.linalg.LinAlgError:
                continue
            found[np.ix_(free, free)] = np.linalg.inv(hessian)
            return found
        flat = free[np.abs(np.linalg.eigh(hessian)[1][:, 0]).argmax()]
        raise NanoMLError(f"The likelihood has no maximum: {self.names[flat]} can have any value.")

    def twice_nll_at(self, at: Any, data: Any, wall: Any = _WALL) -> Any:
        """Twice the negative logarithm of the likelihood at some parameters, as a function that jax can transform.

        It has a value everywhere: the term of a bin with less than next to nothing goes on as a parabola, so that a search that looks
        there comes back. Where nothing was observed that is a wall, which second derivatives at the wall must not count.
        """
        bins = self.model.config.nmaindata
        counts, auxiliary = data[:bins], data[bins:]
        events = self.model.expected_actualdata(at)
        least = _SMALLEST * counts
        known = jnp.where(events > least, events, jnp.maximum(least, 1e-300))
        far = jnp.minimum(events - least, 0.0)
        ratio = jnp.where(counts > 0, counts, 1.0) / known
        terms = known - counts + jnp.where(counts > 0, counts * jnp.log(ratio), 0.0)
        bend = jnp.where(counts > 0, counts / jnp.where(counts > 0, known, 1.0) ** 2, wall)
        beyond = far * (1 - jnp.where(counts > 0, ratio, 0.0)) + 0.5 * bend * far**2
        return 2 * jnp.sum(terms + beyond) - 2 * self._constraints(auxiliary, at)

    def saturated(self, data: Floats) -> float:
        """Twice the negative logarithm of the likelihood of a model that expects exactly the observed events."""
        auxiliary = data[int(self.model.config.nmaindata) :]
        return -2 * float(self._constraints(auxiliary, pyhf.tensorlib.astensor(self.start)))

    def _constraints(self, auxiliary: Any, at: Any) -> Any:
        return self.model.constraint_logpdf(auxiliary, at) if len(auxiliary) else 0.0  # pyhf fails if there are none

    @cached_property
    def _tested(self) -> NDArray[np.bool_]:
        """The parameters that are moved alone: with one of a single bin the likelihood has one maximum, if the others are fixed."""
        return np.array([kind == CONSTRAINED for kind in self.kinds]) & ~self.is_fixed

    @cached_property
    def _is_curved(self) -> NDArray[np.bool_]:
        """The parameters whose up and down change expected events to the same side, by so much that there may be two maxima.

        With changes of a on the average and of s to the same side, second derivatives are 2 + sum 2 a^2 / n + sum 4 s r / sqrt(n), where
        r are residuals of about one: they become negative only if the root of the sum of s^2 / n is not small.
        """
        found = np.zeros(len(self.names), bool)
        begin = self.with_strength(1.0)
        events = self.by_sample(begin).sum(axis=0)
        for number in np.flatnonzero(self._tested):
            step = self.widths[number] * np.eye(len(begin))[number]
            up, down = (self.by_sample(begin + sign * step).sum(axis=0) for sign in (1, -1))
            side = (up + down) / 2 - events
            found[number] = np.sum(side**2 / np.maximum(events, 1e-9)) > _SAME_SIDE**2
        return found

    @cached_property
    def _curvature(self) -> Floats:
        """Second derivatives where a signal is as expected."""
        begin = self.with_strength(1.0)
        return self._second_derivatives(begin, self.expected(begin), 0.0)

    @cached_property
    def _scales(self) -> Floats:
        """The uncertainty of each parameter there, but for correlations."""
        bends, known = np.diag(self._curvature), np.where(np.isfinite(self.widths), self.widths, 1.0)
        return np.where(bends > 0, np.sqrt(2 / np.where(bends > 0, bends, 1.0)), known)

    def _values_at(self, points: Floats, data: Floats) -> Floats:
        """Twice the negative logarithm at some points, float64 of shape (points,); as many at once each time, for one compilation."""
        config, size = self.model.config, len(points)
        events = len(config.samples) * int(config.nmaindata) * (len(config.modifiers) + 1)
        some = max(1, min(_AT_ONCE, _NUMBERS // events))
        padded = np.concatenate([points, np.repeat(points[-1:], -size % some, axis=0)])
        found = [np.array(self._many(padded[it : it + some], data)) for it in range(0, size, some)]
        return np.concatenate([*found, np.zeros(0)])[:size]

    @cached_property
    def _expected(self) -> Any:
        return jax.jit(self.model.expected_data)

    def _events(self, at: Any) -> Any:
        return self.model.main_model.expected_data(at, return_by_sample=True)

    @cached_property
    def _by_sample(self) -> Any:
        return jax.jit(self._events)

    @cached_property
    def _slopes(self) -> Any:
        return jax.jit(jax.jacfwd(self._events))

    @cached_property
    def _both(self) -> Any:
        return jax.jit(jax.value_and_grad(self.twice_nll_at))

    @cached_property
    def _many(self) -> Any:
        return jax.jit(jax.vmap(self.twice_nll_at, (0, None)))

    def _second_derivatives(self, at: Floats, data: Floats, wall: float = _WALL) -> Floats:
        """Those by the parameters, float64 of shape (parameters, parameters); a few columns at once, which stay in the cache."""
        count = len(at)
        unit = np.eye(count + -count % _COLUMNS, count)
        columns = [self._columns(at, data, wall, unit[it : it + _COLUMNS]) for it in range(0, len(unit), _COLUMNS)]
        return np.concatenate(columns)[:count].astype(float)

    @cached_property
    def _columns(self) -> Any:
        def column(at: Any, data: Any, wall: Any, direction: Any) -> Any:
            return jax.jvp(lambda it: jax.grad(self.twice_nll_at)(it, data, wall), (at,), (direction,))[1]

        return jax.jit(jax.vmap(column, (None, None, None, 0)))
