"""Files that jobs could not read, where the user allows that loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from MLTools.NanoML.batch.collect import task_of
from MLTools.NanoML.batch.status import Status
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.contracts import missing
from MLTools.NanoML.errors import NanoMLError, UnreadableError
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.workflow.pipeline import files_of, forgive
from MLTools.NanoML.workflow.runner import FailedTasksError
from MLTools.NanoML.workflow.stages import Layout
from MLTools.NanoML.workflow.task import Task

__all__ = ["forgive_jobs"]


def forgive_jobs(status: Status, config: Config) -> bool:
    """Note the files that jobs could not read as missing, if `read.max_missing_files` allows any.

    Returns
    -------
    Whether files are missing now that were not before.

    Raises
    ------
    FailedTasksError
        More are missing than may be.
    """
    limit, workdir = config.read.max_missing_files, Layout.of(config).workdir
    failures = _failures(status)
    if missing.allowed(limit, 1 << 30) == 0 or not failures:
        return False
    files: Mapping[str, Sequence[str]] = files_of(config)
    with locked(workdir):
        for stage, problems in failures.items():
            forgive(FailedTasksError(_tasks(status.submission, stage), problems), files, Path(workdir), limit)
    return True


def _failures(status: Status) -> dict[str, dict[str, NanoMLError]]:
    found: dict[str, dict[str, NanoMLError]] = {}
    for job in status.of("failed"):
        for name, done in job.result.tasks.items() if job.result else ():
            if done.problem is not None and done.problem.kind == "unreadable":
                error = UnreadableError(done.problem.message, done.problem.file)
                found.setdefault(job.entry.stage, {})[name] = error
    return found


def _tasks(submission: Submission, stage: str) -> list[Task]:
    entries = submission.stages[stage]
    return [task_of(encoded["fields"]) for entry in entries for encoded in submission.job(entry.name).tasks]
