"""Networks of a user's own class: a loss, several heads, an optimizer and whatever else `Hooks` declares, and mistakes in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ML_processing.events.data import read
from ML_processing.export.export import export_networks
from ML_processing.export.releases import target
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.verification import verify_model

Toy = Callable[..., Path]

TOY_AUC = 0.841  # the best possible: two classes at a distance of sqrt(2)

MODULE = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softplus


class Mine(nn.Module):
    heads = ("spread", "classes", "targets")

    def __init__(self, shape, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(len(shape.features), width), nn.SiLU())
        self.classify = nn.Linear(width, shape.outputs)
        self.estimate = nn.Linear(width, shape.targets)
        self.spread = nn.Linear(width, 2 * shape.targets)

    def forward(self, inputs):
        seen = self.body(inputs.features)
        return {"classes": self.classify(seen), "targets": self.estimate(seen), "spread": softplus(self.spread(seen))}

    def loss(self, outputs, batch):
        known = torch.isfinite(batch.targets)
        width = 0.05 + outputs["spread"][:, :1]
        pull = (torch.where(known, batch.targets, 0) - outputs["targets"]) / width
        likelihood = (known * (0.5 * pull**2 + torch.log(width))).sum(dim=1)
        return cross_entropy(outputs["classes"], batch.labels, reduction="none") + likelihood
"""


def written(directory: Path, *changes: tuple[str, str]) -> str:
    """A user's file with changes, as `train.model`."""
    text = MODULE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = directory / "mine.py"
    path.write_text(text)
    return f"{path}:Mine"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the events are, and what several tests share."""
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def file(place: Path, toys: Callable[[Path], Toy]) -> Path:
    """Two classes in x, and a target z that only the first class has, seen with an error of 50."""
    random, count = np.random.default_rng(1), 1500
    z = random.uniform(1000, 2000, count).astype("f4")
    seen = (z + random.normal(0, 50, count)).astype("f4")
    return toys(place)(count=count, z=np.where(np.arange(count) % 2 == 0, z, np.nan).astype("f4"), seen=seen)


def settings(model: str, **changes: object) -> Train:
    whole = Train(
        model, {}, features=["x", "y", "seen"], targets=["z"], batch_size=64, epochs=8, learning_rate=0.02, folds=3,
        device="cpu", workers=1,
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(place: Path, file: Path) -> Path:
    """A training of classes, a target and its spread with a loss of one's own."""
    train([file], settings(written(place)), place / "run")
    return place / "run"


def test_a_loss_and_several_heads(run: Path, file: Path) -> None:
    training = Training.load(run)
    metrics = training.description.metrics
    assert metrics is not None
    assert metrics["auc"] == pytest.approx(TOY_AUC, abs=0.03)
    assert metrics["rmse"]["z"] == pytest.approx(50, rel=0.3)
    assert [(it.name, it.outputs) for it in training.heads] == [
        ("targets", ("z",)),
        ("spread", ("spread_0", "spread_1")),
    ]
    # a likelihood, unlike the losses that NanoML has, becomes negative
    assert min(epoch.validation_loss for epoch in training.histories[0]) < 0


def test_every_head_is_exported_and_scored(run: Path, file: Path, place: Path) -> None:
    training = Training.load(run)
    export_networks(training, place / "model.onnx", "own", target(None))
    model = Model(place / "model.onnx")
    names = ["own_signal", "own_other", "own_z", "own_spread_0", "own_spread_1", "own_fold"]
    assert [it.name for it in model.score_columns(None)] == names
    assert [it.title for it in model.score_columns(None)[2:4]] == [
        "estimate of z by own",
        "output of the head spread by own",
    ]
    table = read([file], training.description.config)
    rows, expected = training.all_out_of_fold(table)
    columns = dict(zip(training.shape.features, table.features[rows].T, strict=True))
    found = model.scores(columns, table[rows].folds(3))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert len(list(verify_model(place / "model.onnx", None, None))) == 4


PLACE = r"mine\.py:\d+: `{}` of Mine "


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("log(width)))", "log(wide)))", PLACE.format("loss") + "fails: NameError: name 'wide' is not defined"),
        (".sum(dim=1)\n", "\n", PLACE.format("loss") + r"returns a tensor of shape \(\d+, \d+\) for \d+ events, but must return the"),
        ("return cross", "return 1.0  # cross", PLACE.format("loss") + "returns a float for"),
        ("+ likelihood", "+ float('nan')", "the loss is not a finite number at epoch 1, batch 1: the features are finite. Look at .*mine"),
        ("+ likelihood", ".detach()", PLACE.format("loss") + "returns a tensor without a gradient"),
        ('"spread": soft', '"width": soft', PLACE.format("forward") + "returns heads classes, targets, width, but must return a dict "),
        ("return {", "return self.classify(seen)  # {", PLACE.format("forward") + r"returns a tensor of shape \(2, 2\), but must return a"),
        ("(width, shape.targets)", "(width, 3)", PLACE.format("forward") + r'returns a tensor of shape \(2, 3\) as "targets" for 2 '),
        ("seen = self.body(", "seen = self.bodies(", PLACE.format("forward") + "fails: AttributeError: 'Mine' object has no attribute"),
        ('("spread", "classes", "targets")', '("spread",)', r'mine.py:Mine": its `heads` are spread: "classes" or "targets" is missing'),
        ('("spread", "classes", "targets")', '"classes"', r"mine.py:Mine\": its `heads` are 'classes', but must be a tuple of texts"),
        ('"classes", "targets")', '"classes")', "train.targets: .*mine.py:Mine has no head \"targets\" beside spread, classes"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(old: str, new: str, message: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match=message):
        train([file], settings(written(tmp_path, (old, new)), epochs=1), tmp_path / "run")
