from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("statistical_analysis.toys.intervals")

from scipy.optimize import brentq
from scipy.stats import norm, poisson

from services.workspaces import Workspace, sample, simple
from services.workspaces import norm as lognormal
from statistical_analysis.inference import infer
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum
from statistical_analysis.report.verdict import verdict
from statistical_analysis.toys.batch import ManyMaxima
from statistical_analysis.toys.intervals import background_events, throw

pytestmark = pytest.mark.usefixtures("compiled_once")
UNBLINDED = "unblinded by me@here on 2026-01-01"


def counting(observed: float, signal: float, background: float) -> Workspace:
    """One bin, whose background is known."""
    return simple([observed], [signal], [background], lognormal("norm", 1 + 1e-6, 1 - 1e-6))


@pytest.mark.exhaustive("intervals by toys against formulae")
def test_a_counting_experiment_has_its_exact_limits_and_significance() -> None:
    found: Any = infer(counting(5, 2.0, 3.0), UNBLINDED, is_blind=False)
    assert found.toys == 5000
    assert found.background_events == pytest.approx(3.0)

    def exact(count: int) -> float:
        """Events of the signal of which this count or less has a probability of 5 % of that without a signal."""
        return float(brentq(lambda it: poisson.cdf(count, 3 + it) / poisson.cdf(count, 3) - 0.05, 0.1, 40)) / 2

    # the most probable counts without a signal, at -1, 0 and 1 standard deviations
    counts = [int(poisson.ppf(norm.cdf(it), 3)) for it in (-1, 0, 1)]
    assert found.limit.expected[1:4] == pytest.approx([exact(it) for it in counts], rel=0.05)
    assert found.limit.observed == pytest.approx(exact(5), rel=0.04)
    assert 0.002 < found.limit.observed_error / exact(5) < 0.03
    assert found.significance.observed == pytest.approx(norm.isf(poisson.sf(4, 3)), abs=0.05)
    assert 0.001 < found.significance.observed_error < 0.03
    assert "at 95 % CL by toys" in found.summary
    asymptotic = infer(counting(5, 2.0, 3.0), UNBLINDED, is_blind=False, toys="never")
    assert asymptotic.toys == 0
    assert asymptotic.limit.observed_error is asymptotic.significance.observed_error is None
    states = [{it.question: it.state for it in verdict(each, [])} for each in (found, asymptotic)]
    assert [each["Enough events for asymptotic formulae?"] for each in states] == ["good", "bad"]


@pytest.mark.exhaustive("intervals by toys against formulae")
def test_with_many_events_toys_give_what_the_formulae_do() -> None:
    asymptotic = infer(counting(200, 20.0, 200.0), UNBLINDED, is_blind=False)
    assert asymptotic.toys == 0
    found: Any = infer(counting(200, 20.0, 200.0), UNBLINDED, is_blind=False, toys=4000)
    assert found.toys == 4000
    # at -2 standard deviations, CLs is a quotient of tails: its error is larger
    assert found.limit.expected[1:] == pytest.approx(asymptotic.limit.expected[1:], rel=0.08)
    assert max(found.limit.expected_errors[1:]) < 0.08
    assert found.limit.observed == pytest.approx(asymptotic.limit.observed, rel=0.05)
    assert found.significance.expected == pytest.approx(asymptotic.significance.expected, abs=0.08)


def test_toys_that_are_too_rare_leave_the_significance_asymptotic() -> None:
    asymptotic = infer(counting(30, 10.0, 3.0), UNBLINDED, is_blind=False, toys="never")
    found = infer(counting(30, 10.0, 3.0), UNBLINDED, is_blind=False, toys=200)
    assert found.significance.observed == asymptotic.significance.observed
    assert found.significance.observed_error is None


def test_events_count_where_the_signal_is(few_events: dict[str, Any]) -> None:
    assert background_events(Likelihood(counting(3, 2.0, 3.0)), 1.0) == pytest.approx(3)
    likelihood = Likelihood(few_events)
    s, b = np.array([1.0, 1.5, 2.0]), np.array([2.0, 1.0, 0.5])
    weights = s / (s + b)
    assert background_events(likelihood, 1.0) == pytest.approx((weights @ b) ** 2 / (weights**2 @ b))
    few_events["channels"].append({"name": "CR", "samples": [sample("WZ", [1e4])]})
    few_events["observations"].append({"name": "CR", "data": [1e4]})
    assert background_events(Likelihood(few_events), 1.0) == pytest.approx(background_events(likelihood, 1.0))


def test_toys_fluctuate_events_and_what_constrains_parameters(few_events: dict[str, Any]) -> None:
    counts = {"name": "counts", "type": "shapesys", "data": [0.4, 0.2, 0.1]}
    few_events["channels"][0]["samples"][1]["modifiers"].append(counts)
    likelihood = Likelihood(few_events)
    at = likelihood.with_strength(1.0)
    at[likelihood.names.index("norm")] = 0.5
    toys, expected = throw(likelihood, at, 20000, np.random.default_rng(1)), likelihood.expected(at)
    assert toys.mean(axis=0) == pytest.approx(expected, rel=0.05, abs=0.05)
    config, spread = likelihood.model.config, {}
    first = config.nmaindata
    assert toys[:, :first].std(axis=0) == pytest.approx(np.sqrt(expected[:first]), rel=0.05)
    for name in config.auxdata_order:
        last = first + config.param_set(name).n_parameters
        spread[name] = toys[:, first:last].std(axis=0)
        first = last
    assert spread["norm"] == pytest.approx([1], rel=0.05)
    assert spread["mcstat"] == pytest.approx([0.1] * 3, rel=0.05)
    # 2 events with an error of 0.4 are 25 in another measurement
    assert spread["counts"] == pytest.approx([5] * 3, rel=0.05)


@pytest.mark.exhaustive("toys of all kinds")
@pytest.mark.parametrize("lowest", [None, 0.0])
def test_maxima_are_those_of_minuit(few_events: dict[str, Any], lowest: float | None) -> None:
    likelihood = Likelihood(few_events)
    poi, truth = likelihood.poi, likelihood.with_strength(0.5)
    toys = throw(likelihood, truth, 40, np.random.default_rng(3))
    many = ManyMaxima(likelihood)
    below = 0
    for fixed in ({}, {poi: 1.5}):
        found = many(toys, truth, fixed, lowest)
        for number, data in enumerate(toys):
            by_minuit = maximum(likelihood, data, fixed)
            if lowest is not None and by_minuit.at[poi] < lowest:
                by_minuit, below = maximum(likelihood, data, {poi: lowest}), below + 1
            assert found.twice_nll[number] == pytest.approx(by_minuit.twice_nll, abs=1e-3)
            assert found.at[number] == pytest.approx(by_minuit.at, abs=0.05)
    assert (below > 5) == (lowest is not None)


@pytest.mark.exhaustive("toys of all kinds")
def test_what_does_not_converge_is_left_to_minuit(few_events: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    likelihood = Likelihood(few_events)
    truth = likelihood.with_strength(0.5)
    toys = throw(likelihood, truth, 40, np.random.default_rng(3))
    expected = ManyMaxima(likelihood)(toys, truth, lowest=0.0)
    monkeypatch.setattr("statistical_analysis.toys.batch._MOST_STEPS", 1)
    found = ManyMaxima(likelihood)(toys, truth, lowest=0.0)
    assert found.twice_nll == pytest.approx(expected.twice_nll, abs=1e-3)
