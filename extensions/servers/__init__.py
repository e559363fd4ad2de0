"""Files for others that run a model: the repository of a Triton server, and preprocess.json of CMSSW's jet taggers."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "What servers and CMSSW's jet taggers read of a model.",
    kinds={"export": {"--preprocess": "command:PREPROCESS", "--triton": "command:TRITON"}},
)

PAGE = "cmssw.md"
