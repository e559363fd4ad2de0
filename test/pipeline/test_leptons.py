"""The example model in data/, which is used in CMSSW's tests and in the pages of doc/."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot

from MLTools.NanoML.model import Model, ModelFormat
from MLTools.NanoML.model.verification import verify_model
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.score import score
from services.nanoaodtools import loop

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "data" / "leptons.onnx"
LARGEST = 200_000  # bytes: it is in the repository, and in every CRAB job


@pytest.fixture(scope="module")
def model() -> Model:
    pytest.importorskip("onnxruntime")
    return Model(PATH)


def test_it_describes_itself(model: Model) -> None:
    assert PATH.stat().st_size < LARGEST
    assert (model.name, model.outputs, model.folds) == ("leptons", ["signal", "WZ", "ZG", "discriminant"], 5)
    assert model.selection_columns == {}
    assert model.description.format == ModelFormat("CMSSW_13_3_0", "1.14.1", 15, 8)
    twin = json.loads(PATH.with_suffix(".json").read_text())
    del twin["onnx_sha256"]
    assert json.dumps(model.description.to_json()) == json.dumps(twin)
    for text in (PATH.with_suffix(".json").read_text(), json.dumps(model.description.to_json())):
        assert '"/' not in text, "there is a path of some machine in it"


def test_the_reference_scores_hold(model: Model) -> None:
    reference = model.description.reference
    inputs = {name: np.array(values, np.float32) for name, values in reference.inputs.items()}
    outputs = model.session.run(None, inputs)[0]
    assert len(outputs) > 3
    np.testing.assert_allclose(outputs, reference.outputs, rtol=0, atol=1e-6)
    (against,) = model.description.discriminants
    expected = against.of(outputs[:, :3], model.description.outputs)
    np.testing.assert_allclose(outputs[:, 3], expected, rtol=0, atol=1e-6)
    *_, last = verify_model(PATH, None, None)  # in old versions of ONNX Runtime as well, and on tensors without objects
    assert last.endswith("all outputs are finite and consistent")


def test_it_separates_signal_from_background(model: Model, sample: Path) -> None:
    means = []
    for name in ("WprimeToWZToLNuLL_M600", "ZGToLLG_PtG100"):
        with uproot.open(sample / name / f"{name}_0.root") as file:
            events = file["Events"].arrays()
        events = events[events.nElectron + events.nMuon >= 3]
        fold = fold_of(events.run, events.luminosityBlock, events.event, model.folds)
        scores = model.scores({column: events[column] for column in model.reads}, fold)
        np.testing.assert_allclose(scores[:, :3].sum(axis=1), 1, atol=1e-5)
        means.append(scores.mean(axis=0))
    signal, background = means
    assert signal[0] > background[0] + 0.3
    assert signal[3] > background[3] + 0.3


def test_nano_postproc_gives_the_same_scores(model: Model, sample: Path) -> None:
    path = sample / "ZGToLLG" / "ZGToLLG_0.root"
    with uproot.open(path) as file:
        events = file["Events"].arrays()
    fold = fold_of(events.run, events.luminosityBlock, events.event, model.folds)
    expected = model.scores({column: events[column] for column in model.reads}, fold)
    found = dict(loop([score(PATH)()], path))
    assert len(found) == len(events) > 100
    values = [[row[f"leptons_{name}"] for name in model.outputs] for row in found.values()]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_the_reference_events_are_given_to_cpp_without_padding(tmp_path: Path) -> None:
    metadata = json.loads(PATH.with_suffix(".json").read_text())
    (tmp_path / "leptons.json").write_text(json.dumps(metadata))
    command = [sys.executable, str(ROOT / "test" / "reference_events.py"), str(tmp_path / "leptons.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    scores = [list(map(float, numbers)) for what, *numbers in lines if what == "scores"]
    assert scores == metadata["reference"]["outputs"]
    mask = metadata["reference"]["inputs"]["Muon_mask"]
    pts = [list(map(float, words[3:])) for words in lines if words[:2] == ["column", "Muon_pt"]]
    assert [len(pt) for pt in pts] == [sum(real) for real in mask]
    assert all(pt == sorted(pt, reverse=True) for pt in pts)
    assert any(sum(real) < len(real) for real in mask)
