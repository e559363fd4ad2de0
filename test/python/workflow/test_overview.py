"""The page of an analysis: from the files that parts leave, whichever of them there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts import missing
from MLTools.NanoML.contracts.templates import FilledHistogram, HistogramChannel, Template, TemplateAxis, Templates
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting, Step
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.overview import write_overview
from MLTools.NanoML.workflow.pipeline import described
from MLTools.NanoML.workflow.task import Record

TEXT = """
workdir: results
luminosity: 10
datasets:
  Wprime: {files: s.root, class: signal, cross_section: 0.002}
  WZ: {files: b.root, class: WZ, cross_section: 0.5}
  Muon: {files: d.root, data: true}
regions: {SR: MET > 100, CR: MET < 100}
skim: {cut: MET > 10}
convert: {features: [MET]}
train: {regions: [SR]}
histogram: {mass: {bins: [2, 0, 2]}}
fit: {channels: {SR: mass}}
blind: {regions: [SR]}
"""
CUTS = {"Wprime": (1000, 600, 300), "WZ": (2000, 400, 100), "Muon": (5000, 50, 12345)}
PAGES = {"training/report.html", "histograms/histograms.html", "fit/report.html"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "search.yaml").write_text(TEXT)
    (tmp_path / "results").mkdir()
    return load(tmp_path / "search.yaml")


def skimmed(config: Config) -> None:
    """What the skim leaves: a file of each dataset, and of WZ one that could not be read."""
    for name, counts in CUTS.items():
        steps = [Step(cut, count, float(count)) for cut, count in zip(("all", "MET > 10", "<tight>"), counts)]
        steps[1:1] = [Step("certified", 4000, 4000.0)] if name == "Muon" else []
        read, _, left = counts
        file = FileAccounting(f"/store/{name}.root", read, left, float(read), "Runs", name == "Muon", steps)
        path = config.base / f"results/.nanoml/skim/{name}/{name}.json"
        path.parent.mkdir(parents=True)
        made = {"finished": "2026-05-04T10:00:00", "host": "here", "summary": Accounting([file]).to_json()}
        Record(f"skim/{name}/{name}", "code", "0.1.0", **made).write(path)
    missing.record(config.base / "results", {"WZ": {"/store/gone.root": "/store/gone.root: no such file"}})


def trained(config: Config) -> None:
    directory = config.base / "results/training"
    directory.mkdir()
    verdict = [
        {"question": "Calibrated?", "state": "look", "text": "0.03 off. More.", "link": "#calibration"},
        {"question": "Overtrained?", "state": "bad", "text": "0.9 and 0.8. More.", "link": "#scores"},
        {"question": "Enough events?", "state": "good", "text": "500.", "link": "#numbers"},
    ]
    digest = {"number": "0.9337 ± 0.0085", "what": "AUC of the networks", "text": "Trained with torch 2.3."}
    (directory / "metrics.json").write_text(json.dumps({"digest": digest, "verdict": verdict}))
    (directory / "report.html").write_text("report")
    (directory / "roc.png").write_bytes(b"png")


def filled(config: Config) -> None:
    """What the histograms leave: blind data in the signal region."""
    nominal = {"signal": [0, 1.5, 1.25, 0], "WZ": [0, 100, 25, 0], "data_obs": [0, 120, np.nan, 0]}
    made = {name: Template(np.array(it), np.array(it)) for name, it in nominal.items()}
    open_ = {**made, "data_obs": Template(np.array([0.0, 100, 20, 0]), np.zeros(4))}
    channels = (HistogramChannel("SR", None, made), HistogramChannel("CR", None, open_))
    histogram = FilledHistogram("mass", (TemplateAxis("mass", (0.0, 1.0, 2.0)),), channels)
    (config.base / "results/histograms").mkdir()
    path = config.base / "results/histograms/histograms.h5"
    Templates("NanoML", (histogram,), ("signal", "WZ"), "signal", {"": 10.0}).write(path)
    path.with_suffix(".html").write_text("page")


def fitted(config: Config) -> None:
    directory = config.base / "results/fit"
    directory.mkdir()
    content = {
        "digest": {"number": "0.69", "what": "expected limit", "text": "Largest impacts: jes (0.21)."},
        "verdict": [{"question": "Correlated?", "state": "look", "text": "0.9 of two.", "link": "#correlations"}],
    }
    (directory / "results.json").write_text(json.dumps(content))
    (directory / "report.html").write_text("fit")


def text_of(config: Config) -> str:
    write_overview(Analysis(config))
    return (config.base / "results/index.html").read_text()


def rows(page: str) -> dict[str, list[str]]:
    found = (re.findall(r"<td>(.*?)</td>", line) for line in re.findall(r"<tr>(.*?)</tr>", page))
    return {name: cells for name, *cells in filter(None, found)}


def test_one_page_says_where_an_analysis_stands(config: Config) -> None:
    for made in (skimmed, trained, filled, fitted):
        made(config)
    page = text_of(config)
    assert "<h1>Analysis: search</h1>" in page
    numbers = {"0.69": "expected limit", "0.9337 ± 0.0085": "AUC of the networks"}
    numbers["2.8 + 125"] = "expected events in SR, signal + background"
    for number, what in numbers.items():
        assert f"<li><b>{number}</b>{what}</li>" in page
    questions = re.findall(r"</span><b>(.*?)</b>", page)
    assert questions == ["Overtrained?", "Correlated?", "Calibrated?", "Is every file read?"]
    for link in ("training/report.html#scores", "fit/report.html#correlations", "#files"):
        assert f'href="{link}"' in page
    assert "Largest impacts: jes (0.21)." in page
    assert {it for it in re.findall(r'href="([^#"]+)"', page) if it.endswith("html")} == {"index.html", *PAGES}
    assert '<img alt="Training: roc. Trained with torch 2.3." class="small" src="training/roc.png">' in page
    assert "/store/gone.root (no such file)" in page
    assert "<p>Trained with torch 2.3.</p>" in page
    (config.base / "results/fit/postfit_SR.png").write_bytes(b"png")
    shown, _, more = text_of(config).partition("2 more to look at")
    assert '<img alt="Postfit SR" class="narrow" src="fit/postfit_SR.png">' in shown
    assert re.findall(r"</span><b>(.*?)</b>", shown) == questions[:2]
    assert re.findall(r"</span><b>(.*?)</b>", more) == questions[2:]
    command = "<code>nanoml skim search.yaml</code>"
    assert rows(page)["skim"] == [command, "3", "2026-05-04 10:00:00", "here", "NanoML 0.1.0"]


def test_events_flow_through_cuts_and_regions(config: Config) -> None:
    skimmed(config)
    assert "<li><b>6.00 + 250</b>expected events after &lt;tight&gt;, signal + background</li>" in text_of(config)
    filled(config)
    page = text_of(config)
    found = rows(page)
    # 0.002 pb * 10 /fb = 20 events, and 5,000
    assert found["read"] == ["20.00", "5,000", "5,000"]
    assert [*found][:3] == ["read", "certified", "MET &gt; 10"]  # as they act, though simulation has none of the second
    assert found["certified"] == ["20.00", "5,000", "blind"]
    assert found["MET &gt; 10"] == ["12.00", "1,000", "blind"]
    assert found["&lt;tight&gt;"] == ["6.00", "250", "blind"]
    assert found["in SR"] == ["2.8", "125", "partly blind"]
    assert found["in CR"] == ["2.8", "125", "120"]
    assert found["Muon"] == ["data", "", "1", "none", "5,000", "blind"]
    assert found["WZ"] == ["WZ", "", "1", "1", "2,000", "100"]
    assert "12,345" not in page
    assert "<li><b>2.8 + 125</b>expected events in SR, signal + background</li>" in page
    assert page.count("<rect") == 3 + 2 * 6 + 2  # legend; two processes at six steps; data as read and in CR
    assert page.count("blind</text>") == 4


def test_without_cross_sections_events_are_counted(config: Config, tmp_path: Path) -> None:
    skimmed(config)
    text = re.sub(r"luminosity: 10|, cross_section: [0-9.]+", "", TEXT.partition("histogram:")[0])
    (tmp_path / "search.yaml").write_text(text)
    page = text_of(load(tmp_path / "search.yaml"))
    assert "events in files</th>" in page
    assert rows(page)["MET &gt; 10"] == ["600", "400", "blind"]


@pytest.mark.parametrize("made", [[], [skimmed], [trained], [filled], [fitted], [skimmed, fitted], [trained, filled]])
def test_it_stands_with_any_part_of_the_work(config: Config, made: list) -> None:
    for each in made:
        each(config)
    page = text_of(config)
    sections = re.findall(r'<section id="(\w+)"', page)
    expected = {skimmed: "flow files provenance", trained: "training", filled: "histograms flow", fitted: "fit"}
    assert set(sections) == {name for each in made for name in expected[each].split()}
    assert ("Nothing has been made yet." in page) == (not made)
    for link in re.findall(r'(?:href|src)="([^"#]+)', page):
        assert (config.base / "results" / link).exists() or link.endswith(".pdf")


def test_a_damaged_file_is_left_out(config: Config) -> None:
    trained(config)
    fitted(config)
    (config.base / "results/fit/results.json").write_text('{"digest": 3, "limit"')
    page = text_of(config)
    assert 'id="training"' in page
    assert 'id="fit"' not in page


def test_it_is_written_again_when_a_page_is_newer(config: Config) -> None:
    trained(config)
    index = config.base / "results/index.html"
    assert list(described(config)) == [("analysis", index)]
    index.write_text("old")
    assert list(described(config)) == []
    fitted(config)
    assert list(described(config)) == [("analysis", index)]
    assert 'id="fit"' in index.read_text()
    assert list(described(config, True)) == [("analysis", index)]


def test_several_fits_are_one_line(config: Config, tmp_path: Path) -> None:
    line = next(it for it in TEXT.splitlines() if "Wprime" in it)
    masses = (f", parameters: {{mass: {m}}}}}" for m in (600, 700, 800))
    text = TEXT.replace(line, "\n".join(line.replace("Wprime", f"W{n}")[:-1] + it for n, it in enumerate(masses)))
    (tmp_path / "search.yaml").write_text(text.replace("SR: mass}", "SR: mass}, parameter: mass"))
    config = load(tmp_path / "search.yaml")
    fitted(config)
    content = json.loads((config.base / "results/fit/results.json").read_text())
    for mass, state in ((600, "look"), (700, "bad"), (800, "good"), (900, "bad")):  # 900 is no longer there
        directory = config.base / f"results/fit/mass{mass}"
        directory.mkdir()
        content["verdict"][0].update(state=state, text=f"0.{mass} of two.")
        (directory / "results.json").write_text(json.dumps(content))
    content = {"digest": {"number": "600 to 800", "what": "excluded"}}
    (config.base / "results/fit/results.json").write_text(json.dumps(content))
    page = text_of(config)
    assert "0.700 of two." in page
    assert "So it is in 2 of the fits." in page
    assert "0.600" not in page
    assert "<b>600 to 800</b>excluded" in page
