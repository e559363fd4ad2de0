"""The few parts of ROOT that modules of nanoAOD-tools use most, for where ROOT is not installed.

Modules see this one as `ROOT`. What it lacks raises an error that says so.
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
    """Say that something cannot be had without ROOT.

    Raises
    ------
    NeedsRootError
        Always.
    """
    raise NeedsRootError(
        f"{what} needs ROOT: install it (pip install root) or run under --engine nanoaodtools."
    )


class _Quiet:
    """An object of ROOT whose settings have no effect here.

    Parameters
    ----------
    name
        Its name in ROOT.
    settings
        Beginnings of the names of the methods that do nothing.
    """

    def __init__(self, name: str, *settings: str) -> None:
        self._name, self._settings = name, settings

    def __getattr__(self, attribute: str) -> Callable[..., None]:
        if not attribute.startswith(self._settings):
            needs_root(f"ROOT.{self._name}.{attribute}")
        return lambda *_: None

    def IsBatch(self) -> bool:
        """There is never a window."""
        return True


class TMath:
    """Functions and constants of ROOT's TMath."""

    Abs, Max, Min = staticmethod(abs), staticmethod(max), staticmethod(min)
    Sqrt, Power, Exp, Log, Log10 = (
        staticmethod(function) for function in (math.sqrt, math.pow, math.exp, math.log, math.log10)
    )
    Sin, Cos, Tan, ASin, ACos, ATan, ATan2 = (
        staticmethod(function)
        for function in (math.sin, math.cos, math.tan, math.asin, math.acos, math.atan, math.atan2)
    )
    SinH, CosH, TanH, Hypot = (
        staticmethod(function) for function in (math.sinh, math.cosh, math.tanh, math.hypot)
    )
    Floor, Ceil, IsNaN, Finite = (
        staticmethod(function) for function in (math.floor, math.ceil, math.isnan, math.isfinite)
    )

    @staticmethod
    def Pi() -> float:
        """The number pi."""
        return math.pi

    @staticmethod
    def TwoPi() -> float:
        """Twice pi."""
        return 2 * math.pi

    @staticmethod
    def PiOver2() -> float:
        """Half of pi."""
        return math.pi / 2

    @staticmethod
    def DegToRad() -> float:
        """Radians in a degree."""
        return math.pi / 180.0

    @staticmethod
    def RadToDeg() -> float:
        """Degrees in a radian."""
        return 180.0 / math.pi

    @staticmethod
    def Sq(x: float) -> float:
        """A square."""
        return x * x


class _Math(SimpleNamespace):
    def __getattr__(self, name: str) -> NoReturn:
        needs_root(f"ROOT.Math.{name}")


Math = _Math(
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
    """There is nothing to speed up."""


def DisableImplicitMT() -> None:
    """There is nothing to speed up."""


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    needs_root(f"ROOT.{name}")
