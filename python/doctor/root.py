"""ROOT and nanoAOD-tools, which NanoML needs only for modules that are written in them."""

from __future__ import annotations

import importlib.util

from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.doctor.outside import ask, has

__all__ = ["nanoaod_tools", "root"]


def root() -> Finding:
    """Check that Python finds ROOT. It is not imported, which would take seconds."""
    if importlib.util.find_spec("ROOT") is None:
        return Finding(
            False,
            "Python finds none; NanoML reads and writes ROOT files without it",
            "only for --engine nanoaodtools: cmsenv, or pip install root",
        )
    answer = ask(["root-config", "--version"]) if has("root-config") else None
    return Finding(True, answer.text.strip() if answer and answer.code == 0 else "Python finds it")


def nanoaod_tools() -> Finding:
    """Check that Python finds nanoAOD-tools."""
    try:
        found = importlib.util.find_spec("PhysicsTools.NanoAODTools")
    except ModuleNotFoundError:
        found = None
    if found is None:
        return Finding(
            False,
            "Python finds no PhysicsTools.NanoAODTools; nanoml skim --module runs their modules without it",
            "only for --engine nanoaodtools: a CMSSW area of 13_3 or newer, and cmsenv",
        )
    return Finding(True, "PhysicsTools.NanoAODTools")
