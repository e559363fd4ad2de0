"""Samples for the training alone and for the fit alone, in two eras, with a class from data that no network could be trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import uproot
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.contracts.templates import Origin
from MLTools.NanoML.report.page import rounded
from services.points import write

pytest.importorskip("data_processing.convert.stage")
pytest.importorskip("ML_processing.stages")
pytest.importorskip("statistical_analysis.stages")

from statistical_analysis.results import Results, read_results

CONFIG = """\
workdir: search
eras: {2018: {luminosity: 59.8}, 2022: {luminosity: 8}}
datasets:
  signal_2018: {files: signal_2018.root, era: 2018, class: signal, cross_section: 0.002}
  signal_2022: {files: signal_2022.root, era: 2022, class: signal, cross_section: 0.002}
  LO_2018:     {files: LO_2018.root, era: 2018, class: WZ, only: training, cross_section: 0.02}
  LO_2022:     {files: LO_2022.root, era: 2022, class: WZ, only: training, cross_section: 0.02}
  NLO_2018:    {files: NLO_2018.root, era: 2018, class: WZ, only: fit, cross_section: 0.03}
  NLO_2022:    {files: NLO_2022.root, era: 2022, class: WZ, only: fit, cross_section: 0.03}
  Muon_2018:   {files: Muon_2018.root, era: 2018, data: true}
  Muon_2022:   {files: Muon_2022.root, era: 2022, data: true}
regions: {SR: isTight, CR: isTight && x > 1, sideband: "!isTight"}
data_driven:
  fakes: {from: [Muon_2018, Muon_2022], region: sideband, weight: 0.3, subtract: WZ, into: {SR: 1, CR: x > 1}, only: fit}
convert: {features: [x]}
train: {model: mlp, regions: [SR], folds: 3, epochs: 2, options: {hidden: [4]}}
histogram: {y: {bins: {edges: [-3, -2, -1, 1, 2]}, overflow: add}}
fit: {channels: {SR: y, CR: y}}
"""
LUMINOSITY = {"2018": 59.8, "2022": 8.0}


def run(*arguments: object) -> str:
    done = CliRunner().invoke(nanoml, [str(it) for it in arguments])
    assert done.exit_code == 0, (arguments, done.exception)
    return done.output


def results(workdir: Path) -> Results:
    found = read_results(workdir / "fit/results.json")
    assert isinstance(found, Results)
    return found


def answer(workdir: Path) -> tuple[str, str]:
    """The state and the text of the answer on the events of the training, in the results of the fit."""
    answers = json.loads((workdir / "fit/results.json").read_text())["verdict"]
    (found,) = (it for it in answers if it["question"] == "As many events as in the training?")
    return found["state"], found["text"]


@pytest.mark.exhaustive("events for one purpose, through all stages")
@pytest.mark.usefixtures("white_figures", "compiled_once")
def test_each_serves_what_it_is_for(tmp_path: Path) -> None:
    analysis, workdir = tmp_path / "a.yaml", tmp_path / "search"
    for era, luminosity in LUMINOSITY.items():
        seed = int(era)
        write(tmp_path / f"signal_{era}.root", seed, 600, 1.0)
        write(tmp_path / f"LO_{era}.root", seed + 1, 600, -0.5)
        write(tmp_path / f"NLO_{era}.root", seed + 2, 600, -0.6)
        write(tmp_path / f"Muon_{era}.root", seed + 3, int(10 * luminosity), 1.0, run=320_000 + seed)
    analysis.write_text(CONFIG.replace("x > 1}, only: fit}", "x > 1}}").replace("search", "failed"))
    failed = CliRunner().invoke(nanoml, ["run", str(analysis), "--to", "train"])
    assert 'needs the share of class "fakes"' in str(failed.exception)
    assert 'leave the class to the fit by "only: fit"' in str(failed.exception)
    analysis.write_text(CONFIG)
    run("run", analysis)
    assert json.loads((workdir / "training/metrics.json").read_text())["classes"] == ["signal", "WZ"]
    assert not list((workdir / "hdf5").glob("fakes*"))

    found = results(workdir)
    origins = {it.name: it.origin for it in found.processes}
    assert origins["WZ"] == Origin(("NLO_2018", "NLO_2022"))
    assert origins["fakes"] == Origin(("Muon_2018", "Muon_2022", "less NLO_2018", "less NLO_2022"), True)
    yields = {(channel.name, it.sample): sum(it.events) for channel in found.channels for it in channel.prefit}
    # negative in SR, and left out there
    assert {channel for channel, name in yields if name == "fakes"} == {"CR_2018", "CR_2022"}
    with uproot.open(workdir / "fit/templates.root") as templates:
        for era, luminosity in LUMINOSITY.items():
            with uproot.open(tmp_path / f"NLO_{era}.root") as file:
                events: Any = file["Events"].arrays(["genWeight", "isTight", "x"], library="np")
            passes = {"SR": events["isTight"], "CR": events["isTight"] & (events["x"] > 1)}
            for region, inside in passes.items():
                share = events["genWeight"][inside].sum(dtype=float) / events["genWeight"].sum(dtype=float)
                wanted = pytest.approx(share * 0.03 * 1000 * luminosity, rel=1e-5)
                assert templates[f"{region}_{era}/WZ"].values().sum() == wanted
                assert yields[f"{region}_{era}", "WZ"] == wanted
            assert templates[f"CR_{era}/fakes"].values().sum() > 0
    assert "fakes" in (workdir / "fit/datacard.txt").read_text()

    page = (workdir / "fit/report.html").read_text()
    assert page.index("<h2>What is in this fit") < page.index("<h2>Result")
    events = f"{rounded(yields[found.channels[0].name, 'WZ'])}</td><td>"
    assert f'<td>WZ</td><td class="long">NLO_2018, NLO_2022</td><td>simulation</td><td>{events}' in page
    assert "SR_2018 fakes: is left out: \u2212" in page
    state, text = answer(workdir)
    assert state == "good"
    assert text.startswith("The report of the training has the same: signal in SR, signal in CR.")
    assert text.endswith("Not compared: WZ (the training has other datasets), fakes (the training has other datasets).")

    report = workdir / "training/metrics.json"
    content = json.loads(report.read_text())
    expected = content["regions"]["CR"]["yields"]["signal"]["sum_of_weights"]
    content["regions"]["CR"]["yields"]["signal"]["sum_of_weights"] *= 1.001
    del content["regions"]["SR"]
    report.write_text(json.dumps(content))
    run("fit", analysis, "--force")
    state, text = answer(workdir)
    assert state == "bad"
    assert f"signal in CR ({1.001 * expected:.6g} in the report, {expected:.6g} here)" in text
    assert "SR (not in training/metrics.json)" in text
    report.unlink()
    run("fit", analysis, "--force")
    state, text = answer(workdir)
    assert state == "open"
    assert "CR (not in training/metrics.json)" in text
