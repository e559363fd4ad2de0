"""Slurm: a stage is one array of jobs, or several, which wait for those of the stage before."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.batch.job import PERMANENT, JobProblem
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.batch.system import Client, Poll, QueueState, System, call, render
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import Resources

_STATES = {
    "PENDING": "waiting", "REQUEUED": "waiting", "SUSPENDED": "waiting", "CONFIGURING": "running", "RUNNING": "running",
    "COMPLETING": "running", "STAGE_OUT": "running", "SIGNALING": "running",
}  # fmt: skip
_ENDS = {
    "TIMEOUT": JobProblem("time", "the wall time was exceeded"),
    "DEADLINE": JobProblem("time", "the deadline passed"),
    "OUT_OF_MEMORY": JobProblem("memory", "Slurm ended the job because of its memory"),
    "NODE_FAIL": JobProblem("lost", "the machine failed"),
    "BOOT_FAIL": JobProblem("lost", "the machine could not be started"),
    "PREEMPTED": JobProblem("stopped", "another job took its place"),
    "CANCELLED": JobProblem("removed", "the job was cancelled"),
    "FAILED": JobProblem("killed", "its process ended without a message"),
}
_LARGEST = 1000  # jobs of an array: Slurm's own limit, if a cluster sets none
_PATIENCE = 60.0  # seconds that jobs may take to end
_NEVER = "DependencyNeverSatisfied"
_REFUSED = (
    "PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints", "QOSMaxWall", "QOSMaxMem", "AssocMaxWall", "InvalidAccount",
    "InvalidQOS",
)  # fmt: skip


@dataclass(frozen=True)
class _Array:
    """Jobs of one stage that ask for the same."""

    name: str
    stage: str
    resources: Resources
    jobs: Sequence[str]


class Slurm(System):
    """Slurm, through its commands; accounting is not needed."""

    client = Client(
        "sbatch",
        "log in to the machine from which the cluster's jobs are submitted",
        ["squeue", "--noheader", "--me"],
        options=("codecs of ROOT files", "training", "hyperparameter tuning", "proxy", "XRootD client", "GPU"),
    )

    def write(self, submission: Submission) -> None:
        """Write for each array its script and the names of its jobs."""
        options = submission.options
        # Slurm 22.05 replaces symbols in the path of the directory as well, and then cannot open the file
        odd = set(str(submission.directory.resolve())) & set("%\\")
        for array in _arrays(submission):
            script = render(
                "slurm.sh",
                options,
                output="/dev/null" if odd else "logs/slurm-%A_%a.log",
                name=array.name,
                tag=submission.tag,
                resources=array.resources,
                minutes=max(1, math.ceil(array.resources.time / 60)),
                partition=options.partitions.get(array.stage),
                permanent=PERMANENT,
            )
            write_text(f"{array.name}.jobs", "".join(f"{name}\n" for name in array.jobs))
            write_text(f"{array.name}.slurm", script)

    def submit(self, submission: Submission) -> None:
        """Submit all arrays, or none."""
        arrays: dict[str, str] = {}
        try:
            before: list[str] = []
            for stage in submission.stages:
                of_stage = [array for array in _arrays(submission) if array.stage == stage]
                before = [_sbatch(array, before, submission.options.at_once, arrays) for array in of_stage]
        except BaseException:
            if arrays:
                call(["scancel", *arrays])
            raise
        submission.handles = {"arrays": arrays}

    def recover(self, submission: Submission) -> bool:
        """Look for the arrays by name: if some are missing, cancel the others, and wait until they have ended."""
        arrays = _in_queue(submission, "all")
        if set(arrays.values()) == {array.name for array in _arrays(submission)}:
            submission.handles = {"arrays": arrays}
            return True
        end = time.monotonic() + _PATIENCE
        while _in_queue(submission, "PD,R,CF,CG,S"):
            call(["scancel", *arrays])
            if time.monotonic() > end:
                raise NanoMLError(
                    f"Slurm: has not ended the jobs of {submission.name} in {_PATIENCE:.0f} s. Try again later."
                )
            time.sleep(0.5)
        return False

    def poll(self, submission: Submission) -> Poll:
        """Ask squeue about the jobs that it still knows."""
        names = {number: _names(name) for number, name in submission.handles["arrays"].items()}
        found: dict[str, QueueState] = {}
        try:
            lines = call(
                ["squeue", "-r", "-h", "-t", "all", "-o", "%F %K %T %r", "-j", ",".join(names)], 60
            ).splitlines()
        except NanoMLError as problem:
            if "Invalid job id" in str(problem):  # long ended, and forgotten
                return Poll({}, False)
            return Poll({}, None, [f"Slurm does not answer ({problem}): this is what the jobs have written."])
        for line in lines:
            number, index, state, reason = [*line.split(None, 3), ""][:4]
            if number in names and index.isdigit():
                found[names[number][int(index)]] = _state(state, reason)
        return Poll(found, any(job.state != "ended" for job in found.values()))

    def release(self, submission: Submission, held: Mapping[str, QueueState]) -> Sequence[str]:
        """Release held jobs."""
        numbers = {
            name: f"{number}_{index}"
            for number, array in submission.handles["arrays"].items()
            for index, name in enumerate(_names(array))
        }
        for name in held:
            call(["scontrol", "release", numbers[name]])
        return [f"{name}: released" for name in held]

    def kill(self, submission: Submission) -> None:
        """Cancel all arrays."""
        if submission.handles:
            call(["scancel", *submission.handles["arrays"]])


def _arrays(submission: Submission) -> Iterator[_Array]:
    for stage, entries in submission.stages.items():
        alike: dict[Resources, list[str]] = {}
        for entry in entries:
            alike.setdefault(entry.resources, []).append(entry.name)
        number = itertools.count()
        for resources, names in alike.items():
            for begin in range(0, len(names), _LARGEST):
                yield _Array(f"{stage}-{next(number)}", stage, resources, names[begin : begin + _LARGEST])


def _sbatch(array: _Array, before: Sequence[str], at_once: Optional[int], arrays: dict[str, str]) -> str:
    """Submit one array, note it in `arrays`, and return its number."""
    command = ["sbatch", "--parsable", f"--array=0-{len(array.jobs) - 1}{f'%{at_once}' if at_once else ''}"]
    if before:  # without the second, a job waits forever if one before it has failed
        command += [f"--dependency=afterok:{':'.join(before)}", "--kill-on-invalid-dep=yes"]
    number = call([*command, f"{array.name}.slurm"]).strip().split(";")[0]
    arrays[number] = array.name
    return number


def _names(array: str) -> list[str]:
    return Path(f"{array}.jobs").read_text(encoding="utf-8").split()


def _in_queue(submission: Submission, states: str) -> dict[str, str]:
    """The numbers of this submission's arrays in these states, and their names."""
    lines = call(["squeue", "--me", "-h", "-t", states, "-o", "%F %j"]).splitlines()
    words = [line.split() for line in lines if line.strip()]
    begin = f"{submission.tag}-"
    return {number: name[len(begin) :] for number, name, *_ in words if name.startswith(begin)}


def _state(state: str, reason: str) -> QueueState:
    if state == "PENDING" and reason.startswith(_NEVER):
        return QueueState("ended")
    if state == "PENDING" and reason.startswith(_REFUSED):
        return QueueState("held", JobProblem("refused", f"the job asks for more than it can get here: {reason}"))
    is_held = state == "PENDING" and reason.startswith(("JobHeld", "launch failed"))
    if is_held or state in ("REQUEUE_HOLD", "SPECIAL_EXIT"):
        return QueueState("held", JobProblem("held", f"the job is held: {reason}"))
    return QueueState(_STATES[state]) if state in _STATES else QueueState("ended", _ENDS.get(state))
