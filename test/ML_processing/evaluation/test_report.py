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
from ML_processing.evaluation.scored import EventCounts
from ML_processing.evaluation.sections.data import Data
from ML_processing.evaluation.sections.loss import Losses
from ML_processing.evaluation.sections.roc import RocCurves
from ML_processing.evaluation.sections.scores import Confusion
from ML_processing.training.description import Epoch, TrainingDescription
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
