"""The parts of ROOT that modules of nanoAOD-tools use most, for where ROOT is not installed.

Modules see this one as `ROOT`. What is missing raises an error that says so.
"""
# ruff: noqa: N802, N816

from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import Any, Callable, NoReturn

from data_processing.eventloop.genvector import (
    PtEtaPhiEVector,
    PtEtaPhiMVector,
    PxPyPzEVector,
    PxPyPzMVector,
    VectorUtil,
)
from data_processing.eventloop.lorentzvector import TLorentzVector, TVector2, TVector3
from MLTools.NanoML.errors import NanoMLError

__all__ = [
    "ROOT",
    "DisableImplicitMT",
    "EnableImplicitMT",
    "Math",
    "NeedsRootError",
    "PyConfig",
    "TLorentzVector",
    "TMath",
    "TVector2",
    "TVector3",
    "gErrorIgnoreLevel",
    "gROOT",
    "gStyle",
    "kError",
    "kFatal",
    "kInfo",
    "kPrint",
    "kWarning",
    "needs_root",
]


class NeedsRootError(NanoMLError, AttributeError):
    """Something of ROOT that is not here; an AttributeError too, so that `hasattr` is False."""


def needs_root(what: str) -> NoReturn:
    """Refuse what cannot be had without ROOT, by a NeedsRootError."""
    raise NeedsRootError(f"{what} needs ROOT: install it (pip install root) or run under --engine nanoaodtools.")


class _Quiet:
    """An object of ROOT whose settings have no effect here: methods whose names begin so do nothing."""

    def __init__(self, name: str, *settings: str) -> None:
        self._name, self._settings = name, settings

    def __getattr__(self, attribute: str) -> Callable[..., None]:
        if not attribute.startswith(self._settings):
            needs_root(f"ROOT.{self._name}.{attribute}")
        return lambda *_: None

    def IsBatch(self) -> bool:
        """True: there is never a window."""
        return True


class _Namespace(SimpleNamespace):
    """Parts of one of ROOT's namespaces, which is called `_name`."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        needs_root(f"ROOT.{self._name}.{name}")


_AS_IN_PYTHON = (
    *("Sqrt", "Exp", "Log", "Log10", "Hypot", "Floor", "Ceil", "IsNaN"),
    *("Sin", "Cos", "Tan", "ASin", "ACos", "ATan", "ATan2", "SinH", "CosH", "TanH"),
)
TMath = _Namespace(
    _name="TMath",
    Pi=lambda: math.pi,
    TwoPi=lambda: 2 * math.pi,
    PiOver2=lambda: math.pi / 2,
    DegToRad=lambda: math.pi / 180.0,
    RadToDeg=lambda: 180.0 / math.pi,
    Abs=abs,
    Max=max,
    Min=min,
    Sq=lambda x: x * x,
    Power=math.pow,
    Finite=math.isfinite,
    **{name: getattr(math, name.lower()) for name in _AS_IN_PYTHON},
)
Math = _Namespace(
    _name="Math",
    PtEtaPhiEVector=PtEtaPhiEVector,
    PtEtaPhiMVector=PtEtaPhiMVector,
    PxPyPzEVector=PxPyPzEVector,
    PxPyPzMVector=PxPyPzMVector,
    XYZTVector=PxPyPzEVector,
    VectorUtil=VectorUtil,
)
PyConfig = SimpleNamespace()
gROOT = _Quiet("gROOT", "SetBatch", "SetStyle", "ForceStyle", "cd")
gStyle = _Quiet("gStyle", "Set")
kPrint, kInfo, kWarning, kError, kFatal = 0, 1000, 2000, 3000, 6000
gErrorIgnoreLevel = kPrint
ROOT = sys.modules[__name__]


def EnableImplicitMT(*_: int) -> None:
    """Do nothing: there is nothing to speed up."""


def DisableImplicitMT() -> None:
    """Do nothing: there is nothing to speed up."""


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    needs_root(f"ROOT.{name}")
