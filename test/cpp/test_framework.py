"""The plugins in a job: what `scram b runtests` runs by cmsRun, over stand-ins of the framework, and what a job refuses."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORK = ROOT / "test" / "framework"
STORED = json.loads((FRAMEWORK / "events.json").read_text())
VARIANTS = ["plain", "selection", "filter", "corrected", "era", "triggers", "streams"]
PRODUCER = "scoreScoreTable"

Job = dict[str, Any]
Done = subprocess.CompletedProcess[str]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Job]:
    """Gives the job of a variant, as testJob reads it."""
    (tmp_path / "MLTools").mkdir()
    (tmp_path / "MLTools" / "NanoML").symlink_to(ROOT)
    monkeypatch.chdir(tmp_path)  # from where files of a package are found
    for name in [name for name in sys.modules if name.split(".")[0] == "FWCore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(ROOT / "test" / "cpp" / "cmssw")

    def read(variant: str) -> Job:
        monkeypatch.setattr(sys, "argv", ["cmsRun", "compare_cfg.py", variant])
        return dict(runpy.run_path(str(FRAMEWORK / "compare_cfg.py"))["process"].job())

    return read


@pytest.fixture
def run(programs: Path, tmp_path: Path) -> Callable[[Job], Done]:
    def run(job: Job) -> Done:
        (tmp_path / "job.json").write_text(json.dumps(job))
        command = [programs / "testJob", tmp_path / "job.json"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def module(job: Job, label: str) -> Any:
    return next(each["parameters"] for each in job["modules"] if each["label"] == label)


def with_events(job: Job, path: Path, content: Any) -> Job:
    """The same with other events."""
    path.write_text(json.dumps(content))
    for each in job["modules"]:
        if "events" in each["parameters"]:
            each["parameters"]["events"] = ["FileInPath", str(path)]
    return job


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_is_as_in_python(variant: str, job: Any, run: Any) -> None:
    done = run(job(variant))
    assert done.returncode == 0, done.stderr[-2000:]
    passed = [each for [each] in STORED["expected"]["2018"]["score_passed"]]
    events = sum(passed) if variant in ("filter", "streams") else len(passed)
    assert f"NanoMLTest: {events} events with {4 if variant == 'plain' else 14} branches" in done.stdout
    if variant != "selection":
        return
    outside = sum(not 10 <= ht <= 100 for each, [ht] in zip(passed, STORED["expected"]["2018"]["HT"]) if each)
    share = f"{100 * outside / sum(passed):.2g} %"
    assert (
        "NanoML: score: HT is outside of the range 10 to 100, on which the networks were trained, in "
        f"{share} of {sum(passed)}; in the training, in 0 %.\n" in done.stdout
    )
    assert f"NanoML: score: inputs outside of the training's range: HT {share}, n 1e+02 %" in done.stdout


@pytest.mark.parametrize(
    ("branch", "wrong", "said"),
    [
        ("score_signal", 0.5, r"score_signal of event 28\d+ is \[0\.\d+\], in Python \[0.5\]"),
        ("score_passed", 0, r"score_passed of event 28\d+ is \[1.0\], in Python \[0\]"),
        ("Good_eta", 0.5, r"Good_eta of event 28\d+ is \[.*, in Python \[.*0.5"),
        ("spare", None, "spare of event 2800141 is missing"),
        ("n", None, "14 branches, in Python 13"),
    ],
)
def test_a_difference_ends_the_job(branch: str, wrong: Any, said: str, job: Any, run: Any, tmp_path: Path) -> None:
    content = json.loads(json.dumps(STORED))
    expected = content["expected"]["2018"]
    if branch == "n":
        del expected["n"]
    elif branch == "spare":
        expected["spare"] = expected["n"]
    else:
        last = max(
            event for event, [passed] in enumerate(expected["score_passed"]) if passed and expected["nGood"][event]
        )
        expected[branch][last][-1] = wrong
    done = run(with_events(job("selection"), tmp_path / "events.json", content))
    assert done.returncode == 65
    assert re.search(said, done.stderr), done.stderr[-300:]


def test_other_triggers_and_lost_events_end_the_job(job: Any, run: Any) -> None:
    changed = job("selection")
    module(changed, "hltBits")["paths"][1] = ["HLT_IsoMu24", "HLT_Other"]
    assert "of event 2800141 is [1.0], in Python []." in run(changed).stderr
    for events, said in ((119, "119 events were compared, not 120."), (0, "0 events were compared, not 120.")):
        assert said in run({**job("selection"), "events": events}).stderr


@pytest.mark.parametrize(
    ("label", "parameter", "value", "said"),
    [
        (PRODUCER, "era", ["string", ""], ["NanoML: ", "era 2018", "`era` is not set"]),
        (PRODUCER, "triggers", ["VInputTag", []], ["trigger bits", "`triggers`"]),
        (
            PRODUCER,
            "triggers",
            ["VInputTag", ["Nothing::HLT", "flagBits"]],
            ["HLT_Mu50", "Nothing::HLT (not in the event)", "flagBits (2 paths)", "hltBits::TEST"],
        ),
        (PRODUCER, "parameter", ["vdouble", [1.0]], ["no parameter"]),
        (PRODUCER, "tables", ["VInputTag", ["muonTable", "metTable"]], ["no table has column Electron_pt", "`tables`"]),
        (PRODUCER, "correctedTables", ["VInputTag", ["electronTable"]], ["no table has column Muon_pt"]),
        (PRODUCER, "precisions", ["PSet", {"HTT": ["int32", 8]}], ["`precisions` has HTT", "HT, WZ"]),
        (PRODUCER, "eras", ["string", "2018"], ["eras is no parameter"]),
        ("muonTable", "name", ["int32", 3], ["name is no parameter, or is one of another type"]),
    ],
)
def test_what_a_job_refuses(label: str, parameter: str, value: Any, said: list[str], job: Any, run: Any) -> None:
    changed = {**job("selection"), "events": 1}
    module(changed, label)[parameter] = value
    done = run(changed)
    assert done.returncode == 65
    assert all(each in done.stderr for each in said), done.stderr[-500:]


def test_a_model_for_simulation_refuses_data(job: Any, run: Any, tmp_path: Path) -> None:
    for ending in ("onnx", "json"):
        shutil.copy(FRAMEWORK / f"inside_2018.{ending}", tmp_path)
    twin = tmp_path / "inside_2018.json"
    content = json.loads(twin.read_text())
    content["selection"]["dataset"]["is_data"] = False
    twin.write_text(json.dumps(content))
    changed = job("selection")
    module(changed, PRODUCER)["model"][1] = str(twin.with_suffix(".onnx"))
    assert run(changed).returncode == 0
    assert "these are data" in run({**changed, "isRealData": True}).stderr


def test_precision_and_mean(job: Any, run: Any) -> None:
    changed = {**job("selection"), "events": 1}
    module(changed, PRODUCER).update(
        precision=["int32", 12], precisions=["PSet", {"signal": ["int32", 8]}], meanOfFolds=["bool", True]
    )
    told = run(changed).stdout
    assert re.search(r"^signal 8 .*mean of all networks", told, re.MULTILINE)
    for column in ("WZ", "HT", "eta"):
        assert re.search(rf"^{column} 12 ", told, re.MULTILINE)


@pytest.mark.parametrize("keep", [True, False])
def test_an_event_with_too_many_objects_is_kept_and_says_so(keep: bool, job: Any, run: Any, tmp_path: Path) -> None:
    content = json.loads(json.dumps(STORED))
    for name, column in content["columns"].items():
        if name.startswith("Muon_"):
            column["values"][0] = [1] * 100
    for branch, values in content["expected"]["2018"].items():
        objects = branch.startswith("Good_")
        scores = branch in ("score_signal", "score_WZ", "score_ZG")
        values[0] = [] if objects else [None if scores else 2 if branch == "score_failed" else 0]
    changed = with_events({**job("filter"), "events": 1}, tmp_path / "events.json", content)
    module(changed, "scoreFilter")["keepFailed"] = ["bool", keep]
    # the first event is compared, or does not arrive
    assert f"NanoMLTest: {int(keep)} events were compared" in run(changed).stderr


def test_scram_builds_and_runs_what_is_there() -> None:
    build = ElementTree.fromstring(f"<all>{(ROOT / 'test' / 'BuildFile.xml').read_text()}</all>")
    [library] = build.iter("library")
    used = {each.get("name") for each in library.iter("use")}
    text = (ROOT / "test" / library.get("file", "")).read_text()
    for package in re.findall(r'^#include "((?:FWCore|DataFormats)/\w+)/', text, re.MULTILINE):
        assert package in used
    run = [each.get("command", "").split()[-1] for each in build.iter("test") if "cmsRun" in each.get("command", "")]
    assert run == VARIANTS
    for package in set(used) - {"MLTools/NanoML", "json"}:
        assert f'"{package}/' in text
