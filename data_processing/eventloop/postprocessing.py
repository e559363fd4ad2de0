"""What modules import from nanoAOD-tools, under its names: the event with its collections, base class, matching by angle."""
# ruff: noqa: D102, N802, N803, N815

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NoReturn, Optional

from data_processing.eventloop.input import EventBlock, InputTree
from data_processing.eventloop.root import needs_root
from MLTools.NanoML.errors import NanoMLError

Condition = Callable[[Any, Any], bool]
_STATUS = (
    "isPrompt",
    "isDecayedLeptonHadron",
    "isTauDecayProduct",
    "isPromptTauDecayProduct",
    "isDirectTauDecayProduct",
    "isDirectPromptTauDecayProduct",
    "isDirectHadronDecayProduct",
    "isHardProcess",
    "fromHardProcess",
    "isHardProcessTauDecayProduct",
    "isDirectHardProcessTauDecayProduct",
    "fromHardProcessBeforeFSR",
    "isFirstCopy",
    "isLastCopy",
    "isLastCopyBeforeFSR",
)
statusflags = {name: 1 << bit for bit, name in enumerate(_STATUS)}
"""The bits of GenPart_statusFlags."""


class Event:
    """One event: `event.run`, `event.MET_pt`, `event.Jet_pt[0]`, and what earlier modules filled.

    `entry` is its number in the tree, or in the list of entries to look at if there is one.
    """

    def __init__(self, tree: InputTree, entry: int, block: EventBlock, position: int) -> None:
        own = self.__dict__  # what a user sets goes through __setattr__
        own["_tree"], own["_entry"], own["_block"], own["_position"] = tree, entry, block, position
        own["_filled"] = {}

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_":  # no branch begins so, and a copy under way has nothing of its own yet
            raise AttributeError(name)
        block = self._block
        if name in block.special:
            filled = self._filled
            if name in filled:
                return filled[name]
            return self._tree.unfilled(name, block, self._position)
        value = self.__dict__[name] = block.value(name, self._position)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value
        self._block.mark(name)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def eval(self, expr: str) -> NoReturn:
        """Refuse to evaluate an expression of TTree::Draw."""
        needs_root(f'event.eval("{expr}")')

    def __repr__(self) -> str:
        return f"<event {self._entry}>"


class Object:
    """One object of a collection, or the branches that share a prefix: `muon.pt`, `met["phi"]`.

    The prefix comes without the underscore; the index is None for branches with one value per event.
    """

    def __init__(self, event: Any, prefix: str, index: Optional[int] = None) -> None:
        self._event, self._prefix, self._index = event, prefix + "_", index

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_":
            raise AttributeError(name)
        index, full = self._index, self._prefix + name
        branch = self._event._block.jagged.get(full)
        if branch is None or index is None:  # not read yet, special, or one value per event
            value = self._slowly(name)
        else:
            values, starts = branch
            position = self._event._position
            where = starts[position] + index
            if index < 0 or where >= starts[position + 1]:
                raise self._out_of_range(name)
            value = values[where]
        self.__dict__[name] = value
        return value

    def _slowly(self, name: str) -> Any:
        found = getattr(self._event, self._prefix + name)
        if self._index is None:
            return found
        if not 0 <= self._index < len(found):
            raise self._out_of_range(name)
        return found[self._index]

    def _out_of_range(self, name: str) -> IndexError:
        return IndexError(f"{self._prefix}{name}[{self._index}]: there is no such object in this event.")

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def p4(self, corr_pt: Optional[float] = None) -> Any:
        """Four-vector, a TLorentzVector; `corr_pt` is a transverse momentum [GeV] to take instead of `pt`."""
        vector = self._event._tree.TLorentzVector()
        vector.SetPtEtaPhiM(self.pt if corr_pt is None else corr_pt, self.eta, self.phi, self.mass)
        return vector

    def DeltaR(self, other: Any) -> float:
        """Distance in pseudorapidity and azimuth to an object or a four-vector."""
        if isinstance(other, Object) or not hasattr(other, "Eta"):
            eta, phi = other.eta, other.phi
        else:
            eta, phi = other.Eta(), other.Phi()
        deta, dphi = abs(eta - self.eta), abs(phi - self.phi)
        while dphi > math.pi:
            dphi = abs(dphi - 2 * math.pi)
        return math.sqrt(dphi**2 + deta**2)

    def statusflag(self, flag: str) -> bool:
        """Whether a generated particle has a status flag, by its name in `statusflags`."""
        return bool(self.statusFlags & statusflags[flag])

    def subObj(self, prefix: str) -> Object:
        """The branches that share a longer prefix; with one value per event."""
        return Object(self._event, self._prefix + prefix)

    def __repr__(self) -> str:
        number = "" if self._index is None else f"[{self._index}]"
        return f"<{self._prefix[:-1]}{number}>"


class Collection:
    """The objects of a collection: `Collection(event, "Muon")[0].pt`.

    Its counter is `lenVar`, by default `n` and the name.
    """

    def __init__(self, event: Any, prefix: str, lenVar: Optional[str] = None) -> None:
        self._event, self._prefix = event, prefix
        self._len: int = getattr(event, "n" + prefix if lenVar is None else lenVar)
        self._objects: dict[int, Object] = {}

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, index: int) -> Object:
        found = self._objects.get(index)
        if found is None:
            if not 0 <= index < self._len:
                raise IndexError(f"{self._prefix}[{index}]: there are {self._len}.")
            found = self._objects[index] = Object(self._event, self._prefix, index)
        return found

    def __iter__(self) -> Iterator[Object]:
        for index in range(self._len):
            yield self[index]

    def __repr__(self) -> str:
        return f"<{self._len} {self._prefix}>"


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
