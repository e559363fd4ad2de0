"""The asymptotic formulae, by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("statistical_analysis.asymptotic")

import pyhf
from scipy.stats import chi2, norm

from services.workspaces import free, sample, several, three_signals
from statistical_analysis import asymptotic
from statistical_analysis.asymptotic import cls, contours
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum
from statistical_analysis.results import Contour


@pytest.mark.parametrize("q", [0.5, 3.9, 4.1, 9.0])
def test_cls_is_that_of_the_test_statistic_for_positive_signals(q: float) -> None:
    """Equations 65 and 66 of Cowan et al.: above the square of what is expected, the distribution is another one."""
    expected = 2.0
    if q <= expected**2:
        wanted = norm.sf(np.sqrt(q)) / norm.sf(np.sqrt(q) - expected)
    else:
        wanted = norm.sf((q + expected**2) / (2 * expected)) / norm.sf((q - expected**2) / (2 * expected))
    assert cls(q, expected) == pytest.approx(wanted)


def lines_of(likelihood: Likelihood) -> tuple[Contour, ...]:
    best = maximum(likelihood, likelihood.observed, twice=True)
    covariance = likelihood.covariance(likelihood.observed, best.at)
    return contours(likelihood, likelihood.observed, best, covariance)


def test_the_profile_likelihood_has_the_value_of_the_level_on_a_contour(monkeypatch: pytest.MonkeyPatch) -> None:
    """By pyhf's own fits of the same workspace; the third strength and nuisance parameters are free."""
    monkeypatch.setattr(asymptotic, "_RAYS", 12)
    content = three_signals({"SR": [101, 64, 21], "CR": [120, 60]}, "mu_A", "mu_B", "mu_C")
    likelihood = Likelihood(content)
    lines = lines_of(likelihood)
    assert [(it.strengths, it.level) for it in lines[::2]] == [
        (("mu_A", "mu_B"), 0.68), (("mu_A", "mu_C"), 0.68), (("mu_B", "mu_C"), 0.68),
    ]  # fmt: skip
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-3), precision="64b")
    settings = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
    model = pyhf.Workspace(content).model(measurement_index=0, modifier_settings=settings)
    observed, config = pyhf.Workspace(content).data(model), model.config
    bounds = [(max(low, -9.0), min(high, 30.0)) for low, high in likelihood.bounds]
    _, lowest = pyhf.infer.mle.fit(observed, model, par_bounds=bounds, return_fitted_val=True)
    for line in lines:
        places = [config.par_names.index(it) for it in line.strengths]
        fixed = [number in places for number in range(config.npars)]
        assert not any(line.is_cut)
        for first, second in [*zip(line.first, line.second, strict=True)][::5]:
            start = np.array(config.suggested_init())
            start[places] = first, second
            _, value = pyhf.infer.mle.fit(observed, model, [*start], bounds, fixed, return_fitted_val=True)
            assert value - lowest == pytest.approx(chi2.ppf(line.level, 2), abs=1e-3)


def test_a_contour_ends_where_strengths_do() -> None:
    """Fewer events than background: both strengths would be lower than any that leaves a tenth of it."""
    signals = [sample("A", [5, 0.5], free("mu_A")), sample("B", [1, 5], free("mu_B"))]
    content = several({"SR": [*signals, sample("D", [50, 4])]}, {"SR": [5, 0]}, "mu_A", "mu_B")
    likelihood = Likelihood(content)
    lowest = -0.9 * 4 / 5.5
    assert likelihood.bounds[[*likelihood.pois], 0] == pytest.approx([lowest, lowest])
    inner, outer = lines_of(likelihood)
    assert any(inner.is_cut)
    assert min(*outer.first, *outer.second) >= lowest
    assert max(outer.second) > max(inner.second) > lowest
