"""The sections of the report on a training: each module registers one, or some that belong together."""

from __future__ import annotations

from pathlib import Path

from MLTools.NanoML.extending import modules

_HERE = sorted(f"{__name__}.{path.stem}" for path in Path(__file__).parent.glob("[!_]*.py"))
MODULES = (*_HERE, *modules("sections"))
"""All of them: whatever is in this directory is a part of the report, and what extensions add."""
