"""What a job does on its machine: real skims, by real processes where these are to be stopped."""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

pytest.importorskip("data_processing.skim.skim")

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.batch.job import FAILED, PERMANENT, Job, JobProblem, JobResult, digest_of
from MLTools.NanoML.batch.worker import Staging
from MLTools.NanoML.batch.worker import work as do
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.installation import nanoml_command
from MLTools.NanoML.observing import state_of
from MLTools.NanoML.workflow.task import Stamp, Task
from processes import nanoml
from services.daemons import wait_for

Make = Callable[..., Path]
Start = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def make(tmp_path: Path, sample: Path) -> Make:
    """Writes a job of skims."""
    source = sample / "ZGToLLG_PtG100" / "ZGToLLG_PtG100_0.root"

    def write(count: int = 2, bad: Optional[Path] = None, selection: str = "", **others: Any) -> Path:
        tasks = []
        for number in range(count):
            path = str(bad if bad is not None and number == 0 else source)
            output = tmp_path / "work" / f"{number}.root"
            job = SkimJob(path, output, selection, str(tmp_path), keep=["MET_pt"], cut="nMuon > 2")
            tasks.append(Task("skim", f"ZG/{number}", (path,), (output,), {}, "", functools.partial(skim_file, job)))
        made = Job.of("skim-0000", tasks, workdir=str(tmp_path / "work"), base=str(tmp_path), **others)
        made.write(tmp_path / "job.json")
        return tmp_path / "job.json"

    return write


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    begun = []

    def begin(job: Path) -> subprocess.Popen[str]:
        command = [*nanoml_command(), "work", str(job), "--result", str(tmp_path / "result.json")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def work(job: Path, place: Path) -> int:
    """Do a job of tasks, not of a command."""
    return do(job, place, print)


def read(directory: Path) -> JobResult:
    result = JobResult.read(directory / "result.json")
    assert result is not None
    return result


def test_a_job_is_done_and_says_what_came_of_it(make: Make, tmp_path: Path) -> None:
    assert work(make(), tmp_path / "result.json") == 0
    result = read(tmp_path)
    assert (result.state, result.exit_code, result.problem, result.earlier) == ("done", 0, None, [])
    assert result.finished > result.started > 0
    assert list(result.tasks) == ["ZG/0", "ZG/1"]
    done = result.records["ZG/1"]
    output = tmp_path / "work" / "1.root"
    assert done.outputs == (Stamp.of(str(output)).with_content(),)
    assert done.summary["entries"] == 1400
    assert (done.memory or 0) > 50
    assert (done.inputs[0].size or 0) > 0


READING = """
import os
from MLTools.NanoML.selection import Selection

class Mine(Selection):
    branches = ("nMuon",)

    def select(self, events, cutflow):
        os.environ.get("MY_TABLES"), os.environ.get("MY_TOKEN"), os.environ.get("PYTHONPATH"), os.environ.get("MY_ABSENT")
        return events, {}
"""


@pytest.mark.parametrize(
    "here", [{"MY_TABLES": "v2", "MY_TOKEN": "a"}, {"MY_TABLES": "v1"}, {"MY_TABLES": "v1", "MY_TOKEN": "b"}]
)
def test_variables_that_code_reads_are_the_submitters(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: dict[str, str]
) -> None:
    (tmp_path / "reads.py").write_text(READING)
    there = {name: digest_of(name, state_of(name, it)) for name, it in {"MY_TABLES": "v1", "MY_TOKEN": "a"}.items()}
    for name in ("MY_TABLES", "MY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    is_same = here == {"MY_TABLES": "v1", "MY_TOKEN": "b"}  # of what may be a secret, nothing is kept
    job = make(1, selection="reads.py:Mine", variables=there)
    assert work(job, tmp_path / "result.json") == (0 if is_same else PERMANENT)
    (problem,) = read(tmp_path).problems or [None]
    name = "MY_TABLES" if here["MY_TABLES"] == "v2" else "MY_TOKEN"
    assert is_same or f"reads the environment variable {name}, which is not the same" in str(problem)
    assert ("nanoml resubmit hands it on" in str(problem)) == (name == "MY_TABLES")
    job = make(1, selection="reads.py:Mine", variables=there, environment={"MY_TABLES": "v1", "MY_TOKEN": "a"})
    assert work(job, tmp_path / "result.json") == 0
    assert (tmp_path / "job.json").stat().st_mode & 0o77 == 0


def test_what_is_done_already_is_skipped(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = make(3)
    work(job, tmp_path / "result.json")
    before = [(tmp_path / "work" / f"{number}.root").stat().st_ino for number in range(3)]
    (tmp_path / "work" / "1.root").write_text("cut off")
    (tmp_path / "work" / "2.root").unlink()
    capsys.readouterr()
    assert work(job, tmp_path / "result.json") == 0
    said = capsys.readouterr().err
    assert said.count("is done already") == 1
    assert (tmp_path / "work" / "0.root").stat().st_ino == before[0]
    assert (tmp_path / "work" / "1.root").read_bytes()[:4] == b"root"
    assert read(tmp_path).state == "done"


def test_a_file_that_cannot_be_read_fails_alone(make: Make, tmp_path: Path) -> None:
    bad = tmp_path / "bad.root"
    bad.write_text("no ROOT file")
    job = make(3, bad)
    assert work(job, tmp_path / "result.json") == FAILED
    result = read(tmp_path)
    assert (result.state, result.exit_code) == ("failed", FAILED)
    assert [*result.records] == [*result.tasks][1:]
    problem = result.tasks["ZG/0"]
    assert isinstance(problem, JobProblem)
    assert problem.kind == "unreadable"
    assert not (tmp_path / "work" / "0.root").exists()
    assert work(job, tmp_path / "result.json") == FAILED  # again: the others are done already
    assert read(tmp_path).earlier == [replace(problem, host=result.host)]


def test_a_mistake_that_stays_has_its_own_exit_code(make: Make, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_package\n")
    assert work(make(1, selection="mine.py:Mine"), tmp_path / "result.json") == PERMANENT
    problem = read(tmp_path).tasks["ZG/0"]
    assert isinstance(problem, JobProblem)
    assert problem.kind in ("package", "configuration")
    assert "no_such_package" in problem.message


def test_an_unforeseen_mistake_is_reported(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(
        "from MLTools.NanoML.trilepton import Trilepton\n\n\n"
        "class Mine(Trilepton):\n    def select(self, events, cutflow):\n        return 1 / 0\n"
    )
    assert work(make(1, selection="mine.py:Mine"), tmp_path / "result.json") == FAILED
    problem = read(tmp_path).tasks["ZG/0"]
    assert isinstance(problem, JobProblem)
    assert "division by zero" in problem.message
    assert list((tmp_path / "work").rglob("*")) == []


def test_a_job_that_needs_a_proxy_says_so_at_once(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "none"))
    assert work(make(1, proxy=True), tmp_path / "result.json") == PERMANENT
    result = read(tmp_path)
    assert result.problem is not None
    assert result.problem.kind == "proxy"
    assert result.tasks == {}


def test_what_is_no_job_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    done = nanoml("work", "job.json", "--result", "result.json", cwd=tmp_path)
    assert done.returncode == 1
    message, page = done.stderr.splitlines()
    assert "is not a job of this version of NanoML" in message
    assert page.startswith("See doc")


def test_a_job_that_is_told_to_stop_keeps_what_it_has_done(make: Make, tmp_path: Path, start: Start) -> None:
    job = make(60)
    process = start(job)
    wait_for((tmp_path / "work" / "1.root").exists, "two skims")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, said
    result = read(tmp_path)
    assert (result.state, result.exit_code) == ("stopped", FAILED)
    assert result.problem == JobProblem("stopped", "the job was told to stop before it was done")
    assert 0 < len(result.tasks) < 60
    assert not list((tmp_path / "work").glob(".*"))
    inode = (tmp_path / "work" / "0.root").stat().st_ino
    make(3)
    assert work(job, tmp_path / "result.json") == 0
    assert (tmp_path / "work" / "0.root").stat().st_ino == inode
    again = read(tmp_path)
    assert again.state == "done"
    assert [earlier.kind for earlier in again.earlier] == ["stopped"]


def test_a_job_that_was_killed_is_done_by_the_next_attempt(make: Make, tmp_path: Path, start: Start) -> None:
    job = make(60)
    process = start(job)
    wait_for((tmp_path / "work" / "1.root").exists, "two skims")
    process.kill()
    process.wait()
    assert read(tmp_path).state == "running"
    make(3)
    assert work(job, tmp_path / "result.json") == 0
    assert read(tmp_path).earlier[0].kind == "killed"


def test_a_twin_waits_and_then_has_nothing_to_do(make: Make, tmp_path: Path, start: Start) -> None:
    job = make(2)
    with open(tmp_path / "result.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        twin = start(job)
        assert twin.stdout is not None
        os.set_blocking(twin.stdout.fileno(), True)
        assert "Another process does the same job: waiting for it." in twin.stdout.readline()
        assert not (tmp_path / "work").exists()
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert work(job, tmp_path / "result.json") == 0
    said, _ = twin.communicate(timeout=300)
    assert twin.returncode == 0
    assert said.count("is done already") == 2
    assert read(tmp_path).state == "done"


def test_variables_of_the_job_are_set(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOML_OF_A_TEST", "before")
    work(make(1, environment={"NANOML_OF_A_TEST": "a b"}), tmp_path / "result.json")
    assert os.environ["NANOML_OF_A_TEST"] == "a b"


def test_paths_where_nothing_is_shared(tmp_path: Path) -> None:
    job = Job("skim-0000", "skim", "/u/results", "/u", storage={}, environment={"NANOML_CORRECTIONS": "/u2/own"})
    staging = Staging.of(job, tmp_path)
    places = {"/u/results/a.root": "work/a.root", "/u/a.json": "base/a.json"}
    places |= {"/u2/own": "corrections", "/u2/own/POG/a.json": "corrections/POG/a.json"}
    paths = {path: f"{tmp_path}/{place}" for path, place in places.items()}
    paths |= {path: path for path in ("/u2/ownother", "/cvmfs/a.json")}
    assert {path: staging.rename(path) for path in paths} == paths
    cvmfs = Staging("/u/results", "/u", {}, tmp_path, corrections="/cvmfs")
    assert cvmfs.rename("/cvmfs/a.json") == "/cvmfs/a.json"
    missing = Task("skim", "WZ/0", ("/cvmfs/none/a.json",), (), {}, "", work=dict)
    with pytest.raises(NanoMLError, match="/cvmfs/none/a.json: this worker does not have it: CVMFS is not mounted"):
        staging.fetch(missing, missing)
