from __future__ import annotations

import errno
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from data_processing.skim.nanoaodtools_engine import _run, check_printed, compression_of, postprocess_file, write_rules
from data_processing.skim.plan import SkimJob, apply_rules, read_rules
from data_processing.skim.skim import skim_file
from data_processing.skim.stage import skim_job, skim_tasks
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.data import Skim
from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError
from MLTools.NanoML.nanoaod.accounting import accounting_of
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile
from processes import nanoml
from services.arrays import same
from services.nanoaod import CERTIFIED, with_a_damaged_basket
from services.nanoaodtools import MISSING, needs_nanoaodtools
from services.rootfiles import record_of
from services.shifted_jets import DATASET
from services.xrootd import Cluster

TRILEPTON = "MLTools.NanoML.trilepton:Trilepton"
MODULES = str(Path(__file__).parents[1] / "nano_modules")
CUT = "MET_pt > 40 && Sum$(Muon_pt > 20) > 0"
SELECTIONS = """
import awkward as ak
from MLTools.NanoML.selection import Column, Selection

class Even(Selection):
    branches = ("event", "Muon_pt")
    optional = {"HLT_NeverWas": False, "scale": 1.5}
    columns = {"nGood": Column("i4", "muons above 3 GeV"), "isGood": Column("?", "any muon above 3 GeV")}

    def select(self, events, cutflow):
        events = cutflow.cut("even", events.event % 2 == 0, events)
        good = ak.num(events.Muon.pt[events.Muon.pt > 3])
        return events, {"nGood": good, "isGood": good > 0}

class Wrong(Even):
    def select(self, events, cutflow):
        raise ValueError("why?")
"""


@pytest.fixture
def source(sample: Path) -> Path:
    return sample / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "selections.py").write_text(SELECTIONS)
    (tmp_path / "rules.txt").write_text("drop *  # all\nkeepmatch Jet_(pt|eta)\nkeep PV_*\ndrop PV_z\n")
    return tmp_path


# ----------------------------------------------------------------------------------------------------------------
# What needs neither ROOT nor nanoAOD-tools.


@pytest.mark.skipif(not MISSING, reason="ROOT and nanoAOD-tools are here")
def test_without_nanoaodtools_one_message_says_what_to_do(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "skims" / "out.root"
    with pytest.raises(NanoMLError, match=r"nanoaodtools: .*cannot be imported by .*cmsenv.*pip install root"):
        postprocess_file(SkimJob(str(source), output, cut=CUT, engine="nanoaodtools"))
    assert not output.parent.exists()
    done = nanoml("skim", "--engine", "nanoaodtools", "--cut", CUT, "-o", "skims", source, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("cannot be imported by") == 1
    assert "Traceback" not in done.stderr


def test_the_engine_of_a_configuration_is_written_there(tmp_path: Path) -> None:
    done = nanoml("skim", "--engine", "nanoaodtools", "a.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "skim.engine" in done.stderr


def test_rules_keep_what_they_name(tmp_path: Path) -> None:
    names = ["run", "nMuon", "Muon_pt", "Muon_ptErr", "MET_pt"]
    write_rules(tmp_path / "rules.txt", ["run", "Muon_pt"])
    assert (tmp_path / "rules.txt").read_text() == "drop *\nkeep run\nkeep Muon_pt\n"
    assert apply_rules(read_rules(tmp_path / "rules.txt"), names, names) == ["run", "Muon_pt"]


def test_compressions() -> None:
    assert [compression_of(text) for text in ("ZLIB:5", "lz4:1", "None")] == ["ZLIB:5", "LZ4:1", "none"]
    for text in ("ZLIB", "ZLIB:0", "5", "ZLIB:55", ""):
        with pytest.raises(ConfigError, match="write ALGORITHM:LEVEL"):
            compression_of(text)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("R__unzipLZMA: error 9 in lzma_code", UnreadableError, "in.root: cannot be read (R__unzipLZMA: error 9"),
        ("Error in <TBasket::ReadBasketBuffers>: fNbytes = 1", UnreadableError, "cannot be read (Error in <TBasket"),
        ("Error in <TBranch::GetBasket>: File: in.root at byte:1", UnreadableError, "It may be truncated"),
        ("Error in <TTree::Fill>: no\nSysError in <TFile::WriteBuffer>: No space left on device", NanoMLError, "full"),
        (
            "Error in <TTree::Fill>: Failed filling branch:Events.x",
            NanoMLError,
            "out.root: cannot write: Error in <TTree",
        ),
    ],
)
def test_complaints_of_root(line: str, kind: type[NanoMLError], message: str) -> None:
    printed = "Processed 3 entries\nWarning in <TBasket::x>: no\nError in <TH1::Fit>: the user's own\n"
    job = SkimJob("in.root", Path("out.root"))
    check_printed(printed, job)
    with pytest.raises(NanoMLError, match=re.escape(message)) as problem:
        check_printed(f"{printed}{line}\nDone\n", job)
    assert type(problem.value) is kind
    assert problem.value.errno == (errno.ENOSPC if "No space" in line else None)


def test_an_error_in_the_other_process_is_the_same_here(source: Path, tmp_path: Path) -> None:
    (tmp_path / "none.root").write_bytes(b"no file of ROOT")
    for path, kind, message in (
        (tmp_path / "none.root", UnreadableError, "none.root: "),
        (Path(shutil.copy(source, tmp_path / "a,b.root")), NanoMLError, "takes what follows a comma for another file"),
    ):
        with pytest.raises(NanoMLError, match=message) as problem:
            _run(SkimJob(str(path), tmp_path / "out.root"), tmp_path)
        assert type(problem.value) is kind
        assert getattr(problem.value, "path", str(path)) == str(path)


def test_a_skim_by_another_engine_is_another_task(source: Path, tmp_path: Path) -> None:
    tasks = {}
    for engine, work in (("columnar", skim_file), ("nanoaodtools", postprocess_file)):
        job = skim_job(Config(skim=Skim(TRILEPTON, engine=engine), base=tmp_path))
        [tasks[engine]] = skim_tasks([str(source)], tmp_path, job)
        done: Any = pickle.loads(pickle.dumps(tasks[engine].work))
        assert done.func is work
        assert done.args[0].engine == engine
    assert tasks["columnar"].settings == {**tasks["nanoaodtools"].settings, "engine": "columnar"}
    assert tasks["columnar"].code != tasks["nanoaodtools"].code


# ----------------------------------------------------------------------------------------------------------------
# With ROOT and nanoAOD-tools: both engines give the same.


def told(name: str, title: str) -> str:
    """A title, but for the one that ROOT makes of name and type where a module gives none."""
    return "" if title.startswith(f"{name}[") else title


def events_of(path: Path) -> tuple[dict[str, tuple[str, str | None, str]], Mapping[str, ak.Array]]:
    """Shapes, types, titles and values of all branches."""
    with RootFile(path) as file:
        kinds = {name: (branch.shape, branch.dtype, told(name, branch.title)) for name, branch in file.branches.items()}
        return kinds, file.read(list(file.branches))


def both(job: SkimJob) -> tuple[Path, Provenance, Provenance]:
    """Skim by both engines, of which one runs no modules, and compare all but the cut flow; return the output and the records."""
    outputs = {engine: job.output.with_name(f"{engine}.root") for engine in ("columnar", "nanoaodtools")}
    columnar = skim_file(replace(job, output=outputs["columnar"], engine="columnar", modules=()))
    theirs = postprocess_file(replace(job, output=outputs["nanoaodtools"], engine="nanoaodtools"))
    kinds, arrays = events_of(outputs["columnar"])
    their_kinds, their_arrays = events_of(outputs["nanoaodtools"])
    # some writers make a counter for each list, and so does the columnar engine where it has another name
    lists = {name for name, (shape, *_) in {**kinds, **their_kinds}.items() if shape == "jagged"}
    own_counters = {f"n{name}" for each in lists for name in (each, each.partition("_")[0])} - kinds.keys()
    own_counters |= {f"n{name}" for name in lists & kinds.keys()}
    names = kinds.keys() - own_counters
    # nanoAOD-tools begins the file before it is known which columns differ under a shift
    selection = job.load()
    varied = selection.made.nominal if selection else {}
    made = their_kinds.keys() - kinds.keys() - own_counters
    assert names <= their_kinds.keys() - own_counters
    assert made <= varied.keys() or job.modules
    for name in made & varied.keys():
        assert same(their_arrays[name], arrays[varied[name]])
    assert [name for name in names if kinds[name] != their_kinds[name]] == []
    assert [name for name in names if not same(arrays[name], their_arrays[name])] == []
    with uproot.open(outputs["columnar"]) as ours, uproot.open(outputs["nanoaodtools"]) as other:
        for tree in {"Runs", "LuminosityBlocks"} & set(ours.keys(cycle=False)):
            names = sorted(set(ours[tree].keys()) & set(other[tree].keys()))
            assert names
            assert other[tree].arrays(names).tolist() == ours[tree].arrays(names).tolist()
        assert [key for key in other.keys() if key.startswith("nanoml")] == ["nanoml;1"]
    assert {path.name for path in job.output.parent.iterdir() if path.name.startswith(".")} == set()
    records = []
    for path in outputs.values():
        record = record_of(path)
        records.append(record)
    assert records[1].accounting == theirs
    for key in ("entries", "selected", "written", "sum_of_weights"):
        assert getattr(theirs, key) == getattr(columnar, key)
    [first], [second] = records[0].accounting.files, records[1].accounting.files
    flows = [[step.events for step in each.cutflow][-1:] for each in first.shifts]
    assert [[step.events for step in each.cutflow][-1:] for each in second.shifts] == flows
    shifts = [replace(each, cutflow=like.cutflow) for each, like in zip(second.shifts, first.shifts)]
    assert replace(second, cutflow=first.cutflow, shifts=shifts) == first
    for record in records:
        for name, column in record.columns.items():
            record.columns[name] = replace(column, title=told(name, column.title))
    more = {name: column for name, column in records[1].columns.items() if name in made}
    assert more.keys() == made
    assert records[1].columns == {**more, **records[0].columns}
    assert (records[1].kind, records[1].selection) == (records[0].kind, records[0].selection)
    return outputs["nanoaodtools"], records[0], records[1]


@needs_nanoaodtools
@pytest.mark.parametrize(
    ("job", "selected", "steps"),
    [
        ({"selection": TRILEPTON, "keep": ("MET_*", "Muon_*")}, 263, None),
        ({"selection": TRILEPTON, "keep": ("*",), "compression": "LZMA:1"}, 263, None),
        ({"cut": CUT, "keep": ("*",), "compression": "LZ4:4"}, 567, ["all", "nanoAOD-tools"]),
        ({"cut": "0", "keep": ("MET_*", "Muon_*")}, 0, ["all", "nanoAOD-tools"]),
        ({"selection": TRILEPTON, "cut": "nMuon > 1"}, 154,
         ["all", "reached Trilepton", "three good leptons", "Z candidate", "W lepton", "Z muon identification"]),
        ({"selection": TRILEPTON, "cut": "0", "keep": ("Jet_*",)}, 0,
         ["all", "reached Trilepton", "three good leptons", "Z candidate", "W lepton", "Z muon identification"]),
        (
            {
                "modules": ("jet_sums.py:jet_sums", "leptons.py:MuonScale"), "keep": ("*", "drop Muon_dxy"),
                "cut": "nMuon > 1",
            },
            386,
            ["all", "nanoAOD-tools"],
        ),
        ({"modules": ("jet_sums.py:jet_sums", "leptons.py:Leptons"), "cut": "0"}, 0, ["all", "nanoAOD-tools"]),
    ],
)  # fmt: skip
def test_both_engines_give_the_same(
    source: Path, tmp_path: Path, job: dict[str, Any], selected: int, steps: list[str] | None
) -> None:
    _, ours, theirs = both(SkimJob(str(source), tmp_path / "out.root", base=MODULES, **job))
    assert theirs.accounting.selected == selected
    if steps is None:
        assert theirs.accounting == ours.accounting
    else:
        assert [step.cut for step in theirs.accounting.cutflow] == steps
    assert theirs.accounting.cutflow[-1] == replace(ours.accounting.cutflow[-1], cut=theirs.accounting.cutflow[-1].cut)


@needs_nanoaodtools
@pytest.mark.parametrize(
    ("job", "written"),
    [({"keep": ("Jet_pt", "Muon_*")}, 804), ({"cut": "nMuon > 1", "modules": ("jet_sums.py:jet_sums",)}, 326)],
)
def test_shifts(source: Path, tmp_path: Path, job: dict[str, Any], written: int) -> None:
    pytest.importorskip("correctionlib")
    selection = "services.shifted_jets:ShiftedJets"
    skim = SkimJob(str(source), tmp_path / "out.root", selection, MODULES, dataset=DATASET, **job)
    output, ours, theirs = both(skim)
    assert theirs.accounting.written == written > theirs.accounting.selected
    [first], [second] = ours.accounting.files, theirs.accounting.files
    if not skim.modules:
        assert first == second
    assert [each.shift for each in second.shifts] == [
        *("jesUp", "jesDown", "jesFlavorQCDUp", "jerUp", "jerDown", "spareDown")
    ]
    again = replace(skim, source=str(output), output=tmp_path / "again.root", selection="", modules=(), cut="1")
    for work in (skim_file, postprocess_file):
        with pytest.raises(NanoMLError, match=r"nanoaodtools.root: was skimmed with shifts.*cannot be skimmed again"):
            work(replace(again, keep=()))
    assert not again.output.exists()


@needs_nanoaodtools
@pytest.mark.service
@pytest.mark.parametrize("first", [[], ["--copy-first"]], ids=["read there", "copied first"])
def test_remote_files_give_the_same(
    first: list[str], xrootd: Cluster, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("XRootD")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    skim = [sys.executable, "-m", "MLTools.NanoML.cli", "skim", "--engine", "nanoaodtools"]
    skim += ["--selection", TRILEPTON, "--keep", "MET_*"]
    url = f"{xrootd.url}/store/{source.parent.name}/{source.name}"
    for options in (["-o", "local", source], [*first, "--redirector", xrootd.url, "-o", "remote", url]):
        done = subprocess.run([*skim, *map(str, options)], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    local, remote = (tmp_path / name / source.name for name in ("local", "remote"))
    assert events_of(local)[0] == events_of(remote)[0]
    for name, values in events_of(local)[1].items():
        assert ak.to_list(values) == ak.to_list(events_of(remote)[1][name])
    assert not list((tmp_path / "scratch").glob("nanoml-*"))


@needs_nanoaodtools
def test_selection_and_modules(source: Path, base: Path) -> None:
    keep = ("HLT_NeverWas", "scale", "drop Jet_eta")
    settings: dict[str, Any] = {"keep": keep, "branches": "rules.txt", "cut": "MET_pt > 40"}
    job = SkimJob(str(source), base / "out.root", "selections.py:Even", str(base), **settings)
    output, _, theirs = both(job)
    kinds, arrays = events_of(output)
    assert kinds.keys() >= {"Jet_pt", "PV_npvs", "nGood", "isGood", "scale", "HLT_NeverWas", "genWeight", "nJet"}
    assert not kinds.keys() & {"Jet_eta", "Jet_mass", "PV_z", "MET_pt"}
    assert set(arrays["scale"].tolist()) == {1.5}
    assert set(arrays["HLT_NeverWas"].tolist()) == {False}
    assert theirs.columns.keys() == {"nGood", "isGood"}


@needs_nanoaodtools
@pytest.mark.parametrize(
    ("name", "golden", "is_certified"),
    [
        ("made_v9_data", CERTIFIED, True),
        ("made_v9_data", {"315267": [[13, 20]], "1": [[11, 12]]}, False),
        ("made_v12_data", CERTIFIED, True),
    ],
)
@pytest.mark.parametrize("selection", ["", "selections.py:Even"])
def test_certified_data(
    name: str,
    golden: dict[str, list[list[int]]],
    is_certified: bool,
    selection: str,
    made_files: dict[str, Path],
    base: Path,
) -> None:
    path, certified = made_files[name], base / "golden.json"
    certified.write_text(json.dumps(golden))
    settings: dict[str, Any] = {"certified": str(certified), "cut": "nMuon > 0 || event % 3 == 0"}
    keep = ("MET_*", "Muon_*", "Jet_*", "HLT_IsoMu*")
    job = SkimJob(str(path), base / "out.root", selection, str(base), keep, **settings)
    _, ours, theirs = both(job)
    assert theirs.accounting.is_data
    assert theirs.accounting.luminosity_sections == ours.accounting.luminosity_sections
    assert theirs.accounting.selected < theirs.accounting.entries
    assert (theirs.accounting.selected > 0) == is_certified


@needs_nanoaodtools
@pytest.mark.exhaustive("files of all versions")
def test_every_file(made_file: Path, base: Path) -> None:
    job = SkimJob(str(made_file), base / "out.root", "selections.py:Even", str(base), ("*", "HLT_NeverWas"))
    with RootFile(made_file) as file:
        if file.format == "RNTuple":
            with pytest.raises(NanoMLError, match=r"RNTuple, which nanoAOD-tools cannot read\. Use the engine co"):
                postprocess_file(job)
            return
        expected = accounting_of(file)
    _, ours, theirs = both(job)
    assert theirs.accounting == ours.accounting
    assert theirs.accounting.sum_of_weights == expected.sum_of_weights


@needs_nanoaodtools
def test_a_skim_of_a_skim_has_one_record(source: Path, tmp_path: Path) -> None:
    first = SkimJob(str(source), tmp_path / "first.root", TRILEPTON, keep=("*",), engine="nanoaodtools")
    postprocess_file(first)
    output, _, theirs = both(SkimJob(str(first.output), tmp_path / "out.root", cut="MET_pt > 100", keep=("*",)))
    assert [step.cut for step in theirs.accounting.cutflow] == ["all", "nanoAOD-tools"]
    assert theirs.accounting.entries == 263
    assert theirs.accounting.sum_of_weights == 1000
    assert np.asarray(events_of(output)[1]["MET_pt"]).min() > 100


@needs_nanoaodtools
@pytest.mark.parametrize(
    ("job", "kind", "message"),
    [
        ({"cut": "MTE_pt > 3"}, NanoMLError, "cut `MTE_pt > 3`: ROOT does not understand it, or a branch in it"),
        ({"cut": "MET_pt >"}, NanoMLError, "cut `MET_pt >`: ROOT does not understand it"),
        ({"keep": ("MTE_pt",)}, NanoMLError, 'has no branch MTE_pt. Did you mean "MET_pt"'),
        ({"cut": "1", "compression": "ZSTD:5"}, ConfigError, 'compression "ZSTD:5": this nanoAOD-tools does not'),
        ({"selection": "selections.py:Wrong"}, NanoMLError, r"selections\.py:\d+: .*why\?"),
    ],
)
def test_errors(source: Path, base: Path, job: dict[str, Any], kind: type[NanoMLError], message: str) -> None:
    (base / "skims").mkdir()
    with pytest.raises(NanoMLError, match=message) as problem:
        postprocess_file(SkimJob(str(source), base / "skims" / "out.root", base=str(base), **job))
    assert type(problem.value) is kind
    assert list((base / "skims").iterdir()) == []


@needs_nanoaodtools
def test_a_damaged_basket(source: Path, tmp_path: Path) -> None:
    """ROOT continues, with other values in all branches."""
    damaged = with_a_damaged_basket(source, "Muon_dxy", tmp_path / "in.root")
    with pytest.raises(UnreadableError, match=r"in\.root: cannot be read .* It may be truncated or damaged") as problem:
        postprocess_file(SkimJob(str(damaged), tmp_path / "skims" / "out.root", cut="nMuon > 0", keep=("Muon_*",)))
    assert problem.value.path == str(damaged)
    assert list((tmp_path / "skims").iterdir()) == []


@needs_nanoaodtools
def test_the_command(source: Path, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        f"datasets: {{W: {{files: {source}}}}}\nskim: {{selection: {TRILEPTON}, engine: nanoaodtools}}\n"
    )
    for arguments in (["a.yaml"], ["--engine", "nanoaodtools", "--selection", TRILEPTON, "-o", "skims", str(source)]):
        line = [sys.executable, "-m", "MLTools.NanoML.cli", "skim", *arguments]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "263 of 1,000 events kept, sum of weights 1000" in done.stderr
