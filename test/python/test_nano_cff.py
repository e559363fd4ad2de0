from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description, Input, ModelFormat, ObjectInput, Parameter, Reference
from MLTools.NanoML.model.entries import SelectionInside
from MLTools.NanoML.nano_cff import SERVICE, _description, _load_service, addScore

FEATURES = Input("features", ("MET_pt", "nMuon", "mass"), ("f4", "u4", "f4"), None, ())
JETS = ObjectInput("Jet", ("Jet_pt",), ("f4",), None, (), "Jet_mask", "Jet", 4, "-btag")
OUTPUTS = ("probabilities", "fold_probabilities"), "classes", ("signal", "other")
FORMAT, REFERENCE = ModelFormat(None, None, 15, 8), Reference({}, [])
PARAMETER = Parameter("mass", (600.0,))
FOLDS = (2, "", PARAMETER, FORMAT)
DESCRIPTION = Description("my_model", "event", None, FEATURES, (JETS,), *OUTPUTS, (), *FOLDS, {}, REFERENCE)
MODEL = "MLTools/NanoML/data/model.onnx"


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The JSON file of a model where `edm::FileInPath` looks."""
    path = (tmp_path / MODEL).with_suffix(".json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(DESCRIPTION.to_json()))
    monkeypatch.setenv("CMSSW_SEARCH_PATH", f"/nowhere:{tmp_path}")
    return path


def test_it_is_imported_without_cmssw() -> None:
    code = "import sys, MLTools.NanoML.nano_cff; sys.exit('FWCore' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_that_is_nowhere(twin: Path) -> None:
    with pytest.raises(NanoMLError, match=r"other/model.json: not found in /nowhere, .*Copy both files"):
        addScore(None, "other/model.onnx")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "x", "inputs": [{}]}', '{"name": 5, "inputs": []}'])
def test_a_damaged_twin(text: str, twin: Path) -> None:
    twin.write_text(text)
    with pytest.raises(NanoMLError, match=r"model.json: its `nanoml` metadata cannot be understood"):
        addScore(None, MODEL)


def test_the_columns_of_a_model(twin: Path) -> None:
    assert _description(MODEL) == DESCRIPTION
    assert DESCRIPTION.reads == ["MET_pt", "nMuon", "Jet_pt", "Jet_btag"]


def process_of(schedule: bool) -> Any:
    cms = pytest.importorskip("FWCore.ParameterSet.Config", reason="this is not CMSSW")
    process = cms.Process("NANO")
    names = {"jetTable": "Jet", "jetMCTable": "Jet", "metTable": "MET", "muonTable": "Muon", "fatJetTable": "FatJet"}
    for label, name in names.items():
        setattr(process, label, cms.EDProducer("SimpleCandidateFlatTableProducer", name=cms.string(name)))
    process.tables = cms.Task(process.jetTable, process.metTable, process.muonTable, process.fatJetTable)
    process.nanoAOD_step = cms.Path(process.tables)
    process.output = cms.OutputModule("NanoAODOutputModule")
    process.output_step = cms.EndPath(process.output)
    if schedule:
        process.schedule = cms.Schedule(process.nanoAOD_step, process.output_step)
    return process


@pytest.mark.parametrize("schedule", [True, False])
def test_the_tables_that_run_are_found_and_the_scores_are_made(schedule: bool, twin: Path) -> None:
    process = process_of(schedule)
    assert addScore(process, MODEL) is process
    module = process.mymodelScoreTable
    assert {tag.getModuleLabel() for tag in module.tables} == {"metTable", "muonTable", "jetTable"}
    assert module.model.value() == MODEL
    assert not hasattr(module, "parameter")
    parts = [process.schedule] if schedule else [process.nanoAOD_step]
    assert all("mymodelScoreTable" in part.moduleNames() for part in parts)


def test_tables_and_parameter_as_they_are_given(twin: Path) -> None:
    process = addScore(process_of(True), MODEL, tables=["here", "there:instance"], parameter=[600, 650.5])
    module = process.mymodelScoreTable
    assert [tag.value() for tag in module.tables] == ["here", "there:instance"]
    assert list(module.parameter) == [600, 650.5]
    assert list(addScore(process_of(True), MODEL, parameter=700).mymodelScoreTable.parameter) == [700]


def test_what_cannot_be_added(twin: Path) -> None:
    process = addScore(process_of(True), MODEL)
    with pytest.raises(NanoMLError, match="has a module mymodelScoreTable already"):
        addScore(process, MODEL)
    with pytest.raises(NanoMLError, match="has no selection inside, which could filter"):
        addScore(process_of(True), MODEL, filter=True)
    features = replace(FEATURES, columns=("Tau_pt", "mass"))
    twin.write_text(json.dumps(replace(DESCRIPTION, features=features).to_json()))
    with pytest.raises(NanoMLError, match=r"no table of the process has Tau_pt\. Name all tables"):
        addScore(process_of(True), MODEL)


def test_a_model_of_columns_of_a_selection_names_the_one_with_the_selection_inside(twin: Path) -> None:
    features = replace(FEATURES, selection="own:Own", selection_columns=("MET_pt",))
    twin.write_text(json.dumps(replace(DESCRIPTION, features=features).to_json()))
    said = r"reads MET_pt, which the selection own:Own makes.*export: {selection: true}"
    with pytest.raises(NanoMLError, match=said):
        addScore(None, MODEL)


DEFAULTS = {"HLT_Some": 0.0, "Tau_pt": 20.0}
INSIDE = SelectionInside("own:Own", {"era": "2018"}, ("two",), (), (), DEFAULTS, ("Muon_pt",), {}, 100)


@pytest.fixture
def whole(twin: Path) -> Path:
    """The twin of a model with its selection inside."""
    features = replace(FEATURES, columns=("MET_pt", "HLT_Some", "Flag_METFilters", "Tau_pt"))
    muons = replace(JETS, tensor="Muon", columns=("Muon_pt",), mask="Muon_mask", collection="Muon", order=None)
    description = replace(DESCRIPTION, features=features, objects=(muons,), parameter=None, inside=INSIDE)
    twin.write_text(json.dumps(description.to_json()))
    return twin


def test_a_model_with_its_selection_inside(whole: Path) -> None:
    module = addScore(process_of(True), MODEL).mymodelScoreTable
    assert [tag.value() for tag in module.tables] == ["metTable", "muonTable"]
    triggers = [f"TriggerResults::{process}" for process in ("HLT", "PAT", "RECO")]
    assert [tag.value() for tag in module.triggers] == triggers
    assert (list(module.correctedTables), module.era.value(), module.meanOfFolds.value()) == ([], "", False)
    given = {"corrected": ["muonsCorrected"], "triggers": ["TriggerResults::HLT2"]}
    module = addScore(process_of(True), MODEL, era="2018", mean=True, precision=10, **given).mymodelScoreTable
    assert [tag.value() for tag in module.tables] == ["metTable"]
    found = [tag.value() for tag in (*module.correctedTables, *module.triggers)]
    assert found == ["muonsCorrected", "TriggerResults::HLT2"]
    assert (module.era.value(), module.meanOfFolds.value(), module.precision.value()) == ("2018", True, 10)


@pytest.mark.parametrize("schedule", [True, False])
def test_only_events_that_pass_are_written(schedule: bool, whole: Path) -> None:
    process = addScore(process_of(schedule), MODEL, filter=True)
    assert process.mymodelFilter.scores.value() == "mymodelScoreTable"
    assert list(process.output.SelectEvents.SelectEvents) == ["mymodelPath"]
    part = process.schedule if schedule else process.mymodelPath
    assert {"mymodelFilter", "mymodelScoreTable"} <= set(part.moduleNames())
    assert "mymodelFilter" in process.dumpPython()
    cms = pytest.importorskip("FWCore.ParameterSet.Config")
    process = process_of(schedule)
    process.output.SelectEvents = cms.untracked.PSet(SelectEvents=cms.vstring("other"))
    with pytest.raises(NanoMLError, match="the output module output selects events already"):
        addScore(process, MODEL, filter=True)


class Process:
    """What is used here of a `cms.Process`, which is only in CMSSW."""

    def load(self, name: str) -> None:
        vars(self).update(vars(importlib.import_module(name)))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The service of ONNX Runtime, as newer releases have it."""

    def drop() -> dict[str, Any]:
        names = [name for name in sys.modules if name.split(".")[0] == "PhysicsTools"]
        return {name: sys.modules.pop(name) for name in names}

    path = tmp_path.joinpath(*SERVICE.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True)
    path.write_text("ONNXService = 'of the release'\n")
    monkeypatch.syspath_prepend(tmp_path)
    others = drop()
    yield path
    drop()
    sys.modules.update(others)


def test_a_release_without_a_service_of_onnx_runtime() -> None:
    process = Process()
    _load_service(process)
    assert not vars(process)


def test_the_service_of_onnx_runtime_is_loaded_once(service: Path) -> None:
    process = Process()
    _load_service(process)
    assert process.ONNXService == "of the release"  # type: ignore[attr-defined]
    process.ONNXService = "of the user"  # type: ignore[attr-defined]
    _load_service(process)
    assert process.ONNXService == "of the user"  # type: ignore[attr-defined]


# the second is how edmWriteConfigs writes it in newer releases
@pytest.mark.parametrize(("line", "name"), [("import none", "none"), ("from .ONNXService import *", "ONNXService")])
def test_a_service_that_cannot_be_imported_is_an_error(service: Path, line: str, name: str) -> None:
    service.write_text(f"{line}\n")
    with pytest.raises(ModuleNotFoundError, match=name):
        _load_service(Process())
