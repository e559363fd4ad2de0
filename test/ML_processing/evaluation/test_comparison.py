"""Data against simulation in the report: what is compared, and what stays blind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ML_processing.evaluation import data_comparison as events
from ML_processing.evaluation.data_comparison import region_events
from ML_processing.evaluation.sections.data import DataComparison
from ML_processing.metrics.measured import as_json
from ML_processing.requests import DataRequest
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.folds import part_of
from services.evaluations import draw_only, evaluate, undefined_in
from services.trainings import QUICK, event_rows

pytestmark = pytest.mark.exhaustive("each section and answer of the report")

SIMULATED, OBSERVED = 4000, 900
REGIONS = {"SR": "cut < 0", "CR": "cut >= 0", "low": "x < 1"}
NAMES = ["signal", "WZ", "ZG"]
Write = Observed = Callable[..., Path]
SMALL = {"width": 8, "hidden": [8]}
TRAIN = replace(QUICK, model="deepsets", options=SMALL, regions=["SR"], batch_size=256, epochs=4, workers=1)


def rows(count: int, labels: Any, seed: int, weight: Any, shift: float = 0.0) -> tuple[Any, dict[str, Any]]:
    """Events of three classes, with up to two jets each, in regions that overlap."""
    random = np.random.default_rng(seed)
    x = random.normal(np.where(labels == 0, 1.5, 0), 1.0)
    y, cut = random.normal(np.where(labels == 1, 1.5, 0), 1.0), random.normal(size=count)
    flags = {"in_SR": cut < 0, "in_CR": cut >= 0, "in_low": x < 1}
    columns = {"event": np.arange(count) + 10_000 * seed, "x": x.astype("f4"), "y": (y + shift).astype("f4"), **flags}
    jets = np.zeros((count, 2), [("valid", "?"), ("pt", "f4")])
    jets["valid"] = random.integers(0, 3, count)[:, None] > np.arange(2)
    jets["pt"] = np.where(jets["valid"], 30 + random.exponential(40, (count, 2)), 0)
    return event_rows(columns, labels, weight), {"Jet": jets}


def compared(training: Training, wanted: DataRequest, physical: bool) -> dict[str, DataComparison]:
    events = {name: region_events(training, wanted, name) for name in wanted.regions}
    return {name: DataComparison.of_events(it, wanted, physical) for name, it in events.items()}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data_comparison")


def simulated_in(path: Path, write: Write, signal: float) -> Path:
    labels = np.arange(SIMULATED) % 3
    made, objects = rows(SIMULATED, labels, 1, np.where(labels == 0, signal, OBSERVED / SIMULATED * 1.5))
    return write(path, made, classes=NAMES, regions=REGIONS, objects=objects, cross_section=1.0)


@pytest.fixture(scope="module")
def simulation(directory: Path, write: Write) -> Path:
    return simulated_in(directory / "simulation.h5", write, 0.003)


@pytest.fixture(scope="module")
def observed(directory: Path, write: Write) -> Observed:
    def make(name: str, regions: Any = REGIONS, **changes: Any) -> Path:
        labels = np.arange(OBSERVED) % 2 + 1
        made, objects = rows(OBSERVED, labels, 2, 1.0, changes.pop("shift", 0.0))
        for column, values in changes.items():
            made[column] = values(made)
        made["label"] = -1
        return write(directory / name, made, classes=NAMES, regions=regions, objects=objects, is_data=True)

    return make


@pytest.fixture(scope="module")
def run(directory: Path, simulation: Path) -> Path:
    train([simulation], TRAIN, directory / "run")
    return directory / "run"


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than all else here; those of `evaluated` are drawn."""
    draw_only(monkeypatch)


@pytest.fixture(scope="module")
def evaluated(run: Path, simulation: Path, observed: Observed, directory: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        draw_only(patch, "data")
        wanted = DataRequest(("CR", "low"), {"SR": 0}, (observed("data.h5"),), (simulation,), 59.8)
        evaluate(run, [simulation], directory / "report", (), wanted)
    content: dict[str, Any] = json.loads((directory / "report" / "metrics.json").read_text())
    return content


def events_of(file: Path) -> Any:
    with h5py.File(file) as h5:
        return h5["events"][:]


def test_numbers_are_those_of_the_events(evaluated: dict[str, Any], directory: Path) -> None:
    simulated, data = (events_of(directory / name) for name in ("simulation.h5", "data.h5"))
    for name in ("CR", "low"):
        found = evaluated["data"][name]
        inside, outside = (each[f"in_{name}"] & ~each["in_SR"] for each in (simulated, data))
        expected = simulated["weight"][inside & (simulated["label"] > 0)].astype(float)
        assert found["left_out"] == ["SR"]
        assert found["data"] == found["data_in_all"] == outside.sum()
        assert found["expected"] == pytest.approx(expected.sum())
        assert found["expected_error"] == pytest.approx(np.sqrt((expected**2).sum()))
        assert found["ratio"] == pytest.approx(outside.sum() / expected.sum())
        x = next(it for it in found["inputs"] if it["name"] == "x")
        assert sum(x["data"]["values"]) == outside.sum()
        edges = np.array(x["edges"])
        clipped = np.clip(data["x"][outside], edges[0], edges[-1])
        assert x["data"]["values"] == np.histogram(clipped, edges)[0].tolist()
        sums = [simulated["weight"][inside & (simulated["label"] == i)].sum() for i in range(3)]
        assert [sum(each["values"]) for each in x["classes"]] == pytest.approx(sums, rel=1e-4)


def test_inputs_fields_and_scores_are_there(evaluated: dict[str, Any]) -> None:
    found = evaluated["data"]["CR"]
    assert [it["name"] for it in found["inputs"]] == ["x", "y", "Jet_pt"]
    assert [it["name"] for it in found["scores"]] == ["discriminant", *NAMES]
    assert found["signal"] == "signal"
    assert 0 < found["signal_over_root_background"] < 0.5
    for panel in found["inputs"] + found["scores"]:
        assert panel["probability"] > 1e-3  # data are drawn from the same distributions
    assert abs(found["classifier"]["standard_deviations"]) < 3
    # every event is assigned to one class
    assert [it["name"] for it in found["assigned"]] == NAMES
    assert sum(it["data"] for it in found["assigned"]) == found["data"]
    for it in found["assigned"]:
        assert it["ratio"] == pytest.approx(it["data"] / it["expected"])
        assert it["ratio_error"] > it["ratio"] / np.sqrt(it["data"])
    assert sum(it["expected"] for it in found["assigned"]) == pytest.approx(found["expected"])
    for it in found["assigned"]:
        assert list(it["probabilities"]) == ["x", "y", "Jet_pt"]
        assert sum(it["score"]["data"]["values"]) == it["data"]
        assert it["score"]["edges"][0] == pytest.approx(1 / 3)


def test_data_of_the_region_of_the_training_change_nothing(
    evaluated: Any, run: Path, simulation: Path, observed: Observed
) -> None:
    def changed(rows: Any) -> Any:
        return np.where(rows["in_SR"], 99.0, rows["x"])

    other = observed("changed.h5", x=changed)
    assert (events_of(other)["x"] == 99).sum() > 300
    wanted = DataRequest(("CR", "low"), {"SR": 0}, (other,), (simulation,), 59.8)
    found = as_json(compared(Training.load(run), wanted, True))
    for name, each in evaluated["data"].items():
        assert {**found[name], "files": each["files"]} == each


def test_a_part_of_a_region_is_compared(run: Path, simulation: Path, observed: Observed, directory: Path) -> None:
    """Of SR itself, and of what is in SR elsewhere."""
    data, simulated, wanted = (
        events_of(observed("data.h5")), events_of(directory / "simulation.h5"),
        DataRequest(("SR", "low"), {"SR": 0.25}, (directory / "data.h5",), (simulation,), 59.8),
    )  # fmt: skip
    part = part_of(data["run"], data["luminosityBlock"], data["event"]) < 0.25
    found = compared(Training.load(run), wanted, True)
    for name, each in found.items():
        assert each.data == (data[f"in_{name}"] & (part | ~data["in_SR"])).sum()
        weights = simulated["weight"] * np.where(simulated["in_SR"], 0.25, 1)
        expected = weights[simulated[f"in_{name}"] & (simulated["label"] > 0)].sum()
        assert each.expected.value == pytest.approx(expected, rel=1e-5)
        ratio: Any = each.ratio
        assert abs(ratio.value - 1) < 4 * ratio.error
    shares = [(it.share, it.left_out, it.luminosity) for it in found.values()]
    assert shares == [(0.25, [], 59.8 / 4), (1, ["SR"], 59.8)]
    assert "They are 25 % of all, to which what is expected is scaled." in found["SR"].tables()


def test_bins_in_which_the_signal_may_show_are_blind(
    run: Path, directory: Path, write: Write, observed: Observed
) -> None:
    sensitive = simulated_in(directory / "sensitive.h5", write, 0.09)
    wanted = DataRequest(("CR",), {"SR": 0}, (observed("data.h5"),), (sensitive,), limit=1.0)
    training = Training.load(run)
    found = compared(training, wanted, True)["CR"]
    every = compared(training, replace(wanted, limit=None), True)["CR"]
    assert (found.limit, every.limit) == (1.0, None)
    blind = 0
    for panel, complete in zip(
        [*found.scores, *(it.score for it in found.assigned)], [*every.scores, *(it.score for it in every.assigned)],
        strict=True,
    ):  # fmt: skip
        background = complete.without("signal").values
        expected = panel.without(None).values
        hidden = complete.without(None).values - background > np.sqrt(background)
        assert np.isnan(panel.data.values).tolist() == panel.blind.tolist() == hidden.tolist()
        assert expected[hidden].tolist() == complete.without(None).values[hidden].tolist()
        blind += int(panel.blind.sum())
    # no panel shows an event that another one hides
    assert {np.nansum(panel.data.values) for panel in found.scores} == {found.data}
    assert [np.nansum(it.score.data.values) for it in found.assigned] == [it.data for it in found.assigned]
    assert blind > 5
    assert found.assigned[0].score.blind.any()
    # all else counts only events that are in no blind bin of a score
    assert 0 < found.data == found.data_in_all < every.data
    assert (found.expected.value or 0) < (every.expected.value or 0)
    assert sum(it.data for it in found.assigned) == found.data
    assert sum(found.inputs[0].data.values) == found.data
    assert found.classifier is None or found.classifier.events < SIMULATED
    assert None in as_json(found)["scores"][0]["data"]["values"]
    assert "an expected S / √B above 1, are blind" in found.tables()


def test_a_shift_is_told(run: Path, simulation: Path, observed: Observed, tmp_path: Path) -> None:
    """The file of data is one of those that are compared."""
    file = observed("shifted.h5", shift=0.8)
    content = evaluate(run, [simulation], tmp_path, [file], DataRequest(("CR",), {"SR": 0}))
    (answer,) = (it for it in content["verdict"] if it["question"] == "Does simulation describe data in CR?")
    assert answer["state"] == "bad"
    assert "they differ in y" in answer["text"]
    tests = {it["name"]: it["probability"] for it in content["data"]["CR"]["inputs"]}
    assert tests["y"] < 1e-6 < min(tests["x"], tests["Jet_pt"])
    assert content["plots"]["drift"] is None


def test_the_page_shows_it(evaluated: dict[str, Any], directory: Path) -> None:
    page = (directory / "report" / "report.html").read_text()
    places = re.findall(r'<section id="(\w+)"', page)
    assert places[-3:] == ["data_CR", "data_low", "provenance"]
    assert set(re.findall(r'href="#(\w+)"', page)) == set(places)
    for name in ("CR", "low"):
        for kind in ("inputs", "scores"):
            assert (directory / "report" / f"data_{kind}_{name}.png").read_bytes().startswith(b"\x89PNG")
    assert page.count("Events that are also in SR, where data are blind, are left out.") == 2
    assert "all classes except signal, which is drawn as a line" in page
    assert "assigned to WZ" in page
    assert f"<td>compared files</td><td>{directory / 'data.h5'}</td>" in page
    assert undefined_in(page) == []


def test_data_are_not_read_without_a_region(run: Path, simulation: Path, observed: Observed, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data.h5 has data, which are compared in the regions of evaluate.data_in"):
        evaluate(run, [simulation], tmp_path, [observed("data.h5")])
    assert not list(tmp_path.iterdir())


def test_regions_that_cannot_be_compared(run: Path, simulation: Path, observed: Observed) -> None:
    training, data = Training.load(run), observed("data.h5")
    wanted = DataRequest((), {"SR": 0}, (data,), (simulation,))
    with pytest.raises(ConfigError, match="data in SR are blind"):
        region_events(training, wanted, "SR")
    with pytest.raises(ConfigError, match='"CRR" is not a region of the HDF5 files. Did you mean "CR"'):
        region_events(training, wanted, "CRR")
    other = observed("other.h5", {**REGIONS, "SR": "cut < -1"})
    with pytest.raises(NanoMLError, match=r"other.h5: has another region SR than .*simulation.h5"):
        region_events(training, replace(wanted, data=(other,)), "CR")


def test_data_beyond_the_memory_are_a_part_to_which_simulation_is_scaled(
    evaluated: dict[str, Any], run: Path, simulation: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = events.EventSample
    monkeypatch.setattr(events, "EventSample", lambda limit: full(20_000))
    training = Training.load(run)
    wanted = DataRequest(("CR",), {"SR": 0}, (directory / "data.h5",), (simulation,))
    found = compared(training, wanted, True)["CR"]
    complete = evaluated["data"]["CR"]
    assert 50 < found.data < found.data_in_all == complete["data"]
    scale = found.data / found.data_in_all
    assert found.expected.value == pytest.approx(complete["expected"] * scale, rel=0.1)


def test_weights_that_are_no_numbers_of_events(run: Path, simulation: Path, observed: Observed) -> None:
    wanted = DataRequest(("CR",), {"SR": 0}, (observed("data.h5"),), (simulation,))
    found = compared(Training.load(run), wanted, False)["CR"]
    assert found.expected.value == pytest.approx(found.data, rel=1e-4)
    assert found.ratio.value is None
    assert found.signal_over_root_background is None


def test_a_single_network_scores_all_data(simulation: Path, observed: Observed, evaluated: Any, tmp_path: Path) -> None:
    train([simulation], replace(TRAIN, folds=1), tmp_path / "run")
    wanted = DataRequest(("CR",), {"SR": 0}, (observed("data.h5"),), (simulation,))
    found = compared(Training.load(tmp_path / "run"), wanted, True)["CR"]
    complete = evaluated["data"]["CR"]
    assert found.data == complete["data"]
    assert found.expected.value == pytest.approx(complete["expected"])
    assert (found.expected.error or 0) > 1.5 * complete["expected_error"]
    for panel in found.scores:
        assert panel.data.values.sum() == found.data


def test_a_regression_is_compared_by_its_values(simulation: Path, observed: Observed, tmp_path: Path) -> None:
    train([simulation], replace(TRAIN, targets=["y"]), tmp_path / "run")
    wanted = DataRequest(("CR",), {"SR": 0}, (observed("data.h5"),), (simulation,))
    found = compared(Training.load(tmp_path / "run"), wanted, True)["CR"]
    assert [it.label for it in found.scores] == ["Predicted y"]
    assert [it.name for it in found.inputs] == ["x", "Jet_pt"]
    assert found.assigned == []
    assert found.signal is None
    assert found.classifier is not None
