from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML.rootio import nanowriter
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal import progress
from services.nanoaod import can_write_rntuple

pytestmark = pytest.mark.skipif(not can_write_rntuple(), reason=f"uproot {uproot.__version__} writes no RNTuple")

TYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
BRANCHES = {
    **{name: Branch(name, name, "flat", f"a {name}", None, "") for name in TYPES},
    **{f"Muon_{name}": Branch(f"Muon_{name}", name, "jagged", f"{name} of muons", "Muon", "") for name in TYPES},
    "nMuon": Branch("nMuon", "uint32", "flat", "number of muons", None, ""),
    "PSWeight": Branch("PSWeight", "float32", "jagged", "weights", "PSWeight", ""),
    "legs": Branch("legs", "int16", "fixed", "three of each", None, "", 3),
}


def rows(start: int, count: int) -> dict[str, Any]:
    """Numbers of both signs, and lists of 0 to 3 of them."""
    place = np.arange(start, start + count)
    lists = [[17 * (entry + each) - 99 for each in range(entry % 4)] for entry in place.tolist()]
    found: dict[str, Any] = {name: (37 * place - 500).astype(name) for name in TYPES}
    found.update({f"Muon_{name}": ak.values_astype(ak.Array([*lists, [0]])[:-1], name) for name in TYPES})
    found["PSWeight"] = ak.values_astype(ak.Array([[0.5] * (entry % 2) for entry in place.tolist()]), "float32")
    found["legs"] = np.stack([place, -place, 3 * place], axis=1).astype("int16")
    return found


@pytest.mark.parametrize("is_changed", [False, True], ids=["private classes", "public functions"])
def test_all_types_are_read_as_they_were_written(
    is_changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from MLTools.NanoML.rootio.ntuple import rows as classes

    monkeypatch.setattr(classes, "_KNOWN", "5.7.0")  # so what it writes is read back
    monkeypatch.setattr(progress, "_notes", {})
    if is_changed:
        monkeypatch.setattr(classes.Rows, "__init__", lambda: None)
    nanowriter._overrides.cache_clear()
    path, parts = tmp_path / "a.root", [rows(0, 30), rows(30, 1), rows(31, 9)]
    with NanoWriter(path, BRANCHES, "ZLIB:5", "RNTuple") as file:
        for part in parts:
            file.events.extend(part)
            file.events.flush()
        file.finish()
    nanowriter._overrides.cache_clear()  # other tests write with this uproot
    assert ("NanoML writes RNTuples without checksums (TypeError: " in capsys.readouterr().err) == is_changed
    expected = {name: [value for part in parts for value in ak.to_list(part[name])] for name in parts[0]}
    expected["nMuon"] = [len(values) for values in expected["Muon_int8"]]
    expected["nPSWeight"] = [len(values) for values in expected["PSWeight"]]
    with RootFile(path) as file:
        assert {name: values.tolist() for name, values in file.read(expected).items()} == expected
        for name, branch in BRANCHES.items():
            found = file.branches[name]
            assert (found.dtype, found.shape, found.title, found.collection, found.size) == (
                branch.dtype, branch.shape, branch.title, branch.collection, branch.size,
            )  # fmt: skip
        assert file.branches["nPSWeight"].dtype == "int32"
    with uproot.open(path) as file:
        events = file["Events"]
        assert [cluster.num_entries for cluster in events.cluster_summaries] == [30, 1, 9]
        assert {name: events[name].array().tolist() for name in expected} == expected
        pages = [page for column in events.page_link_list[0] for page in column.pages]
        assert {page.has_checksum for page in pages} == {not is_changed}
