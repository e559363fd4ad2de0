"""A NanoAOD file: what it contains and how it is read, whether its events are a TTree or an RNTuple."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from textwrap import shorten
from typing import Any, TypeVar

import awkward as ak
import numpy as np
import uproot

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.access import Access
from MLTools.NanoML.rootio.baskets import PlainBranches, joined_baskets
from MLTools.NanoML.rootio.branches import Branch, TreeBranches, counter_of
from MLTools.NanoML.rootio.lists import Values, array_of
from MLTools.NanoML.rootio.ntuple.reader import NTuple, check_version
from MLTools.NanoML.rootio.ttree import Branches, OtherTreeError, StoredBranches

__all__ = ["PROVENANCE", "NoTreeError", "RootFile"]

T = TypeVar("T")
_AHEAD = 2  # ranges that are announced at least while one is read
_PORTION = 4_000_000  # bytes in the file of what is read at once while more of a range is on its way
_NTUPLE = "ROOT::RNTuple"
PROVENANCE = "nanoml"
"""Name of the tree with the record that skims and scores carry."""
TREES = ("Runs", "LuminosityBlocks")
"""The trees beside the events that are copied and merged."""


def is_tree(kind: str) -> bool:
    """Whether objects of a class have rows of branches: a TTree, or an RNTuple."""
    return kind in ("TTree", _NTUPLE)


class NoTreeError(NanoMLError):
    """The file has no tree of events."""


class RootFile:
    """A ROOT file with a tree of events, opened for reading. Use it as a context manager.

    Parameters
    ----------
    path
        A local path or a URL that uproot understands (root://...).
    tree
        Name of the tree of events.

    Attributes
    ----------
    renamed
        The branches whose values are read for those of others, by the names of these others: none at first.

    Raises
    ------
    NanoMLError
        There is no such file, it is not a ROOT file, it is damaged, or it has no such tree.

    Examples
    --------
    >>> with RootFile("examples/nano/WZTo3LNu/WZTo3LNu_0.root") as file:
    ...     file.entries, file.branch("MET_pt").typename
    (800, 'float')
    """

    def __init__(self, path: str | os.PathLike[str], tree: str = "Events") -> None:
        self.path = os.fspath(path)
        self._name = tree
        self._seen: int | None = None  # entries
        self.renamed: Mapping[str, str] = {}
        self._access = Access(self.path)
        try:
            self._attempt(self._load)
        except BaseException:
            self.close()
            raise

    def _attempt(self, action: Callable[[], T]) -> T:
        """Read something. If it makes no sense, try the next server; if there is none, raise one error for all that uproot may raise."""
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
        # other threads may use these attributes while the file is read again, so they change at the end only
        ntuple: NTuple | None = None
        objects: Branches = {}
        if self._class_of(self._name) == _NTUPLE:
            check_version(f"{self.path}: `{self._name}` is an RNTuple")
            ntuple = self._ntuple_of(self._name)
            entries, branches = ntuple.entries, ntuple.branches
        else:
            entries, objects = self._objects_of(self._name)
            branches = TreeBranches(objects)
        if self._seen not in (None, entries):
            raise ValueError(f"it has {entries} entries here, and {self._seen} elsewhere")
        self._seen = self.entries = entries
        self._plain = PlainBranches(objects)
        self._ntuple, self._objects, self.branches = ntuple, objects, branches

    def _stored(self, name: str) -> str:
        """The name under which a branch is in the file."""
        found = self.name_of(name)
        return self.renamed.get(found, found)

    def _class_of(self, tree: str) -> str:
        classes: dict[str, str] = self._file.classnames(recursive=False, cycle=False)
        if tree not in classes:
            have = ", ".join(f"{name} ({kind})" for name, kind in sorted(classes.items())) or "nothing"
            raise NoTreeError(f"{self.path}: has no tree `{tree}`. It has: {have}.")
        return classes[tree]

    def _objects_of(self, tree: str) -> tuple[int, Branches]:
        """The number of entries of a TTree, and its branches as they are in the file: `StoredBranch` or uproot's."""
        if self._class_of(tree) == "TTree":
            key = self._file.key(tree)
            chunk, cursor = key.get_uncompressed_chunk_cursor()
            content = bytes(chunk.get(0, key.data_uncompressed_bytes, cursor, {}))
            with suppress(OtherTreeError):
                # they do not keep this file: else its memory would be free only when Python looks for garbage
                others = partial(RootFile._object_of, weakref.proxy(self), tree)
                stored = StoredBranches(content, key.fKeylen, others)
                return stored.entries, stored
        return self._objects_by_uproot(tree)

    def _object_of(self, tree: str, branch: str) -> uproot.TBranch:
        return self._attempt(lambda: self._objects_by_uproot(tree)[1][branch])

    def _objects_by_uproot(self, tree: str) -> tuple[int, dict[str, uproot.TBranch]]:
        found = self._tree if tree == self._name else self._file[tree]
        objects: dict[str, uproot.TBranch] = {}
        for each in found.branches:
            objects.setdefault(each.name, each)  # of several with one name, uproot reads the first
        return int(found.num_entries), objects

    @property
    def _tree(self) -> uproot.TTree:
        """The tree of events as uproot opens it, which takes long and is seldom needed."""
        if self._opened is None:
            found = self._file[self._name]
            if not hasattr(found, "num_entries"):
                kind = self._class_of(self._name)
                raise NanoMLError(f"{self.path}: `{self._name}` is a {kind}, not a TTree or an RNTuple.")
            self._opened = found
        return self._opened

    def __enter__(self) -> RootFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._access.close()

    def name_of(self, name: str) -> str:
        """The name of a branch in this file (see `versions.resolve`). Raises NanoMLError if the file lacks it."""
        found = versions.resolve(name, self.branches)
        if found is None:
            raise NanoMLError(f"{self.path}: has no branch {name}.{versions.did_you_mean(name, self.branches)}")
        return found

    def branch(self, name: str) -> Branch:
        """One branch; raises as `name_of` does."""
        return self.branches[self.name_of(name)]

    def read(self, names: Iterable[str], start: int = 0, stop: int | None = None) -> dict[str, ak.Array]:
        """Read branches.

        Parameters
        ----------
        names
            Branches by any of their names, see `name_of`.
        start, stop
            Range of entries.

        Returns
        -------
        Arrays by these names, in the file's own number types.

        Raises
        ------
        NanoMLError
            A branch is missing or not of numbers, or the file cannot be read.
        """
        return {name: array_of(values) for name, values in self.read_plain(names, start, stop).items()}

    def read_plain(
        self,
        names: Iterable[str],
        start: int = 0,
        stop: int | None = None,
        pick: Callable[[Values], Values] = lambda values: values,
    ) -> dict[str, Values]:
        """As `read`, but a branch with one number or one list of numbers for each event is not an awkward array.

        Only what `pick` returns for a branch is kept while the next one is read.
        """
        asked = {name: self.branch(name) for name in names}
        for name, branch in asked.items():
            if branch.dtype is None:
                raise NanoMLError(
                    f"{self.path}: {name} is of type {branch.typename}, which is not supported: leave it out."
                )
        stop = self.entries if stop is None else min(stop, self.entries)
        actual = {name: self._stored(name) for name in asked}
        if not actual:
            return {}
        arrays = self._attempt(lambda: self._arrays(sorted({*actual.values()}), start, max(start, stop), pick))
        return {name: arrays[other] for name, other in actual.items()}

    def _arrays(self, names: list[str], start: int, stop: int, pick: Callable[[Values], Values]) -> dict[str, Values]:
        if self._ntuple is not None:
            return self._ntuple.read(names, start, stop, pick)
        found = self._plain.read(self._access.take, names, start, stop, pick) if self._access.is_fast else {}
        rest = [name for name in names if name not in found]
        if rest:
            self._access.check_size()
            others = self._tree.arrays(rest, entry_start=start, entry_stop=stop, how=dict)
            for name, array in others.items():
                self._check_lengths(name, array, start, stop)
                found[name] = pick(array)
        return found

    def _check_lengths(self, name: str, array: ak.Array, start: int, stop: int) -> None:
        """Refuse lists whose lengths differ from their counter: uproot does not compare them, and can return anything."""
        if len(array) != stop - start:
            raise ValueError(f"{name} has {len(array)} of {stop - start} entries")
        counter = counter_of(self._objects[name])
        if counter is None or counter not in self._objects or not self.branches[counter].is_flat:
            return
        counts = self._arrays([counter], start, stop, lambda values: values)[counter]
        layout = array.layout
        if layout.is_list and not np.array_equal(np.asarray(layout.stops) - layout.starts, np.asarray(counts)):
            raise ValueError(f"the lists of {name} do not have the lengths that {counter} says")

    def ranges(
        self, names: Iterable[str], most: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Ranges of entries to read one after the other, in which no basket is read twice if possible.

        `most` is the largest number of entries of a range; the first begins at `start`, and the last ends at `stop`.
        """
        names, end = list(names), self.entries if stop is None else stop
        coming: deque[tuple[int, int]] = deque()
        for each in joined_baskets(self.basket_ends(names, start, end), most):
            coming.append(each)
            has_room = self.announce(names, [each])
            if len(coming) > _AHEAD and not has_room:
                yield coming.popleft()
        yield from coming

    @property
    def is_far(self) -> bool:
        """Whether a server has it, and it takes time until something that is read comes."""
        return self._access.is_far

    def announce(self, names: Iterable[str], ranges: Iterable[tuple[int, int]]) -> bool:
        """Say that branches will soon be read in each of these ranges, so that a server sends them already.

        Return whether there is room for more; there is none if the file is on disk, which need not be known.
        """
        return self.is_far and self._access.announce(self._pieces(names, ranges))

    def portions(self, names: Iterable[str], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Parts of a range, each to be read while a server sends the next; the whole range if the file is on disk.

        No basket is in two of them.
        """
        names, least = list(names), stop - start
        if self.is_far:
            packed = sum(size for _, size in self._pieces(names, [(start, stop)]))
            least = int(least * min(1, _PORTION / max(packed, 1)))
        for end in self.basket_ends(names, start, stop)[1:]:
            if end - start >= least or end == stop:
                yield start, end
                start = end

    def _pieces(self, names: Iterable[str], ranges: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
        """Where the baskets or pages of branches are in the file, and their numbers of bytes."""
        actual = sorted({self._stored(name) for name in names})
        if self._ntuple is not None:
            return self._ntuple.pieces(actual, ranges)
        plain = self._plain.known(actual).values()
        return (piece for each in ranges for branch in plain for piece in branch.pieces(*each))

    def basket_ends(self, names: Iterable[str], start: int, stop: int) -> list[int]:
        """`start`, the entries at which baskets of all the branches end, or clusters of an RNTuple, and `stop`."""
        if self._ntuple is not None:
            ends = set(self._ntuple.starts)
        else:
            objects = [self._objects[self._stored(name)] for name in names]
            offsets = self._attempt(lambda: [set(each.entry_offsets) for each in objects])
            ends = set.intersection(*offsets) if offsets else set()
        return sorted({start, stop, *(end for end in ends if start < end < stop)})

    def bytes_per_event(self, names: Iterable[str]) -> float:
        """Average number of bytes that the branches take in memory for each event."""
        if not self.entries:
            return 0.0
        ntuple, stored = self._ntuple, [self._stored(name) for name in names]
        if ntuple is not None:
            sizes = self._attempt(lambda: [ntuple.bytes_of(name) for name in stored])
        else:
            sizes = [self._objects[name].uncompressed_bytes for name in stored]
        return float(sum(sizes)) / self.entries

    @property
    def format(self) -> str:
        """The form of the events: "TTree" or "RNTuple"."""
        return "TTree" if self._ntuple is None else "RNTuple"

    @property
    def size(self) -> int | None:
        """Size in bytes; None if it is not known."""
        return self._access.size

    @property
    def uuid(self) -> str:
        """ROOT's identifier of the file, which copies share; empty if there is none."""
        found = self._attempt(lambda: self._file.file.uuid)
        return str(found) if found.int else ""

    @property
    def keys(self) -> dict[str, str]:
        """Names and class names of all objects at the top of the file."""
        return self._attempt(lambda: dict(self._file.classnames(recursive=False, cycle=False)))

    def string(self, key: str) -> str | None:
        """Text of a TObjString; None if the file has none of that name."""
        if self.keys.get(key) != "TObjString":
            return None
        return self._attempt(lambda: str(self._file[key]))

    def object(self, key: str) -> Any:
        """An object at the top of the file, as uproot reads it."""
        return self._attempt(lambda: self._file[key])

    def branches_of(self, name: str) -> dict[str, Branch]:
        """The branches of another tree, or RNTuple."""
        if self.keys.get(name) == _NTUPLE:
            return self._attempt(lambda: dict(self._ntuple_of(name).branches))
        return self._attempt(lambda: dict(TreeBranches(self._objects_of(name)[1])))

    def _ntuple_of(self, name: str) -> NTuple:
        return NTuple(self._file[name], self._access.take)

    def other_tree(self, name: str, branches: Iterable[str] | None = None) -> dict[str, ak.Array] | None:
        """Branches of another, small tree (Runs, LuminosityBlocks), by default all; None if the file does not have it."""
        kind = self.keys.get(name, "")
        if not is_tree(kind):
            return None

        def read() -> dict[str, ak.Array]:
            if kind == _NTUPLE:
                ntuple = self._ntuple_of(name)
                names = [key for key, branch in ntuple.branches.items() if branch.dtype is not None]
                values = ntuple.read(list(branches or names), 0, ntuple.entries)
                return {key: array_of(each) for key, each in values.items()}
            entries, objects = self._objects_of(name)
            wanted = list(objects if branches is None else branches)
            plain = PlainBranches(objects).read(self._access.take, wanted, 0, entries) if self._access.is_fast else {}
            rest = [each for each in wanted if each not in plain]
            others = self._file[name].arrays(rest, how=dict) if rest else {}
            return {each: others[each] if each in others else array_of(plain[each]) for each in wanted}

        return self._attempt(read)
