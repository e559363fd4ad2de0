"""How the jobs of a submission are doing: what they left and what the batch system says, put together, and as a page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.batch.collect import collect
from MLTools.NanoML.batch.job import JobResult
from MLTools.NanoML.batch.problems import KINDS, PERMANENT, JobProblem, problem_in_log
from MLTools.NanoML.batch.submission import JobEntry, Submission, submissions_of
from MLTools.NanoML.batch.system import Poll, QueueState, System, system_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked

__all__ = ["JobState", "Status", "as_dict", "observe", "page", "settle"]

_DECISIVE = ("time", "memory")  # about these the batch system knows better than the job
_COLUMNS = ("tasks", "done", "running", "waiting", "held", "failed")
_LONGEST = 300  # characters of a message on the page


@dataclass(frozen=True)
class JobState:
    """How a job is doing."""

    entry: JobEntry  # the job
    # "done", "running", "waiting", "held", "failed", or "idle" if it will not start because an earlier one
    # failed
    state: str
    done: int  # how many of its tasks are done
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
    """See how a submission is doing, and record what has been done.

    Parameters
    ----------
    submission
        The submission.
    is_locked
        Whether this process holds the lock of the work directory.
    """
    system = system_of(submission.system)
    if submission.state == "written" and not _recovered(submission, system, is_locked):
        poll = Poll({}, None, ["It is being submitted at this moment."])
    elif submission.state == "submitted" or not system.has_results:
        with submission.here():
            poll = system.poll(submission)
    else:
        poll = Poll({}, False)
    submission.__dict__.pop("results", None)  # read after the system was asked: no end is missed in between
    notes = [*poll.notes, *collect(submission)]
    jobs = _remembered(submission, poll)
    states = _states(submission, system, jobs, poll)
    if poll.is_active is False and submission.state != "ended":
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
            submission.update()
            return submission.state != "written" or _recovered(submission, system, True)
    with submission.here():
        if system.recover(submission):
            submission.state = "submitted"
            submission.save()
        else:
            submission.disarm()
            submission.end()
    return True


def _remembered(submission: Submission, poll: Poll) -> dict[str, QueueState]:
    """What the system says, and what it said before about jobs that it has forgotten."""
    reported = {
        name: job.problem for name, job in poll.jobs.items() if job.state == "ended" and job.problem is not None
    }
    if submission.state == "submitted" and not reported.items() <= submission.problems.items():
        submission.problems.update(reported)
        submission.save()
    forgotten = {name: QueueState("ended", problem) for name, problem in submission.problems.items()}
    return {**forgotten, **poll.jobs}


def _states(submission: Submission, system: System, jobs: Mapping[str, QueueState], poll: Poll) -> dict[str, JobState]:
    results = {**submission.results, **poll.results}
    states: dict[str, JobState] = {}
    for entries in submission.stages.values():
        # batch systems cancel what can never begin, which is not a failure of its own
        failed = any(state.state in ("failed", "idle") for state in states.values())
        is_blocked = failed and system.groups == "stage"
        for entry in entries:
            result = results.get(entry.name)
            if is_blocked and result is None:
                states[entry.name] = JobState(entry, "idle", 0)
            else:
                states[entry.name] = _state(submission, entry, jobs.get(entry.name), result, poll.is_active)
    return states


def _state(
    submission: Submission,
    entry: JobEntry,
    job: Optional[QueueState],
    result: Optional[JobResult],
    is_active: Optional[bool],
) -> JobState:
    done = result.done if result else 0
    if result is not None and result.state == "done":
        return JobState(entry, "done", len(entry.tasks), None, result)
    if job is not None and job.state in ("waiting", "running", "idle"):
        return JobState(entry, job.state, done, None, result)
    if job is not None and job.state == "held":
        return JobState(entry, "held", done, job.problem, result)
    if job is None and result is None:
        return JobState(entry, "idle" if is_active is False else "waiting", 0)
    if is_active is None and job is None and result is not None and not result.has_ended:
        return JobState(entry, "running", done, None, result)
    if is_active and _is_tried_again(submission, job, result):
        return JobState(entry, "waiting", done, None, result)
    return JobState(entry, "failed", done, _problem(submission, entry, job, result), result)


def _is_tried_again(submission: Submission, job: Optional[QueueState], result: Optional[JobResult]) -> bool:
    if result is not None and result.exit_code == PERMANENT:
        return False
    return job is not None and 0 < job.attempt <= submission.options.retries


def _problem(
    submission: Submission, entry: JobEntry, job: Optional[QueueState], result: Optional[JobResult]
) -> JobProblem:
    reported = job.problem if job else None
    if reported is not None and reported.kind in _DECISIVE:
        return reported
    too_long = JobProblem("time", "the wall time was exceeded")
    if submission.has_run_out(entry.name):
        return too_long
    if result is not None and result.has_ended:
        if result.state == "stopped" and result.finished - result.started > 0.9 * entry.resources.time:
            return too_long
        if result.problems:
            return result.problems[0]
    logged = problem_in_log(_tail(submission.log(entry.name)))
    return logged or reported or JobProblem("killed", "its process ended without a message")


def _tail(log: Path, most: int = 4096) -> list[str]:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - most))
            return file.read().decode("utf-8", "replace").splitlines()[-20:]
    except OSError:
        return []


def settle(workdir: Path) -> None:
    """Record what jobs have done in a work directory, and refuse to run there beside them. Hold its lock.

    Raises
    ------
    NanoMLError
        Jobs are active there.
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


def as_dict(status: Status) -> dict[str, Any]:
    """The status as plain content, for JSON."""
    jobs = {
        name: {
            "stage": job.entry.stage,
            "state": job.state,
            "tasks": len(job.entry.tasks),
            "done": job.done,
            "host": (job.result.host or None) if job.result else None,
            "problem": vars(job.problem) if job.problem else None,
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
