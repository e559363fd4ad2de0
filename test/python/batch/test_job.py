"""The files of a job: what it does, and what it leaves."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from MLTools.NanoML.batch.job import Attempt, Job, JobProblem, JobResult, OutputFile, TaskResult
from MLTools.NanoML.dependencies import code_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.task import Stamp, Task


def make_job(directory: Path) -> Job:
    work = functools.partial(code_of, directory / "in.root")
    task = Task("skim", "WZ/0", (str(directory / "in.root"),), (directory / "out.root",), {}, "12ab", work)
    return Job.of("skim-0000", [task], workdir=str(directory), base=str(directory), storage={"/eos/": "root://a//eos/"})


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    job.write(tmp_path / "job.json")
    found = Job.read(tmp_path / "job.json")
    assert found.recorded() == job.recorded()
    assert (found.workdir, found.storage) == (job.workdir, job.storage)
    assert found.decoded() == job.decoded()
    assert found.decoded(lambda text: text.replace("in.root", "other.root"))[0].inputs == (
        str(tmp_path / "other.root"),
    )


def test_what_is_recorded_of_tasks_needs_no_import_of_what_does_them(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    job.tasks[0]["fields"]["work"]["call"] = "data_processing.no_such_module:work"
    (task,) = job.recorded()
    assert (task.stage, task.name, task.settings, task.code) == ("skim", "WZ/0", {}, "12ab")
    assert (task.inputs, task.outputs) == ((str(tmp_path / "in.root"),), (tmp_path / "out.root",))
    assert Job("tune-0001", "tune", "/w", "/b", command=["tune", "analysis.yaml"]).recorded() == []


def test_truncations_of_a_job_are_one_message(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    make_job(tmp_path).write(path)
    text = path.read_text().rstrip()
    for end in range(0, len(text), 7):
        path.write_text(text[:end])
        with pytest.raises(NanoMLError, match="is not a job of this version of NanoML"):
            Job.read(path)


@pytest.mark.parametrize(
    "content", ["[]", "1", '"a"', "null", "{}", '{"schema": 1}', '{"schema": 1, "wheels": 4}', "\udcff"]
)
def test_what_is_no_job_is_one_message(content: str, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(NanoMLError, match="is not a job of this version of NanoML"):
        Job.read(path)


def test_a_job_of_another_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    make_job(tmp_path).write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    with pytest.raises(NanoMLError, match="schema 2, this NanoML reads 1. It is not a job of this version of NanoML"):
        Job.read(path)
    with pytest.raises(NanoMLError, match="no such file"):
        Job.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    "task", [3, {}, {"fields": []}, {"fields": {"stage": {"path": 3}}}, {"type": "x", "fields": []}]
)
def test_a_damaged_task_is_one_message(task: object) -> None:
    job = Job("skim-0001", "skim", "", "", [task])
    with pytest.raises(NanoMLError, match="the job skim-0001 is damaged"):
        job.decoded() if task == {"type": "x", "fields": []} else job.recorded()


def make_result() -> JobResult:
    done = TaskResult(
        "done", (Stamp("a"),), (OutputFile("b", 1, 2, "00000001"),), {"entries": 5}, 1.5, 200, "host", "2026"
    )
    failed = TaskResult("failed", problem=JobProblem("disk", "full"))
    tasks = {"WZ/0": done, "WZ/1": failed}
    return JobResult(
        "skim-0000",
        "failed",
        tasks,
        "host",
        12,
        "5.0",
        1.0,
        2.0,
        1,
        JobProblem("disk", "full"),
        [Attempt("host", "lost", "gone")],
    )


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    make_result().write(tmp_path / "result.json")
    assert JobResult.read(tmp_path / "result.json") == make_result()


def test_a_result_of_the_first_version_is_read_and_of_a_later_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    make_result().write(path)
    content = json.loads(path.read_text())
    assert content.pop("schema") == 1
    path.write_text(json.dumps(content))
    assert JobResult.read(path) == make_result()
    path.write_text(json.dumps({**content, "schema": 2}))
    assert JobResult.read(path) is None


def test_one_that_has_not_ended_says_so() -> None:
    assert make_result().has_ended
    assert not JobResult("skim-0000").has_ended


def test_truncations_of_a_result_count_as_none(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    make_result().write(path)
    text = path.read_text().rstrip()
    for end in range(0, len(text), 7):
        path.write_text(text[:end])
        assert JobResult.read(path) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "1",
        "null",
        "{}",
        '{"tasks": {}, "problem": null}',
        '{"tasks": [], "problem": 1}',
        '{"job": "a", "tasks": {"a": 1}}',
    ],
)
def test_what_is_no_result_counts_as_none(content: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    assert JobResult.read(path) is None
    assert JobResult.read(tmp_path / "none.json") is None
