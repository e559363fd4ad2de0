from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ML_processing import plots
from ML_processing.data import read
from ML_processing.evaluate import evaluate
from ML_processing.run import Run
from ML_processing.splits import make_splits
from ML_processing.train import train
from MLTools.NanoML.config import Train
from MLTools.NanoML.errors import NanoMLError

Toy = Callable[..., Path]
TOY_AUC = 0.841  # the best: two Gaussians of unit width at a distance of sqrt(2), Phi(1)


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than all else here; the example's are made and looked at."""
    monkeypatch.setattr(plots, "save", lambda figure, stem: stem.with_suffix(".png").write_bytes(b""))


def test_the_example_is_learned(measured: dict[str, Any]) -> None:
    auc = measured["auc"]
    assert auc["network"] > 0.92
    assert auc["network"] > auc["baseline"] - 0.01
    assert 0.003 < auc["network_error"] < 0.01
    assert measured["auc_unweighted"]["network"] > 0.92


def test_numbers_are_out_of_fold(run: Path, files: list[Path], measured: dict[str, Any]) -> None:
    """Once more, written out plainly and measured by scikit-learn."""
    training, table = Run.load(run), read(files)
    scores = np.full(len(table), np.nan)
    for split, network in zip(make_splits(table, 5), training.networks, strict=True):
        with torch.no_grad():
            logits = network(torch.from_numpy(table.features[split.test]))
        scores[split.test] = torch.softmax(logits, dim=1)[:, 0].numpy()
    truth = table.labels == 0
    weighted = roc_auc_score(truth, scores, sample_weight=table.weights)
    assert measured["auc"]["network"] == pytest.approx(weighted, abs=1e-6)
    assert measured["auc_unweighted"]["network"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    for label, name in enumerate(table.classes[1:], 1):
        use = truth | (table.labels == label)
        expected = roc_auc_score(truth[use], scores[use], sample_weight=table.weights[use])
        assert measured["auc_against"][name]["weighted"]["network"] == pytest.approx(expected, abs=1e-6)
    for cut in measured["cuts"]:
        passed = scores >= cut["score_at_least"]
        kept = table.weights[passed & ~truth].sum() / table.weights[~truth].sum()
        assert cut["background_efficiency"] == pytest.approx(kept, rel=1e-4)


def test_events_and_confusion(files: list[Path], measured: dict[str, Any]) -> None:
    table = read(files)
    assert measured["events"]["total"] == measured["events"]["tested"] == len(table)
    assert measured["events"]["classes"] == table.summary()
    sums = np.array(measured["confusion"]).sum(axis=1)
    assert sums == pytest.approx([entry["sum_of_weights"] for entry in table.summary().values()])


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report(run: Path, measured: dict[str, Any]) -> None:
    for name in ("roc", "scores", "confusion", "loss"):
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (run / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert json.loads((run / "metrics.json").read_text()) == measured
    text = (run / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for expected in (
        f"{measured['auc']['network']:.3f} ±",
        "ThreeLep_sumPt",
        "WZTo3LNu_Pt100 (WZ)",
        "Worrying:",
    ):
        assert expected in text


@pytest.mark.parametrize("negative", [0.0, 0.25])
def test_two_classes_and_negative_weights(toy: Toy, quick: Train, tmp_path: Path, negative: float) -> None:
    file = toy(negative=negative)
    train([file], dataclasses.replace(quick, epochs=30), tmp_path / "run")
    content = evaluate(tmp_path / "run", [file], tmp_path / "report")
    assert content["auc"]["network"] == pytest.approx(TOY_AUC, abs=0.05)
    assert content["auc"]["baseline"] == pytest.approx(TOY_AUC, abs=0.05)
    assert content["auc_against"]["other"]["weighted"] == content["auc"]
    assert (tmp_path / "report" / "report.html").is_file()


def test_single_network_is_tested_on_its_fold(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy()
    train([file], dataclasses.replace(quick, folds=1), tmp_path / "run")
    content = evaluate(tmp_path / "run", [file], tmp_path / "run")
    assert content["events"]["tested"] == int((read([file]).folds(5) == 0).sum())


def test_other_events_are_noted(toy: Toy, quick: Train, tmp_path: Path) -> None:
    train([toy()], quick, tmp_path / "run")
    content = evaluate(tmp_path / "run", [toy("more.h5", count=700)], tmp_path / "run")
    expected = (
        "These are not the events of the training: the trees learned from these, the networks from others."
    )
    assert expected in content["notes"]


def test_events_with_other_features(toy: Toy, quick: Train, tmp_path: Path) -> None:
    train([toy()], quick, tmp_path / "run")
    with pytest.raises(
        NanoMLError, match="the training has the features x, y, but these events have x, y, z"
    ):
        evaluate(tmp_path / "run", [toy("z.h5", z=np.arange(600.0))], tmp_path / "run")


def test_signal_without_a_positive_sum_of_weights(toy: Toy, quick: Train, tmp_path: Path) -> None:
    train([toy()], quick, tmp_path / "run")
    other = toy("other.h5")
    with h5py.File(other, "r+") as file:
        rows = file["events"][:]
        rows["weight"][rows["label"] == 0] = -1
        file["events"][:] = rows
    content = evaluate(tmp_path / "run", [other], tmp_path / "run")
    assert content["auc"]["network"] is None
    assert content["auc_unweighted"]["network"] == pytest.approx(TOY_AUC, abs=0.05)
    assert content["cuts"] == []
    assert "No AUC is defined" in (tmp_path / "run" / "report.html").read_text()


def test_epochs_that_were_too_few(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy()
    train([file], dataclasses.replace(quick, epochs=2, learning_rate=1e-3), tmp_path / "run")
    notes = evaluate(tmp_path / "run", [file], tmp_path / "run")["notes"]
    assert notes == [
        "3 of 3 networks were at their best in their last epoch: a larger train.epochs should improve them."
    ]


def test_same_numbers_again(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy()
    train([file], quick, tmp_path / "run")
    first, second = (evaluate(tmp_path / "run", [file], tmp_path / name) for name in "ab")
    assert {**first, "created": ""} == {**second, "created": ""}
