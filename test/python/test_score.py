from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML import score as module
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.folds import fold_of
from MLTools.NanoML.score import Scoring, score
from MLTools.NanoML.trilepton import trilepton

PASSES = 263  # of 1000 events


@pytest.fixture
def source(sample: Path) -> Path:
    return sample / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"


class Event:
    """All that a module needs of nanoAOD-tools' event where nothing is written."""

    def __init__(self, tree: Any, entry: int) -> None:
        self._tree, self._entry = tree, entry

    def __getattr__(self, name: str) -> Any:
        if name not in self._tree._extrabranches:
            raise RuntimeError(f"Unknown branch {name}")
        return self._tree._extrabranches[name]


def loop(path: Path, *modules: Any) -> dict[int, dict[str, Any]]:
    """The values that modules set, for each event that all let through."""
    tree = SimpleNamespace(GetName=lambda: "Events", GetListOfFriends=lambda: None, _extrabranches={})
    for each in modules:
        each.beginFile(SimpleNamespace(GetName=lambda: str(path)), None, tree, None)
    found = {}
    for entry in range(1000):
        tree._extrabranches = {}
        if all(each.analyze(Event(tree, entry)) for each in modules):
            found[entry] = tree._extrabranches
    for each in modules:
        each.endFile(None, None, tree, None)
    return found


def expected(path: Path, x: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
    """The scores of the fixture `linear_model`, computed by hand."""
    with uproot.open(path) as file:
        ids = [file["Events"][name].array(library="np")[rows] for name in ("run", "luminosityBlock", "event")]
    logits = np.stack([x.astype(float), fold_of(ids[0], ids[1], ids[2], 3), np.zeros(len(x))], axis=1)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def of_rows(rows: Any) -> np.ndarray:
    return np.array([[row[f"linear_{name}"] for name in ("signal", "WZ", "ZG")] for row in rows])


def read(path: Path, name: str) -> Any:
    with uproot.open(path) as file:
        return file["Events"][name].array()


def test_scores_event_by_event(source: Path, linear_model: Callable[..., Path]) -> None:
    model = linear_model(["MET_phi"], objects={"Muon": (["eta"], 1, "-pt")})
    found = loop(source, score(model)())
    x = read(source, "MET_phi").to_numpy().astype(float)
    order = ak.argsort(-read(source, "Muon_pt"), stable=True)
    x += ak.to_numpy(ak.sum(read(source, "Muon_eta")[order][:, :1], axis=1))
    assert list(found) == list(range(1000))
    assert of_rows(found.values()) == pytest.approx(expected(source, x), abs=1e-6)


def test_before_and_after_a_selection(
    source: Path, linear_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    by_file, by_selection = linear_model(["MET_phi"]), linear_model(["ZCand_dR"], ["ZCand_dR"])
    before = loop(source, score(by_file)(), trilepton())
    after = loop(source, trilepton(), score(by_file)())
    assert list(before) == list(after)
    assert len(after) == PASSES
    assert of_rows(after.values()) == pytest.approx(of_rows(before.values()), abs=1e-6)
    made = loop(source, trilepton(), score(by_selection)())
    rows = list(made)
    x = np.array([row["ZCand_dR"] for row in made.values()])
    assert of_rows(made.values()) == pytest.approx(expected(source, x, rows), abs=1e-6)
    told = capsys.readouterr().err
    assert "one by one" not in told
    assert "Trilepton, linear: all 1,000" in told


def test_what_another_module_makes(source: Path, linear_model: Callable[..., Path]) -> None:
    def analyze(event: Any) -> bool:
        event._tree._extrabranches["mine"] = 0.01 * event._entry
        return event._entry < 20

    other = SimpleNamespace(beginFile=lambda *_: None, endFile=lambda *_: None, analyze=analyze)
    found = loop(source, other, score(linear_model(["mine"]))())
    assert of_rows(found.values()) == pytest.approx(
        expected(source, 0.01 * np.arange(20), range(20)), abs=1e-6
    )


def test_what_is_missing_is_explained(source: Path, linear_model: Callable[..., Path]) -> None:
    message = "model linear reads ZCand_mass, which the file lacks and no module before makes. ZCand_mass is a column of selection"
    with pytest.raises(NanoMLError, match=message):
        loop(source, score(linear_model(["ZCand_mass"], ["ZCand_mass"]))())
    with pytest.raises(NanoMLError, match='reads MET_ph, which .* Did you mean "MET_ph'):
        loop(source, score(linear_model(["MET_ph"]))())
    with pytest.raises(NanoMLError, match="no such file"):
        score("model.onnx")()
    with pytest.raises(NanoMLError, match="scores every object of Muon, but a module"):
        Scoring(linear_model(["Muon_pt"], level="object", collection="Muon"))


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
        with pytest.raises(
            NanoMLError, match=f"{name}: is no model. After -I MLTools.NanoML.score write model.onnx"
        ):
            getattr(module, name)
    assert not hasattr(module, "__wrapped__")
    assert "score" in dir(module)


def test_the_command(source: Path, tmp_path: Path, linear_model: Callable[..., Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ROOT of PyPI says that it is new
        pytest.importorskip("ROOT", reason="needs ROOT")
        pytest.importorskip(
            "PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor", reason="needs nanoAOD-tools"
        )
    script = shutil.which("nano_postproc.py")
    if script is None:
        pytest.skip("nano_postproc.py is not in the PATH")
    model = linear_model(["ZCand_dR", "MET_phi"], ["ZCand_dR"])
    modules = ["-I", "MLTools.NanoML.trilepton", "trilepton", "-I", "MLTools.NanoML.score", str(model)]
    command = [sys.executable, script, str(tmp_path), str(source), "-z", "none", *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    output = tmp_path / f"{source.stem}_Skim.root"
    x, event = read(output, "ZCand_dR").to_numpy(), read(output, "event")
    assert len(x) == PASSES
    rows = np.flatnonzero(np.isin(read(source, "event").to_numpy(), event.to_numpy()))
    scores = np.stack([read(output, f"linear_{name}").to_numpy() for name in ("signal", "WZ", "ZG")], axis=1)
    assert scores == pytest.approx(expected(source, x, rows), abs=1e-6)
    with uproot.open(output) as file:
        assert file["Events"]["linear_WZ"].title == "probability of class WZ by linear"
