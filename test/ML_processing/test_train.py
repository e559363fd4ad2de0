from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ML_processing import loop, plots
from ML_processing.run import Run
from ML_processing.train import train
from MLTools.NanoML.config import Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.folds import RULE, fold_of

Toy = Callable[..., Path]
TOY_AUC = 0.841  # the best: two Gaussians of unit width at a distance of sqrt(2), Phi(1)


def networks(directory: Path) -> list[dict[str, torch.Tensor]]:
    return [torch.load(path, weights_only=True) for path in sorted(directory.glob("network_*.pt"))]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def histories(directory: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(directory.glob("history_*.json"))]


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plot takes longer than these trainings."""
    monkeypatch.setattr(plots, "save", lambda figure, stem: None)


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let a training die after so many epochs, all folds together; a checkpoint is written after each."""
    real = loop._measure

    def kill(epochs: int) -> None:
        left = [epochs]

        def measure(*arguments: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(*arguments)

        monkeypatch.setattr(loop, "_measure", measure)
        monkeypatch.setattr(loop, "_CHECKPOINT_EVERY", 0.0)

    return kill


def test_directory(toy: Toy, quick: Train, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    returned = train([toy()], quick, directory)
    assert {path.name for path in directory.iterdir()} == {
        *(f"network_{i}.pt" for i in range(3)),
        *(f"history_{i}.json" for i in range(3)),
        "training.json",
    }
    content = json.loads((directory / "training.json").read_text())
    assert content["complete"]
    assert content["config"] == dataclasses.asdict(quick)
    assert content["folds"] == {"k": 3, "networks": 3, "hash": RULE}
    assert content["classes"] == ["signal", "other"]
    assert content["data"]["classes"]["signal"]["events"] == 300
    assert content["datasets"][0]["books"]["entries"] == 600
    assert set(content["versions"]) == {"nanoml", "python", "torch", "numpy"}
    assert content["metrics"] == returned
    assert content["metrics"]["auc"] == pytest.approx(TOY_AUC, abs=0.05)
    assert len(content["sample"]) == 64
    entry = histories(directory)[0][0]
    assert set(entry) == {"epoch", "train_loss", "validation_loss", "learning_rate", "validation_auc"}


def test_loss_plot(run: Path) -> None:
    assert {path.name for path in run.glob("loss.*")} == {"loss.png", "loss.pdf"}


def test_seed_decides(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train([file], dataclasses.replace(quick, seed=seed), tmp_path / name)
    a, b, c = (networks(tmp_path / name) for name in "abc")
    assert all(map(same, a, b))
    assert histories(tmp_path / "a") == histories(tmp_path / "b")
    assert not any(map(same, a, c))


def test_leaves_the_random_numbers_of_others_alone(toy: Toy, quick: Train, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    train([toy()], quick, tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("epochs", [0, 3, 6, 17])
def test_goes_on_after_a_kill(
    toy: Toy, quick: Train, tmp_path: Path, kill: Callable[[int], None], epochs: int
) -> None:
    file = toy()
    train([file], quick, tmp_path / "whole")
    kill(epochs)
    with pytest.raises(Killed):
        train([file], quick, tmp_path / "killed")
    assert len(networks(tmp_path / "killed")) == epochs // quick.epochs
    with pytest.raises(
        NanoMLError, match=r"this training is not finished. Run `nanoml train` again: it goes on"
    ):
        Run.load(tmp_path / "killed")
    kill(3 * quick.epochs - epochs)  # no epoch is computed twice
    train([file], quick, tmp_path / "killed")
    assert histories(tmp_path / "killed") == histories(tmp_path / "whole")
    assert all(map(same, networks(tmp_path / "killed"), networks(tmp_path / "whole")))
    assert not list((tmp_path / "killed").glob("checkpoint*"))


def test_a_finished_training_is_not_repeated(
    toy: Toy, quick: Train, tmp_path: Path, kill: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    file = toy()
    train([file], quick, tmp_path / "run")
    kill(0)
    train([file], dataclasses.replace(quick, device="auto"), tmp_path / "run")
    assert "network 3 of 3 is trained already" in capsys.readouterr().err


def test_other_settings_or_events_replace_a_training(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file, directory = toy(), tmp_path / "run"
    train([file], quick, directory)
    first = networks(directory)
    train([file], dataclasses.replace(quick, folds=4), directory)
    assert len(networks(directory)) == 4
    train([toy(count=500)], quick, directory)
    assert len(networks(directory)) == 3
    assert not any(map(same, networks(directory), first))


def test_a_checkpoint_of_other_settings_is_not_used(
    toy: Toy, quick: Train, tmp_path: Path, kill: Callable[[int], None]
) -> None:
    file, directory = toy(), tmp_path / "run"
    kill(4)
    with pytest.raises(Killed):
        train([file], quick, directory)
    kill(100)
    left = (directory / "checkpoint_0.pt").read_bytes()
    other = dataclasses.replace(quick, seed=2)
    train([file], other, tmp_path / "expected")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "checkpoint_0.pt").write_bytes(left)
    train([file], other, tmp_path / "again")
    assert histories(tmp_path / "again") == histories(tmp_path / "expected")


def test_a_network_never_sees_its_test_fold(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy()
    train([file], quick, tmp_path / "before")
    with h5py.File(file, "r+") as h5:
        rows = h5["events"][:]
        fold = fold_of(rows["run"], rows["luminosityBlock"], rows["event"], 3)
        rows["x"][fold == 0] = 1000 - rows["x"][fold == 0]
        rows["weight"][fold == 0] *= 7
        h5["events"][:] = rows
    train([file], quick, tmp_path / "after")
    unchanged = list(map(same, networks(tmp_path / "before"), networks(tmp_path / "after")))
    assert unchanged == [True, False, False]


def test_single_network(toy: Toy, quick: Train, tmp_path: Path) -> None:
    train([toy()], dataclasses.replace(quick, folds=1), tmp_path / "run")
    run = Run.load(tmp_path / "run")
    assert len(run.networks) == 1
    assert run.description["folds"]["k"] == 5


def test_stops_early_and_keeps_the_best_epoch(toy: Toy, quick: Train, tmp_path: Path) -> None:
    config = dataclasses.replace(
        quick, epochs=500, patience=4, learning_rate=0.05, dropout=0.0, hidden=[32, 32]
    )
    train([toy()], config, tmp_path / "run")
    run = Run.load(tmp_path / "run")
    for history, network in zip(run.histories, run.networks, strict=True):
        losses = [entry["validation_loss"] for entry in history]
        assert len(losses) == int(np.argmin(losses)) + 1 + 4 < 500
        assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_negative_weights(toy: Toy, quick: Train, tmp_path: Path) -> None:
    train([toy(negative=0.2)], dataclasses.replace(quick, epochs=30), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "training.json").read_text())["metrics"]["auc"] == pytest.approx(
        TOY_AUC, abs=0.05
    )


def test_missing_values(toy: Toy, quick: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gap = np.where(np.arange(600) % 3, np.arange(600), np.nan).astype("f4")
    train([toy(gap=gap)], quick, tmp_path / "run")
    assert "train: Feature gap is not a finite number in 200 of 600 events" in capsys.readouterr().err
    assert np.isfinite(json.loads((tmp_path / "run" / "training.json").read_text())["sample"]).all()


def test_steps_that_are_too_large(toy: Toy, quick: Train, tmp_path: Path) -> None:
    config = dataclasses.replace(quick, learning_rate=1e30)
    with pytest.raises(
        NanoMLError,
        match=r"training of network 0: the loss is not a finite number at epoch \d+, .*learning_rate",
    ):
        train([toy()], config, tmp_path / "run")
    assert not list((tmp_path / "run").glob("network*"))


def test_a_feature_that_breaks_the_loss(
    toy: Toy, quick: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(self: Any, features: torch.Tensor) -> torch.Tensor:
        return (features - self.center) / self.width

    monkeypatch.setattr("ML_processing.models.Scaler.forward", careless)
    gap = np.where(np.arange(600) == 300, np.nan, np.arange(600)).astype("f4")
    with pytest.raises(NanoMLError, match=r'epoch 1, batch .*: feature "gap" is not finite after scaling'):
        train([toy(gap=gap)], quick, tmp_path / "run")


def test_validation_of_negative_weight(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy()
    with h5py.File(file, "r+") as h5:
        rows = h5["events"][:]
        rows["weight"][fold_of(rows["run"], rows["luminosityBlock"], rows["event"], 3) == 1] *= -0.1
        h5["events"][:] = rows
    with pytest.raises(
        NanoMLError, match=r"network 0: the weights of the \d+ events that decide when to stop sum to -"
    ):
        train([file], quick, tmp_path / "run")


def test_no_gpu(toy: Toy, quick: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train.device: there is no usable GPU here"):
        train([toy()], dataclasses.replace(quick, device="cuda"), tmp_path / "run")


def test_damaged_files(toy: Toy, quick: Train, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with pytest.raises(NanoMLError, match=r"training.json: no such file. `nanoml train` makes it"):
        Run.load(directory)
    train([toy()], quick, directory)
    (directory / "network_1.pt").write_bytes((directory / "network_1.pt").read_bytes()[:500])
    with pytest.raises(
        NanoMLError, match=r"network_1.pt: is damaged .*Remove it and run `nanoml train` again"
    ):
        Run.load(directory)
    (directory / "network_1.pt").unlink()
    with pytest.raises(NanoMLError, match=r"network_1.pt: no such file. Run `nanoml train` again"):
        Run.load(directory)
    train([toy()], quick, directory)
    assert len(Run.load(directory).networks) == 3
    (directory / "training.json").write_text("{")
    with pytest.raises(NanoMLError, match=r"training.json: is damaged"):
        Run.load(directory)
