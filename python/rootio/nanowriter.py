"""Writes NanoAOD files: trees or RNTuples of flat branches and of collections with their counters, strings, histograms."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.branches import Branch, flat_branch
from MLTools.NanoML.rootio.compression import compression_of
from MLTools.NanoML.rootio.histograms import is_histogram
from MLTools.NanoML.rootio.lists import Array, Arrays, Lists, Picker, Values, of_type, offsets_of, same_lists
from MLTools.NanoML.rootio.rootfile import PROVENANCE, TREES, RootFile, is_tree
from MLTools.NanoML.terminal.progress import say_once

_ROWS_PER_BASKET = 25_000
_BYTES_PENDING = 25_000_000
_BYTES_IN_MEMORY = 4_000_000


class NanoWriter:
    """Writes a ROOT file with a tree `Events` of some branches (see `NanoTree`), and copies of other trees.

    With `format` "RNTuple", all of them are RNTuples.
    """

    def __init__(self, path: Path, branches: Mapping[str, Branch], compression: str, format: str = "TTree") -> None:
        codec, self._format = compression_of(compression), format
        self._stream = _Stream(path)
        try:
            self._file = uproot.recreate(self._stream, compression=codec)
            self.events = NanoTree(self._file, "Events", branches, format)
        except BaseException:
            self._close_stream()
            raise

    def __enter__(self) -> NanoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        finally:
            self._close_stream()

    def _close_stream(self) -> None:
        # an open stream on a full disk would fail again when Python collects it, with a traceback on the terminal
        with contextlib.suppress(OSError):
            self._stream.close()

    def write_tree(self, name: str, branches: Mapping[str, Branch], arrays: Mapping[str, Values]) -> None:
        """Write another, small tree."""
        tree = NanoTree(self._file, name, branches, self._format)
        tree.extend(arrays)
        tree.flush()

    def write_object(self, name: str, content: object) -> None:
        """Write a string, or a histogram that uproot has read."""
        self._file[name] = content

    def finish(self, record: tuple[str, Mapping[str, Branch], Mapping[str, Values]] | None = None) -> None:
        """Write pending rows, and the tree with the record of where the file comes from, as `write_tree` takes it."""
        self.events.flush()
        if record is not None:
            self.write_tree(*record)


def copy_auxiliary(
    file: RootFile, writer: NanoWriter, rows: Callable[[Arrays], NDArray[np.bool_]] | None = None
) -> list[str]:
    """Copy the trees and objects beside the events; return the names and types of what could not be copied.

    Runs and LuminosityBlocks are copied whole, or those `rows` of them, by the runs and sections.
    """
    left_out = []
    for name, kind in file.keys.items():
        if name in ("Events", PROVENANCE):
            continue
        if name in TREES and is_tree(kind):
            branches = file.branches_of(name)
            copied = {key: branch for key, branch in branches.items() if branch.is_numeric}
            left_out += [f"{name}/{key} ({branches[key].typename})" for key in branches if key not in copied]
            arrays: Arrays = file.other_tree(name, list(copied)) or {}
            if rows is not None and "run" in arrays:
                pick = Picker(np.flatnonzero(rows(arrays)))
                arrays = {key: pick(array) for key, array in arrays.items()}
            if copied:
                writer.write_tree(name, copied, arrays)
        elif kind == "TObjString":
            writer.write_object(name, file.string(name) or "")
        elif is_histogram(kind):
            writer.write_object(name, file.object(name))
        else:
            left_out.append(f"{name} ({kind})")
    return left_out


class _Stream:
    """A file that is being written: in memory as long as it is small, since uproot writes hundreds of pieces here and there."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w+b")  # noqa: SIM115
        self._now: io.BytesIO | io.BufferedRandom = io.BytesIO()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)

    def write(self, data: bytes) -> int:
        if self._now is not self._file and self._now.tell() + memoryview(data).nbytes > _BYTES_IN_MEMORY:
            self._to_disk()
        return self._now.write(data)

    def _to_disk(self) -> None:
        memory, self._now = self._now, self._file
        assert isinstance(memory, io.BytesIO)
        self._file.write(memory.getbuffer())
        self._file.seek(memory.tell())

    def close(self) -> None:
        try:
            if self._now is not self._file:
                self._to_disk()
        finally:
            self._file.close()


class NanoTree:
    """One tree in a directory of uproot that is being written, in large baskets, because small ones are slow to read.

    The jagged branches of one collection share its counter `nCOLLECTION`; a flat branch of that name gives its type and title.
    """

    def __init__(self, directory: Any, name: str, branches: Mapping[str, Branch], format: str = "TTree") -> None:
        self._collections = _collections(branches)
        for branch in branches.values():
            if not branch.is_numeric:
                raise NanoMLError(f"{branch.name} is of type {branch.typename}, which cannot be written.")
        self._flat = {
            name: branch
            for name, branch in branches.items()
            if not branch.is_jagged and name[1:] not in self._collections
        }
        self._pending: dict[str, list[Array]] = {}  # numbers of all branches, counters included
        self._rows = self._bytes = 0
        self.entries = 0
        self._tree: Any
        if format == "RNTuple":
            from MLTools.NanoML.rootio.ntuple.reader import check_version

            check_version(f"{name} is to be an RNTuple")
            self._tree = _NTuple(directory, name, branches, self._flat, self._collections, _overrides(format))
        elif _overrides(format):
            from MLTools.NanoML.rootio.roottree import new_tree

            self._tree = new_tree(directory, name, self._types(), branches)
        else:
            self._tree = _PublicTree(directory, name, self._types(), self._collections)

    @property
    def columns(self) -> list[str]:
        """The branches that `extend` takes: all but the counters of collections."""
        members = [branch.name for fields in self._collections.values() for branch in fields]
        return [*self._flat, *members]

    def _types(self) -> dict[str, Any]:
        types: dict[str, Any] = {
            name: np.dtype((branch.dtype, (branch.size,))) if branch.is_fixed else branch.dtype
            for name, branch in self._flat.items()
        }
        for name, members in self._collections.items():
            numbers = [ak.types.NumpyType(str(branch.dtype)) for branch in members]
            record = ak.types.RecordType(numbers, [branch.field for branch in members])
            types[name] = ak.types.ListType(numbers[0] if _is_single(members) else record)
        return types

    def extend(self, arrays: Mapping[str, Values]) -> None:
        """Add rows: all `columns`, of the same length, as numpy and awkward arrays and `Lists`.

        Raises NanoMLError if branches of one collection have different numbers of objects.
        """
        length = len(next(iter(arrays.values())))
        if length == 0:
            return
        parts = {name: np.asarray(ak.to_numpy(arrays[name])) for name in self._flat}
        for collection, members in self._collections.items():
            offsets = None
            for branch in members:
                values = arrays[branch.name]
                lists = values if isinstance(values, Lists) else Lists.of(values)
                offsets = offsets or lists.offsets
                if not same_lists(lists.offsets, offsets):
                    raise NanoMLError(
                        f"collection {collection}: {branch.name} has other numbers of objects than the rest."
                    )
                parts[branch.name] = lists.numbers
            assert offsets is not None
            parts["n" + collection] = np.diff(np.asarray(offsets.data))
        for name, part in parts.items():
            self._pending.setdefault(name, []).append(part)
        self._rows += length
        self._bytes += sum(part.nbytes for part in parts.values())
        if self._rows >= _ROWS_PER_BASKET or self._bytes > _BYTES_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are pending."""
        if not self._pending:
            return
        numbers = {name: np.concatenate(self._pending.pop(name)) for name in list(self._pending)}
        columns: dict[str, Array | Lists] = {**numbers}
        for collection, members in self._collections.items():
            index = ak.index.Index64(offsets_of(numbers["n" + collection]))
            columns.update({branch.name: Lists(index, numbers[branch.name]) for branch in members})
        self._tree.fill(columns)
        self.entries += self._rows
        self._rows = self._bytes = 0


_OVERRIDES = {
    "TTree": (
        "roottree",
        "cannot write titles of branches and types of counters ({}). Files are written without them, and more slowly. Install "
        "another version of uproot to have them.",
    ),
    "RNTuple": (
        "ntuple.rows",
        "writes RNTuples without checksums ({}): `hadd` of ROOT 6.40 cannot merge them, but `nanoml merge` can.",
    ),
}
"""By format, the module that overrides classes of uproot, and what NanoML does without it."""


@functools.cache
def _overrides(format: str) -> bool:
    """Whether our own writing works with this uproot, whose classes it overrides."""
    module, otherwise = _OVERRIDES[format]
    try:
        importlib.import_module(f"MLTools.NanoML.rootio.{module}").check()
    except Exception as problem:  # whatever another uproot may raise
        why = otherwise.format(f"{type(problem).__name__}: {problem}")
        say_once("uproot", f"WARNING: with uproot {uproot.__version__}, NanoML {why}")
        return False
    return True


class _PublicTree:
    """A tree written by uproot's public functions, which take no titles, and no types of counters."""

    def __init__(
        self, directory: Any, name: str, types: Mapping[str, object], collections: Mapping[str, Sequence[Branch]]
    ) -> None:
        self._collections = collections
        self._tree = directory.mktree(name, types, title=name)

    def fill(self, columns: Mapping[str, Array | Lists]) -> None:
        """Write a basket of each branch, by the names of all branches with counters."""
        rest = dict(columns)
        for name, members in self._collections.items():
            del rest[f"n{name}"]
            lists: list[Any] = [rest.pop(branch.name) for branch in members]
            fields = dict(zip([branch.field for branch in members], [each.array() for each in lists]))
            rest[name] = lists[0].array() if _is_single(members) else ak.zip(fields)
        self._tree.extend(rest)


class _NTuple:
    """An RNTuple, by uproot's private classes or its public functions: numbers, fixed arrays, lists, and the counters of collections.

    Each list is a field of its own, such as `Muon_pt`: ROOT, uproot and coffea then find what they find in a TTree.
    """

    def __init__(
        self,
        directory: Any,
        name: str,
        branches: Mapping[str, Branch],
        flat: Mapping[str, Branch],
        collections: Mapping[str, Sequence[Branch]],
        is_private: bool,
    ) -> None:
        counters = {f"n{each}": branches.get(f"n{each}", flat_branch(f"n{each}", "int32")) for each in collections}
        members = {branch.name: branch for each in collections.values() for branch in each}
        self._branches = {**counters, **flat, **members}
        form = ak.forms.RecordForm([_form(branch) for branch in self._branches.values()], list(self._branches))
        self._rows: Any = None
        if is_private:
            from MLTools.NanoML.rootio.ntuple.rows import new_rows

            self._rows, self._sink = new_rows(directory, name, form)
        else:
            self._ntuple = directory.mkrntuple(name, form)

    def fill(self, columns: Mapping[str, Array | Lists]) -> None:
        """Write a cluster, by the names of all branches with counters."""
        found = {name: of_type(columns[name], np.dtype(branch.dtype)) for name, branch in self._branches.items()}
        if self._rows is not None:
            self._rows.fill(self._sink, list(found.values()))
        else:
            layouts = [_layout(values, self._branches[name]) for name, values in found.items()]
            self._ntuple.extend(ak.Array(ak.contents.RecordArray(layouts, list(found))))


def _is_single(members: Sequence[Branch]) -> bool:
    """Whether a collection is one branch with the name of the collection."""
    return members[0].collection == members[0].name


def _collections(branches: Mapping[str, Branch]) -> dict[str, list[Branch]]:
    """The jagged branches of each collection."""
    found: dict[str, list[Branch]] = {}
    for branch in branches.values():
        if branch.is_jagged:
            found.setdefault(branch.collection or branch.name, []).append(branch)
    return found


def _form(branch: Branch) -> ak.forms.Form:
    title = {"__doc__": branch.title} if branch.title else {}
    numbers = ak.forms.NumpyForm(str(branch.dtype))
    if branch.is_jagged:
        return ak.forms.ListOffsetForm("i64", numbers, parameters=title)
    if branch.is_fixed:
        return ak.forms.RegularForm(numbers, branch.size, parameters=title)
    return ak.forms.NumpyForm(str(branch.dtype), parameters=title)


def _layout(values: Array | Lists, branch: Branch) -> ak.contents.Content:
    title = {"__doc__": branch.title} if branch.title else {}
    if isinstance(values, Lists):
        return ak.contents.ListOffsetArray(values.offsets, ak.contents.NumpyArray(values.numbers), parameters=title)
    if branch.is_fixed:
        return ak.contents.RegularArray(ak.contents.NumpyArray(values.reshape(-1)), branch.size, parameters=title)
    return ak.contents.NumpyArray(values, parameters=title)
