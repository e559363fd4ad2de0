"""What modules see of the files and trees: their names, branches and entries."""
# ruff: noqa: N802

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NoReturn, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.eventloop.reader import Block, MissingBranchError, Reader
from data_processing.eventloop.root import needs_root
from MLTools.NanoML.rootio.rootfile import Branch, RootFile

__all__ = ["TYPES", "BranchList", "InputFile", "InputTree", "Leaf", "OutputFile", "Tree", "TreeBranch"]

TYPES = {
    "int8": "Char_t",
    "uint8": "UChar_t",
    "int16": "Short_t",
    "uint16": "UShort_t",
    "int32": "Int_t",
    "uint32": "UInt_t",
    "int64": "Long64_t",
    "uint64": "ULong64_t",
    "float32": "Float_t",
    "float64": "Double_t",
    "bool": "Bool_t",
}
"""Number types: numpy's names to ROOT's."""


class Leaf:
    """Type of a branch.

    Parameters
    ----------
    branch
        The branch.
    """

    def __init__(self, branch: Branch) -> None:
        self._branch = branch

    def GetName(self) -> str:
        """Name of the branch."""
        return self._branch.name

    def GetTypeName(self) -> str:
        """ROOT's name of the type of its numbers."""
        return TYPES.get(self._branch.dtype or "", self._branch.typename)

    def GetLen(self) -> int:
        """Numbers per event, if it is not a list."""
        return self._branch.size

    def GetLeafCount(self) -> Optional[str]:
        """Name of the counter of a list, else None."""
        return f"n{self._branch.collection}" if self._branch.is_jagged else None


class TreeBranch:
    """A branch.

    Parameters
    ----------
    branch
        What is known of it.
    """

    def __init__(self, branch: Branch) -> None:
        self._branch = branch

    def GetName(self) -> str:
        """Its name."""
        return self._branch.name

    def GetTitle(self) -> str:
        """Its documentation."""
        return self._branch.title

    def GetLeaf(self, name: str) -> Optional[Leaf]:
        """Its leaf, which has the same name."""
        return Leaf(self._branch) if name == self._branch.name else None

    FindLeaf = GetLeaf


class BranchList(list[TreeBranch]):
    """The branches of a tree."""

    def GetEntries(self) -> int:
        """How many there are."""
        return len(self)

    GetSize = GetEntriesFast = GetEntries

    def At(self, number: int) -> TreeBranch:
        """One of them, by its number."""
        return self[number]

    def FindObject(self, name: str) -> Optional[TreeBranch]:
        """One of them, by its name, or None."""
        return next((branch for branch in self if branch.GetName() == name), None)


class Tree:
    """The names and types of a tree's branches.

    Parameters
    ----------
    branches
        The branches, which may grow in number.
    """

    def __init__(self, branches: Mapping[str, Branch]) -> None:
        self._branches = branches

    def GetName(self) -> str:
        """Name of the tree."""
        return "Events"

    def GetListOfBranches(self) -> BranchList:
        """All branches."""
        return BranchList(map(TreeBranch, self._branches.values()))

    def GetBranch(self, name: str) -> Optional[TreeBranch]:
        """One branch, or None."""
        return TreeBranch(self._branches[name]) if name in self._branches else None

    def FindBranch(self, name: str) -> Optional[TreeBranch]:
        """One branch, or None."""
        return self.GetBranch(name)

    def GetLeaf(self, name: str) -> Optional[Leaf]:
        """The leaf of a branch, or None."""
        return Leaf(self._branches[name]) if name in self._branches else None

    def GetBranchStatus(self, name: str) -> bool:
        """Whether a branch is read: all are, if they are asked for."""
        return name in self._branches

    def SetBranchStatus(self, name: str, status: Any = True) -> None:
        """What is not asked for is not read anyway."""


class InputTree(Tree):
    """The tree that is read.

    Parameters
    ----------
    reader
        Reads it.

    Attributes
    ----------
    event
        The event that modules are looking at, or None.
    special
        Names that may mean something other than the file's branch.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader.file.branches)
        self._reader = reader
        self._entry: Optional[int] = None
        self._entrylist: Optional[_EntryList] = None
        self.event: Optional[Any] = None
        self.special: set[str] = set()
        self.made: Mapping[str, Any] = {}
        self.entries = reader.file.entries

    @functools.cached_property
    def TLorentzVector(self) -> Any:
        """The class of four-vectors: ROOT's where it is installed."""
        import ROOT

        return ROOT.TLorentzVector

    def GetEntries(self) -> int:
        """Number of events of the file."""
        return self.entries

    GetEntriesFast = GetEntries

    def GetEntry(self, entry: int) -> int:
        """Go to an entry, outside of `analyze`; what this tree's attributes are then belongs to it."""
        self._entry = int(entry)
        return int(0 <= self._entry < self.entries)

    def readBranch(self, name: str) -> Any:
        """What the event, or the entry gone to, has in a branch.

        Raises
        ------
        MissingBranchError
            The file lacks it.
        """
        if self.event is not None:
            return getattr(self.event, name)
        if not self._reader.has(name):
            raise MissingBranchError(f"{self._reader.file.path}: has no branch {name}.")
        branch = self._reader.file.branch(name)
        if self._entry is None:  # as in ROOT before the first entry
            return [] if branch.is_jagged else np.zeros(1, branch.dtype).tolist()[0]
        read = self._reader.file.read([name], self._entry, self._entry + 1)
        return ak.to_list(read[name])[0]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._reader.has(name):
            return self.readBranch(name)
        return needs_root(f"inputTree.{name}: the file has no such branch, and the method")

    def unfilled(self, name: str, block: Block, position: int) -> Any:
        """What an event has in a branch that no module has filled in it: the file's value.

        Raises
        ------
        MissingBranchError
            The file lacks it.
        """
        if name in self.made and not self._reader.has(name):
            raise MissingBranchError(f"no module has filled {name} in this event.")
        return block.value(name, position)

    def list_entries(self, first: int, entries: NDArray[np.int64]) -> None:
        """Say which entries of the file are looked at; `first` is the number of those before them."""
        self._entrylist = _EntryList(first, entries)


class _EntryList:
    """The entries that are looked at, of the chunk that is being read."""

    def __init__(self, first: int, entries: NDArray[np.int64]) -> None:
        self._first, self._entries = first, entries

    def GetEntry(self, number: int) -> int:
        """The entry in the file, by its number in the list; -1 beyond the chunk."""
        place = number - self._first
        return int(self._entries[place]) if 0 <= place < len(self._entries) else -1


class InputFile:
    """The file that is read.

    Parameters
    ----------
    file
        It.
    tree
        Its tree of events.
    """

    def __init__(self, file: RootFile, tree: InputTree) -> None:
        self._file, self._tree = file, tree

    def GetName(self) -> str:
        """Path of the file."""
        return self._file.path

    def Get(self, name: str) -> Any:
        """The tree of events, or the rows of another, small tree; None if there is none.

        Raises
        ------
        NeedsRootError
            The file has something else of this name.
        """
        if name == "Events":
            return self._tree
        other = self._file.other_tree(name)
        if other is None:
            return needs_root(f"inputFile.Get({name})") if name in self._file.keys else None
        return _Rows(other)

    def __getattr__(self, name: str) -> NoReturn:
        needs_root(f"inputFile.{name}")


class _Rows:
    """The rows of a small tree, each with the branches as attributes."""

    def __init__(self, arrays: Mapping[str, ak.Array]) -> None:
        self._arrays = {name: ak.to_list(array) for name, array in arrays.items()}

    def GetEntries(self) -> int:
        """Number of rows."""
        return len(next(iter(self._arrays.values()), []))

    def __iter__(self) -> Iterator[SimpleNamespace]:
        for values in zip(*self._arrays.values()):
            yield SimpleNamespace(**dict(zip(self._arrays, values)))

    def __getattr__(self, name: str) -> NoReturn:
        needs_root(f"the tree's {name}")


class OutputFile:
    """The file that is written.

    Parameters
    ----------
    name
        Its path.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def GetName(self) -> str:
        """Path of the file."""
        return self._name

    def cd(self) -> bool:
        """There is no current directory."""
        return True

    def __getattr__(self, name: str) -> NoReturn:
        needs_root(f"outputFile.{name}")
