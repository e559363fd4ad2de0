"""What CRAB fills in for each job: the input files and luminosity sections, and the name of the output. Nothing runs it."""

from __future__ import annotations

import FWCore.ParameterSet.Config as cms  # noqa: N813

process = cms.Process("NANOML")
process.source = cms.Source("PoolSource", fileNames=cms.untracked.vstring())
process.maxEvents = cms.untracked.PSet(input=cms.untracked.int32(-1))
process.options = cms.untracked.PSet()
process.output = cms.OutputModule("PoolOutputModule", fileName=cms.untracked.string("nano.root"))
process.out = cms.EndPath(process.output)
