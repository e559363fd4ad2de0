"""Submitting skims to CRAB, and submitting again what failed."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.batch.crab.client import Client
from MLTools.NanoML.batch.crab.codes import problem_of_code
from MLTools.NanoML.batch.crab.look import clients_of, look, record_of
from MLTools.NanoML.batch.prepare import Wish, new_directory
from MLTools.NanoML.batch.resources import Resources, in_words
from MLTools.NanoML.batch.submission import JOBS, Entry, Submission
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.stages import Layout, import_part

__all__ = ["PAUSE", "described", "fetch_log", "kill", "resubmit", "submit"]

PAUSE = 120.0
"""Seconds between two looks, at least: the server has nothing new before."""

_TIME = 1250 * 60  # seconds: CRAB's default
_MOST_MEMORY = 5000  # MB that CRAB gives to a job of one core that is submitted again
_MOST_TIME = 47 * 3600  # seconds: what sites allow


class _UpToDateError(Exception):
    """There is nothing to submit."""


def submit(config: Config, wish: Wish, force: bool = False) -> Optional[Submission]:
    """Submit a task for each dataset that has not been skimmed by CRAB in this way; None if there is none.

    Raises
    ------
    NanoMLError
        Something else than a skim is to be submitted, tasks of this analysis are at work already, or a task cannot be
        written or submitted.
    """
    if wish.what != "skim":
        raise NanoMLError(
            f"{config.where()}: CRAB runs skims, with the scores of models, where the files are; {wish.what} runs elsewhere: "
            f"nanoml submit {wish.what} --on condor, slurm or local. Before it: nanoml submit skim --on crab."
        )
    workdir = Layout.of(config).workdir
    with locked(workdir):
        done = set() if wish.dry_run else _done(config)
        try:
            submission = _write(config, wish, set() if force else done)
        except _UpToDateError:
            return None
        if not wish.dry_run:
            _submit_new(submission)
    return submission


def _done(config: Config) -> set[str]:
    """The digests of the tasks of this analysis that are done.

    Raises
    ------
    NanoMLError
        Some are at work.
    """
    found: set[str] = set()
    for path in sorted((config.base / JOBS).glob("[!.]*/submission.json")):
        before = Submission.read(path.parent)
        is_same = Path(before.config).resolve() == Path(config.document.name).resolve()
        if before.system != "crab" or not is_same or before.name.endswith("-dry-run"):
            continue
        if before.state != "ended" and look(before).is_active is not False:
            raise NanoMLError(
                f"{before.name}: is at work for this analysis, or may be. See nanoml status; wait for it, or end it by nanoml "
                "kill."
            )
        for name, task in before.options["tasks"].items():
            jobs = record_of(before, name)["jobs"].values()
            if jobs and all(job["state"] == "finished" for job in jobs):
                found.add(task["digest"])
    return found


def _write(config: Config, wish: Wish, done: set[str]) -> Submission:
    workdir = Layout.of(config).workdir
    write_tasks = import_part("data_processing.crab.tasks").write_tasks
    with new_directory(config.base / JOBS, workdir.name, wish.dry_run) as (aside, final):
        tasks = {task.name: asdict(task) for task in write_tasks(config, aside, final.name)}
        for name in [name for name, task in tasks.items() if task["digest"] in done]:
            del tasks[name]
            shutil.rmtree(aside / name)
        if not tasks:
            raise _UpToDateError
        entries = [
            Entry(name, name, [name], Resources(task["time"] or _TIME, task["memory"]))
            for name, task in tasks.items()
        ]
        grid = config.batch.grid
        assert grid is not None
        submission = Submission(
            directory=aside,
            tag=f"nanoml-{uuid.uuid4().hex[:12]}",
            system="crab",
            config=os.path.abspath(config.document.name),
            workdir=str(workdir),
            what=wish.what,
            created=time.strftime("%Y-%m-%d %H:%M"),
            jobs=entries,
            options={"tasks": tasks, "site": grid.site, "directory": grid.directory},
        )
        submission.save()
        submission.directory = final
    return submission


def _submit_new(submission: Submission) -> None:
    clients = clients_of(submission)
    try:
        for name, client in clients.items():
            say(f"{name}: crab submit")
            client.submit()
    except BaseException as problem:
        submitted = sum(client.is_submitted for client in clients.values())
        is_clear = isinstance(problem, NanoMLError) or not any(it.project.exists() for it in clients.values())
        if not submitted and is_clear:
            shutil.rmtree(submission.directory)
        if submitted and isinstance(problem, NanoMLError):
            raise NanoMLError(
                f"{problem} Of {len(clients)} tasks {submitted} have been submitted: nanoml resubmit does the rest."
            ) from None
        raise
    submission.state = "submitted"
    submission.save()


def described(submission: Submission) -> Sequence[str]:
    """What was written or submitted, in words."""
    tasks = submission.options["tasks"]
    lines = [
        f"{name}: {task['what']}"
        + (f", with scores of {', '.join(task['scores'])}" if task["scores"] else "")
        for name, task in tasks.items()
    ]
    return [
        *lines,
        f"{submission.name}: {_of(len(tasks), 'task')} of CRAB, which write to {submission.options['site']}",
    ]


def resubmit(submission: Submission) -> Iterator[str]:
    """Submit again what failed, and what has not been submitted; say in lines what is done.

    Raises
    ------
    NanoMLError
        CRAB does not take it.
    """
    with locked(Path(submission.workdir)):
        lines = list(look(submission).notes)
        some = False
        for name, client in clients_of(submission).items():
            for line in _resubmit_task(submission, name, client):
                some = True
                yield line
                submission.state = "submitted"
                submission.save()
    if not some:
        yield from lines
        yield f"{submission.name}: nothing of it has failed, as far as CRAB says: nothing was submitted."


def _resubmit_task(submission: Submission, name: str, client: Client) -> Iterator[str]:
    record = record_of(submission, name)
    if not client.recover(submission.created.split()[0]):
        client.submit()
        yield f"{name}: submitted"
        return
    if record["server"] == "SUBMITFAILED":
        os.replace(client.project, f"{client.project}.refused-{time.time():.0f}")
        record.update(server="", refusal="")
        client.submit()
        yield f"{name}: submitted again"
        return
    failed = {
        number: job
        for number, job in record["jobs"].items()
        if job["state"] == "failed" and record["again"].get(number, [-1])[0] != job["tries"]
    }
    if failed:
        memory, seconds, words = _more(_asked(submission, name), failed)
        client.resubmit(list(failed), memory, seconds and seconds // 60)
        record["again"].update((number, [job["tries"], time.time()]) for number, job in failed.items())
        record["asked"] = {**record.get("asked", {}), **_given(memory=memory, time=seconds)}
        yield f"{name}: {_of(len(failed), 'job')} again{words}"
    killed = sum(job["state"] == "killed" for job in record["jobs"].values())
    if killed:
        yield (
            f"{name}: {_of(killed, 'killed job')}, which CRAB does not submit again. When no job is at work, nanoml submit skim "
            "--on crab does the whole task anew."
        )


def _asked(submission: Submission, name: str) -> Resources:
    """What the jobs of a task asked for last."""
    first = submission.entry(name).resources
    return Resources(**{**asdict(first), **record_of(submission, name).get("asked", {})})


def _given(**values: Optional[int]) -> dict[str, int]:
    return {name: value for name, value in values.items() if value is not None}


def _more(
    before: Resources, failed: Mapping[str, Mapping[str, Any]]
) -> tuple[Optional[int], Optional[int], str]:
    """More memory [MB] and time [s], if a job failed for the lack of it, and in words."""
    kinds = {problem_of_code(job["code"], "").kind for job in failed.values() if job["code"] is not None}
    memory = time = None
    words = []
    if "memory" in kinds:
        memory = min(2 * before.memory, _MOST_MEMORY)
        words.append(_change("memory", f"{before.memory}", f"{memory} MB", before.memory >= _MOST_MEMORY))
    if "time" in kinds:
        time = min(2 * before.time, _MOST_TIME)
        words.append(_change("time", in_words(before.time), in_words(time), before.time >= _MOST_TIME))
    return memory, time, "".join(f", {each}" for each in words)


def _change(what: str, before: str, after: str, is_most: bool) -> str:
    if is_most:
        return f"{what} {after}, which is all that CRAB gives: if they fail again, give jobs less to do"
    return f"{what} {before} -> {after}"


def kill(submission: Submission) -> None:
    """End all jobs that are at work or waiting; what they have done is kept.

    Raises
    ------
    NanoMLError
        CRAB does not do it; what could be ended is ended.
    """
    problems = []
    tasks = {job.entry.stage for job in look(submission).jobs if job.seen.state in ("running", "waiting")}
    if not tasks:
        say(f"{submission.name}: no job is at work.")
    for name, client in clients_of(submission).items():
        if name in tasks:
            try:
                client.kill()
                say(f"{name}: crab kill")
            except NanoMLError as problem:
                problems.append(f"{name}: {problem}")
    if problems:
        raise NanoMLError("\n".join(problems))


def fetch_log(submission: Submission, job: str) -> Path:
    """The log of a job, fetched from CRAB.

    Raises
    ------
    NanoMLError
        There is no such job, or CRAB has no log of it.
    """
    task, _, number = job.rpartition("-")
    clients = clients_of(submission)
    if task not in clients or number not in record_of(submission, task)["jobs"]:
        named = next(iter(clients))
        raise NanoMLError(
            f"{submission.name}: has no job {job}. Jobs are named as {named}-1, {named}-2 and so on."
        )
    return clients[task].log(number)


def _of(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
