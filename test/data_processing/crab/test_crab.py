"""A CRAB job as the grid runs it: crab/crab_script.sh beside its PSet.py, with nanoAOD-tools and ROOT where there are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import uproot
import yaml

from data_processing.crab.tasks import write_tasks
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.config.load import load
from MLTools.NanoML.model import Model
from MLTools.NanoML.nanoaod.accounting import accounting_of
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile
from services.arrays import same
from services.nanoaod import with_a_damaged_basket
from services.nanoaodtools import is_there, needs_nanoaodtools
from services.rootfiles import record_of
from services.shifted_jets import DATASET, ShiftedJets

MakeJob = Callable[..., Path]

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "data" / "leptons.onnx"
CUT = "nElectron + nMuon >= 3"
TRILEPTON = "MLTools.NanoML.trilepton:Trilepton"
pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")

PSET = """
from types import SimpleNamespace
process = SimpleNamespace(source=SimpleNamespace(fileNames={files!r}, lumisToProcess={sections!r}))
"""

OWN = """
from least import LEAST
from MLTools.NanoML.selection import Selection
from PhysicsTools.NanoAODTools.postprocessing.framework.eventloop import Module

class Missing(Selection):
    branches = ("MET_pt",)
    columns = {}

    def select(self, events, cutflow):
        return cutflow.cut("missing momentum", events.MET.pt > LEAST, events), {}

class Even(Module):
    def analyze(self, event):
        return event.event % 2 == 0
"""


@pytest.fixture
def job(tmp_path: Path) -> MakeJob:
    """Makes the directory of a job: the files of a task, and the PSet.py that CRAB would have filled in."""

    def make(
        files: Sequence[str],
        sections: Sequence[str] = (),
        data: bool = False,
        corrections: str | None = None,
        **settings: object,
    ) -> Path:
        dataset = "/A/B/NANOAOD" if data else "/A/B/NANOAODSIM"
        described = {"data": True} if data else {"class": "signal", "cross_section": 1.0}
        content = {
            "luminosity": 1.0,
            **({"corrections": corrections} if corrections else {}),
            "datasets": {"A": {"das": dataset, **described}},
            "skim": {"keep": ["MET_*", "Electron_*", "Muon_*"], **settings},
            "score": {"model": [str(MODEL)]},
            "batch": {"grid": {"site": "T2_CH_CERN"}},
        }
        (tmp_path / "analysis.yaml").write_text(yaml.safe_dump(content))
        write_tasks(load(tmp_path / "analysis.yaml"), tmp_path / "tasks", "analysis-1")
        directory = tmp_path / "job"
        shutil.copytree(tmp_path / "tasks" / "A", directory)
        sources = ROOT / "data_processing"
        shutil.copytree(sources, directory / "data_processing", ignore=shutil.ignore_patterns("__pycache__"))
        (directory / "PSet.py").write_text(PSET.format(files=list(files), sections=list(sections)))
        return directory

    return make


def run(directory: Path) -> tuple[int, ElementTree.Element]:
    """Run the job as CRAB does; return its exit code and its report."""
    binaries = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([binaries, os.environ["PATH"]])}
    line, place = [str(directory / "crab_script.sh"), "1"], directory.parent
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, cwd=place)
    report = ElementTree.parse(directory / "FrameworkJobReport.xml").getroot()
    assert (done.returncode != 0) == (report.find("FrameworkError") is not None), done.stdout + done.stderr
    return done.returncode, report


def failure(report: ElementTree.Element) -> tuple[str | None, str]:
    error = report.find("FrameworkError")
    assert error is not None
    return error.get("ExitStatus"), error.text or ""


def test_a_job_that_cannot_begin_is_reported(job: MakeJob, sample: Path) -> None:
    directory = job([str(sample / "ZGToLLG" / "ZGToLLG_0.root")], cut=CUT)
    (directory / "PSet.py").write_text("import no_such_module\n")
    code, report = run(directory)
    assert (code, failure(report)) == (1, ("1", failure(report)[1]))
    assert "see the end of the log" in failure(report)[1]


@pytest.mark.skipif(is_there("ROOT"), reason="ROOT is here")
def test_without_root_a_job_says_so(job: MakeJob, sample: Path) -> None:
    _, report = run(job([str(sample / "ZGToLLG" / "ZGToLLG_0.root")], cut=CUT))
    assert failure(report)[0] == "8002"
    assert "cannot be imported" in failure(report)[1]


@needs_nanoaodtools
def test_a_job_skims_and_scores_and_reports(job: MakeJob, sample: Path, tmp_path: Path) -> None:
    folder = sample / "WprimeToWZToLNuLL_M600"
    sources = [folder / f"WprimeToWZToLNuLL_M600_{number}.root" for number in range(2)]
    directory = job([f"file:{sources[0]}", str(sources[1])], selection=TRILEPTON, cut=CUT)
    code, report = run(directory)
    assert code == 0
    kept = 0
    for number, source in enumerate(sources):
        ours = skim_file(SkimJob(str(source), tmp_path / f"{number}.root", TRILEPTON, cut=CUT))
        kept += ours.selected
    assert [each.findtext("EventsRead") for each in report.iter("InputFile")] == ["1000", "1000"]
    assert [report.findtext(f"File/{name}") for name in ("PFN", "TotalEvents")] == ["nano.root", str(kept)]
    assert len({each.get("ID") for each in report.findall("File/Runs/Run/LumiSection")}) == 10
    with RootFile(directory / "nano.root") as file:
        assert file.entries == kept
        assert accounting_of(file).sum_of_weights == 2000
    record = record_of(directory / "nano.root")
    assert record.accounting.entries == 2000
    assert record.accounting.sum_of_weights == 2000
    with uproot.open(directory / "nano.root") as file:
        events = file["Events"].arrays()
    model = Model(MODEL)
    fold = fold_of(events.run, events.luminosityBlock, events.event, model.folds)
    scores = model.scores({name: events[name] for name in model.reads}, fold)
    for column, name in zip(scores.T, model.outputs):
        np.testing.assert_allclose(events[f"leptons_{name}"], column, atol=2e-6)
    assert not [path for path in directory.iterdir() if path.name.startswith("nanoml-")]


@needs_nanoaodtools
def test_a_job_with_shifts_and_corrections(job: MakeJob, sample: Path, tmp_path: Path) -> None:
    pytest.importorskip("correctionlib")
    corrections = ROOT / "examples" / "corrections" / "2018.yaml"
    shutil.copy(ROOT / "test" / "services" / "shifted_jets.py", tmp_path / "my_jets.py")
    sources = [sample / "WprimeToWZToLNuLL_M600" / f"WprimeToWZToLNuLL_M600_{number}.root" for number in range(2)]
    selection = "my_jets.py:ShiftedJets"
    directory = job([str(source) for source in sources], corrections=str(corrections), selection=selection)
    info = replace(DATASET, name="A")
    ours = [
        skim_file(SkimJob(str(source), tmp_path / f"{number}.root", selection, str(tmp_path), dataset=info)).files[0]
        for number, source in enumerate(sources)
    ]
    (tmp_path / "my_jets.py").unlink()
    code, report = run(directory)
    assert code == 0
    with RootFile(directory / "nano.root") as file:
        record = Provenance.of(file)
        assert record is not None
        assert record.contradiction(file) is None
        assert report.findtext("File/TotalEvents") == str(file.entries) == str(sum(each.written for each in ours))
        arrays = file.read(["event", *ShiftedJets().made.described, "leptons_WZ"])
    assert [replace(each, file="") for each in record.accounting.files] == [replace(each, file="") for each in ours]
    assert record.accounting.written > record.accounting.selected
    skims = []
    for number in range(2):
        with RootFile(tmp_path / f"{number}.root") as file:
            skims.append(file.read(list(file.branches)))
    nominal = ShiftedJets().made.nominal
    for name in ("event", *ShiftedJets().made.described):
        parts = [np.asarray(skim[name] if name in skim else skim[nominal[name]]) for skim in skims]
        assert same(arrays[name], np.concatenate(parts))


@needs_nanoaodtools
def test_a_damaged_copy_at_the_site_is_replaced_by_a_good_one(
    job: MakeJob, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    damaged = with_a_damaged_basket(source, "Muon_dxy", tmp_path / "damaged.root")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, line in {"edmFileUtil": f'echo "file:{damaged}"', "xrdcp": f'cp "{damaged}" "$4"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    directory = job(["/store/mc/A/x.root"], cut="nMuon >= 2")
    code, report = run(directory)
    assert (code, failure(report)[0]) == (1, "8021")
    assert not (directory / "nano.root").exists()
    (programs / "xrdcp").write_text(f'#!/bin/sh\ncp "{source}" "$4"\n')
    assert run(directory)[0] == 0
    with uproot.open(source) as expected, uproot.open(directory / "nano.root") as found:
        events = expected["Events"].arrays(["nMuon", "Muon_dxy"])
        assert same(found["Events/Muon_dxy"].array(), events.Muon_dxy[events.nMuon >= 2])


@needs_nanoaodtools
def test_own_selections_and_modules_run_from_the_jobs_directory(job: MakeJob, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "my cuts.py").write_text(OWN)
    (tmp_path / "least.py").write_text("LEAST = 40\n")
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    directory = job([str(source)], selection="my cuts.py:Missing", modules=["my cuts.py:Even"])
    (tmp_path / "least.py").unlink()
    (tmp_path / "my cuts.py").unlink()
    code, _ = run(directory)
    assert code == 0
    with uproot.open(source) as file:
        events = file["Events"].arrays(["MET_pt", "event"], library="np")
    with uproot.open(directory / "nano.root") as file:
        found = file["Events/event"].array(library="np")
    expected = events["event"][(events["MET_pt"] > 40) & (events["event"] % 2 == 0)]
    assert found.tolist() == expected.tolist()
    assert len(found) > 10


@needs_nanoaodtools
@pytest.mark.parametrize("last", [10, 11])
def test_data_of_certified_sections_that_are_the_jobs(
    last: int, job: MakeJob, made_files: dict[str, Path], tmp_path: Path
) -> None:
    source = made_files["made_v9_data"]  # section 10 of this run has no events
    (tmp_path / "golden.json").write_text(json.dumps({"315267": [[1, last]]}))
    sections = ["315267:9-315267:12"]
    directory = job([str(source)], sections, data=True, cut="nElectron >= 1", certified="golden.json")
    code, report = run(directory)
    assert code == 0
    with uproot.open(source) as file:
        events = file["Events"].arrays(["nElectron", "luminosityBlock"], library="np")
    kept = (events["nElectron"] >= 1) & (events["luminosityBlock"] <= last)
    expected = list(range(10, last + 1))
    with RootFile(directory / "nano.root") as file:
        assert file.entries == kept.sum()
        assert (file.entries > 0) == (last == 11)
    record = record_of(directory / "nano.root")
    read = LumiMask.of([315267] * len(expected), expected).as_dict()
    assert record.accounting.luminosity_sections.as_dict() == read
    for tag in ("InputFile", "File"):
        found = [int(each.get("ID", "0")) for each in report.findall(f"{tag}/Runs/Run/LumiSection")]
        assert found == expected


@needs_nanoaodtools
def test_a_job_of_which_no_event_passes(job: MakeJob, sample: Path) -> None:
    source = sample / "ZGToLLG" / "ZGToLLG_0.root"
    with RootFile(source) as file:
        expected = accounting_of(file).sum_of_weights
    directory = job([str(source)], cut="nMuon > 1000")
    code, report = run(directory)
    assert code == 0
    assert report.findtext("File/TotalEvents") == "0"
    with RootFile(directory / "nano.root") as file:
        assert file.entries == 0
        assert "leptons_signal" in file.branches
        assert accounting_of(file).sum_of_weights == expected


@needs_nanoaodtools
def test_a_cut_that_root_does_not_understand_is_told(job: MakeJob, sample: Path) -> None:
    directory = job([str(sample / "ZGToLLG" / "ZGToLLG_0.root")], cut="NoSuchBranch > 3")
    code, report = run(directory)
    assert code == 1
    assert failure(report)[0] == "8002"
    assert "NoSuchBranch" in failure(report)[1]


def test_the_pages_on_crab_and_cmssw(follow: Callable[..., None], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    shutil.copytree(ROOT / "data", tmp_path / "data")
    follow("batch.md#run-skims-with-crab", tmp_path)
    follow("cmssw.md#score-in-cmssw", tmp_path, inside=".")
    tasks = tmp_path / "jobs" / "crab-dry-run"
    assert sorted(path.parent.name for path in tasks.glob("*/crab_cfg.py")) == ["background", "signal"]
    lines = (tmp_path / "scores.txt").read_text().splitlines()
    assert len(lines) == 800
    words = [line.split()[1:] for line in lines]
    scores = [dict(zip(each[::2], map(float, each[1::2]))) for each in words]
    assert sum(each["ZG"] == max(each[name] for name in ("signal", "WZ", "ZG")) for each in scores) > 400
