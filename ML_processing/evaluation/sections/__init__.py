"""The sections of the report on a training: each module registers one, or some that belong together."""

from __future__ import annotations

from pathlib import Path

MODULES = tuple(sorted(f"{__name__}.{path.stem}" for path in Path(__file__).parent.glob("[!_]*.py")))
"""All of them: whatever is in this directory is a part of the report."""
