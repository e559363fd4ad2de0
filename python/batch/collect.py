"""What jobs have done goes into the records of the analysis, as if it had been done here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.batch.job import JobResult, OutputFile, TaskResult
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.workflow.task import Task, stamps, write_record

__all__ = ["collect"]

_FILE = "collected.json"


def collect(submission: Submission) -> list[str]:
    """Record in the work directory what has been done since the last call.

    Returns
    -------
    In words, what is not as the jobs left it.
    """
    place = submission.directory / _FILE
    before: dict[str, list[float]] = json.loads(place.read_text()) if place.is_file() else {}
    now, notes = dict(before), []
    for name, result in submission.results.items():
        mark = [result.finished, result.done]  # a killed job has no end, but may have done some of its tasks
        if before.get(name) == mark:
            continue
        problems = list(_recorded(submission, name, result))
        notes += problems
        if not problems:
            now[name] = mark
    if now != before:
        write_json(place, now)
    return notes


def _recorded(submission: Submission, name: str, result: JobResult) -> Iterator[str]:
    for task in submission.job(name).recorded():
        found = result.tasks.get(task.name)
        if found is not None and found.state == "done":
            problem = _changed(found.outputs, submission)
            try:
                if not problem:
                    _record(task, found, submission, name)
            except NanoMLError as refused:  # on a full disk
                problem = str(refused).rstrip(".")
            if problem:
                yield f"{task.stage} {task.name}: {problem}: it counts as not done."


def _changed(outputs: Sequence[OutputFile], submission: Submission) -> str:
    for output in outputs:
        try:
            status = os.stat(output.path)
        except OSError:
            return f"{output.path} is missing"
        same_time = not submission.options.shared or status.st_mtime_ns == output.modified
        if status.st_size != output.size or not same_time:
            return f"{output.path} was changed after the job"
    return ""


def _record(task: Task, result: TaskResult, submission: Submission, job: str) -> None:
    write_record(
        task,
        Path(submission.workdir, RECORDS),
        result.inputs if submission.options.shared else stamps(task),
        result.summary,
        result.seconds,
        host=result.host,
        finished=result.finished,
        memory=result.memory,
        job=f"{submission.name}/{job}",
    )
