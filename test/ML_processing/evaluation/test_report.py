from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ML_processing.evaluation.content import all_sections
from ML_processing.evaluation.report import ORDER, provenance
from ML_processing.evaluation.sections.data import Data
from ML_processing.training.description import TrainingDescription
from MLTools.NanoML.contracts.missing import Missing
from MLTools.NanoML.report.page import table, with_error

EMPTY = ("meta", "img")


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.places: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            found = {"src": self.sources, "href": self.links, "id": self.places}.get(name)
            if found is not None:
                found.append(value or "")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


SHOWN = (
    "loss", "features", "scores", "probabilities", "roc", "importance", "significance", "efficiency", "sculpting", "calibration",
    "confusion", "correlations",
)  # fmt: skip


def test_report_needs_nothing_beside_it(run: Path, measured: dict[str, Any]) -> None:
    for name in SHOWN:
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (run / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert json.loads((run / "metrics.json").read_text()) == measured
    text = (run / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert len(page.sources) == len(SHOWN)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.places == ["numbers", *SHOWN, "provenance"]
    assert set(page.links) == {f"#{place}" for place in page.places}
    assert len(text) < 5e6
    assert 'name="viewport"' in text
    assert "@media print" in text


def test_report_says_what_there_is_to_say(run: Path, measured: dict[str, Any]) -> None:
    text = (run / "report.html").read_text()
    for expected in (
        with_error(measured["auc"]["network"], measured["auc"]["network_error"]),
        "ThreeLep_sumPt",
        "WZTo3LNu_Pt100 (WZ)",
        "Overtrained?",
        "Calibrated?",
        "Too good to be true?",
        "Enough events?",
        f"Best cut: discriminant at least {measured['plots']['significance']['best']['score_at_least']:.4f}",
        "there is no luminosity",
    ):
        assert expected in text
    assert text.count("<b>Watch for:</b>") == len(SHOWN)
    assert not re.search(
        r"\b(nan|None|inf)\b", re.sub(r"base64,[^\"]*", "", text).split("Where this comes from</h2>")[0]
    )


def test_the_table_of_the_data_has_files_that_were_left_out(run: Path, measured: dict[str, Any]) -> None:
    description = TrainingDescription.read(run)
    assert "left out" not in provenance(description, measured["created"], [])
    gone = tuple(Missing(f"root://a//{name}.root", "no answer", "today") for name in "xy")
    first, *others = description.datasets
    changed = replace(description, datasets=(replace(first, missing=gone), *others))
    expected = "left out because they could not be read: root://a//x.root, root://a//y.root</td>"
    assert expected in provenance(changed, measured["created"], [])


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
