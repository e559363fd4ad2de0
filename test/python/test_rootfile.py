from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.lists import Lists
from MLTools.NanoML.rootfile import RootFile
from services.nanoaod import can_write_rntuple


def test_files_are_described_and_read_as_uproot_does(nano_file: Path) -> None:
    with RootFile(nano_file) as file, uproot.open(nano_file) as plain:
        tree = plain["Events"]
        assert file.entries == tree.num_entries
        # of an RNTuple uproot also lists each collection, under a name of its own
        assert list(file.branches) == [name for name in tree.keys(recursive=False) if name[0] != "_"]
        assert {branch.shape for branch in file.branches.values()} <= {"flat", "jagged"}
        assert file.branch("Muon_pt").collection == "Muon"
        assert file.branch("Electron_charge").field == "charge"
        names = ["run", "event", "Muon_pt", "Electron_charge", "nJet"]
        for key, array in file.read(names, 3, 17).items():
            expected = tree[key].array(entry_start=3, entry_stop=17)
            assert ak.to_list(array) == ak.to_list(expected)
            if not (file.is_rntuple and key == "nJet"):  # uproot reads all counters as int64
                assert str(ak.type(array)) == str(ak.type(expected))


def test_plain_branches_are_read_without_awkward(sample: Path, tmp_path: Path) -> None:
    with RootFile(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        names = ["event", "MET_pt", "nMuon", "Muon_pt"]
        arrays, found = file.read(names, 3, 50), file.read_plain(names, 3, 50)
    assert [type(values) for values in found.values()] == [np.ndarray, np.ndarray, np.ndarray, Lists]
    lists = found["Muon_pt"]
    assert isinstance(lists, Lists)
    assert lists.array().tolist() == arrays["Muon_pt"].tolist()
    assert all(np.array_equal(found[name], arrays[name]) for name in names[:3])
    with uproot.recreate(tmp_path / "fixed.root") as made:
        made.mktree("Events", {"legs": ("i2", (3,))}).extend({"legs": np.ones((2, 3), "i2")})
    with RootFile(tmp_path / "fixed.root") as file:
        assert isinstance(file.read_plain(["legs"])["legs"], ak.Array)


def test_missing_momentum_is_found_in_every_version(made_files: dict[str, Path]) -> None:
    with RootFile(made_files["made_v15_mc"]) as file:
        assert file.name_of("MET_pt") == "PFMET_pt"
        assert list(file.read(["MET_pt"])) == ["MET_pt"]


@pytest.mark.parametrize(
    ("files", "ntuple_name", "tree_name"),
    [
        ("made_files", "made_v9_mc_rntuple", "made_v9_mc"),
        (
            "real_files",
            "nano_v6_mc_dy_rntuple",
            "nano_v6_mc_dy",
        ),  # with collections that uproot does not write
    ],
)
def test_an_rntuple_reads_as_the_tree_of_the_same_events(
    request: pytest.FixtureRequest, files: str, ntuple_name: str, tree_name: str
) -> None:
    if files == "made_files" and not can_write_rntuple():
        pytest.skip(f"uproot {uproot.__version__} writes no RNTuple")
    paths = request.getfixturevalue(files)
    path = paths[ntuple_name]
    if not hasattr(uproot.open(path)["Events"], "num_entries"):
        with pytest.raises(NanoMLError, match="newer uproot"):
            RootFile(path)
        pytest.skip(f"uproot {uproot.__version__} reads no RNTuple")
    with RootFile(path) as ntuple, RootFile(paths[tree_name]) as tree:
        assert ntuple.is_rntuple
        assert set(ntuple.branches) == set(tree.branches)
        names = ["run", "event", "genWeight", "nMuon", "Muon_pt", "Jet_nMuons", "HLT_IsoMu24"]
        first, second = ntuple.read(names, 1, 39), tree.read(names, 1, 39)
        for name in names:
            assert ak.to_list(first[name]) == ak.to_list(second[name])
            assert str(ak.type(first[name])) == str(ak.type(second[name]))
            assert ntuple.branch(name).dtype == tree.branch(name).dtype
            assert ntuple.branch(name).collection == tree.branch(name).collection


def test_a_missing_branch_is_named_with_the_file_and_a_guess(sample: Path) -> None:
    path = sample / "WZTo3LNu" / "WZTo3LNu_0.root"
    with (
        RootFile(path) as file,
        pytest.raises(NanoMLError, match=r'WZTo3LNu_0.root: has no branch Muon_ptt. Did you mean "Muon_pt"'),
    ):
        file.read(["Muon_ptt"])


def _bad_files(directory: Path, sample: Path) -> dict[str, tuple[Path, str]]:
    good = (sample / "WZTo3LNu" / "WZTo3LNu_0.root").read_bytes()
    content = {
        "text": b"This is not a ROOT file.\n",
        "begins like one": b"root:x:0:0:root:/root:/bin/bash\n",
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "header": good[:80],
    }
    bad = {}
    for name, data in content.items():
        path = directory / f"{name}.root"
        path.write_bytes(data)
        bad[name] = path
    return {
        "text": (bad["text"], "is not a ROOT file"),
        "begins like one": (bad["begins like one"], "truncated or damaged"),
        "empty": (bad["empty"], r"is empty \(0 bytes\)"),
        "truncated": (bad["truncated"], "truncated or damaged"),
        "header": (bad["header"], "truncated or damaged"),
        "absent": (directory / "absent.root", "no such file"),
        "directory": (directory, "is a directory"),
    }


def test_bad_files_give_one_message_each(tmp_path: Path, sample: Path) -> None:
    for path, message in _bad_files(tmp_path, sample).values():
        with pytest.raises(NanoMLError, match=message) as caught:
            RootFile(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_tree_is_named_with_what_there_is(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Other", {"x": "f4"}).extend({"x": np.ones(3, "f4")})
    with pytest.raises(NanoMLError, match=r"has no tree `Events`. It has: Other \(TTree\)"):
        RootFile(tmp_path / "a.root")


def test_damage_in_the_middle_of_a_file_shows_when_it_is_read(tmp_path: Path, sample: Path) -> None:
    content = bytearray((sample / "WZTo3LNu" / "WZTo3LNu_0.root").read_bytes())
    with uproot.open(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        basket = file["Events"]["Muon_pt"].member("fBasketSeek")[0]
    content[basket + 100 : basket + 400] = bytes(300)
    (tmp_path / "damaged.root").write_bytes(content)
    with (
        RootFile(tmp_path / "damaged.root") as file,
        pytest.raises(NanoMLError, match="damaged.root: cannot be read"),
    ):
        file.read(["Muon_pt"])


def test_an_unsupported_type_is_named(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        try:
            file.mktree("Events", {"word": "string", "x": "f4"}).extend(
                {"word": ["a", "b"], "x": np.ones(2, "f4")}
            )
        except NotImplementedError:
            pytest.skip(f"uproot {uproot.__version__} writes no strings")
    with RootFile(tmp_path / "a.root") as file:
        assert file.branches["word"].shape == "other"
        with pytest.raises(NanoMLError, match="word is of type .* leave it out"):
            file.read(["word"])
