from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from data_processing.skim import SkimJob, skim_file
from MLTools.NanoML.books import Books, Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootfile import RootFile

TRILEPTON = "MLTools.NanoML.trilepton:Trilepton"
EVEN = """
import awkward as ak
import numpy as np
from MLTools.NanoML.selection import Column, Selection

class Even(Selection):
    branches = ("event", "Muon_pt", "MET_pt")
    optional = {"HLT_IsoMu24": True, "HLT_NeverWas": False}
    columns = {"nGood": Column("i4", "muons above 3 GeV"), "sum_pt": Column("f4", "sum of pt [GeV]")}

    def select(self, events, cutflow):
        events = cutflow.cut("even", events.event % 2 == 0, events)
        assert not ak.any(events.HLT.NeverWas)
        good = events.Muon.pt[events.Muon.pt > 3]
        return events, {"nGood": ak.num(good), "sum_pt": ak.sum(good, axis=1) + events.MET.pt}

class Nothing(Even):
    def select(self, events, cutflow):
        events = cutflow.cut("nothing", events.MET.pt < 0, events)
        return events, {"nGood": events.event, "sum_pt": events.MET.pt}

class Sneaky(Even):
    def select(self, events, cutflow):
        events, columns = super().select(events, cutflow)
        rest = np.arange(len(events)) > 0
        return events[rest], {name: values[rest] for name, values in columns.items()}
"""


@pytest.fixture
def even(tmp_path: Path) -> Path:
    (tmp_path / "selections.py").write_text(EVEN)
    return tmp_path


def test_a_skim_has_the_events_the_columns_and_the_books(
    tmp_path: Path, mc_files: dict[str, list[Path]]
) -> None:
    source = mc_files["WprimeToWZToLNuLL_M1000"][0]
    # many chunks and one give the same
    for chunk, name in ((700, "a.root"), (200_000, "b.root")):
        books = skim_file(
            SkimJob(str(source), tmp_path / name, TRILEPTON, keep=("MET_*", "Muon_*"), chunk=chunk)
        )
        assert (books["entries"], books["selected"], books["sum_of_weights"]) == (3000, 982, 3000.0)
        assert [step["events"] for step in books["cutflow"]] == [3000, 1229, 1207, 982, 982]
    with (
        uproot.open(tmp_path / "a.root") as a,
        uproot.open(tmp_path / "b.root") as b,
        uproot.open(source) as original,
    ):
        picked = np.isin(np.asarray(original["Events/event"].array()), np.asarray(a["Events/event"].array()))
        assert picked.sum() == 982
        for name in a["Events"].keys():
            first = a["Events"][name].array()
            assert ak.to_list(first) == ak.to_list(b["Events"][name].array())
            if name in original["Events"].keys():
                assert ak.to_list(first) == ak.to_list(original["Events"][name].array()[picked])
        assert {"channel", "ZCand_mass", "genWeight", "MET_pt", "Muon_highPtId", "nMuon"} <= set(
            a["Events"].keys()
        )
        assert "Electron_pt" not in a["Events"].keys()
        for tree in ("Runs", "LuminosityBlocks"):
            assert a[tree].arrays().tolist() == original[tree].arrays().tolist()
    with RootFile(tmp_path / "a.root") as file:
        record = Provenance.of(file)
    assert record is not None
    assert Books.from_dict(books).files[0].file == record.books.files[0].file == str(source)
    assert record.columns["ZCand_mass"] == {"dtype": "float32", "title": "mass of the Z candidate [GeV]"}


def test_every_real_file_is_skimmed(even: Path, real_file: Path) -> None:
    job = SkimJob(
        str(real_file),
        even / "out.root",
        "selections.py:Even",
        str(even),
        ("MET_*", "Jet_*", "HLT_NeverWas"),
        chunk=33,
    )
    books = skim_file(job)
    with RootFile(real_file) as original, RootFile(job.output) as skim:
        arrays = original.read(["event", "MET_pt", "Muon_pt", "Jet_pt"])
        picked = np.asarray(arrays["event"]) % 2 == 0
        assert skim.entries == books["selected"] == int(picked.sum())
        found = skim.read(["event", "MET_pt", "Jet_pt", "sum_pt", "HLT_NeverWas"])
        for branch in ("event", "MET_pt", "Jet_pt"):
            assert ak.to_list(found[branch]) == ak.to_list(arrays[branch][picked])
        pt = arrays["Muon_pt"][picked]
        expected = ak.sum(ak.values_astype(pt[pt > 3], np.float64), axis=1) + ak.values_astype(
            arrays["MET_pt"][picked], np.float64
        )
        assert np.asarray(found["sum_pt"]) == pytest.approx(np.asarray(expected), rel=1e-6)
        assert not np.asarray(found["HLT_NeverWas"]).any()
        record = Provenance.of(skim)
        assert record is not None
        assert record.books.entries == original.entries
        assert record.books.sum_of_weights == books["sum_of_weights"]


def test_a_file_of_which_nothing_is_kept_keeps_its_weights(even: Path, sample: Path) -> None:
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    books = skim_file(SkimJob(str(source), even / "out.root", "selections.py:Nothing", str(even), ("MET_*",)))
    assert (books["selected"], books["sum_of_weights"]) == (0, 800.0)
    with uproot.open(even / "out.root") as file:
        assert file["Events"].num_entries == 0
        assert file["Runs/genEventSumw"].array().tolist() == [800.0]
        assert {"run", "event", "MET_pt", "sum_pt", "genWeight"} <= set(file["Events"].keys())


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (("MTE_pt",), r'has no branch MTE_pt. Did you mean "MET_pt"'),
        (("HLT_IsoMu99",), "declare it in the selection"),
    ],
)
def test_a_branch_to_be_kept_that_is_not_there_is_named(
    even: Path, sample: Path, keep: tuple[str, ...], message: str
) -> None:
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    with pytest.raises(NanoMLError, match=f"ZGToLLG_0.root: skim.keep: .*{message}"):
        skim_file(SkimJob(str(source), even / "out.root", "selections.py:Even", str(even), keep))
    assert not (even / "out.root").exists()


def test_a_branch_that_the_selection_needs_is_named_with_the_file(even: Path, tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "poor.root") as file:
        file.mktree("Events", {"event": "u8"}).extend({"event": np.arange(3, dtype=np.uint64)})
    with pytest.raises(
        NanoMLError, match=r"poor.root: selection Even reads branches that this file lacks: Muon_pt, MET_pt"
    ):
        skim_file(SkimJob(str(tmp_path / "poor.root"), even / "out.root", "selections.py:Even", str(even)))


def test_events_that_vanish_beside_the_cut_flow_stop_the_skim(even: Path, sample: Path) -> None:
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    with pytest.raises(NanoMLError, match="passed the last cut, but 399 were kept.*cutflow.cut only"):
        skim_file(SkimJob(str(source), even / "out.root", "selections.py:Sneaky", str(even)))
    assert os.listdir(even) == ["selections.py"] or "out.root" not in os.listdir(even)


def test_a_column_of_the_name_of_a_kept_branch_is_refused(even: Path, sample: Path) -> None:
    (even / "clash.py").write_text(EVEN.replace('"nGood"', '"MET_pt"').replace("nGood", "MET_pt"))
    with pytest.raises(NanoMLError, match="MET_pt is made by the selection, but the file has a branch of that name"):
        skim_file(
            SkimJob(
                str(sample / "ZGToLLG" / "ZGToLLG_0.root"),
                even / "out.root",
                "clash.py:Even",
                str(even),
                ("MET_*",),
            )
        )


LIMITED = """
import resource, signal, sys
from pathlib import Path
from data_processing.skim import SkimJob, skim_file
from MLTools.NanoML.errors import NanoMLError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    skim_file(SkimJob(sys.argv[1], Path(sys.argv[2]), "MLTools.NanoML.trilepton:Trilepton", keep=("*",)))
except NanoMLError as problem:
    print(problem)
"""


@pytest.mark.parametrize("limit", [0, 5_000, 60_000])
def test_a_disk_that_is_full_is_one_message_and_leaves_nothing(
    tmp_path: Path, sample: Path, limit: int
) -> None:
    source = sample / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"
    command = [sys.executable, "-c", LIMITED, str(source), str(tmp_path / "out.root"), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out.root'}: cannot write: File too large.\n"
    assert os.listdir(tmp_path) == []


def test_books_are_json(tmp_path: Path, sample: Path) -> None:
    books = skim_file(SkimJob(str(sample / "ZGToLLG" / "ZGToLLG_0.root"), tmp_path / "out.root", TRILEPTON))
    assert json.loads(json.dumps(books)) == books
