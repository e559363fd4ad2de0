"""The file that nanoAOD-tools goes through, read in bulk."""

from __future__ import annotations

from array import array
from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, cast

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.books import event_weights
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootfile import Branch, RootFile, is_remote

__all__ = ["Source"]


class Source:
    """An input file of nanoAOD-tools, with its friends and the list of its entries that are wanted.

    Parameters
    ----------
    input_file, input_tree
        As nanoAOD-tools has opened them: of a file that was prefetched, the local copy.

    Raises
    ------
    NanoMLError
        A file cannot be read.
    """

    def __init__(self, input_file: Any, input_tree: Any) -> None:
        self.file = _open(input_file.GetName(), input_tree.GetName())
        self._files = [self.file]
        for friend in input_tree.GetListOfFriends() or ():
            tree = friend.GetTree()
            # where events do not belong together by their number, only ROOT knows which do
            if not tree.GetTreeIndex() and tree.GetEntries() == self.file.entries:
                self._files.append(_open(tree.GetCurrentFile().GetName(), tree.GetName()))
        self._owner = {name: file for file in reversed(self._files) for name in file.branches}
        entry_list = getattr(input_tree, "_entrylist", None)
        self._listed = array("q", map(entry_list.GetEntry, range(entry_list.GetN()))) if entry_list else None

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    @property
    def branches(self) -> Mapping[str, Branch]:
        """The branches of the file and its friends; of a name that several have, the file's."""
        return ChainMap(*(cast("MutableMapping[str, Branch]", file.branches) for file in self._files))

    def entry(self, event: Any) -> int:
        """Number of an event in the file. nanoAOD-tools counts along the entry list, where there is one."""
        number: int = event._entry
        return number if self._listed is None else self._listed[number]

    def entries(self, start: int, stop: int) -> NDArray[np.int64]:
        """The entries of a range that nanoAOD-tools may come to."""
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

    def weights(self, start: int, stop: int) -> NDArray[np.float64]:
        """Generator weights of a range of entries, float64; ones in data."""
        return event_weights(
            self.file.read({"genWeight"} & set(self.file.branches), start, stop), stop - start
        )


def _open(path: str, tree: str) -> RootFile:
    try:
        return RootFile(path, tree)
    except NanoMLError as problem:
        if not is_remote(path):
            raise
        raise NanoMLError(f"{problem} Or have it copied here first: nano_postproc.py -P.") from problem
