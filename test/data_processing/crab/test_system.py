"""Skims on CRAB by the commands of all batch systems, with a stand-in for its client."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from data_processing.crab.client import CrabProject
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.errors import ConfigError, NanoMLError

pytestmark = pytest.mark.exhaustive("each batch system")

CLIENT = Path(__file__).resolve().parents[2] / "services" / "programs" / "crabclient.py"
FILES = {"WZ": "/store/mc/a/WZ.root", "ZG": "/store/mc/a/ZG.root"}


Make = Callable[..., Path]


@dataclass(frozen=True)
class Crab:
    """The directory that is the stand-in's server."""

    path: Path

    @property
    def calls(self) -> list[list[str]]:
        """What the client was called with, but for the questions how tasks go."""
        lines = (self.path / "calls.jsonl").read_text().splitlines() if any(self.path.glob("calls*")) else []
        return [call for call in map(json.loads, lines) if call[0] != "status"]

    def says(self, request: str, server: str = "SUBMITTED", jobs: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Let the server say this of a task from now on."""
        content = {"server": server, "scheduler": "SUBMITTED" if jobs else "", "jobs": jobs or {}, **more}
        (self.path / f"{request}.json").write_text(json.dumps(content))

    def set(self, name: str, text: str = "") -> None:
        """Make it refuse, be silent or die."""
        (self.path / name).write_text(text)

    def unset(self, name: str) -> None:
        (self.path / name).unlink()


@pytest.fixture
def crab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crab:
    server, binaries = tmp_path / "server", tmp_path / "bin"
    server.mkdir()
    binaries.mkdir()
    script = binaries / "crab"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS {shlex.quote(str(CLIENT))} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CRAB_STAND_IN", str(server))
    monkeypatch.setenv("CMSSW_VERSION", "CMSSW_13_3_3")
    monkeypatch.setenv("PATH", os.pathsep.join([str(binaries), os.environ["PATH"]]))
    return Crab(server)


@pytest.fixture
def analysis(tmp_path: Path) -> Make:
    """Makes the configuration of an analysis of the grid's files, in a directory with a name that shells stumble over."""
    pytest.importorskip("data_processing.skim.skim")
    base = tmp_path / "it's [my] $place"
    base.mkdir()

    def make(
        files: Mapping[str, str] = FILES, cut: str = "MET_pt > 30", site: str = "T2_CH_CERN", **batch: Any
    ) -> Path:
        content = {
            "luminosity": 1.0,
            "datasets": {name: {"files": file, "class": name, "cross_section": 1.0} for name, file in files.items()},
            "skim": {"cut": cut},
            "batch": {**({"grid": {"site": site}} if site else {}), **batch},
        }
        path = base / "ana.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return make


DONE = {"State": "finished", "SubmitTimes": [1], "SiteHistory": ["T2_DE_DESY"]}
RUNS = {"State": "running", "SubmitTimes": [1], "SiteHistory": ["Unknown"]}
IDLE = {"State": "idle", "SubmitTimes": [1], "SiteHistory": []}


def failed(code: int, message: str = "", tries: int = 1) -> dict[str, Any]:
    return {"State": "failed", "SubmitTimes": [1] * tries, "SiteHistory": ["T2_DE_DESY"], "Error": [code, message, {}]}


def run(*arguments: str | Path) -> str:
    """What a command prints; what it raises, it raises."""
    done = CliRunner().invoke(nanoml, [str(each) for each in arguments], catch_exceptions=False, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def submitted(analysis: Make, *arguments: Any) -> Path:
    """An analysis whose skims are on CRAB."""
    path = analysis(*arguments)
    run("submit", "skim", path, "--on", "crab")
    return path


def state(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("status", path, "--json"))
    return found


def states(path: Path) -> dict[str, str]:
    return {name: job["state"] for name, job in state(path)["jobs"].items()}


def test_a_dry_run_writes_what_crab_reads(crab: Crab, analysis: Make) -> None:
    path = analysis(files_per_job=3, memory=2200, time="3h")
    said = run("submit", "skim", path, "--on", "crab", "--dry-run")
    assert "ana-dry-run: 2 tasks of CRAB, which write to T2_CH_CERN" in said
    assert "WZ: 1 file" in said
    assert crab.calls == []
    directory = path.parent / "jobs" / "ana-dry-run"
    text = (directory / "WZ" / "crab_cfg.py").read_text()
    assert "config.Data.unitsPerJob = 3\n" in text
    assert "config.JobType.maxMemoryMB = 2200\n" in text
    assert "config.JobType.maxJobRuntimeMin = 180\n" in text
    assert "config.General.requestName = 'ana-dry-run_WZ'\n" in text
    assert (directory / "ZG" / "job.json").is_file()
    with pytest.raises(NanoMLError, match=r"there are no jobs"):
        run("status", path)


SELECTION = """
import importlib
from MLTools.NanoML.selection import Selection

class Mine(Selection):
    branches = ("MET_pt",)
    columns = {}
    cuts = importlib.import_module("crab_cuts_" + "by_name")
"""


def test_what_a_selection_imports_by_its_name_is_sent(crab: Crab, analysis: Make) -> None:
    path = analysis({"WZ": "/store/mc/a/WZ.root"})
    path.write_text(path.read_text().replace("cut: MET_pt > 30", "selection: mine.py:Mine"))
    (path.parent / "mine.py").write_text(SELECTION)
    (path.parent / "crab_cuts_by_name.py").write_text("PT = 20\n")
    run("submit", "skim", path, "--on", "crab", "--dry-run")
    sent = [file.name for file in (path.parent / "jobs" / "ana-dry-run").rglob("*.py")]
    assert {"mine.py", "crab_cuts_by_name.py"} <= {*sent}


@pytest.mark.parametrize("what", ["convert", "train", "pipeline", "tune"])
def test_what_crab_does_not_run(what: str, crab: Crab, analysis: Make) -> None:
    with pytest.raises(NanoMLError, match=rf"CRAB runs skims.*nanoml submit {what} --on condor, slurm or local"):
        run("submit", what, analysis(), "--on", "crab")


def test_what_is_missing_or_too_much_in_the_configuration(crab: Crab, analysis: Make) -> None:
    with pytest.raises(ConfigError, match=r"ana.yaml:\d+: batch: say where the output of CRAB goes"):
        run("submit", "skim", analysis(site=""), "--on", "crab")
    with pytest.raises(ConfigError, match=r"ana.yaml:\d+: batch.stages.skim.memory: 4000 MB is more than CRAB"):
        run("submit", "skim", analysis(stages={"skim": {"memory": 4000}}), "--on", "crab")
    assert not list((analysis().parent / "jobs").iterdir())


def test_a_skim_from_submission_to_outputs(crab: Crab, analysis: Make) -> None:
    path = analysis(on="crab")
    assert "ana-1: 2 tasks of CRAB" in run("submit", "skim", path)
    assert crab.calls == [["submit", "-c", "crab_cfg.py"]] * 2
    directory = path.parent / "jobs" / "ana-1"
    found = CrabProject.all_of(Submission.read(directory))
    assert found["WZ"].name.endswith(":somebody_crab_ana-1_WZ")
    assert states(path) == {"WZ": "waiting", "ZG": "waiting"}
    with pytest.raises(NanoMLError, match=r"ana-1: is active for this analysis"):
        run("submit", "skim", path)

    crab.says("ana-1_WZ", jobs={"1": DONE, "2": RUNS, "10": IDLE})
    assert states(path) == {"WZ-1": "done", "WZ-2": "running", "WZ-10": "waiting", "ZG": "waiting"}
    text = run("status", path)
    rows = [" ".join(line.split()) for line in text.splitlines()[1:4]]
    assert rows == ["dataset tasks done running waiting", "WZ 3 1 1 1", "ZG 1 0 0 1"]
    assert "Jobs are active" in text

    crab.says("ana-1_WZ", jobs={"1": DONE, "2": DONE, "10": DONE})
    crab.says("ana-1_ZG", jobs={"1": DONE})
    text = run("status", path)
    assert text.splitlines()[-1] == "Everything is done."
    lines = text[text.index("datasets:") :].splitlines()[:-1]
    datasets = yaml.safe_load("\n".join(["  datasets:", *lines[1:]]))["datasets"]
    assert list(datasets) == ["WZ", "ZG"]
    listed = (path.parent / datasets["WZ"]["files"]).read_text().splitlines()
    assert listed == [f"/store/user/somebody/crab_ana-1_WZ/240501_120000/0000/nano_{n}.root" for n in (1, 2, 10)]
    before = len((crab.path / "calls.jsonl").read_text().splitlines())
    assert run("status", path) == text  # of what is done, CRAB is not asked again
    assert len((crab.path / "calls.jsonl").read_text().splitlines()) == before
    assert run("submit", "skim", path) == "Everything is up to date: there is nothing to submit.\n"


def test_only_datasets_that_are_new_or_changed_are_submitted_again(crab: Crab, analysis: Make) -> None:
    path = submitted(analysis)
    for name in ("WZ", "ZG"):
        crab.says(f"ana-1_{name}", jobs={"1": DONE})
    run("status", path)
    analysis({"WZ": "/store/mc/a/WZ.root", "ZG": "/store/mc/b/ZG.root"})
    assert "ana-2: 1 task of CRAB" in run("submit", "skim", path, "--on", "crab")
    assert [each.name for each in (path.parent / "jobs" / "ana-2").iterdir() if each.is_dir()] == ["ZG"]
    crab.says("ana-2_ZG", jobs={"1": DONE})
    run("status", path)
    analysis(cut="MET_pt > 40")
    assert "ana-3: 2 tasks of CRAB" in run("submit", "skim", path, "--on", "crab")


def test_many_jobs_are_asked_for_their_outputs_in_portions(crab: Crab, analysis: Make) -> None:
    path = submitted(analysis, {"WZ": FILES["WZ"]})
    crab.says("ana-1_WZ", jobs={str(number): DONE for number in range(1, 1202)})
    assert "Everything is done." in run("status", path)
    portions = [call[-1].count(",") + 1 for call in crab.calls if call[0] == "getoutput"]
    assert portions == [500, 500, 201]
    assert len((path.parent / "jobs/ana-1/outputs/WZ.txt").read_text().split()) == 1201


def test_a_server_that_does_not_answer_has_not_failed(crab: Crab, analysis: Make) -> None:
    path = submitted(analysis, {"WZ": FILES["WZ"]})
    crab.says("ana-1_WZ", jobs={"1": DONE, "2": RUNS})
    run("status", path)
    crab.set("silent")
    found = state(path)
    assert found["active"] is None
    assert {name: job["state"] for name, job in found["jobs"].items()} == {"WZ-1": "done", "WZ-2": "running"}
    text = run("status", path)
    assert "WZ: CRAB does not answer (The server answered with an error. It seems the CMSWEB frontend is not" in text
    assert "is not known: ask again" in text
    crab.unset("silent")
    crab.says("ana-1_WZ", scheduler="RUNNING")  # the server answers, but its cache of jobs does not
    assert states(path) == {"WZ-1": "done", "WZ-2": "running"}
    crab.says("ana-1_WZ", days=60)  # it has forgotten the task
    assert states(path) == {"WZ-1": "done", "WZ-2": "failed"}


def test_why_jobs_failed_and_more_memory_and_time(crab: Crab, analysis: Make) -> None:
    path = submitted(analysis)
    bad = {"1": DONE, "2": failed(50660, "Job killed by HTCondor due to excessive memory use")}
    bad |= {"3": failed(8020, "x.root: at none of the places"), "4": failed(50664), "5": failed(60307)}
    bad["6"] = failed(4711, "who knows")
    crab.says("ana-1_WZ", jobs=bad)
    crab.says("ana-1_ZG", jobs={"1": RUNS})
    text = run("status", path)
    assert "1 x out of memory: nanoml resubmit asks for more" in text
    assert "WZ-2 (T2_DE_DESY): exit code 50660, the job used more memory than it asked for: Job killed" in text
    assert "WZ-3 (T2_DE_DESY): exit code 8020, a file cannot be opened anywhere: x.root" in text
    assert "1 x output not on the storage: check that you may write" in text
    assert "WZ-6 (T2_DE_DESY): exit code 4711: who knows" in text

    assert "WZ: 5 jobs again, memory 2500 -> 5000 MB, time 20.8 h -> 41.7 h" in run("resubmit", path)
    call = crab.calls[-1]
    assert call[0] == "resubmit"
    assert call[3:] == ["--jobids=2,3,4,5,6", "--maxmemory=5000", "--maxjobruntime=2500"]
    assert list(states(path).values()).count("waiting") == 5  # CRAB still says failed, for a while
    assert "nothing was submitted" in run("resubmit", path)
    crab.says("ana-1_WZ", jobs={**bad, "2": failed(50660, tries=2)})
    assert states(path)["WZ-2"] == "failed"
    assert "memory 5000 MB, which is all that CRAB gives" in run("resubmit", path)
    crab.says("ana-1_WZ", "RESUBMITFAILED", bad, refusal="the task is too old")
    assert "WZ: RESUBMITFAILED: the task is too old" in run("status", path)


def test_the_log_of_a_job_is_that_of_the_last_time(crab: Crab, analysis: Make) -> None:
    path = submitted(analysis)
    crab.says("ana-1_WZ", jobs={"1": DONE, "2": failed(8002)})
    said = run("logs", path)
    assert "results/job_out.2.1.txt" in said
    assert "job 2, tried for the 2. time" in said
    assert "job 1, tried" in run("logs", path, "--job", "WZ-1")
    with pytest.raises(NanoMLError, match=r"has no job WZ-7. Jobs are named as WZ-1"):
        run("logs", path, "--job", "WZ-7")
    with pytest.raises(NanoMLError, match=r"jobs of CRAB read all of their files"):
        run("resubmit", path, "--max-missing-files", "1%")


def test_killing(crab: Crab, analysis: Make) -> None:
    path = submitted(analysis)
    crab.says("ana-1_WZ", jobs={"1": DONE})
    crab.says("ana-1_ZG", jobs={"1": DONE, "2": RUNS})
    run("kill", path)
    assert [call[2].endswith("crab_ana-1_ZG") for call in crab.calls if call[0] == "kill"] == [True]
    crab.says("ana-1_ZG", "KILLED", {"1": DONE, "2": {**RUNS, "State": "killed"}, "3": IDLE})
    found = state(path)
    assert found["active"] is False
    assert found["jobs"]["ZG-3"]["problem"]["message"] == "the job was killed"
    assert "ZG: 1 killed job, which CRAB does not submit again" in run("resubmit", path)
    assert not [call for call in crab.calls if call[0] == "resubmit"]


def test_a_task_that_the_server_refuses(crab: Crab, analysis: Make) -> None:
    path = submitted(analysis, {"WZ": FILES["WZ"]})
    crab.says("ana-1_WZ", "SUBMITFAILED", refusal="The CRAB server backend refuses\nthe dataset is not valid")
    text = run("status", path)
    assert "1 x rejected by the batch system: change what it says" in text
    assert "WZ: The CRAB server backend refuses the dataset is not valid" in text
    assert "WZ: submitted again" in run("resubmit", path)
    assert [call[0] for call in crab.calls] == ["submit", "submit"]
    crab.says("ana-1_WZ", jobs={"1": DONE})
    assert "Everything is done." in run("status", path)


def test_a_submission_that_is_refused_leaves_nothing_or_can_be_continued(crab: Crab, analysis: Make) -> None:
    path = analysis()
    crab.set("refuse", "ana-1_WZ")
    with pytest.raises(NanoMLError, match=r"crab submit: The server answered with an error"):
        run("submit", "skim", path, "--on", "crab")
    assert not list((path.parent / "jobs").iterdir())
    crab.set("refuse", "ana-1_ZG")
    with pytest.raises(NanoMLError, match=r"1 of 2 tasks have been submitted: nanoml resubmit does the rest"):
        run("submit", "skim", path, "--on", "crab")
    crab.unset("refuse")
    assert states(path) == {"WZ": "waiting", "ZG": "idle"}
    assert run("resubmit", path) == "ZG: submitted\n"
    assert states(path) == {"WZ": "waiting", "ZG": "waiting"}
    assert len((crab.path / "tasks").read_text().split()) == 2


def test_a_task_that_only_the_server_knows_is_found(crab: Crab, analysis: Make) -> None:
    path = submitted(analysis)
    submission = Submission.read(path.parent / "jobs" / "ana-1")
    project = CrabProject.all_of(submission)["WZ"]
    shutil.rmtree(project.path)
    crab.set("dies")
    with pytest.raises(NanoMLError, match=r"crab submit: it said nothing"):
        run("resubmit", path)
    assert not project.is_submitted
    crab.unset("dies")
    assert "nothing was submitted" in run("resubmit", path)
    assert project.is_submitted
    assert project.name == max((crab.path / "tasks").read_text().split()[0::2])
    assert [call[0] for call in crab.calls[-2:]] == ["tasks", "remake"]
    assert states(path) == {"WZ": "waiting", "ZG": "waiting"}


def test_without_crab_or_cmssw(crab: Crab, analysis: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = submitted(analysis)
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    with monkeypatch.context() as context:
        context.delenv("CMSSW_VERSION")
        with pytest.raises(NanoMLError, match=r"crab: needs CMSSW. Do cmsenv first"):
            run("submit", "skim", shutil.copy(path, elsewhere), "--on", "crab")
        assert "needs CMSSW" in run("status", path)
        context.setenv("PATH", "/nowhere")
        assert "crab-setup.sh" in run("status", path)
    assert state(path)["active"] is True
