"""Scores of a model from EDM NanoAOD (data tier NANOEDMAODSIM) whose tables are there already; writes plain NanoAOD.

cmsRun scoreNano_cfg.py model=MLTools/NanoML/data/model.onnx tables=jetPuppiTable,puppiMetTable inputFiles=file:nano_edm.root
"""

from __future__ import annotations

import FWCore.ParameterSet.Config as cms  # noqa: N813
from FWCore.ParameterSet.VarParsing import VarParsing

from MLTools.NanoML.nano_cff import addScore

options = VarParsing("analysis")
single, text = VarParsing.multiplicity.singleton, VarParsing.varType.string
options.register("model", "MLTools/NanoML/data/model.onnx", single, text, "the ONNX file")
options.register("tables", "", VarParsing.multiplicity.list, text, "labels of the tables with the model's columns")
options.setDefault("maxEvents", -1)
options.setDefault("outputFile", "nano.root")
options.parseArguments()

process = cms.Process("SCORE")
process.load("FWCore.MessageService.MessageLogger_cfi")
process.maxEvents = cms.untracked.PSet(input=cms.untracked.int32(options.maxEvents))
process.source = cms.Source("PoolSource", fileNames=cms.untracked.vstring(options.inputFiles))
process.output = cms.OutputModule(
    "NanoAODOutputModule",
    fileName=cms.untracked.string(options.outputFile),
    outputCommands=cms.untracked.vstring(
        "drop *",
        "keep nanoaodFlatTable_*Table_*_*",
        "keep edmTriggerResults_*_*_*",
        "keep nanoaodMergeableCounterTable_*Table_*_*",
        "keep nanoaodUniqueString_nanoMetadata_*_*",
    ),
)
process.output_step = cms.EndPath(process.output)

process = addScore(process, options.model, tables=[table for table in options.tables if table])
