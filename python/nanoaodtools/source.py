"""The input file of nanoAOD-tools, read in bulk, and what nanoAOD-tools was asked to do with it."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import sys
from array import array
from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, cast

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import weights_in
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.nanoaod.provenance import CertifiedBy, accounting_of_input
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.remote.server import is_remote
from MLTools.NanoML.rootio.rootfile import RootFile

_AT_ONCE = 1_000_000  # weights that are read at once
_ATTRIBUTES = ("modules", "inputFiles", "outputDir", "cut", "json", "firstEntry", "maxEntries", "noOut", "friend")


@dataclass(frozen=True)
class Request:
    """The request to nanoAOD-tools' PostProcessor."""

    postprocessor: Any
    file: Optional[str] = None  # the current input file, as it was named

    @classmethod
    def of(cls, module: Any) -> Optional[Request]:
        """The request for which a module is run; None if no PostProcessor runs it.

        Modules do not get the cut, the luminosity JSON and the range of entries. The PostProcessor that calls them has
        these, so it is looked for among the callers: it is the one that has this module.
        """
        frame = sys._getframe(1)
        while frame is not None:
            caller: Any = frame.f_locals.get("self")
            if all(hasattr(caller, name) for name in _ATTRIBUTES) and any(each is module for each in caller.modules):
                name = frame.f_locals.get("fname")
                return cls(caller, name if isinstance(name, str) else None)
            frame = frame.f_back  # type: ignore[assignment]
        return None

    @property
    def cut(self) -> str:
        """The cut; empty without one."""
        return self.postprocessor.cut or ""

    @property
    def certified(self) -> Optional[LumiMask]:
        """The sections of the luminosity JSON, if there is one."""
        json = self.postprocessor.json
        if json is None:
            return None
        return LumiMask.from_dict(json, "luminosity JSON") if isinstance(json, dict) else LumiMask.read(json)

    @property
    def certified_by(self) -> Optional[CertifiedBy]:
        """As in `Criteria.certified`."""
        mask, json = self.certified, self.postprocessor.json
        if mask is None:
            return None
        name = "luminosity JSON" if isinstance(json, dict) else Path(json).name
        return CertifiedBy(name, hashlib.sha256(mask.to_json().encode()).hexdigest())

    @property
    def may_drop(self) -> list[bool]:
        """Whether other modules may drop events: before the first of ours, between them, and after the last."""
        asked = self.postprocessor
        found = [bool(asked.cut) or asked.json is not None]
        for module in asked.modules:
            if hasattr(module, "selection"):
                found.append(False)
            elif not getattr(module, "keeps_all", False):
                found[-1] = True
        return found

    def range(self, entries: int) -> tuple[int, int]:
        """The range of entries that is asked for in a file with `entries` entries."""
        first = int(self.postprocessor.firstEntry or 0)
        return first, max(first, min(first + int(self.postprocessor.maxEntries), entries))

    def outputs(self) -> Iterable[tuple[str, Path]]:
        """The input files, without friends, and the output of each; none if there is no output."""
        asked = self.postprocessor
        if asked.noOut:
            return
        postfix = asked.postfix if asked.postfix is not None else "_Friend" if asked.friend else "_Skim"
        for names in asked.inputFiles:
            name = names.split(",")[0]
            output = os.path.basename(name).replace(".root", f"{postfix}.root")
            yield name, Path(asked.outputDir, output)


class Source:
    """An input file of nanoAOD-tools (the local copy, if it was prefetched), with its friends and its selected entries.

    `name` is that which nanoAOD-tools was given; `range` has the first entry that was asked for and the one after the last,
    or is None if that is not known.
    """

    def __init__(self, input_file: Any, input_tree: Any, request: Optional[Request]) -> None:
        self.file = _open(input_file.GetName(), input_tree.GetName())
        self.request = request
        self.name = (request and request.file) or self.file.path
        self.range = request.range(self.file.entries) if request else None
        self._files = [self.file]
        for friend in input_tree.GetListOfFriends() or ():
            tree = friend.GetTree()
            # if events are not matched by their number, only ROOT knows how
            if not tree.GetTreeIndex() and tree.GetEntries() == self.file.entries:
                self._files.append(_open(tree.GetCurrentFile().GetName(), tree.GetName()))
        self._owner = {name: file for file in reversed(self._files) for name in file.branches}
        entry_list = getattr(input_tree, "_entrylist", None)
        self._listed = array("q", map(entry_list.GetEntry, range(entry_list.GetN()))) if entry_list else None

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    @cached_property
    def accounting(self) -> FileAccounting:
        """The accounting of the file; an error if it cannot be an input."""
        return accounting_of_input(self.file)

    @property
    def branches(self) -> Mapping[str, Branch]:
        """The branches of the file and its friends; the file comes first."""
        return ChainMap(*(cast("MutableMapping[str, Branch]", file.branches) for file in self._files))

    def entry(self, event: Any) -> int:
        """Number of an event in the file. nanoAOD-tools counts along the entry list, if there is one."""
        number: int = event._entry
        if self._listed is not None:
            number = self._listed[number]
        if self.range is not None and not self.range[0] <= number < self.range[1]:
            raise NanoMLError(
                f"{self.name}: has {self.file.entries:,} entries, and --first-entry is {self.range[0]:,}, but nanoAOD-tools reads "
                f"entry {number:,}, as it does if the first entry is beyond the end. Leave the file out of this pass."
            )
        return number

    def entries(self, start: int, stop: int) -> NDArray[np.int64]:
        """The entries of a range that nanoAOD-tools may read."""
        if self._listed is None:
            return np.arange(start, stop)
        listed = np.asarray(self._listed, np.int64)
        return listed[(listed >= start) & (listed < stop)]

    def read(self, names: Iterable[str], start: int, stop: int) -> dict[str, ak.Array]:
        """Read branches of a range of entries."""
        wanted = set(names)
        arrays: dict[str, ak.Array] = {}
        for file in self._files:
            arrays.update(file.read([name for name in wanted if self._owner[name] is file], start, stop))
        return arrays

    def sum_of_weights(self, start: int, stop: int) -> float:
        """Sum of the generator weights of a range of entries, exact except for one rounding."""
        chunks = range(start, stop, _AT_ONCE)
        parts = (weights_in(self.file, first, min(first + _AT_ONCE, stop)).tolist() for first in chunks)
        return math.fsum(itertools.chain.from_iterable(parts))


def input_tree(tree: Any, *entries: object) -> Any:
    """`InputTree` of nanoAOD-tools. It leaves a tree with a reader alone, which may be that of an earlier tree at the same address."""
    from PhysicsTools.NanoAODTools.postprocessing.framework.datamodel import InputTree

    if hasattr(tree, "_ttreereader"):
        del tree._ttreereader
    return InputTree(tree, *entries)


def _open(path: str, tree: str) -> RootFile:
    try:
        return RootFile(path, tree)
    except NanoMLError as problem:
        if not is_remote(path):
            raise
        raise NanoMLError(f"{problem} Or have it copied here first: nano_postproc.py -P.") from problem
