"""Submitting an analysis, and submitting again what is missing of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional

from MLTools.NanoML.batch.crab import submit as crab
from MLTools.NanoML.batch.loss import forgive_jobs
from MLTools.NanoML.batch.prepare import PIPELINE, TUNE, Wish, place_of, prepare
from MLTools.NanoML.batch.resources import Resources
from MLTools.NanoML.batch.seen import Seen
from MLTools.NanoML.batch.status import Status, observe, settle
from MLTools.NanoML.batch.submission import JOBS, Submission
from MLTools.NanoML.batch.systems import system_of
from MLTools.NanoML.config.analysis import Config, load
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.rootio.remote.url import is_remote
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.pipeline import planned
from MLTools.NanoML.workflow.runner import Planned
from MLTools.NanoML.workflow.stages import NAMES, Layout, import_part

__all__ = ["described", "find", "kill", "log_of", "resubmit", "submit", "wait"]

_LACKED = ("memory", "time", "disk")


def submit(
    config: Config, wish: Wish, force: bool = False, again: Optional[bool] = None
) -> Optional[Submission]:
    """Submit what is to be done; None if there is nothing.

    Parameters
    ----------
    config
        The analysis.
    wish
        What is asked for.
    force, again
        As in `pipeline.planned`.

    Raises
    ------
    NanoMLError
        Jobs are at work already, or what `prepare` and the batch system refuse.
    """
    workdir = Layout.of(config).workdir
    place = place_of(config, wish.on)
    if place.system == "crab":
        return crab.submit(config, wish, force)
    with locked(workdir):
        settle(workdir)
        todo: list[Planned] = []
        if wish.what != TUNE:
            names = NAMES if wish.what == PIPELINE else (wish.what,)
            todo = planned(config, names, force, again)
            if not any(each.reasons for each in todo):
                return None
        submission = prepare(config, todo, _sizes(config, todo), place, wish)
        if wish.dry_run:
            return submission
        try:
            with submission.here():
                system_of(submission.system).submit(submission)
        except BaseException:
            submission.end()
            shutil.rmtree(submission.directory)
            raise
        submission.state = "submitted"
        submission.save()
    return submission


def _sizes(config: Config, todo: Sequence[Planned]) -> dict[str, int]:
    """Sizes of remote files that are to be read, as far as the catalogue or their server told them [B]."""
    tasks = [task for each in todo for task in each.stage.tasks if task.name in each.reasons]
    if not any(is_remote(path) for task in tasks for path in task.inputs):
        return {}
    described = import_part("data_processing.datasets.datasets").describe_datasets(config)
    return {file.name: file.size for files in described.values() for file in files if file.size is not None}


def find(place: Path) -> Submission:
    """The submission that a path means.

    Parameters
    ----------
    place
        The directory of a submission, the YAML file of an analysis, or a directory with one: of these the latest.

    Raises
    ------
    NanoMLError
        There is none.
    """
    if (place / "submission.json").is_file():
        return Submission.read(place.resolve())
    folder = (place.parent if place.is_file() else place) / JOBS
    found = [Submission.read(path.parent.resolve()) for path in folder.glob("[!.]*/submission.json")]
    if place.is_file():
        config = place.resolve()
        found = [it for it in found if Path(it.config).resolve() == config]
    found = [it for it in found if not it.name.endswith("-dry-run")]
    if not found:
        raise NanoMLError(
            f"{folder}: there are no jobs. nanoml submit makes them; where it was done, nanoml status finds them."
        )
    return max(found, key=lambda it: (it.state != "ended", it.created, it.number))


def wait(
    submission: Submission, every: float, shown: Callable[[Status], None] = lambda status: None
) -> Status:
    """Look at a submission again and again until no job of it is at work.

    Parameters
    ----------
    submission
        The submission.
    every
        Seconds between two looks.
    shown
        Is given what is seen.
    """
    while True:
        status = observe(submission)
        shown(status)
        stuck = status.of("held") and not status.of("running")
        if status.is_active is False or stuck:
            return status
        time.sleep(max(every, crab.PAUSE) if submission.system == "crab" else every)


def resubmit(
    submission: Submission, on: Optional[str] = None, max_missing: Optional[str] = None
) -> Iterator[str]:
    """Submit what is missing, with more memory, time or disk where that was the reason; say in lines what is done.

    Parameters
    ----------
    submission
        The submission.
    on
        Another batch system.
    max_missing
        How many files may be left out that could not be read; None for what the configuration says.

    Raises
    ------
    NanoMLError
        Jobs are at work, and none is held; or as `submit`.
    """
    if submission.system == "crab" and on in (None, "crab"):
        if max_missing is not None:
            raise NanoMLError(
                "--max-missing-files: jobs of CRAB read all files of theirs. Leave out what cannot be read when the outputs are "
                "converted."
            )
        yield from crab.resubmit(submission)
        return
    status = observe(submission)
    held = {job.entry.name: job for job in status.of("held")}
    if held:
        with submission.here():
            seen = {name: Seen("held", job.problem) for name, job in held.items()}
            yield from system_of(submission.system).release(submission, seen)
        if status.of("failed"):
            yield f"{_of(len(status.of('failed')), 'job')} failed: nanoml resubmit goes on when the others are done."
        return
    if status.is_active is not False:
        raise NanoMLError(
            f"{submission.name}: {len(status.of('running'))} jobs are running and {len(status.of('waiting'))} are waiting. What "
            "failed can be submitted again when they are done (nanoml status --wait) or ended (nanoml kill)."
        )
    wish = Wish(submission.what, on or submission.system, lacked=dict(_lacked(status)))
    if wish.what == TUNE:
        wish = replace(wish, **submission.options["search"])
    for name, (kind, before) in wish.lacked.items():
        yield f"{name}: {before.after(kind).differing(before)}"
    config = load(submission.config)
    if max_missing is not None:
        config = replace(config, read=replace(config.read, max_missing_files=max_missing))
    again = submit(config, wish, again=False if forgive_jobs(status, config) else None)
    if again is None:
        yield "Everything is done already."
        return
    yield from described(again)


def _lacked(status: Status) -> Iterator[tuple[str, tuple[str, Resources]]]:
    for job in status.of("failed"):
        if job.problem is not None and job.problem.kind in _LACKED:
            done = {
                name for name, it in (job.result.tasks.items() if job.result else ()) if it.state == "done"
            }
            for task in job.entry.tasks:
                if task not in done:
                    yield f"{job.entry.stage} {task}", (job.problem.kind, job.entry.resources)


def described(submission: Submission) -> Sequence[str]:
    """What was submitted, in words."""
    if submission.system == "crab":
        return crab.described(submission)
    stages = [
        f"{stage}: {_of(sum(len(entry.tasks) for entry in entries), 'task')} in {_of(len(entries), 'job')}"
        for stage, entries in submission.stages.items()
    ]
    return [*stages, f"{submission.name}: {_of(len(submission.jobs), 'job')} on {submission.system}"]


def _of(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def log_of(submission: Submission, job: str) -> Path:
    """The file with what a job printed, which may not be there yet.

    Raises
    ------
    NanoMLError
        There is no such job.
    """
    if submission.system == "crab":
        return crab.fetch_log(submission, job)
    return submission.log(submission.entry(job).name)


def kill(submission: Submission) -> None:
    """End all jobs of a submission; what they have done is kept."""
    if submission.system == "crab":
        crab.kill(submission)
        return
    status = observe(submission)
    if status.is_active is False:
        say(f"{submission.name}: no job is at work.")
        return
    with submission.here():
        system_of(submission.system).kill(submission)
