"""Densities at single events, and bins by the result, by exact networks and densities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import uproot
from scipy.stats import norm as gaussian

from data_processing.histograms.densities import DensityJob, make_densities
from data_processing.histograms.fill import FillJob, Plan, Process, fill_file
from data_processing.histograms.resultbins import FitOf, choose
from data_processing.histograms.sums import Part, Sums
from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.bins import STRENGTH, Counts, chosen_bins, fine_edges, strength_error, with_background
from MLTools.NanoML.contracts.blinding import BlindBins
from MLTools.NanoML.contracts.densities import UnbinnedChannel, UnbinnedChannels
from MLTools.NanoML.contracts.templates import HistogramChannel, Origin, Template
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from MLTools.NanoML.workflow.unblinding import as_it_is
from services.unbinned import BACKGROUND, RATE, SIGNAL, Floats, events, expected

EXAMPLES = Path(__file__).parents[3] / "examples"
COUNT = 4000
CLASSES = ("signal", "background")
SHARES = {"SR": 0.0}


def write(path: Path, x: Floats, total: float, is_background: bool) -> None:
    """A file with scores, as those of a dataset, with a quarter of its events outside of the region."""
    nominal, up = (expected(x, 1.0, 0.0, rate)[1] for rate in (0.0, 1.0))
    share = {name: values / {"signal": SIGNAL, "background": BACKGROUND}[name] for name, values in nominal.items()}
    weight = np.full(len(x), total / len(x))
    change = up["background"] / nominal["background"]
    with uproot.recreate(path) as file:
        file["Events"] = {
            "run": np.ones(len(x), np.uint32),
            "luminosityBlock": np.ones(len(x), np.uint32),
            "event": np.arange(len(x), dtype=np.uint64),
            "in_SR": np.arange(len(x)) % 4 > 0,
            "eventWeight": weight.astype(np.float32),
            "eventWeight_rateUp": (weight * (change if is_background else 1.0)).astype(np.float32),
            **{f"ratios_SR_{name}": (each / 2).astype(np.float32) for name, each in share.items()},
            "ratios_SR_varied_background_rateUp": (change / RATE).astype(np.float32),
            "ratios_SR_fold": np.zeros(len(x), np.int32),
        }


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> DensityJob:
    """Densities of two classes and of data that are blind; names of files are the processes."""
    directory, random = tmp_path_factory.mktemp("densities"), np.random.default_rng(3)
    parts, plan = [], Plan("ratios_SR", (), ("SR",), classes=CLASSES)
    for name, total in (("signal", SIGNAL), ("background", BACKGROUND), ("data_obs", 30.0)):
        x = events(*{"signal": (COUNT, 0), "background": (0, COUNT), "data_obs": (3, 27)}[name], random)
        write(directory / f"{name}.root", x, total, name == "background")
        path, source = directory / f"{name}.h5", str(directory / f"{name}.root")
        shares = {} if name == "data_obs" else SHARES
        fill_file(FillJob(source, source, path, [plan], [Process(name, shares=shares)], "model"))
        parts.append(Part(path, None))
    return DensityJob(parts, [], [HistogramChannel("SR", None)], CLASSES, directory / "densities.h5")


def made(job: DensityJob) -> UnbinnedChannel:
    make_densities(job)
    (channel,) = UnbinnedChannels.read(job.output).channels
    return channel


def test_densities_are_normalised_to_expected_events(job: DensityJob) -> None:
    channel = made(job)
    with uproot.open(job.parts[1].path.with_suffix(".root")) as file:
        of = file["Events"].arrays(library="np")
    background, mine = channel.processes["background"], of["in_SR"]
    assert channel.total(background.nominal) == pytest.approx(of["eventWeight"][mine].sum())
    assert channel.total(background.up["rate"]) == pytest.approx(of["eventWeight_rateUp"][mine].sum())
    assert background.variance == pytest.approx((of["eventWeight"][mine] ** 2).sum())
    assert channel.counted.processes["background"].variances.sum() == background.variance
    # a variation of one direction goes as far to the other side, and one that does not matter stays away
    np.testing.assert_allclose(background.down["rate"], 2 * background.nominal - background.up["rate"], rtol=1e-4)
    np.testing.assert_allclose(channel.processes["signal"].up["rate"], channel.processes["signal"].nominal, rtol=1e-6)
    assert set(channel.closure) == {"signal", "background", "background, rateUp"}
    assert all(abs(it - 1) < 0.05 for it in channel.closure.values())
    assert pytest.approx(channel.total(background.up["rate"]) / channel.total(background.nominal), abs=0.05) == RATE
    assert channel.observed == len(background.nominal) - len(channel.widths) > 0


def test_blind_data_are_not_there(job: DensityJob, tmp_path: Path) -> None:
    source = str(job.parts[2].path.with_suffix(".root"))
    plan = Plan("ratios_SR", (), ("SR",), classes=CLASSES)
    for shares, seen in ((SHARES, None), ({"SR": 0.5}, 10)):  # 10 of 22 events, by their hash
        fill_file(FillJob(source, source, tmp_path / "data.h5", [plan], [Process("data_obs", shares=shares)], "model"))
        found = made(replace(job, parts=[*job.parts[:2], Part(tmp_path / "data.h5", None)]))
        assert found.observed == seen
    # S / sqrt(B) is 1.9 of all events together, and 6.2 of those in the finest bins
    rule = BlindBins("signal", 5.0)
    assert made(replace(job, blind=rule)).observed is None
    assert made(replace(job, blind=rule, opened=[("SR", None)])).observed is not None
    assert made(replace(job, blind=BlindBins("signal", 7.0))).observed is not None


def test_scores_of_before_the_setting_are_refused(job: DensityJob, tmp_path: Path) -> None:
    source = str(job.parts[0].path.with_suffix(".root"))
    plan = Plan("ratios_SR", (), ("SR",), classes=("signal", "WZ"))
    with pytest.raises(NanoMLError, match="has no branch ratios_SR_WZ. Score the events again"):
        fill_file(FillJob(source, source, tmp_path / "a.h5", [plan], [Process("signal")], "model"))


def test_each_era_has_its_channel(tmp_path: Path) -> None:
    """The stages of the example: files are scored and filled by the ratios of their era, and unblinding knows these."""
    text = (EXAMPLES / "wz.yaml").read_text()
    text = text.replace("  channels: {SR: signal}", "  channels: {SR: signal}\n  unbinned: SR")
    text = text.replace("workdir: wz", f"workdir: {tmp_path / 'wz'}").replace('"nano/', f'"{EXAMPLES}/nano/')
    text = text.replace("corrections/20", f"{EXAMPLES}/corrections/20").replace("wz.py:WZ", f"{EXAMPLES}/wz.py:WZ")
    (tmp_path / "a.yaml").write_text(text)
    config = load(tmp_path / "a.yaml")
    found = {it.name: it.tasks for it in pipeline_stages(config, ("score", "fill", "histogram"))}
    for task in found["score"]:
        era = task.name.partition("/")[0][-4:]
        models = [str(it.relative_to(tmp_path / "wz")) for it in task.work.args[0].models]
        assert models == ["model.onnx", f"ratios/SR_{era}.onnx"]
    for task in found["fill"]:
        (plan,) = (it for it in task.work.args[0].plans if it.classes)
        assert plan.name == f"ratios_SR_{task.name.partition('/')[0][-4:]}"
    _, densities = found["histogram"]
    assert densities.work.args[0].output == Layout.of(config).densities
    assert [it.name for it in densities.work.args[0].channels] == ["SR_2018", "SR_2022"]
    before = as_it_is(config, [("SR", "2018"), ("SR", "2022")])
    network = Layout.of(config).ratios("SR_2018", ".onnx")
    network.parent.mkdir(parents=True)
    network.write_bytes(b"another network")
    after = as_it_is(config, [("SR", "2018"), ("SR", "2022")])
    assert [before[it] == after[it] for it in before] == [False, True]


EDGES = np.array(fine_edges())
DENSITIES = {"signal": (1.0, 1.0, 60.0), "wide": (-1.0, 1.0, 3000.0), "peak": (1.6, 0.4, 60.0)}
"""Mean and width of a Gaussian, and expected events: the peak lies under the signal."""


def samples(contents: dict[str, tuple[np.ndarray, np.ndarray]], starts: Sequence[int], size: float) -> list[Counts]:
    """The processes in bins; the yield of the peak is uncertain."""
    factors = {"peak": {"norm": LogNormal(1 + size, 1 / (1 + size))}, "wide": {"lumi": LogNormal(1.02, 1 / 1.02)}}
    return [
        Counts(
            STRENGTH if name == "signal" else None,
            *(np.add.reduceat(it, starts) for it in each),
            {},
            factors.get(name, {}),
            None,
        )
        for name, each in contents.items()
    ]


def halves(seed: int, events: int) -> dict[Optional[int], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Sums of weights and of their squares in fine bins of the score 1 / (1 + exp(-2 x)): of both halves, and of all."""
    random, found = np.random.default_rng(seed), {0: {}, 1: {}, None: {}}
    for name, (mean, width, total) in DENSITIES.items():
        score, part = 1 / (1 + np.exp(-2 * random.normal(mean, width, events))), random.random(events) < 0.5
        for half, mine in ((0, part), (1, ~part), (None, part | ~part)):
            counts, weight = np.histogram(score[mine], EDGES)[0], total / mine.sum()
            found[half][name] = counts * weight, counts * weight**2 * (1 if half is None else 0.5)
    return found


def candidates(contents: Any, half: Optional[int], most: int) -> list[int]:
    signal, (wide, peak) = contents[half]["signal"][0], (contents[half][name] for name in ("wide", "peak"))
    *starts, _ = chosen_bins(signal, wide[0] + peak[0], wide[1] + peak[1], 10, most)
    return with_background(starts, [signal], [wide[0] + peak[0]])


def truth(starts: Sequence[int], size: float) -> float:
    """The uncertainty in bins, of the densities themselves."""
    odds = np.concatenate([[-np.inf], np.log(EDGES[1:-1] / (1 - EDGES[1:-1])) / 2, [np.inf]])
    exact = {
        name: (total * np.diff(gaussian.cdf(odds, mean, width)), np.zeros(len(odds) - 1))
        for name, (mean, width, total) in DENSITIES.items()
    }
    return float(strength_error([samples(exact, starts, size)], np))


@pytest.mark.parametrize(("size", "most", "gain"), [(0.5, 4, 0.2), (2.0, 8, 0.1), (0.02, 15, 0.0)])
def test_they_measure_better_than_bins_by_numbers(size: float, most: int, gain: float) -> None:
    contents = halves(1, 20_000)
    make = lambda half, starts: [samples(contents[half], starts, size)]  # noqa: E731
    found: Any = choose(make, [], partial(candidates, contents), most)
    assert len(found.starts) <= most
    best, auto = truth(range(len(EDGES) - 1), size), truth(candidates(contents, None, most), size)
    mine = truth(found.starts, size)
    assert best <= mine < (1 - gain) * auto * 1.01
    assert found.judged < (1 - gain) * found.auto
    # what was judged is the truth but for the statistical errors of simulation, of which the truth has none
    assert found.judged == pytest.approx(mine, rel=0.1)
    said = f"expected uncertainty of the signal strength {found.judged:.3g} in {len(found.starts)} bins"
    assert str(found).startswith(said)


def test_optimism_is_seen_where_there_are_few_events() -> None:
    found = []
    for seed in range(4):
        contents = halves(seed, 1000)
        make: Callable[..., Any] = lambda half, starts, of=contents: [samples(of[half], starts, 0.5)]  # noqa: E731
        choice = choose(make, [], partial(candidates, contents), 15)
        found.append(choice.judged / choice.chosen if choice else 1.0)
    assert np.mean(found) > 1.05


def test_other_channels_count() -> None:
    """A control region that knows the yield of the peak makes bins that tell it apart less important."""
    contents = halves(1, 20_000)
    make = lambda half, starts: [samples(contents[half], starts, 0.5)]  # noqa: E731
    peak = Counts(None, np.array([1e4]), np.zeros(1), {}, {"norm": LogNormal(1.5, 1 / 1.5)}, None)
    alone, constrained = (choose(make, each, partial(candidates, contents), 4) for each in ([], [[peak]]))
    assert alone is not None
    assert constrained is not None
    assert constrained.judged < 0.9 * alone.judged
    assert constrained.starts != alone.starts


def test_without_signal_there_is_nothing_to_choose() -> None:
    contents = {half: {"wide": each["wide"], "peak": each["peak"]} for half, each in halves(1, 2_000).items()}
    nothing = np.zeros(len(EDGES) - 1)
    for each in contents.values():
        each["signal"] = nothing, nothing
    make = lambda half, starts: [samples(contents[half], starts, 0.5)[:2]]  # noqa: E731
    assert choose(make, [], lambda half, most: [0], 4) is None


def test_processes_are_those_of_the_fit() -> None:
    """Names, factors, negative bins, processes from data and free ones."""
    settings = Fit({"SR": "score"}, "signal", free=["ZZ"], uncertainties={"WZ": "10 %"}, uncorrelated=["jer"])
    fit = FitOf(settings, {"2018": {"lumi": LogNormal(1.02, 1 / 1.02)}})

    def template(*values: float) -> Template:
        nominal = np.array([9.0, *values, 7.0])
        return Template(nominal, nominal**2, {"jer": 1.1 * nominal}, {"jer": 0.9 * nominal})

    processes = {"signal": template(1, 2), "WZ": template(4, -1), "ZZ": template(3, 3), "fakes": template(2, 2)}
    processes["none"] = template(0, 0)
    found = fit.samples(HistogramChannel("SR", "2018", processes), {"fakes": Origin((), True)})
    assert [each.strength for each in found] == [STRENGTH, None, None, None]
    signal, wz, zz, fakes = found
    assert (signal.factors.keys(), wz.factors.keys()) == ({"lumi"}, {"lumi", "norm_WZ"})
    assert (zz.free, zz.factors, fakes.factors) == ("norm_ZZ", {}, {})
    assert wz.nominal.tolist() == [3.0, 0.0]
    assert set(wz.shapes) == {"jer_2018"}
    assert wz.shapes["jer_2018"].up.tolist() == pytest.approx([3.3, 0.0])


def test_halves_are_scaled_to_all_events() -> None:
    sums = Sums({"": np.array([1.0, 2, 0, 3, 0, 3]), "_xUp": np.arange(6.0)}, {"": np.ones(6)})
    assert sums.whole.sums[""].tolist() == [4, 2, 3]
    assert sums.half(0).sums[""].tolist() == [3, 6, 0]
    assert sums.half(1).sums["_xUp"].tolist() == [4.5, 6, 7.5]
    assert sums.half(0).squares[""].tolist() == [3, 3, 3]
