"""How the jobs of a submission are doing: what they left and what the batch system says, put together, and as a page.

What they have done goes into the records of the analysis, as if it had been done here.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.batch.job import KINDS, PERMANENT, JobProblem, JobResult
from MLTools.NanoML.batch.submission import JobEntry, Submission, submissions_of
from MLTools.NanoML.batch.system import Poll, QueueState, System, system_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked
from MLTools.NanoML.schema.plain import content_of
from MLTools.NanoML.workflow.task import Stamp

_DECISIVE = ("time", "memory")  # about these the batch system knows better than the job
_TOO_LONG = JobProblem("time", "the wall time was exceeded")
_LOG_WORDS = {
    "ModuleNotFoundError": "package",
    "Python package": "package",
    "No space left on device": "disk",
    "Disk quota exceeded": "disk",
    "MemoryError": "memory",
    "oom-kill": "memory",
    "Out of memory": "memory",
    "/cvmfs": "package",
    "command not found": "package",
    "No such file or directory": "package",
}
"""Messages in the log of a job that could not write a result, and the kind of problem of each."""

_COLUMNS = ("tasks", "done", "running", "waiting", "held", "failed")
_LONGEST = 300  # characters of a message on the page


@dataclass(frozen=True)
class JobState:
    """How a job is doing."""

    entry: JobEntry  # the job
    # "done", "running", "waiting", "held", "failed", or "idle" if it will not start because an earlier one
    # failed
    state: str
    done: int = 0  # how many of its tasks are done
    problem: Optional[JobProblem] = None  # why it is held or failed
    result: Optional[JobResult] = None  # what it left


@dataclass(frozen=True)
class Status:
    """How a submission is doing."""

    submission: Submission  # the submission
    jobs: Mapping[str, JobState]  # its jobs by name
    # whether anything of it is running or waiting, or may be; None if that is not known
    is_active: Optional[bool]
    notes: Sequence[str]  # what else to tell the user

    def of(self, state: str) -> list[JobState]:
        """The jobs in a state."""
        return [job for job in self.jobs.values() if job.state == state]

    @property
    def is_done(self) -> bool:
        """Whether everything is done."""
        return len(self.of("done")) == len(self.jobs)

    def counts(self) -> dict[str, Counter[str]]:
        """For each stage, how many of its tasks are done, running, waiting and so on."""
        found: dict[str, Counter[str]] = {stage: Counter() for stage in self.submission.stages}
        for job in self.jobs.values():
            count = found[job.entry.stage]
            count["tasks"] += len(job.entry.tasks)
            count["done"] += job.done
            if job.state != "done":
                count[job.state] += len(job.entry.tasks) - job.done
        return found


def observe(submission: Submission, is_locked: bool = False) -> Status:
    """See how a submission is doing, and record what has been done; `is_locked` if this process holds the lock."""
    system = system_of(submission.system)
    if submission.state == "written" and not _recovered(submission, system, is_locked):
        poll = Poll({}, None, ["It is being submitted at this moment."])
    elif submission.state == "submitted" or not system.has_results:
        with submission.here():
            poll = system.poll(submission)
    else:
        poll = Poll({}, False)
    results = submission.results()  # read after the system was asked: no end is missed in between
    notes = [*poll.notes, *collect(submission, results)]
    states = _states(submission, system, poll, {**results, **poll.results})
    if poll.is_active is False:
        for name, result in results.items():
            lost = [*_lost(submission, name, result)] if states[name].state == "done" else []
            if lost:
                states[name] = replace(states[name], state="idle", done=states[name].done - len(lost))
                notes += [each for each in lost if each not in notes]
        if submission.state != "ended":
            submission.end()
    return Status(submission, states, poll.is_active, notes)


def _recovered(submission: Submission, system: System, is_locked: bool) -> bool:
    """Let a submission that may have been interrupted be submitted or ended; False if it is still going on."""
    if not is_locked:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(Path(submission.workdir)))
            except NanoMLError:
                return False
            now = Submission.read(submission.directory)
            submission.state, submission.handles = now.state, now.handles
            return submission.state != "written" or _recovered(submission, system, True)
    with submission.here():
        if system.recover(submission):
            submission.state = "submitted"
            submission.save()
        else:
            # what was submitted, and is in no queue yet, finds nothing to run
            (submission.directory / "job.sh").unlink(missing_ok=True)
            submission.end()
    return True


def collect(submission: Submission, results: Mapping[str, JobResult]) -> list[str]:
    """Record in the work directory what has been done since the last call; return what is not as the jobs left it."""
    place = submission.directory / "collected.json"
    before: dict[str, list[float]] = content_of(place) if place.is_file() else {}
    now, notes = dict(before), []
    for name, result in results.items():
        mark = [result.finished, len(result.records)]  # a killed job has no end, but may have done some of its tasks
        if before.get(name) != mark:
            problems = list(_recorded(submission, name, result))
            notes += problems
            if not problems:
                now[name] = mark
    if now != before:
        write_json(place, now)
    return notes


def _recorded(submission: Submission, name: str, result: JobResult) -> Iterator[str]:
    is_shared = submission.options.shared
    job, records = submission.job(name), result.records
    for task in job.recorded():
        done = records.get(task.name)
        if done is None:
            continue
        problem = next(filter(None, (_changed(output, is_shared) for output in done.outputs)), "")
        try:
            if not problem:
                inputs = done.inputs if is_shared else tuple(job.versions(task, done.inputs))
                by = f"{submission.name}/{name}"
                submission.records.write(task, replace(done, inputs=inputs, job=by))
        except NanoMLError as refused:  # on a full disk
            problem = str(refused).rstrip(".")
        if problem:
            yield f"{task.stage} {task.name}: {problem}: it counts as not done."


def _lost(submission: Submission, name: str, result: JobResult) -> Iterator[str]:
    """The outputs of a job that are missing or were changed since, also if they were made again here."""
    records = result.records
    for task in submission.job(name).recorded():
        record, found = submission.records.read(task), records.get(task.name)
        outputs: Sequence[Stamp] = found.outputs if found else ()
        if record:
            outputs = [replace(it, path=submission.records.absolute(it.path)) for it in record.outputs]
        is_exact = record is not None or submission.options.shared
        problem = next(filter(None, (_changed(output, is_exact) for output in outputs)), "")
        if problem:
            yield f"{task.stage} {task.name}: {problem}: it counts as not done."


def _changed(output: Stamp, is_shared: bool) -> str:
    try:
        status = os.stat(output.path)
    except OSError:
        return f"{output.path} is missing"
    is_same = status.st_size == output.size and (not is_shared or status.st_mtime_ns == output.modified)
    return "" if is_same else f"{output.path} was changed after the job"


def _states(
    submission: Submission, system: System, poll: Poll, results: Mapping[str, JobResult]
) -> dict[str, JobState]:
    jobs = _remembered(submission, poll)
    states: dict[str, JobState] = {}
    for entries in submission.stages.values():
        # batch systems cancel what can never begin, which is not a failure of its own
        is_blocked = system.groups == "stage" and any(it.state in ("failed", "idle") for it in states.values())
        for entry in entries:
            job, result = jobs.get(entry.name), results.get(entry.name)
            if is_blocked and result is None:
                states[entry.name] = JobState(entry, "idle")
            else:
                states[entry.name] = _state(submission, entry, job, result, poll.is_active)
    return states


def _remembered(submission: Submission, poll: Poll) -> dict[str, QueueState]:
    """The answer of the system, and its earlier one about jobs that it has forgotten."""
    reported = {
        name: job.problem for name, job in poll.jobs.items() if job.state == "ended" and job.problem is not None
    }
    if submission.state == "submitted" and not reported.items() <= submission.problems.items():
        submission.problems.update(reported)
        submission.save()
    forgotten = {name: QueueState("ended", problem) for name, problem in submission.problems.items()}
    return {**forgotten, **poll.jobs}


def _state(
    submission: Submission,
    entry: JobEntry,
    job: Optional[QueueState],
    result: Optional[JobResult],
    is_active: Optional[bool],
) -> JobState:
    done = len(result.records) if result else 0
    if result is not None and result.state == "done":
        return JobState(entry, "done", len(entry.tasks), None, result)
    if job is not None and job.state in ("waiting", "running", "idle"):
        return JobState(entry, job.state, done, None, result)
    if job is not None and job.state == "held":
        return JobState(entry, "held", done, job.problem, result)
    if job is None and result is None:
        return JobState(entry, "idle" if is_active is False else "waiting")
    if is_active is None and job is None and result is not None and not result.has_ended:
        return JobState(entry, "running", done, None, result)
    may_succeed = result is None or result.exit_code != PERMANENT
    if is_active and may_succeed and job is not None and 0 < job.attempt <= submission.options.retries:
        return JobState(entry, "waiting", done, None, result)
    return JobState(entry, "failed", done, _problem(submission, entry, job, result), result)


def _problem(
    submission: Submission, entry: JobEntry, job: Optional[QueueState], result: Optional[JobResult]
) -> JobProblem:
    reported = job.problem if job else None
    if reported is not None and reported.kind in _DECISIVE:
        return reported
    if (submission.directory / "results" / f"{entry.name}.late").exists():  # it was told that its time is nearly over
        return _TOO_LONG
    if result is not None and result.has_ended:
        if result.state == "stopped" and result.finished - result.started > 0.9 * entry.resources.time:
            return _TOO_LONG
        if result.problems:
            return result.problems[0]
    logged = _problem_in(submission.log(entry.name))
    return logged or reported or JobProblem("killed", "its process ended without a message")


def _problem_in(log: Path) -> Optional[JobProblem]:
    """The reason that the last lines of a log give."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()[-20:]
    except OSError:
        return None
    found = ((kind, line) for line in reversed(lines) for word, kind in _LOG_WORDS.items() if word in line)
    return next((JobProblem(kind, line.strip()[:300]) for kind, line in found), None)


def settle(workdir: Path) -> None:
    """Record what jobs have done in a work directory, and refuse to run there beside them. Hold its lock.

    It raises NanoMLError if jobs are active there.
    """
    for submission in submissions_of(workdir):
        status = observe(submission, is_locked=True)
        if status.is_active is not False:
            counts: Counter[str] = Counter(job.state for job in status.jobs.values())
            said = ", ".join(f"{count} {state}" for state, count in counts.items())
            raise NanoMLError(
                f"{workdir}: the jobs of {submission.name} are active here ({said}). See nanoml status; wait for them, or "
                "end them with nanoml kill."
            )


def page(status: Status) -> Iterator[str]:
    """The status for people, in lines: a heading, a table, why jobs failed and what to do, and what comes next."""
    submission, system = status.submission, system_of(status.submission.system)
    yield f"{submission.name}: {submission.what} on {submission.system}, submitted {submission.created}"
    counts = status.counts()
    shown = [name for name in _COLUMNS if name in ("tasks", "done") or any(it[name] for it in counts.values())]
    width = max(len(system.groups), *(len(stage) for stage in counts))
    yield f"  {system.groups:<{width}}" + "".join(f"{name:>9}" for name in shown)
    for stage, count in counts.items():
        yield f"  {stage:<{width}}" + "".join(f"{count[name]:>9,}" for name in shown)
    for state in ("failed", "held"):
        yield from _reasons(status.of(state), system)
    yield from status.notes
    if status.is_done:
        yield "Everything is done."
    elif status.is_active is None:
        yield "Whether jobs are active is not known: ask again."
    elif status.is_active:
        held = " Held jobs wait for nanoml resubmit." if status.of("held") else ""
        yield f"Jobs are active: nanoml status --wait follows them.{held}"
    else:
        yield "No job is active. nanoml resubmit does what is missing."


def _reasons(jobs: list[JobState], system: System) -> Iterator[str]:
    kinds: dict[str, list[tuple[JobState, JobProblem]]] = defaultdict(list)
    for job in jobs:
        if job.problem is not None:
            kinds[job.problem.kind].append((job, job.problem))
    for kind, alike in sorted(kinds.items(), key=lambda item: -len(item[1])):
        yield f"  {len(alike)} x {KINDS[kind].words}: {system.advice.get(kind, KINDS[kind].advice)}"
        for job, problem in alike[:3]:
            where = f" ({job.result.host})" if job.result and job.result.host else ""
            yield f"      {job.entry.name}{where}: {' '.join(problem.message.split())[:_LONGEST]}"
        if len(alike) > 3:
            yield f"      and {len(alike) - 3} more"


def as_dict(status: Status) -> dict[str, object]:
    """The status as plain content, for JSON."""
    jobs = {
        name: {
            "stage": job.entry.stage,
            "state": job.state,
            "tasks": len(job.entry.tasks),
            "done": job.done,
            "host": (job.result.host or None) if job.result else None,
            "problem": {key: it for key, it in vars(job.problem).items() if key != "observed"} if job.problem else None,
        }
        for name, job in status.jobs.items()
    }
    return {
        "submission": str(status.submission.directory),
        "system": status.submission.system,
        "active": status.is_active,
        "done": status.is_done,
        "stages": {stage: dict(counts) for stage, counts in status.counts().items()},
        "jobs": jobs,
        "notes": list(status.notes),
    }
