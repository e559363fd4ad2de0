"""A task of CRAB: what was written for it, what CRAB said about it, and what to do when its jobs fail."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from MLTools.NanoML.batch.crabclient import CrabClient, CrabStatus, GridJob, problem_of_code
from MLTools.NanoML.batch.job import JobResult, TaskResult
from MLTools.NanoML.batch.problems import JobProblem
from MLTools.NanoML.batch.submission import JobEntry, Submission
from MLTools.NanoML.batch.system import QueueState, counted
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.resources import Resources, in_words

__all__ = ["CrabTask", "CrabTaskState", "JobNow", "entry_of", "save_tasks", "tasks_of"]

_TIME = 1250 * 60  # seconds: CRAB's default
_MOST_MEMORY = 5000  # MB that CRAB gives to a job of one core that is submitted again
_MOST_TIME = 47 * 3600  # seconds: what sites allow
_STALE = 3600  # seconds after which what CRAB says about resubmitted jobs is believed in any case
_CHANGING = ("NEW", "HOLDING", "QUEUED", "WAITING", "TAPERECALL", "KILLRECALL")
_REFUSED, _KILLED, _FORGOTTEN = "SUBMITFAILED", "KILLED", "FORGOTTEN"


@dataclass(frozen=True)
class CrabTask:
    """A task whose directory has been written: what one `crab submit` submits."""

    name: str  # name of the directory
    dataset: str  # the dataset of the configuration, of which it is all or a part
    what: str  # what is read, for people
    request: str  # its name in CRAB
    memory: int  # memory of a job [MB]
    time: Optional[int]  # wall time of a job [s]; None for CRAB's default
    scores: Sequence[str]  # names of the models that score
    digest: str  # distinguishes it from tasks that read or do something else, or write elsewhere


@dataclass
class _Record:
    """What CRAB said about a task, and what was asked of it.

    `again` has, by job, how many tries it had when it was resubmitted, and when that was [s since 1970]; `listed` is the
    number of jobs whose outputs are known; `asked` has the memory and time that jobs ask for since they were resubmitted.
    """

    server: str = ""
    refusal: str = ""
    name: str = ""
    jobs: dict[str, GridJob] = field(default_factory=dict)
    again: dict[str, list[float]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    listed: int = 0
    asked: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> _Record:
        jobs = {number: GridJob(**job) for number, job in content.get("jobs", {}).items()}
        return cls(**{**content, "jobs": jobs})

    @property
    def done(self) -> list[str]:
        return [number for number, job in self.jobs.items() if job.state == "finished"]

    @property
    def is_settled(self) -> bool:
        """Whether all jobs are done and their outputs known: there is nothing left to ask."""
        return bool(self.jobs) and self.listed == len(self.done) == len(self.jobs)


@dataclass(frozen=True)
class JobNow:
    """A job at a poll; the whole task, if CRAB has not made its jobs yet."""

    entry: JobEntry
    state: QueueState
    result: Optional[JobResult] = None


@dataclass
class CrabTaskState:
    """A task: what was written, what is known about it, and how to ask."""

    written: CrabTask
    record: _Record
    client: CrabClient

    def entry(self) -> JobEntry:
        """The entry that stands for the whole task."""
        return entry_of(self.written)

    @property
    def is_changing(self) -> bool:
        """Whether the server is working on it."""
        return self.record.server in _CHANGING

    def note(self, answer: CrabStatus) -> list[str]:
        """Keep an answer; return what the user must know about it."""
        name, record = self.written.name, self.record
        if not answer.server:
            return [f"{name}: CRAB does not answer ({answer.said}): this is what it said before."]
        record.server = _FORGOTTEN if answer.is_forgotten else answer.server
        record.refusal = answer.refusal
        record.jobs = dict(answer.jobs) or record.jobs
        if answer.refusal and answer.server != _REFUSED:
            return [f"{name}: {answer.server}: {answer.refusal}"]
        return []

    def jobs(self) -> Iterator[JobNow]:
        """Its jobs as they are known."""
        server = self.record.server
        if server == _REFUSED:
            yield self._failed("", JobProblem("rejected", self.record.refusal or "CRAB does not say why"))
        elif not self.record.jobs and server in (_KILLED, _FORGOTTEN, "FAILED"):
            yield self._failed("", JobProblem("removed", f"the task is {server} for CRAB, and has no jobs"))
        elif not self.record.jobs:
            yield JobNow(entry_of(self.written), QueueState("waiting"))
        for number, job in self.record.jobs.items() if server != _REFUSED else ():
            yield self._job(number, job)

    def _job(self, number: str, job: GridJob) -> JobNow:
        entry, server = entry_of(self.written, number), self.record.server
        tries, when = self.record.again.get(number, (-1, 0.0))
        if job.state == "finished":
            result = JobResult(entry.name, "done", {number: TaskResult("done")}, job.site)
            return JobNow(entry, QueueState("ended"), result)
        if job.state == "killed" or (server == _KILLED and job.state != "failed"):
            return self._failed(number, JobProblem("removed", "the job was killed"), job.site)
        if job.state == "failed" and not (job.tries == tries and time.time() - when < _STALE):
            silent = JobProblem("error", "CRAB does not say why")
            problem = silent if job.code is None else problem_of_code(job.code, job.message)
            return self._failed(number, problem, job.site)
        if job.state != "failed" and server == _FORGOTTEN:
            problem = JobProblem("lost", "CRAB has forgotten how the job went")
            return self._failed(number, problem, job.site)
        # CRAB takes minutes until it starts what was resubmitted
        is_running = job.state in ("running", "transferring", "transferred")
        result = JobResult(entry.name, host=job.site)
        return JobNow(entry, QueueState("running" if is_running else "waiting"), result)

    def _failed(self, number: str, problem: JobProblem, site: str = "") -> JobNow:
        entry = entry_of(self.written, number)
        return JobNow(entry, QueueState("ended"), JobResult(entry.name, "failed", host=site, problem=problem))

    def list_outputs(self) -> list[str]:
        """Ask for the names of the outputs; return what the user must know."""
        name, record, done = self.written.name, self.record, self.record.done
        if record.listed == len(done):
            return []
        try:
            record.outputs = self.client.outputs(done)
        except NanoMLError as problem:
            return [f"{name}: the names of its outputs are not known yet ({problem}): ask again."]
        if len(record.outputs) != len(done):
            return [f"{name}: {len(done)} jobs are done, but CRAB names {len(record.outputs)} outputs: ask again."]
        record.listed = len(done)
        return []

    def retry(self, since: str) -> Iterator[str]:
        """Submit again what failed, or the whole task; say in lines what was done."""
        name, record, client = self.written.name, self.record, self.client
        if not client.recover(since):
            client.submit()
            yield f"{name}: submitted"
            return
        if record.server == _REFUSED:
            os.replace(client.project, f"{client.project}.refused-{time.time():.0f}")
            record.server = record.refusal = ""
            client.submit()
            yield f"{name}: submitted again"
            return
        failed = {
            number: job
            for number, job in record.jobs.items()
            if job.state == "failed" and record.again.get(number, [-1])[0] != job.tries
        }
        if failed:
            memory, seconds, words = self._more(failed)
            client.resubmit(list(failed), memory, seconds and seconds // 60)
            record.again.update((number, [job.tries, time.time()]) for number, job in failed.items())
            record.asked.update({"memory": memory} if memory else {})
            record.asked.update({"time": seconds} if seconds else {})
            yield f"{name}: {counted(len(failed), 'job')} again{words}"
        killed = sum(job.state == "killed" for job in record.jobs.values())
        if killed:
            yield (
                f"{name}: {counted(killed, 'killed job')}, which CRAB does not submit again. When no job is active, nanoml submit "
                "skim --on crab repeats the whole task."
            )

    def _more(self, failed: Mapping[str, GridJob]) -> tuple[Optional[int], Optional[int], str]:
        """More memory [MB] and time [s], if a job failed for lack of it, and in words."""
        asked = Resources(**{**asdict(entry_of(self.written).resources), **self.record.asked})
        kinds = {problem_of_code(job.code, "").kind for job in failed.values() if job.code is not None}
        memory = seconds = None
        words = ""
        if "memory" in kinds:
            memory = min(2 * asked.memory, _MOST_MEMORY)
            words += _change("memory", f"{asked.memory}", f"{memory} MB", asked.memory >= _MOST_MEMORY)
        if "time" in kinds:
            seconds = min(2 * asked.time, _MOST_TIME)
            words += _change("time", in_words(asked.time), in_words(seconds), asked.time >= _MOST_TIME)
        return memory, seconds, words


def _change(what: str, before: str, after: str, is_most: bool) -> str:
    if is_most:
        return f", {what} {after}, which is all that CRAB gives: if they fail again, give jobs less to do"
    return f", {what} {before} -> {after}"


def tasks_of(submission: Submission) -> dict[str, CrabTaskState]:
    """The tasks of a submission, by name, as it keeps them."""
    records: Mapping[str, Any] = submission.handles.get("tasks", {})
    found = {}
    for name, content in submission.handles["written"].items():
        written = CrabTask(**content)
        client = CrabClient(submission.directory / name, written.request)
        found[name] = CrabTaskState(written, _Record.from_dict(records.get(name, {})), client)
    return found


def save_tasks(submission: Submission, tasks: Mapping[str, CrabTaskState]) -> None:
    """Keep what is known about tasks in the submission."""
    submission.handles["tasks"] = {name: asdict(task.record) for name, task in tasks.items()}
    submission.save()


def entry_of(task: CrabTask, number: str = "") -> JobEntry:
    """The entry of a job, or of the whole task while CRAB has not made its jobs."""
    name = f"{task.name}-{number}" if number else task.name
    return JobEntry(name, task.name, [number or task.name], Resources(task.time or _TIME, task.memory))
