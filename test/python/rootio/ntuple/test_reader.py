from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio import nanowriter
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Lists
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.ntuple import pages, reader
from MLTools.NanoML.rootio.ntuple.pages import Description
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal import progress
from services.data import cmssw_rntuples
from services.data.cmssw_rntuples import EVENTS, LISTS, RECORDS, event
from services.nanoaod import can_write_rntuple

reads_ntuples = pytest.mark.skipif(not can_write_rntuple(), reason=f"uproot {uproot.__version__} reads no RNTuple")


def expected(start: int = 0, stop: int = EVENTS) -> dict[str, list[Any]]:
    return {name: [event(number)[name] for number in range(start, stop)] for name in event(0)}


@reads_ntuples
@pytest.mark.parametrize("path", [RECORDS, LISTS], ids=["records", "lists"])
def test_rntuples_of_cmssw_have_the_names_and_values_of_a_tree(path: Path) -> None:
    with RootFile(path) as file:
        assert file.format == "RNTuple"
        assert set(file.branches) == set(expected())
        assert {name for name, branch in file.branches.items() if branch.is_jagged} == {
            "PSWeight", "Muon_pt", "Muon_charge", "Muon_tightId",
        }  # fmt: skip
        assert {file.branches[name].collection for name in ("Muon_pt", "Muon_charge")} == {"Muon"}
        assert file.branches["nMuon"].title == "all muons"
        assert file.branches["Muon_charge"].title == "title of charge"
        for start, stop in ((0, EVENTS), (0, 0), (3, 4), (13, 29), (20, EVENTS), (7, 20)):
            found = file.read(expected(), start, stop)
            assert {name: array.tolist() for name, array in found.items()} == expected(start, stop)
        runs, sections = file.other_tree("Runs"), file.other_tree("LuminosityBlocks", ["luminosityBlock"])
        assert runs is not None
        assert sections is not None
        assert runs["genEventSumw"].tolist() == [24, 24]
        assert runs["LHEScaleSumw"].tolist() == [[1.1, 1.0, 0.9]] * 2
        assert {name: array.tolist() for name, array in sections.items()} == {"luminosityBlock": [5, 5]}
        assert "genEventCount" in file.branches_of("Runs")
        assert file.string("tag") == "made for CMSSW"


@reads_ntuples
def test_ranges_end_where_clusters_end_and_no_page_is_decompressed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[tuple[int, int]] = []
    read = reader.numbers_of
    monkeypatch.setattr(reader, "numbers_of", lambda raw, place, *rest: places.append(place) or read(raw, place, *rest))
    names = ["Muon_pt", "event", "MET_pt"]
    with RootFile(RECORDS) as file:
        assert list(file.ranges(names, 25)) == [(0, 20), (20, 40)]
        ranges = list(file.ranges(names, 7))
        assert ranges == [(0, 7), (7, 14), (14, 20), (20, 27), (27, 34), (34, 40)]
        assert file.bytes_per_event(names) == 8 + 4 + 4 + 4 * 1.5
        values = [file.read_plain(names, start, stop) for start, stop in ranges]
        lists = [part["Muon_pt"] for part in values]
        assert all(isinstance(each, Lists) for each in lists)
        assert np.concatenate([part["event"] for part in values]).tolist() == list(range(EVENTS))
    offsets = [place for place in places if places.count(place) > 1]
    assert places
    # where lists end is read from one entry earlier, which may be on the page before
    assert len(offsets) <= 2 * len(ranges)


@reads_ntuples
def test_only_the_pages_of_what_is_asked_for_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int]] = []
    with RootFile(RECORDS) as file:
        assert file._ntuple is not None
        take = file._ntuple._take

        def noted(pieces: Any) -> Any:
            wanted = list(pieces)
            taken.extend(wanted)
            return take(wanted)

        monkeypatch.setattr(file._ntuple, "_take", noted)
        file.read(["MET_pt"], 21, 22)
        assert len(taken) == 1
        taken.clear()
        file.read(["Muon_pt", "event"], 20, EVENTS)
        # what a server is asked for in advance, which is nothing if it is not known what is needed
        assert sorted(file._ntuple.pieces(["Muon_pt", "event"], [(20, EVENTS)])) == sorted(taken)
        assert len(taken) > 2
        assert list(file._ntuple.pieces(["Muon_pt"], [(21, 30)])) == []


@reads_ntuples
def test_a_damaged_page_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "damaged.root"
    branches = {name: Branch(name, "uint32", "flat", "", None, "") for name in ("run", "luminosityBlock")}
    with NanoWriter(path, branches, "ZLIB:5", "RNTuple") as writer:
        writer.events.extend({"run": np.ones(1000, np.uint32), "luminosityBlock": np.arange(1000, dtype=np.uint32)})
        writer.finish()
    with RootFile(path) as file:
        assert file._ntuple is not None
        column = file._ntuple._fields["luminosityBlock"].numbers
        assert column is not None
        [(seek, size)] = file._ntuple._pages_of(0, column).places
    content = bytearray(path.read_bytes())
    content[seek : seek + size] = bytes(size)
    path.write_bytes(content)
    with RootFile(path) as file:
        assert file.read(["run"])["run"].tolist() == [1] * 1000
        with pytest.raises(NanoMLError, match=r"damaged.root: cannot be read \(ValueError: unknown compression"):
            file.read(["luminosityBlock"])


def test_the_files_here_are_those_of_their_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ROOT")
    for name in ("RECORDS", "LISTS"):
        monkeypatch.setattr(cmssw_rntuples, name, tmp_path / f"{name}.root")
    cmssw_rntuples.main()
    for made, kept in ((cmssw_rntuples.RECORDS, RECORDS), (cmssw_rntuples.LISTS, LISTS)):
        with RootFile(made) as one, RootFile(kept) as two:
            assert one.branches == two.branches
            assert {name: array.tolist() for name, array in one.read(one.branches).items()} == expected()


def encoded(values: NDArray[Any], kind: int) -> bytes:
    """As the specification says, number by number."""
    if kind == 0:
        bits = sum(int(value) << place for place, value in enumerate(values))
        return bits.to_bytes(-(-len(values) // 8), "little")
    if kind in pages.PLAIN:
        return values.tobytes()
    size, modulus = values.dtype.itemsize, 1 << 8 * values.dtype.itemsize
    if kind in pages.DELTA:
        whole = [int(value) for value in values]
        numbers = [(value - before) % modulus for before, value in zip([0, *whole], whole)]
    elif kind in pages.ZIGZAG:
        numbers = [2 * int(value) if value >= 0 else -2 * int(value) - 1 for value in values]
    else:
        numbers = [int(value) for value in values.view(f"u{size}")]
    return bytes((number >> 8 * byte) & 255 for byte in range(size) for number in numbers)


@given(st.data(), st.sampled_from(sorted(pages.TYPES)))
def test_pages_of_every_kind_are_decoded(data: st.DataObject, kind: int) -> None:
    dtype = np.dtype(pages.TYPES[kind])
    values = data.draw(arrays(dtype, st.integers(0, 40)))
    raw = encoded(values, kind)
    found = pages.numbers_of(raw, (0, len(raw)), len(values), kind)
    assert pages.bytes_of(values, kind) == raw
    assert found.dtype == dtype
    assert found.tobytes() == values.tobytes()


def compare(path: Path) -> None:
    """All that uproot says of an RNTuple."""
    content = path.read_bytes()
    with uproot.open(path) as file:
        model = file["Events"]
        found = Description.read(model.all_members, lambda seek, size: content[seek : seek + size])
        assert [tuple(field) for field in found.fields] == [
            (each.parent_field_id, each.struct_role, each.field_name, each.type_name, each.field_desc, each.repetition,
             each.source_field_id)
            for each in model.field_records
        ]  # fmt: skip
        columns = [(it.type, it.field_id, it.repr_idx, it.first_element_index) for it in model.column_records]
        assert [tuple(column) for column in found.columns] == columns
        clusters = [(it.num_first_entry, it.num_entries) for it in model.cluster_summaries]
        assert [cluster[:2] for cluster in found.clusters] == clusters
        for cluster, columns in zip(found.clusters, model.page_link_list):
            assert len(cluster.places) == len(columns) > 5
            for number, column in enumerate(columns):
                pages = [(abs(elements), size, seek) for elements, size, seek in cluster.pages(number).tolist()]
                assert pages == [(it.num_elements, it.locator.num_bytes, it.locator.offset) for it in column.pages]


@reads_ntuples
def test_an_rntuple_is_described_as_uproot_describes_it(made_files: dict[str, Path]) -> None:
    for path in (RECORDS, LISTS, made_files["made_v9_mc_rntuple"]):
        compare(path)


@reads_ntuples
def test_one_by_the_importer_of_root_is_described_as_well(real_files: dict[str, Path]) -> None:
    compare(real_files["nano_v6_mc_dy_rntuple"])


@reads_ntuples
@pytest.mark.parametrize("part", ["Header", "Footer"])
def test_each_damage_is_noticed(part: str, tmp_path: Path) -> None:
    with uproot.open(RECORDS) as file:
        members: dict[str, Any] = file["Events"].all_members
    seek, size = members[f"fSeek{part}"], members[f"fNBytes{part}"]
    path = tmp_path / "damaged.root"
    for place in range(seek, seek + size, 41):
        content = bytearray(RECORDS.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(NanoMLError, match="damaged.root: cannot be read"):
            RootFile(path)


ALL_TYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
BRANCHES = {
    **{name: Branch(name, name, "flat", f"a {name}", None, "") for name in ALL_TYPES},
    **{f"Muon_{name}": Branch(f"Muon_{name}", name, "jagged", f"{name} of muons", "Muon", "") for name in ALL_TYPES},
    "nMuon": Branch("nMuon", "uint32", "flat", "number of muons", None, ""),
    "PSWeight": Branch("PSWeight", "float32", "jagged", "weights", "PSWeight", ""),
    "legs": Branch("legs", "int16", "fixed", "three of each", None, "", 3),
}


def some_rows(start: int, count: int) -> dict[str, Any]:
    """Numbers of both signs, and lists of 0 to 3 of them."""
    place = np.arange(start, start + count)
    lists = [[17 * (entry + each) - 99 for each in range(entry % 4)] for entry in place.tolist()]
    found: dict[str, Any] = {name: (37 * place - 500).astype(name) for name in ALL_TYPES}
    found.update({f"Muon_{name}": ak.values_astype(ak.Array([*lists, [0]])[:-1], name) for name in ALL_TYPES})
    found["PSWeight"] = ak.values_astype(ak.Array([[0.5] * (entry % 2) for entry in place.tolist()]), "float32")
    found["legs"] = np.stack([place, -place, 3 * place], axis=1).astype("int16")
    return found


@reads_ntuples
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
    path, parts = tmp_path / "a.root", [some_rows(0, 30), some_rows(30, 1), some_rows(31, 9)]
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
