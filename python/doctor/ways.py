"""Ways of working, what each of them needs, and all checks of it at the same time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from MLTools.NanoML.doctor import services, software
from MLTools.NanoML.doctor.probe import CheckState, Finding, has

__all__ = ["CHECKS", "WAYS", "Examination", "Way", "examine", "guess"]

CHECKS: Mapping[str, Callable[[], Finding]] = {
    "Python": software.python,
    "packages": partial(software.packages, "core"),
    "codecs of ROOT files": partial(software.packages, "data"),
    "training": partial(software.packages, "train"),
    "search for settings": partial(software.packages, "tune"),
    "disk": services.disk,
    "Kerberos": services.kerberos,
    "AFS": services.afs,
    "EOS": services.eos,
    "CVMFS": services.cvmfs,
    "CMSSW": software.cmssw,
    "ONNX Runtime": software.onnx_runtime,
    "NanoML in the area": software.cmssw_area,
    "ROOT": software.root,
    "nanoAOD-tools": software.nanoaod_tools,
    "certificate": services.certificate,
    "proxy": services.proxy,
    "dasgoclient": services.dasgoclient,
    "XRootD client": services.xrootd_client,
    "HTCondor": services.htcondor,
    "Slurm": services.slurm,
    "CRAB": services.crab,
    "GPU": software.gpu,
}
"""All checks, by the thing that they check, in the order in which they are shown."""

_GRID = ("certificate", "proxy", "dasgoclient", "XRootD client")


@dataclass(frozen=True)
class Way:
    """A way of working.

    Attributes
    ----------
    about
        What it is, in words.
    needs
        Checks of what nothing works without.
    options
        Checks of what some things need that one may want to do.
    redirector
        The XRootD server that must answer; empty if none is asked.
    """

    about: str
    needs: tuple[str, ...]
    options: tuple[str, ...] = ()
    redirector: str = ""


_BASE = ("Python", "packages", "disk")

WAYS: Mapping[str, Way] = {
    "laptop": Way(
        "everything on this machine",
        (*_BASE, "codecs of ROOT files", "training"),
        ("search for settings", "XRootD client", "proxy", "ROOT", "GPU"),
    ),
    "lxplus": Way(
        "interactive work on lxplus, with files of the grid",
        (*_BASE, "Kerberos", "AFS", "CVMFS", *_GRID),
        ("EOS", "CMSSW", "NanoML in the area", "training", "HTCondor", "GPU"),
        redirector=services.REDIRECTOR,
    ),
    "condor": Way("jobs of HTCondor", (*_BASE, "HTCondor"), ("Kerberos", "AFS", "EOS", "CVMFS", *_GRID, "training")),
    "slurm": Way(
        "jobs of Slurm",
        (*_BASE, "Slurm"),
        ("codecs of ROOT files", "training", "search for settings", "proxy", "XRootD client", "GPU"),
    ),
    "crab": Way(
        "jobs on the grid, by CRAB",
        (*_BASE, "CVMFS", "CMSSW", "NanoML in the area", "nanoAOD-tools", "certificate", "proxy", "CRAB"),
        ("dasgoclient", "ONNX Runtime"),
    ),
    "cmssw": Way(
        "skims, conversion and scores in CMSSW",
        (*_BASE, "CMSSW", "ONNX Runtime", "NanoML in the area"),
        ("ROOT", "nanoAOD-tools", "CVMFS", "proxy", "XRootD client"),
    ),
}
"""All ways of working, by name."""


def guess() -> str:
    """The way of working that this machine and environment look like."""
    if socket.gethostname().startswith("lxplus"):
        return "lxplus"
    if os.environ.get("CMSSW_BASE"):
        return "cmssw"
    return next((way for program, way in (("condor_submit", "condor"), ("sbatch", "slurm")) if has(program)), "laptop")


@dataclass(frozen=True)
class Examination:
    """What was found for a way of working, by the thing that was checked."""

    way: str
    findings: dict[str, Finding]

    def state(self, name: str) -> CheckState:
        """How a thing is, for this way of working."""
        if self.findings[name].fine:
            return CheckState.FINE
        return CheckState.ABSENT if name in WAYS[self.way].options else CheckState.MISSING

    @property
    def missing(self) -> list[str]:
        """Things that nothing works without, and that are not as they should be."""
        return [name for name in self.findings if self.state(name) is CheckState.MISSING]

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        checks = [
            {"name": name, "state": self.state(name).value, "found": finding.found, "mend": finding.mend}
            for name, finding in self.findings.items()
        ]
        return {"for": self.way, "ready": not self.missing, "checks": checks}


def examine(way: str, redirector: str = "") -> Examination:
    """Check all that one of WAYS needs; `redirector` is an XRootD server to ask instead of the way's own, if any."""
    chosen = WAYS[way]
    wanted = {*chosen.needs, *chosen.options}
    checks = {name: check for name, check in CHECKS.items() if name in wanted}
    server = redirector or chosen.redirector
    if server:
        checks["redirector"] = partial(services.redirector, server)
    with ThreadPoolExecutor(len(checks)) as pool:  # most of them wait for others
        found = list(pool.map(_find, checks.values()))
    return Examination(way, dict(zip(checks, found)))


def _find(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as problem:  # a check that fails must not stop the others
        return Finding(False, f"could not be checked: {type(problem).__name__}: {problem}")
