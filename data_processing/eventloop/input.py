"""The file that is read: its branches, a chunk at a time and only those that modules ask for, and its tree for modules."""
# ruff: noqa: D102, N802

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn, Optional

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from data_processing.eventloop.root import needs_root
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import offsets_of
from MLTools.NanoML.rootio.rootfile import RootFile

TYPES = (
    ("B", "int8", "Char_t"),
    ("b", "uint8", "UChar_t"),
    ("S", "int16", "Short_t"),
    ("s", "uint16", "UShort_t"),
    ("I", "int32", "Int_t"),
    ("i", "uint32", "UInt_t"),
    ("L", "int64", "Long64_t"),
    ("l", "uint64", "ULong64_t"),
    ("F", "float32", "Float_t"),
    ("D", "float64", "Double_t"),
    ("O", "bool", "Bool_t"),
)
"""Types of numbers: nanoAOD-tools' letters, numpy's names, ROOT's names."""

_ROOT_NAMES = {dtype: name for _, dtype, name in TYPES}


class MissingBranchError(NanoMLError, AttributeError, RuntimeError):
    """A file has no branch of this name.

    An AttributeError, so that `hasattr` and `getattr` with a default work, and a RuntimeError, which is what
    nanoAOD-tools raises.
    """


class BranchValues(NamedTuple):
    """A branch in a chunk."""

    values: NDArray[Any]  # of all events, one after the other; shape (events, size) for arrays of fixed size
    # where the numbers of each event begin, and where the last event's end; None for one value per event
    offsets: Optional[NDArray[np.int64]]


class BranchReader:
    """The branches of one file, chunk by chunk; what was asked for in one chunk is read at once in the next."""

    def __init__(self, file: RootFile) -> None:
        self.file = file
        self._start = self._stop = 0
        self._rows: Optional[NDArray[np.int64]] = None
        self._read: dict[str, BranchValues] = {}
        self._asked: dict[str, None] = {}
        self._counters = {f"n{branch.collection}": branch.name for branch in file.branches.values() if branch.is_jagged}

    def open(self, start: int, stop: int, rows: Optional[NDArray[np.int64]] = None) -> None:
        """Go to a range of entries; `rows` are the positions in it, int64, of the events to look at (None: all)."""
        self._start, self._stop, self._rows = start, stop, rows
        self._read = {}
        self._load(self._asked)

    def close(self) -> None:
        """Forget the chunk."""
        self._read = {}

    def values(self, name: str) -> BranchValues:
        """A branch, for the events to look at; MissingBranchError if the file does not have it."""
        if name not in self._read:
            self._asked[name] = None
            self._load([name])
        return self._read[name]

    def has(self, name: str) -> bool:
        """Whether the file has a branch, or a collection that it counts."""
        return versions.resolve(name, self.file.branches) is not None or name in self._counters

    def _load(self, names: Iterable[str]) -> None:
        """Read branches; a counter that is not in the file is the number of objects in its collection."""
        found = {name: versions.resolve(name, self.file.branches) for name in names}
        counted = {name: self._counters[name] for name in names if not found[name] and name in self._counters}
        wanted = {name: actual for name, actual in {**found, **counted}.items() if actual}
        for name in found:
            if name not in wanted:
                self._asked.pop(name, None)
                hint = versions.did_you_mean(name, self.file.branches)
                raise MissingBranchError(f"{self.file.path}: has no branch {name}.{hint}")
        arrays = self.file.read(set(wanted.values()), self._start, self._stop)
        if self._rows is not None:
            arrays = {name: array[self._rows] for name, array in arrays.items()}
        for name, actual in wanted.items():
            array = arrays[actual]
            if array.ndim == 1 or isinstance(ak.type(array).content, ak.types.RegularType):
                self._read[name] = BranchValues(ak.to_numpy(array), None)
                continue
            counts = ak.to_numpy(ak.num(array))
            values = BranchValues(ak.to_numpy(ak.flatten(array)), offsets_of(counts))
            self._read[name] = BranchValues(counts, None) if name in counted else values


class EventBlock:
    """Some consecutive events of a chunk, as plain Python numbers.

    `first` and `last` are the range of their positions among the events to look at. `special` are the names that may
    mean something other than the file's branch, because modules make or set them; they may grow. `jagged` are branches
    with a list per event that are not special: the numbers, and where each event's begin.
    """

    __slots__ = ("_first", "_last", "_lists", "_reader", "jagged", "special")

    def __init__(self, reader: BranchReader, first: int, last: int, special: set[str]) -> None:
        self._reader, self._first, self._last, self.special = reader, first, last, special
        self._lists: dict[str, tuple[list[Any], Optional[list[int]]]] = {}
        self.jagged: dict[str, tuple[list[Any], list[int]]] = {}

    def value(self, name: str, position: int) -> Any:
        """A branch of an event, a number or a list; MissingBranchError if the file does not have it."""
        values, starts = self._lists.get(name) or self._load(name)
        return values[position] if starts is None else values[starts[position] : starts[position + 1]]

    def mark(self, name: str) -> None:
        """Make a name special."""
        self.special.add(name)
        self.jagged.pop(name, None)

    def _load(self, name: str) -> tuple[list[Any], Optional[list[int]]]:
        values, offsets = self._reader.values(name)
        if offsets is None:
            self._lists[name] = values[self._first : self._last].tolist(), None
        else:
            own = offsets[self._first : self._last + 1]
            starts = (own - own[0]).tolist()
            numbers = values[own[0] : own[-1]].tolist()
            self._lists[name] = numbers, starts
            if name not in self.special:
                self.jagged[name] = numbers, starts
        return self._lists[name]


# what modules see, under ROOT's names


class _TreeBranch:
    """A TBranch, and at once the TLeaf of the same name."""

    def __init__(self, branch: Branch) -> None:
        self._branch = branch

    def GetName(self) -> str:
        return self._branch.name

    def GetTitle(self) -> str:
        return self._branch.title

    def GetLeaf(self, name: str) -> Optional[_TreeBranch]:
        return self if name == self._branch.name else None

    FindLeaf = GetLeaf

    def GetTypeName(self) -> str:
        return _ROOT_NAMES.get(self._branch.dtype or "", self._branch.typename)

    def GetLen(self) -> int:
        return self._branch.size

    def GetLeafCount(self) -> Optional[str]:
        return f"n{self._branch.collection}" if self._branch.is_jagged else None


class _BranchList(list[_TreeBranch]):
    """A TObjArray of branches."""

    def GetEntries(self) -> int:
        return len(self)

    GetSize = GetEntriesFast = GetEntries

    def At(self, number: int) -> _TreeBranch:
        return self[number]

    def FindObject(self, name: str) -> Optional[_TreeBranch]:
        return next((branch for branch in self if branch.GetName() == name), None)


class Tree:
    """The names and types of a tree's branches, whose number may grow; as a TTree says them."""

    def __init__(self, branches: Mapping[str, Branch]) -> None:
        self.branches = branches

    def GetName(self) -> str:
        return "Events"

    def GetListOfBranches(self) -> _BranchList:
        return _BranchList(map(_TreeBranch, self.branches.values()))

    def GetBranch(self, name: str) -> Optional[_TreeBranch]:
        return _TreeBranch(self.branches[name]) if name in self.branches else None

    GetLeaf = FindBranch = GetBranch

    def GetBranchStatus(self, name: str) -> bool:
        return name in self.branches  # all are read, if they are asked for

    def SetBranchStatus(self, name: str, status: Any = True) -> None:
        """Do nothing: what is not asked for is not read anyway."""


class InputTree(Tree):
    """The tree that is read."""

    def __init__(self, reader: BranchReader) -> None:
        super().__init__(reader.file.branches)
        self._reader = reader
        self._entry: Optional[int] = None
        self._entrylist: Optional[_EntryList] = None
        self.event: Optional[Any] = None  # the one that modules are looking at
        self.special: set[str] = set()  # names that may mean something other than the file's branch
        self.made: Mapping[str, Any] = {}  # the branches that modules have made
        self.entries = reader.file.entries

    @functools.cached_property
    def TLorentzVector(self) -> Any:
        """The class of four-vectors: ROOT's where it is installed."""
        import ROOT

        return ROOT.TLorentzVector

    def GetEntries(self) -> int:
        return self.entries

    GetEntriesFast = GetEntries

    def GetEntry(self, entry: int) -> int:
        """Go to an entry, outside of `analyze`; what this tree's attributes are then belongs to it."""
        self._entry = int(entry)
        return int(0 <= self._entry < self.entries)

    def readBranch(self, name: str) -> Any:
        """A branch of the event, or of the entry gone to; MissingBranchError if the file does not have it."""
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

    def unfilled(self, name: str, block: EventBlock, position: int) -> Any:
        """The file's value of a branch that no module has filled in this event; MissingBranchError without one."""
        if name in self.made and not self._reader.has(name):
            raise MissingBranchError(f"no module has filled {name} in this event.")
        return block.value(name, position)

    def list_entries(self, first: int, entries: NDArray[np.int64]) -> None:
        """Set which entries of the file are looked at; `first` is the number of those before them."""
        self._entrylist = _EntryList(first, entries)


class _EntryList:
    """The entries of the present chunk that are looked at."""

    def __init__(self, first: int, entries: NDArray[np.int64]) -> None:
        self._first, self._entries = first, entries

    def GetEntry(self, number: int) -> int:
        """The entry in the file, by its number in the list; -1 beyond the chunk."""
        place = number - self._first
        return int(self._entries[place]) if 0 <= place < len(self._entries) else -1


class InputFile:
    """The file that is read, as a TFile."""

    def __init__(self, file: RootFile, tree: InputTree) -> None:
        self._file, self._tree = file, tree

    def GetName(self) -> str:
        return self._file.path

    def Get(self, name: str) -> Any:
        """The tree of events, or the rows of another, small tree; None if there is none."""
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
        return len(next(iter(self._arrays.values()), []))

    def __iter__(self) -> Iterator[SimpleNamespace]:
        for values in zip(*self._arrays.values()):
            yield SimpleNamespace(**dict(zip(self._arrays, values)))

    def __getattr__(self, name: str) -> NoReturn:
        needs_root(f"the tree's {name}")
