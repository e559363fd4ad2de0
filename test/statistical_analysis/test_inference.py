from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("statistical_analysis.inference")

import pyhf
from scipy.optimize import brentq

from MLTools.NanoML.errors import NanoMLError
from services.workspaces import MU, Workspace, free, norm, of_simulation, sample, several, shape, simple, spec
from statistical_analysis.inference import expected_limit, infer
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum
from statistical_analysis.results import TOTAL, Results, read_results

pytestmark = pytest.mark.usefixtures("compiled_once")
UNBLINDED = "unblinded by me@here on 2026-01-01"


def workspace(observed: Sequence[float], control: Sequence[float] = ()) -> Workspace:
    """Two bins with a signal of 6 and 14 above 60 and 40, which share an uncertainty of 10 % with a control region of 10000 events."""
    rate = norm("norm", 1.1)
    signal = sample("signal", [6, 14], MU, norm("efficiency", 1.05))
    channels = {"SR": [signal, sample("WZ", [60, 40], rate, norm("other", 1.05), of_simulation("SR", [2, 3]))]}
    if control:
        channels["CR"] = [sample("WZ", [10000], rate)]
    return spec(channels, {"SR": observed, "CR": control})


def counting(observed: float, signal: float, background: float, error: float = 0) -> Workspace:
    uncertain = [{"name": "background", "type": "shapesys", "data": [error]}] if error else []
    return simple([observed], [signal], [background], *uncertain)


@pytest.fixture(scope="module")
def usual(compiled_once: None) -> Results:
    return infer(workspace([64, 61]), UNBLINDED, is_blind=False)


@pytest.fixture(scope="module")
def shifted(compiled_once: None) -> Results:
    """With a control region of 10 % more events than expected."""
    return infer(workspace([66, 44], [11000]), UNBLINDED, is_blind=False, groups={"rates": ["norm", "other"]})


def test_a_counting_experiment_has_the_significance_and_the_limit_of_the_formulae() -> None:
    s, b = 10.0, 50.0
    found = infer(counting(50, s, b), UNBLINDED, is_blind=True)
    # equation 97 of arXiv:1007.1727
    assert found.significance.expected == pytest.approx(math.sqrt(2 * ((s + b) * math.log(1 + s / b) - s)), rel=1e-3)
    median = brentq(lambda mu: math.sqrt(2 * (mu * s - b * math.log(1 + mu * s / b))) - 1.959964, 0.1, 10)
    assert found.limit.expected[2] == pytest.approx(median, rel=1e-3)
    assert expected_limit(counting(50, s, b)) == pytest.approx((found.limit.expected[2], found.strength.error))
    assert found.limit.observed is None
    assert found.significance.observed is None
    assert list(found.limit.expected) == sorted(found.limit.expected)


def test_an_uncertain_background_lowers_the_significance_as_the_formula_says() -> None:
    s, b, error = 10.0, 50.0, 8.0
    found = infer(counting(50, s, b, error), UNBLINDED, is_blind=True)
    variance = error**2  # equation 20 of G. Cowan's note on the discovery sensitivity, with the same Poisson constraint
    first = (s + b) * math.log((s + b) * (b + variance) / (b**2 + (s + b) * variance))
    second = b**2 / variance * math.log(1 + variance * s / (b * (b + variance)))
    assert found.significance.expected == pytest.approx(math.sqrt(2 * (first - second)), rel=1e-3)


@pytest.mark.parametrize("observed", [(64, 61), (50, 30)])
def test_results_are_those_of_pyhf(observed: tuple[float, float]) -> None:
    content = workspace(observed)
    found = infer(content, UNBLINDED, is_blind=False, strengths=(-2.0, 10.0))
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(), precision="64b")
    settings = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
    model = pyhf.Workspace(content).model(modifier_settings=settings)
    data = pyhf.Workspace(content).data(model)
    limit, expected = pyhf.infer.intervals.upper_limits.upper_limit(data, model)
    assert found.limit.observed == pytest.approx(float(limit), rel=2e-3)
    assert found.limit.expected == pytest.approx([float(it) for it in expected], rel=2e-3)
    config = model.config
    bounds, fixed = config.suggested_bounds(), config.suggested_fixed()
    q = float(pyhf.infer.test_statistics.q0(0.0, data, model, config.suggested_init(), bounds, fixed))
    assert found.significance.observed == pytest.approx(math.sqrt(q), abs=2e-3)
    bounds[config.poi_index] = (-2.0, 10.0)
    fitted = np.array(pyhf.infer.mle.fit(data, model, par_bounds=bounds, return_uncertainties=True))
    assert found.strength.value == pytest.approx(fitted[config.poi_index, 0], abs=2e-3)
    assert found.strength.error == pytest.approx(fitted[config.poi_index, 1], rel=2e-2)
    values = {it.name: (it.value, it.error) for it in found.parameters}
    for name, (value, error) in zip(config.par_names, fitted, strict=True):
        assert values[name] == pytest.approx((value, error), abs=1e-2)


def test_a_shift_of_a_control_region_pulls_and_constrains(shifted: Results) -> None:
    of = {it.name: it for it in shifted.parameters}
    assert of["norm"].pull == pytest.approx(0.99, abs=0.01)  # 10 % before the fit against 1 % of statistics
    assert of["norm"].constraint == pytest.approx(0.095, abs=0.01)
    assert [of[it].constraint for it in ("other", "efficiency")] == pytest.approx([1, 1], abs=0.1)
    control = next(it for it in shifted.channels if it.name == "CR")
    before, after = (next(it for it in stage if it.sample == TOTAL) for stage in (control.prefit, control.postfit))
    assert before.events == (10000.0,)
    assert before.errors == pytest.approx([10000 * math.log(1.1)], rel=1e-2)
    assert after.events == pytest.approx([11000], rel=2e-3)
    assert after.errors == pytest.approx([math.sqrt(11000)], rel=5e-2)
    assert shifted.goodness is not None
    assert shifted.goodness.probability > 0.1


def test_impacts_are_those_of_fits_with_one_parameter_fixed(usual: Results) -> None:
    likelihood = Likelihood(workspace([64, 61]))
    impact = next(it for it in usual.impacts if it.parameter == "norm")
    rate = next(it for it in usual.parameters if it.name == "norm")
    fixed = {likelihood.names.index("norm"): rate.value + rate.error}
    moved = maximum(likelihood, likelihood.observed, fixed).at[likelihood.poi]
    assert impact.postfit_up == pytest.approx(moved - usual.strength.value, abs=2e-3)
    assert impact.postfit_up < -0.1 < 0.1 < impact.postfit_down
    sizes = [it.size for it in usual.impacts]
    assert sizes == sorted(sizes, reverse=True)
    assert {it.parameter for it in usual.impacts} >= {"norm", "other", "efficiency", "mcstat_SR[0]"}


@pytest.mark.parametrize("down", [-1.0, -0.9])
def test_impacts_of_asymmetric_variations_are_searched_as_quickly(down: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large shapes whose up and down differ by a tenth: there is no second maximum to look for after each search."""
    at, looked = np.linspace(-1, 1, 6), list[int]()
    background = 4000 * np.exp(-at)
    shapes = [(f"s{power}", 0.3 * at**power * background) for power in range(4)]
    tilts = [shape(name, background + up, background + down * up) for name, up in shapes]
    content = simple(np.round(background + 40), np.full(6, 30.0), background, *tilts)
    likelihood, values = Likelihood(content), Likelihood.values
    best = maximum(likelihood, likelihood.observed)
    monkeypatch.setattr(Likelihood, "values", lambda of, at, data: looked.append(len(at)) or values(of, at, data))
    for number in np.flatnonzero(likelihood.tested):
        maximum(likelihood, likelihood.observed, {int(number): best.at[number] + 1}, best.at)
    assert sum(looked) == 0


def test_a_strength_at_the_end_of_its_range_has_an_upper_error_alone() -> None:
    s, b, seen = 10.0, 20.0, 8
    found = infer(counting(seen, s, b), UNBLINDED, is_blind=False, strengths=(0.0, 50.0), toys="never")
    upper = brentq(lambda mu: 2 * (mu * s - seen * math.log(1 + mu * s / b)) - 1, 0.01, 5)
    assert found.strength.error == pytest.approx(upper, rel=1e-3)
    assert found.summary.endswith("signal strength 0.000 +0.082; unblinded by me@here on 2026-01-01")
    assert found.breakdown == ()
    above = infer(counting(30, s, b), UNBLINDED, is_blind=False, strengths=(0.0, 0.5), toys="never")
    assert (above.strength.value, above.strength.error, above.strength.measured) == (0.5, None, "0.5")


def test_the_error_is_broken_down_by_groups() -> None:
    """One bin: variances add up to that of (events - background) / signal."""
    s, b = 50.0, 1000.0
    content = simple([s + b], [s], [b], norm("theory", 1.02), norm("jes", 1.03), of_simulation("SR", [20.0]))
    groups = {"theory": ["theory"], "jets": ["jes"], "both": ["theory", "jes"]}
    found = infer(content, UNBLINDED, is_blind=False, groups=groups)
    sizes = {"statistics of data": math.sqrt(s + b), "statistics of simulation": 20, "theory": 20, "jets": 30}
    sizes["both"] = math.hypot(20, 30)
    expected = {name: size / s for name, size in sizes.items()}
    assert {it.group: it.error for it in found.breakdown} == pytest.approx(expected, rel=0.02)
    total = math.sqrt(sum(sizes[name] ** 2 for name in sizes if name not in ("theory", "jets")))
    assert found.strength.error == pytest.approx(total / s, rel=0.02)


def test_parts_of_the_error_follow_from_fits_with_the_group_fixed(shifted: Results) -> None:
    likelihood = Likelihood(workspace([66, 44], [11000]))
    best = maximum(likelihood, likelihood.observed)
    positions = {name: likelihood.names.index(name) for name in ("norm", "other")}
    fixed = {number: float(best.at[number]) for number in positions.values()}
    poi = likelihood.poi

    def distance(strength: float) -> float:
        """From the strength at which the likelihood ratio is one, with the group fixed."""
        at = maximum(likelihood, likelihood.observed, {**fixed, poi: strength}, best.at)
        return at.twice_nll - best.twice_nll - 1

    low, high = (brentq(distance, best.at[poi], best.at[poi] + side) for side in (-3.0, 3.0))
    left = (high - low) / 2
    (part,) = (it.error for it in shifted.breakdown if it.group == "rates")
    assert math.sqrt(shifted.strength.error**2 - part**2) == pytest.approx(left, rel=0.03)
    assert part > 0.1


def test_the_scan_has_the_statistical_errors_of_the_data(usual: Results) -> None:
    scan, of_data = usual.scan, usual.breakdown[0]
    assert len(scan.strength) == len(scan.likelihood) == len(scan.statistical) > 20
    center = scan.strength.index(usual.strength.value)
    assert scan.likelihood[center] == scan.statistical[center] == 0
    for number, strength in enumerate(scan.strength):
        distance = strength - usual.strength.value
        assert scan.statistical[number] >= scan.likelihood[number] - 1e-3
        if 0 < abs(distance) < of_data.error:
            assert scan.statistical[number] == pytest.approx((distance / of_data.error) ** 2, rel=0.15, abs=0.01)


def test_nothing_of_a_blind_fit_depends_on_observed_data(tmp_path: Path) -> None:
    first = infer(workspace([64, 61], [9000]), UNBLINDED, is_blind=True)
    assert infer(workspace([20, 300], [7]), UNBLINDED, is_blind=True) == first
    assert first.unblinded is first.goodness is None
    assert all(channel.observed is None for channel in first.channels)
    assert first.summary.endswith("; blinded")
    assert first.strength.value == pytest.approx(1, abs=1e-3)
    first.write(tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == first
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(NanoMLError, match="is not a result of a fit, or is damaged"):
        read_results(tmp_path / "results.json")


def two_signals(data: Sequence[float], *strengths: str, of_second: Sequence[float] = (4.0, 12.0)) -> Workspace:
    samples = [sample("A", [9, 5], free("mu_A")), sample("B", of_second, free("mu_B"), norm("efficiency", 1.05))]
    return several({"SR": [*samples, sample("C", [60, 40], norm("norm", 1.1))]}, {"SR": data}, *strengths, name="x")


def test_each_strength_has_the_results_of_a_fit_in_which_the_others_are_free() -> None:
    """Nothing of them depends on data as long as they are blind."""
    found = infer(two_signals([80, 70], "mu_A", "mu_B"), UNBLINDED, is_blind=True)
    assert infer(two_signals([7, 9], "mu_A", "mu_B"), UNBLINDED, is_blind=True) == found
    alone = infer(two_signals([3, 5], "mu_B"), UNBLINDED, is_blind=True)
    (_, second) = found.by_strength
    assert (found.signals, second.signals, alone.signals) == (("A",), ("B",), ("B",))
    assert second.strength == alone.strength
    assert second.limit.expected == pytest.approx(alone.limit.expected, rel=1e-3)
    assert second.significance.expected == pytest.approx(alone.significance.expected, rel=1e-3)
    assert [it.error for it in second.breakdown] == pytest.approx([it.error for it in alone.breakdown], rel=1e-3)
    assert [it.parameter for it in second.impacts] == [it.parameter for it in alone.impacts]
    assert [it.size for it in second.impacts] == pytest.approx([it.size for it in alone.impacts], abs=1e-4)
    assert second.scan.likelihood == pytest.approx(alone.scan.likelihood, abs=1e-3)
    texts = found.summary.split("; ")
    assert [it[:25] for it in texts] == ["expected limit on mu_A 2.", "expected limit on mu_B 1.", "blinded"]
    assert alone.contours == ()
    assert alone.summary.startswith("expected limit on the signal strength")


def test_signals_that_cannot_be_told_apart() -> None:
    with pytest.raises(NanoMLError, match="has no maximum: mu_A, mu_B can have any value together"):
        infer(two_signals([80, 70], "mu_A", "mu_B", of_second=[9, 5]), UNBLINDED, is_blind=False)
    with pytest.raises(NanoMLError, match="no events in any channel of the fit: nothing can be said about mu_B"):
        Likelihood(two_signals([80, 70], "mu_A", "mu_B", of_second=[0, 0]))


def test_no_event_at_all_gives_a_limit() -> None:
    found: Any = infer(counting(0, 3.0, 2.0, 0.2), UNBLINDED, is_blind=False)
    assert found.strength.value <= 0
    # the asymptotic formulae are rough for so few events; CLs of none observed is exp(-3 mu): 1.0
    assert 0.4 < found.limit.observed < 1.2
    assert found.significance.observed == 0


PUBLISHED = os.environ.get("NANOML_TEST_STAU")


def fitted(mass: int) -> Results:
    """The search of ATLAS for pairs of staus of a mass [GeV] (arXiv:1911.06660, doi:10.17182/hepdata.92006)."""
    jsonpatch, directory = pytest.importorskip("jsonpatch"), Path(str(PUBLISHED))
    content: dict[str, Any] = json.loads((directory / "BkgOnly.json").read_text())
    patch = json.loads((directory / f"patch.DS_{mass}_1_Staus.json").read_text())
    content = jsonpatch.apply_patch(content, patch)
    return infer(content, "published", is_blind=False, toys="never")


@pytest.mark.exhaustive("a published search")
@pytest.mark.skipif(
    PUBLISHED is None, reason="name the directory Region-combined of the published likelihoods by NANOML_TEST_STAU"
)
def test_staus_are_excluded_up_to_the_published_mass() -> None:
    lighter, heavier = fitted(380), fitted(400)
    # "Stau masses from 120 GeV to 390 GeV are excluded at 95% confidence level for a massless lightest neutralino."
    assert lighter.limit.observed < 1 < heavier.limit.observed
    # events in the signal regions for low and high masses
    seen = {channel.name: channel.observed for channel in heavier.channels}
    assert (seen["SR1cut_cuts"], seen["SR2cut_cuts"]) == ((10,), (7,))
