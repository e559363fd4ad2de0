"""An event, its collections and their objects, under NanoAOD's own names: what modules work with."""
# ruff: noqa: N802

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NoReturn, Optional

from data_processing.eventloop.input import EventBlock, InputTree
from data_processing.eventloop.root import needs_root

__all__ = ["Collection", "Event", "InputTree", "Object", "statusflags"]

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

    def __init__(self, event: Any, prefix: str, lenVar: Optional[str] = None) -> None:  # noqa: N803
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
