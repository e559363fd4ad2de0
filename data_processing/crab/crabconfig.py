"""crab_cfg.py: what `crab submit` is told about a task."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import data_processing
from data_processing.crab.sent import CERTIFIED
from data_processing.crab.settings import OUTPUT
from MLTools.NanoML.config.batch import Grid

__all__ = ["crab_config", "request_name", "safe"]

_LONGEST = 100  # CRAB's limit for the name of a request


def crab_config(
    request: str,
    data: Mapping[str, Any],
    grid: Grid,
    sent: Sequence[str],
    memory: int,
    time: Optional[int] = None,
) -> str:
    """The text of crab_cfg.py.

    Parameters
    ----------
    request
        Of `request_name`.
    data
        What is read, as settings of CRAB's section Data.
    grid
        Where jobs run and write.
    sent
        Names of the files that travel with a job.
    memory
        Of a job [MB].
    time
        Wall time [s]; None for CRAB's default.
    """
    settings: dict[str, Any] = {
        "General.requestName": request,
        "General.transferOutputs": True,
        "General.transferLogs": True,
        "JobType.pluginName": "Analysis",
        "JobType.outputFiles": [OUTPUT],
        "JobType.maxMemoryMB": memory,
    }
    if time is not None:
        settings["JobType.maxJobRuntimeMin"] = math.ceil(time / 60)
    settings.update((f"Data.{name}", value) for name, value in data.items())
    settings["Data.splitting"] = "FileBased"
    settings["Data.publication"] = False
    settings["Data.outputDatasetTag"] = request
    if grid.directory:
        settings["Data.outLFNDirBase"] = grid.directory
    settings["Site.storageSite"] = grid.site
    if "userInputFiles" in data:
        settings["Site.whitelist"] = list(grid.run_at)
    lines = [f"config.{name} = {value!r}" for name, value in settings.items()]
    if CERTIFIED in sent:
        lines.append(f"config.Data.lumiMask = os.path.join(HERE, {CERTIFIED!r})")
    return _TEMPLATE.format(
        settings="\n".join(lines),
        sent=sorted(name for name in (*sent, "crab_script.py")),
        package=str(Path(data_processing.__path__[0]).resolve()),
    )


_TEMPLATE = '''\
"""Written by `nanoml submit`. Simulation must be split by files: a job counts the weights of each whole file."""

import glob
import os

from CRABClient.UserUtilities import config as crab_config

HERE = os.path.dirname(os.path.abspath(__file__))
SENT = {sent!r}

config = crab_config()
{settings}
config.General.workArea = os.path.join(HERE, "crab")
config.JobType.psetName = os.path.join(HERE, "PSet.py")
config.JobType.scriptExe = os.path.join(HERE, "crab_script.sh")
# CRAB takes them for patterns; data_processing does the work, and is in no directory that it sends by itself
config.JobType.inputFiles = [glob.escape(os.path.join(HERE, name)) for name in SENT] + [glob.escape({package!r})]
'''


def request_name(submission: str, task: str) -> str:
    """The name of a task in CRAB."""
    name = safe(f"{submission}_{task}")
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def safe(name: str) -> str:
    """A name as CRAB takes it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
