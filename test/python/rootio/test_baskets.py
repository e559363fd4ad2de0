from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio import baskets, compression
from MLTools.NanoML.rootio.baskets import Begins, PlainBranch, Take, from_descriptor
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.compression import Zlib, compression_of, fast_deflate
from MLTools.NanoML.rootio.lists import Lists
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from services.arrays import same

CODECS = {"none": None, "zlib": uproot.ZLIB(1), "lzma": uproot.LZMA(1), "lz4": uproot.LZ4(1), "zstd": uproot.ZSTD(1)}


@contextmanager
def taken_from(path: Path) -> Iterator[Take]:
    number = os.open(path, os.O_RDONLY)
    try:
        yield from_descriptor(number)
    finally:
        os.close(number)


def made(path: Path, codec: str, sizes: list[int]) -> Path:
    """A tree of several baskets, one for each of `sizes`."""
    random = np.random.default_rng(1)
    with uproot.recreate(path, compression=CODECS[codec]) as file:
        tree = file.mktree("Events", {"x": "f4", "on": "?", "n": "u8", "jet": "var * float32", "id": "var * uint8"})
        for size in sizes:
            counts = random.integers(0, 4, size)
            total = int(counts.sum())
            numbers = {"x": random.normal(size=size).astype("f4"), "on": random.random(size) < 0.5}
            numbers["n"] = random.integers(0, 2**63, size, dtype="u8")
            more = {"jet": random.integers(0, 5, total).astype("f4"), "id": random.integers(0, 255, total).astype("u1")}
            tree.extend({**numbers, **{name: ak.unflatten(values, counts) for name, values in more.items()}})
    return path


@pytest.mark.parametrize("codec", CODECS)
def test_every_range_is_what_uproot_reads(tmp_path: Path, codec: str) -> None:
    if codec in ("lz4", "zstd"):
        pytest.importorskip({"lz4": "lz4", "zstd": "zstandard"}[codec])
    path = made(tmp_path / "a.root", codec, [5, 1, 7, 30])

    @settings(max_examples=10)
    @given(st.integers(0, 43), st.integers(0, 43))
    def check(one: int, other: int) -> None:
        start, stop = sorted((one, other))
        with uproot.open(path) as file, taken_from(path) as take:
            for branch in file["Events"].branches:
                plain = PlainBranch.of(branch)
                assert plain is not None
                found = plain.read(take, start, stop)
                assert found is not None
                if start < stop:
                    assert same(found, branch.array(entry_start=start, entry_stop=stop))
                assert len(found) == stop - start

    check()


def test_lists_of_many_bytes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "a.root", "zlib", [5, 1, 7, 30])
    with uproot.open(path) as file, taken_from(path) as take:
        plain = PlainBranch.of(file["Events"]["jet"])
        assert plain is not None
        found = plain.read(take, 3, 40)
        monkeypatch.setattr(baskets, "_LARGE", 0)  # as if they had more than 2 GB
        again = plain.read(take, 3, 40)
        assert found is not None
        assert again is not None
        assert isinstance(again, Lists)
        assert same(found, again.array())
        assert same(found, file["Events"]["jet"].array(entry_start=3, entry_stop=40))


@pytest.mark.parametrize(("start", "stop"), [(0, 1400), (3, 50)])
def test_branches_of_one_counter_share_their_lists(sample: Path, start: int, stop: int) -> None:
    path = sample / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root"
    with uproot.open(path) as file, taken_from(path) as take:
        names = ("Muon_pt", "Muon_charge", "Electron_pt")
        wanted = file["Events"].arrays(names, entry_start=start, entry_stop=stop, how=dict)
        branches = {name: PlainBranch.of(file["Events"][name]) for name in names}
        known: dict[str, Begins] = {}
        found: dict[str, Any] = {name: it.read(take, start, stop, known) for name, it in branches.items() if it}
        assert list(known) == ["nMuon", "nElectron"]
        assert found["Muon_pt"].offsets is found["Muon_charge"].offsets
        for name in names:
            assert same(found[name], wanted[name])
        # lists that do not fit to the numbers are not taken
        charge = branches["Muon_charge"]
        assert charge is not None
        again = charge.read(take, start, stop, {"nMuon": known["nElectron"]})
        assert again is not None
        assert same(again, wanted["Muon_charge"])


def test_what_is_not_plain_is_left_to_uproot(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        tree = file.mktree("Events", {"fixed": ("f4", (3,)), "plain": "i4"})
        tree.extend({"fixed": np.ones((2, 3), "f4"), "plain": np.arange(2, dtype="i4")})
    with uproot.open(tmp_path / "a.root") as file:
        assert [PlainBranch.of(branch) is None for branch in file["Events"].branches] == [True, False]


def test_a_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    path = made(tmp_path / "a.root", "zlib", [1000, 1000])
    with RootFile(path) as file:
        os.truncate(path, 3000)
        with pytest.raises(NanoMLError, match=r"a.root: cannot be read \("):
            file.read(["jet"])


def read_by_uproot(path: Path) -> tuple[ak.Array, bool] | None:
    """The lists as uproot reads them, and whether they are as long as their counter says; None if it cannot."""
    try:
        with uproot.open(path) as file:
            found, counts = file["Events"]["jet"].array(), file["Events"]["njet"].array()
    except Exception:
        return None
    lengths = np.asarray(found.layout.stops) - found.layout.starts
    return found, lengths.tolist() == counts.tolist()


@pytest.mark.parametrize("codec", ["none", "lz4", "zlib"])
def test_damage_is_refused_where_uproot_refuses_it(tmp_path: Path, codec: str) -> None:
    if codec == "lz4":
        pytest.importorskip("lz4")
    # few events are not made shorter by compression; the lists begin in the last bytes of a basket
    sizes, step, last = ([20, 30], 29, 80) if codec == "none" else ([400, 30], 97, 0)
    path = made(tmp_path / "a.root", codec, sizes)
    good = path.read_bytes()
    with uproot.open(path) as file:
        branch = file["Events"]["jet"]
        begin, size = (int(branch.member(name)[0]) for name in ("fBasketSeek", "fBasketBytes"))
    random, failed = np.random.default_rng(1), 0
    # but for the size of the content, by which uproot makes arrays of gigabytes
    end = begin + size
    for place in [*range(begin, begin + 6), *range(begin + 10, end, step), *range(end - last, end, 3)]:
        path.write_bytes(good[:place] + bytes([good[place] ^ (1 << random.integers(8))]) + good[place + 1 :])
        wanted = read_by_uproot(path)
        with RootFile(path) as file:
            try:
                found = file.read(["jet"])["jet"]
            except NanoMLError:
                found = None
        if found is None:
            failed += 1
            assert wanted is None or not wanted[1]
        else:
            assert wanted is not None
            assert ak.is_valid(found)  # no list ends before it begins
            assert same(found, wanted[0])
    assert failed > 3


def test_lists_of_other_lengths_than_those_of_another_branch_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=None) as file:
        lists = ak.zip({"pt": ak.Array([[1.0, 2.0], [], [3.0]]), "id": ak.Array([[1, 2], [], [3]])})
        file.mktree("Events", {"Muon": lists.type}).extend({"Muon": lists})
    with uproot.open(path) as file:
        branch = file["Events"]["Muon_pt"]
        place = int(branch.member("fBasketSeek")[0]) + branch.basket(0).member("fLast")
    content = bytearray(path.read_bytes())
    content[place + 8 + 3] -= 8  # the second list begins a number earlier
    path.write_bytes(content)
    assert uproot.open(path)["Events"]["Muon_pt"].array().tolist() == [[1], [2], [3]]
    with RootFile(path) as file:
        assert file.read(["Muon_id"])["Muon_id"].tolist() == [[1, 2], [], [3]]
        with pytest.raises(NanoMLError, match="the lists of Muon_pt do not have the lengths that nMuon says"):
            file.read(["Muon_id", "Muon_pt"])


@pytest.mark.parametrize("name", ["x", "jet"])
def test_baskets_that_do_not_fit_to_the_entries_are_damaged(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "a.root", "zlib", [5, 7])
    with uproot.open(path) as file, taken_from(path) as take:
        plain = PlainBranch.of(file["Events"][name])
        assert plain is not None
        longer = dataclasses.replace(plain, entries=plain.entries + np.arange(3))
        with pytest.raises(ValueError, match="no basket of 6 entries at byte"):
            longer.read(take, 0, 14)


def test_a_block_that_is_not_as_long_as_it_says_is_damaged(tmp_path: Path) -> None:
    path = made(tmp_path / "a.root", "zlib", [1000])
    with uproot.open(path) as file:
        plain = PlainBranch.of(file["Events"]["on"])
    assert plain is not None
    content = bytearray(path.read_bytes())
    block = content.index(b"ZL", int(plain.seek[0]))
    content[block + 6] ^= 1  # the lowest byte of the decompressed length
    path.write_bytes(content)
    with taken_from(path) as take, pytest.raises(ValueError, match="bytes where .* should be"):
        plain.read(take, 0, 1000)


def test_blocks_of_more_than_64_kb(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root", compression=uproot.ZLIB(1)) as file:
        file.mktree("Events", {"x": "f8"}).extend({"x": np.arange(20_000) // 1000})
    with uproot.open(tmp_path / "a.root") as file, taken_from(tmp_path / "a.root") as take:
        plain = PlainBranch.of(file["Events"]["x"])
        assert plain is not None
        assert plain.size[0] < 40_000  # so it is compressed
        assert same(plain.read(take, 0, 20_000), file["Events"]["x"].array())


CONTENT = np.random.default_rng(1).normal(50, 20, 100_000).astype(">f4").tobytes()


def test_without_isal_zlib_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "isal_zlib", None)
    assert fast_deflate(CONTENT, 1) is None
    assert Zlib(5).compress(CONTENT) == zlib.compress(CONTENT, 5)


@pytest.mark.parametrize("level", [1, 5, 6, 9])
def test_zlib_inflates_what_either_has_deflated(level: int) -> None:
    pytest.importorskip("isal")
    made = Zlib(level).compress(CONTENT)
    assert zlib.decompress(made) == CONTENT
    assert (made == zlib.compress(CONTENT, level)) is (level > 5)
    assert len(made) < 1.03 * len(zlib.compress(CONTENT, 5))
    assert zlib.decompress(Zlib(level).compress(memoryview(CONTENT))) == CONTENT


def test_blocks_of_many_threads_are_inflated_to_what_they_were() -> None:
    pytest.importorskip("isal")
    contents = [np.random.default_rng(seed).normal(50, 20, 50_000).astype(">f4").tobytes() for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            made = threads.map(lambda content: fast_deflate(content, 1), contents)
            assert [zlib.decompress(each or b"") for each in made] == contents


def test_files_are_written_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("isal")
    levels = []

    def recorded(content: Any, level: int) -> bytes | None:
        levels.append(level)
        return fast_deflate(content, level)

    monkeypatch.setattr(compression, "fast_deflate", recorded)
    branches = {"x": Branch("x", "float32", "flat", "", None, "")}
    values = np.frombuffer(CONTENT, ">f4").astype(np.float32)
    with NanoWriter(tmp_path / "a.root", branches, "ZLIB:5") as writer:
        writer.events.extend({"x": values})
        writer.finish()
    assert set(levels) == {2}
    with uproot.open(tmp_path / "a.root") as file:
        assert file["Events/x"].array().tolist() == values.tolist()


@pytest.mark.parametrize("text", ["ZIP:5", "ZLIB", "ZLIB:five", "ZLIB:50", ""])
def test_a_compression_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ALGORITHM:LEVEL"):
        compression_of(text)
