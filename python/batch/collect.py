"""What jobs have done becomes what the analysis has done: records of its tasks, as if they had been run here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.batch.codec import decode
from MLTools.NanoML.batch.result import Done, Result
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.workflow.task import Task, stamps, write_record

__all__ = ["collect", "task_of"]

_FILE = "collected.json"


def collect(submission: Submission) -> list[str]:
    """Note in the work directory what has been done since the last time.

    Returns
    -------
    What is not as the jobs left it, in words.
    """
    place = submission.directory / _FILE
    before: dict[str, list[float]] = json.loads(place.read_text()) if place.is_file() else {}
    now, notes = dict(before), []
    for name, result in submission.results.items():
        # a job that was killed has no end, but may have done some of its tasks
        mark = [result.finished, sum(done.state == "done" for done in result.tasks.values())]
        if before.get(name) == mark:
            continue
        problems = list(_recorded(submission, name, result))
        notes += problems
        if not problems:
            now[name] = mark
    if now != before:
        write_json(place, now)
    return notes


def _recorded(submission: Submission, name: str, result: Result) -> Iterator[str]:
    job = submission.job(name)
    for names, encoded in zip(job.names(), job.tasks):
        done = result.tasks.get(names.name)
        if done is not None and done.state == "done":
            problem = _changed(done, submission)
            try:
                if not problem:
                    _record(task_of(encoded["fields"]), done, submission, name)
            except NanoMLError as refused:  # of a full disk
                problem = str(refused).rstrip(".")
            if problem:
                yield f"{names.stage} {names.name}: {problem}: it counts as not done."


def task_of(fields: dict[str, Any]) -> Task:
    """A task without its work, which needs no import of what does it."""
    known = {key: decode(fields[key]) for key in ("stage", "name", "inputs", "outputs", "settings", "code")}
    return Task(**known, work=dict)


def _changed(done: Done, submission: Submission) -> str:
    for output in done.outputs:
        try:
            status = os.stat(output["path"])
        except OSError:
            return f"{output['path']} is missing"
        same_time = not submission.options["shared"] or status.st_mtime_ns == output["modified"]
        if status.st_size != output["size"] or not same_time:
            return f"{output['path']} was changed after the job"
    return ""


def _record(task: Task, done: Done, submission: Submission, job: str) -> None:
    inputs = done.inputs if submission.options["shared"] else stamps(task)
    write_record(
        task,
        Path(submission.workdir, RECORDS),
        inputs,
        done.summary,
        done.seconds,
        host=done.host,
        finished=done.finished,
        memory=done.memory,
        job=f"{submission.name}/{job}",
    )
