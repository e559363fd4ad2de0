"""A NanoAOD file: what is in it and how to read it, whether its events are a TTree or an RNTuple."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from textwrap import shorten
from types import TracebackType
from typing import Any, TypeVar, Union

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import versions
from MLTools.NanoML.rootio.access import Access
from MLTools.NanoML.rootio.baskets import Begins, PlainBranch
from MLTools.NanoML.rootio.lists import Lists
from MLTools.NanoML.rootio.ttree import StoredBranch, stored_branches

__all__ = ["Branch", "RootFile"]

T = TypeVar("T")
Plain = Union[NDArray[Any], Lists, ak.Array]
"""What is read of a branch: one number or one list of numbers for each event, or else an awkward array."""

PROVENANCE = "nanoml"
"""Name of the tree with the record that skims and scores carry."""

_FLAT_TYPES = {
    "bool": "bool",
    "float": "float32",
    "double": "float64",
    "std::int8_t": "int8",
    "std::uint8_t": "uint8",
    "std::int16_t": "int16",
    "std::uint16_t": "uint16",
    "std::int32_t": "int32",
    "std::uint32_t": "uint32",
    "std::int64_t": "int64",
    "std::uint64_t": "uint64",
    "ROOT::RNTupleCardinality<std::uint32_t>": "uint32",
    "ROOT::RNTupleCardinality<std::uint64_t>": "uint64",
}
_C_TYPES = {"bool": "bool", "float32": "float", "float64": "double"}
_LEAF_LIST = re.compile(r"(\[\w+\])*/\w")
_JAGGED_TYPES = ("ROOT::VecOps::RVec<", "std::vector<")


@dataclass(frozen=True)
class Branch:
    """One branch of a tree.

    Attributes
    ----------
    name
        Its name in the file.
    dtype
        numpy name of the type of its numbers; None for strings, nested lists and objects.
    shape
        "flat" (one number per event), "jagged" (a list per event), "fixed" (an array of fixed size per event)
        or "other".
    title
        Its documentation.
    collection
        For a jagged branch, the collection that it belongs to, else None.
    typename
        The type as ROOT calls it.
    size
        Numbers per event, of an array of fixed size.
    """

    name: str
    dtype: str | None
    shape: str
    title: str
    collection: str | None
    typename: str
    size: int = 1

    @property
    def is_flat(self) -> bool:
        """One number per event."""
        return self.shape == "flat" and self.dtype is not None

    @property
    def is_fixed(self) -> bool:
        """An array of fixed size per event."""
        return self.shape == "fixed" and self.dtype is not None

    @property
    def is_jagged(self) -> bool:
        """A list of numbers per event."""
        return self.shape == "jagged" and self.dtype is not None

    @property
    def is_numeric(self) -> bool:
        """Numbers in one of these three shapes, which is what can be written again."""
        return self.is_flat or self.is_fixed or self.is_jagged

    @property
    def field(self) -> str:
        """Name within its collection: `pt` for `Muon_pt`."""
        if self.collection is None or self.collection == self.name:
            return self.name
        return self.name[len(self.collection) + 1 :]


class RootFile:
    """A ROOT file with a tree of events, opened for reading. Use it as a context manager.

    Parameters
    ----------
    path
        A local path or a URL that uproot understands (root://...).
    tree
        Name of the tree of events.

    Raises
    ------
    NanoMLError
        There is no such file, it is no ROOT file, it is damaged, or it has no such tree.
    """

    def __init__(self, path: str | os.PathLike[str], tree: str = "Events") -> None:
        self.path = os.fspath(path)
        self._name = tree
        self._seen: int | None = None  # entries
        self._access = Access(self.path)
        try:
            self._attempt(self._load)
        except BaseException:
            self.close()
            raise

    def _attempt(self, action: Callable[[], T]) -> T:
        """Read something, and explain what goes wrong: uproot raises many exceptions for one cause.

        If what a server sent makes no sense, it is read again from another server.
        """
        is_stale = False
        while True:
            try:
                if is_stale:
                    self._load()
                return action()
            except (NanoMLError, KeyboardInterrupt, MemoryError):
                raise
            except Exception as problem:
                reason = shorten(f"{type(problem).__name__}: {problem}", 160, placeholder=" ...")
                self._access.reject(reason, problem)
                is_stale = True

    def _load(self) -> None:
        """Read what describes the events."""
        self._file = self._access.open()
        self._opened = None
        # others may look at what is known while this is read again: nothing is half there
        is_rntuple = "RNTuple" in self._class_of(self._name)
        objects: Mapping[str, Any] = {}
        if is_rntuple:
            entries, branches = int(self._tree.num_entries), self._ntuple_fields()
        else:
            entries, objects = self._objects_of(self._name)
            branches = _Described(objects)
        if self._seen not in (None, entries):
            raise ValueError(f"it has {entries} entries here, and {self._seen} elsewhere")
        self._seen = self.entries = entries
        self._plain: dict[str, PlainBranch | None] = {}
        self.is_rntuple, self._objects = is_rntuple, objects
        self.branches: Mapping[str, Branch] = branches

    def _class_of(self, tree: str) -> str:
        classes: dict[str, str] = self._file.classnames(recursive=False, cycle=False)
        if tree not in classes:
            have = ", ".join(f"{name} ({kind})" for name, kind in sorted(classes.items())) or "nothing"
            raise NanoMLError(f"{self.path}: has no tree `{tree}`. It has: {have}.")
        return classes[tree]

    def _objects_of(self, tree: str) -> tuple[int, Mapping[str, Any]]:
        """The number of entries of a TTree, and its branches as they are in the file: `StoredBranch` or uproot's."""
        if self._class_of(tree) == "TTree":
            key = self._file.key(tree)
            chunk, cursor = key.get_uncompressed_chunk_cursor()
            content = bytes(chunk.get(0, key.data_uncompressed_bytes, cursor, {}))
            stored = stored_branches(content, key.fKeylen)
            if stored is not None:
                return stored
        found = self._tree if tree == self._name else self._file[tree]
        objects: dict[str, Any] = {}
        for each in found.branches:
            objects.setdefault(each.name, each)  # of several of one name, uproot reads the first
        return int(found.num_entries), objects

    @property
    def _tree(self) -> Any:
        """The tree of events as uproot has it; that takes long, and seldom is it needed."""
        if self._opened is None:
            found = self._file[self._name]
            if not hasattr(found, "num_entries"):
                kind = self._class_of(self._name)
                version = (
                    f" that uproot {uproot.__version__} can read; a newer uproot may"
                    if "RNTuple" in kind
                    else ""
                )
                raise NanoMLError(
                    f"{self.path}: `{self._name}` is a {kind}, not a TTree or an RNTuple{version}."
                )
            self._opened = found
        return self._opened

    def _ntuple_fields(self) -> Mapping[str, Branch]:
        # uproot lists each collection a second time, under "_collectionN"
        names = [name for name in self._tree.keys(recursive=False) if not name.startswith("_")]
        known = set(names)
        found = {}
        for name in names:
            field = self._tree[name]
            kind = field.typename
            inner = next(
                (kind[len(start) : -1].strip() for start in _JAGGED_TYPES if kind.startswith(start)), None
            )
            dtype = _FLAT_TYPES.get(kind if inner is None else inner)
            shape = "other" if dtype is None else "flat" if inner is None else "jagged"
            collection = versions.collection_of(name, None, known) if inner is not None else None
            found[name] = Branch(name, dtype, shape, "", collection, kind)
        return found

    def __enter__(self) -> RootFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._access.close()

    def name_of(self, name: str) -> str:
        """The name under which this file has a branch (see `versions.resolve`).

        Raises
        ------
        NanoMLError
            The file lacks it.
        """
        found = versions.resolve(name, self.branches)
        if found is None:
            raise NanoMLError(
                f"{self.path}: has no branch {name}.{versions.did_you_mean(name, self.branches)}"
            )
        return found

    def branch(self, name: str) -> Branch:
        """What is known of one branch; raises as `name_of` does."""
        return self.branches[self.name_of(name)]

    def read(self, names: Iterable[str], start: int = 0, stop: int | None = None) -> dict[str, ak.Array]:
        """Read branches.

        Parameters
        ----------
        names
            Names as asked for; each is looked up by `name_of`.
        start, stop
            Range of entries.

        Returns
        -------
        dict from the names as asked for to arrays, in the file's own number types.

        Raises
        ------
        NanoMLError
            A branch is missing or not of numbers, or the file cannot be read.
        """
        return {name: _array(values) for name, values in self.read_plain(names, start, stop).items()}

    def read_plain(
        self,
        names: Iterable[str],
        start: int = 0,
        stop: int | None = None,
        pick: Callable[[Plain], Plain] = lambda values: values,
    ) -> dict[str, Plain]:
        """As `read`, but where a branch has one number or one list of numbers for each event, not as an awkward array.

        What `pick` leaves of a branch is all of it that is kept when the next one is read.
        """
        asked = {name: self.branch(name) for name in names}
        for name, branch in asked.items():
            if branch.dtype is None:
                raise NanoMLError(
                    f"{self.path}: {name} is of type {branch.typename}, which is not supported: leave it out."
                )
        stop = self.entries if stop is None else min(stop, self.entries)
        actual = sorted({branch.name for branch in asked.values()})
        if not actual:
            return {}
        arrays = self._attempt(lambda: self._arrays(actual, start, max(start, stop), pick))
        return {name: arrays[branch.name] for name, branch in asked.items()}

    def _arrays(
        self, names: list[str], start: int, stop: int, pick: Callable[[Plain], Plain]
    ) -> dict[str, Plain]:
        if self.is_rntuple:
            return {name: pick(self._field(name, start, stop)) for name in names}
        found = self._plain_arrays(names, start, stop, pick)
        rest = [name for name in names if name not in found]
        if rest:
            self._access.check_size()
            others = self._tree.arrays(rest, entry_start=start, entry_stop=stop, how=dict)
            for name, array in others.items():
                self._check_lengths(name, array, start, stop)
                found[name] = pick(array)
        return found

    def _check_lengths(self, name: str, array: ak.Array, start: int, stop: int) -> None:
        """Refuse lists of other lengths than their counter says: uproot does not compare them, and can return anything then."""
        if len(array) != stop - start:
            raise ValueError(f"{name} has {len(array)} of {stop - start} entries")
        counter = _counter_of(self._objects[name])
        if counter is None or counter not in self._objects or not self.branches[counter].is_flat:
            return
        counts = self._arrays([counter], start, stop, lambda values: values)[counter]
        layout = array.layout
        if layout.is_list and not np.array_equal(
            np.asarray(layout.stops) - layout.starts, np.asarray(counts)
        ):
            raise ValueError(f"the lists of {name} do not have the lengths that {counter} says")

    def _field(self, name: str, start: int, stop: int) -> ak.Array:
        # not by `arrays` of the whole, which looks at all fields before it reads some
        values = self._tree[name].array(entry_start=start, entry_stop=stop)
        # a cardinality column comes out as a signed 64-bit integer
        return ak.values_astype(values, np.dtype(self.branches[name].dtype))

    def _plain_arrays(
        self, names: list[str], start: int, stop: int, pick: Callable[[Plain], Plain]
    ) -> dict[str, Plain]:
        """Those of the branches that our own code reads; it is fast, and leaves to uproot whatever it has a doubt about."""
        if not self._access.is_fast:
            return {}
        for name in names:
            if name not in self._plain:
                self._plain[name] = self._unless_in_doubt(name, PlainBranch.of, self._objects[name])
        plain = {name: branch for name in names if (branch := self._plain[name]) is not None}
        take = self._access.take(piece for branch in plain.values() for piece in branch.pieces(start, stop))
        known: dict[str, Begins] = {}
        found: dict[str, Plain] = {}
        for name, branch in plain.items():
            array = self._unless_in_doubt(name, branch.read, take, start, stop, known)
            if array is not None:
                found[name] = pick(array)
        return found

    def _unless_in_doubt(self, name: str, read: Callable[..., T | None], *arguments: Any) -> T | None:
        """What `read` returns; if it fails for whatever reason, None, and uproot reads the branch from now on."""
        try:
            return read(*arguments)
        except Exception:  # uproot knows better; if it fails too, its reason is the one to report
            self._plain[name] = None
            return None

    def ranges(
        self, names: Iterable[str], most: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Ranges of entries to read one after the other, in which no basket is read twice if that can be.

        Parameters
        ----------
        names
            The branches to be read.
        most
            Largest number of entries of a range.
        start, stop
            Where the first begins and the last ends.

        Yields
        ------
        Beginning and end of each.
        """
        end = self.entries if stop is None else stop
        boundaries = self.basket_ends(names, start, end)
        while start < end:
            reached = bisect_right(boundaries, start + most)
            reach = boundaries[reached - 1] if reached else start
            if reach <= start:  # the next basket ends beyond
                reach = min(start + most, boundaries[reached])
            yield start, reach
            start = reach

    def basket_ends(self, names: Iterable[str], start: int, stop: int) -> list[int]:
        """`start`, the entries in between at which baskets of all the branches end, and `stop`."""
        ends: set[int] = set()
        if not self.is_rntuple:
            objects = [self._objects[self.name_of(name)] for name in names]
            offsets = self._attempt(lambda: [set(each.entry_offsets) for each in objects])
            ends = set.intersection(*offsets) if offsets else set()
        return sorted({start, stop, *(end for end in ends if start < end < stop)})

    def bytes_per_event(self, names: Iterable[str]) -> float:
        """How much memory the branches take, on average, for each event."""
        if not self.entries:
            return 0.0
        if self.is_rntuple:  # it does not say
            return float(sum(8 if self.branch(name).is_jagged else 4 for name in names))
        return (
            float(sum(self._objects[self.name_of(name)].uncompressed_bytes for name in names)) / self.entries
        )

    @property
    def size(self) -> int | None:
        """Size in bytes; None if that is not known."""
        return self._access.size

    @property
    def uuid(self) -> str:
        """The identifier that ROOT gave the file when it was made; copies share it. Empty if there is none."""
        found = self._attempt(lambda: self._file.file.uuid)
        return str(found) if found.int else ""

    @property
    def keys(self) -> dict[str, str]:
        """Names and class names of all objects at the top of the file."""
        return self._attempt(lambda: dict(self._file.classnames(recursive=False, cycle=False)))

    def string(self, key: str) -> str | None:
        """Text of a TObjString, or None where there is none of that name."""
        if self.keys.get(key) != "TObjString":
            return None
        return self._attempt(lambda: str(self._file[key]))

    def object(self, key: str) -> Any:
        """An object at the top of the file, as uproot reads it."""
        return self._attempt(lambda: self._file[key])

    def branches_of(self, name: str) -> dict[str, Branch]:
        """The branches of another tree."""
        return self._attempt(lambda: dict(_Described(self._objects_of(name)[1])))

    def other_tree(self, name: str, branches: Iterable[str] | None = None) -> dict[str, ak.Array] | None:
        """Branches of another, small tree (Runs, LuminosityBlocks), or all; None where the file has it not."""
        if self.keys.get(name) != "TTree":
            return None

        def read() -> dict[str, ak.Array]:
            tree = self._file[name]
            wanted = tree.keys(recursive=False) if branches is None else list(branches)
            found: dict[str, ak.Array] = tree.arrays(wanted, how=dict) if wanted else {}
            return found

        return self._attempt(read)


class _Described(Mapping[str, Branch]):
    """The branches of a tree; each is described when it is asked for, because most never are."""

    def __init__(self, objects: Mapping[str, Any]) -> None:
        self._objects, self._names = objects, set(objects)
        self._known: dict[str, Branch] = {}

    def __getitem__(self, name: str) -> Branch:
        if name not in self._known:
            branch = self._objects[name]
            try:
                self._known[name] = _describe(branch, self._names)
            except Exception:  # uproot cannot interpret this branch, but the others can be read
                self._known[name] = Branch(name, None, "other", "", None, "unknown")
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._objects

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)


def _array(values: Plain) -> ak.Array:
    """What was read, as an awkward array."""
    if isinstance(values, Lists):
        return values.array()
    return ak.Array(ak.contents.NumpyArray(values)) if isinstance(values, np.ndarray) else values


def _describe(branch: Any, names: set[str]) -> Branch:
    # some writers put the type in the place of a title: "Muon_pt/F"
    title = branch.title or ""
    if title.startswith(branch.name) and _LEAF_LIST.fullmatch(title, len(branch.name)):
        title = ""
    if isinstance(branch, StoredBranch):
        return _describe_stored(branch, title, names)
    interpretation, counter = branch.interpretation, _counter_of(branch)
    jagged = isinstance(interpretation, uproot.AsJagged)
    numbers = interpretation.content if jagged else interpretation
    # several numbers under one name, as of a TLorentzVector or a leaf list, have a type with names
    if not isinstance(numbers, uproot.AsDtype) or numbers.to_dtype.base.names is not None:
        return Branch(branch.name, None, "other", title, None, branch.typename)
    inner, dtype = numbers.inner_shape, str(numbers.to_dtype.base.newbyteorder("="))
    if jagged:
        collection = versions.collection_of(branch.name, counter, names)
        return Branch(branch.name, dtype, "other" if inner else "jagged", title, collection, branch.typename)
    shape = "flat" if not inner else "fixed" if len(inner) == 1 else "other"
    return Branch(branch.name, dtype, shape, title, None, branch.typename, inner[0] if inner else 1)


def _counter_of(branch: Any) -> str | None:
    """The branch that says how long the lists of a branch are; None if there is none."""
    if isinstance(branch, StoredBranch):
        return branch.counter
    counted_by = branch.count_branch  # uproot looks for it each time
    return None if counted_by is None else str(counted_by.name)


def _describe_stored(branch: StoredBranch, title: str, names: set[str]) -> Branch:
    dtype = str(branch.dtype.newbyteorder("="))
    kind = _C_TYPES.get(dtype, f"{dtype}_t")
    dimensions = branch.dimensions
    arrays = "".join(f"[{length}]" for length in dimensions)
    if branch.counter is not None:
        collection = versions.collection_of(branch.name, branch.counter, names)
        shape = "other" if dimensions else "jagged"
        return Branch(branch.name, dtype, shape, title, collection, f"{kind}[]{arrays}")
    shape = ("flat", "fixed", "other")[min(len(dimensions), 2)]
    size = dimensions[0] if dimensions else 1
    return Branch(branch.name, dtype, shape, title, None, kind + arrays, size)
