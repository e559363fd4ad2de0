"""The moves of a result: two states of an analysis, what differs between them, and how far each difference moves what is expected."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "What moved a result: each change between two states of an analysis.", kinds={"commands": {"why": "command:why"}}
)

PAGE = "howto/fit.md"
