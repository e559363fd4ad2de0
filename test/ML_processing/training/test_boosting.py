"""Trees in everything that a training can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ML_processing.events.inputs import Inputs
from ML_processing.export.export import export
from ML_processing.models.network import scores_of
from ML_processing.networks.bdt import BDT
from ML_processing.training.description import best_epoch, last_improvement
from ML_processing.training.directory import Training, history_file
from ML_processing.training.train import train
from MLTools.NanoML.config.evaluation import Export
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Model
from services.evaluations import draw_only, evaluate
from services.toys import MovingSignal
from services.trainings import auc_lost

Toy = Callable[..., Path]
QUICK = Train(model="bdt", options={"leaves": 4}, learning_rate=0.2, epochs=60, patience=5, folds=3, device="cpu")


def grown(directory: Path) -> list[int]:
    """Rounds that each fold kept."""
    cores = [network.core for network in Training.load(directory).networks]
    return [core.booster.num_trees() for core in cores if isinstance(core, BDT)]


@pytest.fixture
def trained(toy: Toy, tmp_path: Path) -> Path:
    train([toy(count=1500)], QUICK, tmp_path / "run")
    return tmp_path / "run"


def test_the_best_round_is_kept_and_another_training_gives_the_same(trained: Path, toy: Toy, tmp_path: Path) -> None:
    run = Training.load(trained)
    best = [best_epoch(history).epoch for history in run.histories]
    assert grown(trained) == best
    for history, kept in zip(run.histories, best, strict=True):
        assert [entry.epoch for entry in history] == list(range(1, len(history) + 1))
        assert len(history) == min(QUICK.epochs, kept + QUICK.patience)
        assert history[0].validation_loss > history[kept - 1].validation_loss
    assert max(best) > 5
    metrics: Any = run.description.metrics
    assert metrics["auc"] > 0.8  # the best is 0.841
    texts = [core.text for core in (network.core for network in run.networks) if isinstance(core, BDT)]
    history_file(trained, 1).unlink()  # as if it had been interrupted
    train([toy(count=1500)], QUICK, trained)
    again = [network.core for network in Training.load(trained).networks]
    assert all(torch.equal(text, core.text) for text, core in zip(texts, again, strict=True) if isinstance(core, BDT))
    train([toy(count=1500)], replace(QUICK, seed=2, options={"leaves": 4, "event_share": 0.5}), tmp_path / "other")
    assert grown(tmp_path / "other") != best


@pytest.mark.parametrize("negative_weights", ["signed", "reweight"])
def test_negative_weights(negative_weights: str, toy: Toy, tmp_path: Path) -> None:
    config = replace(QUICK, negative_weights=negative_weights, folds=1)
    metrics = train([toy(count=4000, negative=0.2)], config, tmp_path / "run")
    assert metrics["auc"] > 0.78
    (history,) = Training.load(tmp_path / "run").histories
    assert len(history) == min(QUICK.epochs, last_improvement(history).epoch + QUICK.patience)
    assert all((entry.validation_error or 0) > 0 for entry in history[1:])


def test_more_events_than_fit_into_memory(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(BDT, "grow", lambda core, training, *rest: seen.append(training) or iter([[]]))
    path = toy(count=60_000, **{f"v{i}": np.zeros(60_000, np.float32) for i in range(20)})
    for memory in (1000, 1):
        with pytest.raises(ValueError, match="unpack"):
            train([path], replace(QUICK, folds=1, workers=1, memory=memory), tmp_path / "run")
    whole, read = seen
    assert len(read) == len(whole) == pytest.approx(36_000, rel=0.03)
    sums = [events.inputs.features.double().sum(dim=0) for events in seen]
    torch.testing.assert_close(*sums)
    assert float(read.weights.sum()) == pytest.approx(float(whole.weights.sum()), rel=1e-5)


@pytest.mark.exhaustive("report and export of trees, too")
def test_report_and_model(trained: Path, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_only(monkeypatch)
    content = evaluate(trained, [toy(count=1500)], trained)
    note = "The networks on this page are boosted decision trees, so there is no other BDT to compare with."
    assert note in content["notes"]
    assert not any("BDT" in answer["question"] for answer in content["verdict"])
    assert content["verdict"][0]["question"] == "Overtrained?"
    assert content["baseline"] is content["auc"]["baseline"] is content["auc"]["difference"] is None
    assert [curve["label"] for curve in content["plots"]["roc"]["curves"]] == ["Network (vs all)"]
    assert "<th>BDT</th>" not in (trained / "report.html").read_text()
    assert [row["attribution"] for row in content["plots"]["importance"]["inputs"]] == [None, None]
    assert min(row["loss"] for row in content["plots"]["importance"]["inputs"]) > 0.02
    described = export(trained, tmp_path / "model.onnx", Export("CMSSW_13_3_X"))
    assert described["target"]["opset"] == 15
    assert described["target"]["ir"] == 8
    run, random = Training.load(trained), np.random.default_rng(4)
    events = random.normal(0, 2, (500, 2)).astype(np.float32)
    events[::7, 0] = np.nan
    inputs = Inputs(torch.from_numpy(events), {})
    expected = [scores_of(it.outputs(inputs), it.shape.outputs).detach().numpy() for it in run.networks]
    fold = np.arange(500) % 3
    model = Model(tmp_path / "model.onnx")
    columns = {"x": events[:, 0], "y": events[:, 1]}
    np.testing.assert_allclose(model.scores(columns), np.mean(expected, axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.scores(columns, fold), np.array(expected)[fold, np.arange(500)], rtol=0, atol=1e-6)


def test_collections(object_files: list[Path], tmp_path: Path) -> None:
    config = replace(QUICK, features=[], learning_rate=0.1, folds=1)
    assert train(object_files, config, tmp_path / "run")["auc"] > 0.8
    export(tmp_path / "run", tmp_path / "model.onnx", Export())


def test_regression(toy: Toy, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    z = random.uniform(1000, 2000, 4000).astype("f4")
    seen = (z + random.normal(0, 50, 4000)).astype("f4")
    config = replace(QUICK, targets=["z", "x"], features=["seen", "y"], folds=1)
    metrics = train([toy(count=4000, z=z, seen=seen)], config, tmp_path / "run")
    assert metrics["rmse"]["z"] == pytest.approx(50, rel=0.1)
    assert metrics["rmse"]["x"] == pytest.approx(np.sqrt(1 + 0.25 - 0.05), rel=0.1)
    export(tmp_path / "run", tmp_path / "model.onnx", Export())


def test_a_parameter(toy: Toy, tmp_path: Path) -> None:
    known, random = MovingSignal(), np.random.default_rng(1)
    values = (0.0, 2.0, 4.0)
    features, parameter = known.sample(values, 1500, random)
    path = toy(count=len(features), x=features[:, 0], y=features[:, 1], value=parameter, parameter="value")
    train([path], replace(QUICK, parameter="value", folds=1), tmp_path / "run")
    (network,) = Training.load(tmp_path / "run").networks
    assert max(auc_lost(known, network, value, 5000, random) for value in values) < 0.04


def test_what_it_cannot_do(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='train.device: the model "bdt" learns on the CPU. Use auto or cpu.'):
        train([toy()], replace(QUICK, device="cuda"), tmp_path / "run")
    constant = toy(count=600, x=np.ones(600, "f4"), y=np.ones(600, "f4"))
    with pytest.raises(NanoMLError, match="no input has two different values"):
        train([constant], replace(QUICK, workers=1), tmp_path / "run")
