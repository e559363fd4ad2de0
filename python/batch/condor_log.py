"""The event log of HTCondor: what happened to each job, which no queue that does not answer can hide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from MLTools.NanoML.batch.result import Problem
from MLTools.NanoML.batch.seen import Seen

__all__ = ["Event", "events_of", "jobs_of", "node_of", "seen_after"]

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


@dataclass(frozen=True)
class Event:
    """One event of a job.

    Attributes
    ----------
    number
        What happened: 0 submitted, 1 executing, 4 evicted, 5 terminated, 7 shadow exception, 9 removed, 12 held,
        13 released.
    cluster, process
        The job.
    text
        All that the log says of it.
    """

    number: int
    cluster: int
    process: int
    text: str


def events_of(path: Path) -> Iterator[Event]:
    """The events of a log, in order; an event that is still being written is left out.

    A log that is not there has none.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    *whole, _ = re.split(r"^\.\.\.$", text, flags=re.M)
    for block in whole:
        block = block.lstrip("\n")
        found = _BEGIN.match(block)
        if found:
            yield Event(int(found[1]), int(found[2]), int(found[3]), block.strip())


def node_of(event: Event) -> Optional[str]:
    """The node of a DAG that a submitted job belongs to."""
    found = _NODE.search(event.text)
    return found[1] if found else None


def seen_after(event: Event) -> Optional[Seen]:
    """What a job is after an event; None if the event changes nothing."""
    reason = _details(event.text)
    if event.number == 0:
        return Seen("waiting")
    if event.number == 1:
        return Seen("running")
    if event.number in (4, 7, 13):
        return Seen("waiting")
    if event.number == 5:
        return Seen("ended", _of_termination(event.text))
    if event.number == 9:
        kind = _kind_of(reason, "removed")
        return Seen("ended", Problem(kind, f"the job was removed ({reason or 'no reason is given'})"))
    if event.number == 12:
        return Seen("held", Problem(_kind_of(reason, "held"), f"the job is held: {reason}"))
    return None


def _details(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()[1:]]
    return " ".join(line for line in lines if line and not line.startswith("Code "))[:300]


def _kind_of(reason: str, otherwise: str) -> str:
    return next((kind for kind, words in _KINDS.items() if words.search(reason)), otherwise)


def _of_termination(text: str) -> Optional[Problem]:
    signal = _SIGNAL.search(text)
    if signal:
        return Problem("killed", f"the process was ended by signal {signal[1]}")
    returned = _RETURNED.search(text)
    if returned and returned[1] != "0":
        return Problem("killed", f"the process ended with exit code {returned[1]}")
    return None


def jobs_of(path: Path) -> dict[str, Seen]:
    """What has become of each node of a DAG, by the log of its nodes.

    An event of an attempt that has been followed by another does not count.
    """
    nodes: dict[tuple[int, int], str] = {}
    latest: dict[str, tuple[int, int]] = {}
    begun: dict[str, int] = {}
    found: dict[str, Seen] = {}
    for event in events_of(path):
        job = (event.cluster, event.process)
        node = node_of(event) if event.number == 0 else nodes.get(job)
        if event.number == 0 and node is not None:
            nodes[job], latest[node] = node, job
            begun[node] = begun.get(node, 0) + 1
        seen = seen_after(event)
        if node is not None and seen is not None and latest[node] == job:
            found[node] = replace(seen, attempt=begun[node])
    return found
