from __future__ import annotations

import glob
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from data_processing.crab.job import (
    CANNOT_OPEN,
    CANNOT_READ,
    CONFIGURATION,
    OTHER,
    REPORT,
    FileReport,
    main,
    mask_of,
    read_job,
    write_failure,
    write_job,
    write_success,
)
from data_processing.crab.tasks import inputs_of, write_tasks
from data_processing.skim.plan import SkimJob
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import DatasetInfo


def failure(directory: Path) -> tuple[int, str]:
    error: Any = ElementTree.parse(directory / REPORT).getroot().find("FrameworkError")
    return int(error.get("ExitStatus", "0")), error.text or ""


def test_luminosity_sections_of_a_job() -> None:
    assert mask_of([]) is None
    mask: Any = mask_of(["315267:1-315267:88", "315267:91", "315268:5-315268:5"])
    assert mask.as_dict() == {"315267": [[1, 88], [91, 91]], "315268": [[5, 5]]}
    for text in ("1:2-3:4", "1", "1:a", "1:5-1:2"):
        with pytest.raises(NanoMLError, match=r"PSet.py: "):
            mask_of([text])


def test_codes_of_what_goes_wrong(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = sample / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root"

    def code_of(*files: Any, **more: Any) -> tuple[int, str]:
        assert main(SimpleNamespace(source=SimpleNamespace(fileNames=files, **more))) == 1
        return failure(tmp_path)

    assert code_of(str(source)) == (CONFIGURATION, failure(tmp_path)[1])
    assert "job.json: is not what" in failure(tmp_path)[1]
    write_job(tmp_path, SkimJob("", Path(), "no.such.module:Selection"))
    assert code_of()[0] == CONFIGURATION
    code, text = code_of("/nowhere/x.root")
    assert code == CANNOT_OPEN
    assert "/nowhere/x.root: no such file" in text
    assert not (tmp_path / "nano.root").exists()
    assert code_of(None)[0] == OTHER
    assert "Traceback" in capsys.readouterr().err
    code, text = code_of(f"file:{source}", lumisToProcess=["1:14001-1:14001"])
    assert code == CONFIGURATION
    assert "the weights of simulation can only be counted for whole files" in text
    (tmp_path / "broken.root").write_bytes(source.read_bytes()[:2000])
    assert code_of("broken.root")[0] == CANNOT_READ
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("nanoml-")] == []


IDENTITY = "0123456789abcdef0123456789abcdef"


def test_what_was_read_and_written(tmp_path: Path) -> None:
    inputs = [FileReport("/store/mc/<a>&b.root", 1000, {"1": [[14001, 14003]]}), FileReport("/store/mc/c.root", 0)]
    write_success(tmp_path, inputs, FileReport("nano.root", 12, {"1": [[14001, 14003]]}), IDENTITY)
    root = ElementTree.parse(tmp_path / REPORT).getroot()
    assert [each.findtext("LFN") for each in root.iter("InputFile")] == [each.name for each in inputs]
    assert [each.findtext("EventsRead") for each in root.iter("InputFile")] == ["1000", "0"]
    output: Any = root.find("File")
    assert (output.findtext("PFN"), output.findtext("TotalEvents")) == ("nano.root", "12")
    assert [each.get("ID") for each in output.iter("LumiSection")] == ["14001", "14002", "14003"]
    assert root.findtext("Process/ParameterSetID") == IDENTITY
    assert root.find("FrameworkError") is None


def test_a_failure_in_plain_ascii(tmp_path: Path) -> None:
    message = "größer <than> it\nshould & be \x1b[31mred\x00"
    write_failure(tmp_path, 8020, "FileOpenError", message)
    data = (tmp_path / REPORT).read_bytes()
    assert data.isascii()
    error: Any = ElementTree.fromstring(data).find("FrameworkError")
    assert (error.get("ExitStatus"), error.get("Type")) == ("8020", "FileOpenError")
    assert error.text == "größer <than> it\nshould & be ?[31mred?"


def test_a_damaged_job(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"schema": 2}', '{"schema": 1, "cut": ""}'):
        (tmp_path / "job.json").write_text(text)
        with pytest.raises(ConfigError, match=r"job.json: is not what `nanoml submit` writes"):
            read_job(tmp_path)


MakeConfig = Callable[..., Config]

ROOT = Path(__file__).resolve().parents[3]
MC = "/WprimeToWZToLNuLL_M600/Run2-v1/NANOAODSIM"
DATA = "/SingleMuon/Run2018A-UL2018_v9/NANOAOD"
CERTIFIED = {"315267": [[1, 88]]}

# what crab_cfg.py needs of CRABClient: sections that take any attribute
CRAB = """
from types import SimpleNamespace
def config():
    return SimpleNamespace(**{name: SimpleNamespace() for name in ("General", "JobType", "Data", "Site", "User", "Debug")})
"""


@pytest.fixture
def analysis(tmp_path: Path) -> MakeConfig:
    """Makes a configuration of datasets and a skim, in a directory with a name that shells and globs stumble over."""
    base = tmp_path / "it's [my] $analysis"
    base.mkdir()

    def make(
        datasets: dict[str, Any] | None = None,
        score: dict[str, Any] | None = None,
        batch: dict[str, Any] | None = None,
        eras: dict[str, Any] | None = None,
        others: dict[str, Any] | None = None,
        **skim: Any,
    ) -> Config:
        content = {
            "datasets": datasets or {"WZ": {"das": MC}},
            "skim": {"selection": "MLTools.NanoML.trilepton:Trilepton", **skim},
            "batch": batch or {"grid": {"site": "T2_CH_CERN", "directory": "/store/user/me/analysis"}},
            **({"score": score} if score else {}),
            **({"eras": eras} if eras else {"luminosity": 1.0}),
            **(others or {}),
        }
        for each in content["datasets"].values():
            if not each.get("data"):
                each.setdefault("cross_section", 1.0)
                each.setdefault("class", "WZ")
        path = base / "my analysis.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return load(path)

    return make


def configured(path: Path, directory: Path) -> dict[str, dict[str, Any]]:
    """What a crab_cfg.py sets, as Python finds it from another directory."""
    client = directory / "client" / "CRABClient"
    client.mkdir(parents=True, exist_ok=True)
    (client / "UserUtilities.py").write_text(CRAB)
    code = (
        "import json, runpy, sys; sys.path.insert(0, sys.argv[2])\n"
        "config = runpy.run_path(sys.argv[1])['config']\n"
        "print(json.dumps({name: vars(section) for name, section in vars(config).items()}))"
    )
    line = [sys.executable, "-IS", "-c", code, str(path), str(client.parent)]
    found: dict[str, dict[str, Any]] = json.loads(subprocess.check_output(line, cwd=directory))
    return found


def test_a_task_for_each_dataset(analysis: MakeConfig) -> None:
    files = ["/store/mc/a/x.root", "root://eos.cern.ch//store/mc/a/y.root"]
    muons = {"das": [DATA, DATA.replace("2018A", "2018B")], "data": True}
    config = analysis({"WZ.ext": {"das": MC}, "ZG": {"files": files}, "Muon": muons})
    tasks = {task.name: task for task in inputs_of(config)}
    assert list(tasks) == ["WZ.ext", "ZG", "Muon_1", "Muon_2"]
    assert tasks["WZ.ext"].dataset == MC
    assert tasks["ZG"].files == ("/store/mc/a/x.root", "/store/mc/a/y.root")
    assert tasks["Muon_2"].settings.is_data


def test_what_crab_is_told_of_the_catalogue(analysis: MakeConfig, tmp_path: Path) -> None:
    user = "/Mine/me-skim-0123abcd/USER"
    datasets: dict[str, Any] = {
        "few": {"das": MC, "max_files": 3, "status": ["VALID", "PRODUCTION"]},
        "mine": {"das": user},
        "other": {"das": user.replace("skim", "other"), "instance": "prod/phys01"},
    }
    write_tasks(analysis(datasets), tmp_path / "out", "x")
    data = {name: configured(tmp_path / "out" / name / "crab_cfg.py", tmp_path)["Data"] for name in datasets}
    assert (data["few"]["totalUnits"], data["few"]["allowNonValidInputDataset"]) == (3, True)
    assert [each["inputDBS"] for each in data.values()] == ["global", "phys03", "phys01"]
    assert not {"totalUnits", "allowNonValidInputDataset"} & set(data["mine"])


def test_files_of_a_text_file(analysis: MakeConfig) -> None:
    config = analysis({"ZG": {"files": "all.txt", "max_files": 2}})
    (config.base / "all.txt").write_text("\n".join(f"/store/mc/a/{number}.root" for number in range(4)))
    (task,) = inputs_of(config)
    assert task.files == ("/store/mc/a/0.root", "/store/mc/a/1.root")
    (config.base / "all.txt").write_text("/store/mc/a/0.root\nroot://x//tmp/y.root\n")
    message = r"datasets.ZG.files: .*all.txt:2: root://x//tmp/y.root: is not something that"
    with pytest.raises(ConfigError, match=message):
        inputs_of(config)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"das": "/WZ*/Run2-v1/NANOAODSIM"},
         r"das: /WZ\*/Run2-v1/NANOAODSIM: CRAB takes no wildcards. `nanoml datasets"),
        ({"das": MC, "max_events": 5}, "max_events: CRAB takes files, whatever their events. Use max_files"),
        ({"das": [MC, MC.replace("M600", "M700")], "max_files": 5},
         "max_files: makes 2 tasks, and max_files counts for all of them together"),
        *(
            ({"files": name}, "files.*not something that CRAB can read")
            for name in ("/home/me/x.root", "data/*.root", "/A/B/MINIAODSIM", "root://x//tmp/y.root")
        ),
    ],
)  # fmt: skip
def test_what_crab_cannot_do(dataset: dict[str, Any], message: str, analysis: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=rf"my analysis.yaml:\d+: datasets.WZ.{message}"):
        inputs_of(analysis({"WZ": dataset}))


def test_names_that_are_one_for_crab(analysis: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"W.Z and W_z have the same name for CRAB"):
        inputs_of(analysis({"W.Z": {"das": MC}, "W_z": {"das": MC}}))


def test_a_task_has_all_that_crab_needs(
    analysis: MakeConfig, linear_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = linear_model(["MET_pt", "mass"], parameter={"column": "mass", "values": [600.0]})
    config = analysis(
        {"Muon": {"das": DATA, "data": True}},
        {"model": [str(model)], "parameter": {"mass": 650}},
        certified="golden's.json",
        branches="keep [and] drop.txt",
        keep=["MET_*"],
        cut="nMuon > 0 && MET_pt > 20",
    )
    (config.base / "golden's.json").write_text(json.dumps(CERTIFIED))
    (config.base / "keep [and] drop.txt").write_text("drop HLT_*\n")
    output = config.base / "the tasks"
    (written,) = write_tasks(config, output, "my_analysis-1")
    assert (written.what, written.scores, written.memory, written.time) == (DATA, ["linear"], 2500, None)
    directory = output / "Muon"
    assert read_job(directory) == SkimJob(
        "",
        Path(),
        "MLTools.NanoML.trilepton:Trilepton",
        base=str(directory),
        modules=["score_models.py:model_0"],
        cut="nMuon > 0 && MET_pt > 20",
        certified="certified.json",
        branches="branches.txt",
        keep=["MET_*"],
        dataset=DatasetInfo("Muon", is_data=True),
        engine="nanoaodtools",
    )
    assert json.loads((directory / "certified.json").read_text()) == CERTIFIED
    assert (directory / "model_0.onnx").read_bytes() == model.read_bytes()
    assert "'model_0.onnx'), 650.0)" in (directory / "score_models.py").read_text()
    assert (directory / "crab_script.sh").stat().st_mode & stat.S_IXUSR
    found = configured(directory / "crab_cfg.py", tmp_path)
    assert found["General"] == {
        "requestName": "my_analysis-1_Muon",
        "transferOutputs": True,
        "transferLogs": True,
        "workArea": str(directory / "crab"),
    }
    assert found["Data"] == {
        "inputDataset": DATA, "inputDBS": "global", "splitting": "FileBased", "unitsPerJob": 1, "publication": False,
        "outputDatasetTag": "my_analysis-1_Muon", "outLFNDirBase": "/store/user/me/analysis",
        "lumiMask": str(directory / "certified.json"),
    }  # fmt: skip
    assert found["Site"] == {"storageSite": "T2_CH_CERN"}
    assert Path(found["JobType"]["psetName"]).is_file()
    assert Path(found["JobType"]["scriptExe"]).is_file()
    sent = [name for pattern in found["JobType"]["inputFiles"] for name in glob.glob(pattern)]
    assert len(sent) == len(found["JobType"]["inputFiles"])
    written = {path.name for path in directory.iterdir()} - {"PSet.py", "crab_script.sh", "crab_cfg.py"}
    assert {Path(name).name for name in sent} == {*written, "data_processing"}


def test_files_named_one_by_one_run_at_the_sites_that_are_named(analysis: MakeConfig, tmp_path: Path) -> None:
    grid = {"site": "T2_DE_DESY", "run_at": ["T2_DE_*", "T1_US_FNAL"]}
    batch = {"grid": grid, "files_per_job": 4, "memory": 2000, "stages": {"skim": {"time": "90min"}}}
    config = analysis({"ZG": {"files": ["/store/mc/a/x.root"]}}, batch=batch, certified="missing.json")
    (written,) = write_tasks(config, tmp_path / "out", "x")
    assert (written.what, written.scores, written.memory, written.time) == ("1 file", [], 2000, 5400)
    found = configured(tmp_path / "out" / "ZG" / "crab_cfg.py", tmp_path)
    assert found["Data"]["userInputFiles"] == ["/store/mc/a/x.root"]
    assert found["Data"]["unitsPerJob"] == 4
    assert found["JobType"]["maxMemoryMB"] == 2000
    assert found["JobType"]["maxJobRuntimeMin"] == 90
    assert "lumiMask" not in found["Data"]  # it is simulation
    assert found["Site"] == {"whitelist": ["T2_DE_*", "T1_US_FNAL"], "storageSite": "T2_DE_DESY"}


def test_names_of_requests_are_not_longer_than_crab_takes(analysis: MakeConfig, tmp_path: Path) -> None:
    config = analysis({f"{'W' * 120}{end}": {"das": MC} for end in "12"})
    write_tasks(config, tmp_path / "out", "x-1")
    written = (tmp_path / "out").glob("*/crab_cfg.py")
    names = [configured(path, tmp_path)["General"]["requestName"] for path in written]
    assert len(set(names)) == 2
    assert {len(name) for name in names} == {100}


def test_own_files_travel_with_what_stands_beside_them(analysis: MakeConfig, tmp_path: Path) -> None:
    config = analysis(selection="own/selection.py:Mine")
    (config.base / "own").mkdir()
    (config.base / "own" / "my_cuts.py").write_text("def least():\n    return 20\n")
    (config.base / "own" / "selection.py").write_text(
        "from my_cuts import least\nfrom MLTools.NanoML.selection import Selection\n\n"
        "class Mine(Selection):\n    branches = ('MET_pt',)\n    columns = {}\n\n"
        "    def select(self, events, cutflow):\n"
        "        return cutflow.cut('met', events.MET.pt > least(), events), {}\n"
    )
    write_tasks(config, tmp_path / "out", "x-1")
    directory = tmp_path / "out" / "WZ"
    assert read_job(directory).selection == "selection.py:Mine"
    assert (directory / "my_cuts.py").is_file()
    (config.base / "own" / "selection.py").rename(config.base / "own" / "PSet.py")
    with pytest.raises(ConfigError, match=r"PSet.py: CRAB needs a file of this name of its own"):
        write_tasks(analysis(selection="own/PSet.py:Mine"), tmp_path / "out", "x-1")
    (config.base / "own" / "PSet.py").rename(config.base / "own" / "selection.py")
    (config.base / "own" / "__init__.py").touch()
    with pytest.raises(ConfigError, match=r"is part of a package, which CRAB does not send"):
        write_tasks(analysis(selection="own/selection.py:Mine"), tmp_path / "out", "x-1")


def test_each_era_is_scored_by_its_own_model(
    analysis: MakeConfig, linear_model: Callable[..., Path], tmp_path: Path
) -> None:
    years = ("2018", "2022")
    datasets = {
        f"{name}_{year}": {"das": MC, "class": name, "era": year} for name in ("signal", "WZ") for year in years
    }
    others = {"train": {"per_era": True}, "score": {}, "convert": {"features": ["MET_pt"]}, "workdir": "out"}
    config = analysis(datasets, eras={year: {"luminosity": 1.0} for year in years}, others=others)
    models = {year: linear_model(["MET_pt"], name=f"of_{year}") for year in years}
    (config.base / "out").mkdir()
    for year, model in models.items():
        shutil.copy(model, config.base / "out" / f"model_{year}.onnx")
    tasks = write_tasks(config, tmp_path / "out", "x-1")
    assert len(tasks) == 4
    for task in tasks:
        sent = (tmp_path / "out" / task.name / "model_0.onnx").read_bytes()
        assert [year for year, model in models.items() if sent == model.read_bytes()] == [task.name[-4:]]


def test_a_model_that_cannot_be_used_is_told_before_anything_is_written(
    analysis: MakeConfig, linear_model: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(NanoMLError, match=r"model.onnx: no such file"):
        write_tasks(analysis(score={"model": ["model.onnx"]}), tmp_path / "out", "x-1")
    model = linear_model(["MET_pt", "mass"], parameter={"column": "mass", "values": [600.0]})
    with pytest.raises(ConfigError, match=r"the model has the parameter mass"):
        write_tasks(analysis(score={"model": [str(model)]}), tmp_path / "out", "x-1")
    assert not (tmp_path / "out").exists()


def test_tasks_that_do_the_same_are_known_by_their_digest(analysis: MakeConfig, tmp_path: Path) -> None:
    def digest(name: str, *arguments: Any, **settings: Any) -> str:
        (written,) = write_tasks(analysis(*arguments, **settings), tmp_path / name, name)
        return written.digest

    first = digest("1")
    assert digest("2") == first
    others = [
        digest("3", {"WZ": {"das": MC.replace("v1", "v2")}}),
        digest("4", keep=["MET_*"]),
        digest("5", batch={"grid": {"site": "T2_DE_DESY"}}),
        digest("6", batch={"grid": {"site": "T2_CH_CERN", "directory": "/store/user/me/analysis"}, "files_per_job": 2}),
    ]
    assert len({first, *others}) == 5
    assert not list(tmp_path.glob("**/.*"))


def test_corrections_travel_with_the_jobs_of_their_era(analysis: MakeConfig, tmp_path: Path) -> None:
    muons = {"das": DATA, "data": True, "triggers": ["HLT_Mu50"], "era": 2018}
    era = {"luminosity": 59.8, "certified": "golden.json", "corrections": "corrections/2018.yaml"}
    config = analysis({"WZ": {"das": MC, "era": 2018}, "Muon": muons}, eras={2018: era})
    shutil.copytree(ROOT / "examples" / "corrections", config.base / "corrections")
    (config.base / "golden.json").write_text(json.dumps(CERTIFIED))
    write_tasks(config, tmp_path / "tasks", "my_analysis-1")
    shutil.rmtree(config.base / "corrections")
    jobs = {name: read_job(tmp_path / "tasks" / name) for name in ("WZ", "Muon")}
    assert (jobs["WZ"].certified, jobs["Muon"].certified) == ("", "certified.json")
    for name, job in jobs.items():
        assert (job.dataset.name, job.dataset.era, list(job.dataset.triggers)) == (name, "2018", ["HLT_Mu50"])
        directory = tmp_path / "tasks" / name
        corrections = job.dataset.corrections
        assert corrections.pileup(np.array([30.0])).nominal > 0
        assert corrections.jets.resolution.name == "Invented2018_JRV1_MC_PtResolution_AK4PF"
        sent = [Path(each).name for each in configured(directory / "crab_cfg.py", tmp_path)["JobType"]["inputFiles"]]
        assert "corrections.yaml" in sent
        assert {"pileup.json", "jets.json"} <= {name.rpartition("_")[2] for name in sent}


def test_crab_does_not_send_the_samples() -> None:
    """Its client sends each directory of these names below src, whatever is in it."""
    sent = [it for name in ("data", "interface", "python") for it in (ROOT / "examples").rglob(name) if it.is_dir()]
    assert not sent
