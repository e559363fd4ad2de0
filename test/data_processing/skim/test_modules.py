"""Modules of nanoAOD-tools in a skim: nanoAOD-tools itself runs them, and arrays say what they should make."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import pytest
import uproot

from data_processing.skim.nanoaodtools_engine import postprocess_file
from data_processing.skim.plan import SkimJob
from data_processing.skim.stage import skim_tasks
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import RootFile
from processes import nanoml
from services.nanoaodtools import MISSING, needs_nanoaodtools
from services.pages import fences
from services.shifted_jets import DATASET

MODULES = Path(__file__).parents[1] / "nano_modules"
CHAIN = ("leptons.py:Leptons", "jet_sums.py:jet_sums", "leptons.py:LeptonPairs")
THIRD = """
class Third:
    def beginJob(self): pass
    def beginFile(self, inputFile, outputFile, inputTree, wrappedOutputTree):
        self.out = wrappedOutputTree
        self.out.branch("half", "F", title="half of the event's number")
    def analyze(self, event):
        self.out.fillBranch("half", event.event / 2)
        return event.event % 3 == 0
    def endFile(self, *_): pass
    def endJob(self): open("NOTE", "w").write("end")
"""


class Skim(NamedTuple):
    branches: dict[str, Branch]
    columns: Any
    rows: list[int]  # in the input
    file: FileAccounting


MakeSkim = Callable[..., Skim]


@pytest.fixture
def wz(sample: Path) -> Path:
    return sample / "WZTo3LNu" / "WZTo3LNu_0.root"


@pytest.fixture
def skim(wz: Path, tmp_path: Path) -> MakeSkim:
    """Skims a file by modules, of those beside this file if no `base` is given, and without a choice of the engine."""

    def run(*modules: str, source: Path = wz, base: Path = MODULES, **settings: Any) -> Skim:
        job = SkimJob(str(source), tmp_path / "skims" / "out.root", base=str(base), modules=modules, **settings)
        [accounting] = postprocess_file(job).files
        with RootFile(source) as file, RootFile(job.output) as skimmed:
            events = np.asarray(file.read(["event"])["event"])
            columns = skimmed.read(list(skimmed.branches))
            kept = np.asarray(columns["event"])
            record: Any = Provenance.of(skimmed)
            assert record.criteria.modules == modules
            assert record.criteria.code
            branches = {name: skimmed.branches[name] for name in record.columns}
        return Skim(branches, columns, [events.tolist().index(each) for each in kept.tolist()], accounting)

    return run


def read(path: Path, *names: str) -> dict[str, Any]:
    with uproot.open(path) as file:
        return file["Events"].arrays(names, how=dict)


# ----------------------------------------------------------------------------------------------------------------
# What needs neither ROOT nor nanoAOD-tools.


def test_modules_choose_the_engine_and_are_found_without_being_imported(tmp_path: Path) -> None:
    for name in ("here.py", "beside.py"):
        (tmp_path / name).write_text("raise SystemExit\n")
    job = SkimJob("in.root", tmp_path / "out.root", base=str(tmp_path), modules=("here.py:One,Two", "beside:Three"))
    assert job.engine == "nanoaodtools"
    assert job.sources() == [tmp_path / "here.py", tmp_path / "beside.py"]
    [task] = skim_tasks(["in.root"], tmp_path, job)
    assert task.settings["engine"] == "nanoaodtools"
    assert SkimJob("in.root", tmp_path / "out.root", cut="1").engine == "columnar"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("third.py", "write it as module:NAME or file.py:NAME"),
        ("third.py:", "write it as module:NAME or file.py:NAME"),
        ("nowhere.py:M", r"nowhere\.py: no such file"),
        ("no_such_package.m:M", r"there is no module no_such_package\.m on the import path or in "),
    ],
)
def test_a_file_that_is_not_there_is_told_before_anything_runs(spec: str, message: str, tmp_path: Path) -> None:
    job = SkimJob("", Path(), base=str(tmp_path), modules=(spec,))
    with pytest.raises(ConfigError, match=rf'^module "{re.escape(spec)}": .*{message}'):
        skim_tasks(["in.root"], tmp_path, job)


@pytest.mark.skipif(not MISSING, reason="ROOT and nanoAOD-tools are here")
def test_without_nanoaodtools_the_message_says_how_to_get_them(skim: MakeSkim) -> None:
    message = r"skim.modules run in nanoAOD-tools: .*cmsenv.*pip install root.*clone https://"
    with pytest.raises(NanoMLError, match=message):
        skim(*CHAIN)


def test_another_engine_is_refused(tmp_path: Path) -> None:
    done = nanoml("skim", "--module", "a.py:B", "--engine", "columnar", "-o", "skims", "in.root", cwd=tmp_path)
    assert done.returncode == 2
    message = "--engine columnar: modules run in nanoAOD-tools alone. Leave the engine out"
    assert message in " ".join(done.stderr.split())


def test_modules_write_no_rntuple(tmp_path: Path) -> None:
    (tmp_path / "third.py").write_text(THIRD)
    job = SkimJob("", Path(), base=str(tmp_path), modules=("third.py:Third",), format="RNTuple")
    message = r"skim.format: .*writes no RNTuple\. Leave the format out: modules run there"
    with pytest.raises(ConfigError, match=message):
        skim_tasks(["in.root"], tmp_path, job)


# ----------------------------------------------------------------------------------------------------------------
# With ROOT and nanoAOD-tools.


@needs_nanoaodtools
def test_the_first_module_that_says_no_ends_an_event(skim: MakeSkim, wz: Path) -> None:
    result = skim("leptons.py:modules", "counting.py:Counting")
    a = read(wz, "Electron_pt", "Electron_eta", "Muon_pt", "Muon_eta", "event")
    leptons = ak.sum((a["Electron_pt"] > 10) & (abs(a["Electron_eta"]) < 2.5), axis=1) + ak.sum(
        (a["Muon_pt"] > 10) & (abs(a["Muon_eta"]) < 2.4), axis=1
    )
    assert ak.all(leptons[result.rows] >= 3)
    assert np.all(np.asarray(a["event"])[result.rows] % 5 != 0)
    # the second module was not asked about the events that the first refused
    assert len(result.rows) < ak.max(result.columns["seen"]) <= ak.sum(leptons >= 3)
    assert 85 < np.median(result.columns["Z_mass"]) < 95
    assert result.branches["Z_legs"].is_fixed
    assert result.columns["Z_legs"].type == ak.Array(np.zeros((len(result.rows), 2), "i4")).type
    steps = [(step.cut, step.events) for step in result.file.cutflow]
    assert steps == [("all", 800), ("nanoAOD-tools", len(result.rows))]


@needs_nanoaodtools
def test_new_columns_of_a_collection(skim: MakeSkim, wz: Path) -> None:
    result = skim("leptons.py:MuonScale", keep=("Muon_*", "drop Muon_dxy"))
    a = read(wz, "Muon_pt", "Muon_charge", "Muon_eta", "Muon_dxy")
    pt = ak.values_astype(a["Muon_pt"], "float64") * (1.003 + 1e-4 * a["Muon_charge"])
    assert ak.to_list(result.columns["Muon_corrPt"]) == ak.to_list(ak.values_astype(pt, "float32"))
    assert ak.to_list(result.columns["Muon_rank"]) == ak.to_list(ak.argsort(ak.argsort(-pt)))
    assert ak.to_list(result.columns["Muon_central"]) == ak.to_list(abs(a["Muon_eta"]) < 1.2)
    assert ak.to_list(result.columns["Muon_dxy"]) == ak.to_list(abs(a["Muon_dxy"]))
    assert ak.to_list(result.columns["Muon_pt"]) == ak.to_list(a["Muon_pt"])
    assert {branch.collection for name, branch in result.branches.items() if "_" in name} == {"Muon"}


@needs_nanoaodtools
def test_a_branch_of_the_file_that_is_kept_gets_the_module_s_values(skim: MakeSkim, wz: Path) -> None:
    result = skim("leptons.py:MuonScale", keep=("Muon_dxy",))
    assert ak.to_list(result.columns["Muon_dxy"]) == ak.to_list(abs(read(wz, "Muon_dxy")["Muon_dxy"]))


@needs_nanoaodtools
def test_modules_remember_and_branches_keep_their_values(skim: MakeSkim, wz: Path) -> None:
    result = skim("counting.py:Counting")
    a = read(wz, "event", "MET_pt", "MET_phi", "MET_sumEt", "Jet_pt")
    event, met = np.asarray(a["event"]).astype("i8"), np.asarray(a["MET_pt"])
    rows = np.flatnonzero(event % 5 != 0)
    assert result.rows == rows.tolist()
    assert result.columns["seen"].tolist() == (rows + 1).tolist()
    assert result.columns["step"].tolist() == np.diff(event, prepend=0)[rows].tolist()
    for kind in "BbIiLlFD":
        value = (1 if kind in "bil" else -1) * (event % 100)
        found = result.columns[f"type_{'un' if kind.islower() else ''}signed{kind.upper()}"]
        assert found.tolist() == value[rows].tolist()
    assert result.columns["type_signedO"].tolist() == (event % 2 == 1)[rows].tolist()
    last = np.maximum.accumulate(np.where(met > 50, np.arange(800), -1))
    assert result.columns["lastHighMET"].tolist() == np.where(last >= 0, met[last], 0)[rows].tolist()
    triple = np.stack([np.asarray(a[name]) for name in ("MET_pt", "MET_phi", "MET_sumEt")], axis=1)
    assert ak.to_list(result.columns["triple"]) == np.where(last[:, None] >= 0, triple[last], 0)[rows].tolist()
    jets = a["Jet_pt"][np.arange(800) // 3 * 3]
    assert ak.to_list(result.columns["Good_pt"]) == ak.to_list(jets[jets > 40][rows])
    assert set(result.columns["never"].tolist()) == {0}


@needs_nanoaodtools
def test_a_module_reads_what_an_earlier_one_made(skim: MakeSkim, wz: Path) -> None:
    result = skim(*CHAIN)
    a = read(wz, "Electron_pt", "Muon_pt", "Electron_pdgId", "Muon_pdgId")
    pt = ak.concatenate([a["Electron_pt"], a["Muon_pt"]], axis=1)[result.rows]
    order = ak.argsort(pt, ascending=False, stable=True)
    identity = ak.concatenate([a["Electron_pdgId"], a["Muon_pdgId"]], axis=1)[result.rows]
    leptons = result.columns["Lepton_pt"]
    assert ak.to_list(leptons) == ak.to_list(pt[order])
    assert ak.to_list(result.columns["Lepton_pdgId"]) == ak.to_list(identity[order])
    assert result.branches["Lepton_pdgId"].title == "11 or 13, with the sign of the particle"
    # a list whose name does not begin with its counter's keeps the counter as a number
    assert result.columns["nIsolation"].tolist() == ak.num(result.columns["isolation"]).tolist()
    total = result.columns["HT"] + ak.sum(ak.values_astype(leptons, "f8"), axis=1)
    assert np.allclose(result.columns["meff"], total, rtol=1e-5)
    assert result.columns["hardestPt"].tolist() == leptons[:, 0].tolist()
    assert ak.all((ak.num(leptons) >= 2) | (result.columns["MHT_pt"] > 30))
    assert 0 < len(result.rows) < 800


@needs_nanoaodtools
@pytest.mark.exhaustive("files of all versions")
def test_files_of_all_versions(skim: MakeSkim, made_file: Path) -> None:
    modules = ("leptons.py:modules", "leptons.py:both")
    with RootFile(made_file) as file:
        refused = "Skim it without modules first, as a TTree" if file.format == "RNTuple" else ""
        if "MET_pt" not in file.branches:  # modules know the file's own names alone
            refused = refused or "Unknown branch MET_pt"
    if refused:
        with pytest.raises(NanoMLError, match=refused):
            skim(*modules, source=made_file, keep=("drop Muon_dxy",))
        return
    result = skim(*modules, source=made_file, keep=("drop Muon_dxy",))
    muons = read(made_file, "nMuon")["nMuon"]
    assert ak.num(result.columns["Muon_corrPt"]).tolist() == muons[result.rows].tolist()
    assert result.file.entries == len(muons)
    if "mc" in made_file.stem:
        weights = np.asarray(read(made_file, "genWeight")["genWeight"], np.float64)
        assert result.file.cutflow[0].weights == pytest.approx(weights.sum())


@needs_nanoaodtools
def test_columns_of_a_selection_stay_with_their_events_where_modules_drop_some(
    skim: MakeSkim, wz: Path, tmp_path: Path
) -> None:
    (tmp_path / "third.py").write_text(THIRD.replace("NOTE", str(tmp_path / "note")))
    (tmp_path / "even.py").write_text(
        "import awkward as ak\nfrom MLTools.NanoML.selection import Column, Selection\n\n"
        "class Even(Selection):\n"
        "    branches = ('event', 'Muon_pt')\n"
        "    columns = {'nGood': Column('i4', 'muons above 3 GeV')}\n"
        "    def select(self, events, cutflow):\n"
        "        events = cutflow.cut('even', events.event % 2 == 0, events)\n"
        "        return events, {'nGood': ak.sum(events.Muon.pt > 3, axis=1)}\n"
    )
    result = skim("third.py:Third", base=tmp_path, selection="even.py:Even", keep=("Muon_*",), cut="MET_pt > 20")
    a = read(wz, "event", "Muon_pt", "MET_pt")
    expected = np.flatnonzero((a["event"] % 6 == 0) & (a["MET_pt"] > 20)).tolist()
    assert result.rows == expected
    assert 0 < len(expected) < 800
    assert result.columns["nGood"].tolist() == ak.sum(a["Muon_pt"] > 3, axis=1)[expected].tolist()
    assert ak.to_list(result.columns["Muon_pt"]) == ak.to_list(a["Muon_pt"][expected])
    assert result.columns["half"].tolist() == (np.asarray(a["event"])[expected] / 2).astype("f4").tolist()
    assert (result.branches["half"].dtype, result.branches["half"].title) == ("float32", "half of the event's number")
    assert (tmp_path / "note").read_text() == "end"


@needs_nanoaodtools
def test_the_events_of_each_shift_are_counted_after_a_module(skim: MakeSkim, tmp_path: Path, sample: Path) -> None:
    pytest.importorskip("correctionlib")
    (tmp_path / "third.py").write_text(THIRD.replace("NOTE", str(tmp_path / "note")))
    source = sample / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"
    selection = "services.shifted_jets:ShiftedJets"
    found = skim("third.py:Third", source=source, base=tmp_path, selection=selection, dataset=DATASET)
    columns = {name: np.asarray(values) for name, values in found.columns.items()}
    assert (columns["event"] % 3 == 0).all()
    assert found.file.written == len(columns["event"]) > found.file.selected == columns["selected"].sum() > 0
    assert found.file.shifts
    for each in found.file.shifts:
        passed = columns[f"selected_{each.shift}"]
        assert each.cutflow[-1].events == passed.sum()
        assert each.cutflow[-1].weights == pytest.approx(columns["genWeight"][passed].sum())


@needs_nanoaodtools
def test_the_module_of_the_manual(skim: MakeSkim, wz: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "doc" / "skim.md").read_text()
    [code] = (fence.code for fence in fences(page) if fence.about == "jets.py")
    (tmp_path / "jets.py").write_text(code)
    found = skim("jets.py:jetSums", base=tmp_path, cut="nJet >= 1")
    a = ak.Array(read(wz, "nJet", "Jet_pt", "Jet_eta"))[found.rows]
    hard = ak.values_astype(a.Jet_pt, "f8")[(a.Jet_pt > 30) & (abs(a.Jet_eta) < 4.7)]
    assert ak.all(a.nJet >= 1)
    assert found.columns["jets_n"].tolist() == ak.num(hard).tolist()
    assert np.allclose(found.columns["jets_sumPt"], ak.sum(hard, axis=1), rtol=1e-6)


@needs_nanoaodtools
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Divides", r"@: ZeroDivisionError: division by zero"),
        ("WrongBranch", r"@: RuntimeError: Unknown branch MET_ptt"),
        ("WrongField", r"@: RuntimeError: Unknown branch Muon_ptt"),
        ("NotMade", r"@: KeyError: 'xx'"),
        ("WrongType", r"@: TypeError: must be real number, not str"),
        ("BadType", r"@: KeyError: 'Z'"),
        ("Histograms", r"@: AttributeError: "),
        ("cannot_be_made", r"@: TypeError: "),
        ("Absent", r'module "\S+": mistakes.py has no Absent\.'),
        ("NoMethod", r"gives NoMethod, which has no method analyze"),
    ],
)
def test_mistakes_are_one_message_with_the_line(name: str, message: str, skim: MakeSkim, tmp_path: Path) -> None:
    said = message.replace("@", re.escape(str(MODULES / "mistakes.py")) + r":\d+")
    with pytest.raises(NanoMLError, match=said) as told:
        skim(f"mistakes.py:{name}")
    assert "\n" not in str(told.value)
    assert list((tmp_path / "skims").iterdir()) == []


@needs_nanoaodtools
def test_a_file_that_cannot_be_imported_is_told_with_its_line(skim: MakeSkim, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("x = 1\ny = x.z\n")
    (tmp_path / "uses.py").write_text("import helper\n")
    with pytest.raises(ConfigError, match=r'module "uses.py:M": cannot be imported: AttributeError: .*helper\.py:2'):
        skim("uses.py:M", base=tmp_path)
