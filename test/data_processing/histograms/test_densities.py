"""Densities at single events, from files with the outputs of exact networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uproot

from data_processing.histograms.densities import DensityJob, make_densities
from data_processing.histograms.fill import FillJob, Plan, Process, fill_file
from data_processing.histograms.templates import Part
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.densities import UnbinnedChannel, UnbinnedChannels
from MLTools.NanoML.contracts.templates import BlindBins, HistogramChannel
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
    text = (
        (EXAMPLES / "wz.yaml")
        .read_text()
        .replace("  channels: {SR: signal}", "  channels: {SR: signal}\n  unbinned: SR")
    )
    text = text.replace("workdir: wz", f"workdir: {tmp_path / 'wz'}").replace('"nano/', f'"{EXAMPLES}/nano/')
    text = text.replace("corrections/20", f"{EXAMPLES}/corrections/20").replace("wz.py:WZ", f"{EXAMPLES}/wz.py:WZ")
    (tmp_path / "a.yaml").write_text(text)
    config = load(tmp_path / "a.yaml")
    found = {it.name: it.tasks for it in pipeline_stages(config, ("score", "fill", "histogram"))}
    for task in found["score"]:
        era = task.name.partition("/")[0][-4:]
        assert [str(it.relative_to(tmp_path / "wz")) for it in task.work.args[0].models] == [
            "model.onnx",
            f"ratios/SR_{era}.onnx",
        ]
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
