from __future__ import annotations

import gc
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ML_processing.training import data as training_data
from ML_processing.training import loop
from ML_processing.training.data import TrainingFiles, read
from ML_processing.training.description import TrainingDescription, describe
from ML_processing.training.directory import Training
from ML_processing.training.fold import measure
from ML_processing.training.train import train
from MLTools.NanoML.config.training import MODELS, Train
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.entries import inputs_of, outside_of
from MLTools.NanoML.nanoaod.folds import RULE, fold_of
from MLTools.NanoML.schema.plain import build
from services.trainings import SMALL, changing, histories_in, networks_in, same

Toy, Kill = Callable[..., Path], Callable[[int], None]
Patch, Captured = pytest.MonkeyPatch, pytest.CaptureFixture[str]
TOY_AUC = 0.841  # the best: two Gaussians of unit width at a distance of sqrt(2), Phi(1)


class Killed(BaseException):
    pass


@pytest.fixture
def kill(monkeypatch: Patch) -> Kill:
    """Let a training die after so many epochs, all folds together; a checkpoint is written after each."""
    real = loop._Loop._measure

    def kill(epochs: int) -> None:
        left = [epochs]

        def measure(*arguments: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(*arguments)

        monkeypatch.setattr(loop._Loop, "_measure", measure)
        monkeypatch.setattr(loop, "_CHECKPOINT_EVERY", 0.0)

    return kill


@pytest.fixture
def trained(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "trained")


@pytest.mark.usefixtures("plots", "white_figures")
def test_directory(toy: Toy, quick: Train, trained: Path) -> None:
    returned = train([toy()], quick, trained)
    assert {path.name for path in trained.iterdir()} == {
        *(f"network_{i}.pt" for i in range(3)),
        *(f"history_{i}.json" for i in range(3)),
        *("environment.json", "training.json", "loss.png", "loss.pdf"),
    }
    content = json.loads((trained / "training.json").read_text())
    assert content["complete"]
    assert content["config"] == asdict(quick)
    assert content["folds"] == {"k": 3, "networks": 3, "hash": RULE}
    assert content["classes"] == ["signal", "other"]
    assert content["data"]["classes"]["signal"]["events"] == 300
    assert content["datasets"][0]["books"]["entries"] == 600
    assert set(content["versions"]) == {"nanoml", "python", "torch", "numpy"}
    assert content["metrics"] == returned
    assert content["metrics"]["auc"] == pytest.approx(TOY_AUC, abs=0.05)
    assert np.array(content["sample"]["features"]).shape == (64, 2)
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["command"] == sys.argv
    assert "torch" in environment["packages"]
    assert environment["versions"]["nanoml"] == environment["packages"]["nanoml"]
    entry = histories_in(trained)[0][0]
    about = ("loss", "auc", "significance", "error")
    assert set(entry) == {"epoch", "train_loss", "learning_rate", *(f"validation_{name}" for name in about)}
    assert entry["validation_significance"] is None  # only a search measures it
    assert entry["validation_error"] is None  # no weight is negative


def test_seed_decides_and_leaves_other_numbers_alone(toy: Toy, quick: Train, whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    file, threads = toy(), torch.get_num_threads()
    for name, seed in (("same", 1), ("other", 2)):
        train([file], replace(quick, seed=seed), tmp_path / name)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert all(map(same, networks_in(whole), networks_in(tmp_path / "same")))
    assert histories_in(whole) == histories_in(tmp_path / "same")
    assert not any(map(same, networks_in(whole), networks_in(tmp_path / "other")))


@pytest.mark.parametrize("epochs", [0, 6, 8])
def test_continues_after_a_kill(toy: Toy, quick: Train, whole: Path, tmp_path: Path, kill: Kill, epochs: int) -> None:
    file = toy()
    kill(epochs)
    with pytest.raises(Killed):
        train([file], quick, tmp_path / "killed")
    assert len(networks_in(tmp_path / "killed")) == epochs // quick.epochs
    with pytest.raises(NanoMLError, match=r"this training is not finished. Run `nanoml train` again: it continues"):
        Training.load(tmp_path / "killed")
    kill(3 * quick.epochs - epochs)  # no epoch is computed twice
    train([file], quick, tmp_path / "killed")
    assert histories_in(tmp_path / "killed") == histories_in(whole)
    assert all(map(same, networks_in(tmp_path / "killed"), networks_in(whole)))
    assert not list((tmp_path / "killed").glob("checkpoint*"))


def test_a_finished_training_is_kept(toy: Toy, quick: Train, trained: Path, kill: Kill, capsys: Captured) -> None:
    kill(0)
    (trained / "checkpoint_1.pt").write_bytes(b"left by a kill at the end")
    train([toy()], replace(quick, device="auto"), trained)
    assert "fold 3 of 3 is trained already" in capsys.readouterr().err
    assert not list(trained.glob("checkpoint*"))


def test_other_settings_or_events_replace_a_training(toy: Toy, quick: Train, trained: Path) -> None:
    first = networks_in(trained)
    train([toy()], replace(quick, folds=4), trained)
    assert len(networks_in(trained)) == 4
    train([toy(count=500)], quick, trained)
    assert len(networks_in(trained)) == 3
    assert not any(map(same, networks_in(trained), first))


def test_a_checkpoint_of_other_settings_is_not_used(toy: Toy, quick: Train, tmp_path: Path, kill: Kill) -> None:
    file, directory = toy(), tmp_path / "run"
    kill(4)
    with pytest.raises(Killed):
        train([file], quick, directory)
    kill(100)
    left = (directory / "checkpoint_0.pt").read_bytes()
    other = replace(quick, seed=2)
    train([file], other, tmp_path / "expected")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "checkpoint_0.pt").write_bytes(left)
    train([file], other, tmp_path / "again")
    assert histories_in(tmp_path / "again") == histories_in(tmp_path / "expected")


def test_a_network_never_sees_its_test_fold(toy: Toy, quick: Train, whole: Path, tmp_path: Path) -> None:
    file = toy()
    with changing(file) as rows:
        fold = fold_of(rows["run"], rows["luminosityBlock"], rows["event"], 3)
        rows["x"][fold == 0] = 1000 - rows["x"][fold == 0]
        rows["weight"][fold == 0] *= 7
    train([file], quick, tmp_path / "after")
    unchanged = list(map(same, networks_in(whole), networks_in(tmp_path / "after")))
    assert unchanged == [True, False, False]


def test_stops_early_and_keeps_the_best_epoch(toy: Toy, quick: Train, tmp_path: Path, capsys: Captured) -> None:
    options = {"dropout": 0.0, "hidden": [32, 32]}
    config = replace(quick, epochs=500, patience=4, learning_rate=0.05, options=options)
    gap = np.where(np.arange(600) % 3, np.arange(600), np.nan).astype("f4")
    train([toy(gap=gap)], config, tmp_path / "run")
    said = capsys.readouterr().err
    assert "train: Feature gap is not a finite number in 200 of 600 events" in said
    for fold in (1, 2, 3):
        assert re.search(rf"^fold {fold} of 3: (\d+) epochs \(stopped at epoch \1, best \d+\) in ", said, re.M)
    run = Training.load(tmp_path / "run")
    assert np.isfinite(run.description.sample["features"]).all()
    for history, network in zip(run.histories, run.networks, strict=True):
        losses = [entry.validation_loss for entry in history]
        assert len(losses) == int(np.argmin(losses)) + 1 + 4 < 500
        assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


@pytest.mark.parametrize("how", ["signed", "reweight"])
def test_negative_weights(toy: Toy, quick: Train, tmp_path: Path, how: str) -> None:
    file, directory, is_signed = toy(negative=0.2), tmp_path / "run", how == "signed"
    config = replace(quick, epochs=12, negative_weights=how)
    metrics = train([file], config, directory)
    assert metrics["auc"] == pytest.approx(TOY_AUC, abs=0.05)
    run, table = Training.load(directory), read([file], config)
    assert (table.weights < 0).any()
    assert metrics == measure(run, table)  # with the signed weights
    errors = [[entry.validation_error for entry in history] for history in run.histories]
    assert [[each is None for each in history[:2]] for history in errors] == [[True, False]] * 3
    assert run.description.config.negative_weights == how
    assert len([*directory.glob("weights_?.json")]) == 3 * (not is_signed)
    assert [set(network) for network in run.reweighted] == [set() if is_signed else {"signal", "other"}] * 3
    if not is_signed:
        (directory / "weights_1.json").write_text('{"signal": {}}')
        with pytest.raises(NanoMLError, match=r"weights_1.json: is damaged. Remove .* and run `nanoml train` again"):
            Training.load(directory)
        train([file], replace(config, negative_weights="signed", epochs=1), directory)
        assert not list(directory.glob("weights_*"))


def test_a_feature_breaks_the_loss(toy: Toy, quick: Train, tmp_path: Path, monkeypatch: Patch) -> None:
    def careless(self: Any, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (values - self.center) / self.width, torch.ones_like(values, dtype=torch.bool)

    monkeypatch.setattr("ML_processing.models.scaling.Scaler.forward", careless)
    gap = np.where(np.arange(600) == 300, np.nan, np.arange(600)).astype("f4")
    with pytest.raises(NanoMLError, match=r'epoch 1, batch .*: feature "gap" is not finite after scaling'):
        train([toy(gap=gap)], quick, tmp_path / "run")


def test_damaged_files(toy: Toy, quick: Train, trained: Path) -> None:
    network = trained / "network_1.pt"
    with pytest.raises(NanoMLError, match=r"training.json: no such file. Remove .* and run `nanoml train` again"):
        Training.load(trained / "nothing")
    network.write_bytes(network.read_bytes()[:500])
    with pytest.raises(NanoMLError, match=r"network_1.pt: is damaged .*Remove it and run `nanoml train` again"):
        Training.load(trained)
    network.unlink()
    with pytest.raises(NanoMLError, match=r"network_1.pt: no such file. Run `nanoml train` again"):
        Training.load(trained)
    train([toy()], quick, trained)
    assert len(Training.load(trained).networks) == 3
    for name, content in (("history_1", '[{"epoch": 1}]'), ("training", "{")):
        (trained / f"{name}.json").write_text(content)
        with pytest.raises(NanoMLError, match=rf"{name}.json: is damaged.*\. Remove .* and run `nanoml train` again"):
            Training.load(trained)


@pytest.mark.parametrize("model", [name for name in MODELS if name != "bdt"])
def test_all_models_on_collections(object_files: list[Path], quick: Train, tmp_path: Path, model: str) -> None:
    """How one goes on where it was killed, test_loop.py shows; that the state of every network is all of it, test_networks.py."""
    config = replace(quick, model=model, options=SMALL[model], epochs=2, folds=1, batch_size=256)
    assert 0.6 < train(object_files, config, tmp_path / "whole")["auc"] < 1
    content = json.loads((tmp_path / "whole" / "training.json").read_text())
    assert [it["name"] for it in content["collections"]] == ["Electron", "Muon"]
    assert {name: np.shape(values) for name, values in content["sample"].items()} == {
        "features": (64, 7),
        **dict.fromkeys(("Electron", "Muon"), (64, 3, 5)),
        **{f"{name}_mask": (64, 3) for name in ("Electron", "Muon")},
    }


def test_more_events_than_fit_into_memory(
    toy: Toy, quick: Train, tmp_path: Path, monkeypatch: Patch, capsys: Captured
) -> None:
    """How it goes on where it was killed, test_loop.py and test_train_in_processes.py show."""
    monkeypatch.setattr(training_data, "_BLOCK_EVENTS", 10_000)
    config = replace(quick, memory=1, epochs=2, batch_size=1000, workers=1, folds=1)
    metrics = train([toy(count=30_000)], config, tmp_path / "run")
    assert metrics["auc"] == pytest.approx(TOY_AUC, abs=0.03)
    assert "The events do not fit into train.memory (1 MB): scaling," in capsys.readouterr().err


MODULE = """
from torch import nn

class Mine(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Linear(len(shape.features), shape.outputs)

    def forward(self, inputs):
        return self.layer(inputs.features)
"""


def test_the_code_of_a_network_counts_and_not_its_place(
    toy: Toy, quick: Train, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "moved").mkdir()
    file, config, kept = toy(), replace(quick, options={}, folds=1), []
    moved = [("moved/mine.py", more) for more in ("", "# a comment\n", "CHANGED = True\n")]
    for place, more in (("mine.py", ""), *moved):
        (tmp_path / place).write_text(MODULE + more)
        train([file], replace(config, model=f"{tmp_path}/{place}:Mine"), tmp_path / "run")
        kept.append(capsys.readouterr().err.count("is trained already"))
    assert kept == [0, 1, 1, 0]


def test_a_parameter_tells_nothing_by_itself(toy: Toy, quick: Train, tmp_path: Path) -> None:
    """Of which the signal has three values, and which is known of no other event."""
    random, label = np.random.default_rng(1), np.arange(6000) % 2
    mass = np.where(label == 0, random.choice([20.0, 50.0, 80.0], 6000), np.nan).astype("f4")
    path = toy(count=6000, x=random.normal(size=6000), mass=mass, parameter="mass")
    metrics = train([path], replace(quick, features=["x"], parameter="mass", folds=1), tmp_path / "run")
    assert metrics["auc"] == pytest.approx(0.5, abs=0.03)
    content = json.loads((tmp_path / "run" / "training.json").read_text())
    assert content["parameter"]["column"] == "mass"
    assert content["parameter"]["values"] == [20, 50, 80]
    assert set(np.array(content["sample"]["features"])[:, -1]) == {20, 50, 80}


def test_events_that_cannot_decide_when_to_stop(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy()
    with changing(file) as rows:
        rows["weight"] = np.where(fold_of(rows["run"], rows["luminosityBlock"], rows["event"], 3) == 1, -0.1, 1)
    message = r"^fold 1 of 3: the weights of the \d+ events that decide when to stop sum to -"
    with pytest.raises(NanoMLError, match=message):
        train([file], quick, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"hiden": [3]}}, 'train.options.hiden: .*Did you mean "hidden"'),
        ({"device": "cuda"}, "train.device: there is no usable GPU here"),
        ({"learning_rate": 1e30}, r"^fold 1 of 3: the loss is not a finite number at epoch \d+, .*learning_rate"),
    ],
)
def test_settings_of_no_use(
    toy: Toy, quick: Train, tmp_path: Path, monkeypatch: Patch, changes: Any, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NanoMLError, match=message):
        train([toy()], replace(quick, **changes), tmp_path / "run")
    assert (tmp_path / "run").exists() == message.startswith("^fold")
    assert not list(tmp_path.glob("run/network*"))


def test_a_disk_full_at_the_first_checkpoint(
    toy: Toy, quick: Train, disk: Path, kill: Kill, monkeypatch: Patch
) -> None:
    kill(0)  # there is no first epoch
    monkeypatch.setattr(loop, "_CHECKPOINT_EVERY", float("inf"))  # nor another checkpoint
    config = replace(quick, options={"hidden": [128, 128]})
    noise: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", noise.append)
    with pytest.raises(NanoMLError, match=r"checkpoint_0.pt: cannot write: the disk is full"):
        train([toy()], config, disk)
    gc.collect()
    assert not noise  # since Python 3.13, of a buffer that is collected before a view of it
    assert {path.suffix for path in disk.iterdir()} == {".json"}


@pytest.mark.exhaustive("the memory of a training with many events")
def test_memory_does_not_grow_with_the_events(tmp_path: Path, toy: Toy) -> None:
    """A million events of 20 features, of which 20 MB are kept."""
    code = """
import re, sys
from pathlib import Path
from MLTools.NanoML.report import figures
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
figures.save = lambda figure, stem: None
config = Train("mlp", memory=20, epochs=1, folds=1, batch_size=4096, device="cpu", options={"hidden": [8]})
train([Path(sys.argv[1])], config, Path(sys.argv[2]))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    peaks = []
    for count in (200_000, 1_000_000):
        columns = {f"f{i}": np.random.default_rng(i).random(count, "f4") for i in range(18)}
        path = toy(f"{count}.h5", count=count, **columns)
        line = [sys.executable, "-c", code, str(path), str(tmp_path / str(count))]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]) / 1024)
        path.unlink()
    assert peaks[1] < peaks[0] + 65, peaks  # of 800,000 events more 80 MB


@pytest.mark.parametrize(
    ("model", "estimate", "expected"),
    [
        ("mlp", "mean", 1.0), ("mlp", "median", 0.693), ("mlp", 0.84, 1.833),
        ("tabular", 0.84, 1.833), ("bdt", "mean", 1.0), ("bdt", 0.84, 1.833),
    ],
)  # fmt: skip
def test_what_a_regression_estimates(
    toy: Toy, quick: Train, tmp_path: Path, model: str, estimate: Any, expected: float
) -> None:
    z = np.random.default_rng(1).exponential(1.0, 3000).astype("f4")  # of which x and y know nothing
    file = toy(count=3000, z=z)
    config = replace(quick, model=model, options={}, targets=["z"], estimate=estimate, epochs=5, folds=1)
    if model == "bdt":
        config = replace(config, epochs=200, learning_rate=0.1, options={"leaves": 2})
    train([file], config, tmp_path / "run")
    training = Training.load(tmp_path / "run")
    found = training.out_of_fold(read([file], training.description.config))[1]
    assert float(np.median(found)) == pytest.approx(expected, abs=0.13)


def notes_on(file: Path, config: Train) -> list[str]:
    """What a training would say of its events."""
    return [*describe(*TrainingFiles.open([file], config).sample(100, 3), [file], config, torch.device("cpu")).notes]


def test_a_heavy_tail_is_named(toy: Toy, quick: Train) -> None:
    random = np.random.default_rng(5)
    file = toy(z=np.exp(random.normal(0, 2, 600)).astype("f4"), w=random.exponential(1.0, 600).astype("f4"))
    (note,) = notes_on(file, quick)
    assert re.match(r"Feature z has a heavy tail: \d\S* % of its values are more than 10 widths from the median", note)
    assert notes_on(file, replace(quick, model="bdt", options={})) == []


@pytest.mark.parametrize("value", [np.nan, -999.0, 0.5])
@pytest.mark.parametrize("model", ["mlp", "bdt"])
def test_a_missing_value_tells_what_it_can(toy: Toy, quick: Train, tmp_path: Path, model: str, value: float) -> None:
    # x and y are noise, and z but for its absence: 10 % of the signal and 90 % of the other class lack it
    random, other = np.random.default_rng(5), np.arange(3000) % 2
    lacks = random.random(3000) < np.where(other, 0.9, 0.1)
    z = np.where(lacks, value, random.normal(0, 1, 3000)).astype("f4")
    file = toy(count=3000, x=random.normal(size=3000), y=random.normal(size=3000), z=z)
    if value == 0.5:
        name_missing(file, "z", value)
    changes = {"options": {}, "epochs": 60} if model == "bdt" else {}
    metrics = train([file], replace(quick, model=model, folds=1, **changes), tmp_path / "run")
    assert metrics["auc"] == pytest.approx(0.9, abs=0.04)
    description = TrainingDescription.read(tmp_path / "run")
    assert description.missing == (() if model == "bdt" else ("z",))
    if value == -999:
        assert "Feature z is -999 where it has no value, as this lies far from all others." in description.notes


def test_a_spike_is_asked_about(toy: Toy, quick: Train) -> None:
    random = np.random.default_rng(5)
    file = toy(z=np.where(random.random(600) < 0.2, -1, random.random(600)).astype("f4"))
    (note,) = notes_on(file, quick)
    assert note.startswith("Feature z is exactly -1 in ")
    assert note.endswith('name it by "missing: {z: -1}" in `convert`, and if not, by "missing: {z: []}".')
    name_missing(file, "z")
    assert notes_on(file, quick) == []


def name_missing(file: Path, column: str, *values: float) -> None:
    """Say in a file of the conversion what stands for no value in a column."""
    content = metadata_content(file)
    next(it for it in content["features"] if it["name"] == column)["missing"] = [*values]
    with h5py.File(file, "r+") as h5:
        h5["metadata"][()] = json.dumps(content)
        h5["metadata"].attrs.pop("crc32", None)


def changed(run: Path, directory: Path, **changes: Any) -> Path:
    """A copy of training.json with changes; None takes an entry out."""
    content = json.loads((run / "training.json").read_text()) | changes
    directory.mkdir()
    kept = {key: value for key, value in content.items() if value is not None or key not in changes}
    (directory / "training.json").write_text(json.dumps(kept))
    return directory


def test_json_and_back(whole: Path, tmp_path: Path) -> None:
    content = json.loads((whole / "training.json").read_text())
    description = TrainingDescription.read(whole)
    again = json.loads(json.dumps(description.to_json()))
    assert again == content
    assert list(again) == list(content)
    assert build(TrainingDescription, again) == description
    assert description.complete
    assert description.shape.features == ("x", "y")
    assert description.signal_index == 0
    config = {name: it for name, it in content["config"].items() if name != "precision"} | {
        "other": []
    }  # of another NanoML
    assert TrainingDescription.read(changed(whole, tmp_path / "older", config=config)).config == description.config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, r"schema 2, this NanoML reads 1. Remove .*older and run `nanoml train`"),
        ({"classes": None}, r"training.json: is damaged \(.*\). Remove .*older and run `nanoml train` again"),
        ({"data": {"sha256": "0"}}, r"training.json: is damaged"),
    ],
)
def test_what_cannot_be_read(whole: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        TrainingDescription.read(changed(whole, tmp_path / "older", **changes))


def test_the_values_of_the_inputs(toy: Callable[..., Path], quick: Train) -> None:
    random, other = np.random.default_rng(5), np.arange(3000) % 2
    x = np.where(other, random.uniform(20, 40, 3000), random.uniform(0, 30, 3000))
    x[7] = 1e6  # an outlier
    y = np.where(random.random(3000) < 0.1, -999.0, random.normal(0, 1, 3000))
    z = np.where(random.random(3000) < 0.1, np.nan, 2.0)
    file = toy(count=3000, x=x.astype("f4"), y=y.astype("f4"), z=z.astype("f4"))
    table, survey = TrainingFiles.open([file], quick).sample(100, 3)
    domain = {each.name: each for each in inputs_of(describe(table, survey, [file], quick, torch.device("cpu")).domain)}
    assert domain["x"].low == pytest.approx(-0.2, abs=0.15)
    assert 40 < domain["x"].high < 60
    assert domain["x"].outside == pytest.approx(1 / 1500, rel=0.01)
    assert domain["x"].limit == pytest.approx((4 + 3 * 3**0.5) / 1500, rel=0.01)
    assert domain["x"].quantiles == pytest.approx((0.06, 9.6, 25, 33.6, 40), abs=1.5)
    assert (domain["y"].missing, domain["y"].may_be_missing, domain["y"].outside) == ((-999.0,), False, 0)
    assert -5 < domain["y"].low < -2.5
    assert (domain["z"].low, domain["z"].high, domain["z"].may_be_missing) == (1.998, 2.002, True)


def test_no_alarm_for_more_events_of_the_same_kind(toy: Callable[..., Path], quick: Train) -> None:
    random = np.random.default_rng(5)
    draws = {"x": lambda n: random.exponential(50, n), "y": random.standard_cauchy, "z": lambda n: random.poisson(2, n)}
    file = toy(count=3000, **{name: draw(3000).astype("f4") for name, draw in draws.items()})
    table, survey = TrainingFiles.open([file], quick).sample(100, 3)
    domain = describe(table, survey, [file], quick, torch.device("cpu")).domain
    for size in (30, 1000, 100_000):
        rows = np.column_stack([draws[each.name](size) for each in inputs_of(domain)]).astype("f4")
        for factor, is_alarmed in ((1, False), (40, True)):
            found = outside_of(domain, {"features": factor * rows}).sum(axis=0).tolist()
            exceeded = [it.is_exceeded(number, size) for it, number in zip(inputs_of(domain), found, strict=True)]
            assert exceeded == [is_alarmed] * 3 or (is_alarmed and size == 30)
