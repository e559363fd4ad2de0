from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("statistical_analysis.toys.experiments")

from scipy.optimize import brentq
from scipy.stats import norm, poisson

from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.errors import NanoMLError
from services.workspaces import Workspace, sample, simple
from services.workspaces import norm as lognormal
from statistical_analysis.inference import infer
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum
from statistical_analysis.model import statistical_model
from statistical_analysis.report.verdict import verdict
from statistical_analysis.results import CONSTRAINED
from statistical_analysis.toys import experiments
from statistical_analysis.toys.batch import ManyMaxima
from statistical_analysis.toys.experiments import Experiments, background_events, experiment, throw
from statistical_analysis.workspace import workspace

pytestmark = pytest.mark.usefixtures("compiled_once")
COUNT = 200
# pulls of a right fit: the error of their mean is 0.07, that of their width 0.05; of the share of covered ones 0.015
MEAN, WIDTH, COVERED = 0.25, 0.2, 0.9


@pytest.fixture
def content(templates: Templates, settings: Fit, luminosity: dict[str, dict[str, LogNormal]]) -> dict[str, Any]:
    of_one_era = tuple(replace(it, channels=it.channels[:1]) for it in templates.histograms)
    return workspace(statistical_model(replace(templates, histograms=of_one_era), settings, luminosity, ["fakes"]))


def are_right(found: Experiments) -> bool:
    pulls = [it for it in found.pulls if it.kind == CONSTRAINED]
    assert len(pulls) == 9
    return all(abs(it.mean) < MEAN and abs(it.width - 1) < WIDTH for it in [found.pulls[0], *pulls])


@pytest.mark.exhaustive("coverage, by hundreds of fits")
def test_a_fit_is_unbiased_with_pulls_of_width_one_and_covers(content: dict[str, Any]) -> None:
    found = experiment(content, 1.0, COUNT, seed=1)
    assert found.count == COUNT
    assert found.pulls[0].parameter == "mu"
    assert are_right(found)
    assert abs(np.mean(found.roots)) < MEAN
    assert abs(np.std(found.roots) - 1) < WIDTH
    assert all((root > 0) == (fitted > 1) for root, fitted in zip(found.roots, found.fitted))
    # with so many events both kinds of pulls are nearly the same
    pulls = [(fitted - 1) / error for fitted, error in zip(found.fitted, found.errors) if error]
    assert np.mean(np.abs(np.array(pulls) - found.roots)) < 0.1
    assert np.mean(found.fitted) == pytest.approx(1, abs=4 * np.std(found.fitted) / COUNT**0.5)
    assert found.covered / COUNT > COVERED
    assert not found.is_by_toys
    assert found.lines()[0] == "200 pseudo-experiments with a signal strength of 1:"


@pytest.mark.exhaustive("coverage, by hundreds of fits")
def test_toys_of_equal_constraints_have_narrow_pulls(content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check above would say of toys in which nothing but events fluctuates."""

    def events_alone(likelihood: Likelihood, at: Any, count: int, random: np.random.Generator) -> Any:
        expected = np.tile(likelihood.expected(at), (count, 1))
        bins = likelihood.model.config.nmaindata
        expected[:, :bins] = random.poisson(expected[:, :bins])
        return expected

    monkeypatch.setattr(experiments, "throw", events_alone)
    assert not are_right(experiment(content, 1.0, 60, seed=1))


@pytest.mark.exhaustive("coverage, by hundreds of fits")
def test_with_few_events_limits_are_from_toys(few_events: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "COUNT", 1000)
    found = experiment(few_events, 2.0, 50, seed=1)
    assert found.is_by_toys
    assert found.covered >= 44
    assert "limits by toys cover" in found.lines()[4]
    assert "pulls by the likelihood ratio" in found.lines()[2]


def test_a_signal_that_cannot_be(few_events: dict[str, Any]) -> None:
    with pytest.raises(NanoMLError, match="A signal strength of -5 is not possible"):
        experiment(few_events, -5.0, 2, seed=1)


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
