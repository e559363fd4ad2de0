from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from MLTools.NanoML.rootio import rootfile
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.rootio.ttree import StoredBranch, stored_branches
from services.data import embedded_baskets


def parsed(path: Path, tree: str = "Events") -> tuple[int, Mapping[str, StoredBranch]] | None:
    with uproot.open(path) as file:
        key = file.key(tree)
        chunk, cursor = key.get_uncompressed_chunk_cursor()
        return stored_branches(bytes(chunk.get(0, key.data_uncompressed_bytes, cursor, {})), key.fKeylen)


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
    assert parsed(path) is not None
    with RootFile(path) as file:
        found = dict(file.branches)
        three = file.read(["three"])["three"].to_list()
    assert three == [[1, 1, 1]] * 24
    monkeypatch.setattr(rootfile, "stored_branches", lambda *_: None)
    with RootFile(path) as file:
        assert found == dict(file.branches)


def test_baskets_within_the_tree_are_left_to_uproot() -> None:
    assert parsed(embedded_baskets.PATH) is None
    with RootFile(embedded_baskets.PATH) as file:
        assert file.branches["Muon_pt"].collection == "Muon"
        expected = [embedded_baskets.muon_pts(event) for event in range(embedded_baskets.EVENTS)]
        assert file.read(["Muon_pt"])["Muon_pt"].tolist() == expected


@settings(max_examples=200)
@given(data=st.data())
def test_bytes_that_are_no_tree_are_left_to_uproot(sample: Path, data: st.DataObject) -> None:
    with uproot.open(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        key = file.key("Runs")
        chunk, cursor = key.get_uncompressed_chunk_cursor()
        content = bytearray(bytes(chunk.get(0, key.data_uncompressed_bytes, cursor, {})))
    whole = stored_branches(bytes(content), key.fKeylen)
    assert whole is not None
    cut = data.draw(st.integers(0, len(content) - 1))
    shorter = stored_branches(bytes(content[:cut]), key.fKeylen)
    assert shorter is None or list(shorter[1]) == list(whole[1])  # what comes after the branches is not read
    content[cut] ^= data.draw(st.integers(1, 255))
    stored_branches(bytes(content), key.fKeylen)  # raises nothing


def test_baskets_that_are_not_in_the_file_yet_are_left_to_uproot(sample: Path) -> None:
    with uproot.open(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        key = file.key("Events")
        chunk, cursor = key.get_uncompressed_chunk_cursor()
        content = bytes(chunk.get(0, key.data_uncompressed_bytes, cursor, {}))
    whole = stored_branches(content, key.fKeylen)
    assert whole is not None
    entries = next(iter(whole[1].values())).entries.tobytes()
    last = content.index(entries) + len(entries) - 1  # of the first branch
    assert stored_branches(content[:last] + b"\1" + content[last + 1 :], key.fKeylen) is None
