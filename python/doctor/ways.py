"""Ways of working, and what each of them needs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from MLTools.NanoML.doctor import batch, cmssw, gpu, grid, kerberos, packages, root, storage
from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.doctor.outside import has

__all__ = ["CHECKS", "WAYS", "Way", "guess"]

CHECKS: Mapping[str, Callable[[], Finding]] = {
    "Python": packages.python,
    "packages": partial(packages.part, "core"),
    "codecs of ROOT files": partial(packages.part, "data"),
    "training": partial(packages.part, "train"),
    "search for settings": partial(packages.part, "tune"),
    "disk": storage.disk,
    "Kerberos": kerberos.ticket,
    "AFS": storage.afs,
    "EOS": storage.eos,
    "CVMFS": storage.cvmfs,
    "CMSSW": cmssw.release,
    "ONNX Runtime": cmssw.onnx_runtime,
    "NanoML in the area": cmssw.area,
    "ROOT": root.root,
    "nanoAOD-tools": root.nanoaod_tools,
    "certificate": grid.certificate,
    "proxy": grid.proxy,
    "dasgoclient": grid.catalogue,
    "XRootD client": grid.xrootd_client,
    "HTCondor": batch.htcondor,
    "Slurm": batch.slurm,
    "CRAB": batch.crab,
    "GPU": gpu.gpu,
}
"""All checks, by what they are of, in the order in which they are shown."""

_GRID = ("certificate", "proxy", "dasgoclient", "XRootD client")


@dataclass(frozen=True)
class Way:
    """A way of working.

    Attributes
    ----------
    about
        What it is, in words.
    needs
        Checks without which nothing goes.
    wishes
        Checks that some of what one may want to do needs.
    redirector
        The XRootD server that must answer; empty if nobody is asked.
    """

    about: str
    needs: tuple[str, ...]
    wishes: tuple[str, ...] = field(default=())
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
        redirector=grid.REDIRECTOR,
    ),
    "condor": Way(
        "jobs of HTCondor",
        (*_BASE, "HTCondor"),
        ("Kerberos", "AFS", "EOS", "CVMFS", *_GRID, "training"),
    ),
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
    return next(
        (way for program, way in (("condor_submit", "condor"), ("sbatch", "slurm")) if has(program)), "laptop"
    )
