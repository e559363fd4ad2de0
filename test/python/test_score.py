from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML import score as module
from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Discriminant, Model
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaod.provenance import ScoredBy
from MLTools.NanoML.nanoaodtools import postproc_module
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.score import score
from MLTools.NanoML.selection import Column, Selection
from MLTools.NanoML.trilepton import Trilepton, trilepton
from services.nanoaodtools import Plain, loop, needs_nanoaodtools, record

Command = Callable[..., Path]
PASSES = 263  # of 1000 events


@pytest.fixture
def source(sample: Path) -> Path:
    return sample / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"


def scored(path: Path, *modules: Any) -> dict[int, dict[str, Any]]:
    """The values that modules set, for each event that all let through."""
    return dict(loop(modules, path))


def expected(path: Path, x: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
    """The scores of the fixture `linear_model`, computed by hand."""
    with uproot.open(path) as file:
        ids = [file["Events"][name].array(library="np")[rows] for name in ("run", "luminosityBlock", "event")]
    logits = np.stack([x.astype(float), fold_of(ids[0], ids[1], ids[2], 3), np.zeros(len(x))], axis=1)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def of_rows(rows: Any) -> np.ndarray:
    return np.array([[row[f"linear_{name}"] for name in ("signal", "WZ", "ZG")] for row in rows])


def read(path: Path, name: str, tree: str = "Events") -> Any:
    with uproot.open(path) as file:
        return file[tree][name].array()


def test_scores_event_by_event(source: Path, linear_model: Callable[..., Path]) -> None:
    model = linear_model(["MET_phi"], objects={"Muon": (["eta"], 1, "-pt")})
    found = scored(source, score(model)())
    x = read(source, "MET_phi").to_numpy().astype(float)
    order = ak.argsort(-read(source, "Muon_pt"), stable=True)
    x += ak.to_numpy(ak.sum(read(source, "Muon_eta")[order][:, :1], axis=1))
    assert list(found) == list(range(1000))
    assert of_rows(found.values()) == pytest.approx(expected(source, x), abs=1e-6)


AGAINST = Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.75, "ZG": 0.25})


def against(p: np.ndarray) -> np.ndarray:
    """AGAINST, computed by hand."""
    return p[..., 0] / (p[..., 0] + 0.75 * p[..., 1] + 0.25 * p[..., 2])  # type: ignore[no-any-return]


def test_discriminants_event_by_event(source: Path, linear_model: Callable[..., Path]) -> None:
    found = scored(source, score(linear_model(["MET_phi"], discriminants=[AGAINST]))())
    values = np.array([row["linear_discriminant"] for row in found.values()])
    x = read(source, "MET_phi").to_numpy()
    assert values == pytest.approx(against(expected(source, x)), abs=1e-6)


def test_beside_a_selection(source: Path, linear_model: Command, capsys: pytest.CaptureFixture[str]) -> None:
    by_file, by_selection = linear_model(["MET_phi"]), linear_model(["ZCand_dR"], ["ZCand_dR"])
    before = scored(source, score(by_file)(), trilepton())
    after = scored(source, trilepton(), score(by_file)())
    assert list(before) == list(after)
    assert len(after) == PASSES
    assert of_rows(after.values()) == pytest.approx(of_rows(before.values()), abs=1e-6)
    made = scored(source, trilepton(), score(by_selection)())
    rows = list(made)
    x = np.array([row["ZCand_dR"] for row in made.values()])
    assert of_rows(made.values()) == pytest.approx(expected(source, x, rows), abs=1e-6)
    told = capsys.readouterr().err
    assert "one by one" not in told
    assert "Trilepton, linear: all 1,000" in told


def test_inputs_from_another_module(source: Path, linear_model: Callable[..., Path]) -> None:
    def analyze(event: Any) -> bool:
        event._tree._extrabranches["mine"] = 0.01 * event._entry
        return event._entry < 20

    other = Plain(analyze)
    found = scored(source, other, score(linear_model(["mine"]))())
    assert of_rows(found.values()) == pytest.approx(expected(source, 0.01 * np.arange(20), range(20)), abs=1e-6)


def test_missing_inputs_are_explained(source: Path, linear_model: Callable[..., Path]) -> None:
    message = "model linear reads ZCand_mass, which the file lacks and no module before makes. ZCand_mass is a column of selection"
    with pytest.raises(NanoMLError, match=message):
        scored(source, score(linear_model(["ZCand_mass"], ["ZCand_mass"]))())
    with pytest.raises(NanoMLError, match='reads MET_ph, which .* Did you mean "MET_ph'):
        scored(source, score(linear_model(["MET_ph"]))())
    with pytest.raises(NanoMLError, match="no such file"):
        score("model.onnx")()


def of_objects(path: Path, x: Any, rows: Any = slice(None)) -> Any:
    """The scores of the fixture `linear_model` for each object, computed by hand; lists of three numbers."""
    counts = ak.num(x)
    numbers = np.repeat(np.arange(1000)[rows], counts)
    return ak.unflatten(expected(path, ak.to_numpy(ak.flatten(x)), numbers), counts)


class Tagged(Selection):
    branches = ("Muon_linear_WZ", "Muon_pt", "nMuon")
    columns = {"tagged": Column("f4", "pt of muons with a score above 0.4 [GeV]"), "muons": Column("i4", "")}

    def select(self, events: Any, cutflow: Any) -> Any:
        muons = events.Muon
        return events, {"tagged": ak.sum(muons.pt[muons.linear_WZ > 0.4], axis=1), "muons": events.nMuon}


def check_objects(path: Path, rows: Any, found: dict[str, Any], columns: Any) -> None:
    """Compare the lists of scores, and what a selection makes of them, with those computed by hand."""
    scores = of_objects(path, read(path, "Muon_eta")[rows], rows)
    for i, name in enumerate(("signal", "WZ", "ZG")):
        assert ak.num(found[name]).to_list() == ak.num(scores).to_list()
        assert ak.to_numpy(ak.flatten(found[name])) == pytest.approx(ak.to_numpy(ak.flatten(scores[..., i])), abs=1e-6)
    pt = read(path, "Muon_pt")[rows]
    assert columns["tagged"] == pytest.approx(ak.to_numpy(ak.sum(pt[found["WZ"] > 0.4], axis=1)), rel=1e-5, abs=1e-5)
    assert columns["muons"] == ak.num(pt).to_list()


@pytest.fixture
def object_model(linear_model: Callable[..., Path]) -> Path:
    return linear_model(["Muon_eta", "MET_pt"], level="object", collection="Muon")


def test_objects(source: Path, object_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = scored(source, trilepton(), score(object_model)(), postproc_module(Tagged)())
    assert len(made) == PASSES
    found = {name: ak.Array([row[f"Muon_linear_{name}"] for row in made.values()]) for name in ("signal", "WZ", "ZG")}
    columns = {name: [row[name] for row in made.values()] for name in ("tagged", "muons")}
    check_objects(source, np.array(list(made)), found, columns)
    assert "one by one" not in capsys.readouterr().err


def test_objects_one_by_one(source: Path, linear_model: Callable[..., Path]) -> None:
    def analyze(event: Any) -> bool:
        event._tree._extrabranches["mine"] = 1.5
        return bool(event._entry < 5)

    plain = Plain(analyze)
    model = linear_model(["Muon_eta", "mine"], level="object", collection="Muon")
    found = scored(source, plain, score(model)())
    scores = of_objects(source, read(source, "Muon_eta")[:5], slice(5)).to_list()
    assert len(found) == len(scores) == 5
    for row, muons in zip(found.values(), scores):
        assert row["Muon_linear_WZ"] == pytest.approx([muon[1] for muon in muons], abs=1e-6)


def test_names_after_the_module_are_models(linear_model: Callable[..., Path]) -> None:
    mass = {"column": "mass", "values": [600.0]}
    model = linear_model(["MET_phi", "mass"], parameter=mass)
    for name, parameter in ((f"{model}:mass=600", 600.0), (f"{linear_model(['MET_phi'])}", None)):
        assert name in dir(module)
        made = getattr(module, name)()
        assert made.selection.parameter == parameter
    with pytest.raises(NanoMLError, match="has the parameter mass, trained at 600: give a number"):
        getattr(module, str(model))()
    for name in ("wprime", "model.onnx:mass=heavy"):
        assert name in dir(module)
        said = f"{name}: is not a model. After -I MLTools.NanoML.score write model.onnx"
        with pytest.raises(NanoMLError, match=said):
            getattr(module, name)
    assert not hasattr(module, "__wrapped__")
    assert "score" in dir(module)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    pytest.importorskip("ROOT", reason="needs ROOT")
    framework = "PhysicsTools.NanoAODTools.postprocessing.framework"
    pytest.importorskip(f"{framework}.postprocessor", reason="needs nanoAOD-tools")
    script = shutil.which("nano_postproc.py")
    if script is None:
        pytest.skip("nano_postproc.py is not in the PATH")

    def run(path: Path, *options: str) -> Path:
        line = [sys.executable, script, str(tmp_path), str(path), "-z", "none", *options]
        search = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": search}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return tmp_path / f"{path.stem}_{'Friend' if '--friend' in options else 'Skim'}.root"

    return run


TRILEPTON, SCORE = ("-I", "MLTools.NanoML.trilepton", "trilepton"), ("-I", "MLTools.NanoML.score")


def test_the_command(source: Path, command: Command, linear_model: Callable[..., Path]) -> None:
    model = linear_model(["ZCand_dR", "MET_phi"], ["ZCand_dR"], discriminants=[AGAINST])
    output = command(source, *TRILEPTON, *SCORE, str(model))
    x, event = read(output, "ZCand_dR").to_numpy(), read(output, "event")
    assert len(x) == PASSES
    rows = np.flatnonzero(np.isin(read(source, "event").to_numpy(), event.to_numpy()))
    scores = np.stack([read(output, f"linear_{name}").to_numpy() for name in ("signal", "WZ", "ZG")], axis=1)
    assert scores == pytest.approx(expected(source, x, rows), abs=1e-6)
    with uproot.open(output) as file:
        assert file["Events"]["linear_WZ"].title == "probability of class WZ by linear"
        assert file["Events"]["linear_discriminant"].title == "signal against WZ 0.75, ZG 0.25 by linear"
    values = read(output, "linear_discriminant").to_numpy()
    assert values == pytest.approx(against(expected(source, x, rows)), abs=1e-6)
    told = record(output)
    assert (told.kind, told.selection) == ("skim", "MLTools.NanoML.trilepton:Trilepton")
    assert told.model == ScoredBy("linear", file_hash(model))
    assert told.columns.keys() == Trilepton.columns.keys()


TREES = """
workdir: trees
luminosity: 59.8
datasets:
  signal: {{files: {sample}/WprimeToWZToLNuLL_M600/*_0.root, class: signal, cross_section: 0.00184}}
  WZ: {{files: {sample}/WZTo3LNu_Pt100/*_0.root, class: WZ, cross_section: 0.0546}}
skim: {{selection: "MLTools.NanoML.trilepton:Trilepton", keep: [MET_phi, MET_pt]}}
convert: {{features: [ZCand_dR, WLep_pt, MET_pt]}}
train: {{model: bdt, epochs: 30, folds: 3}}
"""


def test_the_command_with_trees(source: Path, sample: Path, command: Command, tmp_path: Path) -> None:
    pytest.importorskip("ML_processing.stages")
    (tmp_path / "a.yaml").write_text(TREES.format(sample=sample))
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "run", str(tmp_path / "a.yaml"), "--to", "export"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = Model(tmp_path / "trees" / "model.onnx")
    output = command(source, *TRILEPTON, *SCORE, str(model.path))
    fold = fold_of(*(read(output, name).to_numpy() for name in ("run", "luminosityBlock", "event")), 3)
    assert len(fold) == PASSES
    wanted = model.scores({name: read(output, name) for name in model.reads}, fold)
    found = np.stack([read(output, f"trees_{name}").to_numpy() for name in model.outputs], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert wanted[:, 0].max() - wanted[:, 0].min() > 0.5


TAGGED = f"""
import awkward as ak
from MLTools.NanoML.nanoaodtools import postproc_module
from MLTools.NanoML.selection import Column, Selection

{inspect.getsource(Tagged)}

tagged = postproc_module(Tagged)
"""


def test_the_command_with_objects(source: Path, tmp_path: Path, command: Command, object_model: Path) -> None:
    (tmp_path / "tagged_module.py").write_text(TAGGED.replace(": Any", "").replace(" -> Any", ""))
    output = command(source, *TRILEPTON, *SCORE, str(object_model), "-I", "tagged_module", "tagged")
    rows = np.flatnonzero(np.isin(read(source, "event").to_numpy(), read(output, "event").to_numpy()))
    assert len(rows) == PASSES
    found = {name: read(output, f"Muon_linear_{name}") for name in ("signal", "WZ", "ZG")}
    columns = {name: read(output, name).to_list() for name in ("tagged", "muons")}
    check_objects(source, rows, found, columns)
    with RootFile(output) as file, RootFile(source) as original:
        assert file.branches["Muon_linear_WZ"].collection == "Muon"
        assert file.branches["nMuon"] == original.branches["nMuon"]
        for name in ("nMuon", "Muon_pt", "Electron_pt"):
            assert read(output, name).to_list() == read(source, name)[rows].to_list()


def test_a_pass_with_models_only_is_no_selection(source: Path, command: Command, object_model: Path) -> None:
    output = command(source, *SCORE, str(object_model))
    told = record(output)
    assert (told.kind, told.selection, told.criteria.code) == ("scores", None, "")
    assert told.model == ScoredBy("linear", file_hash(object_model))
    assert told.columns.keys() == {
        "Muon_linear_signal", "Muon_linear_WZ", "Muon_linear_ZG", "linear_fold",
    }  # fmt: skip
    assert (told.accounting.entries, told.accounting.selected) == (1000, 1000)
    friend = command(source, "--friend", *SCORE, str(object_model))
    assert record(friend, "Friends").kind == "scores"
    assert read(friend, "Muon_linear_WZ", "Friends").to_list() == read(output, "Muon_linear_WZ").to_list()


def test_a_skim_with_scores_is_a_skim(source: Path, tmp_path: Path, command: Command, object_model: Path) -> None:
    skim = command(source, *TRILEPTON)
    output = command(skim, *SCORE, str(object_model))
    before, after = record(skim), record(output)
    assert after == dataclasses.replace(before, model=after.model)
    assert after.model == ScoredBy("linear", file_hash(object_model))


@pytest.mark.exhaustive("files of all versions")
@needs_nanoaodtools
def test_counters_of_all_versions(made_file: Path, command: Command, linear_model: Callable[..., Path]) -> None:
    if "rntuple" in made_file.stem:
        pytest.skip("nanoAOD-tools reads no RNTuple")
    output = command(made_file, *SCORE, str(linear_model(["Muon_eta"], level="object", collection="Muon")))
    with RootFile(output) as file, RootFile(made_file) as original:
        assert file.branches["nMuon"] == original.branches["nMuon"]
        found, expected = (file.read(["nMuon", "Muon_pt", "Muon_linear_WZ"]), original.read(["nMuon", "Muon_pt"]))
        for name in ("nMuon", "Muon_pt"):
            assert found[name].to_list() == expected[name].to_list()
        assert ak.num(found["Muon_linear_WZ"]).to_list() == expected["nMuon"].to_list()
