"""Datacards of Combine as statistical models: fitted like a workspace of pyhf, and each translated into the other."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "Reads datacards of Combine, to fit them, or to translate them into workspaces of pyhf and back.",
    kinds={
        "models": {"card": "card:READER"},
        "options of fit": {"--translate": "command:translating", "--mass": "command:mass"},
    },
    needs=("statistical_analysis",),
    extra="fit",
    python=(3, 10),
)

PAGE = "fit.md"
