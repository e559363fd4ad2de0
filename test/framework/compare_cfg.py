"""Runs the plugins over the events of events.json, and ends with an error unless all that they make is as in Python.

cmsRun compare_cfg.py VARIANT, which is one of those below.
"""

from __future__ import annotations

import sys
from typing import Any

import FWCore.ParameterSet.Config as cms  # noqa: N813

from MLTools.NanoML.nano_cff import addScore

HERE = "MLTools/NanoML/test/framework"
BITS = ["hltBits", "flagBits"]
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # the model, what is expected, and what addScore is told
    "plain": ("MLTools/NanoML/data/leptons.onnx", "leptons", {}),
    "selection": (f"{HERE}/inside_2018.onnx", "2018", {}),
    "filter": (f"{HERE}/inside_2018.onnx", "2018", {"filter": True}),
    "corrected": (f"{HERE}/inside_2018.onnx", "corrected", {"corrected": ["muonCorrected"]}),
    "era": (f"{HERE}/inside_2022.onnx", "2022", {"era": "2022"}),
    "triggers": (f"{HERE}/inside_2018.onnx", "without HLT_Mu50", {"triggers": ["otherBits", "flagBits"]}),
    "streams": (f"{HERE}/inside_2018.onnx", "2018", {"filter": True}),
    # these are refused
    "wrong-era": (f"{HERE}/inside_2018.onnx", "2018", {"era": "2022"}),
    "no-triggers": (f"{HERE}/inside_2018.onnx", "2018", {"triggers": ["flagBits"]}),
}
model, expected, told = VARIANTS[sys.argv[-1]]
streams = cms.untracked.uint32(4 if sys.argv[-1] == "streams" else 1)
events = cms.untracked.FileInPath(f"{HERE}/events.json")


def table(name: str, columns: str = "columns", singleton: bool = False) -> Any:
    """A table of NanoAOD from the file."""
    parameters = {"name": cms.string(name), "columns": cms.string(columns), "singleton": cms.bool(singleton)}
    return cms.EDProducer("NanoMLTestTableProducer", events=events, **parameters)


def bits(*paths: str, named: bool = False) -> Any:
    """Trigger results from the file."""
    return cms.EDProducer("NanoMLTestTriggerProducer", events=events, paths=cms.vstring(*paths), named=cms.bool(named))


process = cms.Process("NANO")
process.options = cms.untracked.PSet(numberOfThreads=streams, numberOfStreams=streams)
process.maxEvents = cms.untracked.PSet(input=cms.untracked.int32(120))
process.source = cms.Source(
    "EmptySource",
    firstLuminosityBlock=cms.untracked.uint32(14001),
    firstEvent=cms.untracked.uint32(2800141),
    numberEventsInLuminosityBlock=cms.untracked.uint32(60),
)
process.electronTable = table("Electron")
process.muonTable = table("Muon")
process.metTable = table("MET", singleton=True)
process.muonCorrected = table("Muon", "corrected")
process.hltBits = bits("HLT_Mu50", "HLT_IsoMu24")
process.otherBits = bits("HLT_IsoMu24", "HLT_Ele32")
process.flagBits = bits("Flag_METFilters", "Flag_goodVertices", named=True)
process.tables = cms.Path(process.electronTable + process.muonTable + process.metTable)
process.tables.associate(cms.Task(process.muonCorrected, process.hltBits, process.otherBits, process.flagBits))
process.output = cms.OutputModule(
    "NanoMLTestOutputModule",
    events=events,
    expected=cms.untracked.string(expected),
    onlyPassed=cms.untracked.bool("filter" in told),
)
process.end = cms.EndPath(process.output)
process = addScore(process, model, **{"era": "2018", "triggers": BITS, **told})
