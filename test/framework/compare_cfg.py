"""Runs the plugins over the events of events.json, and ends with an error unless all that they make is as in Python.

cmsRun compare_cfg.py VARIANT, which is one of these.
"""

from __future__ import annotations

import sys
from typing import Any

import FWCore.ParameterSet.Config as cms  # noqa: N813

from MLTools.NanoML.nano_cff import addScore

HERE = "MLTools/NanoML/test/framework"
INSIDE = f"{HERE}/inside_2018.onnx"
BITS = ["hltBits", "flagBits"]
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # the model, what is expected, and what addScore is told
    "plain": ("MLTools/NanoML/data/leptons.onnx", "leptons", {}),
    "selection": (INSIDE, "2018", {"era": "2018", "triggers": BITS}),
    "filter": (INSIDE, "2018", {"era": "2018", "triggers": BITS, "filter": True}),
    "corrected": (INSIDE, "corrected", {"era": "2018", "triggers": BITS, "corrected": ["muonCorrected"]}),
    "era": (f"{HERE}/inside_2022.onnx", "2022", {"era": "2022", "triggers": BITS}),
    "triggers": (INSIDE, "without HLT_Mu50", {"era": "2018", "triggers": ["otherBits", "flagBits"]}),
    "streams": (INSIDE, "2018", {"era": "2018", "triggers": BITS, "filter": True}),
    # these the job refuses
    "wrong-era": (INSIDE, "2018", {"era": "2022", "triggers": BITS}),
    "no-triggers": (INSIDE, "2018", {"era": "2018", "triggers": ["flagBits"]}),
}

variant = sys.argv[-1]
model, expected, told = VARIANTS[variant]
threads = 4 if variant == "streams" else 1

process = cms.Process("NANO")
process.options = cms.untracked.PSet(
    numberOfThreads=cms.untracked.uint32(threads), numberOfStreams=cms.untracked.uint32(threads)
)
process.maxEvents = cms.untracked.PSet(input=cms.untracked.int32(120))
process.source = cms.Source(
    "EmptySource",
    firstLuminosityBlock=cms.untracked.uint32(14001),
    firstEvent=cms.untracked.uint32(2800141),
    numberEventsInLuminosityBlock=cms.untracked.uint32(60),
)
events = cms.untracked.FileInPath(f"{HERE}/events.json")


def table(name: str, columns: str = "columns", singleton: bool = False) -> Any:
    """A table of NanoAOD from the file."""
    return cms.EDProducer(
        "NanoMLTestTableProducer",
        events=events,
        name=cms.string(name),
        columns=cms.string(columns),
        singleton=cms.bool(singleton),
    )


def bits(*paths: str, named: bool = False) -> Any:
    """Trigger results from the file."""
    return cms.EDProducer("NanoMLTestTriggerProducer", events=events, paths=cms.vstring(*paths), named=cms.bool(named))


process.electronTable = table("Electron")
process.muonTable = table("Muon")
process.metTable = table("MET", singleton=True)
process.muonCorrected = table("Muon", "corrected")
process.hltBits = bits("HLT_Mu50", "HLT_IsoMu24")
process.otherBits = bits("HLT_IsoMu24", "HLT_Ele32")
process.flagBits = bits("Flag_METFilters", "Flag_goodVertices", named=True)
process.tables = cms.Path(process.electronTable + process.muonTable + process.metTable)
process.others = cms.Task(process.muonCorrected, process.hltBits, process.otherBits, process.flagBits)
process.tables.associate(process.others)
process.output = cms.OutputModule(
    "NanoMLTestOutputModule",
    events=events,
    expected=cms.untracked.string(expected),
    onlyPassed=cms.untracked.bool(told.get("filter", False)),
)
process.output_step = cms.EndPath(process.output)

process = addScore(process, model, **told)
