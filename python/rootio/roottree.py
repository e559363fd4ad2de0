"""A TTree as uproot writes it, with the titles and counters of NanoAOD. Only here and in `ntuple.rows` are uproot's private classes used.

uproot has no public way to give titles, or the types of counters. It also computes the length of each part of a tree's header
from all parts before it, several times for each branch: for the 750 branches of NanoAOD that takes seconds, again whenever
there must be room for more baskets. Here each part is made from its own parts, from the inside to the outside. And for each
basket uproot considers every kind of array, and writes the list of free segments, which takes as long as compressing it: here
there are plain numbers and lists only. All records are the same, byte by byte.

Another uproot may change these classes. With one that is newer than all that are known to work, `check` writes a small file and
reads it back; if anything is wrong, `nanowriter` uses uproot's public functions instead.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot
import uproot.writing._cascadetree as cascadetree
from numpy.typing import NDArray
from uproot import compression
from uproot._util import datetime_to_code
from uproot.reading import _key_format_big
from uproot.serialization import string

from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Array, Lists, offsets_of

_KNOWN = (5, 7, 7)  # the newest uproot that is known to work

_COUNTER = np.dtype("int32")  # as NanoAOD has it since version 12

_COUNTED, _NEW_CLASS = 0x4000_0000, 0xFFFF_FFFF
_MAP_OFFSET = 2  # between the position of an object and its reference number
_IN_MEMORY = 0x0300_0000  # bits that ROOT sets for every object, and for some
_OF_TREE, _OF_BRANCHES, _OF_BRANCH = 0x8, 0x4000, 0x40_0000
_VERSION = struct.Struct(">IH")  # bytes that follow, version
_CLASS = struct.Struct(">II")  # bytes that follow, what class
_OBJECT = struct.Struct(">HII")  # version, number, bits
_COUNT = struct.Struct(">ii")  # of an array: objects, number of the first
_TREE = struct.Struct(">qqqqqdiiiiIqqqqqq")
_SIZES = struct.Struct(">iiiiq")  # of a branch: compression, bytes of baskets and lists, baskets, entries
_PLACES = struct.Struct(">iIiqqqq")  # offset, room for baskets, split level, entries, first entry, bytes
_LENGTHS = struct.Struct(">iii??")  # of a leaf: numbers, bytes of each, offset, is range, is unsigned
# version, room for bytes and for entries, number of entries, where the numbers end
_BASKET = struct.Struct(">Hiiiix")
_KEY_OF_BASKET = _key_format_big.size + _BASKET.size  # without the names in it
_NUMBER_OF_LISTS = struct.Struct(">i")
_MOST_BYTES = 2**31 - 1  # of a basket
_OF_BASKETS = ("fBasketBytes", "fBasketEntry", "fBasketSeek")
_EXTREMES = {
    letter: struct.Struct(">" + 2 * code)
    for letter, code in {"O": "?", "B": "b", "S": "h", "I": "i", "L": "q", "F": "f", "D": "d"}.items()
}
_LINE = bytes.fromhex("40000008 0002 025a 0001 0001")
_FILL = bytes.fromhex("40000006 0002 0000 03e9")
_MARKER = bytes.fromhex("4000000a 0002 0001 0001 3f800000")
_FEATURES = bytes.fromhex("40000007 0000 1aa12f10 00")
_TREE_NUMBERS = (
    "fTotBytes", "fZipBytes", "fSavedBytes", "fFlushedBytes", "fWeight", "fTimerInterval", "fScanField", "fUpdate",
    "fDefaultEntryOffsetLen", "fNClusterRange", "fMaxEntries", "fMaxEntryLoop", "fMaxVirtualSize", "fAutoSave", "fAutoFlush",
    "fEstimate",
)  # fmt: skip


_Described = dict[str, Any]  # a branch, as uproot describes it while it writes


class _Content(NamedTuple):
    """The content of a basket."""

    data: bytes
    numbers: int  # how many of the bytes are numbers
    room: int  # for entries, as the basket says


class RootTree(cascadetree.Tree):  # type: ignore[misc]
    """A tree that uproot writes, with titles and types of counters from `branches`; the other arguments are uproot's."""

    _key: Any  # uproot's, of the header
    _basket_capacity: int

    def __init__(self, branches: Mapping[str, Branch], *arguments: object) -> None:
        self._described = branches
        super().__init__(*arguments)

    def _branch_np(self, name: str, of: Any, dtype: object, counter: Any = None, kind: str = "normal") -> Any:
        described = self._described.get(name)
        if kind == "counter":
            dtype = np.dtype(described.dtype) if described is not None else _COUNTER
        branch = super()._branch_np(name, of, dtype, counter=counter, kind=kind)
        if described is not None:
            branch["fTitle"] = described.title
        return branch

    def fill(self, file: Any, columns: Mapping[str, Array | Lists]) -> None:
        """Write a basket of each branch, counters included, into uproot's `file`; there must be one entry at least.

        Raises ValueError if the numbers of entries differ, or a basket is larger than 2 GiB.
        """
        if self._num_baskets >= self._basket_capacity - 1:
            self._make_room(file)
        entries = len(next(iter(columns.values())))
        begins: dict[int, NDArray[np.int32]] = {}
        for branch in self._plain_branches:
            values = columns[branch["fName"]]
            if len(values) != entries:
                raise ValueError(f"{branch['fName']} has {len(values)} entries, where others have {entries}")
            if isinstance(values, Lists):
                if id(values.offsets) not in begins:  # the branches of a collection share them
                    begins[id(values.offsets)] = np.asarray(values.offsets.data).astype(np.int32)
                content = self._lists(branch, values.numbers, begins[id(values.offsets)])
            else:
                content = self._numbers(branch, values)
            self._write_basket(file.sink, branch, content, entries)
        self._num_entries += entries
        self._num_baskets += 1
        self._freesegments.write(file.sink)
        file.sink.set_file_length(self._freesegments.fileheader.end)
        self.write_updates(file.sink)

    @property
    def _plain_branches(self) -> list[_Described]:
        return [branch for branch in self._branch_data if branch["kind"] != "record"]

    def _numbers(self, branch: _Described, values: Array) -> _Content:
        if values.shape[1:] != branch["shape"]:
            raise ValueError(f"{branch['fName']} has the shape {values.shape[1:]}, not {branch['shape']}")
        if branch["kind"] == "counter":
            branch["tleaf_maximum_value"] = max(values.max(), branch["tleaf_maximum_value"])
        packed = values.astype(branch["dtype"]).tobytes()
        return _Content(packed, len(packed), branch["dtype"].itemsize * math.prod(branch["shape"]))

    def _lists(self, branch: _Described, numbers: Array, begins: NDArray[np.int32]) -> _Content:
        packed = numbers.astype(branch["dtype"]).tobytes()
        key = np.int32(len(self._names_in_key(branch)) + _KEY_OF_BASKET)
        places = (begins * np.int32(branch["dtype"].itemsize) + key).astype(">i4")
        branch["fEntryOffsetLen"] = 4 * (len(begins) - 1)
        lists = _NUMBER_OF_LISTS.pack(len(begins)) + places.tobytes()
        return _Content(packed + lists, len(packed), len(begins) + 1)

    def _names_in_key(self, branch: _Described) -> bytes:
        return _names("TBasket", branch["fName"], self._name)

    def _write_basket(self, sink: Any, branch: _Described, content: _Content, entries: int) -> None:
        packed, names = compression.compress(content.data, branch["compression"]), self._names_in_key(branch)
        key = len(names) + _KEY_OF_BASKET
        size, full = key + len(packed), key + len(content.data)
        if max(size, full) > _MOST_BYTES:
            raise ValueError(f"{entries} entries of {branch['fName']} are too many for a basket")
        place = self._freesegments.allocate(size, dry_run=False)
        now, directory = datetime_to_code(datetime.now()), self._directory.key.location
        head = _key_format_big.pack(size, 1004, len(content.data), now, key, 0, place, directory)
        described = _BASKET.pack(3, 32000, content.room, entries, key + content.numbers)
        sink.write(place, head + names + described + packed)
        number = self._num_baskets
        branch["fBasketBytes"][number] = size
        branch["fBasketEntry"][number + 1] = self._num_entries + entries
        branch["fBasketSeek"][number] = place
        branch["arrays_write_stop"] = number + 1
        for total in (branch, self._metadata):
            total["fTotBytes"] += full
            total["fZipBytes"] += size

    def _make_room(self, file: Any) -> None:
        """Make room for more baskets, with a longer header in another place."""
        larger = math.ceil(self._basket_capacity * self._resize_factor)
        self._basket_capacity = max(self._basket_capacity + 1, larger)
        for branch in self._plain_branches:
            for name in _OF_BASKETS:
                old = branch[name]
                branch[name] = np.zeros(self._basket_capacity, old.dtype)
                branch[name][: len(old)] = old
            branch["fBasketEntry"][self._num_baskets + 1] = self._num_entries
        start = self._key.seek_location
        stop = start + self._key.num_bytes + self._key.compressed_bytes
        self.write_anew(file.sink)
        self._freesegments.release(start, stop)
        file.sink.set_file_length(self._freesegments.fileheader.end)

    def write_anew(self, sink: Any) -> None:
        """Write the header where there is room for it."""
        content = self._header()
        self._key = self._directory.add_object(
            sink, "TTree", self._name, self._title, content, len(content), replaces=self._key, big=True
        )

    def _header(self) -> bytes:
        """The tree without its baskets; it notes the positions of all that changes with each basket."""
        head = _named(self._name, self._title, _OF_TREE) + _LINE + _FILL + _MARKER
        self._metadata_start = _VERSION.size + len(head)
        numbers = (self._metadata[name] for name in _TREE_NUMBERS)
        head += _TREE.pack(self._num_entries, *numbers) + bytes(2) + _FEATURES  # no ranges of clusters
        key = _key_format_big.size + len(_names("TTree", self._name, self._title))
        position = _VERSION.size + len(head) + len(_EMPTY)
        branches = self._plain_branches
        parts = []
        for branch in branches:
            parts.append(self._branch(branch, position, key))
            position += len(parts[-1])
        references = np.array([branch["tleaf_reference_number"] for branch in branches], ">u4").tobytes()
        arrays = _array(len(branches), b"".join(parts), _OF_BRANCHES) + _array(len(branches), references)
        return _versioned(20, head + arrays + bytes(28))  # no aliases, indices, friends, user information

    def _branch(self, branch: _Described, position: int, key: int) -> bytes:
        """A branch and its leaf, at some position after the key."""
        head = _named(branch["fName"], branch["fTitle"], _OF_BRANCH) + _FILL
        # the beginning of the content of the branch
        position += _CLASS.size + len(b"TBranch\0") + _VERSION.size
        branch["metadata_start"] = position + len(head)
        # 0 for compression: then ROOT looks at each basket, as some are too short to be compressed
        sizes = (0, branch["fBasketSize"], branch["fEntryOffsetLen"], self._num_baskets, self._num_entries)
        head += _SIZES.pack(*sizes) + _FEATURES
        of_all = (branch["fOffset"], self._basket_capacity, branch["fSplitLevel"], self._num_entries)
        head += _PLACES.pack(*of_all, branch["fFirstEntry"], branch["fTotBytes"], branch["fZipBytes"]) + _EMPTY
        branch["tleaf_reference_number"] = key + position + len(head) + len(_EMPTY) + _MAP_OFFSET
        head += _array(1, _leaf(branch)) + _EMPTY
        branch["basket_metadata_start"] = position + len(head)
        arrays = (b"\1" + branch[name].tobytes() for name in _OF_BASKETS)
        baskets_file = string("")  # this one
        return _object("TBranch", _versioned(13, head + b"".join(arrays) + baskets_file))


def _leaf(branch: _Described) -> bytes:
    letter = cascadetree._dtype_to_char[branch["dtype"]]
    extremes = branch["tleaf_special_struct"] = _EXTREMES[letter.upper()]
    counter = branch["counter"]
    sizes = [*([counter["fName"]] if counter else []), *branch["shape"]]
    title = branch["fName"] + "".join(f"[{size}]" for size in sizes)
    lengths = _LENGTHS.pack(
        math.prod(branch["shape"]), branch["dtype"].itemsize, 0, branch["kind"] == "counter", letter != letter.upper()
    )
    reference = struct.pack(">I", counter["tleaf_reference_number"] if counter else 0)
    leaf = _versioned(2, _named(branch["fName"], title) + lengths + reference)
    return _object(f"TLeaf{letter.upper()}", _versioned(1, leaf + extremes.pack(0, 0)))


def _versioned(version: int, content: bytes) -> bytes:
    return _VERSION.pack(len(content) + 2 | _COUNTED, version) + content


def _object(name: str, content: bytes) -> bytes:
    """An object, with the name of its class."""
    return _CLASS.pack(len(name) + 1 + len(content) + 4 | _COUNTED, _NEW_CLASS) + name.encode() + b"\0" + content


def _array(count: int, content: bytes, bits: int = 0) -> bytes:
    return _versioned(3, _OBJECT.pack(1, 0, _IN_MEMORY | bits) + string("") + _COUNT.pack(count, 0) + content)


def _named(name: str, title: str, bits: int = 0) -> bytes:
    return _versioned(1, _OBJECT.pack(1, 0, _IN_MEMORY | bits) + string(name) + string(title))


def _names(kind: str, name: str, title: str) -> bytes:
    """The names in the key of an object."""
    return b"".join(map(string, (kind, name, title)))


_EMPTY = _array(0, b"")


class _OpenTree:
    """A tree in an open file, which `fill` writes baskets to."""

    def __init__(self, tree: RootTree, file: Any) -> None:
        self.tree, self._file = tree, file

    def fill(self, columns: Mapping[str, Array | Lists]) -> None:
        self.tree.fill(self._file, columns)


def new_tree(directory: Any, name: str, types: Mapping[str, object], branches: Mapping[str, Branch]) -> _OpenTree:
    """Create a tree as uproot's `mktree` does, with the titles of `branches` and the types of counters among them."""
    cascading = directory._cascading

    def add_tree(sink: Any, name: str, title: str, types: object, *arguments: object) -> Any:
        tree = RootTree(branches, cascading, name, title, types, cascading._freesegments, *arguments)
        tree.write_anew(sink)
        return tree

    cascading.add_tree = add_tree
    try:
        made = directory.mktree(name, types, title=name)
    finally:
        del cascading.add_tree
    # else the file and its trees would keep each other, and their memory be free only when Python looks for garbage
    made._file._trees.clear()
    return _OpenTree(made._cascading, made._file)


def check() -> None:
    """With an uproot that is newer than those known to work, write a tree and read it back; an exception if that fails."""
    version = tuple(int(part) for part in re.findall(r"\d+", uproot.__version__)[:3])
    if version > _KNOWN:
        _check_by_writing()


def _check_by_writing() -> None:
    branches = {
        "x": Branch("x", "float32", "flat", "a number", None, ""),
        "nJet": Branch("nJet", "uint32", "flat", "number of jets", None, ""),
        "Jet_pt": Branch("Jet_pt", "float32", "jagged", "momentum", "Jet", ""),
        "Jet_id": Branch("Jet_id", "uint8", "jagged", "", "Jet", ""),
    }
    record = ak.types.RecordType([ak.types.NumpyType("float32"), ak.types.NumpyType("uint8")], ["pt", "id"])
    types = {"x": "float32", "Jet": ak.types.ListType(record)}
    counts, stream = np.array([2, 0, 1]), io.BytesIO()
    index = ak.index.Index64(offsets_of(counts))
    with uproot.recreate(stream, compression=uproot.ZLIB(1)) as file:
        tree = new_tree(file, "Events", types, branches)
        lists = {"Jet_pt": Lists(index, np.arange(3.0)), "Jet_id": Lists(index, np.arange(3))}
        for _ in range(12):  # there is room for ten baskets at first
            tree.fill({"x": np.arange(3.0), "nJet": counts, **lists})
        content = io.BytesIO(stream.getvalue())
    with uproot.open(content) as file:
        events = file["Events"]
        titles = {name: events[name].title for name in branches}
        if titles != {name: branch.title for name, branch in branches.items()}:
            raise ValueError(f"titles are {titles}")
        found = [events[name].array().tolist() for name in branches]
        numbers = [[0, 1, 2], counts.tolist(), [[0, 1], [], [2]], [[0, 1], [], [2]]]
        if found != [12 * values for values in numbers] or events["nJet"].typename != "uint32_t":
            raise ValueError("other numbers are read than were written")
