"""MLflow and TensorBoard follow a training, if the settings say so."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML.config.load import load
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.schema.plain import build, plain
from MLTools.NanoML.schema.roles import decisive

pytest.importorskip("torch")

from ML_processing.training.following import add, beside, ending
from ML_processing.training.train import train
from MLTools.NanoML.config.evaluation import Tune
from services.toyfiles import toy, write
from services.trainings import QUICK

__all__ = ["toy", "write"]

Toy = Callable[..., Path]

TRAIN = replace(QUICK, epochs=4, workers=1)


def history_of(directory: Path, fold: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((directory / f"history_{fold}.json").read_text())
    return found


@pytest.mark.parametrize("tracker", ["mlflow", "tensorboard"])
def test_a_missing_package_is_told_first(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(ConfigError, match=rf"train.tracking: {tracker} needs .* pip install '.*\[{tracker}\]'"):
        train([toy()], replace(TRAIN, tracking=[tracker]), tmp_path / "training")
    assert not (tmp_path / "training").exists()


def test_tensorboard_has_each_epoch_of_each_network_once(toy: Toy, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    directory = tmp_path / "training"
    for _ in range(2):  # the second time one network is trained again
        train([toy()], replace(TRAIN, tracking=["tensorboard"]), directory)
        for fold in range(3):
            events = EventAccumulator(str(directory / "tensorboard" / f"fold_{fold}"))
            events.Reload()
            for name in ("train_loss", "validation_loss", "validation_auc", "learning_rate"):
                scalars = [(it.step, it.value) for it in events.Scalars(name)]
                expected = [(entry["epoch"], entry[name]) for entry in history_of(directory, fold)]
                assert scalars == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
        (directory / "network_1.pt").unlink()


@pytest.mark.exhaustive("services that follow a training")
@pytest.mark.usefixtures("white_figures")
def test_mlflow_goes_on_with_an_interrupted_training(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow.tracking import MlflowClient

    config, directory = replace(TRAIN, tracking=["mlflow"]), tmp_path / "training"
    train([toy()], config, directory)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string=f"name = '{tmp_path.name}'")
    (run,) = client.search_runs([experiment.experiment_id])
    description = json.loads((directory / "training.json").read_text())
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.01"
    assert run.data.params["options.hidden"] == "[8]"
    assert run.data.tags["fingerprint"] == description["fingerprint"]
    assert run.data.metrics["auc"] == description["metrics"]["auc"]
    files = {it.path for it in client.list_artifacts(run.info.run_id)}
    assert {"training.json", "environment.json", "network_0.pt", "loss.png"} <= files
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(tmp_path)

    with pytest.raises(RuntimeError), ending(config, directory):
        raise RuntimeError
    assert client.get_run(run.info.run_id).info.status == "FAILED"

    (directory / "network_1.pt").unlink()
    train([toy()], config, directory)
    add(directory, [directory / "history_0.json", directory / "missing.html"])
    (again,) = client.search_runs([experiment.experiment_id])
    assert again.info.run_id == run.info.run_id
    assert again.info.status == "FINISHED"
    for fold in range(3):
        recorded = client.get_metric_history(run.info.run_id, f"fold_{fold}/validation_loss")
        expected = [(entry["epoch"], entry["validation_loss"]) for entry in history_of(directory, fold)]
        assert sorted((it.step, it.value) for it in recorded) == expected

    train([toy()], replace(config, learning_rate=0.02), directory)
    assert len(client.search_runs([experiment.experiment_id])) == 2


DATA = """datasets: {A: {files: a.root, class: signal}, B: {files: b.root, class: other}}
convert: {features: [x]}
"""


def test_the_settings(tmp_path: Path) -> None:
    analysis = tmp_path / "a.yaml"
    analysis.write_text(f"{DATA}train: {{tracking: mlfow}}")
    with pytest.raises(ConfigError, match='3: train.tracking: "mlfow" is not a tracking. Did you mean "mlflow"?'):
        load(analysis)
    analysis.write_text(f"{DATA}train: {{tracking: tensorboard}}\ntune: {{tracking: true}}")
    config = load(analysis)
    assert config.train is not None
    assert plain(config.train)["tracking"] == ["tensorboard"]
    assert build(Train, plain(config.train)) == config.train
    assert decisive(config.train) == decisive(beside(config.train))  # it changes no network
    assert plain(beside(config.train))["tracking"] == plain(beside(config.train, Tune()))["tracking"] == []
    assert beside(config.train, config.tune) == config.train
