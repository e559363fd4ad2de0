"""Networks of a user's own class: a loss, several heads, an optimizer and whatever else `Hooks` declares, and mistakes in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ML_processing.export.export import export_networks
from ML_processing.export.releases import target
from ML_processing.training.data import read
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Init, Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.verification import verify_model
from services.trainings import QUICK

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


def written(directory: Path, *changes: tuple[str, str], text: str = MODULE, name: str = "Mine") -> str:
    """A user's file with changes, as `train.model`."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = directory / f"{name.lower()}.py"
    path.write_text(text)
    return f"{path}:{name}"


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


def settings(model: str, **changes: Any) -> Train:
    whole = Train(
        model, {}, features=["x", "y", "seen"], targets=["z"], batch_size=64, epochs=8, learning_rate=0.02, folds=3,
        device="cpu", workers=1,
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def test_a_loss_and_several_heads_each_of_which_is_exported_and_scored(file: Path, place: Path) -> None:
    train([file], settings(written(place)), place / "run")
    training = Training.load(place / "run")
    metrics = training.description.metrics or {}
    assert metrics["auc"] == pytest.approx(TOY_AUC, abs=0.03)
    assert metrics["rmse"]["z"] == pytest.approx(50, rel=0.3)
    assert {it.name: it.outputs for it in training.heads} == {"targets": ("z",), "spread": ("spread_0", "spread_1")}
    # a likelihood, unlike the losses that NanoML has, becomes negative
    assert min(epoch.validation_loss for epoch in training.histories[0]) < 0
    export_networks(training, place / "model.onnx", "own", target(None))
    model = Model(place / "model.onnx")
    names = ["own_signal", "own_other", "own_z", "own_spread_0", "own_spread_1", "own_fold"]
    assert [it.name for it in model.score_columns(None)] == names
    titles = [it.title for it in model.score_columns(None)[2:4]]
    assert titles == ["estimate of z by own", "output of the head spread by own"]
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
        ("def loss(", "def losses(", PLACE.format("forward") + 'gives a head "spread" that is in no loss: add a method `loss`'),
        ("seen = self.body(", "seen = self.bodies(", PLACE.format("forward") + "fails: AttributeError: 'Mine' object has no attribute"),
        ('("spread", "classes", "targets")', '("spread",)', r'mine.py:Mine": its `heads` are spread: "classes" or "targets" is missing'),
        ('("spread", "classes", "targets")', '"classes"', r"mine.py:Mine\": its `heads` are 'classes', but must be a tuple of texts"),
        ('"classes", "targets")', '"classes")', "train.targets: .*mine.py:Mine has no head \"targets\" beside spread, classes"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(old: str, new: str, message: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match=message):
        train([file], settings(written(tmp_path, (old, new)), epochs=1), tmp_path / "run")


TUNED = """
import json
from pathlib import Path

import torch
from torch import nn


class Tuned(nn.Module):
    def __init__(self, shape, width=8):
        super().__init__()
        self.embed = nn.Linear(len(shape.features), width)
        self.body = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.SiLU())
        self.output = nn.Linear(width, shape.outputs)
        self.told = []

    def forward(self, inputs):
        # its own preprocessing, of a column around 1500
        return self.output(self.body(self.embed((inputs.features - 1500) / 300)))

    def parameter_groups(self):
        return [{"params": self.body.parameters(), "lr": 1e-3}, {"params": self.output.parameters()}]

    def optimizer(self, parameters, learning_rate):
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9)

    def begin_epoch(self, epoch):
        self.told.append(["begin", epoch, self.embed.weight.requires_grad])

    def end_epoch(self, epoch, metrics):
        self.told.append(["end", epoch, sorted(metrics)])
        torch.save({"told": self.told, "state": self.state_dict()}, Path(__file__).with_suffix(".told"))
"""


GROUPS = '{"params": self.output.parameters()}'


def tuned(directory: Path, init: Init | None, *changes: tuple[str, str], **others: Any) -> tuple[Path, Train]:
    """Events of which one feature, far from 0, tells the classes; and settings with a user's file."""
    given = {"targets": [], "features": ["far"], "init": init, "scaling": "none", "folds": 1, "epochs": 4, **others}
    return directory / "toy.h5", settings(written(directory, *changes, text=TUNED, name="Tuned"), **given)


@pytest.fixture
def checkpoint(tmp_path: Path, toy: Toy) -> Path:
    """Weights of such a network for three classes, with more beside them, as trained by others; and the events."""
    random, count = np.random.default_rng(1), 600
    toy(far=(1500 + 300 * random.normal(2 * (np.arange(count) % 2), 1)).astype("f4"))
    torch.manual_seed(1)
    body = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    whole = nn.ModuleDict({"embed": nn.Linear(1, 8), "body": body, "output": nn.Linear(8, 3)})
    path = tmp_path / "weights.pt"
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": it for name, it in whole.state_dict().items()}}, path)
    return path


def test_fine_tuning_with_an_optimizer_callbacks_and_an_average(checkpoint: Path, tmp_path: Path) -> None:
    init = Init(str(checkpoint), fresh=["output"], frozen=["embed", "body.1"])
    path, config = tuned(tmp_path, init, ema=0.9, schedule="cosine", warmup=1)
    metrics = train([path], config, tmp_path / "run")
    assert metrics["auc"] > 0.85
    before = {key.removeprefix("module."): it for key, it in torch.load(checkpoint)["state_dict"].items()}
    network = Training.load(tmp_path / "run").networks[0]
    after, told = network.core.state_dict(), torch.load(tmp_path / "tuned.told")
    for name, weights in before.items():
        assert torch.equal(weights, after[name]) == name.startswith(("embed", "body.1")), name
    assert network.scaling.features.width.tolist() == [1]
    numbers = ["learning_rate", "train_loss", "validation_auc", "validation_loss"]
    assert told["told"] == [it for i in range(1, 5) for it in (["begin", i, False], ["end", i, numbers])]
    # what is kept is the average, which differs from the last weights
    assert not torch.equal(after["output.weight"], told["state"]["output.weight"])
    # the same file again is the same training; a changed checkpoint is another
    for change, kept in ((False, True), (True, False)):
        if change:
            torch.save({**before, "body.0.bias": before["body.0.bias"] + 1}, checkpoint)
        modified = (tmp_path / "run" / "network_0.pt").stat().st_mtime_ns
        train([path], config, tmp_path / "run")
        assert ((tmp_path / "run" / "network_0.pt").stat().st_mtime_ns == modified) == kept


def test_a_network_of_a_training_goes_on_with_its_scaling(checkpoint: Path, toy: Toy, tmp_path: Path) -> None:
    embed = f'{GROUPS}, {{"params": self.embed.parameters()}}'
    changes = (("(inputs.features - 1500) / 300", "inputs.features"), (GROUPS, embed))
    path, config = tuned(tmp_path, None, *changes, scaling="standard")
    train([path], config, tmp_path / "first")
    moved = toy("moved.h5", far=np.random.default_rng(1).normal(1700, 400, 600).astype("f4"))
    init = Init(str(tmp_path / "first" / "network_0.pt"), frozen=["embed", "body"])
    train([moved], dataclasses.replace(config, init=init, learning_rate=1e-6, epochs=1), tmp_path / "second")
    first, second = (Training.load(tmp_path / name).networks[0].state_dict() for name in ("first", "second"))
    assert float(first["scaling.features.center"]) == pytest.approx(1800, abs=60)
    for name, weights in first.items():
        torch.testing.assert_close(second[name], weights, atol=1e-3, rtol=0)
    with pytest.raises(NanoMLError, match=r"network_0\.pt: was trained on far where this network reads x\. The inputs"):
        train([moved], dataclasses.replace(config, init=init, features=["x"]), tmp_path / "other")
    # for something else to be learnt: the scale of the inputs stays, that of the targets is its own
    third = dataclasses.replace(config, init=Init(init.file, ["output"]), targets=["x"], epochs=1)
    train([moved], third, tmp_path / "third")
    found = Training.load(tmp_path / "third").networks[0]
    assert torch.equal(found.scaling.features.center, first["scaling.features.center"])
    assert found.target_center.shape == (1,)
    assert float(found.target_center) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("hook", "old", "new", "message"),
    [
        ("parameter_groups", f", {GROUPS}]", "]", "leaves out parameters that would never be learnt: output.weight, output.bias. Put"),
        ("optimizer", "SGD(parameters,", "SGD(parameters[:1],", "leaves out parameters that would never be learnt: output.weight, output"),
        ("optimizer", GROUPS, '{"params": self.parameters()}', "fails: ValueError: some parameters appear in more than one"),
        ("parameter_groups", "return [{", "return 0 and [{", 'must return a list of dicts, each with "params"'),
        ("optimizer", "return torch.optim.SGD", "torch.optim.SGD", "returns a NoneType, but must return an optimizer"),
        ("optimizer", "SGD(parameters, lr=learning_rate, momentum=0.9)", "LBFGS(self.parameters())", "returns LBFGS, which computes"),
        ("optimizer", "momentum", "momenta", "fails: TypeError: .*momenta"),
        ("begin_epoch", "epoch, self.embed", "epochs, self.embed", "fails: NameError: name 'epochs' is not defined"),
        ("end_epoch", "sorted(metrics)", "metrics['auc']", "fails: KeyError: 'auc'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_hook(hook: str, old: str, new: str, message: str, checkpoint: Path, tmp_path: Path) -> None:
    path, config = tuned(tmp_path, Init(str(checkpoint), ["output"], ["embed"]), (old, new), epochs=1)
    with pytest.raises(NanoMLError, match=rf"tuned\.py:\d+: `{hook}` of Tuned {message}"):
        train([path], config, tmp_path / "run")


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({}, r"WHERE: does not fit the network Tuned: shapes differ: output.weight \(3, 8\) instead of \(2, 8\), output.bias .*fresh"),
        ({"fresh": ["outputs"]}, 'train.init.fresh: the network has no part "outputs". Did you mean "output"'),
        ({"frozen": ["embeds"]}, 'train.init.frozen: the network has no part "embeds". Did you mean "embed"'),
        ({"fresh": ["output"], "frozen": ["embed", "body", "output"]}, "train.init.frozen: nothing is left to train"),
        ({"keep": "embed", "fresh": ["output"]}, "it lacks: body.0.weight, .*; has what the network has not: more.weight"),
        ({"content": [1]}, "WHERE: has no state_dict, but a list"),
        ({"content": Path()}, r"WHERE: is not a checkpoint of tensors only \(it holds objects of pathlib\S+\). Write one by torch.save"),
        ({"file": "none.pt"}, "train.init: .*none.pt: No such file or directory"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit(init: dict[str, Any], message: str, checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint)["state_dict"] | {"module.more.weight": torch.zeros(1)}
    content = init.get("content")
    if "keep" in init:
        content = {name: it for name, it in state.items() if init["keep"] in name or "more" in name}
    if content is not None:
        torch.save(content, checkpoint)
    given = {key: it for key, it in init.items() if key in ("file", "fresh", "frozen")}
    path, config = tuned(tmp_path, Init(**{"file": str(checkpoint), **given}), epochs=1)
    with pytest.raises(NanoMLError, match=message.replace("WHERE", str(checkpoint))):
        train([path], config, tmp_path / "run")


def test_a_network_is_taken_from_where_train_model_has_it(toys: Callable[[Path], Toy], tmp_path: Path) -> None:
    """training.json may be of another place, or by somebody else."""
    model, planted, run = f"{tmp_path}/now.py:Own", tmp_path / "planted.py", tmp_path / "run"
    (tmp_path / "now.py").write_text("from ML_processing.networks.mlp import MLP as Own\n")
    planted.write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\n")
    train([toys(tmp_path)()], dataclasses.replace(QUICK, model=model, epochs=1), run)
    text = (run / "training.json").read_text()
    (run / "training.json").write_text(text.replace(model, f"{planted}:Own"))
    assert Training.load(run, model).description.config.model == model
    for other in ("mlp", f"{tmp_path}/now.py:Other"):
        with pytest.raises(NanoMLError, match=r"run: is a training of .*planted\.py:Own, and train\.model is .*"):
            Training.load(run, other)
    assert not (tmp_path / "canary").exists()
