"""A capsule of an analysis: an outsider, without NanoML, finds its decisions and limits, and those of another signal."""

from __future__ import annotations

import argparse
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.bins import positive
from MLTools.NanoML.contracts.templates import DATA, Hypothesis, Templates, inner
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.publish import capsule as writing
from MLTools.NanoML.extensions.publish import reproduce
from MLTools.NanoML.extensions.publish.content import ModelEntry, figures_of, fit_entry, fits_of
from MLTools.NanoML.rootio.versions import generator_branch
from MLTools.NanoML.schema.plain import build
from MLTools.NanoML.workflow.analysis import Analysis
from MLTools.NanoML.workflow.task import Record

figures, pyhf = pytest.importorskip("matplotlib.figure"), pytest.importorskip("pyhf")
pytest.importorskip("data_processing.convert.stage")
pytest.importorskip("ML_processing.stages")
pytest.importorskip("statistical_analysis.stages")

Patch, Captured = pytest.MonkeyPatch, pytest.CaptureFixture[str]

SAMPLES = Path(__file__).parents[3] / "examples/nano"
SIGNAL, WZ = (SAMPLES / name / f"{name}_0.root" for name in ("WprimeToWZToLNuLL_M600", "WZTo3LNu_Pt100"))
CONFIG = f"""\
workdir: search
luminosity: 59.8
luminosity_uncertainty: 2.5 %
datasets:
  signal: {{files: {SIGNAL}, class: signal, cross_section: 0.00184}}
  WZ: {{files: {WZ}, class: WZ, cross_section: 0.0546}}
  Muon: {{files: Muon.root, data: true}}
regions: {{SR: channel <= 2, CR: channel > 2}}
blind: {{regions: [SR]}}
skim: {{selection: MLTools.NanoML.trilepton:Trilepton, keep: [MET_pt]}}
convert: {{features: [ZCand_mass, WLep_pt, MET_pt]}}
train: {{model: mlp, folds: 3, epochs: 2, options: {{hidden: [4]}}}}
histogram: {{signal: {{bins: {{edges: [0, 0.4, 0.6, 1]}}}}, MET_pt: {{bins: [3, 0, 300], overflow: add}}, WLep_pt: {{bins: [2, 0, 200]}}}}
fit: {{channels: {{SR: signal, CR: MET_pt}}, uncertainties: {{WZ: 10 %}}, toys: never}}
"""


@dataclass(frozen=True)
class Published:
    """An analysis with its capsule while it was blind, and the one after that."""

    workdir: Path
    blind: Path
    shown: Path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(nanoml, [str(it) for it in arguments])
    assert done.exit_code == 0, (arguments, done.exception)
    return done.output


def write_data(path: Path) -> None:
    """Pseudo-data: 1,400 events of WZ, three times, as if they were observed."""
    tree = uproot.open(WZ)["Events"]
    names = [it for it in tree.keys() if generator_branch([it]) is None and it != "genWeight"]
    events = ak.concatenate([tree.arrays(names)] * 3)
    count = len(events)
    write(path, events, run=np.full(count, 320_000, np.uint32), event=np.arange(count, dtype=np.uint64))


def write(path: Path, events: Any, total: float | None = None, **columns: Any) -> None:
    """Some branches of events, with columns of one's own; of simulation with the sum of all weights."""
    lists = {it: [name for name in events.fields if name.startswith(f"{it}_")] for it in ("Electron", "Muon", "Jet")}
    made = {it: ak.zip({name[len(it) + 1 :]: events[name] for name in mine}) for it, mine in lists.items()}
    made.update((it, events[it]) for it in ("run", "luminosityBlock", "event", "MET_pt", "MET_phi"))
    made.update((it, ak.Array(values)) for it, values in columns.items())
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: it.type for name, it in made.items()}).extend(made)
        if total is not None:
            file.mktree("Runs", {"genEventSumw": np.float64}).extend({"genEventSumw": [total]})


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, no_pdfs: None) -> Iterator[Published]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures.Figure, "draw", lambda figure, renderer: None)
        found, before = made(tmp_path_factory.mktemp("published")), pyhf.get_backend()
        pyhf.set_backend("numpy")  # which an outsider has
        yield found
        pyhf.set_backend(*before)


def made(base: Path) -> Published:
    analysis = base / "a.yaml"
    write_data(base / "Muon.root")
    for without in ("train", "fit"):
        analysis.write_text(re.sub(f"(?m)^({without}|histogram|fit): .*\n", "", CONFIG))
        refused = CliRunner().invoke(nanoml, ["publish", str(analysis), "-o", str(base / "blind")])
        assert f"has no section {without}: a capsule has networks and limits." in str(refused.exception)
    analysis.write_text(CONFIG)
    refused = CliRunner().invoke(nanoml, ["publish", str(analysis), "-o", str(base / "blind")])
    assert "must be done first: use `nanoml run`" in str(refused.exception)
    run("run", analysis)
    assert "model_with_selection.onnx" in run("publish", analysis, "-o", base / "blind", "--dry-run")
    assert not (base / "blind").exists()
    run("publish", analysis, "-o", base / "blind", "--events", 100)
    fewer = CONFIG.replace(", WLep_pt: {bins: [2, 0, 200]}", "")
    fewer = fewer.replace("blind: {regions: [SR]}", "blind: {regions: [TR], signal_over_root_background: null}")
    analysis.write_text(fewer.replace("CR: channel > 2}", "CR: channel > 2, TR: channel > 9}"))
    run("run", analysis)
    for kind in ("png", "json"):  # of somebody else
        shutil.copy(base / f"search/histograms/signal_SR.{kind}", base / f"search/histograms/signal_VR.{kind}")
    (base / "shown").mkdir()
    refused = CliRunner().invoke(nanoml, ["publish", str(analysis), "-o", str(base / "shown")])
    assert "exists and is not a capsule" in str(refused.exception)
    (base / "shown" / reproduce.SUMS).touch()  # an older capsule
    run("publish", analysis, "-o", base / "shown", "--events", 100, "--title", "A search", "--author", "A. Physicist")
    assert sorted(it.name for it in base.iterdir()) == ["Muon.root", "a.yaml", "blind", "search", "shown"]
    return Published(base / "search", base / "blind", base / "shown")


def program(capsule: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run reproduce.py in this process, where everything is imported already."""
    path, out, err = str(capsule / "reproduce.py"), io.StringIO(), io.StringIO()
    with Patch.context() as patch, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", [path, *map(str, arguments)])
        runpy.run_path(path, run_name="__main__")
    return subprocess.CompletedProcess([], end.value.code, out.getvalue(), err.getvalue())


def recast(capsule: Path, signal: Path, *sigmas: str, fit: str | None = None, output: Path | None = None) -> None:
    given = argparse.Namespace(signal=[str(signal)], cross_section=sigmas, fit=fit, output=output)
    reproduce.recast(capsule, reproduce.checked(capsule), given)


def outsider(capsule: Path) -> subprocess.CompletedProcess[str]:
    """Run reproduce.py where NanoML cannot be imported."""
    hidden = ("MLTools", "data_processing", "ML_processing", "statistical_analysis")
    code = f"import sys, runpy; sys.modules.update(dict.fromkeys({hidden})); sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(capsule / "reproduce.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def observed(workdir: Path) -> dict[str, list[float]]:
    templates = Templates.read(workdir / "histograms/histograms.h5")
    channels = [(each.name, it) for each in templates.histograms for it in each.channels if DATA in it.processes]
    return {f"{name} {it.name}": inner(it.processes[DATA].nominal).tolist() for name, it in channels}


def numbers(capsule: Path) -> set[float]:
    """All numbers in text files of a capsule, and in histograms of data."""
    found: set[float] = set()
    for path in (it for it in capsule.rglob("*") if it.suffix in (".json", ".yaml", ".md", ".txt", ".cff")):
        found.update(map(float, re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", path.read_text())))
    with uproot.open(capsule / "datacard/templates.root") as file:
        found.update(float(it) for it in file[f"SR/{DATA}"].values())
    return found


@pytest.mark.exhaustive("what is published, against the analysis")
def test_a_blind_analysis_is_published_without_observed_data(published: Published) -> None:
    # no number of anything else
    counts = {it for bins in observed(published.workdir).values() for it in bins if it > 90}
    assert len(counts) > 5
    assert counts <= numbers(published.shown)
    assert not counts & numbers(published.blind)
    assert not any("Data" in it.read_text() for it in (published.blind / "hepdata").glob("*.yaml"))
    shown = {path.stem for path in (published.blind / "hepdata").glob("*.png")}
    assert "signal_SR" in shown
    assert "signal_CR" not in shown  # it shows data, which may be seen here, and nowhere else


def test_a_capsule_has_the_histograms_that_there_are_now(published: Published) -> None:
    assert [*published.blind.rglob("*WLep_pt_CR*")]
    assert not [*published.workdir.rglob("*WLep_pt_CR*"), *published.shown.rglob("*WLep_pt*")]
    documents = {it["name"]: it for it in _submission(published.shown)}
    assert {"limits", "cut_flow", "signal_SR", "MET_pt_CR", "fit_postfit_CR"} <= {*documents}
    assert "signal_VR" not in documents
    flows = json.loads((published.shown / "cut_flow.json").read_text())
    assert flows.keys() == {"signal", "WZ"}  # data in TR are blind
    about = "Observed and expected numbers of events in bins of DNN score (signal) in the region SR, 59.8 fb$^{-1}$."
    assert documents["signal_SR"]["description"] == about
    assert "in the channel CR (postfit), 59.8 fb" in documents["fit_postfit_CR"]["description"]
    about = "Expected numbers of events in bins of DNN score (signal) in the region SR, 59.8 fb$^{-1}$."
    assert {it["name"]: it for it in _submission(published.blind)}["signal_SR"]["description"] == about
    assert "| signal | observed " in (published.shown / "README.md").read_text()


def _submission(capsule: Path) -> list[dict[str, Any]]:
    _, *tables = yaml.safe_load_all((capsule / "hepdata/submission.yaml").read_text())
    return tables


@pytest.mark.exhaustive("what is published, against the analysis")
def test_an_older_record_lists_no_figures(published: Published, tmp_path: Path) -> None:
    record = published.workdir / ".nanoml/draw/all.json"
    before = record.read_text()
    replace(Record.read(record), summary={"figures": 12}).write(record)
    analysis = Analysis(load(published.workdir.parent / "a.yaml"))
    with pytest.raises(NanoMLError, match="lists no figures.*nanoml run --force --from draw"):
        figures_of(analysis, "draw", "all")
    record.write_text(before)


@pytest.mark.exhaustive("what is published, against the analysis")
def test_an_outsider_finds_decisions_and_limits(published: Published) -> None:
    for done, what in ((program(published.blind), "expected"), (outsider(published.shown), "observed")):
        assert (done.returncode, done.stderr) == (0, "")
        assert "200 decisions are as published: agrees" in done.stdout
        assert what in done.stdout
        assert done.stdout.endswith("Everything agrees.\n")
    assert '  - name: "A. Physicist"' in (published.shown / "CITATION.cff").read_text()
    model = (published.shown / "model.onnx").read_bytes()
    assert str(published.workdir).encode() not in model
    assert b"books" not in model


@pytest.mark.exhaustive("what is published, against the analysis")
def test_another_signal_is_as_in_the_analysis(
    published: Published, tmp_path: Path, monkeypatch: Patch, capsys: Captured
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reproduce, "limits", lambda *_: dict.fromkeys(("observed", *reproduce.BANDS), 1.0))
        recast(published.shown, WZ, "0.0546", output=tmp_path / "new.json")
    assert "uncertainties computed: lumi, the same for every signal" in capsys.readouterr().out
    channel, _ = json.loads((tmp_path / "new.json").read_text())["channels"]
    found = {it["name"]: it["data"] for it in channel["samples"]}
    np.testing.assert_allclose(found["signal"], found["WZ"], rtol=1e-5)  # the analysis has no weights
    same = program(published.shown, "--signal", SIGNAL, "--cross-section", 0.00184, "-o", tmp_path / "same.json")
    assert (same.returncode, same.stderr, (tmp_path / "same.json").exists()) == (0, "", True)
    limit = float(re.findall(r"observed +(\S+)", same.stdout)[0])
    fit = json.loads((published.shown / "capsule.json").read_text())["fits"][0]
    assert limit == pytest.approx(fit["observed"], rel=0.01)
    assert fit["channels"]["SR"]["average"] == pytest.approx(1)
    with uproot.recreate(tmp_path / "old.root") as file:
        file.mktree("Events", {"run": np.uint32}).extend({"run": np.ones(3, np.uint32)})
        file.mktree("Runs", {"genEventSumw": np.float64}).extend({"genEventSumw": np.ones(1)})
    for name, message in (("old", "another version of NanoAOD"), ("no", "cannot be read")):
        other = tmp_path / f"{name}.root"
        bad = program(published.shown, "--signal", other, "--cross-section", 1)
        assert (bad.returncode, bad.stdout, len(bad.stderr.splitlines())) == (2, "", 1)
        assert str(other) in bad.stderr
        assert message in bad.stderr


def write_signal(path: Path, weights: Any) -> None:
    """Simulation of the signal, its first events with these weights."""
    events = uproot.open(SIGNAL)["Events"].arrays(entry_stop=len(weights))
    write(path, events, np.sum(weights), genWeight=np.asarray(weights, np.float32))


@pytest.mark.exhaustive("what is published, against the analysis")
def test_a_signal_that_cannot_be_is_one_error(published: Published, tmp_path: Path) -> None:
    content = reproduce.checked(published.blind)
    write_signal(tmp_path / "none.root", np.zeros(0))

    def refused(*sigmas: str, path: Path = SIGNAL, fit: str | None = None) -> str:
        with pytest.raises(reproduce.CapsuleError) as found:
            recast(published.blind, path, *sigmas, fit=fit)
        return str(found.value)

    for bad in (["-1"], ["0"], ["nan"], ["1", "2"]):
        assert refused(*bad) == f"{' '.join(bad)}: give each era one positive cross section."
    assert "there is no likelihood mass600, but one without a name" in refused("1", fit="mass600")
    assert "none.root: the weights of all generated events have the sum 0" in refused("1", path=tmp_path / "none.root")
    nowhere = tmp_path / "nowhere" / "new.json"
    done = program(published.blind, "--signal", SIGNAL, "--cross-section", 1, "-o", nowhere)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert str(nowhere) in done.stderr
    (fit,) = content["fits"]
    fit = {**fit, "channels": {"SR": {**fit["channels"]["SR"], "quantities": ["Muon_pt"]}}}
    with pytest.raises(reproduce.CapsuleError, match=r"of SR reads a list .*Muon_pt"):
        reproduce.templates(reproduce.Model(published.blind, content["models"][""]), fit, "", str(SIGNAL))


@pytest.mark.exhaustive("what is published, against the analysis")
def test_negative_bins_of_a_signal_are_empty(published: Published, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(reproduce, "limits", lambda *_: dict.fromkeys(reproduce.BANDS, 1.0))  # those of other tests
    content = reproduce.checked(published.blind)
    model, fit = reproduce.Model(published.blind, content["models"][""]), content["fits"][0]
    (events,) = model.events(str(SIGNAL))
    weights = np.where(model(events).columns["signal"] < 0.4, -0.1, 1)  # those of the first bin
    write_signal(tmp_path / "some.root", weights)
    sums = reproduce.templates(model, fit, "", str(tmp_path / "some.root"))["SR"][0]
    assert (sums < 0).any()
    recast(published.blind, tmp_path / "some.root", "0.01", output=tmp_path / "new.json")
    channel, _ = json.loads((tmp_path / "new.json").read_text())["channels"]
    (found,) = (np.array(it["data"]) for it in channel["samples"] if it["name"] == "signal")
    np.testing.assert_allclose(found, positive(sums)[0] * 0.01 * 59_800 / weights.sum(), rtol=1e-6)


@pytest.mark.exhaustive("what is published, against the analysis")
def test_a_fit_for_a_mass_by_a_network_that_does_not_know_it(published: Published) -> None:
    analysis = Analysis(load(published.workdir.parent / "a.yaml"))
    (fitted,) = fits_of(analysis)
    models = {era: build(ModelEntry, it) for era, it in reproduce.checked(published.shown)["models"].items()}
    entry = fit_entry(analysis, replace(fitted, hypothesis=Hypothesis("mass", 600)), models, published.shown)
    assert (entry.parameter, entry.why_not, entry.signal) == (None, "", "signal, mass = 600")
    assert [it.average for it in entry.channels.values()] == [pytest.approx(1)] * 2


@pytest.mark.exhaustive("what is published, against the analysis")
def test_cross_sections_are_those_of_the_first_strength(published: Published, tmp_path: Path) -> None:
    text = CONFIG.replace("uncertainties: {WZ: 10 %}", "signals: {mu_WZ: [WZ], mu: [signal]}")
    (tmp_path / "a.yaml").write_text(text)
    content = {**reproduce.checked(published.blind), "parts": {"SR": "10 % of the data"}}
    request = writing.Request(tmp_path / "made", "A search", (), 1)
    writing._write_texts(load(tmp_path / "a.yaml"), request, content, tmp_path)
    readme = (tmp_path / "README.md").read_text()
    assert "\nWZ 0.0546 pb.\n" in readme
    assert "not observed**. **Not all data are used (SR: 10 % of the data)**.\n" in readme


def test_an_analysis_without_a_network_has_no_capsule(tmp_path: Path) -> None:
    lines = [it for it in CONFIG.splitlines() if not it.startswith(("convert", "train"))]
    text = "\n".join([*lines, "score: {model: []}"]).replace("SR: signal", "SR: MET_phi")
    (tmp_path / "a.yaml").write_text(text.replace("signal: {bins", "MET_phi: {bins"))
    refused = CliRunner().invoke(nanoml, ["publish", str(tmp_path / "a.yaml"), "-o", str(tmp_path / "none")])
    assert "has no section train: a capsule has networks" in str(refused.exception)


@pytest.mark.exhaustive("what is published, against the analysis")
def test_damage_is_one_error(published: Published, tmp_path: Path) -> None:
    capsule = tmp_path / "capsule"
    shutil.copytree(published.shown, capsule)
    content: Any = reproduce.checked(capsule)
    for name in [*content["files"], "capsule.json", "SHA256SUMS"]:
        whole = (capsule / name).read_bytes()
        for damaged in (whole + b"\n", whole[:-1], None):
            (capsule / name).unlink() if damaged is None else (capsule / name).write_bytes(damaged)
            told = f"^{re.escape(name)}: (is missing|was changed|is damaged)"
            with pytest.raises(reproduce.CapsuleError, match=told):
                reproduce.checked(capsule)
        (capsule / name).write_bytes(whole)
    shutil.copy(capsule / "likelihood.json", capsule / "model.onnx")
    with pytest.raises(reproduce.CapsuleError, match="model.onnx: is likelihood.json, for example of another era"):
        reproduce.checked(capsule)


@pytest.mark.exhaustive("what is published, against the analysis")
def test_tables_are_a_submission_to_hepdata(published: Published) -> None:
    validator = pytest.importorskip("hepdata_validator.full_submission_validator")
    for capsule in (published.blind, published.shown):
        assert validator.FullSubmissionValidator().validate(directory=str(capsule / "hepdata"))
