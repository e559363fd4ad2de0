"""The likelihood of pyhf, maximised by another method from many starts, and what follows from it: what our fits are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
import pyhf
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from MLTools.NanoML.config.fit import NEVER
from services.workspaces import Workspace
from statistical_analysis.inference import limit_and_significance
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum

Floats = NDArray[np.float64]
_INTERPOLATION = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
_FAR, _ROUNDING = 1e12, 1e-5  # the second: of expected events
LOG_LIKELIHOOD, STRENGTH, SIGNIFICANCE, LIMIT = 1e-3, 0.02, 0.01, 0.01
"""What may differ: twice the logarithm; the strength in standard deviations; standard deviations; relative."""


@dataclass(frozen=True)
class Minimum:
    """Where twice the negative logarithm of the likelihood is lowest, and its value there."""

    at: Floats
    value: float


class Reference:
    """The likelihood of a workspace, with pyhf's bounds but for the strength, which has a range if one is given."""

    def __init__(self, workspace: Workspace, strengths: tuple[float, float] | None = None, starts: int = 12) -> None:
        pyhf.set_backend("numpy", precision="64b")
        whole = pyhf.Workspace(workspace)
        self.model = whole.model(modifier_settings=_INTERPOLATION)
        pyhf.events.disable("tensorlib_changed")  # the model's numbers stay those of NumPy, which compiles nothing
        pyhf.set_backend("jax", precision="64b")
        pyhf.events.enable("tensorlib_changed")
        self.data = np.array(whole.data(self.model), float)
        config = self.model.config
        self.poi, self.names, self._starts = int(config.poi_index), list(config.par_names), starts
        self.bounds = np.array(config.suggested_bounds(), float)
        if strengths is not None:
            self.bounds[self.poi] = strengths
        self.start, self.fixed = np.array(config.suggested_init(), float), np.array(config.suggested_fixed(), bool)
        self._known: dict[tuple[bytes, float | None], Minimum] = {}
        self.widths = np.array([0.1 * max(abs(it), 1.0) for it in self.start])
        for name in config.par_order:
            if config.param_set(name).constrained:
                self.widths[config.par_slice(name)] = config.param_set(name).width()

    @cached_property
    def _both(self) -> Any:
        return jax.jit(jax.value_and_grad(self._twice))

    def _twice(self, at: Any, data: Any) -> Any:
        """Twice the negative logarithm; where a bin is expected to be negative there is no probability, but pyhf has a value."""
        lowest = self.model.main_model.expected_data(at).min()
        return jax.numpy.where(lowest < -_ROUNDING, _FAR, pyhf.infer.mle.twice_nll(at, data, self.model)[0])

    @cached_property
    def _hessian(self) -> Any:
        return jax.jit(jax.hessian(self._twice))

    @cached_property
    def _expected(self) -> Any:
        return jax.jit(self.model.expected_data)

    def expected(self, at: Floats) -> Floats:
        return np.array(self._expected(at), float)

    def minimum(self, data: Floats, strength: float | None = None, known: Minimum | None = None) -> Minimum:
        """The lowest of the minima that are reached from many starts."""
        key = (data.tobytes(), strength)
        if key not in self._known:
            with threadpool_limits(1):  # matrices are small, and threads wait for each other
                self._known[key] = self._lowest(data, strength, known)
        return self._known[key]

    def _lowest(self, data: Floats, strength: float | None, known: Minimum | None) -> Minimum:
        mask, begin = self.fixed.copy(), self.start.copy()
        if strength is not None:
            begin[self.poi], mask[self.poi] = strength, True
        random, starts = np.random.default_rng(7), [begin]
        if known is not None:
            starts.append(np.where(mask, begin, known.at))
        for number in range(self._starts if known is None else 4):
            shift = random.normal(size=len(begin)) * (0.3 if number % 3 == 0 else 1.0) * self.widths
            if strength is None:  # strengths of any size
                shift[self.poi] = random.choice([-1, 1]) * 10 ** random.uniform(-1, 1)
            starts.append(np.where(mask, begin, begin + shift))
        found = [self._descend(data, np.clip(it, *self.bounds.T) if strength is None else it, mask) for it in starts]
        return min(found, key=lambda it: it.value)

    def _descend(self, data: Floats, begin: Floats, mask: NDArray[np.bool_]) -> Minimum:
        """L-BFGS in parameters that are scaled by the second derivatives, then Newton's steps."""
        free = np.flatnonzero(~mask)

        def whole(part: Floats) -> Floats:
            at = begin.copy()
            at[free] = part
            return at

        if not free.size:
            return Minimum(begin, float(self._both(begin, data)[0]))
        at, value = begin, _FAR
        for _ in range(2):
            curvature = np.diag(np.array(self._hessian(at, data)))[free]
            scale = np.where(np.isfinite(curvature) & (curvature > 1e-12), np.abs(curvature) + 1e-300, 1.0) ** -0.5
            scale = np.minimum(scale, 10 * np.maximum(self.widths[free], np.abs(at[free])) + 1.0)
            origin = at[free].copy()

            def scaled(z: Floats, origin: Floats = origin, scale: Floats = scale) -> tuple[float, Floats]:
                value, slope = self._both(whole(origin + scale * z), data)
                slope = np.array(slope)[free] * scale
                if not (np.isfinite(value) and np.isfinite(slope).all()):
                    return _FAR, np.zeros_like(z)
                return float(value), slope

            limits = [tuple((it - origin[i]) / scale[i] for it in self.bounds[n]) for i, n in enumerate(free)]
            done = minimize(
                scaled, np.zeros(len(free)), jac=True, method="L-BFGS-B", bounds=limits,
                options={"maxiter": 300, "maxfun": 400, "ftol": 1e-7, "gtol": 1e-4},
            )  # fmt: skip
            gain, at, value = value - float(done.fun), whole(origin + scale * done.x), float(done.fun)
            if gain < 1e-3:
                break
        return self._newton(data, at, value, free)

    def _newton(self, data: Floats, at: Floats, value: float, free: NDArray[np.int64]) -> Minimum:
        low, high = self.bounds.T
        for _ in range(20):
            slope = np.array(self._both(at, data)[1])
            held = ((at <= low) & (slope > 0)) | ((at >= high) & (slope < 0))
            inside = np.array([n for n in free if not held[n]], int)
            hessian = np.array(self._hessian(at, data))[np.ix_(inside, inside)]
            if not inside.size or not np.isfinite(hessian).all():
                break
            try:
                step = -np.linalg.solve(hessian, slope[inside])
            except np.linalg.LinAlgError:
                break
            moved = at.copy()
            moved[inside] = np.clip(at[inside] + step, low[inside], high[inside])
            better = float(self._both(moved, data)[0])
            if not better < value:
                break
            gain, at, value = value - better, moved, better
            if gain < 1e-9:
                break
        return Minimum(at, value)

    def error(self, best: Minimum, data: Floats) -> float:
        """The error of the strength, by second derivatives."""
        free = np.flatnonzero(~self.fixed)
        hessian = np.array(self._hessian(best.at, data))[np.ix_(free, free)] / 2
        variance = np.linalg.pinv(hessian)[[*free].index(self.poi), [*free].index(self.poi)]
        return float(np.sqrt(max(variance, 0.0)))

    def cls(self, strength: float, best: Minimum, data: Floats | None, band: float = 0.0) -> float:
        """CLs of observed data (None: of the median without a signal, or a band of it) for q tilde, by asymptotic formulae."""
        observed = self.data if data is None else data
        without = self.minimum(observed, 0.0, best)
        asimov = self.expected(without.at)
        at_zero = self.minimum(asimov, 0.0, without)
        distance = np.sqrt(max(self.minimum(asimov, strength, without).value - at_zero.value, 0.0))
        if data is None:
            return float(norm.sf(distance - band) / norm.cdf(band))
        lowest = best.value if best.at[self.poi] > 0 else without.value
        fixed = self.minimum(data, strength, best)
        q = max(fixed.value - lowest, 0.0) if strength > best.at[self.poi] else 0.0
        root = np.sqrt(q)
        shift = root - distance if q <= distance**2 else (q - distance**2) / max(2 * distance, 1e-9)
        return float(np.exp(norm.logsf(shift + distance) - norm.logsf(shift)))


def disagreements(workspace: Workspace) -> Iterator[str]:
    """Where results with observed data differ from the reference: a kind, and the numbers."""
    likelihood = Likelihood(workspace)
    found = maximum(likelihood, likelihood.observed, twice=True)
    limit, discovery, *_ = limit_and_significance(likelihood, likelihood.observed, found, is_blind=False, toys=NEVER)
    peer, ours = Reference(workspace, tuple(likelihood.bounds[likelihood.poi])), found.at
    best = peer.minimum(peer.data)
    mine = float(peer._both(ours, peer.data)[0])
    if mine > best.value + LOG_LIKELIHOOD:
        yield f"maximum: 2 ln L is lower by {mine - best.value:.4g}"
    if mine < best.value - LOG_LIKELIHOOD:
        yield f"reference: 2 ln L is lower by {best.value - mine:.4g}"
        best = Minimum(ours, mine)
    own = likelihood.covariance(likelihood.observed, found.at)[likelihood.poi, likelihood.poi] ** 0.5
    strength, error = found.at[likelihood.poi], max(own, peer.error(best, peer.data), 1e-9)
    distance = abs(strength - best.at[peer.poi]) / error
    if distance > STRENGTH:
        yield f"strength: {strength:.5g}, {best.at[peer.poi]:.5g}: {distance:.3g} standard deviations"
    for step in (-2, -1, 1, 2, 4):
        fixed = float(strength + step * own)
        if likelihood.bounds[likelihood.poi, 0] < fixed < likelihood.bounds[likelihood.poi, 1]:
            at = maximum(likelihood, likelihood.observed, {likelihood.poi: fixed}, ours).at
            less = float(peer._both(at, peer.data)[0]) - peer.minimum(peer.data, fixed, Minimum(at, _FAR)).value
            if less > LOG_LIKELIHOOD:
                yield f"fixed strength: 2 ln L is lower by {less:.4g} at {fixed:.5g}"
    without = peer.minimum(peer.data, 0.0, best)
    significance = np.sqrt(max(without.value - best.value, 0.0)) if best.at[peer.poi] > 0 else 0.0
    assert discovery.observed is not None
    if abs(discovery.observed - significance) > SIGNIFICANCE:
        yield f"significance: {discovery.observed:.4g}, {significance:.4g}"
    signal = peer.minimum(peer.data, 1.0, best)
    asimov = peer.expected(signal.at)
    one, zero = (peer.minimum(asimov, it, signal).value for it in (1.0, 0.0))
    expected = np.sqrt(max(zero - one, 0.0))
    if abs(discovery.expected - expected) > SIGNIFICANCE:
        yield f"expected significance: {discovery.expected:.4g}, {expected:.4g}"
    if limit is None:
        edge = peer.bounds[peer.poi][1]
        edge = likelihood.highest if not np.isfinite(edge) else edge
        values = [peer.cls(edge, best, it) for it in (peer.data, None)]
        values.append(peer.cls(edge, best, None, band=2))
        if max(values) < 0.05:
            yield f"no limit: but CLs at {edge:.4g} is {values[0]:.4g}"
        return
    assert limit.observed is not None
    for name, data, value in (("limit", peer.data, limit.observed), ("expected limit", None, limit.expected[2])):
        above, below = (peer.cls(value * factor, best, data) for factor in (1 + LIMIT, 1 - LIMIT))
        if not above < 0.05 < below:
            yield f"{name}: {value:.5g}, with CLs of {below:.4g} and {above:.4g} 1 % below and above"
