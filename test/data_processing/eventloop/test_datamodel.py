from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import pytest

from data_processing.eventloop.input import BranchReader, EventBlock, InputTree, MissingBranchError
from data_processing.eventloop.loading import standing_in
from data_processing.eventloop.postprocessing import Collection, Event, Object, statusflags
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile


@contextmanager
def events(path: Path, first: int = 0, last: int = 100) -> Iterator[list[Event]]:
    with RootFile(path) as file:
        reader = BranchReader(file)
        reader.open(0, min(file.entries, 200))
        tree = InputTree(reader)
        block = EventBlock(reader, first, last, tree.special)
        yield [Event(tree, first + place, block, place) for place in range(last - first)]


@pytest.mark.parametrize("name", ["made_v9_mc", "made_v12_mc_many_runs", "made_v15_mc", "made_v9_data"])
def test_branches_have_the_numbers_of_the_file(name: str, made_files: dict[str, Path]) -> None:
    with RootFile(made_files[name]) as file:
        kinds: dict[tuple[str, str], list[str]] = {}
        for branch in file.branches.values():
            if branch.dtype is not None:
                kinds.setdefault((branch.dtype, branch.shape), []).append(branch.name)
        names = [name for members in kinds.values() for name in members[:: max(len(members) // 4, 1)]]
        expected = {name: ak.to_list(array) for name, array in file.read(names, 0, 40).items()}
    with events(made_files[name], 10, 40) as found:
        for number, event in enumerate(found, 10):
            for branch, values in expected.items():
                value = getattr(event, branch)
                assert repr(value) == repr(values[number])


def test_types_are_those_of_python(wz: Path) -> None:
    with events(wz) as found:
        event = next(event for event in found if event.nMuon and event.nJet)
        assert type(event.run) is type(event.nMuon) is type(event.Muon_charge[0]) is int
        assert type(event.Muon_highPtId[0]) is int
        assert type(event.HLT_IsoMu24) is type(event.Muon_tightId[0]) is bool
        assert type(event.MET_pt) is type(event.Jet_pt[0]) is float


def test_objects_are_views_of_the_branches(wz: Path) -> None:
    with events(wz) as found:
        for event in found:
            muons = Collection(event, "Muon")
            assert len(muons) == event.nMuon == len(list(muons))
            assert [muon.pt for muon in muons] == event.Muon_pt == event["Muon_pt"]
            assert [muon["eta"] for muon in muons] == event.Muon_eta
            assert all(muons[number] is muon and muon._index == number for number, muon in enumerate(muons))
            assert Object(event, "MET").pt == event.MET_pt
            assert [jet.pt for jet in Collection(event, "Jet", lenVar="nJet")] == event.Jet_pt
            assert len(Collection(event, "Jet", lenVar="nMuon")) == event.nMuon


def test_four_vectors_and_distances(wz: Path) -> None:
    with events(wz) as found, standing_in(always=True):
        event = next(event for event in found if event.nMuon > 1)
        one, two = Collection(event, "Muon")[0], Collection(event, "Muon")[1]
        assert one.p4().Pt() == pytest.approx(one.pt)
        assert one.p4(17.0).Pt() == pytest.approx(17.0)
        assert one.p4().M() == pytest.approx(one.mass, rel=1e-3)
        assert one.DeltaR(two) == pytest.approx(one.p4().DeltaR(two.p4()))
        assert one.DeltaR(two.p4()) == pytest.approx(one.DeltaR(two))


def test_status_flags_are_bits(made_files: dict[str, Path]) -> None:
    assert statusflags["isPrompt"] == 1
    assert statusflags["fromHardProcess"] == 1 << 8
    assert statusflags["isLastCopyBeforeFSR"] == 1 << 14
    with events(made_files["made_v9_mc"], 0, 10) as found:
        particles = [particle for event in found for particle in Collection(event, "GenPart")]
        hard = [particle.statusflag("isHardProcess") for particle in particles]
        assert hard == [bool(particle.statusFlags >> 7 & 1) for particle in particles]
    assert set(hard) == {True, False}


def test_sub_objects_have_a_longer_prefix(wz: Path) -> None:
    with events(wz) as found:
        assert Object(found[0], "HLT").subObj("IsoMu24")._prefix == "HLT_IsoMu24_"


def test_what_a_user_sets_comes_first(wz: Path) -> None:
    with events(wz) as found:
        event, other = [event for event in found if event.nMuon][:2]
        assert Collection(event, "Muon")[0].pt != 1.5
        event.Muon_pt = [1.5] * event.nMuon
        event.note = "mine"
        assert Collection(event, "Muon")[0].pt == 1.5
        assert (event.note, event["note"]) == ("mine", "mine")
        assert Collection(other, "Muon")[0].pt > 1.5
        assert not hasattr(other, "note")
        muon = Collection(other, "Muon")[0]
        muon.isGood = True
        assert Collection(other, "Muon")[0].pt == muon.pt
        assert muon["isGood"]


def test_missing_branches_are_named(wz: Path) -> None:
    with events(wz) as found:
        event = next(event for event in found if event.nMuon)
        with pytest.raises(MissingBranchError, match=r'has no branch MET_ptt\. Did you mean "MET_pt"') as raised:
            event.MET_ptt  # noqa: B018
        assert str(raised.value).startswith(str(wz))
        assert isinstance(raised.value, (NanoMLError, RuntimeError))
        assert not hasattr(event, "Muon_ptt")
        assert getattr(event, "Pileup_nope", 7) == 7
        with pytest.raises(NanoMLError, match=r'has no branch Muon_ptt\. Did you mean "Muon_pt"'):
            Collection(event, "Muon")[0].ptt  # noqa: B018
        with pytest.raises(NanoMLError, match="has no branch nMuons"):
            Collection(event, "Muons")
        with pytest.raises(NanoMLError, match=r"event\.eval.* needs ROOT"):
            event.eval("MET_pt")


@pytest.mark.parametrize("index", [-1, 99])
def test_there_are_no_objects_beyond_the_ends(index: int, wz: Path) -> None:
    with events(wz) as found:
        event = found[50]
        with pytest.raises(IndexError, match=rf"Jet\[{index}\]: there are {event.nJet}"):
            Collection(event, "Jet")[index]
        for _ in range(2):  # before the branch has been read, and after
            with pytest.raises(IndexError, match=rf"Jet_pt\[{index}\]: there is no such object"):
                Object(event, "Jet", index).pt  # noqa: B018


def test_events_and_objects_can_be_copied(wz: Path) -> None:
    with events(wz) as found:
        event = next(event for event in found if event.nMuon)
        muon = Collection(event, "Muon")[0]
        assert copy.copy(muon).pt == muon.pt
        assert copy.copy(event).MET_pt == event.MET_pt
        assert (repr(muon), repr(Object(event, "MET"))) == ("<Muon[0]>", "<MET>")


def test_a_file_without_counters_has_them_nevertheless(tmp_path: Path) -> None:
    import uproot

    with uproot.recreate(tmp_path / "x.root") as file:
        tree = file.mktree("Events", {"run": "u4", "Muon_pt": "var * float32"})
        tree.extend({"run": [1, 1], "Muon_pt": ak.values_astype(ak.Array([[1.5, 2.5], []]), "float32")})
    with events(tmp_path / "x.root", 0, 2) as found:
        assert [event.nMuon for event in found] == [2, 0]
        assert [muon.pt for muon in Collection(found[0], "Muon")] == [1.5, 2.5]


def test_arrays_of_fixed_size_are_lists(tmp_path: Path) -> None:
    import numpy as np
    import uproot

    with uproot.recreate(tmp_path / "x.root") as file:
        file.mktree("Events", {"three": np.dtype(("f4", (3,)))}).extend(
            {"three": np.arange(6, dtype="f4").reshape(2, 3)}
        )

    def values(event: Any) -> Any:
        return event.three, Object(event, "three").__dict__["_index"]

    with events(tmp_path / "x.root", 0, 2) as found:
        assert values(found[1]) == ([3.0, 4.0, 5.0], None)
