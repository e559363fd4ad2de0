"""The likelihood of a pyhf model, with derivatives by jax."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyhf
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError, listed
from statistical_analysis.results import CONSTRAINED, FREE, STATISTICAL
from statistical_analysis.unbinned import Distributions, Points
from statistical_analysis.workspace import OURS

Floats = NDArray[np.float64]
# smooth in the parameters; those that pyhf takes by default have a kink at the nominal value
_INTERPOLATION = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
_WALL = 1e6  # how steeply it falls where a bin without events has less than nothing
_PART = 0.9  # of the background of a bin that a negative signal may take away
_ROUNDING = 1e-4
_SMALLEST = 1e-6  # expected events over observed ones, below which its logarithm goes on as a parabola
_MOST = 8  # bins in a sentence
_COLUMNS = 8  # of second derivatives, found together
_AT_ONCE, _NUMBERS = 32, 20_000_000  # points that are looked at together, and numbers in their events
_SINGULAR = 1e-9  # second derivatives by parameters in units of their own errors: what bends less is rounding
_REACH = 1e6  # statistical uncertainties of the signal strength
_SAME_SIDE = 0.1  # standard deviations of the data


class Likelihood:
    """The likelihood of a workspace, relative to that of a model which expects exactly what is observed.

    Parameters
    ----------
    workspace
        A workspace of pyhf, whose measurements name signal strengths as their parameters of interest. The settings of the first one hold.
    strengths
        The range of each signal strength. By default it is that of the workspace; in one that NanoML made, it ends below where a bin would
        have less than a tenth of its background, if all strengths were as low.
    points
        The events of those channels that are unbinned, which have one bin in the workspace.

    Attributes
    ----------
    names, kinds
        Names and kinds of the parameters; one of STATISTICAL kind has the number of its bin in brackets.
    start, widths
        Values and uncertainties before the fit, float64 of shape (parameters,); the width of a free one is infinite.
    poi, pois
        The position of the signal strength that is looked at, and those of all.
    is_fixed
        Which parameters no fit changes, bool of shape (parameters,).
    counts
        How many numbers of a data set are events in bins and auxiliary data.
    distributions
        How events are distributed in unbinned channels; None if there are none.
    bounds
        The range of each parameter, float64 of shape (parameters, 2).
    """

    def __init__(
        self, workspace: Mapping[str, Any], strengths: tuple[float, float] | None = None, points: Points | None = None
    ) -> None:
        pyhf.set_backend("numpy", precision="64b")  # jax would compile each operation on numbers of the model alone
        self._workspace = pyhf.Workspace(dict(workspace))
        self.model = self._workspace.model(measurement_index=0, modifier_settings=_INTERPOLATION)
        pyhf.events.disable("tensorlib_changed")  # the model's numbers stay as they are
        pyhf.set_backend("jax", precision="64b")
        pyhf.events.enable("tensorlib_changed")
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
                self.kinds[place] = [STATISTICAL if name in statistical else CONSTRAINED] * content.n_parameters
        named = dict.fromkeys(it["config"]["poi"] for it in workspace["measurements"])
        others = [self.names.index(name) for name in named if name in self.names and name != config.poi_name]
        self.pois = (self.poi, *(it for it in others if self.kinds[it] == FREE and not self.is_fixed[it]))
        self.start[[*self.pois[1:]]] = 1.0
        is_strength = np.isin(np.arange(len(self.names)), self.pois)
        background = self.by_sample(np.where(is_strength, 0.0, self.start)).sum(axis=0)
        # what is counted elsewhere may begin with nothing
        is_free = np.array([kind == FREE for kind in self.kinds]) & ~is_strength & ~self.is_fixed
        for each in map(self.of, self.pois):
            ends = [each.with_strength(it) for it in (0.0, 1.0)]
            without, expected = (self.by_sample(it).sum(axis=0) for it in ends)
            least, most = (self.by_sample(np.where(is_free, self.bounds[:, 1], it)).sum(axis=0) for it in ends)
            if not np.any(expected != without):
                what = f"nothing can be said about {each.called.replace('the signal', 'its')}"
                raise NanoMLError(f"The signal has no events in any channel of the fit: {what}.")
            some = expected > without
            bare = listed(self._bins((least <= 0) & some), _MOST)
            if bare:
                what = "any event there would be a discovery. Join bins."
                raise NanoMLError(f"A signal without any background is expected in {bare}: {what}")
            if strengths is not None or workspace["measurements"][0]["name"] == OURS:
                highest = _PART * float(np.min(background[some] / (expected - background)[some], initial=np.inf))
                self.bounds[each.poi] = strengths or (0.0 - highest, np.inf)
        self._is_empty = most <= 0
        self.counts = len(self._workspace.data(self.model))
        self.distributions = None
        if points is not None:
            bins = {name: config.channel_slices[name].start for name in points.columns}
            self.distributions = Distributions(points, config.samples, self.names, bins)
        self._axes: dict[bytes, Floats] = {}

    @property
    def called(self) -> str:
        """The strength that is looked at, in words: by its name if there are several."""
        return self.names[self.poi] if len(self.pois) > 1 else "the signal strength"

    def of(self, poi: int) -> Likelihood:
        """The same, which looks at another signal strength."""
        found = copy.copy(self)
        found.poi = poi
        return found

    @cached_property
    def observed(self) -> Floats:
        """Observed events, auxiliary data and those of `distributions`, float64 of shape (bins + constraints + 2 events,)."""
        found = np.array(self._workspace.data(self.model), float)
        impossible = self._bins(self._is_empty & (found[: len(self._is_empty)] > 0))
        if impossible:
            raise NanoMLError(
                f"Events are observed in {listed(impossible, _MOST)}, where none are expected, so no fit describes them. Remove these bins."
            )
        return np.append(found, self.distributions.observed) if self.distributions else found

    def _bins(self, chosen: NDArray[np.bool_]) -> list[str]:
        """Bins in words."""
        places = self.model.config.channel_slices.items()
        return [f"{name} bin {number + 1}" for name, it in places for number in np.flatnonzero(chosen[it])]

    def expected(self, at: Floats) -> Floats:
        """Data, as `observed`, that are exactly what is expected at some parameters."""
        found = np.array(self._expected(at), float)
        bins = int(self.model.config.nmaindata)
        found[:bins] = np.maximum(found[:bins], 0.0)
        return np.append(found, self.distributions.asimov(self.by_sample(at), at)) if self.distributions else found

    def with_strength(self, strength: float) -> Floats:
        """The parameters before the fit, with this signal strength."""
        found = self.start.copy()
        found[self.poi] = strength
        return found

    def by_sample(self, at: Floats) -> Floats:
        """Expected events, float64 of shape (samples, bins of all channels); the samples are those of `model.config`."""
        return np.array(self._by_sample(at), float)

    def finest(self, at: Floats) -> Floats:
        """Expected events of all samples in all bins, but those of unbinned channels at each event of their reference."""
        events = self.by_sample(at)
        if self.distributions is None:
            return events.sum(axis=0)
        binned = np.delete(events.sum(axis=0), self.distributions.bins)
        return np.append(binned, self.distributions.at_reference(events, at))

    def slopes(self, at: Floats) -> Floats:
        """Derivatives of `by_sample` by the parameters, float64 of shape (samples, bins of all channels, parameters)."""
        return np.array(self._slopes(at), float)

    def lowest(self, at: Floats, data: Floats) -> float:
        """The end of the range of the signal strength for a data set, if the other parameters are these: no density is negative."""
        if self.distributions is None:
            return float(self.bounds[self.poi, 0])
        ends = np.tile(at, (2, 1))
        ends[:, self.poi] = 0.0, 1.0
        background, events = (self.by_sample(it) for it in ends)
        low = self.distributions.lowest_strength(background, events, ends[0], data[self.counts :])
        return float(max(low, self.bounds[self.poi, 0]))

    def is_possible(self, at: Floats) -> bool:
        """Whether no bin expects less than no events, but for rounding."""
        events = self.by_sample(at).sum(axis=0)
        return bool(events.min() >= -_ROUNDING * max(float(events.max()), 1.0))

    @property
    def precision(self) -> float:
        """The uncertainty of the signal strength, roughly: by the statistics of what is expected."""
        return float(self.scales[self.poi])

    @property
    def highest(self) -> float:
        """The highest signal strength at which a limit is looked for."""
        return float(min(self.bounds[self.poi, 1], _REACH * self.precision))

    def at_bounds(self, at: Floats) -> list[int]:
        """Positions of the parameters that are at the end of their range."""
        reach = 1e-3 * np.where(np.isfinite(self.widths), self.widths, np.maximum(np.abs(at), 1e-3))
        near = (at - self.bounds[:, 0] < reach) | (self.bounds[:, 1] - at < reach)
        return np.flatnonzero(near & ~self.is_fixed).tolist()

    def pushed(self, at: Floats, slope: Floats) -> NDArray[np.bool_]:
        """The parameters at the end of their range that it would be lower beyond, by the slope of twice the negative logarithm."""
        low, high = self.bounds.T
        return ((at <= low) & (slope > 0)) | ((at >= high) & (slope < 0))

    def displaced(self, at: Floats, number: int) -> Floats:
        """Where a second fit begins: on the other side of the values before the fit, where another maximum may be.

        `at` has the shape (parameters,) or (data sets, parameters); another `number` gives another start.
        """
        random = np.random.default_rng(number)
        reach = np.where([kind == CONSTRAINED for kind in self.kinds], self.widths, self.scales)
        return self.start + np.where(at > self.start, -reach, reach) * np.abs(random.normal(1.0, 0.3, at.shape))

    def covariance(self, data: Floats, at: Floats) -> Floats:
        """The covariance matrix of the parameters at a maximum, float64 of shape (parameters, parameters); 0 for fixed ones.

        If the data do not bend the likelihood, as those without any event at a signal strength of 0, what is expected there does. At the
        end of a range beyond which it would be larger, it falls in a line: the parabola has the value of one where this line has it.
        """
        free = np.flatnonzero(~self.is_fixed)
        found, weakest = np.zeros((len(at), len(at))), list[Floats]()
        slope = np.where(self.pushed(at, slope := np.asarray(self.value_and_slope(at, data)[1])), slope, 0.0)[free]
        for given in (lambda: data, lambda: self.expected(at), lambda: self.expected(self.with_strength(1.0))):
            hessian = self.second_derivatives(at, given(), 0.0)[np.ix_(free, free)] / 2 + np.diag(slope**2)
            bends = np.diag(hessian)
            scales = np.where(bends > 0, bends, 1.0) ** -0.5
            values, vectors = np.linalg.eigh(hessian * np.outer(scales, scales))
            if values[0] > _SINGULAR:
                found[np.ix_(free, free)] = np.linalg.inv(hessian)
                return found
            weakest.append(vectors[:, 0])
        flat = free[np.abs(weakest[0]) > np.abs(weakest[0]).max() / 2]
        names = listed([self.names[it] for it in flat], _MOST)
        raise NanoMLError(f"The likelihood has no maximum: {names} can have any value{' together' * (len(flat) > 1)}.")

    def twice_nll_at(self, at: Any, data: Any, wall: Any = _WALL, by_sample: Any = None) -> Any:
        """Twice the negative logarithm of the likelihood at some parameters, as a function that jax can transform.

        It has a value everywhere: the term of a bin with less than next to nothing goes on as a parabola, so that a search that looks
        there comes back. Where nothing was observed that is a wall, which second derivatives at the wall must not count.
        """
        bins = self.model.config.nmaindata
        counts, auxiliary = data[:bins], data[bins : self.counts]
        by_sample = self._events(at) if by_sample is None else by_sample
        events = by_sample.sum(axis=0)
        least = _SMALLEST * counts
        known = jnp.where(events > least, events, jnp.maximum(least, 1e-300))
        far = jnp.minimum(events - least, 0.0)
        ratio = jnp.where(counts > 0, counts, 1.0) / known
        terms = known - counts + jnp.where(counts > 0, counts * jnp.log(ratio), 0.0)
        bend = jnp.where(counts > 0, counts / jnp.where(counts > 0, known, 1.0) ** 2, wall)
        beyond = far * (1 - jnp.where(counts > 0, ratio, 0.0)) + 0.5 * bend * far**2
        found = 2 * jnp.sum(terms + beyond) - 2 * self._constraints(auxiliary, at)
        return found + self.distributions.twice_nll(by_sample, at, data[self.counts :]) if self.distributions else found

    def saturated(self, data: Floats) -> float:
        """Twice the negative logarithm of the likelihood of a model that expects exactly the observed events."""
        auxiliary = data[int(self.model.config.nmaindata) : self.counts]
        return -2 * float(jax.jit(self._constraints)(auxiliary, self.start))  # all of it is compiled at once

    def _constraints(self, auxiliary: Any, at: Any) -> Any:
        return self.model.constraint_logpdf(auxiliary, at) if len(auxiliary) else 0.0  # pyhf fails if there are none

    @cached_property
    def tested(self) -> NDArray[np.bool_]:
        """The parameters that are moved alone: with one of a single bin the likelihood has one maximum, if the others are fixed."""
        return np.array([kind == CONSTRAINED for kind in self.kinds]) & ~self.is_fixed

    @cached_property
    def turns(self) -> Floats:
        """Where the effects of parameters turn, if they are parabolas; float64 of shape (parameters,).

        It is not a number unless up and down change expected events to the same side, by so much that there may be two maxima. With changes
        of a on the average and of s to the same side, second derivatives are 2 + sum 2 a^2 / n + sum 4 s r / sqrt(n), where r are residuals
        of about one: they become negative only if the root of the sum of s^2 / n is not small.
        """
        found, begin = np.full(len(self.names), np.nan), self.with_strength(1.0)
        events = self.finest(begin)
        weights = 1 / np.maximum(events, 1e-9)
        for number in np.flatnonzero(self.tested):
            step = self.widths[number] * np.eye(len(begin))[number]
            up, down = (self.finest(begin + sign * step) for sign in (1, -1))
            side = (up + down) / 2 - events
            if (size := side @ (weights * side)) > _SAME_SIDE**2:
                found[number] = self.start[number] - self.widths[number] * ((up - down) @ (weights * side)) / (4 * size)
        return found

    @cached_property
    def curvature(self) -> Floats:
        """Second derivatives where a signal is as expected."""
        begin = self.with_strength(1.0)
        return self.second_derivatives(begin, self.expected(begin), 0.0)

    @cached_property
    def scales(self) -> Floats:
        """The uncertainty of each parameter there, but for correlations."""
        bends, known = np.diag(self.curvature), np.where(np.isfinite(self.widths), self.widths, 1.0)
        return np.where(bends > 0, np.sqrt(2 / np.where(bends > 0, bends, 1.0)), known)

    def axes(self, free: NDArray[np.int64]) -> Floats:
        """Sums of parameters that are uncorrelated there, if only these are free, float64 of shape (parameters, sums)."""
        key = free.tobytes()
        if key not in self._axes:
            scales = self.scales[free]
            bends = self.curvature[np.ix_(free, free)] * np.outer(scales, scales) / 2
            self._axes[key] = scales[:, None] * np.linalg.inv(np.linalg.cholesky(bends + 1e-9 * np.eye(len(free)))).T
        return self._axes[key]

    def near(self, covariance: Floats) -> Likelihood:
        """The same, whose searches take `axes` from the covariance matrix of a maximum."""
        found = copy.copy(self)
        found.curvature, found._axes = np.asarray(2 * np.linalg.inv(covariance + np.diag(1.0 * self.is_fixed))), {}
        return found

    def values(self, points: Floats, data: Floats) -> Floats:
        """Twice the negative logarithm at some points, float64 of shape (points,); as many at once each time, for one compilation."""
        config, size = self.model.config, len(points)
        events = len(config.samples) * int(config.nmaindata) * (len(config.modifiers) + 1)
        some = max(1, min(_AT_ONCE, _NUMBERS // events))
        padded = np.concatenate([points, np.repeat(points[-1:], -size % some, axis=0)])
        found = [np.array(self._many(padded[it : it + some], data)) for it in range(0, size, some)]
        return np.concatenate([*found, np.zeros(0)])[:size]

    def alone(self, at: Floats, places: NDArray[np.int64], new: Floats, data: Floats) -> Floats:
        """Twice the negative logarithm if one parameter is moved alone, for new values of shape (moves, parameters), as `values`."""
        padded = np.append(np.arange(len(places)), np.zeros(-len(places) % _COLUMNS, int))
        some = (padded[it : it + _AT_ONCE] for it in range(0, len(padded), _AT_ONCE))
        found = [np.array(self._alone(at, places[it], new[:, it], data)) for it in some]
        return np.concatenate([np.zeros((len(new), 0)), *found], axis=1)[:, : len(places)]

    def _events(self, at: Any) -> Any:
        return self.model.main_model.expected_data(at, return_by_sample=True)

    _expected = cached_property[Any](lambda self: jax.jit(self.model.expected_data))
    _by_sample = cached_property[Any](lambda self: jax.jit(self._events))
    _slopes = cached_property[Any](lambda self: jax.jit(jax.jacfwd(self._events)))
    _many = cached_property[Any](lambda self: jax.jit(jax.vmap(self.twice_nll_at, (0, None))))

    @cached_property
    def value_and_slope(self) -> Any:
        """Twice the negative logarithm at some parameters, with some data, and its derivatives by the parameters."""
        return jax.jit(jax.value_and_grad(self.twice_nll_at))

    @cached_property
    def _alone(self) -> Any:
        """As `twice_nll_at`, but what one parameter adds, or multiplies by, is replaced alone: all are moved together for that."""
        model, rows = self.model.main_model, list[Any]()
        for kinds in (model._delta_mods, model._factor_mods):
            names = [name for kind in kinds for name, it in self.model.config.modifiers if it == kind]
            rows.append(jnp.array([names.index(it) if it in names else len(names) for it in self.names]))

        def parts(at: Any) -> Any:
            (added, factors), none = model._modifications(at), jnp.zeros_like(model.nominal_rates)
            return jnp.concatenate([*added, none])[:, :, 0], jnp.concatenate([*factors, none + 1])[:, :, 0]

        def alone(at: Any, places: Any, new: Any, data: Any) -> Any:
            added, factors = parts(at)
            events, factor = model.nominal_rates[0, :, 0] + added.sum(axis=0), factors.prod(axis=0)

            def one(place: Any, value: Any, plus: Any, times: Any) -> Any:
                row, line = (it[place] for it in rows)
                by_sample = (events + plus[row] - added[row]) * factor * times[line] / factors[line]
                return self.twice_nll_at(at.at[place].set(value), data, by_sample=by_sample)

            each = jax.vmap(one, (0, 0, None, None))
            return jax.lax.map(lambda it: each(places, it, *parts(at.at[places].set(it))), new)

        return jax.jit(alone)

    def second_derivatives(self, at: Floats, data: Floats, wall: float = _WALL) -> Floats:
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
