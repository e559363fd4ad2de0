"""The command by which this NanoML is started in another process."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from MLTools import NanoML

__all__ = ["nanoml_command"]


def nanoml_command() -> list[str]:
    """Python and what it is to run: the installed NanoML, or the script of a checkout that is not installed."""
    script = Path(NanoML.__path__[0]).resolve().parent / "scripts" / "nanoml"
    try:
        importlib.metadata.distribution("nanoml")
    except importlib.metadata.PackageNotFoundError:
        if script.is_file():
            return [sys.executable, str(script)]
    return [sys.executable, "-m", "MLTools.NanoML.cli"]
