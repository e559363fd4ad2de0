"""A training for each era, from events to histograms: each event is scored by the networks of its own era and fold."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.commands.start import advice
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load
from MLTools.NanoML.model import Model
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.workflow.pipeline import planned
from MLTools.NanoML.workflow.task import Record
from services.points import write

pytest.importorskip("data_processing.convert.stage")
pytest.importorskip("ML_processing.stages")
pytestmark = [pytest.mark.exhaustive("each kind of analysis"), pytest.mark.usefixtures("nothing_drawn")]

CONFIG = """\
workdir: out
eras: {2018: {luminosity: 60}, 2022: {luminosity: 40}}
datasets:
  signal_2018: {files: signal_2018.root, class: signal, cross_section: 0.00002, era: 2018}
  WZ_2018: {files: WZ_2018.root, class: WZ, cross_section: 0.003, era: 2018}
  Muon_2018: {files: Muon_2018.root, data: true, era: 2018}
  Egamma_2018: {files: Egamma_2018.root, data: true, era: 2018}
  signal_2022: {files: signal_2022.root, class: signal, cross_section: 0.00003, era: 2022}
  WZ_2022: {files: WZ_2022.root, class: WZ, cross_section: 0.004, era: 2022}
  Muon_2022: {files: Muon_2022.root, data: true, era: 2022}
regions: {SR: isTight && nB == 0, CR: isTight && nB > 0, sideband: "!isTight"}
data_driven:
  fakes:
    {from: [Muon_2018, Muon_2022], region: sideband, weight: 0.3, variations: {up: 0.4, down: 0.3 - 0.1 * nB},
     subtract: [WZ], into: {SR: nB == 0, CR: nB > 0}}
skim: {cut: x > -2.5, keep: [x, y, isTight, nB]}
convert: {features: [x, y], shuffle: 1}
train: {model: "own.py:Own", per_era: true, regions: [SR], folds: 3, epochs: 6, batch_size: 16, options: {width: 8}}
evaluate: {data_in: [CR]}
blind: {regions: [SR, sideband]}
export: {name: toy}
histogram:
  toy_discriminant: {bins: [5, 0, 1]}
  x: {bins: [6, -3, 3]}
"""
OWN = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

class Own(nn.Module):
    \"""Classes, and the loss that an event will have, which the scores of NanoAOD get as toy_doubt.\"""

    heads = ("classes", "doubt")
    defaults = {"learning_rate": 0.02}

    def __init__(self, shape, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(len(shape.features), width), nn.SiLU())
        self.classes, self.doubt = nn.Linear(width, shape.outputs), nn.Linear(width, 1)

    def forward(self, inputs):
        hidden = self.body(inputs.features)
        return {"classes": self.classes(hidden), "doubt": nn.functional.softplus(self.doubt(hidden))}

    def loss(self, outputs, batch):
        losses = cross_entropy(outputs["classes"], batch.labels, reduction="none")
        return losses + 0.1 * (outputs["doubt"][:, 0] - losses.detach()) ** 2
"""
ERAS = ("2018", "2022")
PROCESSES = ("signal", "WZ", "fakes")
OUTPUTS = ("toy_signal", "toy_WZ", "toy_fakes", "toy_discriminant", "toy_doubt")
RUN = CliRunner()


def write_era(path: Path, seed: int, at: float, run: int = 1) -> None:
    """400 events with numbers of their own."""
    write(path, seed, 400, at, run, first=1000 * seed)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The analysis, after a run of all stages, with a network of one's own. In 2022 the signal is where the background is in 2018."""
    base = tmp_path_factory.mktemp("eras")
    for number, (era, side) in enumerate(zip(ERAS, (1, -1), strict=True)):
        write_era(base / f"signal_{era}.root", 10 * number + 1, side)
        write_era(base / f"WZ_{era}.root", 10 * number + 2, -side)
        write_era(base / f"Muon_{era}.root", 10 * number + 3, 0, run=320_000 + number)
    write_era(base / "Egamma_2018.root", 4, 0, run=320_000)
    (base / "own.py").write_text(OWN)
    (base / "a.yaml").write_text(CONFIG)
    done = RUN.invoke(nanoml, ["run", str(base / "a.yaml")])
    assert done.exit_code == 0, done.exception
    return load(base / "a.yaml")


def scored(config: Config) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for name in config.datasets:
        with uproot.open(config.base / "out" / "scores" / name / f"{name}.root") as file:
            rows = file["Events"].arrays(library="np")
        with uproot.open(config.base / "out" / "skims" / name / f"{name}.root") as file:
            yield name, {**file["Events"].arrays(["x", "y", "isTight", "nB"], library="np"), **rows}


def test_every_event_has_the_scores_of_its_own_era_and_fold(config: Config) -> None:
    models = {era: Model(config.base / "out" / f"model_{era}.onnx") for era in ERAS}
    assert [model.name for model in models.values()] == ["toy", "toy"]
    for name, rows in scored(config):
        era = config.datasets[name].era
        fold = fold_of(rows["run"], rows["luminosityBlock"], rows["event"], 3)
        assert set(fold.tolist()) == {0, 1, 2}
        found = np.stack([rows[output] for output in OUTPUTS], axis=1)
        inputs = {key: rows[key] for key in ("x", "y")}
        expected = {key: model.scores(inputs, fold) for key, model in models.items()}
        assert np.array_equal(found, expected.pop(str(era)))
        assert np.abs(found - expected.popitem()[1])[:, 0].max() > 0.1
        assert np.abs(found - models[str(era)].scores(inputs, (fold + 1) % 3)).max() > 1e-4


def test_networks_have_only_seen_their_era(config: Config) -> None:
    for era in ERAS:
        described = json.loads((config.base / "out" / f"training_{era}" / "training.json").read_text())
        assert described["data"]["files"] == [str(config.base / "out" / "hdf5" / f"all_{era}.h5")]
        parts = [f"signal_{era}", f"WZ_{era}", f"fakes_from_Muon_{era}", f"fakes_less_WZ_{era}"]
        assert [each["name"] for each in described["datasets"]] == sorted(parts)
        assert described["classes"] == [*PROCESSES]
        assert described["metrics"]["auc"] > 0.8
        assert described["config"]["model"].endswith("/own.py:Own")


def test_there_is_a_report_of_each(config: Config) -> None:
    for era, data in zip(ERAS, (["Egamma_2018", "Muon_2018"], ["Muon_2022"]), strict=True):
        directory = config.base / "out" / f"training_{era}"
        assert f"<h1>Training report of {era}: " in (directory / "report.html").read_text()
        metrics = json.loads((directory / "metrics.json").read_text())
        assert (metrics["era"], metrics["plots"]["eras"]) == (era, None)
        assert [Path(file).stem for file in metrics["data"]["CR"]["files"]] == data
        assert metrics["data"]["CR"]["luminosity"] == config.eras[era].luminosity
    said = str([each for each in advice(config.base) if each.about.startswith("a.yaml")])
    for era, name in itertools.product(ERAS, ("training_{}/report.html", "verify out/model_{}.onnx")):
        assert name.format(era) in said


def test_a_class_from_data_is_trained_on_and_reported(config: Config) -> None:
    with h5py.File(config.base / "out" / "hdf5" / "all_2022.h5") as file:
        rows = file["events"][:]
    data = dict(scored(config))["Muon_2022"]
    assert {*rows["event"][rows["run"] > 1]} == {*data["event"][~data["isTight"]]}
    directory = config.base / "out" / "training_2022"
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["plots"]["significance"]["physical"]
    regions = metrics["regions"]
    for name in ("SR", "CR"):
        weights = rows["weight"][rows[f"in_{name}"] & (rows["label"] == 2)].astype(float)
        found = regions[name]["yields"]["fakes"]
        assert found["events"] == len(weights) > 80
        assert found["sum_of_weights"] == pytest.approx(weights.sum(), rel=1e-6)
        assert found["sum_of_weights_error"] == pytest.approx(np.sqrt((weights**2).sum()))
        assert regions[name]["auc_one_against_all"]["signal"]["value"] > 0.6
    assert metrics["events"]["classes"]["fakes"]["events"] == regions["SR"]["yields"]["fakes"]["events"]
    # of the sideband the simulation is left, not the estimate
    assert regions["sideband"]["yields"]["fakes"]["events"] == 0
    assert regions["sideband"]["yields"]["WZ"]["events"] > 150
    page = (directory / "report.html").read_text()
    assert "fakes_less_WZ_2022 (fakes)" in page
    assert "subtracted in sideband, weighted by 0.3" in page
    (source,) = metrics["variations"]["sources"]
    inside = rows[rows["in_SR"] & (rows["label"] == 2)]
    sums = [inside[f"weight{it}"].sum(dtype=float) for it in ("", "_fakesUp", "_fakesDown")]
    up, down = sums[1] / sums[0], sums[2] / sums[0]
    assert (up, down) == (pytest.approx(4 / 3, rel=1e-5), pytest.approx(1, abs=1e-6))
    assert source["yields"]["fakes"]["up"] == pytest.approx(up - 1, rel=1e-4)
    (varied,) = metrics["variations"]["regions"]["CR"]
    assert varied["yields"]["fakes"]["down"] == pytest.approx(-1 / 3, rel=1e-4)
    assert varied["yields"]["WZ"] == {"up": 0, "down": 0}


def test_histograms_have_one_name_and_all_events(config: Config) -> None:
    with uproot.open(config.base / "out" / "histograms" / "histograms.root") as file:
        found = {
            (era, region, process): {it: file[f"{it}/{region}_{era}/{process}"] for it in ("toy_discriminant", "x")}
            for era in ERAS
            for region in ("SR", "CR")
            for process in PROCESSES
        }
        counted = {era: file[f"x/CR_{era}/data_obs"].values(flow=True).sum() for era in ERAS}
    events: dict[str, list[dict[str, np.ndarray]]] = {era: [] for era in ERAS}
    for name, rows in scored(config):
        if config.datasets[name].is_data:
            era = str(config.datasets[name].era)
            counted[era] -= (rows["isTight"] & (rows["nB"] > 0)).sum()
        elif name.startswith(("signal", "WZ")):
            process, era = name.split("_")
            for region in ("SR", "CR"):
                inside = rows[f"in_{region}"]
                expected = rows["eventWeight"][inside].sum(dtype=float)
                for each in found[era, region, process].values():
                    assert each.values(flow=True).sum() == pytest.approx(expected, rel=1e-5)
                score, weights = rows["toy_discriminant"][inside], rows["eventWeight"][inside]
                shape, _ = np.histogram(score, 5, (0, 1), weights=weights)
                assert found[era, region, process]["toy_discriminant"].values() == pytest.approx(shape, rel=1e-4)
            events[era].append(rows)
    assert counted == dict.fromkeys(ERAS, 0)
    for era in ERAS:  # what the networks learned from is what is filled
        with h5py.File(config.base / "out" / "hdf5" / f"all_{era}.h5") as file:
            rows = file["events"][:]
        for number, process in enumerate(PROCESSES):
            for region in ("SR", "CR"):
                expected = rows["weight"][rows[f"in_{region}"] & (rows["label"] == number)].sum(dtype=float)
                assert expected > 0
                filled = found[era, region, process]["toy_discriminant"].values(flow=True).sum()
                assert filled == pytest.approx(expected, rel=1e-4)


def reasons(config: Config) -> dict[str, list[str]]:
    todo = planned(config, ["convert", "shuffle", "train", "evaluate", "export", "normalise", "score", "fill"])
    return {each.stage.name: sorted(each.reasons) for each in todo if each.reasons}


def test_an_era_is_done_again_by_itself(config: Config, tmp_path: Path) -> None:
    assert not reasons(config)
    text = CONFIG.replace("cross_section: 0.004", "cross_section: 0.005")
    changed = config.base / "changed.yaml"
    changed.write_text(text)
    found = reasons(load(changed))
    assert found["evaluate"] == ["2022"]
    assert not {"train", "export"} & found.keys()
    assert found["shuffle"] == ["all_2022"]
    assert (found["normalise"], found["score"]) == (["WZ_2022"], ["WZ_2022/WZ_2022"])


def test_a_change_of_code_is_accepted_for_each_era(config: Config) -> None:
    records = sorted((config.base / "out" / ".nanoml" / "train").glob("*.json"))
    assert [path.stem for path in records] == [*ERAS]
    before = {path: path.read_text() for path in records}
    for path in records:
        replace(Record.read(path), code="another").write(path)
    assert reasons(config)["train"] == [*ERAS]
    done = RUN.invoke(nanoml, ["accept", "train", str(config.base / "a.yaml")])
    assert "train: 2 of 2 are accepted" in done.output
    assert not reasons(config)
    for path, text in before.items():
        path.write_text(text)


def test_one_training_is_exported_by_its_directory(config: Config, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    done = RUN.invoke(nanoml, ["export", str(config.base / "a.yaml"), "-o", str(output)])
    assert done.exit_code == 2
    assert "training_2018 or " in done.output
    done = RUN.invoke(nanoml, ["export", str(config.base / "out" / "training_2022"), "-o", str(output)])
    assert done.exit_code == 0, done.exception
    assert Model(output).description.folds == Model(config.base / "out" / "model_2022.onnx").description.folds
