"""How CRAB's tasks go: what its client says is noted in the submission, so that nothing is lost when it does not answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import yaml

from MLTools.NanoML.atomic import make_directory, write_text
from MLTools.NanoML.batch.crab.client import Answer, Client
from MLTools.NanoML.batch.crab.codes import problem_of_code
from MLTools.NanoML.batch.result import Problem
from MLTools.NanoML.batch.seen import Seen
from MLTools.NanoML.batch.submission import Entry, Submission
from MLTools.NanoML.errors import NanoMLError

__all__ = ["GridJob", "GridLook", "clients_of", "look", "record_of"]

OUTPUTS = "outputs"
"""Name of the directory of lists of outputs, in a submission."""

_STATES = {
    "finished": "done", "failed": "failed", "killed": "failed", "running": "running", "transferring": "running",
    "transferred": "running",
}  # fmt: skip
_FINAL = ("done", "failed")
_CHANGING = ("NEW", "HOLDING", "QUEUED", "WAITING", "TAPERECALL", "KILLRECALL")
_REFUSED = "SUBMITFAILED"
_STALE = 3600  # seconds until what CRAB says of jobs that were resubmitted is believed in any case
_AT_ONCE = 4


@dataclass(frozen=True)
class GridJob:
    """A job of a task; the whole task, if CRAB has not made its jobs yet.

    Attributes
    ----------
    entry
        Its name and what it asks for; its stage is the task.
    seen
        Its state: "done", "running", "waiting", "failed", or "idle" if the task has not been submitted.
    site
        Where it ran last.
    """

    entry: Entry
    seen: Seen
    site: str = ""


@dataclass(frozen=True)
class GridLook:
    """A submission as CRAB sees it.

    Attributes
    ----------
    jobs
        All jobs.
    is_active
        Whether any is at work or waits; None if that is not known.
    notes
        What is to be said about that.
    """

    jobs: Sequence[GridJob]
    is_active: Optional[bool]
    notes: Sequence[str] = field(default_factory=list)


def clients_of(submission: Submission) -> dict[str, Client]:
    """The client for each task."""
    return {
        name: Client(submission.directory / name, task["request"])
        for name, task in submission.options["tasks"].items()
    }


def record_of(submission: Submission, name: str) -> dict[str, Any]:
    """What is known of a task: the server's word for it, jobs, outputs; may be written to."""
    records: dict[str, Any] = submission.handles.setdefault("tasks", {})
    empty: dict[str, Any] = {"server": "", "refusal": "", "jobs": {}, "again": {}, "outputs": [], "listed": 0}
    known: dict[str, Any] = records.setdefault(name, empty)
    return known


def look(submission: Submission) -> GridLook:
    """Ask how all tasks go, and note it."""
    clients = clients_of(submission)
    submitted = [name for name, client in clients.items() if client.is_submitted]
    asked = [name for name in submitted if not _is_settled(record_of(submission, name))]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = dict(zip(asked, pool.map(lambda name: clients[name].status(), asked)))
    jobs, states, notes = [], [], []
    for name, client in clients.items():
        record = record_of(submission, name)
        record["name"] = client.name
        if name not in submitted:
            jobs.append(GridJob(_entry(submission, name), Seen("idle")))
            notes.append(f"{name}: has not been submitted. nanoml resubmit does it.")
            continue
        answer = answers.get(name)
        if answer is not None:
            notes += _note(name, record, answer)
        found = list(_jobs(submission, name, record))
        active = any(job.seen.state not in _FINAL for job in found) or record["server"] in _CHANGING
        states.append(active if answer is None or answer.server else None)
        if states[-1] is False:
            notes += _list_outputs(name, client, record)
        jobs += found
    is_active = None if None in states else any(states)
    if is_active is False:
        notes += _next_steps(submission)
    submission.state = "ended" if is_active is False else "submitted"
    submission.save()
    return GridLook(jobs, is_active, notes)


def _is_settled(record: Mapping[str, Any]) -> bool:
    """Whether all jobs are done and their outputs known: there is nothing left to ask."""
    jobs = record["jobs"].values()
    return bool(jobs) and record["listed"] == sum(job["state"] == "finished" for job in jobs) == len(jobs)


def _note(name: str, record: dict[str, Any], answer: Answer) -> list[str]:
    if not answer.server:
        return [f"{name}: CRAB does not answer ({answer.said}): this is what it said before."]
    record.update(server=answer.server, refusal=answer.refusal)
    if answer.is_forgotten:
        record["server"] = "FORGOTTEN"
    if answer.jobs:
        record["jobs"] = {number: _plain(job) for number, job in answer.jobs.items()}
    if answer.refusal and answer.server != _REFUSED:
        return [f"{name}: {answer.server}: {answer.refusal}"]
    return []


def _plain(job: Mapping[str, Any]) -> dict[str, Any]:
    error = job.get("Error")
    has_error = isinstance(error, list) and len(error) > 1 and isinstance(error[0], int)
    sites = [site for site in job.get("SiteHistory") or [] if site != "Unknown"]
    return {
        "state": job["State"],
        "code": error[0] if has_error and error else None,
        "message": str(error[1]) if has_error and error else "",
        "site": sites[-1] if sites else "",
        "tries": len(job.get("SubmitTimes") or []),
    }


def _entry(submission: Submission, task: str, number: str = "") -> Entry:
    resources = next(entry.resources for entry in submission.jobs if entry.name == task)
    return Entry(f"{task}-{number}" if number else task, task, [number or task], resources)


def _jobs(submission: Submission, name: str, record: Mapping[str, Any]) -> Iterator[GridJob]:
    server = record["server"]
    if server == _REFUSED:
        problem = Problem("rejected", record["refusal"] or "CRAB does not say why")
        yield GridJob(_entry(submission, name), Seen("failed", problem))
    elif not record["jobs"]:
        ended = server in ("KILLED", "FORGOTTEN", "FAILED")
        problem = Problem("removed", f"the task is {server} for CRAB, and has no jobs")
        yield GridJob(_entry(submission, name), Seen("failed", problem) if ended else Seen("waiting"))
    else:
        for number, job in record["jobs"].items():
            seen = _seen(job, server, record["again"].get(number))
            yield GridJob(_entry(submission, name, number), seen, job["site"])


def _seen(job: Mapping[str, Any], server: str, again: Optional[Sequence[float]]) -> Seen:
    state = _STATES.get(job["state"], "waiting")
    if state == "failed" and again and job["tries"] == again[0] and time.time() - again[1] < _STALE:
        return Seen("waiting")  # CRAB takes minutes to begin what was resubmitted
    if state == "failed" and job["state"] != "killed":
        code = job["code"]
        return Seen(state, problem_of_code(code, job["message"]) if code is not None else _SILENT)
    if state == "failed" or (state != "done" and server == "KILLED"):
        return Seen("failed", Problem("removed", "the job was killed"))
    if state != "done" and server == "FORGOTTEN":
        return Seen("failed", Problem("lost", "CRAB does not know any more how the job went"))
    return Seen(state)


_SILENT = Problem("error", "CRAB does not say why")


def _list_outputs(name: str, client: Client, record: dict[str, Any]) -> list[str]:
    done = [number for number, job in record["jobs"].items() if job["state"] == "finished"]
    if record["listed"] == len(done):
        return []
    try:
        record["outputs"] = client.outputs(done)
    except NanoMLError as problem:
        return [f"{name}: the names of its outputs are not known yet ({problem}): ask again."]
    if len(record["outputs"]) != len(done):
        return [
            f"{name}: {len(done)} jobs are done, but CRAB names {len(record['outputs'])} outputs: ask again."
        ]
    record["listed"] = len(done)
    return []


def _next_steps(submission: Submission) -> list[str]:
    """Lists of outputs, and how they are used."""
    files: dict[str, list[str]] = {}
    for name, task in submission.options["tasks"].items():
        files.setdefault(task["dataset"], []).extend(record_of(submission, name)["outputs"])
    files = {dataset: names for dataset, names in files.items() if names}
    if not files:
        return []
    base, datasets = Path(submission.config).parent, {}
    for dataset, names in files.items():
        path = make_directory(submission.directory / OUTPUTS) / f"{dataset.replace('/', '_')}.txt"
        write_text(path, "".join(f"{name}\n" for name in names))
        datasets[dataset] = {"files": os.path.relpath(path, base)}
    lines = yaml.safe_dump(
        {"datasets": datasets}, sort_keys=False, allow_unicode=True, width=1000
    ).splitlines()
    return [
        f"The skims are at {submission.options['site']}. To go on, copy {os.path.basename(submission.config)} without the "
        "section skim, and let its datasets read them:",
        *(f"  {line}" for line in lines),
    ]
