from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("statistical_analysis.toys.batch")

from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum
from statistical_analysis.toys.batch import ManyMaxima
from statistical_analysis.toys.experiments import throw

pytestmark = [pytest.mark.exhaustive("toys of all kinds"), pytest.mark.usefixtures("compiled_once")]


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


def test_what_does_not_converge_is_left_to_minuit(few_events: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    likelihood = Likelihood(few_events)
    truth = likelihood.with_strength(0.5)
    toys = throw(likelihood, truth, 40, np.random.default_rng(3))
    expected = ManyMaxima(likelihood)(toys, truth, lowest=0.0)
    monkeypatch.setattr("statistical_analysis.toys.batch._MOST_STEPS", 1)
    found = ManyMaxima(likelihood)(toys, truth, lowest=0.0)
    assert found.twice_nll == pytest.approx(expected.twice_nll, abs=1e-3)
