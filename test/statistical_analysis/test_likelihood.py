from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("statistical_analysis.likelihood")

import pyhf
from scipy import stats

from MLTools.NanoML.errors import NanoMLError
from services.reference import LOG_LIKELIHOOD, Reference, disagreements
from services.workspaces import (
    IMPOSSIBLE,
    PATHOLOGICAL,
    Workspace,
    free,
    norm,
    random_workspace,
    sample,
    several,
    shape,
    simple,
    three_signals,
)
from statistical_analysis import asymptotic
from statistical_analysis.asymptotic import cls, contours
from statistical_analysis.inference import infer
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum, moves_of
from statistical_analysis.report.verdict import verdict
from statistical_analysis.results import Contour

pytestmark = pytest.mark.usefixtures("compiled_once")
CHOSEN = (
    "two equal", "same side", "two minima by shape", "tiny errors of simulation", "10^6 events with 10 %", "no event in a bin",
    "variation below nothing", "free background at its bound", "nothing but the strength", "random 23",
)  # fmt: skip


@pytest.mark.exhaustive("many models, from many starts, against another minimiser")
@pytest.mark.parametrize("name", CHOSEN)
def test_results_are_those_of_another_method_from_many_starts(name: str) -> None:
    kind, _, seed = name.partition(" ")
    workspace = random_workspace(int(seed)) if kind == "random" else PATHOLOGICAL[name]
    assert [*disagreements(workspace)] == []


EXCESS = simple(
    [20000, 15000, 5000, 2500], [10, 30, 60, 40], [4000, 3000, 1000, 500],
    {"name": "p", "type": "shapesys", "data": [800, 600, 200, 100]},
    norm("a", 1.1), shape("b", [4200, 3150, 1050, 525], [3720, 2790, 930, 465]), norm("c", 1.02),
)  # fmt: skip


@pytest.mark.parametrize(
    ("workspace", "fixed", "start"),
    [
        (EXCESS, ("mu", 1.0), {}),  # far outside of all ranges Minuit got lost
        (
            PATHOLOGICAL["variation below nothing"],
            ("a", -1.354),
            {"a": -0.354, "mu": 0.0},
        ),  # at a steep wall it stopped
        (PATHOLOGICAL["same side"], ("mu", 2.395), {"mu": 0.192, "a": 0.638}),  # the other side of a was not seen
    ],
)
def test_a_fit_with_a_fixed_parameter_does_not_end_above_the_minimum(
    workspace: Workspace, fixed: tuple[str, float], start: dict[str, float]
) -> None:
    likelihood, peer = Likelihood(workspace), Reference(workspace)
    begin = np.array([start.get(name, it) for name, it in zip(likelihood.names, likelihood.start, strict=True)])
    place = likelihood.names.index(fixed[0])
    found = maximum(likelihood, likelihood.observed, {place: fixed[1]}, begin)
    peer.fixed[place], peer.start[place] = True, fixed[1]
    assert float(peer._both(found.at, peer.data)[0]) < peer.minimum(peer.data).value + LOG_LIKELIHOOD


def test_a_free_background_in_the_only_bin_stands_for_the_signal() -> None:
    with pytest.raises(NanoMLError, match="has no maximum: (mu|norm_B0|norm_B0, mu) can have any value"):
        infer(random_workspace(679), None, False, toys="never")


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_fitted(name: str) -> None:
    workspace, message = IMPOSSIBLE[name]
    with pytest.raises(NanoMLError, match=message):
        maximum(Likelihood(workspace), Likelihood(workspace).observed)


def answers(workspace: Workspace) -> dict[str, tuple[str, str]]:
    found = infer(workspace, "with data", False, toys="never")
    return {it.question: (it.state, it.text) for it in verdict(found, None)}


@pytest.mark.exhaustive("models at the edge of what can be fitted")
def test_what_is_at_its_bound_or_has_no_sign_is_named() -> None:
    mirrored = answers(PATHOLOGICAL["norm, up and down equal"])
    assert mirrored["Pulls?"][0] == "look"
    assert mirrored["Pulls?"][1].startswith("The pull of a has no sign: the likelihood is as large with the other one")
    assert mirrored["Templates as they are?"][0] == mirrored["Variations to both sides?"][0] == "open"
    bound = answers(PATHOLOGICAL["best fit above its bound"])
    assert bound["Is the best fit inside?"][1].startswith("At the end of its range: mu = 1. ")
    assert "--range LOW HIGH" in bound["Is there a limit?"][1]
    assert "--range" not in answers(PATHOLOGICAL["deficit"])["Over-constrained?"][1]


@pytest.mark.exhaustive("models at the edge of what can be fitted")
def test_a_range_of_the_signal_strength_overrides_that_of_the_workspace() -> None:
    workspace = PATHOLOGICAL["best fit above its bound"]
    found = infer(workspace, None, False, toys="never", strengths=(-1.0, 50.0))
    assert found.limit is not None
    assert found.strength.value > 3
    assert not found.strength.is_at_bound


def test_our_own_range_has_no_upper_end_and_ends_where_a_bin_would_be_empty() -> None:
    workspace = simple([80, 50, 0], [2.0, 5.0, 10.0], [80.0, 50.0, 20.0], norm("a", 1.1))
    workspace["measurements"][0]["name"] = "nanoml"
    likelihood = Likelihood(workspace)
    assert likelihood.bounds[likelihood.poi].tolist() == [-0.9 * 2, np.inf]
    assert maximum(likelihood, likelihood.observed, twice=True).at[likelihood.poi] == pytest.approx(-1.8)


def test_a_fit_of_which_nothing_is_free_has_a_value() -> None:
    likelihood = Likelihood(PATHOLOGICAL["nothing but the strength"])
    found = maximum(likelihood, likelihood.observed, {likelihood.poi: 1.0}, twice=True)
    assert found.at.tolist() == [1.0]
    counts, events = np.array([95, 60, 30]), np.array([82.0, 55, 29])
    assert found.twice_nll == pytest.approx(2 * np.sum(events - counts + counts * np.log(counts / events)))


def test_a_parameter_at_the_end_of_its_range_comes_back() -> None:
    likelihood = Likelihood(PATHOLOGICAL["luminosity"])
    aside = likelihood.with_strength(0.0) + np.isfinite(likelihood.widths)
    found, other = (maximum(likelihood, likelihood.observed, start=it) for it in (likelihood.start, aside))
    assert found.at[likelihood.poi] > 0
    assert other.twice_nll == pytest.approx(found.twice_nll, abs=1e-3)


@pytest.mark.parametrize(("name", "extreme"), [("one side", np.argmin), ("one side, down", np.argmax)])
def test_a_parameter_is_moved_to_where_its_effect_turns(name: str, extreme: Any) -> None:
    likelihood = Likelihood(PATHOLOGICAL[name])
    (place,), new, _ = moves_of(likelihood, likelihood.is_fixed, False)
    points, tried = np.tile(likelihood.start, (41, 1)), np.linspace(-1, 1, 41)
    points[:, place] = tried
    turn = tried[extreme([likelihood.expected(it)[0] for it in points])]
    assert new[-2, 0] == pytest.approx(turn, abs=0.3)


def test_the_error_at_the_end_of_a_range_is_where_the_likelihood_that_falls_in_a_line_is_lower_by_one() -> None:
    likelihood = Likelihood(simple([0], [2.0], [3.0]))
    found = maximum(likelihood, likelihood.observed)
    assert found.at.tolist() == [0.0]
    assert likelihood.covariance(likelihood.observed, found.at)[0, 0] ** 0.5 == pytest.approx(1 / (2 * 2.0))


def test_derivatives_are_those_of_differences_also_where_a_bin_has_less_than_nothing() -> None:
    likelihood = Likelihood(PATHOLOGICAL["variation below nothing"])
    data, step = likelihood.observed, 1e-6
    for at in (likelihood.start, likelihood.with_strength(-2.3), likelihood.start + np.array([0, 3.0, 0, 0, 0])):
        slope = np.asarray(likelihood.value_and_slope(at, data)[1])
        for number, unit in enumerate(np.eye(len(at))):
            ends = [float(likelihood.value_and_slope(at + sign * step * unit, data)[0]) for sign in (1, -1)]
            expected = pytest.approx(slope[number], rel=1e-4, abs=1e-6 * np.abs(slope).max() + 1e-3)
            assert (ends[0] - ends[1]) / (2 * step) == expected


@pytest.mark.parametrize("q", [0.5, 3.9, 4.1, 9.0])
def test_cls_is_that_of_the_test_statistic_for_positive_signals(q: float) -> None:
    """Equations 65 and 66 of Cowan et al.: above the square of what is expected, the distribution is another one."""
    expected = 2.0
    if q <= expected**2:
        wanted = stats.norm.sf(np.sqrt(q)) / stats.norm.sf(np.sqrt(q) - expected)
    else:
        wanted = stats.norm.sf((q + expected**2) / (2 * expected)) / stats.norm.sf((q - expected**2) / (2 * expected))
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
            assert value - lowest == pytest.approx(stats.chi2.ppf(line.level, 2), abs=1e-3)


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
