"""What a training ran in: the content of environment.json."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import torch

from ML_processing.training.description import git_state, now, versions
from MLTools.NanoML.parallel import usable_cores

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """The command, the code, the machine and all installed packages, as JSON could hold it."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    packages = {it.metadata["Name"]: it.version for it in metadata.distributions() if it.metadata["Name"]}
    return {
        "created": now(),
        "command": sys.argv,
        "directory": os.getcwd(),
        "git": git_state(),
        "versions": versions(),
        "host": platform.node(),
        "system": platform.platform(),
        "cores": usable_cores(),
        "gpus": [torch.cuda.get_device_name(i) for i in gpus],
        "job": {name: os.environ[name] for name in _JOB if name in os.environ},
        "packages": dict(sorted(packages.items(), key=lambda it: it[0].lower())),
    }


_JOB = ("SLURM_JOB_ID", "_CONDOR_JOB_AD", "CMSSW_VERSION", "SCRAM_ARCH")
"""Variables that tell the batch job and the release."""
