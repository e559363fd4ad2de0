from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ML_processing.evaluation.content import all_sections
from ML_processing.evaluation.report import ORDER, provenance
from ML_processing.evaluation.sections.data import Data
from ML_processing.training.description import TrainingDescription
from MLTools.NanoML.contracts.missing import Missing
from MLTools.NanoML.report.page import table


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
    assert {kind.name for kind in all_sections()} == set(ORDER)


def test_names_are_escaped() -> None:
    assert "<td>a &lt; b</td>" in table(["x & y"], [["a < b"]])
    assert "x &amp; y</th>" in table(["x & y"], [["a < b"]])
