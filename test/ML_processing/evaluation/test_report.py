from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ML_processing.evaluation.content import Evaluation, all_sections
from ML_processing.evaluation.report import provenance
from ML_processing.evaluation.scored import EventCounts, OutOfFold, Scored, sampled
from ML_processing.evaluation.sections.data import Data
from ML_processing.evaluation.sections.loss import Losses
from ML_processing.evaluation.sections.roc import RocCurves
from ML_processing.evaluation.sections.scores import Confusion
from ML_processing.models.discriminant import BoundDiscriminant
from ML_processing.training.data import read
from ML_processing.training.description import Epoch, TrainingDescription
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.missing import Missing
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report.page import table
from services.evaluations import exact

LOSSES, CONFUSION = (f"{it.__module__}:{it.__qualname__}" for it in (Losses, Confusion))


def test_the_table_of_the_data_has_files_that_were_left_out(whole: Path) -> None:
    description = TrainingDescription.read(whole)
    assert "left out" not in provenance(description, "today", [])
    gone = tuple(Missing(f"root://a//{name}.root", "no answer", "today") for name in "xy")
    first, *others = description.datasets
    changed = replace(description, datasets=(replace(first, missing=gone), *others))
    expected = "left out because they could not be read: root://a//x.root, root://a//y.root</td>"
    assert expected in provenance(changed, "today", [])


def test_captions() -> None:
    captions = [kind.caption for kind in all_sections() if kind.caption.title] + [Data.caption_of_scores]
    assert len({it.title for it in captions}) == len(captions)
    for it in captions:
        assert not it.title.endswith(".")
        assert it.reading.endswith(".")
        assert it.worrying.endswith(".")


def test_the_page_has_an_order() -> None:
    names = {kind.name for kind in all_sections()}
    assert {it for kind in all_sections() for it in (kind.after, kind.asked_after)} - {""} <= names


def test_names_are_escaped() -> None:
    assert "<td>a &lt; b</td>" in table(["x & y"], [["a < b"]])
    assert "x &amp; y</th>" in table(["x & y"], [["a < b"]])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The file of an evaluation with numbers that JSON does not know."""
    numbers = np.array([[np.nan, np.inf, -0.0, 0.1]])
    confusion = Confusion(["signal"], numbers, np.empty((0, 3), np.float32), 7)  # type: ignore[arg-type]
    losses = Losses([[Epoch(1, math.inf, 1e-300, 0.1, None, math.nan)]], False)
    sections = {Losses: losses, RocCurves: None, Confusion: confusion}
    found = Evaluation("today", None, ["signal"], EventCounts(1, 1, 1, {}, {}), {}, [], sections, ("data",))
    found.write(tmp_path / "evaluation.json")
    assert exact(Evaluation.read(tmp_path / "evaluation.json")) == exact(found)
    return tmp_path / "evaluation.json"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda it: it.pop("sections"), "KeyError: 'sections'"),
        (lambda it: it.update(sections=[]), "AttributeError"),
        (lambda it: it["sections"].update({"os:system": "true"}), "KeyError: 'os:system'"),
        (lambda it: it["sections"][LOSSES].update(histories=[[7]]), "TypeError"),
        (lambda it: it["sections"][CONFUSION].update(events="many"), "ValueError"),
        (lambda it: it["sections"][CONFUSION].update(weights=[1.0]), "TypeError"),
        (lambda it: it["sections"][CONFUSION]["weights"].update(dtype="|O"), "ValueError: an array of object"),
        (lambda it: it["sections"][CONFUSION]["weights"].update(dtype="os.system"), "TypeError"),
        (lambda it: it["sections"][CONFUSION]["weights"].update(shape=[10**13]), "ValueError: cannot reshape"),
    ],
)
def test_damaged_measurements_are_one_message(written: Path, damage: Callable[[Any], Any], told: str) -> None:
    content = json.loads(written.read_text())
    damage(content)
    written.write_text(json.dumps(content))
    with pytest.raises(NanoMLError, match=r"evaluation\.json: is damaged \(.*\)\. Measure again: `nanoml e") as found:
        Evaluation.read(written)
    assert told in str(found.value)


def test_truncated_measurements_are_one_message(written: Path) -> None:
    content = written.read_bytes()
    for length in range(0, len(content) - 1, 50):
        written.write_bytes(content[:length])
        with pytest.raises(NanoMLError, match=r"evaluation\.json: is damaged"):
            Evaluation.read(written)


TWO = BoundDiscriminant.probability("signal", ["signal", "other"])


def scored(labels: list[int], weights: list[float], scores: list[float] | None = None) -> Scored:
    score = np.float32(scores or np.zeros(len(labels)))
    probabilities = np.stack([score, 1 - score], axis=1)
    return Scored(np.array(labels), np.float32(weights), probabilities, probabilities, TWO)


def test_balanced_weights_sum_to_the_same_with_their_signs() -> None:
    balanced: Any = scored([0, 0, 1], [3, -1, 4]).balanced()
    assert balanced.tolist() == [1.5, -0.5, 1]
    assert scored([0, 0, 1], [1, -1, 4]).balanced() is None


def test_a_sample_stands_for_all_events_of_each_class() -> None:
    labels = np.repeat([0, 1], [900, 100])
    rows, factors = sampled(labels, 200, seed=1)
    assert np.bincount(labels[rows]).tolist() == [100, 100]
    assert np.bincount(labels[rows], factors).tolist() == [900, 100]


def test_the_weights_of_a_sample_are_scaled(toy: Callable[..., Path]) -> None:
    table = read([toy()], Train())
    events = OutOfFold(None, table, np.zeros((len(table), 2), np.float32))  # type: ignore[arg-type]
    part = events.select(np.array([3, 5]), np.float32([2, 0.5]))
    assert part.table.weights.tolist() == [2 * table.weights[3], 0.5 * table.weights[5]]


def test_a_cut_keeps_as_much_background_as_it_may() -> None:
    background = (np.arange(10) + 1) / 10
    events = scored([0, *[1] * 10], [1] * 11, [0.95, *background])
    assert events.cut_at(0.2) == pytest.approx(0.9)
    assert events.cut_at(0.3) == pytest.approx(0.8)
