"""Unbinned channels, against likelihoods that are known exactly, and as the limit of fine bins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("mplhep")
pytest.importorskip("statistical_analysis.likelihood")

import jax
import jax.numpy as jnp

from MLTools.NanoML.atomic import make_directory
from MLTools.NanoML.config.fit import Fit
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.closure import CLOSURE, ClosureTest, RatioClosure
from MLTools.NanoML.contracts.densities import Densities, UnbinnedChannel, UnbinnedChannels
from MLTools.NanoML.contracts.templates import DATA, FilledHistogram, Template, TemplateAxis, Templates
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.section import PRIVATE_WORK
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.layout import Layout
from services.unbinned import BACKGROUND, MEAN, SIGNAL, Floats, channel, events, expected, model
from statistical_analysis import inference
from statistical_analysis.draw import draw_fit
from statistical_analysis.fit import FitJob, fit
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum
from statistical_analysis.report.verdict import Unbinned, sign_of_densities
from statistical_analysis.results import OF_DENSITIES, OF_EVENTS, Results, read_results
from statistical_analysis.stages import fit_stage
from statistical_analysis.toys.batch import ManyMaxima
from statistical_analysis.toys.intervals import background_events, throw
from statistical_analysis.unbinned import Points, beyond_simulation, in_bins
from statistical_analysis.workspace import workspace

pytestmark = pytest.mark.exhaustive("unbinned fits")

NAMED = Fit(channels={}).named


def likelihood(*channels: UnbinnedChannel) -> Likelihood:
    return Likelihood(workspace(model(*channels)), points=Points.of(channels, NAMED))


def without_simulation(made: dict[str, Any]) -> dict[str, Any]:
    """The workspace without statistical errors of simulation."""
    for sample in made["channels"][0]["samples"]:
        sample["modifiers"] = [it for it in sample["modifiers"] if it["type"] != "staterror"]
    return made


def in_fine_bins(of: UnbinnedChannel) -> dict[str, Any]:
    """A workspace with a bin for each event of the reference, of its width."""
    made, widths = without_simulation(workspace(model(of))), of.widths
    for sample in made["channels"][0]["samples"]:
        density = of.processes[sample["name"]]
        nominal = widths * density.nominal.astype(float)
        sample["data"] = nominal.tolist()
        for it in (it for it in sample["modifiers"] if it["type"] == "histosys"):
            up, down = (widths * each[it["name"]] for each in (density.up, density.down))
            it["data"]["hi_data"] = (up * (nominal.sum() / up.sum())).tolist()
            it["data"]["lo_data"] = (down * (nominal.sum() / down.sum())).tolist()
    made["observations"][0]["data"] = [0.0] * len(widths)
    return made


def test_it_is_the_limit_of_fine_bins() -> None:
    """The two differ by the same number at all parameters, with expected data and with pseudo-experiments."""
    _, small = channel(60, np.zeros((0, 3)))
    binned = Likelihood(in_fine_bins(small))
    unbinned = Likelihood(without_simulation(workspace(model(small))), points=Points.of([small], NAMED))
    assert unbinned.names == binned.names
    random, truth = np.random.default_rng(2), unbinned.with_strength(1.0)
    np.testing.assert_allclose(unbinned.finest(truth), binned.finest(truth), rtol=1e-6)
    assert background_events(unbinned, 1.0) == pytest.approx(background_events(binned, 1.0))
    points = truth + random.normal(0, 0.4, (20, len(truth)))
    for data in (unbinned.expected(truth), throw(unbinned, truth, 1, random)[0]):
        which, weights = data[unbinned.counts :].reshape(2, -1)
        of_bins = np.append(np.bincount(which.astype(int), weights, 60), data[1 : unbinned.counts])
        assert of_bins[:60].sum() == pytest.approx(data[0], rel=1e-6)
        assert (of_bins[:60] > 0).sum() > 40
        difference = unbinned.values(points, data) - binned.values(points, of_bins)
        np.testing.assert_allclose(difference, difference[0], atol=1e-3)


def exact(of: Floats, data: Floats, counts: int) -> Callable[[Any], Any]:
    """Twice the negative logarithm of the exact likelihood of a data set, by strength and both nuisance parameters."""
    which, weights = data[counts:].reshape(2, -1)
    x = of[which.astype(int)]

    def twice_nll(at: Any) -> Any:
        total, densities = expected(x, *at, xp=jnp)
        return 2 * (total - weights @ jnp.log(sum(densities.values()))) + at[1] ** 2 + at[2] ** 2

    return twice_nll


def test_intervals_are_those_of_the_exact_likelihood() -> None:
    """By expected data, and by pseudo-experiments of the exact generator; coverage is measured with these."""
    random, size, count = np.random.default_rng(3), 10_000, 200
    numbers = random.poisson([SIGNAL, BACKGROUND], (count, 2))
    x, made = channel(size, np.concatenate([events(*it, random) for it in numbers.tolist()]))
    found = likelihood(made)
    truth, places = found.with_strength(1.0), [found.names.index(it) for it in ("mu", "scale", "rate")]
    asimov = found.expected(truth)
    mine = np.sqrt(np.diag(found.covariance(asimov, truth)))[places]
    wanted = np.sqrt(np.diag(np.linalg.inv(jax.hessian(exact(x, asimov, found.counts))(jnp.array([1.0, 0, 0])) / 2)))
    assert mine == pytest.approx(wanted, rel=0.03)

    totals = numbers.sum(axis=1)
    most = totals.max()
    data = np.zeros((count, found.counts + 2 * most))
    data[:, : found.counts] = throw(found, truth, count, random)[:, : found.counts]
    data[:, 0] = totals
    for row, begin, total in zip(data, size + totals.cumsum() - totals, totals.tolist(), strict=True):
        row[found.counts : found.counts + total] = np.arange(begin, begin + total)
        row[found.counts + most : found.counts + most + total] = 1.0
    many = ManyMaxima(found)
    free, fixed = many(data, truth), many(data, truth, {found.poi: 1.0})
    strengths = free.at[:, found.poi]
    assert strengths.mean() == pytest.approx(1.0, abs=0.08)
    assert strengths.std() == pytest.approx(wanted[0], rel=0.15)
    assert np.mean(fixed.twice_nll - free.twice_nll < 1) == pytest.approx(0.683, abs=0.08)


def test_a_channel_may_be_divided_into_two() -> None:
    """The likelihood is the same where yields are those of variations; in pseudo-experiments each part has its number of events."""
    random = np.random.default_rng(4)
    x, whole = channel(2000, events(50, 500, random))
    is_right = x[:, 0] > 0.5

    def part(region: str, chosen: Any) -> UnbinnedChannel:
        of_reference = chosen[: len(whole.widths)]
        processes = {}
        for name, it in whole.processes.items():
            sides = ({key: side[key][chosen] for key in side} for side in (it.up, it.down))
            processes[name] = Densities(it.nominal[chosen], *sides)
        data = int(chosen[len(whole.widths) :].sum())
        return UnbinnedChannel(region, None, data, whole.widths[of_reference], processes)

    one, two = likelihood(whole), likelihood(part("SR", is_right), part("CR", ~is_right))
    points = {
        (name, value): (one.with_strength(1.0), two.with_strength(1.0))
        for name, value in (("mu", 1.0), ("mu", 0.4), ("mu", 2.0), ("scale", 1.0), ("scale", -1.0), ("rate", 1.0))
    }
    for (name, value), ends in points.items():
        for each, at in zip((one, two), ends, strict=True):
            at[each.names.index(name)] = value
    mine, others = (np.array(it) for it in zip(*points.values(), strict=True))
    difference = one.values(mine, one.observed) - two.values(others, two.observed)
    np.testing.assert_allclose(difference, difference[0], atol=2e-3)

    truth = two.with_strength(1.0)
    toys, config = throw(two, truth, 5, random), two.model.config
    for toy in toys:
        which, weights = toy[two.counts :].reshape(2, -1)
        number = np.bincount(two.distributions.channel[which.astype(int)], weights, 2)
        bins = [config.channel_slices[name].start for name in ("SR", "CR")]
        assert number.tolist() == toy[bins].tolist()


def test_a_scan_ends_where_densities_would_be_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is long before the whole channel expects no event; the likelihood is a wall there."""
    monkeypatch.setattr(inference, "_STEPS", 7)
    _, made = channel(300, events(50, 500, np.random.default_rng(7)))
    found, size = likelihood(made), len(made.widths)
    signal, background = (made.processes[it].nominal for it in ("signal", "background"))
    best = maximum(found, found.observed, None, found.with_strength(1.0))
    for data, its in ((found.expected(found.start), slice(0, size)), (found.observed, slice(size, None))):
        wanted = -np.min(background[its] / signal[its])
        assert found.lowest(found.with_strength(3.0), data) == pytest.approx(wanted, rel=0.02)
    scan = inference._scan(found, found.observed, best, 1.0)
    lowest = found.lowest(best.at, found.observed)
    assert lowest < scan.strength[0] < lowest + 0.1
    assert scan.likelihood[0] < 50


def test_a_channel_in_bins_has_the_same_parameters() -> None:
    random = np.random.default_rng(5)
    _, made = channel(100, events(5, 50, random))
    content = without_simulation(workspace(model(made)))
    alone, seen = Likelihood(content, points=Points.of([made], NAMED)), np.array([110.0, 75.0])
    rate = {"name": "rate", "type": "normsys", "data": {"hi": 1.2, "lo": 1 / 1.2}}
    control = {"name": "background", "data": [100.0, 80.0], "modifiers": [rate]}
    content["channels"].append({"name": "CR", "samples": [control]})
    content["observations"].append({"name": "CR", "data": seen.tolist()})
    both = Likelihood(content, points=Points.of([made], NAMED))
    assert both.names == alone.names
    points = alone.with_strength(1.0) + random.normal(0, 0.4, (5, len(alone.names)))
    expected_there = np.outer(1.2 ** points[:, alone.names.index("rate")], [100.0, 80.0])
    of_control = 2 * (expected_there - seen + seen * np.log(seen / expected_there)).sum(axis=1)
    difference = both.values(points, both.observed) - alone.values(points, alone.observed)
    np.testing.assert_allclose(difference, of_control, rtol=1e-6)


@pytest.mark.usefixtures("white_figures")
def test_a_fit_with_all_that_belongs_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_BINS", ())
    monkeypatch.setattr(inference, "_STEPS", 5)
    _, made = channel(2000, events(60, 480, np.random.default_rng(6)))
    made = replace(made, closure={"signal": 1.01, "background, rate": 0.95})
    binned = in_bins(made, ["signal"], 10)
    for name, it in made.processes.items():
        assert binned.processes[name].nominal.sum() == pytest.approx(made.total(it.nominal))
        assert binned.processes[name].up["scale"].sum() == pytest.approx(made.total(it.up["scale"]))
    share = binned.processes["signal"].nominal[1:-1] / binned.processes["background"].nominal[1:-1]
    assert (np.diff(share) > 0).all()
    data = Template(*[np.full(12, 54.0)] * 2)
    axis = TemplateAxis("score", tuple(np.linspace(0, 1, 11).tolist()))
    histogram = FilledHistogram("score", (axis,), (replace(binned, processes={**binned.processes, DATA: data}),))
    Templates("NanoML", (histogram,), ("signal", "background"), "signal", {"": 60.0}).write(tmp_path / "histograms.h5")
    UnbinnedChannels("NanoML", (made,)).write(tmp_path / "densities.h5")
    tests = ClosureTest("signal", None, "x", (0, 1, 2), (0.5, 0.5), (0.45, 0.55), (0.01, 0.01), 25.0, 1, 1e-6)
    closure = RatioClosure("SR", None, {"signal": 1000.0}, {"signal": 1.01}, 4, {"signal": 0.05}, (tests,))
    make_directory(tmp_path / "ratios")
    closure.write(tmp_path / "ratios/SR_closure.json")
    for it in closure.figures("SR"):
        (tmp_path / f"ratios/{it.name}.png").write_bytes(b"")
    settings, others = Fit(channels={"SR": "score"}, unbinned=["SR"]), ({}, {}, [], False, "with data", "a.yaml:7")
    job = FitJob(tmp_path / "histograms.h5", tmp_path / "fit", settings, *others)
    job = replace(job, densities=tmp_path / "densities.h5", closures={"SR": tmp_path / "ratios/SR_closure.json"})
    fit(job)
    draw_fit(job, PRIVATE_WORK)
    found = read_results(tmp_path / "fit/results.json")
    assert isinstance(found, Results)
    assert found.goodness is None
    assert found.channels[0].observed == (540.0,)
    assert found.strength.value == pytest.approx(1.2, abs=3 * found.strength.error)
    assert {it.parameter for it in found.impacts} == {"scale", "rate", "mcstat_SR[0]"}
    without, of_bins = found.comparisons
    assert 0.02 < 1 - without.error / of_bins.error < 0.12
    assert without.error == pytest.approx(0.354, rel=0.03)  # by the exact likelihood
    answers = {it.question: it for it in found.verdict}
    text, _, but = answers["Does a fit without bins pay?"].text.partition(" But ")
    assert text.startswith("By its own densities, the fit without bins gains ")
    assert text in found.digest.text
    assert but == "the ratios are not known well enough to rely on that."
    events_ = answers["As many events by densities as by weights?"]
    assert (events_.state, "5 % off one (SR, background, rate)" in events_.text) == ("look", True)
    assert answers["All shapes learned?"].text.startswith("Of scale no network has learned the shape")
    assert answers["Do reweighted events look like true ones?"].text == f"SR: {closure.text}"
    assert "2.5 % in SR (4 networks)" in answers["Enough networks?"].text
    assert {answers[it].state for it in ("Are data where simulation is?", "Are densities positive?")} == {"good"}
    assert 'id="unbinned"' in (tmp_path / "fit/report.html").read_text()
    assert not (tmp_path / "fit/datacard.txt").exists()


def test_noise_of_ratios_is_a_promise_that_simulated_events_do_not_hold() -> None:
    _, made = channel(4000, events(60, 480, np.random.default_rng(6)))
    noise = np.exp(np.random.default_rng(3).normal(0, 1, len(made.processes["background"].nominal))).astype(np.float32)
    background = made.processes["background"]
    noisy = replace(background, nominal=background.nominal * noise, up={}, down={})

    def errors(channel: UnbinnedChannel) -> dict[str, float]:
        found = {}
        for way, of_events in ((OF_DENSITIES, False), (OF_EVENTS, True)):
            made = in_bins(channel, ["signal"], 10, of_events).processes
            signal, rest = (made[it].nominal for it in ("signal", "background"))
            for values, name in ((signal, "signal"), (rest, "background")):
                assert values.sum() == pytest.approx(channel.total(channel.processes[name].nominal), rel=1e-4)
            filled = signal + rest > 0
            found[way] = float((signal[filled] ** 2 / (signal + rest)[filled]).sum() ** -0.5)
        return found

    for it, state in ((background, "good"), (noisy, "bad")):
        mine = replace(made, processes={**made.processes, "background": it})
        assert [state] == [found for _, found, _ in Unbinned([mine], {})._promise(errors(mine))]


def test_data_beyond_simulation_are_told() -> None:
    """Two events far outside, which networks call signal, are no discovery in silence."""
    _, made = channel(2000, events(60, 480, np.random.default_rng(6)))
    count, chance = beyond_simulation(made, ["signal"])
    assert (count, 0 < chance < 0.2) == (0, True)
    odd = made.processes["background"].nominal.copy()
    odd[-2:] = 1e-4
    processes = {**made.processes, "background": replace(made.processes["background"], nominal=odd)}
    outlying = replace(made, processes=processes)
    assert beyond_simulation(outlying, ["signal"]) == (2, chance)
    ((_, state, text),) = Unbinned([outlying], {})._data(["signal"])
    assert (state, "2 in SR (by chance 0.0" in text, "Look at them" in text) == ("bad", True, True)


def test_negative_densities_where_data_have_no_event_are_told() -> None:
    """In bins, no strength makes an expectation negative; at events, none that are not there."""
    data = events(0, 480, np.random.default_rng(6))
    _, made = channel(500, data[data @ MEAN / np.linalg.norm(MEAN) < 2.0])
    found = likelihood(made)
    best = maximum(found, found.observed, twice=True)
    assert sign_of_densities(inference._negative(found.finest(best.at)))[1] == "bad"


def test_a_process_without_events_is_refused() -> None:
    nothing = {"ZZ": Densities(np.zeros(2, np.float32))}
    with pytest.raises(NanoMLError, match="SR: 0 events of ZZ are expected. Leave it out"):
        Points.of([UnbinnedChannel("SR", None, None, np.ones(2), nothing)], NAMED)
    varied = {"ZZ": Densities(np.ones(2, np.float32), {"jes": np.zeros(2, np.float32)})}
    with pytest.raises(NanoMLError, match="SR: jes leaves no event of ZZ. Remove it"):
        Points.of([UnbinnedChannel("SR", None, None, np.ones(2), varied)], NAMED)


def test_the_stage_reads_what_others_write(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        """
luminosity: 60
datasets: {A: {files: a.root, class: signal}, B: {files: b.root, class: background}}
regions: {SR: MET > 50}
skim: {selection: wz.py:WZ}
convert: {features: [MET]}
train: {folds: 3}
histogram: {signal: {}}
fit: {channels: {SR: signal}, unbinned: SR}
"""
    )
    analysis = Analysis(load(tmp_path / "a.yaml"))
    layout, (task,) = Layout.of(analysis.config), fit_stage(analysis).tasks
    (job,) = task.work.args  # type: ignore[attr-defined]
    assert job.densities == layout.densities
    assert job.closures == {"SR": layout.ratios("SR", CLOSURE)}
    assert {it.name for it in task.outputs} == {"results.json", "workspace.json"}
