"""NanoAOD from MiniAOD, with the scores of a model.

cmsRun scoreMini_cfg.py model=MLTools/NanoML/data/model.onnx inputFiles=file:mini.root globalTag=auto:phase1_2022_realistic
"""

from __future__ import annotations

import FWCore.ParameterSet.Config as cms  # noqa: N813
from Configuration.AlCa.GlobalTag import GlobalTag
from Configuration.Eras.Era_Run3_cff import Run3
from FWCore.ParameterSet.VarParsing import VarParsing
from PhysicsTools.NanoAOD.nano_cff import nanoAOD_customizeCommon

from MLTools.NanoML.nano_cff import addScore

options = VarParsing("analysis")
single, text = VarParsing.multiplicity.singleton, VarParsing.varType.string
options.register("model", "MLTools/NanoML/data/model.onnx", single, text, "the ONNX file")
options.register("globalTag", "auto:phase1_2022_realistic", single, text, "conditions")
options.register("data", False, single, VarParsing.varType.bool, "data, not simulation")
options.setDefault("maxEvents", 100)
options.setDefault("outputFile", "nano.root")
options.parseArguments()

process = cms.Process("NANO", Run3)
process.load("Configuration.StandardSequences.Services_cff")
process.load("FWCore.MessageService.MessageLogger_cfi")
process.load("Configuration.EventContent.EventContent_cff")
process.load("Configuration.StandardSequences.GeometryRecoDB_cff")
process.load("Configuration.StandardSequences.MagneticField_cff")
process.load("Configuration.StandardSequences.FrontierConditions_GlobalTag_cff")
process.load("PhysicsTools.NanoAOD.nano_cff")

process.GlobalTag = GlobalTag(process.GlobalTag, options.globalTag, "")
process.maxEvents.input = options.maxEvents
process.source = cms.Source("PoolSource", fileNames=cms.untracked.vstring(options.inputFiles))
content = process.NANOAODEventContent if options.data else process.NANOAODSIMEventContent
process.output = cms.OutputModule(
    "NanoAODOutputModule", fileName=cms.untracked.string(options.outputFile), outputCommands=content.outputCommands
)
process.nanoAOD_step = cms.Path(process.nanoSequence if options.data else process.nanoSequenceMC)
process.output_step = cms.EndPath(process.output)
process.schedule = cms.Schedule(process.nanoAOD_step, process.output_step)
process = nanoAOD_customizeCommon(process)

process = addScore(process, options.model)
