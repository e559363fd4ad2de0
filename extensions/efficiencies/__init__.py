"""Efficiencies, as of b-tagging, in the simulation of an analysis."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "Efficiencies of b-tagging in the simulation of an analysis, as a file of corrections.",
    kinds={"commands": {"efficiencies": "command:efficiencies"}, "makers": {"efficiencies": "command:MAKES"}},
    needs=("data_processing",),
)

PAGE = "howto/corrections.md"
