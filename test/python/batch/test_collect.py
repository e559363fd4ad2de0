from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from MLTools.NanoML.batch.job import JobProblem, JobResult, TaskResult
from MLTools.NanoML.batch.status import collect
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.workflow.task import Stamp, Task, read_record, reason_to_run


def again(submission: Submission) -> list[str]:
    submission.__dict__.pop("results", None)
    return collect(submission)


def reason(submission: Submission, name: str, number: int) -> object:
    task: Task = submission.job(name).decoded()[number]
    return reason_to_run(task, Path(submission.workdir, ".nanoml"), ())


def test_what_is_done_counts_as_if_it_had_been_done_here(
    submission: Submission, leave: Callable[..., JobResult]
) -> None:
    leave("skim-0000", 2)
    assert collect(submission) == []
    assert reason(submission, "skim-0000", 0) is None
    assert reason(submission, "skim-0000", 1) is None
    assert reason(submission, "skim-0001", 0) == "not done yet"
    record = read_record(submission.job("skim-0000").decoded()[0], Path(submission.workdir, ".nanoml"))
    assert record is not None
    assert (record.host, record.job, record.memory) == ("worker", "work-1/skim-0000", 100)
    assert record.summary == {"entries": 5}


def test_an_input_that_changed_while_the_job_ran_shows(
    submission: Submission, leave: Callable[..., JobResult], tmp_path: Path
) -> None:
    leave("skim-0000", 2)
    (tmp_path / "1.root").write_text("another input")
    collect(submission)
    assert reason(submission, "skim-0000", 1) == f"{tmp_path}/1.root was changed"


def test_an_output_that_was_changed_after_the_job_counts_as_not_done(
    submission: Submission, leave: Callable[..., JobResult]
) -> None:
    leave("skim-0000", 2)
    leave("skim-0001", 2)
    workdir = Path(submission.workdir)
    (workdir / "0.out").write_text("cut off")
    (workdir / "1.out").unlink()
    os.utime(workdir / "2.out", (1, 1))
    assert collect(submission) == [
        f"skim WZ/0: {workdir}/0.out was changed after the job: it counts as not done.",
        f"skim WZ/1: {workdir}/1.out is missing: it counts as not done.",
        f"skim WZ/2: {workdir}/2.out was changed after the job: it counts as not done.",
    ]
    assert reason(submission, "skim-0000", 0) == "there is no record of how its output was made"
    assert reason(submission, "skim-0000", 1) == "not done yet"
    assert reason(submission, "skim-0001", 1) is None


def test_what_failed_is_not_recorded_and_what_was_done_beside_it_is(
    submission: Submission, leave: Callable[..., JobResult]
) -> None:
    leave("skim-0000", 1, "failed", tasks={"WZ/1": TaskResult("failed", problem=JobProblem("disk", "full"))})
    assert collect(submission) == []
    assert reason(submission, "skim-0000", 0) is None
    assert reason(submission, "skim-0000", 1) == "not done yet"


def test_a_job_that_was_killed_keeps_what_it_has_done(submission: Submission, leave: Callable[..., JobResult]) -> None:
    leave("skim-0000", 1, "running")
    assert again(submission) == []
    assert reason(submission, "skim-0000", 0) is None
    leave("skim-0000", 2, "running")
    assert again(submission) == []
    assert reason(submission, "skim-0000", 1) is None


def test_nothing_is_recorded_twice(submission: Submission, leave: Callable[..., JobResult]) -> None:
    leave("skim-0000", 2)
    collect(submission)
    record = Path(submission.workdir, ".nanoml", "skim", "WZ", "0.json")
    before = record.stat().st_mtime_ns
    assert again(submission) == []
    assert record.stat().st_mtime_ns == before
    leave("skim-0000", 2, finished=300.0)  # a later attempt
    again(submission)
    assert record.stat().st_mtime_ns > before


def test_where_workers_see_no_files_times_are_those_of_the_storage(
    submission: Submission, leave: Callable[..., JobResult], tmp_path: Path
) -> None:
    submission.options.shared = False
    result = leave("skim-0000", 2)
    for name, done in result.tasks.items():
        remote = (Stamp(f"root://a//{name}"),)
        outputs = tuple(replace(output, modified=1) for output in done.outputs)
        result.tasks[name] = replace(done, inputs=remote, outputs=outputs)
    result.write(submission.directory / "results" / "skim-0000.json")
    assert again(submission) == []
    assert reason(submission, "skim-0000", 0) is None
    leave("skim-0001", 2)
    (tmp_path / "2.root").unlink()
    assert again(submission) == [
        f"skim WZ/2: {tmp_path}/2.root: no such file; skim WZ/2 needs it. Run the earlier stages first: "
        "it counts as not done."
    ]


@pytest.mark.parametrize("content", ["", "{}", "[]", "null"])
def test_a_result_that_cannot_be_read_counts_as_none(content: str, submission: Submission) -> None:
    (submission.directory / "results" / "skim-0000.json").write_text(content)
    assert again(submission) == []
    assert reason(submission, "skim-0000", 0) == "not done yet"
