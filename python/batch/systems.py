"""The batch systems by their names."""

from __future__ import annotations

from MLTools.NanoML.batch.condor import Condor
from MLTools.NanoML.batch.local import Local
from MLTools.NanoML.batch.seen import System
from MLTools.NanoML.batch.slurm import Slurm

__all__ = ["system_of"]


def system_of(name: str) -> System:
    """The batch system of this name."""
    systems: dict[str, type[System]] = {"condor": Condor, "slurm": Slurm, "local": Local}
    return systems[name]()
