"""The likelihood of a pyhf model: Minuit maximises it, with derivatives by jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
import pyhf
from iminuit import Minuit
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from statistical_analysis.results import CONSTRAINED, FREE, STATISTICAL

Floats = NDArray[np.float64]
# smooth in the parameters; those that pyhf takes by default have a kink at the nominal value
_INTERPOLATION = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
# the goal is 0.002 of them, in units of twice the logarithm. Where bins become empty the likelihood has kinks, and Minuit's own will do
_TOLERANCES = (1e-4, 1e-2, 0.1)
_REACH = 50  # how far the signal strength may go, in units of its statistical uncertainty
_MOST_EVENTS = 25  # of a signal, at least: the limit is 3 events where nothing is expected


@dataclass(frozen=True)
class Maximum:
    """Where the likelihood is largest: parameters, float64 of shape (parameters,), and twice its negative logarithm."""

    at: Floats
    twice_nll: float


class Likelihood:
    """The likelihood of a workspace.

    Parameters
    ----------
    workspace
        A workspace of pyhf, whose first measurement names the signal strength as its parameter of interest.

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
    """

    def __init__(self, workspace: Mapping[str, Any]) -> None:
        pyhf.set_backend("jax", precision="64b")
        self._workspace = pyhf.Workspace(dict(workspace))
        self.model = self._workspace.model(modifier_settings=_INTERPOLATION)
        config = self.model.config
        self.poi, self.names = int(config.poi_index), list(config.par_names)
        self.start = np.array(config.suggested_init(), float)
        self.is_fixed = np.array(config.suggested_fixed(), bool)
        self.widths = np.full(len(self.names), np.inf)
        statistical = {name for name, kind in config.modifiers if kind in ("staterror", "shapesys")}
        self.kinds = [FREE] * len(self.names)
        for name in config.par_order:
            place, content = config.par_slice(name), config.param_set(name)
            if content.constrained:
                self.widths[place] = content.width()
                kind = STATISTICAL if name in statistical else CONSTRAINED
                self.kinds[place] = [kind] * content.n_parameters

    @cached_property
    def observed(self) -> Floats:
        """Observed events and auxiliary data, float64 of shape (bins + constraints,)."""
        return np.array(self._workspace.data(self.model), float)

    def expected(self, at: Floats) -> Floats:
        """Data, as `observed`, that are exactly what is expected at some parameters."""
        return np.array(self._expected(at), float)

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

    @cached_property
    def bounds(self) -> list[tuple[float, float]]:
        """The range of each parameter: the signal strength is as negative as no bin with less than no events allows."""
        found = [(float(low), float(high)) for low, high in self.model.config.suggested_bounds()]
        without, with_one = (self.by_sample(self.with_strength(it)).sum(axis=0) for it in (0.0, 1.0))
        signal = with_one - without
        filled = (signal > 0) & (with_one > 0)
        if not filled.any():
            raise NanoMLError(
                "The signal has no events in any channel of the fit: nothing can be said about its strength."
            )
        error = 1 / np.sqrt(np.sum(signal[filled] ** 2 / with_one[filled]))
        lowest = -0.9 * float(np.min(without[filled] / signal[filled]))
        highest = max(_REACH * error, _MOST_EVENTS / float(signal[filled].sum()), 2.0)
        found[self.poi] = (max(lowest, -_REACH * error), highest)
        return found

    def maximum(self, data: Floats, fixed: Mapping[int, float] | None = None, start: Floats | None = None) -> Maximum:
        """Maximise it, with some parameters `fixed`, by position; an error if Minuit does not converge."""
        begin, mask = np.array(self.start if start is None else start), self.is_fixed.copy()
        for position, value in (fixed or {}).items():
            begin[position], mask[position] = value, True
        low, high = np.array(self.bounds).T
        begin = np.where(mask, begin, np.clip(begin, low, high))
        minuit = Minuit(
            lambda at: float(self._value(at, data)),
            begin,
            grad=lambda at: np.array(self._gradient(at, data), float),
            g2=lambda _: self._curvatures,
        )
        minuit.errordef, minuit.strategy = Minuit.LEAST_SQUARES, 0
        minuit.limits = [(None, None) if it else bounds for it, bounds in zip(mask, self.bounds, strict=True)]
        minuit.fixed = mask.tolist()
        minuit.errors = np.sqrt(2 / self._curvatures)
        for minuit.tol in _TOLERANCES:
            minuit.migrad()
            if minuit.valid:
                return Maximum(np.array(minuit.values, float), float(minuit.fval))
        distance = minuit.fmin.edm if minuit.fmin else np.nan
        raise NanoMLError(
            f"The fit does not converge (estimated distance to the minimum: {distance:.2g}). Look for bins without expected "
            "events, and for variations that are far too large."
        )

    def covariance(self, data: Floats, at: Floats) -> Floats:
        """The covariance matrix of the parameters at a maximum, float64 of shape (parameters, parameters); 0 for fixed ones.

        If the data do not bend the likelihood, as those without any event at a signal strength of 0, what is expected there does.
        """
        free = np.flatnonzero(~self.is_fixed)
        found = np.zeros((len(at), len(at)))
        for given in (data, self.expected(at)):
            hessian = np.array(self._hessian(at, given), float)[np.ix_(free, free)] / 2
            try:
                np.linalg.cholesky(hessian)
            except np.linalg.LinAlgError:
                continue
            found[np.ix_(free, free)] = np.linalg.inv(hessian)
            return found
        flat = free[np.abs(np.linalg.eigh(hessian)[1][:, 0]).argmax()]
        raise NanoMLError(f"The likelihood has no maximum: {self.names[flat]} can have any value.")

    def twice_nll_at(self, at: Any, data: Any) -> Any:
        """Twice the negative logarithm of the likelihood at some parameters, as a function that jax can transform."""
        return pyhf.infer.mle.twice_nll(at, data, self.model)[0]

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
    def _value(self) -> Any:
        return jax.jit(self.twice_nll_at)

    @cached_property
    def _gradient(self) -> Any:
        return jax.jit(jax.grad(self.twice_nll_at))

    @cached_property
    def _hessian(self) -> Any:
        return jax.jit(jax.hessian(self.twice_nll_at))

    @cached_property
    def _curvatures(self) -> Floats:
        """Second derivatives before the fit: with them Minuit needs tens of steps, without them thousands of calls."""
        begin = self.with_strength(1.0)
        found = np.diag(np.array(self._hessian(begin, self.expected(begin)), float))
        return np.where(found > 0, found, 1.0)

    def saturated(self, data: Floats) -> float:
        """Twice the negative logarithm of the likelihood of a model that expects exactly the observed events."""
        return float(jax.jit(self._saturated)(data))

    def _saturated(self, data: Any) -> Any:
        bins = self.model.config.nmaindata
        counts, auxiliary = data[:bins], data[bins:]
        main = pyhf.tensorlib.sum(pyhf.tensorlib.poisson_logpdf(counts, counts))
        return -2 * (main + self.model.constraint_logpdf(auxiliary, pyhf.tensorlib.astensor(self.start)))
