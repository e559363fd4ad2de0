from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from MLTools.NanoML.rootio import rootfile
from MLTools.NanoML.rootio.rootfile import RootFile
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
