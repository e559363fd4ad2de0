from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import uproot
import uproot.writing._cascade as cascade
import uproot.writing._cascadetree as cascadetree
from hypothesis import example, given, settings
from hypothesis import strategies as st

from MLTools.NanoML.rootio import nanowriter, rootfile, roottree
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Lists
from MLTools.NanoML.rootio.nanowriter import NanoTree
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.rootio.roottree import RootTree
from MLTools.NanoML.rootio.ttree import OtherTreeError, StoredBranch, StoredBranches
from services.data import embedded_baskets


def stored(path: Path, tree: str = "Events") -> tuple[bytes, int]:
    """A tree, and the length of its key."""
    with uproot.open(path) as file:
        key = file.key(tree)
        chunk, cursor = key.get_uncompressed_chunk_cursor()
        return bytes(chunk.get(0, key.data_uncompressed_bytes, cursor, {})), key.fKeylen


def parsed(content: bytes, key_length: int) -> dict[str, StoredBranch | None]:
    """The branches of a tree; None are those that are left to uproot."""
    return dict(StoredBranches(content, key_length, lambda _: None))


def written(path: Path, types: dict[str, Any], arrays: dict[str, Any]) -> Path:
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", types, title="events")
        for _ in range(12):  # more baskets than uproot has room for in the beginning
            tree.extend(arrays)
    return path


def test_arrays_of_fixed_size_and_all_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    types: dict[str, Any] = {f"x{kind.replace('?', 'b')}": np.dtype(kind) for kind in kinds}
    types.update(three=np.dtype(("f4", (3,))), matrix=np.dtype(("i4", (2, 3))), lists="var * float64")
    arrays: dict[str, Any] = {name: np.zeros(2, kind) for name, kind in list(types.items())[: len(kinds)]}
    arrays.update(three=np.ones((2, 3), "f4"), matrix=np.ones((2, 2, 3), "i4"), lists=[[1.0], []])
    path = written(tmp_path / "a.root", types, arrays)
    assert None not in parsed(*stored(path)).values()
    with RootFile(path) as file:
        found = dict(file.branches)
        three = file.read(["three"])["three"].to_list()
    assert three == [[1, 1, 1]] * 24
    monkeypatch.setattr(rootfile, "StoredBranches", Mock(side_effect=OtherTreeError))
    with RootFile(path) as file:
        assert found == dict(file.branches)


def test_baskets_within_the_tree_are_left_to_uproot() -> None:
    assert set(parsed(*stored(embedded_baskets.PATH)).values()) == {None}
    with RootFile(embedded_baskets.PATH) as file:
        assert file.branches["Muon_pt"].collection == "Muon"
        expected = [embedded_baskets.muon_pts(event) for event in range(embedded_baskets.EVENTS)]
        assert file.read(["Muon_pt"])["Muon_pt"].tolist() == expected


@settings(max_examples=60)
@given(data=st.data())
def test_bytes_that_are_no_tree_are_left_to_uproot(sample: Path, data: st.DataObject) -> None:
    whole, key_length = stored(sample / "WZTo3LNu" / "WZTo3LNu_0.root", "Runs")
    names = list(parsed(whole, key_length))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with suppress(OtherTreeError):
        assert list(parsed(whole[:cut], key_length)) == names  # what comes after the branches is not read
    content = bytearray(whole)
    content[cut] ^= data.draw(st.integers(1, 255))
    with suppress(OtherTreeError):
        parsed(bytes(content), key_length)


def test_baskets_that_are_not_in_the_file_yet_are_left_to_uproot(sample: Path) -> None:
    content, key_length = stored(sample / "WZTo3LNu" / "WZTo3LNu_0.root")
    whole = parsed(content, key_length)
    first = next(iter(whole.values()))
    assert first is not None
    entries = first.entries.tobytes()
    last = content.index(entries) + len(entries) - 1
    other = parsed(content[:last] + b"\1" + content[last + 1 :], key_length)
    assert [name for name in whole if whole[name] is None] == []
    assert [name for name in other if other[name] is None] == [first.name]


TYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
Header = tuple[bytes, int, list[tuple[int, int, int]]]


@contextmanager
def uproot_too() -> Iterator[tuple[list[Header], list[Header]]]:
    """Whenever a header is written, uproot writes it too; both are noted, with the places in it."""
    ours: list[Header] = []
    uproots: list[Header] = []
    write, add = RootTree.write_anew, cascade.Directory.add_object
    headers: list[bytes] = []

    def added(self: Any, sink: Any, kind: str, name: str, title: str, content: bytes, *args: Any, **kwargs: Any) -> Any:
        headers.append(content)
        return add(self, sink, kind, name, title, content, *args, **kwargs)

    def noted(tree: Any) -> Header:
        names = ("metadata_start", "basket_metadata_start", "tleaf_reference_number")
        branches = [branch for branch in tree._branch_data if branch["kind"] != "record"]
        return (headers[-1], tree._metadata_start, [tuple(branch[name] for name in names) for branch in branches])  # type: ignore[misc]

    def both(self: Any, sink: Any) -> None:
        write(self, sink)
        ours.append(noted(self))
        cascadetree.Tree.write_anew(self, sink)
        uproots.append(noted(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cascade.Directory, "add_object", added)
        patch.setattr(RootTree, "write_anew", both)
        yield ours, uproots


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Branch]:
    texts = st.one_of(st.text("µ abc[]/", max_size=9), st.sampled_from([n * "x" for n in (253, 254, 255, 256, 700)]))
    branches = {}
    for number in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["flat", "fixed", "jagged"]))
        collection = draw(st.sampled_from(["Jet", "Tau" * 90])) if kind == "jagged" else None
        name = f"{collection}_{number}" if collection else f"b{number}{draw(st.sampled_from(['', 260 * 'n']))}"
        size = draw(st.integers(1, 5)) if kind == "fixed" else 1
        branches[name] = Branch(name, draw(st.sampled_from(TYPES)), kind, draw(texts), collection, "", size)
        if collection and draw(st.booleans()):
            counter = f"n{collection}"
            branches[counter] = Branch(counter, "uint32", "flat", draw(texts), None, "")
    return branches


def rows(branches: dict[str, Branch], count: int) -> dict[str, Any]:
    import awkward as ak

    lists = np.arange(count) % 3
    arrays: dict[str, Any] = {}
    for name, branch in branches.items():
        if branch.is_jagged:
            arrays[name] = ak.unflatten(np.ones(lists.sum(), branch.dtype), lists)
        else:
            arrays[name] = np.ones((count, branch.size) if branch.is_fixed else count, branch.dtype)
    return arrays


@settings(max_examples=15)
@given(trees(), st.integers(0, 23))
def test_the_header_is_as_uproot_makes_it(branches: dict[str, Branch], baskets: int) -> None:
    with uproot_too() as (ours, uproots), pytest.MonkeyPatch.context() as patch:
        patch.setattr(nanowriter, "_ROWS_PER_BASKET", 2)
        file = uproot.recreate(io.BytesIO())
        tree = NanoTree(file, "Events", branches)
        for _ in range(baskets):
            tree.extend(rows(branches, 2))
        assert ours == uproots
        assert len(ours) == (1 if baskets < 10 else 2) or baskets == 10  # there is room for ten at first
        file.close()


def written_tree(branches: dict[str, Branch], baskets: int, patch: pytest.MonkeyPatch) -> bytes:
    """A file of so many baskets, made at some time."""
    patch.setattr(nanowriter, "_ROWS_PER_BASKET", 2)
    for module in (roottree, uproot._util):
        patch.setattr(module, "datetime_to_code", lambda _: 1_234_567_890)
    stream = io.BytesIO()
    file = uproot.recreate(stream, compression=uproot.ZLIB(1), uuid_function=lambda: uuid.UUID(int=1))
    tree = NanoTree(file, "Events", branches)
    for _ in range(baskets):
        tree.extend(rows(branches, 3))
    return stream.getvalue()


def extend_by_uproot(tree: RootTree, file: Any, arrays: Mapping[str, Any]) -> None:
    """Write baskets by uproot, and what is free once: what it wrote before may be left over between records."""

    def quietly(write: Callable[..., Any], *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tree._freesegments, "write", lambda _: None)
            patch.setattr(file.sink, "set_file_length", lambda _: None)  # it is not known, then
            return write(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_np_basket", "write_jagged_basket"):
            patch.setattr(tree, name, partial(quietly, getattr(tree, name)))
        file._trees[tree._key.seek_location] = tree  # it looks for it there
        cascadetree.Tree.extend(tree, file, file.sink, MappingProxyType(arrays))
    tree._freesegments.write(file.sink)
    file.sink.set_file_length(tree._freesegments.fileheader.end)


_ODD_TYPES = {"b0": "bool", "b1" + 260 * "n": "bool", "b2": "bool", "b3": "int64", "b4" + 260 * "n": "int64"}
ODD = {name: Branch(name, dtype, "flat", "", None, "") for name, dtype in _ODD_TYPES.items()}
"""Their second baskets go into what was left free, all but some bytes."""


@settings(max_examples=15)
@given(trees(), st.integers(1, 13))
@example(ODD, 2)
def test_baskets_are_as_uproot_makes_them(branches: dict[str, Branch], baskets: int) -> None:
    def extended(self: RootTree, file: Any, columns: Mapping[str, Any]) -> None:
        arrays: dict[str, Any] = {}
        for name, values in columns.items():
            if not isinstance(values, Lists):
                arrays[name] = values
                continue
            branch = branches[name]
            arrays.setdefault(branch.collection, {})[branch.field] = values.array()
        extend_by_uproot(self, file, arrays)

    with pytest.MonkeyPatch.context() as patch:
        ours = written_tree(branches, baskets, patch)
        patch.setattr(RootTree, "fill", extended)
        assert ours == written_tree(branches, baskets, patch)


def test_columns_that_do_not_fit_are_named() -> None:
    y = Branch("y", "float32", "fixed", "", None, "", 2)
    branches = {"x": Branch("x", "float32", "flat", "", None, ""), "y": y}
    file = uproot.recreate(io.BytesIO())
    tree = NanoTree(file, "Events", branches)
    with pytest.raises(ValueError, match="y has 3 entries, where others have 2"):
        tree._tree.fill({"x": np.ones(2), "y": np.ones((3, 2))})
    with pytest.raises(ValueError, match=r"y has the shape \(3,\), not \(2,\)"):
        tree._tree.fill({"x": np.ones(2), "y": np.ones((2, 3))})
