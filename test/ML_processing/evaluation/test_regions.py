"""The report of each region."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ML_processing.evaluation.report import _draw
from ML_processing.evaluation.sections.regions import Regions
from ML_processing.training.data import read
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.report.section import PRIVATE_WORK
from services.evaluations import draw_only, evaluate, evaluation, undefined_in
from services.trainings import QUICK

pytestmark = pytest.mark.exhaustive("each section and answer of the report")

Toy, Evaluated = Callable[..., Path], tuple[Path, dict[str, Any], Path]
COUNT = 600
NUMBER = np.arange(COUNT)
FLAGS: dict[str, Any] = {
    "in_SR": NUMBER < 400, "in_CR": NUMBER >= 300, "in_other": NUMBER % 2 == 1, "in_none": NUMBER < 0,
}  # fmt: skip
REGIONS = {name.removeprefix("in_"): f"cut < {name}" for name in FLAGS}
EVENTS = {"negative": 0.2, "regions": REGIONS, **FLAGS}  # with weights of either sign
TRAIN, DRAWN = replace(QUICK, regions=["SR"]), "regions"


@pytest.fixture(autouse=True)
def few_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than all else here, and those of `evaluated` are drawn."""
    draw_only(monkeypatch)


def area(score: Any, is_signal: Any, weight: Any) -> float:
    """AUC by all pairs of signal and background."""
    first, other = score[is_signal][:, None], score[~is_signal][None, :]
    pairs = weight[is_signal][:, None].astype(float) * weight[~is_signal][None, :]
    return float((pairs * ((first > other) + 0.5 * (first == other))).sum() / pairs.sum())


def scored(run: Path, file: Path) -> tuple[Any, Any]:
    training = Training.load(run)
    table = read([file], replace(training.description.config, regions=[]))
    return table, training.out_of_fold(table)[1]


def test_every_region_has_its_yields_its_auc_and_its_histogram(evaluated: Evaluated) -> None:
    file, metrics, run = evaluated
    table, scores = scored(run, file)
    assert list(metrics["regions"]) == ["SR", "CR", "other", "none"]
    for name, found in metrics["regions"].items():
        inside = FLAGS[f"in_{name}"]
        assert found["cut"] == REGIONS[name]
        assert found["is_trained_on"] == (name == "SR")
        assert found["events"] == inside.sum()
        for label, class_ in enumerate(table.classes):
            weights = table.weights[inside & (table.labels == label)].astype(float)
            assert found["yields"][class_] == {
                "events": len(weights),
                "sum_of_weights": pytest.approx(weights.sum()),
                "sum_of_weights_error": pytest.approx(np.sqrt((weights**2).sum())),
            }
        if name in ("SR", "CR"):
            expected = area(scores[inside, 0], table.labels[inside] == 0, table.weights[inside])
            assert found["auc"] == pytest.approx(expected, abs=1e-6)
            assert 0 < found["auc_error"] < 0.1
        else:  # a class is missing, or all are
            assert found["auc"] is None
    (found,) = metrics["regions"]["CR"]["outputs"]
    assert found["label"] == "Probability of signal"
    for label, each in enumerate(found["classes"]):
        mine = FLAGS["in_CR"] & (table.labels == label)
        values, weights = scores[mine, 0], table.weights[mine].astype(float)
        edges = np.array(found["edges"])
        assert each["values"] == pytest.approx(np.histogram(values, edges, weights=weights)[0], rel=1e-5)
        assert each["errors"] == pytest.approx(np.sqrt(np.histogram(values, edges, weights=weights**2)[0]), rel=1e-5)


def test_the_rest_of_the_report_is_of_the_region_of_the_training(evaluated: Evaluated) -> None:
    _, metrics, _ = evaluated
    assert metrics["events"]["total"] == 400
    assert metrics["auc"]["network"] == pytest.approx(metrics["regions"]["SR"]["auc"])
    assert "Only events in SR are trained on, and measured" in metrics["notes"][-1]


def test_the_page_has_a_section_for_each_region(evaluated: Evaluated) -> None:
    _, _, run = evaluated
    page = (run / "report.html").read_text()
    places = re.findall(r'<section id="(\w+)"', page)
    assert places[-5:] == ["region_SR", "region_CR", "region_other", "region_none", "provenance"]
    assert set(re.findall(r'href="#(\w+)"', page)) == set(places)
    assert "<code>cut &lt; in_SR</code>. The networks were trained on events of this region." in page
    assert page.count("The networks were trained on events of this region.") == 1
    for name in ("SR", "CR", "other"):
        assert (run / f"region_{name}.png").read_bytes().startswith(b"\x89PNG")
    assert undefined_in(page) == []


def test_figures_of_other_regions_are_removed(tmp_path: Path) -> None:
    for kind in ("png", "json"):
        (tmp_path / f"region_gone.{kind}").touch()
    assert _draw(evaluation({Regions: Regions({})}), PRIVATE_WORK, tmp_path, ()) == []
    assert not list(tmp_path.iterdir())


def test_a_single_network_stands_for_all_events(toy: Toy, quick: Train, tmp_path: Path) -> None:
    """With one fold of five tested, the histogram still has the expected events of all."""
    file, run = toy(regions=REGIONS, **FLAGS), tmp_path / "run"
    train([file], replace(quick, folds=1), run)
    found = evaluate(run, [file], run)["regions"]["SR"]
    assert not found["is_trained_on"]
    assert found["events"] < 150
    for class_, each in zip(("signal", "other"), found["outputs"][0]["classes"], strict=True):
        assert found["yields"][class_]["events"] == 200
        assert sum(each["values"]) == pytest.approx(200, rel=1e-4)


def test_a_regression_has_its_accuracy_in_each_region(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file, run = toy(z=np.linspace(0, 1, COUNT, dtype=np.float32), regions=REGIONS, **FLAGS), tmp_path / "run"
    train([file], replace(quick, targets=["z"]), run)
    metrics = evaluate(run, [file], run)
    table, scores = scored(run, file)
    found = metrics["regions"]["CR"]
    inside = FLAGS["in_CR"]
    bias = (scores[:, 0] - np.linspace(0, 1, COUNT))[inside].mean()
    assert found["targets"]["z"]["bias"]["value"] == pytest.approx(bias)
    assert found["outputs"][0]["label"] == "Predicted z"
    assert found["signal"] is None
    assert metrics["regions"]["none"]["outputs"] == []
    assert len(table) == COUNT
    assert not (run / "region_none.png").exists()
    assert '<section id="region_none">' in (run / "report.html").read_text()
