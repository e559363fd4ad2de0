from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("statistical_analysis.toys.experiments")

from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.errors import NanoMLError
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.model import statistical_model
from statistical_analysis.results import CONSTRAINED
from statistical_analysis.toys import experiments
from statistical_analysis.toys.experiments import Experiments, experiment
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
    found = experiment(content, "NanoML", 1.0, COUNT, seed=1)
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
def test_toys_with_the_same_constraints_have_narrow_pulls(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the check above would say of toys in which nothing but events fluctuates."""

    def events_alone(likelihood: Likelihood, at: Any, count: int, random: np.random.Generator) -> Any:
        expected = np.tile(likelihood.expected(at), (count, 1))
        bins = likelihood.model.config.nmaindata
        expected[:, :bins] = random.poisson(expected[:, :bins])
        return expected

    monkeypatch.setattr(experiments, "throw", events_alone)
    assert not are_right(experiment(content, "NanoML", 1.0, COUNT, seed=1))


@pytest.mark.exhaustive("coverage, by hundreds of fits")
def test_with_few_events_limits_are_from_toys(few_events: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "COUNT", 1000)
    found = experiment(few_events, "NanoML", 2.0, 50, seed=1)
    assert found.is_by_toys
    assert found.covered >= 44
    assert "limits by toys cover" in found.lines()[4]
    assert "pulls by the likelihood ratio" in found.lines()[2]


def test_a_signal_that_cannot_be(few_events: dict[str, Any]) -> None:
    with pytest.raises(NanoMLError, match="A signal strength of -5 is not possible"):
        experiment(few_events, "NanoML", -5.0, 2, seed=1)
