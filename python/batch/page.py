"""How a submission goes, for people: a table, and why jobs failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from MLTools.NanoML.batch.causes import ADVICE
from MLTools.NanoML.batch.crab.codes import ADVICE as ADVICE_OF_CRAB
from MLTools.NanoML.batch.status import JobState, Status

__all__ = ["lines"]

_COLUMNS = ("tasks", "done", "running", "waiting", "held", "failed")
_NAMES = {
    "configuration": "mistake in the configuration",
    "unreadable": "file unreadable",
    "proxy": "grid proxy cannot be used",
    "package": "package or program missing",
    "disk": "disk full",
    "storage": "output not on the storage",
    "memory": "out of memory",
    "time": "wall time over",
    "killed": "killed",
    "stopped": "told to stop",
    "lost": "lost",
    "held": "held",
    "refused": "asks for too much",
    "rejected": "not taken by CRAB",
    "removed": "removed",
    "error": "error",
    "defect": "unexpected error",
}
_LONGEST = 300


def lines(status: Status) -> Iterator[str]:
    """All there is to say: a heading, the table, the reasons of failures with what to do, and what comes next."""
    submission = status.submission
    yield f"{submission.name}: {submission.what} on {submission.system}, submitted {submission.created}"
    counts = status.counts()
    shown = [
        name for name in _COLUMNS if name in ("tasks", "done") or any(it[name] for it in counts.values())
    ]
    of_crab = submission.system == "crab"
    first = "dataset" if of_crab else "stage"
    width = max(len(first), *(len(stage) for stage in counts))
    yield f"  {first:<{width}}" + "".join(f"{name:>9}" for name in shown)
    for stage, count in counts.items():
        yield f"  {stage:<{width}}" + "".join(f"{count[name]:>9,}" for name in shown)
    for state in ("failed", "held"):
        yield from _reasons(status.of(state), ADVICE_OF_CRAB if of_crab else ADVICE)
    yield from status.notes
    yield _next(status)


def _reasons(jobs: list[JobState], advice: Mapping[str, str]) -> Iterator[str]:
    kinds: dict[str, list[JobState]] = defaultdict(list)
    for job in jobs:
        if job.problem is not None:
            kinds[job.problem.kind].append(job)
    for kind, alike in sorted(kinds.items(), key=lambda item: -len(item[1])):
        yield f"  {len(alike)} x {_NAMES[kind]}: {advice[kind]}"
        for job in alike[:3]:
            assert job.problem is not None
            message = " ".join(job.problem.message.split())
            where = f" ({job.result.host})" if job.result and job.result.host else ""
            yield f"      {job.entry.name}{where}: {message[:_LONGEST]}"
        if len(alike) > 3:
            yield f"      and {len(alike) - 3} more"


def _next(status: Status) -> str:
    if status.is_done:
        return "All is done."
    if status.is_active is None:
        return "Whether jobs are at work is not known: ask again."
    if status.is_active:
        held = " Held jobs wait for nanoml resubmit." if status.of("held") else ""
        return f"Jobs are at work: nanoml status --wait shows how they go on.{held}"
    return "No job is at work. nanoml resubmit does what is missing."
