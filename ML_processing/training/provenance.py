"""Where a result comes from: versions, the state of the code, the time."""

from __future__ import annotations

import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import numpy
import torch

from MLTools.NanoML import __version__

__all__ = ["git_state", "now", "versions"]


def versions() -> dict[str, str]:
    """Versions of NanoML and of what its results depend on."""
    return {
        "nanoml": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
    }


def git_state() -> str | None:
    """Commit of this code, with "-dirty" where files differ from it; None outside a git repository."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    """The time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
