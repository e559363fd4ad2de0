"""How a submission goes: what its jobs have left, and what the batch system says, put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.batch.causes import PERMANENT
from MLTools.NanoML.batch.collect import collect
from MLTools.NanoML.batch.crab.look import look as look_at_grid
from MLTools.NanoML.batch.result import Problem, Result
from MLTools.NanoML.batch.seen import Look, Seen
from MLTools.NanoML.batch.submission import Entry, Submission, submissions_of
from MLTools.NanoML.batch.systems import system_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked

__all__ = ["JobState", "Status", "as_dict", "observe", "settle"]

_DECISIVE = ("time", "memory")  # of these the batch system knows better than the job
_WORDS = (
    ("ModuleNotFoundError", "package"),
    ("Python package", "package"),
    ("No space left on device", "disk"),
    ("Disk quota exceeded", "disk"),
    ("MemoryError", "memory"),
    ("oom-kill", "memory"),
    ("Out of memory", "memory"),
    ("/cvmfs", "package"),
    ("command not found", "package"),
    ("No such file or directory", "package"),
)


@dataclass(frozen=True)
class JobState:
    """How a job goes.

    Attributes
    ----------
    entry
        The job.
    state
        "done", "running", "waiting", "held", "failed", or "idle" if it is not to be begun since one before it failed.
    done
        How many of its tasks are done.
    problem
        Why it is held or failed.
    result
        What it left.
    """

    entry: Entry
    state: str
    done: int
    problem: Optional[Problem] = None
    result: Optional[Result] = None


@dataclass(frozen=True)
class Status:
    """How a submission goes.

    Attributes
    ----------
    submission
        The submission.
    jobs
        By their names.
    is_active
        Whether anything of it is at work, or may be; None if that is not known.
    notes
        What else there is to say.
    """

    submission: Submission
    jobs: Mapping[str, JobState]
    is_active: Optional[bool]
    notes: Sequence[str]

    def of(self, state: str) -> list[JobState]:
        """The jobs in a state."""
        return [job for job in self.jobs.values() if job.state == state]

    @property
    def is_done(self) -> bool:
        """Whether all is done."""
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
    """See how a submission goes, and note what has been done.

    Parameters
    ----------
    submission
        The submission.
    is_locked
        Whether this process holds the lock of the work directory.
    """
    if submission.system == "crab":
        return _observe_grid(submission)
    if submission.state == "written" and not _recovered(submission, is_locked):
        look = Look({}, None, ["It is being submitted at this moment."])
    elif submission.state == "submitted":
        with submission.here():
            look = system_of(submission.system).look(submission)
    else:
        look = Look({}, False)
    submission.__dict__.pop("results", None)  # read after the system was asked: no end is missed in between
    notes = [*look.notes, *collect(submission)]
    jobs = _remembered(submission, look)
    states = _states(submission, jobs, look.is_active)
    if look.is_active is False and submission.state != "ended":
        submission.end()
    return Status(submission, states, look.is_active, notes)


def _observe_grid(submission: Submission) -> Status:
    """As `observe`, of jobs that leave nothing here: CRAB's word is all there is."""
    found = look_at_grid(submission)
    states = {
        job.entry.name: JobState(
            job.entry,
            job.seen.state,
            int(job.seen.state == "done"),
            job.seen.problem,
            Result(job.entry.name, host=job.site) if job.site else None,
        )
        for job in found.jobs
    }
    return Status(submission, states, found.is_active, found.notes)


def _recovered(submission: Submission, is_locked: bool) -> bool:
    """Make of a submission that may have been interrupted one that is submitted or ended; False if it goes on."""
    if not is_locked:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(Path(submission.workdir)))
            except NanoMLError:
                return False
            submission.update()
            return submission.state != "written" or _recovered(submission, True)
    with submission.here():
        if system_of(submission.system).recover(submission):
            submission.state = "submitted"
            submission.save()
        else:
            submission.disarm()
            submission.end()
    return True


def _remembered(submission: Submission, look: Look) -> dict[str, Seen]:
    """What the system says, and what it said before of jobs that it has forgotten."""
    before: dict[str, Any] = submission.handles.get("seen", {})
    told = {
        name: [seen.problem.kind, seen.problem.message]
        for name, seen in look.jobs.items()
        if seen.state == "ended" and seen.problem
    }
    if submission.state == "submitted" and not told.items() <= before.items():
        submission.handles["seen"] = before = {**before, **told}
        submission.save()
    forgotten = {name: Seen("ended", Problem(*problem)) for name, problem in before.items()}
    return {**forgotten, **look.jobs}


def _states(submission: Submission, jobs: Mapping[str, Seen], active: Optional[bool]) -> dict[str, JobState]:
    states: dict[str, JobState] = {}
    for entries in submission.stages.values():
        # batch systems cancel what can never begin, which is no failure of its own
        blocked = any(state.state in ("failed", "idle") for state in states.values())
        for entry in entries:
            if blocked and entry.name not in submission.results:
                states[entry.name] = JobState(entry, "idle", 0)
            else:
                states[entry.name] = _state(submission, entry, jobs.get(entry.name), active)
    return states


def _state(submission: Submission, entry: Entry, seen: Optional[Seen], active: Optional[bool]) -> JobState:
    result = submission.results.get(entry.name)
    done = sum(record.state == "done" for record in result.tasks.values()) if result else 0
    if result is not None and result.state == "done":
        return JobState(entry, "done", len(entry.tasks), None, result)
    if seen is not None and seen.state in ("waiting", "running"):
        return JobState(entry, seen.state, done, None, result)
    if seen is not None and seen.state == "held":
        return JobState(entry, "held", done, seen.problem, result)
    if active is None and seen is None and result is None:
        return JobState(entry, "waiting", 0)
    if active is None and seen is None and result is not None and not result.has_ended:
        return JobState(entry, "running", done, None, result)
    if seen is None and result is None:
        return JobState(entry, "waiting" if active else "idle", 0)
    if active and _is_tried_again(submission, seen, result):
        return JobState(entry, "waiting", done, None, result)
    return JobState(entry, "failed", done, _problem(submission, entry, seen, result), result)


def _is_tried_again(submission: Submission, seen: Optional[Seen], result: Optional[Result]) -> bool:
    if result is not None and result.exit_code == PERMANENT:
        return False
    return seen is not None and 0 < seen.attempt <= submission.options["retries"]


def _problem(submission: Submission, entry: Entry, seen: Optional[Seen], result: Optional[Result]) -> Problem:
    told = seen.problem if seen else None
    if told is not None and told.kind in _DECISIVE:
        return told
    if submission.has_run_out(entry.name):
        return Problem("time", "the wall time was over")
    if result is not None and result.has_ended:
        if result.state == "stopped" and result.finished - result.started > 0.9 * entry.resources.time:
            return Problem("time", "the wall time was over")
        if result.problems:
            return result.problems[0]
    return _of_log(submission, entry) or told or Problem("killed", "its process ended without a word")


def _of_log(submission: Submission, entry: Entry) -> Optional[Problem]:
    """What the last lines of a log say of a job that could not write a result."""
    for line in reversed(_tail(submission.log(entry.name))):
        for word, kind in _WORDS:
            if word in line:
                return Problem(kind, line.strip()[:300])
    return None


def _tail(log: Path, most: int = 4096) -> list[str]:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - most))
            return file.read().decode("utf-8", "replace").splitlines()[-20:]
    except OSError:
        return []


def settle(workdir: Path) -> None:
    """Note what jobs have done for a work directory, and refuse to work there beside them. Hold its lock.

    Raises
    ------
    NanoMLError
        Jobs are at work there.
    """
    for submission in submissions_of(workdir):
        status = observe(submission, is_locked=True)
        if status.is_active is not False:
            counts: Counter[str] = Counter(job.state for job in status.jobs.values())
            said = ", ".join(f"{count} {state}" for state, count in counts.items())
            raise NanoMLError(
                f"{workdir}: the jobs of {submission.name} are at work here ({said}). See nanoml status; wait for them, or "
                "end them by nanoml kill."
            )


def as_dict(status: Status) -> dict[str, Any]:
    """Plain content, for JSON."""
    jobs = {
        name: {
            "stage": job.entry.stage,
            "state": job.state,
            "tasks": len(job.entry.tasks),
            "done": job.done,
            "host": job.result.host if job.result else None,
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
