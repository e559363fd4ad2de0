"""Pseudo-experiments of a fit: bias, pulls, and the coverage of its intervals."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "Checks of a fit with pseudo-experiments: bias, pulls, and how often limits cover.",
    kinds={"commands": {"toys": "command:toys"}, "answers on fits without bins": {"coverage": "check:coverage"}},
    needs=("statistical_analysis",),
    extra="fit",
    python=(3, 10),
)

PAGE = "fit.md"
