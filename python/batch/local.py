"""One process in the background of this machine as a batch system: it does the jobs, stage after stage."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.batch.job import PERMANENT, JobProblem
from MLTools.NanoML.batch.submission import JobEntry, Submission
from MLTools.NanoML.batch.system import Poll, QueueState, System
from MLTools.NanoML.installation import nanoml_command
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.schema.plain import read_or_none

_DRIVER = Path("driver.json")
_PAUSE = 0.05
_ACTIVE = ("waiting", "running")

Start = Callable[[JobEntry], Callable[[], str]]
"""Starts a job in the directory of its submission, and returns what asks for its state, as in driver.json."""

_started: dict[int, subprocess.Popen[bytes]] = {}
"""The processes that this one has started."""


class Local(System):
    """Processes on this machine."""

    where = "here"

    def write(self, submission: Submission) -> None:
        """Write nothing: job.sh is enough."""

    def submit(self, submission: Submission) -> None:
        """Start the process that starts the others; it continues when the terminal is closed."""
        with open("driver.log", "ab") as log:
            driver = subprocess.Popen(
                [*nanoml_command(), "work", "--drive", "."],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _started[driver.pid] = driver
        submission.handles = {"process": driver.pid, "host": os.uname().nodename}

    def recover(self, submission: Submission) -> bool:
        """Read what the process wrote first, if it was started: its number."""
        driver = _Driver.read()
        if driver is not None:
            submission.handles = {"process": driver.process, "host": driver.host}
        return driver is not None

    def poll(self, submission: Submission) -> Poll:
        """Read what the process has written, and see whether it is alive."""
        if submission.handles and submission.handles["host"] != os.uname().nodename:
            return Poll({}, None, [f"The jobs run on {submission.handles['host']}: ask there."])
        alive = bool(submission.handles) and _is_alive(submission.handles["process"])
        driver = _Driver.read()
        states = driver.jobs if driver is not None else {}
        return Poll({name: _state(it, alive) for name, it in states.items() if alive or it != "waiting"}, alive)

    def kill(self, submission: Submission) -> None:
        """End the process and its jobs."""
        if submission.handles:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(submission.handles["process"], signal.SIGTERM)

    @contextlib.contextmanager
    def starter(self, submission: Submission, entries: Sequence[JobEntry]) -> Iterator[tuple[Start, int]]:
        """The function that starts a job of a stage, and how many cores its jobs may use at the same time."""
        yield _start, submission.options.at_once or usable_cores()

    def drive(self, submission: Submission) -> int:
        """Do all jobs, in the process in the background: those of a stage at the same time, as many as may run.

        Returns how many failed. If some of a stage did, later stages are not started.
        """
        driver = _Driver(os.getpid(), os.uname().nodename)
        driver.write()
        try:
            for entries in submission.stages.values():
                driver.jobs.update((entry.name, "waiting") for entry in entries)
                with self.starter(submission, entries) as (start, free):
                    driver.do(entries, start, free, submission.options.retries)
                failed = sum(driver.jobs[entry.name] != "0" for entry in entries)
                if failed:
                    return failed
        except Exception as problem:
            driver.jobs.update((name, str(problem)) for name, state in driver.jobs.items() if state in _ACTIVE)
            driver.write()
            raise
        return 0


@dataclass
class _Driver:
    """The content of driver.json, which the process writes: its number and machine, and the states of jobs."""

    process: int
    host: str
    jobs: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        write_json(_DRIVER, asdict(self))

    @classmethod
    def read(cls) -> Optional[_Driver]:
        return read_or_none(cls, _DRIVER)

    def do(self, entries: Sequence[JobEntry], start: Start, free: int, retries: int) -> None:
        left, written = [(entry, retries) for entry in entries], dict[str, str]()
        running, states = dict[str, tuple[JobEntry, int]](), dict[str, Callable[[], str]]()
        while left or running:
            while left and (not running or sum(it.resources.cores for it, _ in [left[0], *running.values()]) <= free):
                entry, tries = left.pop(0)
                running[entry.name], states[entry.name] = (entry, tries), start(entry)
            for name, (entry, tries) in list(running.items()):
                self.jobs[name] = state = states[name]()
                if state in _ACTIVE:
                    continue
                del running[name]
                if state not in ("0", str(PERMANENT)) and tries:
                    left.append((entry, tries - 1))
                    self.jobs[name] = "waiting"
            if self.jobs != written:
                self.write()
                written = dict(self.jobs)
            time.sleep(_PAUSE)


def _is_alive(group: int) -> bool:
    """Whether the process, or a job that it started and that outlives it, runs in this directory."""
    if group in _started:
        _started[group].poll()  # a child of this process must not stay a zombie
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    if sys.platform == "darwin":
        return True
    here = os.getcwd()  # the number may have been given to other processes since
    return any(_runs_in(here, group, int(path.name)) for path in Path("/proc").glob("[0-9]*"))


def _runs_in(directory: str, group: int, process: int) -> bool:
    try:
        return os.getpgid(process) == group and os.readlink(f"/proc/{process}/cwd") == directory
    except OSError:
        return False


def _state(state: str, alive: bool) -> QueueState:
    """The state of a job from what the driver wrote: "waiting", "running", an exit code, or why there is none."""
    if alive and state in _ACTIVE:
        return QueueState(state)
    if state == "0":
        return QueueState("ended")
    if state == "running":
        return QueueState("ended", JobProblem("killed", "its process was ended"))
    is_code = state.lstrip("-").isdigit()
    return QueueState(
        "ended", JobProblem("killed", f"the process ended with {state}") if is_code else JobProblem("lost", state)
    )


def _start(entry: JobEntry) -> Callable[[], str]:
    with open(f"logs/{entry.name}.log", "ab") as log:
        command = ["bash", "job.sh", entry.name, str(entry.resources.cores)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return lambda: "running" if process.poll() is None else str(process.returncode)
