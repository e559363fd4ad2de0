"""Maximises a likelihood for thousands of data sets at once: quasi-Newton steps, compiled by jax for all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import Bar
from statistical_analysis.likelihood import Floats, Likelihood
from statistical_analysis.maximum import AGREE, Maximum, maximum, moves_of

_MOST_STEPS = 200
_GOAL = 1e-4  # estimated distance to the minimum, in units of twice the logarithm
_MOST_LOST = 0.01  # of the data sets: there the best point that was found is taken
_ONE_IN, _SECOND_SEARCHES = 50, 4
_AT_ONCE = 50_000_000  # numbers in the matrices of the data sets that are worked on together
_MOST_AT_ONCE = 100  # of these data sets: a second search of one in fifty has not many more


class Maxima(NamedTuple):
    """As `likelihood.Maximum`, for many data sets: float64 of shape (data sets, parameters), and of shape (data sets,)."""

    at: Floats
    twice_nll: Floats


class _State(NamedTuple):
    """Where the search in one data set is: parameters, twice the negative logarithm, its derivatives, first and second (estimated)."""

    at: Any
    value: Any
    slope: Any
    curvature: Any
    shrink: Any  # what part of the next step is tried
    steps: Any
    distance: Any


class ManyMaxima:
    """Maximises a likelihood for many data sets.

    Steps are those of Broyden, Fletcher, Goldfarb and Shanno, inside the bounds of the parameters. They begin with the second
    derivatives at the start, which for data near those that are expected there are nearly right. Where a parameter whose up and down
    are on the same side is better elsewhere, they go on from there. What does not converge is left to Minuit; where it does not
    converge either, which may be in one of a hundred data sets, the best point that was found is taken.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood

    def _size(self, numbers: int) -> int:
        """How many data sets, of so many numbers each, are worked on together."""
        model, distributions = self.likelihood.model, self.likelihood.distributions
        events = len(model.config.samples) * int(model.config.nmaindata) * (len(model.config.modifiers) + 1)
        if distributions is not None:
            events += numbers * distributions.columns
        return max(1, min(_MOST_AT_ONCE, _AT_ONCE // (len(self.likelihood.names) ** 2 + events)))

    @partial(jax.jit, static_argnums=0)
    def _all(self, data: Any, start: Any, curvature: Any, mask: Any, low: Any, high: Any, moves: Any) -> Any:
        search = partial(self._one, curvature=curvature, mask=mask, low=low, high=high)

        def one(data: Any, start: Any) -> Any:
            found = search(data, start)
            if not len(moves[0]):
                return found

            def tried(place: Any, new: Any, old: Any) -> Any:
                at = found.at.at[place].set(jnp.clip(new + old * found.at[place], low[place], high[place]))
                return at, self.likelihood.twice_nll_at(at, data)

            points, values = jax.vmap(tried)(*moves)
            best = jnp.argmin(values)
            other = search(data, jnp.where(values[best] < found.value, points[best], found.at))
            return jax.tree.map(partial(jnp.where, other.value < found.value), other, found)

        return jax.vmap(one)(data, start)

    def __call__(
        self,
        data: Floats,
        start: Floats,
        fixed: Mapping[int, float] | None = None,
        lowest: float | None = None,
        bar: Bar | None = None,
    ) -> Maxima:
        """Find the maxima.

        One data set in fifty has a second search, which starts elsewhere. If that finds a larger likelihood, all have one; an error if
        this does not end.

        Parameters
        ----------
        data
            Events and auxiliary data, float64 of shape (data sets, bins + constraints).
        start
            Where all searches begin.
        fixed
            Parameters that are fixed, by position.
        lowest
            The lowest signal strength; None: as negative as no bin with less than no events allows.
        """
        begin, mask = np.array(start), self.likelihood.is_fixed.copy()
        for position, value in (fixed or {}).items():
            begin[position], mask[position] = value, True
        low, high = np.array(self.likelihood.bounds).T
        if lowest is not None:
            low[self.likelihood.poi] = lowest
        begin = np.where(mask, begin, np.clip(begin, low, high))
        curvature = _positive(self.likelihood.second_derivatives(begin, self.likelihood.expected(begin)))
        size = min(self._size(data.shape[1]), len(data))
        search = partial(self._search, size=size, curvature=curvature, fixed=fixed or {}, mask=mask, low=low, high=high)
        found = search(data, np.broadcast_to(begin, (len(data), len(begin))))
        if bar is not None:
            bar.advance(len(data))
        some = np.arange(0, len(data), _ONE_IN)
        for number in range(_SECOND_SEARCHES):
            displaced = np.where(mask, found.at, np.clip(self.likelihood.displaced(found.at, number), low, high))
            again = search(data[some], displaced[some])
            if not np.any(again.twice_nll < found.twice_nll[some] - AGREE):
                return found
            again = search(data, displaced)
            is_lower = again.twice_nll < found.twice_nll
            at = np.where(is_lower[:, None], again.at, found.at)
            found = Maxima(at, np.where(is_lower, again.twice_nll, found.twice_nll))
        raise NanoMLError(
            "The likelihood has several maxima, and each further search in pseudo-experiments finds larger ones. Look for variations whose "
            "up and down are alike, or far too large."
        )

    def _search(
        self,
        data: Floats,
        start: Floats,
        size: int,
        curvature: Floats,
        fixed: Mapping[int, float],
        mask: NDArray[np.bool_],
        low: Floats,
        high: Floats,
    ) -> Maxima:
        """A search in each data set from its own start; as many at once each time, for one compilation."""
        found, lost = [], 0
        places, new, old = moves_of(self.likelihood, mask, False)
        moves = [np.broadcast_to(it, new.shape)[~np.isnan(new)] for it in (places, new, old)]
        for first in range(0, len(data), size):
            some, begin = data[first : first + size], start[first : first + size]
            missing = ((0, size - len(some)), (0, 0))
            padded, begin = np.pad(some, missing, "edge"), np.pad(begin, missing, "edge")
            state = jax.device_get(self._all(padded, begin, curvature, mask, low, high, moves))
            at, values = (np.array(it[: len(some)], float) for it in (state.at, state.value))
            for number in np.flatnonzero(~(state.distance[: len(some)] < _GOAL)):
                try:
                    left = self._by_minuit(some[number], fixed, at[number], low[self.likelihood.poi])
                except NanoMLError:
                    lost += 1
                    if lost > max(1, _MOST_LOST * len(data)):
                        raise
                else:
                    at[number], values[number] = left.at, left.twice_nll
            found.append((at, values))
        return Maxima(*(np.concatenate(each) for each in zip(*found, strict=True)))

    def _by_minuit(self, data: Floats, fixed: Mapping[int, float], start: Floats, lowest: float) -> Maximum:
        poi, found = self.likelihood.poi, maximum(self.likelihood, data, fixed, start)
        if poi in fixed or found.at[poi] >= lowest:
            return found
        return maximum(self.likelihood, data, {**fixed, poi: lowest}, start)

    def _one(self, data: Any, start: Any, *, curvature: Any, mask: Any, low: Any, high: Any) -> _State:
        """The search in one data set."""
        at_once = jax.value_and_grad(self.likelihood.twice_nll_at)

        def step_from(state: _State) -> Any:
            """The step to the minimum of a parabola, in parameters that may change, and the distance to it."""
            stuck = mask | ((state.at <= low) & (state.slope > 0)) | ((state.at >= high) & (state.slope < 0))
            slope = jnp.where(stuck, 0.0, state.slope)
            among = jnp.where(stuck[:, None] | stuck[None, :], jnp.eye(len(stuck)), state.curvature)
            step = -jnp.linalg.solve(among, slope)
            return step, -0.5 * slope @ step

        def goes_on(state: _State) -> Any:
            return (state.steps < _MOST_STEPS) & ~(state.distance < _GOAL)

        def advance(state: _State) -> _State:
            step, _ = step_from(state)
            at = jnp.where(mask, state.at, jnp.clip(state.at + state.shrink * step, low, high))
            value, slope = at_once(at, data)
            moved = at - state.at
            # a step into bins with less than no events has no value
            is_lower = (value <= state.value + 1e-4 * state.slope @ moved + 1e-10) & jnp.all(jnp.isfinite(slope))
            turned = jnp.where(mask, 0.0, slope - state.slope)
            bends = (turned @ moved > 1e-12) & is_lower
            pushed = state.curvature @ moved
            update = jnp.outer(turned, turned) / jnp.where(bends, turned @ moved, 1.0)
            update -= jnp.outer(pushed, pushed) / jnp.where(bends, moved @ pushed, 1.0)
            curvature = jnp.where(bends, state.curvature + update, state.curvature)
            kept = (jnp.where(is_lower, new, old) for new, old in zip((at, value, slope), state[:3], strict=True))
            new_at, new_value, new_slope = kept
            shrink = jnp.where(is_lower, 1.0, 0.3 * state.shrink)
            next_one = _State(new_at, new_value, new_slope, curvature, shrink, state.steps + 1, state.distance)
            return next_one._replace(distance=step_from(next_one)[1])

        value, slope = at_once(start, data)
        first = _State(start, value, slope, curvature, 1.0, 0, jnp.inf)
        return jax.lax.while_loop(goes_on, advance, first._replace(distance=step_from(first)[1]))


def _positive(curvature: Floats) -> Floats:
    """The nearest matrix whose parabola has a minimum."""
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    highest = max(float(values.max()), 1.0)
    return (vectors * np.maximum(np.abs(values), 1e-8 * highest)) @ vectors.T
