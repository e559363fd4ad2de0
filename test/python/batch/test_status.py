"""The status of jobs, from made-up results and from the logs of HTCondor, and what is recorded of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from MLTools.NanoML.batch.job import KINDS, JobProblem, JobResult, encode
from MLTools.NanoML.batch.status import JobState, Status, as_dict, collect, observe, page, settle
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.task import Stamp, Task

Say = Callable[..., Status]
Leave = Callable[..., JobResult]

EVENTS = {
    "again": "000 Job submitted from host: <127.0.0.1:1>\n    DAG Node: {node}",
    "running": "001 Job executing on host: <127.0.0.1:1>",
    "evicted": "004 Job was evicted.",
    "ok": "005 Job terminated.\n\t(1) Normal termination (return value 0)",
    "failed": "005 Job terminated.\n\t(1) Normal termination (return value 1)",
    "killed": "005 Job terminated.\n\t(0) Abnormal termination (signal 9)",
    "removed": "009 Job was aborted.\n\tvia condor_rm (by user x)",
    "held": "012 Job was held.\n\tdisk usage exceeded request_disk\n\tCode 1",
}


def event(word: str, cluster: int, node: str = "none") -> str:
    number, _, text = EVENTS[word].format(node=node).partition(" ")
    return f"{number} ({cluster:03}.000.000) 2026-11-25 10:00:01 {text}\n...\n"


@pytest.fixture
def say(submission: Submission) -> Say:
    """What is seen when HTCondor's log says these words of each job."""

    def see(active: bool = True, **jobs: str) -> Status:
        nodes, cluster = "", 10
        for name, words in jobs.items():
            for word in f"again {words}".split():
                cluster += word == "again"
                nodes += event(word, cluster, name.replace("_", "-"))
        (submission.directory / "pipeline.dag.nodes.log").write_text(nodes)
        dag = event("again", 1) + ("" if active else event("ok", 1))
        (submission.directory / "pipeline.dag.dagman.log").write_text(dag)
        return observe(submission)

    return see


def states(status: Status) -> dict[str, str]:
    return {name: job.state for name, job in status.jobs.items()}


def reasons(status: Status) -> dict[str, str]:
    return {name: job.problem.kind for name, job in status.jobs.items() if job.problem}


def test_running_waiting_done(say: Say, leave: Leave) -> None:
    leave("skim-0000", 2)
    leave("skim-0001", 1, "running")
    status = say(skim_0000="running ok", skim_0001="running")
    assert states(status) == {"skim-0000": "done", "skim-0001": "running", "convert-0000": "waiting"}
    assert status.counts()["skim"] == {"tasks": 4, "done": 3, "running": 1}
    assert states(say(skim_0001="running evicted"))["skim-0001"] == "waiting"


def test_what_is_missing_or_damaged_after_the_end_is_told(say: Say, leave: Leave, submission: Submission) -> None:
    for name, count in (("skim-0000", 2), ("skim-0001", 2), ("convert-0000", 1)):
        leave(name, count)
    ended = {"skim_0000": "ok", "skim_0001": "ok", "convert_0000": "ok"}
    status = say(active=False, **ended)
    assert status.is_done
    assert Submission.read(submission.directory).state == "ended"
    assert list(page(status))[-1] == "Everything is done."
    workdir = Path(submission.workdir)
    (workdir / "0.out").unlink()
    (workdir / "3.out").write_text("cut off")
    status = say(active=False, **ended)
    assert not status.is_done
    assert status.counts()["skim"] == {"tasks": 4, "done": 2, "idle": 2}
    assert [line.split()[1] for line in page(status) if "it counts as not done." in line] == ["WZ/0:", "WZ/3:"]


def test_a_job_that_will_be_tried_again_waits(say: Say, leave: Leave) -> None:
    leave("skim-0000", 1, "failed", exit_code=1, tasks={"WZ/1": JobProblem("lost", "no")})
    assert states(say(skim_0000="running failed"))["skim-0000"] == "waiting"
    assert states(say(skim_0000="running failed again running"))["skim-0000"] == "running"
    assert states(say(skim_0000="running failed again running failed"))["skim-0000"] == "failed"
    leave("skim-0000", 0, "failed", exit_code=2, problem=JobProblem("configuration", "wrong"))
    assert states(say(skim_0000="running failed"))["skim-0000"] == "failed"


def test_what_comes_after_a_failure_is_idle(say: Say, leave: Leave) -> None:
    leave("skim-0000", 2)
    leave("skim-0001", 1, "failed", exit_code=1, tasks={"WZ/3": JobProblem("disk", "full")})
    status = say(active=False, skim_0000="ok", skim_0001="failed again failed", convert_0000="removed")
    assert states(status) == {"skim-0000": "done", "skim-0001": "failed", "convert-0000": "idle"}
    assert reasons(status) == {"skim-0001": "disk"}


def test_a_held_job_says_why(say: Say) -> None:
    status = say(skim_0000="running held")
    assert states(status)["skim-0000"] == "held"
    assert reasons(status) == {"skim-0000": "disk"}
    text = "\n".join(page(status))
    assert "1 x disk full: " + KINDS["disk"].advice in text
    assert "Held jobs wait for nanoml resubmit." in text


def test_a_job_that_left_nothing_is_explained_by_its_log(say: Say, submission: Submission) -> None:
    log = submission.directory / "logs" / "skim-0000.log"
    for text, kind in (
        ("python3: No module named x\nModuleNotFoundError: No module named 'x'\n", "package"),
        ("bash: line 3: 17 Killed\nslurmstepd: error: Detected 1 oom-kill event(s)\n", "memory"),
        ("tar: write error: No space left on device\n", "disk"),
        ("job.sh: line 4: python9: command not found\n", "package"),
        ("nothing of note\n", "killed"),
        ("\xff\xfe" * 5000, "killed"),
    ):
        log.write_bytes(text.encode("latin1"))
        submission.problems.clear()
        submission.state = "submitted"
        assert reasons(say(active=False, skim_0000="failed again killed"))["skim-0000"] == kind, text


def test_a_job_that_ended_too_late_lacked_time(say: Say, leave: Leave) -> None:
    stopped = JobProblem("stopped", "the job was told to stop before it was done")
    leave("skim-0000", 1, "stopped", exit_code=1, problem=stopped, finished=100.0 + 3500)
    leave("skim-0001", 1, "stopped", exit_code=1, problem=stopped, finished=100.0 + 60)
    status = say(active=False, skim_0000="failed again failed", skim_0001="failed again failed")
    assert reasons(status) == {"skim-0000": "time", "skim-0001": "stopped"}


def test_a_job_of_this_machine_that_had_not_begun_has_not_failed(submission: Submission) -> None:
    submission.system, submission.handles = "local", {}
    jobs = {"skim-0000": "running", "skim-0001": "waiting"}
    content = {"process": 0, "host": "here", "jobs": jobs}
    (submission.directory / "driver.json").write_text(json.dumps(content))
    status = observe(submission)
    assert states(status) == {"skim-0000": "failed", "skim-0001": "idle", "convert-0000": "idle"}
    assert reasons(status) == {"skim-0000": "killed"}


def test_nobody_may_work_beside_jobs(say: Say, submission: Submission) -> None:
    say(skim_0000="running")
    with pytest.raises(NanoMLError, match=r"the jobs of work-1 are active here \(1 running, 2 waiting\)"):
        settle(Path(submission.workdir))
    say(active=False, skim_0000="removed")
    settle(Path(submission.workdir))
    shutil.rmtree(submission.directory)  # it is forgotten
    settle(Path(submission.workdir))


def test_as_plain_content(say: Say, leave: Leave) -> None:
    leave("skim-0000", 2)
    content = as_dict(say(skim_0000="ok", skim_0001="held"))
    assert content["active"] is True
    assert content["done"] is False
    assert content["stages"]["skim"] == {"tasks": 4, "done": 2, "held": 2}
    assert content["jobs"]["skim-0000"]["host"] == "worker"
    assert content["jobs"]["skim-0001"]["problem"]["kind"] == "disk"


def make(submission: Submission, active: Optional[bool], states: dict[str, Any], notes: tuple[str, ...] = ()) -> Status:
    jobs = {}
    for entry in submission.jobs:
        state, done, problem = states.get(entry.name, ("waiting", 0, None))
        result = JobResult(entry.name, host="worker") if problem else None
        jobs[entry.name] = JobState(entry, state, done, problem, result)
    return Status(submission, jobs, active, notes)


def test_the_table_has_the_columns_that_are_needed(submission: Submission) -> None:
    status = make(submission, True, {"skim-0000": ("done", 2, None), "skim-0001": ("running", 1, None)})
    assert list(page(status)) == [
        "work-1: pipeline on condor, submitted 2026-01-01 10:00",
        "  stage      tasks     done  running  waiting",
        "  skim           4        3        1        0",
        "  convert        1        0        0        1",
        "Jobs are active: nanoml status --wait follows them.",
    ]
    # of a system that does not answer
    assert list(page(make(submission, None, {})))[-1] == "Whether jobs are active is not known: ask again."


def test_reasons_are_grouped_and_say_what_to_do(submission: Submission) -> None:
    problem = JobProblem("unreadable", "root://a//b.root: cannot be read\nafter 3 tries")
    states: Any = {"skim-0000": ("failed", 1, problem), "skim-0001": ("failed", 0, problem)}
    status = make(submission, False, {**states, "convert-0000": ("idle", 0, None)}, ("A note.",))
    assert list(page(status))[3:] == [
        "  convert        1        0        0",
        f"  2 x file unreadable: {KINDS['unreadable'].advice}",
        "      skim-0000 (worker): root://a//b.root: cannot be read after 3 tries",
        "      skim-0001 (worker): root://a//b.root: cannot be read after 3 tries",
        "A note.",
        "No job is active. nanoml resubmit does what is missing.",
    ]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_reason_has_words_and_advice(kind: str, submission: Submission) -> None:
    status = make(submission, False, {"skim-0000": ("failed", 0, JobProblem(kind, "x" * 1000))})
    text = list(page(status))
    assert any(line.endswith(f": {KINDS[kind].advice}") for line in text)
    assert max(map(len, text)) < 400


def collected(submission: Submission) -> list[str]:
    return collect(submission, submission.results())


def reason(submission: Submission, name: str, number: int) -> object:
    task: Task = submission.job(name).decoded()[number]
    return submission.records.reason(task)


def test_what_is_done_counts_as_if_it_had_been_done_here(submission: Submission, leave: Leave) -> None:
    leave("skim-0000", 2)
    assert collected(submission) == []
    assert reason(submission, "skim-0000", 0) is None
    assert reason(submission, "skim-0000", 1) is None
    assert reason(submission, "skim-0001", 0) == "not done yet"
    record = submission.records.read(submission.job("skim-0000").decoded()[0])
    assert record is not None
    assert (record.host, record.job, record.memory) == ("worker", "work-1/skim-0000", 100)
    assert record.summary == {"entries": 5}
    path = submission.records.path(submission.job("skim-0000").decoded()[0])
    before = path.stat().st_mtime_ns
    assert collected(submission) == []  # nothing is recorded twice
    assert path.stat().st_mtime_ns == before
    leave("skim-0000", 2, finished=300.0)  # a later attempt
    collected(submission)
    assert path.stat().st_mtime_ns > before


def test_what_changed_while_the_job_ran_or_after_it_shows(submission: Submission, leave: Leave, tmp_path: Path) -> None:
    leave("skim-0000", 2)
    leave("skim-0001", 2)
    (tmp_path / "3.root").write_text("another input")
    workdir = Path(submission.workdir)
    (workdir / "0.out").write_text("cut off")
    (workdir / "1.out").unlink()
    os.utime(workdir / "2.out", (1, 1))
    assert collected(submission) == [
        f"skim WZ/0: {workdir}/0.out was changed after the job: it counts as not done.",
        f"skim WZ/1: {workdir}/1.out is missing: it counts as not done.",
        f"skim WZ/2: {workdir}/2.out was changed after the job: it counts as not done.",
    ]
    assert reason(submission, "skim-0000", 0) == "there is no record that it was finished"
    assert reason(submission, "skim-0000", 1) == "not done yet"
    assert reason(submission, "skim-0001", 1) == "3.root was changed"
    (tmp_path / "3.root").write_text("input 3")
    assert reason(submission, "skim-0001", 1) is None


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_job_that_failed_keeps_what_it_has_done(submission: Submission, leave: Leave, state: str) -> None:
    leave("skim-0000", 1, state, tasks={"WZ/1": JobProblem("disk", "full")})
    assert collected(submission) == []
    assert reason(submission, "skim-0000", 0) is None
    assert reason(submission, "skim-0000", 1) == "not done yet"
    leave("skim-0000", 2, state)
    assert collected(submission) == []
    assert reason(submission, "skim-0000", 1) is None


def test_without_shared_files_times_are_the_storages(submission: Submission, leave: Leave, tmp_path: Path) -> None:
    submission.options.shared = False
    result = leave("skim-0000", 2)
    for name, done in result.records.items():
        remote = (Stamp(f"root://a//{name}"),)
        outputs = tuple(replace(output, modified=1) for output in done.outputs)
        result.tasks[name] = replace(done, inputs=remote, outputs=outputs)
    result.write(submission.directory / "results" / "skim-0000.json")
    assert collected(submission) == []
    assert reason(submission, "skim-0000", 0) is None
    leave("skim-0001", 2)
    (tmp_path / "2.root").unlink()
    assert collected(submission) == [
        f"skim WZ/2: {tmp_path}/2.root: no such file; skim WZ/2 needs it. Run the earlier stages first: "
        "it counts as not done."
    ]


def test_a_file_that_travelled_and_was_changed(submission: Submission, leave: Leave, tmp_path: Path) -> None:
    submission.options.shared = False
    job = replace(submission.job("skim-0000"), sent=[encode(Stamp.of(f"{tmp_path / 'work'}/../0.root"))])
    job.write(submission.directory / "jobs" / "skim-0000.json")
    leave("skim-0000", 2)
    (tmp_path / "0.root").write_text("changed")
    assert collected(submission) == []
    assert reason(submission, "skim-0000", 0) == "0.root was changed"
    assert reason(submission, "skim-0000", 1) is None
