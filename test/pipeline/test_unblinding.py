"""A search from files to its limit: no accident shows data of its signal region before somebody unblinds it, and then they are there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from click.testing import CliRunner

from MLTools.NanoML.batch.job import decode, encode
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.templates import DATA, Templates
from MLTools.NanoML.report.page import typeset
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.pipeline import pipeline_stages

pytest.importorskip("data_processing.convert.stage")
pytest.importorskip("ML_processing.stages")
pytest.importorskip("statistical_analysis.stages")

from matplotlib.figure import Figure

from services.evaluations import draw_only
from services.points import write_columns
from statistical_analysis.results import read_results
from statistical_analysis.stages import fit_stage

CONFIG = """\
workdir: search
luminosity: 10
luminosity_uncertainty: 2.5 %
datasets:
  signal: {files: signal.root, class: signal, cross_section: 0.002}
  WZ: {files: WZ.root, class: WZ, cross_section: 0.03}
  Muon: {files: Muon.root, data: true}
regions: {SR: isTight, CR: "!isTight"}
convert: {features: [x]}
train: {model: mlp, regions: [SR], epochs: 2, options: {hidden: [4]}}
blind: {regions: [SR]}
histogram: {x: {bins: [5, -2, 3]}}
fit: {channels: {SR: x}, uncertainties: {WZ: 10 %}}
"""
STAGES = ("fill", "histogram", "draw")
SHOWN = (".png", ".md", ".tex", ".html", ".json", ".txt")


def write(path: Path, seed: int, count: int, at: float, run: int = 1, tight_at: float = 0.0) -> None:
    """Events around a point; those of the signal region may be elsewhere."""
    random = np.random.default_rng(seed)
    is_tight = random.random(count) < 0.5
    x = random.normal(at, 1, count)
    write_columns(path, run, x=(x + tight_at * is_tight).astype(np.float32), isTight=is_tight)


def nanoml_does(*arguments: object, says: str = "") -> Any:
    done = CliRunner().invoke(nanoml, [str(it) for it in arguments], input=says)
    assert done.exit_code == 0, (arguments, done.exception)
    return done


def refused(*arguments: object, says: str = "") -> str:
    done = CliRunner().invoke(nanoml, [str(it) for it in arguments], input=says)
    assert done.exit_code != 0
    return str(done.exception)


class Killed(BaseException):
    """The end of a run, whatever it does."""


def killed_at(name: str, analysis: Path) -> None:
    """Run an analysis until it is about to put a file in its place; the task that makes it has written others."""
    replace = os.replace

    def until(source: Path, target: Path) -> None:
        if Path(target).name == name:
            raise Killed
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", until)
        CliRunner().invoke(nanoml, ["run", str(analysis)])


def shown(workdir: Path) -> dict[str, bytes]:
    """What people look at of histograms and the fit."""
    paths = [path for name in ("histograms", "fit") for path in (workdir / name).iterdir() if path.suffix in SHOWN]
    return {path.name: path.read_bytes() for path in sorted(paths)}


def has_data(workdir: Path) -> dict[str, bool]:
    """Whether there are observed data in the histograms of each region, and in the results of the fit."""
    (histogram,) = Templates.read(workdir / "histograms/histograms.h5").histograms
    found = {channel.name: DATA in channel.processes for channel in histogram.channels}
    with uproot.open(workdir / "histograms/histograms.root") as file:
        assert {region: f"x/{region}/{DATA};1" in file for region in found} == found
    results = read_results(workdir / "fit/results.json")
    return {**found, "fit": results.channels[0].observed is not None}


BLIND, OPEN = {"SR": False, "CR": True, "fit": False}, {"SR": True, "CR": True, "fit": True}


@pytest.mark.exhaustive("each way to look at blind data")
@pytest.mark.usefixtures("no_pdfs", "compiled_once")
def test_no_accident_shows_data_of_the_signal_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_only(monkeypatch)  # those of histograms and fits are compared
    analysis, workdir, log = tmp_path / "a.yaml", tmp_path / "search", tmp_path / "search/unblinded.json"
    write(tmp_path / "signal.root", 1, 600, 1.0)
    write(tmp_path / "WZ.root", 2, 600, -0.5)
    write(tmp_path / "Muon.root", 3, 300, -0.5, run=320_000)
    analysis.write_text(CONFIG)
    assert "fill, histogram, draw, fit, plot must be done first" in refused(
        "unblind", analysis, "all", "--because", "so"
    )
    nanoml_does("run", analysis)
    assert has_data(workdir) == BLIND
    blind = shown(workdir)
    assert {"x_SR.png", "x_CR.png", "yields.md", "report.html", "results.json", "datacard.txt"} <= blind.keys()

    # other data in the signal region, and the same elsewhere
    write(tmp_path / "Muon.root", 3, 300, -0.5, run=320_000, tight_at=2.0)
    for name in ("histograms.h5", "datacard.txt"):
        killed_at(name, analysis)
        assert shown(workdir).items() <= blind.items()
        with uproot.open(workdir / "histograms/histograms.root") as file:
            assert (f"x/SR/{DATA};1" in file, f"x/CR/{DATA};1" in file) == (False, True)
    nanoml_does("run", analysis)
    assert shown(workdir) == blind

    # records are lost, and so are results; stages are done in any order, each alone, and as jobs
    shutil.rmtree(workdir / ".nanoml")
    (workdir / "fit/results.json").unlink()
    for stage in ("fit", *reversed(STAGES)):
        nanoml_does(stage, analysis)
        assert has_data(workdir) == BLIND
    (workdir / "histograms/histograms.h5").unlink()
    for made in pipeline_stages(load(analysis), STAGES):
        for task in made.tasks:
            decode(json.loads(json.dumps(encode(task.work))))()
    (task,) = fit_stage(Analysis(load(analysis))).tasks
    assert decode(json.loads(json.dumps(encode(task.work)))).args == task.work.args
    assert task.work.args[0].is_blind
    assert has_data(workdir) == BLIND
    nanoml_does("run", analysis)
    assert shown(workdir) == blind

    # what is expected must be known, and the name of the analysis
    analysis.write_text(CONFIG.replace("10 %", "+20 % -10 %"))
    assert "What is expected is not known, since fit, plot must be done first" in refused("unblind", analysis, "SR")
    analysis.write_text(CONFIG)
    asked = refused("unblind", analysis, "all", says="it is final\nno\n")
    assert "That is not search: the analysis stays blind" in asked
    assert not log.exists()

    expected = read_results(workdir / "fit/results.json").summary
    told = nanoml_does("unblind", analysis).output
    assert "SR: blind\nCR: blind in bins with an expected S / sqrt(B) above 0.5\n" in told
    assert f"as in `nanoml unblind {analysis} SR`" in told
    assert not log.exists()
    asked = nanoml_does("unblind", analysis, "all", says="it is final\nsearch\n").output
    assert f"search: SR, CR, 100% of the data.\nExpected: {expected.removesuffix('; blinded')}\n" in asked
    (entry,) = json.loads(log.read_text())["unblinded"]
    assert (entry["because"], f"{entry['expected']}; blinded") == ("it is final", expected)
    assert "@" in entry["who"]
    # killed when data were there, and the log is lost; then it is found again
    killed_at("datacard.txt", analysis)
    assert {**has_data(workdir), "fit": True} == OPEN
    log.rename(tmp_path / "log")
    nanoml_does("run", analysis)
    assert has_data(workdir) == BLIND
    assert shown(workdir) == blind
    (tmp_path / "log").rename(log)
    monkeypatch.setattr(Figure, "draw", lambda figure, renderer: None)  # from here on no figure is looked at
    nanoml_does("run", analysis)
    assert has_data(workdir) == OPEN
    by = f"unblinded by {entry['who']} on {entry['at'][:10]}"
    assert read_results(workdir / "fit/results.json").unblinded == by
    page = (workdir / "fit/report.html").read_text()
    assert by[1:] in page
    now = read_results(workdir / "fit/results.json").expected
    assert now == entry["expected"]  # whatever the data are
    rows = [
        (f"{entry['at'][:10]}, {entry['who']}", "SR, CR: it is final"),
        ("data", "SR: 139 events of Muon (1 file); CR: 161 events of Muon (1 file)"),
        ("expected then", entry["expected"]),
        ("expected now", now),
    ]
    assert typeset("".join(f"<tr><td>{what}</td><td>{text}</td></tr>" for what, text in rows)) in page
    data = Templates.read(workdir / "histograms/histograms.h5").histograms[0].channels
    counts = next(it for it in data if it.name == "SR").processes[DATA].nominal[1:-1]
    assert read_results(workdir / "fit/results.json").channels[0].observed == tuple(counts)
    assert "nothing is blind" in refused("unblind", analysis, "SR")

    # other networks are blind, in the run that trains them, too; and the same ones again are not
    analysis.write_text(CONFIG.replace("epochs: 2", "epochs: 3"))
    again = "SR, CR: blind again, since the model changed after this was unblinded by"
    assert again in nanoml_does("run", analysis).output
    assert has_data(workdir) == BLIND
    analysis.write_text(CONFIG)
    nanoml_does("run", analysis)
    assert has_data(workdir) == OPEN

    # without the log it is blind again
    log.unlink()
    killed_at("datacard.txt", analysis)
    assert {**has_data(workdir), "fit": False} == BLIND
