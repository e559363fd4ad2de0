"""Ways of working, what each of them needs, and all checks of it at the same time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from MLTools.NanoML.batch.system import System, system_of
from MLTools.NanoML.config.batch import SYSTEMS
from MLTools.NanoML.doctor import services, software
from MLTools.NanoML.doctor.probe import Finding, has

_SYSTEMS = [system_of(name) for name in SYSTEMS if name != "local"]  # which is the way of a laptop

CHECKS: Mapping[str, Callable[[], Finding]] = {
    "Python": software.python,
    "packages": partial(software.packages, "core"),
    "codecs of ROOT files": partial(software.packages, "data"),
    "training": partial(software.packages, "train"),
    "hyperparameter tuning": partial(software.packages, "tune"),
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
    **{it.title: partial(services.batch_system, it.client) for it in _SYSTEMS if it.client},
    "GPU": software.gpu,
}
"""All checks, by the thing that they check, in the order in which they are shown."""


@dataclass(frozen=True)
class Way:
    """A way of working."""

    about: str  # what it is, in words
    needs: Sequence[str]  # checks of what nothing works without
    options: Sequence[str] = ()  # checks of what some things need that one may want to do
    redirector: str = ""  # the XRootD server that must answer; empty if none is asked


_BASE = ("Python", "packages", "disk")


def _way_of(system: System) -> Way:
    about = f"jobs on the grid, by {system.title}" if system.where == "grid" else f"jobs of {system.title}"
    client = system.client
    return Way(about, (*_BASE, *client.needs, system.title), client.options) if client else Way(about, _BASE)


WAYS: Mapping[str, Way] = {
    "laptop": Way(
        "everything on this machine",
        (*_BASE, "codecs of ROOT files", "training"),
        ("hyperparameter tuning", "XRootD client", "proxy", "ROOT", "nanoAOD-tools", "GPU"),
    ),
    "lxplus": Way(
        "interactive work on lxplus, with files of the grid",
        (*_BASE, "Kerberos", "AFS", "CVMFS", "certificate", "proxy", "dasgoclient", "XRootD client"),
        ("EOS", "CMSSW", "NanoML in the area", "training", "HTCondor", "GPU"),
        redirector=services.REDIRECTOR,
    ),
    **{system.name: _way_of(system) for system in _SYSTEMS},
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
    clusters = (it for it in _SYSTEMS if it.where == "cluster" and it.client and has(it.client.program))
    return next((system.name for system in clusters), "laptop")


class CheckState(Enum):
    """How a thing is, for the chosen way of working."""

    FINE = "fine"  # it is there, and as it should be
    ABSENT = "absent"  # it is not, and some things that one may want to do need it
    MISSING = "missing"  # it is not, and nothing works without it


@dataclass(frozen=True)
class Examination:
    """The findings for a way of working, by the thing that was checked."""

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
    checks = {name: check for name, check in CHECKS.items() if name in (*chosen.needs, *chosen.options)}
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
