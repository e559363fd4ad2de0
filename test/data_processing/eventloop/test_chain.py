from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from data_processing.eventloop import ModuleChain, load_module
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile

CHAIN = ("leptons.py:Leptons", "jet_sums.py:jet_sums", "lepton_pairs.py:lepton_pairs")
ALL = [
    ("jet_sums.py:jet_sums",),
    ("z_candidate.py:modules",),
    ("muon_scale.py:both",),
    ("counting.py:Counting",),
    CHAIN,
]


def read(path: Path, *names: str) -> dict[str, ak.Array]:
    with RootFile(path) as file:
        return file.read(names)


def same(one: Any, two: Any) -> bool:
    """Whether two results are equal, bit for bit."""
    return (
        one.branches == two.branches
        and np.array_equal(one.rows, two.rows)
        and all(
            str(one.columns[name].type) == str(two.columns[name].type)
            and ak.to_list(one.columns[name]) == ak.to_list(two.columns[name])
            for name in one.columns
        )
    )


def test_sums_over_clean_jets(run: Callable[..., Any], wz: Path) -> None:
    result = run(wz, ["jet_sums.py:jet_sums"])
    a = read(wz, "Jet_pt", "Jet_eta", "Jet_phi", "Muon_pt", "Muon_eta", "Muon_phi")
    jets = ak.zip({key: ak.values_astype(a[f"Jet_{key}"], "float64") for key in ("pt", "eta", "phi")})
    muons = ak.zip({key: ak.values_astype(a[f"Muon_{key}"], "float64") for key in ("pt", "eta", "phi")})
    jets, muons = jets[jets.pt > 30], muons[(muons.pt > 10) & (abs(muons.eta) < 2.4)]
    one, two = ak.unzip(ak.cartesian([jets, muons], nested=True))
    turn = (one.phi - two.phi + np.pi) % (2 * np.pi) - np.pi
    clean = jets[ak.all((one.eta - two.eta) ** 2 + turn**2 > 0.4**2, axis=-1)]
    x = ak.sum(clean.pt * np.cos(clean.phi), axis=1)
    y = ak.sum(clean.pt * np.sin(clean.phi), axis=1)
    assert result.rows.tolist() == list(range(800))
    assert result.columns["nCleanJet"].tolist() == ak.num(clean).tolist()
    assert np.allclose(result.columns["HT"], ak.sum(clean.pt, axis=1), rtol=1e-6)
    assert np.allclose(result.columns["MHT_pt"], np.hypot(x, y), rtol=1e-5, atol=1e-4)
    some = ak.to_numpy(ak.num(clean) > 0)
    assert np.allclose(np.cos(np.asarray(result.columns["MHT_phi"])[some] - np.arctan2(-y, -x)[some]), 1, atol=1e-6)
    assert set(result.columns["nearMuon"].tolist()) == {True, False}
    assert {name: branch.dtype for name, branch in result.branches.items()} == {
        "HT": "float32",
        "MHT_pt": "float32",
        "MHT_phi": "float32",
        "nCleanJet": "int32",
        "jetMass": "float64",
        "minDeltaPhi": "float32",
        "nearMuon": "bool",
    }
    assert result.branches["HT"].title == "HT of clean jets"


def test_the_first_module_that_says_no_ends_an_event(run: Callable[..., Any], wz: Path) -> None:
    result = run(wz, ["z_candidate.py:ZCandidate", "counting.py:Counting"])
    a = read(wz, "Electron_pt", "Electron_eta", "Muon_pt", "Muon_eta", "event")
    leptons = ak.sum((a["Electron_pt"] > 10) & (abs(a["Electron_eta"]) < 2.5), axis=1) + ak.sum(
        (a["Muon_pt"] > 10) & (abs(a["Muon_eta"]) < 2.4), axis=1
    )
    (everything, first, second), *_ = result.flows
    assert [everything[0], first[0], second[0]] == ["all", "ZCandidate", "Counting"]
    assert everything[1] == everything[2] == 800
    assert ak.all(leptons[result.rows] >= 3)
    assert len(result.rows) == second[1] < first[1] <= ak.sum(leptons >= 3)
    assert np.all(np.asarray(a["event"])[result.rows] % 5 != 0)
    # the second module was not asked about the events that the first refused
    assert ak.max(result.columns["seen"]) <= first[1] < 800
    assert 85 < np.median(result.columns["Z_mass"]) < 95
    assert result.columns["Z_legs"].type == ak.Array(np.zeros((len(result.rows), 2), "i4")).type


def test_new_columns_of_a_collection(run: Callable[..., Any], wz: Path) -> None:
    result = run(wz, ["muon_scale.py:exact"])
    a = read(wz, "Muon_pt", "Muon_charge", "Muon_eta", "Muon_dxy")
    pt = ak.values_astype(a["Muon_pt"], "float64") * (1.003 + 1e-4 * a["Muon_charge"])
    assert ak.to_list(result.columns["Muon_corrPt"]) == ak.to_list(ak.values_astype(pt, "float32"))
    assert ak.to_list(result.columns["Muon_rank"]) == ak.to_list(ak.argsort(ak.argsort(-pt)))
    assert ak.to_list(result.columns["Muon_central"]) == ak.to_list(abs(a["Muon_eta"]) < 1.2)
    assert ak.to_list(result.columns["Muon_dxy"]) == ak.to_list(abs(a["Muon_dxy"]))
    assert {branch.collection for name, branch in result.branches.items() if "_" in name} == {"Muon"}
    rough = run(wz, ["muon_scale.py:rough"])
    difference = abs(rough.columns["Muon_corrPt"] / result.columns["Muon_corrPt"] - 1)
    assert 2**-9 < ak.max(difference) < 2**-6
    assert len(set(ak.flatten(rough.columns["Muon_corrPt"]).tolist())) < 500


def test_a_collection_with_a_counter_of_its_own(run: Callable[..., Any], wz: Path) -> None:
    result = run(wz, ["leptons.py:Leptons"])
    a = read(wz, "Electron_pt", "Muon_pt", "Electron_pdgId", "Muon_pdgId")
    pt = ak.concatenate([a["Electron_pt"], a["Muon_pt"]], axis=1)
    order = ak.argsort(pt, ascending=False, stable=True)
    identity = ak.concatenate([a["Electron_pdgId"], a["Muon_pdgId"]], axis=1)
    assert ak.to_list(result.columns["Lepton_pt"]) == ak.to_list(pt[order])
    assert ak.to_list(result.columns["Lepton_pdgId"]) == ak.to_list(identity[order])
    assert "nLepton" not in result.branches
    assert result.branches["Lepton_pdgId"].title == "11 or 13, with the sign of the particle"
    # a list whose name does not begin with its counter's keeps the counter as a number
    assert result.branches["isolation"].collection == "isolation"
    assert result.columns["nIsolation"].tolist() == ak.num(result.columns["isolation"]).tolist()


def test_modules_remember_and_branches_keep_their_values(run: Callable[..., Any], wz: Path) -> None:
    result = run(wz, ["counting.py:Counting"])
    a = read(wz, "event", "MET_pt", "MET_phi", "MET_sumEt", "Jet_pt")
    event, met = np.asarray(a["event"]).astype("i8"), np.asarray(a["MET_pt"])
    rows = np.flatnonzero(event % 5 != 0)
    assert result.rows.tolist() == rows.tolist()
    assert result.columns["seen"].tolist() == (rows + 1).tolist()
    assert result.columns["step"].tolist() == np.diff(event, prepend=0)[rows].tolist()
    last = np.maximum.accumulate(np.where(met > 50, np.arange(800), -1))
    assert result.columns["lastHighMET"].tolist() == np.where(last >= 0, met[last], 0)[rows].tolist()
    triple = np.stack([np.asarray(a[name]) for name in ("MET_pt", "MET_phi", "MET_sumEt")], axis=1)
    assert ak.to_list(result.columns["triple"]) == np.where(last[:, None] >= 0, triple[last], 0)[rows].tolist()
    jets = a["Jet_pt"][np.arange(800) // 3 * 3]
    assert ak.to_list(result.columns["Good_pt"]) == ak.to_list(jets[jets > 40][rows])
    assert set(result.columns["never"].tolist()) == {0}


def test_a_module_reads_what_an_earlier_one_made(run: Callable[..., Any], wz: Path) -> None:
    result = run(wz, CHAIN)
    leptons = result.columns["Lepton_pt"]
    assert np.allclose(
        result.columns["meff"], result.columns["HT"] + ak.sum(ak.values_astype(leptons, "f8"), axis=1), rtol=1e-5
    )
    assert result.columns["hardestPt"].tolist() == leptons[:, 0].tolist()
    assert ak.all((ak.num(leptons) >= 2) | (result.columns["MHT_pt"] > 30))
    assert [name for name, *_ in result.flows[0]] == ["all", "Leptons", "JetSums", "LeptonPairs"]


@pytest.mark.parametrize("specs", ALL)
def test_chunks_do_not_change_the_result(specs: tuple[str, ...], run: Callable[..., Any], wz: Path) -> None:
    whole, pieces = run(wz, specs), run(wz, specs, chunk=97)
    assert same(whole, pieces)
    assert [sum(flow[step][1] for flow in pieces.flows) for step in range(2)] == [
        whole.flows[0][step][1] for step in range(2)
    ]


def test_files_of_all_versions(run: Callable[..., Any], made_file: Path) -> None:
    path, has_weights = made_file, "mc" in made_file.stem
    one, two = run(path, CHAIN), run(path, ["z_candidate.py:modules", "muon_scale.py:both"], chunk=37)
    a = read(path, "Electron_pt", "Muon_pt", *(["genWeight"] if has_weights else []))
    found = ak.num(a["Electron_pt"]) + ak.num(a["Muon_pt"])
    assert one.rows.tolist() == [row for row in one.rows.tolist() if found[row] > 0]
    assert ak.num(one.columns["Lepton_pt"]).tolist() == found[one.rows].tolist()
    assert ak.num(two.columns["Muon_corrPt"]).tolist() == ak.num(a["Muon_pt"])[two.rows].tolist()
    total = one.flows[0][0]
    assert total[1] == len(found)
    weights = np.asarray(a["genWeight"] if has_weights else np.ones(len(found)), np.float64)
    assert total[2] == pytest.approx(weights.sum())


def test_looks_at_some_events_only(run: Callable[..., Any], wz: Path) -> None:
    rows = np.flatnonzero(np.asarray(read(wz, "nMuon")["nMuon"]) >= 2)
    some, pieces = (run(wz, ["jet_sums.py:jet_sums"], chunk=chunk, look_at=rows) for chunk in (1000, 90))
    whole = run(wz, ["jet_sums.py:jet_sums"])
    assert 0 < len(rows) < 800
    assert some.rows.tolist() == rows.tolist()
    assert some.flows[0][0][1] == len(rows)
    assert some.columns["MHT_pt"].tolist() == np.asarray(whole.columns["MHT_pt"])[rows].tolist()
    assert same(some, pieces)


def test_entries_are_counted_along_the_list_of_those_looked_at(tmp_path: Path, wz: Path) -> None:
    (tmp_path / "entries.py").write_text(
        "class Entries:\n"
        "    def beginJob(self): self.seen = []\n"
        "    def beginFile(self, i, o, tree, out): self.tree = tree\n"
        "    def analyze(self, event):\n"
        "        there = self.tree._entrylist.GetEntry(event._entry) if self.tree._entrylist else None\n"
        "        self.seen.append((event._entry, there, event.event))\n"
        "        return True\n"
        "    def endFile(self, *_): pass\n"
        "    def endJob(self): pass\n"
    )
    (module,) = load_module("entries.py:Entries", tmp_path)
    with RootFile(wz) as file:
        chain = ModuleChain([module])
        chain.branches_made(file)
        first = chain.run(file, 0, 100, np.array([3, 50]))
        second = chain.run(file, 100, 200, np.array([7]))
        third = chain.run(file, 200, 201)
        assert [each.rows.tolist() for each in (first, second, third)] == [[3, 50], [7], [0]]
        assert module.seen == [(0, 3, 2600004), (1, 50, 2600051), (2, 107, 2600108), (3, 200, 2600201)]
        chain.branches_made(file)
        chain.run(file, 100, 102)
        assert module.seen == [(100, None, 2600101), (101, None, 2600102)]


def test_the_methods_are_called_in_order(tmp_path: Path, wz: Path) -> None:
    methods = "".join(
        f"    def {name}(self, *_, **__): CALLS.append((self.name, '{name}'))\n"
        for name in ("beginJob", "beginFile", "endFile", "endJob")
    )
    (tmp_path / "order.py").write_text(
        f"CALLS = []\nclass A:\n    name = 'A'\n{methods}"
        "    def analyze(self, event):\n        CALLS.append((self.name, 'analyze'))\n        return event.event % 2\n"
        "class B(A):\n    name = 'B'\n    writeHistFile = True\n"
    )
    modules = load_module("order.py:A,B,A", tmp_path)
    calls = __import__("sys").modules[type(modules[0]).__module__].CALLS
    with RootFile(wz) as file:
        chain = ModuleChain(modules)
        assert chain.branches_made(file) == {}
        assert chain.run(file, 0, 2).rows.tolist() == [0]
        chain.end(file)
        assert chain.steps == ["A", "B", "A 2"]
        with pytest.raises(NanoMLError, match="ask for the branches made in this file before"):
            chain.run(file, 0, 2)
    expected = [(name, "beginJob") for name in "ABA"] + [(name, "beginFile") for name in "ABA"]
    expected += [(name, "analyze") for name in "ABAA"]
    assert calls == expected + [(name, "endFile") for name in "ABA"] + [(name, "endJob") for name in "ABA"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Divides", r"@: module Divides: event 1:13001:2600004 of \S+: ZeroDivisionError: division by zero"),
        ("WrongBranch", r'@: module WrongBranch: event 1:\S+ of \S+: has no branch MET_ptt\. Did you mean "MET_pt"\?'),
        ("WrongField", r'@: module WrongField: event 1:\S+ of \S+: has no branch Muon_ptt\. Did you mean "Muon_pt"'),
        ("NotMade", r"@: module NotMade: .*: xx is filled, but no module has made it"),
        ("WrongType", r"@: module WrongType: .*: TypeError: must be real number, not str"),
        ("TooFew", r"Muon_x: filled with 1 values where nMuon is 2 \(entry 1\).* make a collection of another name"),
        ("HalfFilled", r"event 1:\S+ of \S+: Thing_y has never been filled with as many as 3 values"),
        ("TooLate", r"@: module TooLate: .*: late: branches are made in beginFile"),
        ("ReadsUnfilled", r"@: module ReadsUnfilled: .*: no module has filled Thing_y in this event"),
        ("Negative", r"@: module Negative: .*: IndexError: Muon\[-1\]: there are"),
        ("Histograms", r"@: module Histograms: beginJob of .*: Histograms books a histogram, but a skim has no file"),
        ("Books", r"@: module Books: beginJob of .*: ROOT\.TH1F needs ROOT: install it \(pip install root\)"),
        ("Evaluates", r"@: module Evaluates: .*: event\.eval\(\"Sum\$\(Jet_pt\)\"\) needs ROOT"),
        ("BadType", r'@: module BadType: beginFile of .*: x: there is no type "Z" of branches'),
        ("BadShape", r"@: module BadShape: beginFile of .*: Muon_pt: is there already as float\[\]"),
    ],
)
def test_mistakes_are_explained_with_line_and_event(
    name: str, message: str, run: Callable[..., Any], wz: Path, user_modules: Path
) -> None:
    line = re.escape(str(user_modules / "mistakes.py")) + r":\d+"
    with pytest.raises(NanoMLError, match=("^" if message[0] == "@" else "") + message.replace("@", line)):
        run(wz, ["leptons.py:Leptons", f"mistakes.py:{name}"])
