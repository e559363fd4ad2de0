"""HTCondor: a submission is one DAG, whose nodes are its jobs."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.batch.causes import PERMANENT
from MLTools.NanoML.batch.condor_log import events_of, jobs_of, node_of
from MLTools.NanoML.batch.render import render
from MLTools.NanoML.batch.resources import Resources
from MLTools.NanoML.batch.seen import Look, Seen, call
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.errors import NanoMLError

__all__ = ["Condor"]

_DAG = Path("pipeline.dag")
_NODES = Path("pipeline.dag.nodes.log")
_DAGMAN = Path("pipeline.dag.dagman.log")
_SUBMITTED = re.compile(r"submitted to cluster (\d+)")
_ENDED = (5, 9)  # events after which DAGMan is not in the queue any more
_MOMENT = 120.0  # seconds


class Condor:
    """HTCondor, by its commands and its event logs."""

    def write(self, submission: Submission) -> None:
        """Write pipeline.dag, condor.sub and job.sh."""
        options = submission.options
        flavours = options["flavours"]
        stages = [
            {
                "name": stage,
                "sent": options["sent"].get(stage, ()),
                "jobs": [_node(entry.name, entry.resources, flavours) for entry in entries],
            }
            for stage, entries in submission.stages.items()
        ]
        gpus = any(entry.resources.gpus for entry in submission.jobs)
        values = {**options, "stages": stages, "gpus": gpus, "permanent": PERMANENT}
        for template, name in (("condor.dag", _DAG), ("condor.sub", Path("condor.sub"))):
            write_text(name, render(template, values, options["templates"]))

    def submit(self, submission: Submission) -> None:
        """Submit the DAG."""
        limit = ["-maxjobs", str(submission.options["at_once"])] if submission.options["at_once"] else []
        said = call(["condor_submit_dag", "-notification", "never", *limit, str(_DAG)])
        number = _SUBMITTED.search(said)
        if number is None:
            raise NanoMLError(f"condor_submit_dag: does not say what it submitted: {said.strip()}")
        submission.handles = {"dag": int(number[1])}

    def recover(self, submission: Submission) -> bool:
        """A DAG is in the queue whole or not at all: its event log tells."""
        for event in events_of(_DAGMAN):
            if event.number == 0:
                submission.handles = {"dag": event.cluster}
        return bool(submission.handles)

    def look(self, submission: Submission) -> Look:
        """What the event logs say."""
        jobs = jobs_of(_NODES)
        has_ended = any(event.number in _ENDED for event in _own(_DAGMAN, submission))
        # where DAGMan was removed, its jobs follow a moment later
        follow = any(seen.state != "ended" for seen in jobs.values()) and _age(_DAGMAN) < _MOMENT
        notes = [f"HTCondor holds the DAG: {reason}" for reason in _dag_is_held(submission)]
        return Look(jobs, not has_ended or follow, notes)

    def release(self, submission: Submission, held: Mapping[str, Seen]) -> Sequence[str]:
        """Give held jobs more of what they lacked, and release them."""
        submitted = [event for event in events_of(_NODES) if event.number == 0]
        numbers = {node_of(event): f"{event.cluster}.{event.process}" for event in submitted}
        lines = []
        for name, seen in held.items():
            before = submission.entry(name).resources
            kind = seen.problem.kind if seen.problem else ""
            after = before.after(kind) if kind in ("memory", "disk") else before
            if after.memory != before.memory:
                call(["condor_qedit", numbers[name], "RequestMemory", str(after.memory)])
            if after.disk != before.disk:
                call(["condor_qedit", numbers[name], "RequestDisk", str(after.disk * 1024)])
            call(["condor_release", numbers[name]])
            lines.append(f"{name}: released{_with(after.differing(before))}")
        return lines

    def kill(self, submission: Submission) -> None:
        """Remove the DAG, and with it all of its jobs."""
        if submission.handles:
            call(["condor_rm", str(submission.handles["dag"])])


def _node(name: str, resources: Resources, flavours: Mapping[str, str]) -> dict[str, Any]:
    return {"name": name, "resources": resources, "flavour": flavours.get(name)}


def _with(change: object) -> str:
    return f" with {change}" if change else ""


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _own(log: Path, submission: Submission) -> list[Any]:
    return [event for event in events_of(log) if event.cluster == submission.handles["dag"]]


def _dag_is_held(submission: Submission) -> list[str]:
    states = [event for event in _own(_DAGMAN, submission) if event.number in (12, 13)]
    return [" ".join(states[-1].text.splitlines()[1:2]).strip()] if states and states[-1].number == 12 else []
