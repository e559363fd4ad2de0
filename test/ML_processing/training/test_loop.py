"""The loop over epochs: schedules, settings of the steps, and continuing after an interruption in mid-epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.models.network import Network, make_network
from ML_processing.training import data as training_data
from ML_processing.training import loop
from ML_processing.training.data import TrainingFiles, inputs_of, make_training_data, read
from ML_processing.training.description import Epoch, best_epoch, last_improvement
from ML_processing.training.loop import Monitor, fit
from ML_processing.training.losses import distance_correlation
from MLTools.NanoML.config.training import Decorrelation, Train

Toy = Callable[..., Path]
CPU = torch.device("cpu")
History = list[dict[str, Any]]
TWO = BoundDiscriminant.probability("signal", ["signal", "other"])


class Killed(BaseException):
    pass


def learn(path: Path, config: Train) -> tuple[History, Network]:
    """Train one network, from its checkpoint if there is one, which stays only after an interruption."""
    opened, checkpoint = TrainingFiles.open([path], config), path.parent / "checkpoint.pt"
    table, survey = opened.sample(config.memory, 3)
    torch.manual_seed(config.seed)
    network = make_network(config.model, config.options, table.shape)
    course = make_training_data(opened, table, survey, network, 0, config, CPU)
    monitor = Monitor(0, 5, table.shape, TWO, checkpoint, lambda entries, note: None)
    history = fit(network.core, course, config, monitor, CPU)
    checkpoint.unlink()
    return history, network


def same(first: Network, second: Network) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_onecycle_rises_and_falls(toy: Toy, quick: Train) -> None:
    config = dataclasses.replace(quick, schedule="onecycle", epochs=20, patience=20)
    found = [entry.learning_rate for entry in learn(toy(), config)[0]]
    top = max(range(20), key=found.__getitem__)
    assert 5 <= top + 1 <= 7
    assert found[top] == pytest.approx(0.01, rel=0.05)
    assert sorted(found[: top + 1]) == found[: top + 1]
    assert sorted(found[top:], reverse=True) == found[top:]
    assert found[0] < 0.003
    assert found[-1] < 0.0002


def test_plateau_halves_where_the_loss_stands_still(toy: Toy, quick: Train) -> None:
    config = dataclasses.replace(quick, learning_rate=0.05, epochs=40, patience=12, options={"hidden": [64]})
    history, _ = learn(toy(), config)
    losses, found = ([getattr(entry, name) for entry in history] for name in ("validation_loss", "learning_rate"))
    assert found[0] == 0.05
    assert found[-1] < 0.05
    for before, after in zip(found, found[1:], strict=False):
        assert after in (before, before / 2)
    # the first step is smaller after five epochs without improvement
    first = found.index(0.025)
    assert min(losses[first - 5 : first]) > min(losses[: first - 5]) * (1 - 1e-4)


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "constant"])
def test_warmup(toy: Toy, quick: Train, schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[float] = []
    real = loop._Loop._step

    def noted(self: Any, *arguments: Any) -> Any:
        result = real(self, *arguments)
        steps.append(self.state.optimizer.param_groups[0]["lr"])
        return result

    monkeypatch.setattr(loop._Loop, "_step", noted)
    config = dataclasses.replace(quick, schedule=schedule, warmup=2, epochs=4)
    found = [entry.learning_rate for entry in learn(toy(), config)[0]]
    per_epoch = len(steps) // 4
    up = steps[: 2 * per_epoch]
    assert 0 < up[0] <= 0.01 / per_epoch
    if schedule != "cosine":
        assert all(a < b for a, b in zip(up, up[1:], strict=False))
        assert 0.004 < up[per_epoch - 1] < 0.007
        assert found[2:] == [0.01, 0.01]
        assert set(steps[2 * per_epoch :]) == {0.01}
    else:
        assert found[2:] == pytest.approx([0.005 * (1 + math.cos(math.pi * epoch / 4)) for epoch in (2, 3)])


def test_clip(toy: Toy, quick: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    real = torch.optim.AdamW.step

    def noted(self: Any, *arguments: Any, **options: Any) -> Any:
        gradients = [it.grad.flatten() for group in self.param_groups for it in group["params"]]
        norms.append(float(torch.cat(gradients).norm()))
        return real(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    learn(toy(), dataclasses.replace(quick, clip=0.01))
    assert max(norms) == pytest.approx(0.01, rel=1e-3)
    norms.clear()
    learn(toy(), dataclasses.replace(quick, clip=None))
    assert max(norms) > 0.1


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precision(toy: Toy, quick: Train, precision: str) -> None:
    exact, _ = learn(toy(), quick)
    rough, network = learn(toy(), dataclasses.replace(quick, precision=precision))
    assert all(it.dtype == torch.float32 for it in network.parameters())
    losses = [[entry.validation_loss for entry in history] for history in (exact, rough)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.02)


def epochs(*losses: float, error: float | None) -> list[Epoch]:
    return [Epoch(number, 0, loss, 0, None, None, error) for number, loss in enumerate(losses, 1)]


def test_the_last_improvement_is_larger_than_its_error() -> None:
    losses = (1.0, 0.5, 0.45, 0.42, 0.35, 0.36, 0.3)
    assert last_improvement(epochs(*losses, error=None)).epoch == best_epoch(epochs(*losses, error=None)).epoch == 7
    assert last_improvement(epochs(*losses, error=0.1)).epoch == 5
    assert last_improvement(epochs(*losses, error=0.68)).epoch == 7
    assert last_improvement(epochs(*losses, error=1.0)).epoch == 1


def test_with_negative_weights_patience_counts_from_the_last_improvement(toy: Toy, quick: Train) -> None:
    config = dataclasses.replace(quick, epochs=200, patience=4, learning_rate=0.01)
    history, _ = learn(toy(negative=0.25), config)
    assert len(history) == last_improvement(history).epoch + 4 < 200
    assert all(entry.validation_error is not None and entry.validation_error > 0 for entry in history[1:])
    assert last_improvement(history).epoch < best_epoch(history).epoch  # chance improves the loss further


def test_decorrelation(toy: Toy, quick: Train) -> None:
    """x tells the classes apart and is the spectator's neighbour; y does not know it."""
    random = np.random.default_rng(5)
    mass = (np.random.default_rng(1).normal(np.arange(3000) % 2, 1.0) + random.normal(0, 0.3, 3000)).astype("f4")
    path = toy(count=3000, mass=mass)
    found = []
    for strength in (None, 1.0, 30.0):
        decorrelate = Decorrelation("mass", strength) if strength else None
        config = dataclasses.replace(quick, features=["x", "y"], decorrelate=decorrelate, epochs=10, batch_size=128)
        history, network = learn(path, config)
        table = read([path], dataclasses.replace(config, decorrelate=Decorrelation("mass")))
        test = table[(table.folds(3) == 0) & (table.labels == 1)]
        with torch.no_grad():
            score = torch.softmax(network.eval()(inputs_of(test)), 1)[:, 0]
        spectator = torch.from_numpy(test.extras["mass"])
        found.append(float(distance_correlation(score, spectator, torch.ones(len(test)))))
        area = history[-1].validation_auc
    assert found[0] > 0.2
    assert found[0] > 1.5 * found[1] > 2 * found[2]
    assert found[2] < 0.03
    assert area > 0.65  # what y alone can do is 0.76


@pytest.mark.parametrize(
    ("memory", "schedule", "ema", "sampler"),
    [(1000, "plateau", None, "weighted"), (1, "cosine", 0.9, "every"), (1, "cosine", None, "balanced")],
)
def test_continues_in_mid_epoch(
    toy: Toy, quick: Train, monkeypatch: Any, memory: int, schedule: str, ema: Any, sampler: str
) -> None:
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", 5000)
    number = np.arange(30_000)
    mass = np.where(number % 2, np.nan, np.where(number % 8, 600, 1000)).astype("f4")
    path = toy(count=30_000, mass=mass, parameter="mass", negative=0.1)
    config = dataclasses.replace(
        quick, memory=memory, epochs=2, batch_size=1000, schedule=schedule, warmup=0.5, parameter="mass", precision="bfloat16",
        decorrelate=Decorrelation("y", 0.1), ema=ema, sampler=sampler,
    )  # fmt: skip
    expected = learn(path, config)
    random, left = np.random.default_rng(1), [0]
    real = loop._Loop._between_steps

    def killed(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    monkeypatch.setattr(loop._Loop, "_between_steps", killed)
    monkeypatch.setattr(loop, "_CHECKPOINT_EVERY", 0.0)
    kills = 0
    while True:
        left[0] = int(random.integers(2, 9))
        try:
            found = learn(path, config)
            break
        except Killed:
            kills += 1
    assert kills >= 3
    assert found[0] == expected[0]
    assert same(found[1], expected[1])


def test_fewer_events_than_a_batch(toy: Toy, quick: Train) -> None:
    history, _ = learn(toy(), dataclasses.replace(quick, batch_size=1000))
    assert len(history) == 6
