"""Publishes an analysis: a directory by which others reproduce its results, and ask what they say of another signal."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "A capsule of an analysis, with which others check it, and ask what it says of another signal.",
    kinds={"commands": {"publish": "command:publish"}},
    needs=("compiled",),
    extra="publish",
)

PAGE = "howto/publish.md"
