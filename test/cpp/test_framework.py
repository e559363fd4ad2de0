"""The plugins in a job: what `scram b runtests` runs by cmsRun, over stand-ins of the framework, and what a job refuses."""

from __future__ import annotations

import copy
import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from services.cplusplus import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORK = ROOT / "test" / "framework"
STORED = json.loads((FRAMEWORK / "events.json").read_text())
EXPECTED = STORED["expected"]["2018"]
PASSED = [passed for [passed] in EXPECTED["score_passed"]]
FEW = 12
VARIANTS = ["plain", "selection", "filter", "corrected", "era", "triggers", "streams"]

Job = dict[str, Any]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], Job]]:
    """Gives the job of a variant, as testJob reads it."""
    (tmp_path / "MLTools").mkdir()
    (tmp_path / "MLTools" / "NanoML").symlink_to(ROOT)
    monkeypatch.chdir(tmp_path)  # from where files of a package are found
    others = {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] == "FWCore"}
    monkeypatch.syspath_prepend(ROOT / "test" / "cpp" / "cmssw")

    def read(variant: str) -> Job:
        monkeypatch.setattr(sys, "argv", ["cmsRun", "compare_cfg.py", variant])
        found: Job = runpy.run_path(str(FRAMEWORK / "compare_cfg.py"))["process"].job()
        return found

    yield read
    for name in [name for name in sys.modules if name.split(".")[0] == "FWCore"]:
        del sys.modules[name]  # tests of the real one are skipped where it is not
    sys.modules.update(others)


@pytest.fixture
def run(programs: Path) -> Run:
    def run(*jobs: Job) -> subprocess.CompletedProcess[str]:
        paths = [Path(f"job{number}.json") for number, _ in enumerate(jobs)]
        for path, job in zip(paths, jobs):
            path.write_text(json.dumps(job))
        command = [programs / "testJob", *paths]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)

    return run


def module(job: Job, label: str) -> Any:
    return next(each["parameters"] for each in job["modules"] if each["label"] == label)


def first_events(number: int) -> Any:
    """The first events of the file, which are read in less time."""

    def cut(part: Any) -> Any:
        if isinstance(part, list):
            return part[:number]
        return {name: it if name == "type" else cut(it) for name, it in part.items()}

    return {name: part if name == "first" else cut(part) for name, part in STORED.items()}


def with_events(job: Job, content: Any) -> Job:
    """The same with other events."""
    Path("events.json").write_text(json.dumps(content))
    for each in job["modules"]:
        if "events" in each["parameters"]:
            each["parameters"]["events"] = ["FileInPath", "events.json"]
    return {**job, "events": len(content["columns"]["MET_pt"]["values"])}


@pytest.fixture
def selection(job: Callable[[str], Job]) -> Job:
    """The job with a selection, on a few events."""
    return with_events(job("selection"), first_events(FEW))


@pytest.mark.parametrize("variant", [each for each in VARIANTS if each != "streams"])  # the stand-in has two anyway
def test_all_is_as_in_python(variant: str, job: Callable[[str], Job], run: Run) -> None:
    all_are_read = variant in ("selection", "plain")
    read = PASSED if all_are_read else PASSED[:FEW]
    done = run(job(variant) if all_are_read else with_events(job(variant), first_events(FEW)))
    assert done.returncode == 0, done.stderr[-2000:]
    events = sum(read) if variant == "filter" else len(read)
    assert f"NanoMLTest: {events} events with {4 if variant == 'plain' else 14} branches are" in done.stdout
    if variant == "selection":
        outside = sum(not 10 <= ht <= 100 for passed, [ht] in zip(PASSED, EXPECTED["HT"]) if passed)
        share = f"{100 * outside / sum(PASSED):.2g} %"
        warning = "NanoML: score: HT is outside of the range 10 to 100, on which the networks were trained, in "
        assert f"{warning}{share} of the {sum(PASSED)} events; in the training, in 0 %.\n" in done.stdout
        assert f"NanoML: score: inputs outside of the training's range: HT {share}, n 100 %" in done.stdout


@pytest.mark.parametrize(
    ("branch", "wrong", "said"),
    [
        ("score_signal", [0.5], r"score_signal of event 28\d+ is \[0\.\d+\], in Python \[0.5\]"),
        ("Good_eta", [0.5], r"Good_eta of event 28\d+ is \[.*, in Python \[0.5\]"),
        ("spare", [1], r"spare of event 28\d+ is missing"),
        ("n", None, "14 branches, in Python 13"),
    ],
)
def test_a_difference_ends_the_job(branch: str, wrong: Any, said: str, selection: Job, run: Run) -> None:
    content = first_events(FEW)
    expected = content["expected"]["2018"]
    values = expected.pop(branch, [wrong] * FEW)
    if wrong:
        expected[branch] = values
        values[PASSED.index(1)] = wrong
    done = run(with_events(selection, content))
    assert done.returncode == 65
    assert re.search(said, done.stderr), done.stderr[-300:]


def test_a_missing_trigger_and_a_lost_event_end_the_job(selection: Job, run: Run) -> None:
    assert f"{FEW - 1} events were compared, not {FEW}." in run({**selection, "events": FEW - 1}).stderr
    assert "NanoMLTest: 0 events were compared" in run({**selection, "events": 0}).stderr
    module(selection, "hltBits")["paths"][1] = ["HLT_IsoMu24", "HLT_Other"]
    assert "of event 2800141 is [1.0], in Python []." in run(selection).stderr


REFUSED: list[tuple[str, list[Any], list[str]]] = [
    ("era", ["string", ""], ["NanoML: ", "era 2018", "`era` is not set"]),
    ("triggers", ["VInputTag", []], ["trigger bits", "`triggers`"]),
    (
        "triggers",
        ["VInputTag", ["Nothing::HLT", "flagBits"]],
        ["HLT_Mu50", "Nothing::HLT (not in the event)", "flagBits (2 paths)", "hltBits::TEST"],
    ),
    ("parameter", ["vdouble", [1.0]], ["no parameter"]),
    ("tables", ["VInputTag", ["muonTable", "metTable"]], ["no table has column Electron_pt", "`tables`"]),
    ("correctedTables", ["VInputTag", ["electronTable"]], ["no table has column Muon_pt"]),
    ("precisions", ["PSet", {"HTT": ["int32", 8]}], ["`precisions` has HTT", "HT, WZ"]),
    ("eras", ["string", "2018"], ["eras is no parameter"]),
    ("era", ["int32", 2018], ["era is no parameter, or is one of another type"]),
]


def test_what_a_job_refuses(selection: Job, run: Run) -> None:
    jobs = [copy.deepcopy(selection) for _ in REFUSED]
    for job, (parameter, value, _) in zip(jobs, REFUSED):
        module(job, "scoreScoreTable")[parameter] = value
    done = run(*jobs)
    assert done.returncode == 65
    told = re.split(r"^job\d+\.json: ", done.stderr, flags=re.MULTILINE)[1:]
    for problem, (_, _, said) in zip(told, REFUSED, strict=True):
        assert all(each in problem for each in said), problem


def test_what_test_refusals_wants_is_said(job: Callable[[str], Job], run: Run) -> None:
    script = (ROOT / "test" / "test_refusals.sh").read_text()
    wanted = re.findall(r'^refused (\S+) "(.*)"$', script, re.MULTILINE)
    assert [variant for variant, _ in wanted] == ["wrong-era", "no-triggers"]
    told = run(*(with_events(job(variant), first_events(1)) for variant, _ in wanted)).stderr
    for number, (_, said) in enumerate(wanted):
        assert said.replace("\\`", "`") in told.partition(f"job{number}.json: ")[2].partition("\n")[0]


def test_a_model_for_simulation_refuses_data(selection: Job, run: Run) -> None:
    shutil.copy(FRAMEWORK / "inside_2018.onnx", "model.onnx")
    content = json.loads((FRAMEWORK / "inside_2018.json").read_text())
    content["selection"]["dataset"]["is_data"] = False
    Path("model.json").write_text(json.dumps(content))
    module(selection, "scoreScoreTable")["model"][1] = "model.onnx"
    assert run(selection).returncode == 0
    assert "these are data" in run({**selection, "isRealData": True}).stderr


def test_precision_and_mean(selection: Job, run: Run) -> None:
    options = {
        "precision": ["int32", 12],
        "precisions": ["PSet", {"signal": ["int32", 8]}],
        "meanOfFolds": ["bool", True],
    }
    module(selection, "scoreScoreTable").update(options)
    told = run({**selection, "events": 1}).stdout
    assert re.search(r"^signal 8 .*mean of all networks", told, re.MULTILINE)
    assert all(f"\n{column} 12 " in told for column in ("WZ", "HT", "eta"))


@pytest.mark.parametrize("keep", [True, False])
def test_an_event_with_too_many_objects_says_so(keep: bool, job: Callable[[str], Job], run: Run) -> None:
    content = first_events(1)
    for name, column in content["columns"].items():
        if name.startswith("Muon_"):
            column["values"][0] = [1] * 100
    nothing = {"score_failed": [2], "score_signal": [None], "score_WZ": [None], "score_ZG": [None]}
    for branch, values in content["expected"]["2018"].items():
        values[0] = nothing.get(branch, [] if branch.startswith("Good_") else [0])
    changed = with_events(job("filter"), content)
    module(changed, "scoreFilter")["keepFailed"] = ["bool", keep]
    assert f"NanoMLTest: {int(keep)} events were compared, not" in run(changed).stderr


def test_scram_builds_and_runs_what_is_there() -> None:
    build = ElementTree.fromstring(f"<all>{(ROOT / 'test' / 'BuildFile.xml').read_text()}</all>")
    [library] = build.iter("library")
    text = (ROOT / "test" / library.get("file", "")).read_text()
    used = {each.get("name") for each in library.iter("use")}
    assert used == {
        *re.findall(r'^#include "((?:FWCore|DataFormats)/\w+)/', text, re.MULTILINE),
        "MLTools/NanoML",
        "json",
    }
    commands = [each.get("command", "").split() for each in build.iter("test")]
    assert [command[-1] for command in commands if command[0] == "cmsRun"] == VARIANTS
