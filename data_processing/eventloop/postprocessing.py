"""What modules import from nanoAOD-tools besides the data model: their base class, and matching of objects by angle."""
# ruff: noqa: D102, N802, N803, N815

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, Callable, NoReturn, Optional

from MLTools.NanoML.errors import NanoMLError

__all__ = [
    "Module",
    "PostProcessor",
    "closest",
    "deltaPhi",
    "deltaR",
    "ensureTFile",
    "extractTH1",
    "hasbit",
    "matchObjectCollection",
    "matchObjectCollectionMultiple",
]

Condition = Callable[[Any, Any], bool]


class Module:
    """What is done with each event; users write subclasses of it."""

    writeHistFile = False  # whether the module books histograms

    def __init__(self) -> None:
        self.writeHistFile = False

    def beginJob(self, histFile: Optional[Any] = None, histDirName: Optional[str] = None) -> None: ...

    def endJob(self) -> None: ...

    def beginFile(self, inputFile: Any, outputFile: Any, inputTree: Any, wrappedOutputTree: Any) -> None: ...

    def endFile(self, inputFile: Any, outputFile: Any, inputTree: Any, wrappedOutputTree: Any) -> None: ...

    def analyze(self, event: Any) -> Optional[bool]:
        """Look at an event; it is kept if the result is true."""

    def addObject(self, obj: Any) -> NoReturn:
        """Refuse a histogram: there is no file for it."""
        raise NanoMLError(
            f"{type(self).__name__} books a histogram, but a skim has no file for histograms: fill branches instead, "
            "or run the module in a script of its own, by PostProcessor(..., histFileName=..., histDirName=...)."
        )

    def addObjectList(self, names: Sequence[str], obj: Any) -> NoReturn:
        self.addObject(obj)


class PostProcessor:
    """Refuses to run: a file that only defines modules may import it, but not call it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.run()

    def run(self) -> NoReturn:
        raise NanoMLError(
            "a PostProcessor is started as soon as this file is imported: start it under "
            '`if __name__ == "__main__":`, so that the modules can be used here too.'
        )


def _any(first: Any, second: Any) -> bool:
    return True


def deltaPhi(phi1: Any, phi2: Any) -> float:
    """Azimuth of the first relative to the second, from -pi to pi; of numbers or of objects with `phi`."""
    first = phi1 if isinstance(phi1, (float, int)) else phi1.phi
    second = phi2 if isinstance(phi2, (float, int)) else phi2.phi
    difference: float = first - second
    while difference > math.pi:
        difference -= 2 * math.pi
    while difference < -math.pi:
        difference += 2 * math.pi
    return difference


def deltaR(eta1: Any, phi1: Any, eta2: Optional[float] = None, phi2: Optional[float] = None) -> float:
    """Distance in pseudorapidity and azimuth; of two objects, or of eta1, phi1, eta2, phi2."""
    if eta2 is None:
        return math.hypot(eta1.eta - phi1.eta, deltaPhi(eta1.phi, phi1.phi))
    return math.hypot(eta1 - eta2, deltaPhi(phi1, phi2))


def closest(obj: Any, collection: Iterable[Any], presel: Condition = _any) -> tuple[Any, float]:
    """The nearest of some objects that fulfil a condition, and its distance; None and 999 if there is none within 999."""
    found, least = None, 999.0
    for candidate in collection:
        if presel(obj, candidate):
            distance = deltaR(obj, candidate)
            if distance < least:
                found, least = candidate, distance
    return found, least


def matchObjectCollection(
    objs: Sequence[Any], collection: Sequence[Any], dRmax: float = 0.4, presel: Condition = _any
) -> dict[Any, Any]:
    """For each object the nearest of the others that fulfil a condition, or None beyond a distance."""
    pairs = {}
    for obj in objs:
        match, distance = closest(obj, collection, presel)
        pairs[obj] = match if distance < dRmax else None
    return pairs


def matchObjectCollectionMultiple(
    objs: Sequence[Any], collection: Sequence[Any], dRmax: float = 0.4, presel: Condition = _any
) -> dict[Any, Any]:
    """For each object all of the others within a distance that fulfil a condition; None if there are no others."""
    if len(collection) == 0:
        return dict.fromkeys(objs)
    return {obj: [x for x in collection if presel(obj, x) and deltaR(obj, x) < dRmax] for obj in objs}


def hasbit(value: int, bit: int) -> bool:
    """Whether a bit is set; the lowest is bit 0."""
    return bool(value >> bit & 1)


def ensureTFile(filename: str, option: str = "READ", verbose: bool = False) -> Any:
    """Open a file by ROOT, which must be installed; an error if there is none or ROOT cannot open it."""
    import ROOT

    if not os.path.isfile(filename):
        raise NanoMLError(f"{filename}: no such file.")
    file = ROOT.TFile.Open(filename, option)
    if not file or file.IsZombie():
        raise NanoMLError(f"{filename}: ROOT cannot open it.")
    return file


def extractTH1(file: Any, histname: str, setdir: bool = True) -> Any:
    """Read a histogram by ROOT, which must be installed, from an open file or a path; with `setdir` it outlives the file."""
    import ROOT

    opened = ensureTFile(file) if isinstance(file, str) else file
    histogram = opened.Get(histname)
    if not histogram:
        raise NanoMLError(f"{opened.GetName()}: has no histogram {histname}.")
    if setdir and isinstance(histogram, ROOT.TH1):
        histogram.SetDirectory(0)
        if isinstance(file, str):
            opened.Close()
    return histogram
