from __future__ import annotations

import gc
import struct
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import kind_of
from MLTools.NanoML.rootio import branches
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.lists import Lists
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.rootio.ttree import StoredBranch, StoredBranches
from services.arrays import parts
from services.nanoaod import can_write_rntuple

T = TypeVar("T")


def tried(action: Callable[[], T], *refusals: type[Exception]) -> T | None:
    """What `action` returns; None if it raises one of these."""
    try:
        return action()
    except refusals:
        return None


def described(branch: Any, names: set[str]) -> Branch:
    found = tried(lambda: branches._describe(branch, names), Exception)
    return found or Branch(branch.name, None, "other", "", None, "unknown")


def check_stored(found: Mapping[str, Any], tree: Any) -> None:
    """Compare branches that were read from the bytes of a tree with what uproot says about them."""
    if not isinstance(found, StoredBranches):  # the tree is left to uproot
        assert tree.name != "Events"
        return
    assert list(found) == [branch.name for branch in tree.branches]
    for branch in tree.branches:
        stored, counter, count = found[branch.name], branch.count_branch, branch.num_baskets
        if not isinstance(stored, StoredBranch):  # in files of CMS, it has baskets within the tree
            assert tree.name != "Events" or branch.embedded_baskets or counter.embedded_baskets
            continue
        assert (stored.title, stored.uncompressed_bytes) == (branch.title, branch.uncompressed_bytes)
        assert stored.counter == (None if counter is None else counter.name)
        assert stored.entry_offsets == branch.entry_offsets
        assert stored.seek.tolist() == branch.member("fBasketSeek")[:count].tolist()
        assert stored.size.tolist() == branch.member("fBasketBytes")[:count].tolist()


def check_tree(path: Path, name: str, tree: Any) -> int:
    """Compare what is read of a tree with what uproot reads of it; how many branches were compared."""
    branches: dict[str, Any] = {}
    for branch in tree.branches:
        branches.setdefault(branch.name, branch)
    with RootFile(path, name) as file:
        assert file.entries == tree.num_entries
        check_stored(file._objects, tree)
        assert dict(file.branches) == {key: described(each, set(branches)) for key, each in branches.items()}
        names = [key for key, branch in file.branches.items() if branch.dtype is not None]
        wanted = tried(lambda: tree.arrays(names, how=dict), Exception)
        if wanted is None:  # because of at least one of them
            wanted = {key: tried(branches[key].array, Exception) for key in names}
        readable = [key for key in names if wanted[key] is not None]
        found = file.read_plain(readable)
    assert [key for key in readable if parts(found[key]) != parts(wanted[key])] == []
    for key in set(names) - set(readable):
        with RootFile(path, name) as file, pytest.raises(NanoMLError, match="cannot be read"):
            file.read([key])
    return len(names)


def check_file(path: Path) -> int:
    """As `check_tree`, for all trees of a file; both refuse what uproot cannot read."""
    try:
        opened = uproot.open(path)
    except Exception:
        with pytest.raises(NanoMLError):
            RootFile(path)
        return 0
    compared = 0
    with opened as directory:
        for name, kind in directory.classnames(recursive=False, cycle=False).items():
            if kind not in ("TTree", "TNtuple", "TNtupleD"):
                continue
            tree = tried(lambda name=name: directory[name], Exception)
            if tree is None:
                with pytest.raises(NanoMLError):
                    RootFile(path, name)
            else:
                compared += check_tree(path, name, tree)
    return compared


@pytest.mark.filterwarnings("ignore")
def test_every_tree_reads_as_uproot_reads_it(any_file: Path) -> None:
    check_file(any_file)


def test_branches_of_every_version_are_what_uproot_says_of_them(made_file: Path) -> None:
    with RootFile(made_file) as file, uproot.open(made_file) as plain:
        if file.format == "TTree":
            check_stored(file._objects, plain["Events"])


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


def test_what_was_read_does_not_wait_for_the_garbage_collection(made_files: dict[str, Path]) -> None:
    gc.disable()
    try:
        with RootFile(made_files["made_v9_mc"]) as file:
            file.read(["run"])
        gone = weakref.ref(file)
        del file
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("files", "ntuple_name", "tree_name"),
    [
        ("made_files", "made_v9_mc_rntuple", "made_v9_mc"),
        ("real_files", "nano_v6_mc_dy_rntuple", "nano_v6_mc_dy"),  # with collections that uproot does not write
    ],
)
def test_rntuples_read_as_trees(request: pytest.FixtureRequest, files: str, ntuple_name: str, tree_name: str) -> None:
    if files == "made_files" and not can_write_rntuple():
        pytest.skip(f"uproot {uproot.__version__} writes no RNTuple")
    paths = request.getfixturevalue(files)
    path = paths[ntuple_name]
    if not can_write_rntuple():
        with pytest.raises(NanoMLError, match=r"`Events` is an RNTuple. That takes uproot 5.7"):
            RootFile(path)
        pytest.skip(f"uproot {uproot.__version__} reads no RNTuple")
    with RootFile(path) as ntuple, RootFile(paths[tree_name]) as tree:
        assert ntuple.format == "RNTuple"
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
    refused = pytest.raises(NanoMLError, match=r'WZTo3LNu_0.root: has no branch Muon_ptt. Did you mean "Muon_pt"')
    with RootFile(path) as file, refused:
        file.read(["Muon_ptt"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda good: b"This is not a ROOT file.\n", "is not a ROOT file"),
        (lambda good: b"root:x:0:0:root:/root:/bin/bash\n", "truncated or damaged"),
        *((lambda good: b"", r"is empty \(0 bytes\)"), (lambda good: good[: len(good) // 2], "truncated or damaged")),
        *((lambda good: good[:80], "truncated or damaged"), (None, "no such file"), ("a directory", "is a directory")),
    ],
)
def test_bad_files_give_one_message_each(tmp_path: Path, sample: Path, content: Any, message: str) -> None:
    path = tmp_path if content == "a directory" else tmp_path / "bad.root"
    if callable(content):
        path.write_bytes(content((sample / "WZTo3LNu" / "WZTo3LNu_0.root").read_bytes()))
    with pytest.raises(NanoMLError, match=message) as caught:
        RootFile(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_tree_is_named_with_what_there_is(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Other", {"x": "f4"}).extend({"x": np.ones(3, "f4")})
    with pytest.raises(NanoMLError, match=r"has no tree `Events`. It has: Other \(TTree\)"):
        RootFile(tmp_path / "a.root")


def test_uproot_reads_what_our_own_code_has_a_doubt_about(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=None) as made:
        made.mktree("Events", {"x": "f4", "y": "i4"}).extend({"x": np.ones(3, "f4"), "y": np.arange(3)})
    with uproot.open(path) as plain:
        key = plain.key("Events")
        size = int(plain["Events"]["x"].member("fBasketBytes")[0])
    content = path.read_bytes()
    place = content.index(struct.pack(">iiii", size, 0, 0, 0), key.fSeekKey)  # sizes of the baskets
    path.write_bytes(content[:place] + struct.pack(">i", size + 1) + content[place + 4 :])
    with RootFile(path) as file:
        found = file.read_plain(["x", "y"])
    assert isinstance(found["x"], ak.Array)  # as uproot gives it
    assert isinstance(found["y"], np.ndarray)
    assert found["x"].tolist() == [1, 1, 1]


def test_a_version_may_be_negative(tmp_path: Path, sample: Path) -> None:
    content = (sample / "WZTo3LNu" / "WZTo3LNu_0.root").read_bytes()
    path, version = tmp_path / "a.root", struct.unpack(">i", content[4:8])[0]
    path.write_bytes(content[:4] + struct.pack(">i", -version) + content[8:])
    assert kind_of(path) == "root"
    with RootFile(path) as file:
        assert len(file.read(["Muon_pt"])["Muon_pt"]) == file.entries


@pytest.mark.parametrize("lost", [1, 50_000])
def test_a_file_shorter_than_its_header_says_is_damaged(tmp_path: Path, sample: Path, lost: int) -> None:
    content = (sample / "WZTo3LNu" / "WZTo3LNu_0.root").read_bytes()
    path = tmp_path / "a.root"
    path.write_bytes(content[:-lost])
    assert lost > 1 or uproot.open(path)["Events"].num_entries
    with pytest.raises(NanoMLError, match=rf"it has {path.stat().st_size:,} of {len(content):,} bytes"):
        RootFile(path)


def test_of_two_branches_of_one_name_the_first_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=None) as made:
        made.mktree("Events", {"one": "i4", "two": "i4"}).extend({"one": [1, 1], "two": [2, 2]})
    path.write_bytes(path.read_bytes().replace(b"\x03two", b"\x03one"))
    with RootFile(path) as file, uproot.open(path) as plain:
        assert file.read(["one"])["one"].tolist() == plain["Events"]["one"].array().tolist() == [1, 1]


def test_an_unsupported_type_is_named(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        try:
            file.mktree("Events", {"word": "string", "x": "f4"}).extend({"word": ["a", "b"], "x": np.ones(2, "f4")})
        except NotImplementedError:
            pytest.skip(f"uproot {uproot.__version__} writes no strings")
    with RootFile(tmp_path / "a.root") as file:
        assert file.branches["word"].shape == "other"
        with pytest.raises(NanoMLError, match="word is of type .* leave it out"):
            file.read(["word"])
