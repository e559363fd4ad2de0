from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("mplhep")
pytest.importorskip("statistical_analysis.fit")

from collections.abc import Mapping

from matplotlib.text import Text

from MLTools.NanoML.config.fit import Fit, log_normal
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.templates import DATA, FilledHistogram, Origin, Template, Templates, added
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.report.page import rounded
from MLTools.NanoML.report.section import PRIVATE_WORK
from MLTools.NanoML.report.stack import Bins, Drawn, Stack, stack_figure
from MLTools.NanoML.workflow.analysis import Analysis
from services.blinding import unblind_all
from services.workspaces import free, of_simulation, sample, several, simple
from statistical_analysis.draw import draw_fit, fit_workspace
from statistical_analysis.fit import FitJob, agreement, fit, fitted_processes, read_workspace
from statistical_analysis.model import statistical_model
from statistical_analysis.report.page import _channel
from statistical_analysis.report.plots import Axis
from statistical_analysis.report.verdict import _remarks, verdict
from statistical_analysis.results import TOTAL, Channel, read_results
from statistical_analysis.results import Yields as Events
from statistical_analysis.samples import Remark
from statistical_analysis.stages import fit_stage
from statistical_analysis.toys import intervals
from statistical_analysis.workspace import workspace

pytestmark = pytest.mark.usefixtures("compiled_once")
LUMINOSITY = {"2018": {"lumi_2018": log_normal("2.5 %")}, "2022": {"lumi_2022": log_normal("1.4 %")}}
SHOWN = (".json", ".html", ".txt")
STRANGE = 76543.0
"""Observed events that nothing expects."""


def with_data(templates: Templates, value: float, in_control: float | None = None) -> Templates:
    """The same with this number of observed events in each bin of each channel, or with another one in the control region."""

    def observed(histogram: FilledHistogram) -> FilledHistogram:
        count = value if in_control is None or histogram.name != "mass" else in_control
        data = [Template(*[np.full_like(it.processes["WZ"].nominal, count)] * 2) for it in histogram.channels]
        pairs = zip(histogram.channels, data, strict=True)
        channels = tuple(replace(it, processes={**it.processes, DATA: each}) for it, each in pairs)
        return replace(histogram, channels=channels)

    return replace(templates, histograms=tuple(map(observed, templates.histograms)))


@pytest.fixture
def of_one_era(templates: Templates) -> Templates:
    """Half of the channels: a fit with all that belongs to it takes half of the time."""
    histograms = tuple(replace(it, channels=it.channels[:1]) for it in templates.histograms)
    return replace(templates, histograms=histograms, luminosity={"2018": 59.8})


def job(templates: Templates, settings: Fit, directory: Path, unblinded: str | None = None) -> FitJob:
    directory.mkdir(exist_ok=True)
    templates.write(directory / "histograms.h5")
    is_blind = unblinded is None
    others = (settings, LUMINOSITY, {}, [], is_blind, unblinded, "a.yaml:7")
    return FitJob(directory / "histograms.h5", directory / "fit", *others)


def test_what_a_paper_does_not_need_is_beside_the_figure() -> None:
    events = Events(TOTAL, (3.0, 2.0), (1.0, 1.0))
    found = Channel("SR_2018", (events,), (events,), None, "without the events of CR")
    axis = Axis("DNN score", Bins(np.array([0, 0.3, 1])), "", "with under- and overflow")
    stack = Stack(axis.bins, [Drawn("WZ", np.array(events.events), "blue")], np.array(events.errors), "Uncertainty")
    texts = {it.get_text() for it in stack_figure(PRIVATE_WORK, stack, axis.title, "", False).findobj(Text)}
    assert {"WZ", "Uncertainty", "Bin of the DNN score", "1", "2"} < texts
    block = _channel(found, ["postfit_SR_2018"], axis)
    said = ("SR_2018", "Without the events of CR", "With under- and overflow", "The edges of the bins are 0, 0.3, 1.")
    for text in said:
        assert text in block.html(None)
        assert not any(text in it for it in texts)


@pytest.mark.usefixtures("no_pdfs")
def test_no_output_of_a_blind_fit_has_observed_data(of_one_era: Templates, settings: Fit, tmp_path: Path) -> None:
    """Nor has one that need not be blind if the data of its bins are hidden."""
    blind = job(with_data(of_one_era, STRANGE), settings, tmp_path / "blind")
    hidden = with_data(of_one_era, np.nan)
    other = job(hidden, settings, tmp_path / "other", "with data: no channel is in a blind region")
    done = fit(blind)
    assert fit(other) == done
    assert draw_fit(blind, PRIVATE_WORK) == draw_fit(other, PRIVATE_WORK)
    assert read_results(tmp_path / "other/fit/results.json").unblinded is None
    assert done["summary"].endswith("; blinded")
    files = sorted(path.name for path in (tmp_path / "blind/fit").iterdir())
    names = "results.json workspace.json report.html datacard.txt templates.root impacts.png"
    assert {*names.split()} <= {*files}
    for name in files:
        content = (tmp_path / "blind/fit" / name).read_bytes()
        if name.endswith(SHOWN):
            assert b"76543" not in content
            assert content == (tmp_path / "other/fit" / name).read_bytes()
        if name.endswith(".png"):
            assert content == (tmp_path / "other/fit" / name).read_bytes()
    page = (tmp_path / "blind/fit/report.html").read_text()
    assert "Blind: all data here are expected ones" in page
    assert "Expected data have a signal strength of one; the fit finds 1.0" in page


@pytest.mark.exhaustive("pages of all kinds of fits")
@pytest.mark.usefixtures("white_figures")
def test_an_unblinded_fit_says_by_whom(of_one_era: Templates, settings: Fit, tmp_path: Path) -> None:
    by = "unblinded by me@here on 2026-01-02"
    settings = replace(settings, smooth=["jes"], groups={"jets": ["je*"]})
    unblinded = job(with_data(of_one_era, 30.0, 31.0), settings, tmp_path, by)
    done = fit(unblinded)
    draw_fit(unblinded, PRIVATE_WORK)
    assert done["summary"].endswith(by)
    results = read_results(tmp_path / "fit/results.json")
    assert results.unblinded == by
    observed = {it.name: set(it.observed or ()) for it in results.channels}
    assert [*observed.items()] == [("SR_2018", {30.0}), ("CR_2018", {31.0})]  # in the order of the settings
    page = (tmp_path / "fit/report.html").read_text()
    assert "Unblinded by me@here on 2026-01-02" in page
    assert "Observed limit" in page
    assert [it.group for it in results.breakdown] == [
        "statistics of data", "statistics of simulation", "jets", "luminosity", "normalisation", "shape",
    ]  # fmt: skip
    assert all(f"<td>{it.group}</td><td>{rounded(it.error, it.error)}</td>" in page for it in results.breakdown)
    assert page.count('alt="Smoothed variations. ') == 2
    # 30 events in each bin are far from what is expected
    states = {it.question: it.state for it in verdict(results, [])}
    assert states["Does the model describe the data?"] == "bad"
    remarks = [Remark("one-sided", "SR", "WZ", "jes changes the yield")]
    assert [it.state for it in verdict(results, remarks) if it.question == "Variations to both sides?"] == ["look"]
    remarks = [Remark("not fitted", "CR", "", "is not fitted"), Remark("renamed", "", "", "W+jets is W_jets")]
    found = {it.question: it for it in verdict(results, remarks)}
    assert found["Background everywhere?"].state == "bad"
    assert "Nothing is expected in CR: not part of the fit" in found["Background everywhere?"].text
    assert found["Templates as they are?"].text == "W+jets is W_jets."


def test_what_cannot_be_fitted_is_said_with_its_place(templates: Templates, settings: Fit, tmp_path: Path) -> None:
    wrong = job(templates, replace(settings, uncertainties={"jes": {"WZ": "3 %"}}), tmp_path)
    with pytest.raises(ConfigError, match=r"^a.yaml:7: fit: jes is both a variation of a shape and a log-normal"):
        fit(wrong)
    assert not wrong.directory.exists()


ANALYSIS = """
luminosity: 59.8
datasets:
  signal: {files: x.root, class: signal, cross_section: 1}
  WZ: {files: y.root, class: WZ, cross_section: 1}
  Muon: {files: z.root, data: true}
regions: {SR: MET > 100, CR: MET < 100}
convert: {features: [MET]}
train: {model: mlp, regions: [SR]}
histogram: {MET: {bins: [4, 0, 400]}}
fit: {channels: {SR: MET, CR: MET}}
"""


def test_the_stage_is_blind_until_the_analysis_is_unblinded(tmp_path: Path) -> None:
    """Without data it stays so."""
    (tmp_path / "a.yaml").write_text(ANALYSIS)
    (tmp_path / "z.root").write_text("events")
    analysis = Analysis(load(tmp_path / "a.yaml"))
    (task,) = fit_stage(analysis).tasks
    assert (task.settings["is_blind"], task.settings["unblinded"]) == (True, None)
    assert task.outputs[0] == tmp_path / "a/fit/results.json"
    json.dumps(task.settings)
    entry = unblind_all(analysis.config)
    (task,) = fit_stage(Analysis(analysis.config)).tasks
    assert (task.settings["is_blind"], task.settings["unblinded"]) == (False, str(entry))
    (tmp_path / "a.yaml").write_text(ANALYSIS.replace("  Muon: {files: z.root, data: true}\n", ""))
    analysis = Analysis(load(tmp_path / "a.yaml"))
    unblind_all(analysis.config)
    (task,) = fit_stage(analysis).tasks
    assert task.settings["is_blind"]


@pytest.mark.exhaustive("pages of all kinds of fits")
@pytest.mark.usefixtures("white_figures")
def test_a_workspace_has_that_page(few_events: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "workspace.json"
    source.write_text(json.dumps(few_events))
    summary = fit_workspace(source, tmp_path / "fit", False, "never")
    assert summary.endswith("with the data of workspace.json")
    results = read_results(tmp_path / "fit/results.json")
    assert (results.signals, results.toys) == (("signal",), 0)
    assert results.channels[0].observed == (2.0, 1.0, 0.0)
    page = (tmp_path / "fit/report.html").read_text()
    assert "Observed limit" in page
    assert {it.name: it.uncertainties for it in results.processes} == {
        "signal": ("efficiency", "lumi"), "WZ": ("norm", "lumi"),
    }  # fmt: skip
    assert "What is in this fit" in page
    assert ">datasets<" not in page
    assert results.breakdown == ()  # the strength is at the end of its range
    few_events["observations"][0]["data"] = [STRANGE] * 3
    source.write_text(json.dumps(few_events))
    monkeypatch.setattr(intervals, "_MORE", 1)
    blind = fit_workspace(source, tmp_path / "blind", True, 40)
    assert blind.endswith("; blinded")
    assert " by toys, " in blind
    assert "76543" not in (tmp_path / "blind/report.html").read_text()


@pytest.mark.exhaustive("pages of all kinds of fits")
@pytest.mark.usefixtures("no_pdfs")
def test_a_page_of_several_strengths(tmp_path: Path) -> None:
    channels = {"SR": [sample("A", [9, 5], free("mu_A")), sample("B", [4, 12], free("mu_B")), sample("C", [60, 40])]}
    (tmp_path / "workspace.json").write_text(json.dumps(several(channels, {"SR": [STRANGE] * 2}, "mu_A", "mu_B")))
    fit_workspace(tmp_path / "workspace.json", tmp_path / "fit", True, "never")
    page = (tmp_path / "fit/report.html").read_text()
    assert "76543" not in page
    anchors = {*re.findall('id="([^"]*)"', page)}
    assert {"strengths", "result_mu_A", "result_mu_B", "contours_mu_A_mu_B", "scan_mu_B", "limit_mu_A"} <= anchors
    assert {*re.findall('href="#([^"]*)"', page)} <= anchors
    assert re.search(r"<td>mu_B</td><td>B</td><td>1.00 ± 0.91</td><td>\u22120\.[6-8][0-9]</td><td>\+1.00</td>", page)
    found = read_results(tmp_path / "fit/results.json")
    assert [it.strengths for it in found.contours] == [("mu_A", "mu_B")] * 2
    assert (tmp_path / "fit/contours_mu_A_mu_B.png").stat().st_size > 10_000


def test_what_is_no_workspace(few_events: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "workspace.json"
    with pytest.raises(NanoMLError, match="no such file"):
        read_workspace(path)
    for text in ("not JSON", "{}"):
        path.write_text(text)
        with pytest.raises(NanoMLError, match="is not a workspace of pyhf"):
            read_workspace(path)
    few_events["measurements"][0]["config"]["poi"] = ""
    path.write_text(json.dumps(few_events))
    with pytest.raises(NanoMLError, match="names no parameter of interest"):
        read_workspace(path)


@pytest.mark.parametrize(
    ("modifier", "seen", "data", "said"),
    [
        (free("k"), "SR", 20, ""),
        ({**free("lumi"), "type": "lumi"}, "SR", 20, "ValueError: lumi lumi has no auxdata"),
        (free("k"), "CR", 20, "ValueError: channel SR has no observation"),
        (free("k"), "SR", float("nan"), "ValueError"),
        (free("k"), "SR", 10**400, "OverflowError"),
        (free("k"), "SR", "20", r"InvalidSpecification: '20' is not of type 'number'., Path: channels\[0\].samples\[1\].data\[1\]"),
        (of_simulation("SR", [1.0]), "SR", 20, "InvalidModifier: The 'B' sample staterror"),
    ],
)  # fmt: skip
def test_workspaces_without_a_likelihood(modifier: Any, seen: str, data: Any, said: str, tmp_path: Path) -> None:
    content = simple([9, 25], [1, 2], [10, 20], modifier)
    content["observations"][0]["name"], content["channels"][0]["samples"][1]["data"][1] = seen, data
    (tmp_path / "workspace.json").write_text(json.dumps(content))
    told = pytest.raises(NanoMLError, match=rf"workspace.json: is not a workspace of pyhf \({said}")
    with told if said else nullcontext():
        read_workspace(tmp_path / "workspace.json")


Yields = dict[str, dict[str, dict[str, float]]]


def test_processes_with_their_datasets_and_uncertainties(templates: Templates, settings: Fit, luminosity: Any) -> None:
    model = statistical_model(templates, settings, luminosity, ["fakes"])
    found = {it.name: it for it in fitted_processes(workspace(model), templates.histogram("wprime").origins)}
    assert list(found) == ["signal", "WZ", "ZZ", "fakes"]
    assert found["fakes"].origin == Origin(("Muon", "less WZ_2018"), True)
    assert found["fakes"].uncertainties == ("norm_fakes",)
    assert set(found["WZ"].uncertainties) == {
        "lumi_correlated", "lumi_2018", "norm_WZ", "scale", "jes", "jes_2018", "jes_2022", "jer_2018", "jer_2022",
        "btag_hfstats1_2018", "btag_hfstats1_2022",
    }  # fmt: skip
    assert found["ZZ"].uncertainties[0] == "norm_ZZ"


def reports(directory: Path, templates: Templates, by_era: bool) -> tuple[dict[str, Path], dict[str, Yields]]:
    """Reports that expect what the templates have, of one training or of one for each era; and their content by region and class."""
    paths, contents = {}, {}
    for era in ("2018", "2022") if by_era else ("",):
        yields: Yields = {}
        for histogram, region in (("wprime", "SR"), ("mass", "CR")):
            whole = added([it for it in templates.histogram(histogram).channels if era in ("", it.era)])
            sums = {name: float(it.nominal.sum()) for name, it in whole.processes.items() if name != DATA}
            yields[region] = {name: {"events": 50, "sum_of_weights": it} for name, it in sums.items()}
        paths[era], contents[era] = directory / f"metrics{era}.json", yields
    return paths, contents


def write(paths: Mapping[str, Path], contents: Mapping[str, Yields]) -> None:
    for era, path in paths.items():
        regions = {region: {"yields": yields} for region, yields in contents[era].items()}
        path.write_text(json.dumps({"events": {"classes": {}}, "regions": regions}))


CHANNELS = {"SR": "wprime", "CR": "mass"}


@pytest.mark.parametrize("by_era", [False, True])
def test_the_same_events_in_each_region_and_era(templates: Templates, tmp_path: Path, by_era: bool) -> None:
    paths, contents = reports(tmp_path, templates, by_era)
    write(paths, contents)
    assert agreement(templates, CHANNELS, paths, []).state == "good"
    where = "SR 2022" if by_era else "SR"
    contents["2022" if by_era else ""]["SR"]["WZ"]["sum_of_weights"] *= 1.0002
    del contents["2022" if by_era else ""]["CR"]
    write(paths, contents)
    found = agreement(templates, CHANNELS, paths, ["fakes"])
    assert found.state == "bad"
    assert found.text.startswith(f"One of the two lacks events, or has some twice: WZ in {where} (")
    left = "CR 2022 (not in" if by_era else "CR (not in"
    assert f"Not compared: fakes (the training has other datasets), {left}" in found.text


def test_a_class_that_one_of_the_two_lacks(templates: Templates, tmp_path: Path) -> None:
    paths, contents = reports(tmp_path, templates, False)
    contents[""]["SR"]["ZG"] = contents[""]["SR"].pop("ZZ")
    write(paths, contents)
    text = agreement(templates, CHANNELS, paths, []).text
    assert "ZG in SR (50.9 in the report, 0 here), ZZ in SR (0 in the report, 50.9 here)" in text


def test_where_signs_cancel_the_rounding_of_each_weight_counts(templates: Templates, tmp_path: Path) -> None:
    paths, contents = reports(tmp_path, templates, False)
    whole = added(list(templates.histogram("wprime").channels)).processes["WZ"]
    it = contents[""]["SR"]["WZ"]
    for events, state in ((1e6, "bad"), (1e12, "good")):  # of as many events, with as large a sum of squares
        it.update(events=events, sum_of_weights=float(whole.nominal.sum()) + 0.1)
        write(paths, contents)
        assert agreement(templates, CHANNELS, paths, []).state == state


def test_without_a_report_nothing_is_compared(templates: Templates, tmp_path: Path) -> None:
    assert agreement(templates, CHANNELS, {}, []).text == "There is no report of a training in folds on these datasets."
    (tmp_path / "metrics.json").write_text("{}")
    for path in (tmp_path / "metrics.json", tmp_path / "none.json"):
        found = agreement(templates, CHANNELS, {"": path}, [])
        assert (found.state, found.text.count(f"(not in {tmp_path.name}/{path.name})")) == ("open", 2)


def test_what_is_outside_of_the_bins_is_said(templates: Templates, settings: Fit) -> None:
    model = statistical_model(templates, settings, {}, ["fakes"])
    found = {it.channel: it.what for it in model.remarks if it.kind == "outside"}
    assert list(found) == ["SR_2018", "SR_2022", "CR_2022"]
    assert found["SR_2018"] == (  # of WZ it is less than 1 %
        "signal 3.9 % below and 2.0 % above the bins, ZZ 1.3 % below and 0.6 % above the bins, "
        "fakes 2.7 % below and 1.3 % above the bins, where nothing is fitted: use `overflow: add`, or other bins"
    )
    answer = _remarks("Events in the bins?", model.remarks, ("outside",), "")
    assert (answer.state, answer.text.split(". Also: ")[0]) == ("look", f"SR_2018: {found['SR_2018']}")
