"""HTCondor: a submission is one DAG, whose nodes are its jobs; its event logs say what happened to each.

The logs are read instead of the queue: no queue that does not answer can hide what they say.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.batch.job import PERMANENT, JobProblem
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.batch.system import Client, Poll, QueueState, System, call, render
from MLTools.NanoML.errors import ConfigError, NanoMLError

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

_DAG = Path("pipeline.dag")
_NODES = Path("pipeline.dag.nodes.log")
_DAGMAN = Path("pipeline.dag.dagman.log")
_SUBMITTED = re.compile(r"submitted to cluster (\d+)")
_MACRO = re.compile(r"\$\w*\(|[\r\n]")
_MOMENT = 120.0  # seconds
_SUBMIT, _EXECUTE, _EVICTED, _TERMINATED, _SHADOW, _REMOVED, _HELD, _RELEASED = 0, 1, 4, 5, 7, 9, 12, 13

_BEGIN = re.compile(r"(\d{3}) \((\d+)\.(\d+)\.\d+\) ")
_NODE = re.compile(r"^\s*DAG Node: (\S+)", re.M)
_RETURNED = re.compile(r"Normal termination \(return value (\d+)\)")
_SIGNAL = re.compile(r"Abnormal termination \(signal (\d+)\)")
_KINDS = {
    "memory": re.compile(r"memory|\boom\b|\brss\b", re.I),
    "time": re.compile(r"wall ?(?:clock)?time|run ?time|duration|time limit|StartDate|lease expired", re.I),
    "proxy": re.compile(r"proxy|x509|credential", re.I),
    "disk": re.compile(r"disk|no space|quota", re.I),
}


class Condor(System):
    """HTCondor, through its commands and event logs."""

    sends_files = True
    starts_containers = True
    client = Client(
        "condor_submit",
        "log in to lxplus, or to the machine that submits",
        ["condor_q", "-totals"],
        options=("Kerberos", "AFS", "EOS", "CVMFS", "certificate", "proxy", "dasgoclient", "XRootD client", "training"),
    )

    def check(self, config: Config, workdir: Path) -> None:
        """Refuse names of directories that HTCondor would take for its own language."""
        if _MACRO.search(f"{config.base}/{os.path.basename(workdir)}"):
            raise ConfigError(
                f"{config.where()}: HTCondor takes $(...) and line breaks in names of directories for its own language. "
                f"Rename {config.base}, or workdir."
            )

    def write(self, submission: Submission) -> None:
        """Write pipeline.dag and condor.sub."""
        options = submission.options
        for path in filter(_MACRO.search, filter(None, (options.proxy, options.token))):
            raise NanoMLError(
                f"{path}: HTCondor does not accept such a name. Make the proxy at the usual place, nanoml proxy init, "
                "or move the token, and let BEARER_TOKEN_FILE name it."
            )
        stages = [
            {
                "name": stage,
                "sent": options.sent.get(stage, ()),
                "jobs": [{**vars(entry), "flavour": options.flavours.get(entry.name)} for entry in entries],
            }
            for stage, entries in submission.stages.items()
        ]
        gpus = any(entry.resources.gpus for entry in submission.jobs)
        write_text(_DAG, render("condor.dag", options, stages=stages, permanent=PERMANENT))
        write_text("condor.sub", render("condor.sub", options, gpus=gpus))

    def submit(self, submission: Submission) -> None:
        """Submit the DAG."""
        at_once = submission.options.at_once
        limit = ["-maxjobs", str(at_once)] if at_once else []
        said = call(["condor_submit_dag", "-notification", "never", *limit, str(_DAG)])
        number = _SUBMITTED.search(said)
        if number is None:
            raise NanoMLError(f"condor_submit_dag: does not say what it submitted: {said.strip()}")
        submission.handles = {"dag": int(number[1])}

    def recover(self, submission: Submission) -> bool:
        """Read in the event log whether the DAG is in the queue; it is there as a whole or not at all."""
        for event in events_of(_DAGMAN):
            if event.number == _SUBMIT:
                submission.handles = {"dag": event.cluster}
        return bool(submission.handles)

    def poll(self, submission: Submission) -> Poll:
        """Read the event logs."""
        jobs = jobs_of(_NODES)
        dag = [event for event in events_of(_DAGMAN) if event.cluster == submission.handles["dag"]]
        has_ended = any(event.number in (_TERMINATED, _REMOVED) for event in dag)
        # after DAGMan was removed, its jobs follow a moment later
        follow = any(job.state != "ended" for job in jobs.values()) and time.time() - _DAGMAN.stat().st_mtime < _MOMENT
        holds = [event for event in dag if event.number in (_HELD, _RELEASED)]
        notes = []
        if holds and holds[-1].number == _HELD:
            notes.append(f"HTCondor holds the DAG: {' '.join(holds[-1].text.splitlines()[1:2]).strip()}")
        return Poll(jobs, not has_ended or follow, notes)

    def release(self, submission: Submission, held: Mapping[str, QueueState]) -> Sequence[str]:
        """Give held jobs more of what they lacked, and release them."""
        submitted = [event for event in events_of(_NODES) if event.number == _SUBMIT]
        numbers = {event.node: f"{event.cluster}.{event.process}" for event in submitted}
        lines = []
        for name, job in held.items():
            before = submission.entry(name).resources
            kind = job.problem.kind if job.problem else ""
            after = before.after(kind) if kind in ("memory", "disk") else before
            if after.memory != before.memory:
                call(["condor_qedit", numbers[name], "RequestMemory", str(after.memory)])
            if after.disk != before.disk:
                call(["condor_qedit", numbers[name], "RequestDisk", str(after.disk * 1024)])
            call(["condor_release", numbers[name]])
            change = after.changes_since(before)
            lines.append(f"{name}: released{f' with {change}' if change else ''}")
        return lines

    def kill(self, submission: Submission) -> None:
        """Remove the DAG, and with it all of its jobs."""
        if submission.handles:
            call(["condor_rm", str(submission.handles["dag"])])


@dataclass(frozen=True)
class LogEvent:
    """One event in the log of a job."""

    number: int  # what happened, as `_SUBMIT` and so on
    # cluster, process: the job
    cluster: int
    process: int
    text: str  # all that the log says about it

    @property
    def node(self) -> Optional[str]:
        """The node of a DAG that a submitted job belongs to."""
        found = _NODE.search(self.text)
        return found[1] if found else None


def events_of(path: Path) -> Iterator[LogEvent]:
    """The events of a log, in order, without one that is still being written; none if there is no log."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    *whole, _ = re.split(r"^\.\.\.$", text, flags=re.M)
    for block in whole:
        block = block.lstrip("\n")
        found = _BEGIN.match(block)
        if found:
            yield LogEvent(int(found[1]), int(found[2]), int(found[3]), block.strip())


def state_after(event: LogEvent) -> Optional[QueueState]:
    """The state of a job after an event; None if the event changes nothing."""
    lines = [line.strip() for line in event.text.splitlines()[1:]]
    reason = " ".join(line for line in lines if line and not line.startswith("Code "))[:300]
    kind = next((kind for kind, words in _KINDS.items() if words.search(reason)), None)
    problem = None
    if event.number in (_SUBMIT, _EVICTED, _SHADOW, _RELEASED):
        return QueueState("waiting")
    if event.number == _EXECUTE:
        return QueueState("running")
    if event.number == _HELD:
        return QueueState("held", JobProblem(kind or "held", f"the job is held: {reason}"))
    if event.number == _REMOVED:
        problem = JobProblem(kind or "removed", f"the job was removed ({reason or 'no reason is given'})")
    elif event.number != _TERMINATED:
        return None
    elif signal := _SIGNAL.search(event.text):
        problem = JobProblem("killed", f"the process was ended by signal {signal[1]}")
    elif (returned := _RETURNED.search(event.text)) and returned[1] != "0":
        problem = JobProblem("killed", f"the process ended with exit code {returned[1]}")
    return QueueState("ended", problem)


def jobs_of(path: Path) -> dict[str, QueueState]:
    """The state of each node of a DAG, from the log of its nodes; events of superseded attempts do not count."""
    nodes: dict[tuple[int, int], str] = {}
    latest: dict[str, tuple[int, int]] = {}
    begun: dict[str, int] = {}
    found: dict[str, QueueState] = {}
    for event in events_of(path):
        job = (event.cluster, event.process)
        node = event.node if event.number == _SUBMIT else nodes.get(job)
        if event.number == _SUBMIT and node is not None:
            nodes[job], latest[node] = node, job
            begun[node] = begun.get(node, 0) + 1
        state = state_after(event)
        if node is not None and state is not None and latest[node] == job:
            found[node] = replace(state, attempt=begun[node])
    return found
