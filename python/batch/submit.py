"""Submitting an analysis, following its jobs, and submitting again what is missing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional

from MLTools.NanoML.batch.job import JobProblem
from MLTools.NanoML.batch.prepare import TUNE, prepare
from MLTools.NanoML.batch.site import place_of
from MLTools.NanoML.batch.status import Status, observe
from MLTools.NanoML.batch.submission import JOBS, JobRequest, Submission, submissions_in
from MLTools.NanoML.batch.system import QueueState, system_of
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts import missing
from MLTools.NanoML.errors import NanoMLError, UnreadableError, plural
from MLTools.NanoML.extending import Resources
from MLTools.NanoML.observing import VARIABLE
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.analysis import FailedTasksError
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import files_of, forgive
from MLTools.NanoML.workflow.unblinding import record_declared

_LACKED = ("memory", "time", "disk")


def submit(
    config: Config, request: JobRequest, force: bool = False, again: Optional[bool] = None
) -> Optional[Submission]:
    """Submit what is to be done; None if there is nothing. `force` and `again` are as in `pipeline.planned`.

    An error if jobs are active already, or the batch system or the preparation refuses something.
    """
    place = place_of(config, request.on)
    system = place.system
    with locked(Layout.of(config).workdir):
        if not request.dry_run:
            record_declared(config)
        if system.where == "grid":
            submission = system.prepare(config, place, request, force)
        else:
            submission = prepare(config, place, request, force, again)
        if submission is None or request.dry_run:
            return submission
        try:
            with submission.here():
                system.submit(submission)
        except BaseException:
            if not system.has_begun(submission):
                submission.end()
                shutil.rmtree(submission.directory)
            raise
        submission.state = "submitted"
        submission.save()
    return submission


def describe(submission: Submission) -> list[str]:
    """The submission in lines of text."""
    return system_of(submission.system).describe(submission)


def find(place: Path) -> Submission:
    """The submission in a directory; or the latest of an analysis by its YAML file, or by the directory with this file."""
    if (place / "submission.json").is_file():
        return Submission.read(place.resolve())
    folder, config = (place.parent / JOBS, place) if place.is_file() else (place / JOBS, None)
    found = submissions_in(folder, config)
    if not found:
        raise NanoMLError(
            f"{folder}: there are no jobs. nanoml submit makes them; nanoml status finds them in the same directory."
        )
    return max(found, key=lambda it: (it.state != "ended", it.created, it.number))


def wait(submission: Submission, every: float, show: Callable[[Status], None] = lambda status: None) -> Status:
    """Poll a submission, with `every` seconds in between, until none of its jobs is active; `show` each status."""
    pause = max(every, system_of(submission.system).pause)
    while True:
        status = observe(submission)
        show(status)
        is_stuck = status.of("held") and not status.of("running")
        if status.is_active is False or is_stuck:
            return status
        time.sleep(pause)


def resubmit(submission: Submission, on: Optional[str] = None, max_missing: Optional[str] = None) -> Iterator[str]:
    """Submit what is missing, with more memory, time or disk where that was the reason; say in lines what is done.

    `on` may be another batch system. `max_missing` says how many unreadable files may be left out; None for what the
    configuration says. It raises as `submit`, and if jobs are active of which none is held.
    """
    system = system_of(submission.system)
    if on is not None:
        system_of(on)  # which refuses an unknown one before anything is done
    retried = system.retry(submission) if on in (None, submission.system) else None
    if retried is not None:
        if max_missing is not None:
            raise NanoMLError(
                f"--max-missing-files: jobs of {system.title} read all of their files. Leave out what cannot be read when the "
                "outputs are converted."
            )
        yield from retried
        return
    status = observe(submission)
    running, waiting, failed = (len(status.of(state)) for state in ("running", "waiting", "failed"))
    held = {job.entry.name: QueueState("held", job.problem) for job in status.of("held")}
    if held:
        with submission.here():
            yield from system.release(submission, held)
        if failed:
            yield f"{plural(failed, 'job')} failed: nanoml resubmit continues when the others are done."
        return
    if status.is_active is not False:
        raise NanoMLError(
            f"{submission.name}: {running} jobs are running and {waiting} are waiting. What "
            "failed can be submitted again when they are done (nanoml status --wait) or ended (nanoml kill)."
        )
    tasks = (task for job in status.of("failed") if job.result for task in job.result.tasks.values())
    read = {key.partition(" ")[2] for task in tasks for key in task.observed if key.startswith(f"{VARIABLE} ")}
    read.update(name for job in status.of("failed") for name in submission.job(job.entry.name).environment)
    request = JobRequest(
        submission.what, on or submission.system, lacked=dict(_lacked(status)), variables=frozenset(read)
    )
    if request.what == TUNE:
        trials, workers = (submission.options.search[name] for name in ("trials", "workers"))
        request = replace(request, trials=trials, workers=workers or request.workers)
    for name, (kind, before) in request.lacked.items():
        yield f"{name}: {before.after(kind).changes_since(before)}"
    config = load(submission.config)
    if max_missing is not None:
        config = replace(config, read=replace(config.read, max_missing_files=max_missing))
    again = submit(config, request, again=False if _forgive(status, config) else None)
    if again is None:
        yield "Everything is done already."
        return
    yield from describe(again)


def _lacked(status: Status) -> Iterator[tuple[str, tuple[str, Resources]]]:
    for job in status.of("failed"):
        if job.problem is not None and job.problem.kind in _LACKED:
            done = job.result.records if job.result else {}
            for task in job.entry.tasks:
                if task not in done:
                    yield f"{job.entry.stage} {task}", (job.problem.kind, job.entry.resources)


def _forgive(status: Status, config: Config) -> bool:
    """Note the files that jobs could not read as missing, if `read.max_missing_files` allows so many.

    Returns whether files are missing now that were not before.
    """
    limit, workdir = config.read.max_missing_files, Layout.of(config).workdir
    failures: dict[str, dict[str, NanoMLError]] = {}
    for job in status.of("failed"):
        for name, task in job.result.tasks.items() if job.result else ():
            if isinstance(task, JobProblem) and task.kind == "unreadable":
                error = UnreadableError(task.message, task.file)
                failures.setdefault(job.entry.stage, {})[name] = error
    if missing.allowed(limit, 1 << 30) == 0 or not failures:
        return False
    files, submission = files_of(config), status.submission
    with locked(workdir):
        for stage, problems in failures.items():
            jobs = [submission.job(entry.name) for entry in submission.stages[stage]]
            tasks = [task for job in jobs for task in job.recorded()]
            forgive(FailedTasksError(tasks, problems), files, workdir, limit)
    return True


def log_of(submission: Submission, job: str) -> Path:
    """The file with what a job printed, which may not exist yet; an error if there is no such job."""
    with submission.here():
        return system_of(submission.system).log(submission, submission.entry(job))


def kill(submission: Submission) -> None:
    """End all jobs of a submission; what they have done is kept."""
    if observe(submission).is_active is False:
        say(f"{submission.name}: no job is active.")
        return
    with submission.here():
        system_of(submission.system).kill(submission)
