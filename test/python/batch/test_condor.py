"""What HTCondor's event log says; condor_events.log was written by DAGMan for jobs that ended in all possible ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MLTools.NanoML.batch.condor import LogEvent, events_of, jobs_of, state_after
from MLTools.NanoML.batch.job import JobProblem
from MLTools.NanoML.batch.system import QueueState

LOG = Path(__file__).with_name("condor_events.log")
SAMPLE, WHOLE = LOG.read_bytes(), list(events_of(LOG))
FIXTURE = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def log(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "nodes.log"
        path.write_bytes(content)
        return path

    return write


def test_each_node_is_what_its_last_attempt_became(log: Callable[[bytes], Path]) -> None:
    killed = JobProblem("killed", "the process ended with exit code 1")
    by = "Job terminated by <127.0.0.1:42501> at 2026-11-25T11:14:19Z (using method 1: DEACTIVATE_CLAIM)."
    removed = JobProblem("removed", f"the job was removed (via condor_rm (by user nobody) {by})")
    assert jobs_of(log(SAMPLE)) == {
        "skim-0000": QueueState("ended", None, 1),
        "skim-0001": QueueState("ended", killed, 2),
        "skim-0002": QueueState("ended", JobProblem("killed", "the process was ended by signal 9"), 1),
        "skim-0003": QueueState("ended", None, 2),
        "skim-0004": QueueState("running", None, 1),  # held, released, and running again
        "skim-0005": QueueState("running", None, 1),  # evicted, and running again
        "skim-0006": QueueState("ended", removed, 1),
    }


def test_a_held_job_says_why(log: Callable[[bytes], Path]) -> None:
    until = SAMPLE.index(b"...", SAMPLE.index(b"012 (030")) + 4
    held = jobs_of(log(SAMPLE[:until]))["skim-0004"]
    assert held.state == "held"
    assert held.problem is not None
    assert held.problem.kind == "memory"
    assert held.problem.message == "the job is held: memory usage exceeded request_memory (by user nobody)"
    after = SAMPLE.index(b"...", SAMPLE.index(b"013 (030")) + 4
    assert jobs_of(log(SAMPLE[:after]))["skim-0004"] == QueueState("waiting", None, 1)


def test_a_job_that_is_only_submitted_waits(log: Callable[[bytes], Path]) -> None:
    until = SAMPLE.index(b"001 (026")
    found = jobs_of(log(SAMPLE[:until]))
    assert len(found) == 7
    assert set(found.values()) == {QueueState("waiting", None, 1)}


def test_other_events_change_nothing() -> None:
    assert state_after(LogEvent(6, 1, 0, "006 (001.000.000) Image size of job updated: 1")) is None


def test_a_log_that_is_not_there_has_no_events(tmp_path: Path) -> None:
    assert list(events_of(tmp_path / "none.log")) == []
    assert jobs_of(tmp_path) == {}


@settings(suppress_health_check=FIXTURE, max_examples=100)
@given(end=st.integers(0, len(SAMPLE)))
def test_of_a_log_that_is_being_written_the_whole_events_count(log: Callable[[bytes], Path], end: int) -> None:
    found = list(events_of(log(SAMPLE[:end])))
    assert found == WHOLE[: len(found)]
    assert len(found) >= SAMPLE[:end].count(b"\n...\n")
    for seen in jobs_of(log(SAMPLE[:end])).values():
        assert seen.state in ("waiting", "running", "held", "ended")


@settings(suppress_health_check=FIXTURE, max_examples=100)
@given(at=st.integers(0, len(SAMPLE)), size=st.integers(0, 200), junk=st.binary(max_size=40))
def test_a_damaged_log_never_raises(log: Callable[[bytes], Path], at: int, size: int, junk: bytes) -> None:
    path = log(SAMPLE[:at] + junk + SAMPLE[at + size :])
    for name, seen in jobs_of(path).items():
        assert name
        assert seen.attempt > 0


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Job has gone over memory limit of 2000 megabytes. Peak usage: 2100 megabytes.", "memory"),
        ("The job attribute PeriodicRemove expression 'MemoryUsage > RequestMemory' evaluated to TRUE", "memory"),
        ("Job removed by SYSTEM_PERIODIC_REMOVE due to wall time exceeded allowed max.", "time"),
        *(("The job exceeded allowed job duration of 1200", "time"), ("Proxy about to expire", "proxy")),
        *(("Error from slot1_1@vm: No space left on device", "disk"), ("somebody asks to release these rooms", None)),
    ],
)
@pytest.mark.parametrize(("number", "state", "otherwise"), [(9, "ended", "removed"), (12, "held", "held")])
def test_each_reason_has_a_kind(number: int, state: str, otherwise: str, reason: str, kind: Optional[str]) -> None:
    text = f"{number:03} (007.000.000) Job was held.\n\t{reason}\n\tCode 34 Subcode 0"
    seen = state_after(LogEvent(number, 7, 0, text))
    assert seen is not None
    assert seen.problem is not None
    assert (seen.state, seen.problem.kind) == (state, kind or otherwise)
    assert reason in seen.problem.message
    assert "Subcode" not in seen.problem.message
