from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from processes import running
from services.daemons import wait_for

pytest.importorskip("optuna")

from ML_processing.training.data import TrainingFiles
from ML_processing.training.description import TrainingDescription
from ML_processing.training.train import train
from ML_processing.tuning import result
from ML_processing.tuning.search import SearchOptions, plan, tune
from ML_processing.tuning.space import Space
from ML_processing.tuning.trial import TrialData
from MLTools.NanoML.config.load import load
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.report.page import with_error
from MLTools.NanoML.workflow.layout import Layout
from services.trainings import changing

pytestmark = [pytest.mark.exhaustive("searches for settings"), pytest.mark.usefixtures("no_plots")]

Toy = Callable[..., Path]

CONFIG = """
train:
  files: {file}
  model: mlp
  options: {{hidden: [8], dropout: 0.1}}
  batch_size: 64
  learning_rate: 0.01
  epochs: {epochs}
  patience: 100
  folds: 3
  device: cpu
tune:
  metric: {metric}
  sampler: random
  pruner: none
  space:
    learning_rate: {{low: 1e-4, high: 0.1, log: true}}
    options.hidden: {{choices: [[4], [8], [16, 16]]}}
    weight_decay: {{low: 0, high: 0.1}}
"""

ONE_INPUT = """
from torch import nn

class One(nn.Module):
    def __init__(self, shape, column=0):
        super().__init__()
        self.column = column
        self.layers = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, shape.outputs))

    def forward(self, inputs):
        return self.layers(inputs.features[:, self.column : self.column + 1])
"""

SLOW = """
import time
from pathlib import Path
from ML_processing.networks.mlp import MLP

class Slow(MLP):
    def forward(self, inputs):
        time.sleep(0.02 * (Path(__file__).parent / "slow").exists())
        return super().forward(inputs)
"""

DRAW = result.draw


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than these searches."""
    monkeypatch.setattr(result, "draw", lambda *arguments: None)


def configure(file: Path, directory: Path, epochs: int = 4, metric: str = "validation_loss", **changes: str) -> Path:
    path = directory / "a.yaml"
    path.parent.mkdir(exist_ok=True)
    text = CONFIG.format(file=file, epochs=epochs, metric=metric)
    for old, new in changes.items():
        text = re.sub(rf"(?m)^( *){old}: .*$", rf"\1{old}: {new}", text)
    path.write_text(text)
    return path


def table(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((directory / "a" / "tuning" / "table.json").read_text())
    return found


def outcome(directory: Path) -> list[tuple[Any, ...]]:
    names = ("trial", "state", "validation_loss", "learning_rate", "options.hidden", "weight_decay", "epochs")
    return [tuple(map(str, (row.get(name) for name in names))) for row in table(directory)]


def test_eras_with_own_networks_are_searched_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [(name, era) for name in "AB" for era in ("2018", "2022")]
    datasets = {f"{it}_{era}": {"files": "a.root", "class": it, "era": era} for it, era in pairs}
    eras = {"2018": {"luminosity": 1}, "2022": {"luminosity": 1}}
    content = {"eras": eras, "datasets": datasets, "convert": {"features": ["x"]}, "train": {"per_era": True}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    files = [tmp_path / "a" / "hdf5" / f"{name}_{era}.h5" for era in eras for name in "AB"]
    files[0].parent.mkdir(parents=True)
    for file in files:
        file.touch()
    lines = plan(load(tmp_path / "a.yaml"), SearchOptions(trials=7))
    assert f"events: {', '.join(map(str, files))}" in lines
    assert "one network of all their events is tuned" in capsys.readouterr().err


def test_a_search_for_the_result_of_a_fit(tmp_path: Path) -> None:
    """Events are those of the training, mixed, and read once. There may be several strengths, and bins by the result."""
    content = {
        "datasets": {name: {"files": "a.root", "class": name} for name in "ABC"},
        "convert": {"features": ["x"], "shuffle": 1},
        "train": {"objective": "result"},
        "histogram": {"A": {"bins": "result"}},
        "fit": {"channels": {"all": "A"}, "signals": {"mu_A": ["A"], "mu_B": ["B"]}},
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    mixed = Layout.of(load(tmp_path / "a.yaml")).hdf5_all(None)
    mixed.parent.mkdir(parents=True)
    mixed.touch()
    lines = plan(load(tmp_path / "a.yaml"), SearchOptions(trials=7))
    assert "7 trials for the smallest expected uncertainty of the validation, sampler" in lines[0]
    assert lines[1] == f"events: {mixed}"


def test_the_best_settings_are_written_and_tested(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure(toy(), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(result, "draw", DRAW)
        tune(load(config), SearchOptions(trials=5, workers=1))
    rows = table(tmp_path)
    assert [row["trial"] for row in rows] == [0, 1, 2, 3, 4]
    assert (rows[0]["learning_rate"], rows[0]["options.hidden"]) == (0.01, [8])  # the configuration's own
    best = min(rows, key=lambda row: row["validation_loss"])
    directory = tmp_path / "a" / "tuning"
    section = yaml.safe_load((directory / "best.yaml").read_text())["train"]
    assert section["learning_rate"] == best["learning_rate"]
    assert section["options"] == {"hidden": best["options.hidden"], "dropout": 0.1}
    assert section["folds"] == 3
    pasted = tmp_path / "pasted.yaml"
    pasted.write_text((directory / "best.yaml").read_text())
    assert load(pasted).train is not None
    found = json.loads((directory / "result.json").read_text())
    assert found["trial"] == best["trial"]
    assert 0.7 < found["test"]["own"]["auc"] < 1
    assert 0 < found["test"]["gain"]["auc_error"] < 0.1
    history = json.loads((directory / "trials" / "0003" / "history_0.json").read_text())
    assert min(entry["validation_loss"] for entry in history) == rows[3]["validation_loss"]
    for name in ("history", "slices", "importance"):
        assert (directory / f"{name}.png").stat().st_size > 10_000
        assert (directory / f"{name}.pdf").is_file()
    assert len((directory / "table.csv").read_text().splitlines()) == 6

    # nothing is done again, and more trials go on from there
    made = (directory / "best" / "network_0.pt").stat().st_mtime_ns
    tune(load(config), SearchOptions(trials=5, workers=1))
    assert (directory / "best" / "network_0.pt").stat().st_mtime_ns == made
    tune(load(config), SearchOptions(trials=6, workers=1))
    assert table(tmp_path)[:5] == rows
    assert len(table(tmp_path)) == 6


def test_no_trial_reads_the_test_fold(toy: Toy, tmp_path: Path) -> None:
    files = [toy("one.h5"), toy("two.h5")]
    with changing(files[1]) as rows:
        tested = fold_of(rows["run"], rows["luminosityBlock"], rows["event"], 3) == 0
        rows["x"][tested] *= -1
        rows["y"][tested] = 1000
        rows["weight"][tested] *= 7
    results = []
    for name, path in zip("ab", files, strict=True):
        config = configure(path, tmp_path / name)
        tune(load(config), SearchOptions(trials=3, workers=1))
        results.append(json.loads((tmp_path / name / "a" / "tuning" / "result.json").read_text()))
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    assert results[0]["settings"]["best"]["learning_rate"] == results[1]["settings"]["best"]["learning_rate"]
    assert results[0]["test"]["best"]["auc"] > results[1]["test"]["best"]["auc"] + 0.2


def with_choices(directory: Path, file: Path, choices: str, **changes: str) -> Path:
    """A search that varies features alone, decorrelated from one of them."""
    config = configure(file, directory, epochs=3, **changes)
    text = config.read_text().replace("  epochs:", "  decorrelate: {column: y, strength: 0.1}\n  epochs:")
    config.write_text(text.partition("  space:")[0] + f"  space:\n    features: {{choices: {choices}}}\n")
    return config


def test_a_trial_with_other_features_is_a_training_with_them(toy: Toy, tmp_path: Path) -> None:
    count = 2000
    more = {"z": np.arange(count, dtype="f4"), "gaps": np.where(np.arange(count) % 3, 1, np.nan).astype("f4")}
    file = toy(count=count, **more)
    config = load(with_choices(tmp_path, file, "[[z, x], [y, gaps, x], null]"))
    read, block = [], TrainingFiles.block

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingFiles, "block", lambda self, number: read.append(number) or block(self, number))
        tune(config, SearchOptions(trials=6, workers=1))
    assert len(read) == 3  # once for all trials, and twice for the test
    directory, seen = tmp_path / "a" / "tuning", set()
    assert config.train is not None
    for trial in sorted((directory / "trials").iterdir()):
        found = TrainingDescription.read(trial)
        names = found.shape.features
        if names in seen:
            continue
        seen.add(names)
        train([file], replace(config.train, features=found.config.features), tmp_path / "whole")
        whole = TrainingDescription.read(tmp_path / "whole")
        assert (found.shape, found.features, found.missing) == (whole.shape, whole.features, whole.missing)
        assert (found.missing == ("gaps",)) == ("gaps" in names)
        mine, theirs = (torch.load(it / "network_0.pt", weights_only=True) for it in (trial, tmp_path / "whole"))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert seen == {("z", "x"), ("y", "gaps", "x"), ("x", "y", "z", "gaps")}
    assert 0.7 < json.loads((directory / "result.json").read_text())["test"]["best"]["auc"] < 1


def test_blocks_that_are_read_again_have_the_features_of_the_trial(toy: Toy, tmp_path: Path) -> None:
    file, config = toy(), load(with_choices(tmp_path, toy(), "[[x], [y, x]]"))
    assert config.train is not None
    data = TrialData.read([file], Space.of(config, config.train))
    for names in (["x"], ["y", "x"]):
        settings = replace(config.train, features=names)
        taken, direct = data.of(settings), TrainingFiles.open([file], settings).block(0)
        direct = direct[np.flatnonzero(direct.folds(3) != 0)]
        assert taken.data.block(0).sha256() == taken.table.sha256() == direct.sha256()
        assert taken.survey.incomplete() == []


def test_trials_see_the_events_of_the_regions_alone(toy: Toy) -> None:
    file = toy(regions={"SR": "number < 300"}, in_SR=np.arange(600) < 300)
    data = TrialData.read([file], Space(Train(regions=["SR"], device="cpu"), {}))
    assert data.table.identifiers[2].max() < 300
    assert data.survey.counts.sum() == len(data.table)


def test_a_feature_that_is_not_in_the_files(toy: Toy, tmp_path: Path) -> None:
    config = with_choices(tmp_path, toy(), "[[x], [x, yy]]")
    line = config.read_text().splitlines().index("    features: {choices: [[x], [x, yy]]}") + 1
    with pytest.raises(ConfigError, match=rf'a.yaml:{line}: tune.space.features: .*"yy" is not in the HDF5 files'):
        tune(load(config), SearchOptions(trials=2, workers=1))
    assert not (tmp_path / "a" / "tuning" / "study.json").exists()


def test_trials_that_fail_are_recorded(toy: Toy, tmp_path: Path) -> None:
    config = configure(toy(), tmp_path, learning_rate="{choices: [1e30, 1e31, 0.01]}")
    text = config.read_text().replace("learning_rate: {choices: [1e30, 1e31, 0.01]}", "learning_rate: 0.01", 1)
    config.write_text(text)
    tune(load(config), SearchOptions(trials=5, workers=1))
    rows = table(tmp_path)
    failed = [row for row in rows if row["learning_rate"] > 1]
    assert 0 < len(failed) < 5
    for row in rows:
        assert row["state"] == ("failed" if row in failed else "complete").replace("failed", "fail")
    assert all("the loss is not a finite number" in row["reason"] for row in failed)


def test_all_trials_fail(toy: Toy, tmp_path: Path) -> None:
    config = configure(toy(), tmp_path)
    config.write_text(config.read_text().replace("{low: 1e-4, high: 0.1, log: true}", "{low: 1e30, high: 1e31}"))
    with pytest.raises(NanoMLError, match=r"all 2 trials failed, 2 of them with: .*loss is not a finite number"):
        tune(load(config), SearchOptions(trials=2, workers=1))


def test_pruned_trials_keep_their_history(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "draw", DRAW)
    metric = "validation_significance"
    config = configure(toy(cross_section=1.0), tmp_path, epochs=9, metric=metric, pruner="median")
    tune(load(config), SearchOptions(trials=10, workers=1))
    rows = table(tmp_path)
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned
    for row in pruned:
        directory = tmp_path / "a" / "tuning" / "trials" / f"{row['trial']:04d}"
        assert len(json.loads((directory / "history_0.json").read_text())) == row["epochs"] < 9
        assert not list(directory.glob("*.pt"))
    found = json.loads((tmp_path / "a" / "tuning" / "result.json").read_text())
    assert found[metric] == max(row[metric] or 0 for row in rows)


def test_a_search_with_other_settings_is_not_mixed_in(toy: Toy, tmp_path: Path) -> None:
    file = toy()
    tune(load(configure(file, tmp_path)), SearchOptions(trials=2, workers=1))
    config = load(configure(file, tmp_path, epochs=5))
    with pytest.raises(NanoMLError, match=r"holds a search with train.epochs 4, which now is 5. .*--force"):
        tune(config, SearchOptions(trials=2, workers=1))
    tune(config, SearchOptions(trials=2, workers=1, force=True))
    assert {row["epochs"] for row in table(tmp_path)} == {5}


def test_the_plan_writes_nothing(toy: Toy, tmp_path: Path) -> None:
    lines = plan(load(configure(toy(), tmp_path)), SearchOptions(trials=7))
    assert lines[0].startswith("tune: 7 trials for the smallest validation_loss, sampler random, pruner none; begins")
    assert "  learning_rate: from 0.0001 to 0.1, logarithmic" in lines
    assert not (tmp_path / "a").exists()


def test_time_is_up(toy: Toy, tmp_path: Path) -> None:
    config = load(configure(toy(), tmp_path, epochs=100_000, patience="100000"))
    with pytest.raises(NanoMLError, match=r"no trial has ended yet. Run the same command again to continue"):
        tune(config, SearchOptions(trials=2, workers=1, timeout=1.0))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "MLTools.NanoML.cli", "tune", *arguments]


def start(arguments: Sequence[str]) -> AbstractContextManager[subprocess.Popen[str]]:
    return running(arguments, stderr=subprocess.PIPE, text=True)


def workers_of(leader: int) -> list[int]:
    """Processes of a search that do trials."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == leader and b"spawn_main" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return sorted(found)


def epochs_in(directory: Path) -> int:
    """How many epochs the journal knows."""
    path = directory / "a" / "tuning" / "journal.log"
    return path.read_text().count("intermediate_value") if path.is_file() else 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_no_trial_is_lost_or_done_twice(toy: Toy, tmp_path: Path) -> None:
    """Where a worker is killed, the search is interrupted, and two programs go on with it together."""
    file, module, slow = toy(), tmp_path / "network.py", tmp_path / "slow"
    module.write_text(SLOW)
    calm, rough = (configure(file, tmp_path / it, epochs=40, model=f"{module}:Slow") for it in ("calm", "rough"))
    tune(load(calm), SearchOptions(trials=5, workers=1))
    slow.touch()  # no trial ends before the search is interrupted in the midst of it

    with start(command(str(rough), "-n", "5", "--workers", "2")) as leader:
        wait_for(lambda: epochs_in(tmp_path / "rough") > 10, "epochs")
        killed = workers_of(leader.pid)[0]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len({*workers_of(leader.pid)} - {killed}) == 2, "another worker")
        wait_for(lambda: epochs_in(tmp_path / "rough") > 30, "more epochs")
        workers = workers_of(leader.pid)
        leader.send_signal(signal.SIGINT)
        said = leader.communicate(timeout=300)[1]
    slow.unlink()
    assert leader.returncode == 130
    assert "a worker was killed (SIGKILL); another continues its trial" in said
    assert said.splitlines()[-1].startswith("Interrupted. Finished work is kept")
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{process}").exists() for process in workers)
    assert not (tmp_path / "rough" / "a" / "tuning" / "table.json").exists()
    journal = tmp_path / "rough" / "a" / "tuning" / "journal.log"
    assert journal.read_text().count('"attempts":{"count":0') > 0  # the next one continues them

    # the journal may end in the middle of a line
    with open(journal, "a") as half:
        half.write('{"op_code": 5, "wor')
    before = epochs_in(tmp_path / "rough")
    with start(command(str(rough), "-n", "5", "--workers", "1", "--join")) as joined:
        wait_for(lambda: epochs_in(tmp_path / "rough") > before, "epochs of the program that joins")
        tune(load(rough), SearchOptions(trials=5, workers=1))
        joined.communicate()
    assert joined.returncode == 0
    assert [row["trial"] for row in table(tmp_path / "rough")] == list(range(5))
    assert outcome(tmp_path / "rough") == outcome(tmp_path / "calm")


def test_the_expected_significance_is_searched_for(toy: Toy, tmp_path: Path) -> None:
    """The network wins that finds a part of the signal nearly without background, though another one separates all events better."""
    random, count = np.random.default_rng(5), 6000
    label = np.arange(count) % 2  # 1 is background
    special = random.random(count) < np.where(label == 0, 0.3, 0.004)
    most, rare = random.normal(label, 0.8).astype("f4"), (special + random.normal(0, 0.05, count)).astype("f4")
    file = toy(count=count, cross_section=1.0, x=most, y=rare)
    with changing(file) as rows:
        rows["weight"] = np.where(label == 0, 30.0, 1000.0) / (count / 2)
    module = tmp_path / "one.py"
    module.write_text(ONE_INPUT)
    found = {}
    for metric in ("validation_auc", "validation_significance"):
        config = configure(file, tmp_path / metric, metric=metric)
        head, _, _ = config.read_text().partition("  space:\n")
        text = re.sub(r"(?m)^  model: mlp\n  options: .*$", f"  model: {module}:One", head)
        config.write_text(f"{text}  space:\n    options.column: {{choices: [0, 1]}}\n")
        tune(load(config), SearchOptions(trials=4, workers=1))
        directory = tmp_path / metric / "a" / "tuning"
        found[metric] = json.loads((directory / "result.json").read_text()), (directory / "best.yaml").read_text()
        rows = table(tmp_path / metric)
        assert {row["options.column"] for row in rows} == {0, 1}
    of_auc, of_significance = (yaml.safe_load(text)["train"]["options"]["column"] for _, text in found.values())
    assert (of_auc, of_significance) == (0, 1)
    searched, best = found["validation_significance"]
    test = searched["test"]
    assert test["best"]["auc"] < test["own"]["auc"] - 0.05
    assert test["gain"]["significance"] > 2 * test["gain"]["significance_error"] > 0
    assert test["gain"]["significance"] == pytest.approx(test["best"]["significance"] - test["own"]["significance"])
    value, error = (test["best"][it] for it in ("significance", "significance_error"))
    assert abs(value - searched["validation_significance"]) < 5 * error
    assert f"expected significance {with_error(value, error)}" in best


def test_a_significance_needs_expected_numbers_of_events(toy: Toy, tmp_path: Path) -> None:
    config = configure(toy(), tmp_path, metric="validation_significance")
    with pytest.raises(NanoMLError, match=r"validation_significance needs expected numbers of events: .*cross_section"):
        tune(load(config), SearchOptions(trials=2, workers=1))
    assert not (tmp_path / "a" / "tuning" / "journal.log").exists()


@pytest.mark.exhaustive("pages of the manual")
def test_the_page_of_the_manual_does_what_it_says(tmp_path: Path, follow: Callable[..., None]) -> None:
    pytest.importorskip("data_processing.skim.skim")
    follow("tune.md#tune-hyperparameters", tmp_path)
    directory = tmp_path / "examples" / "trilepton" / "tuning"
    rows = json.loads((directory / "table.json").read_text())
    assert [row["trial"] for row in rows] == list(range(6))
    best = yaml.safe_load((directory / "best.yaml").read_text())["train"]
    found = max((row for row in rows if row["validation_auc"]), key=lambda row: row["validation_auc"])
    assert best["learning_rate"] == found["learning_rate"]
    assert (best["model"], best["epochs"]) == ("mlp", 20)
    for name in ("history.png", "slices.png", "table.csv", "result.json", "journal.log"):
        assert (directory / name).is_file()
