"""One process in the background of this machine as a batch system: it does the jobs, stage after stage."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.batch.job import PERMANENT, JobProblem
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.batch.system import Poll, QueueState, System
from MLTools.NanoML.installation import nanoml_command
from MLTools.NanoML.parallel import usable_cores
from MLTools.NanoML.schema.plain import read_or_none

_DRIVER = Path("driver.json")
_PAUSE = 0.05

_started: dict[int, subprocess.Popen[bytes]] = {}
"""The processes that this one has started."""


class Local(System):
    """Processes on this machine."""

    title = "this machine"
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
        return Poll({name: _state(state, alive) for name, state in states.items()}, alive)

    def kill(self, submission: Submission) -> None:
        """End the process and its jobs."""
        if submission.handles:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(submission.handles["process"], signal.SIGTERM)


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
    """The state of a job from what the driver wrote: "waiting", "running", or an exit code."""
    if alive and state in ("waiting", "running"):
        return QueueState(state)
    if state in ("waiting", "0"):
        return QueueState("ended")
    why = "its process was ended" if state == "running" else f"the process ended with {state}"
    return QueueState("ended", JobProblem("killed", why))


def drive(submission: Submission) -> int:
    """Do all jobs of a submission, in its directory: those of a stage at the same time, as many as there are cores.

    Returns how many failed. If some of a stage did, later stages are not started.
    """
    driver = _Driver(os.getpid(), os.uname().nodename)
    driver.write()
    states, written = driver.jobs, dict(driver.jobs)
    for entries in submission.stages.values():
        states.update((entry.name, "waiting") for entry in entries)
        left = [(entry.name, entry.resources.cores, submission.options.retries) for entry in entries]
        running: dict[str, tuple[subprocess.Popen[bytes], int, int]] = {}
        free = submission.options.at_once or usable_cores()
        while left or running:
            while left and (not running or sum(it[1] for it in running.values()) + left[0][1] <= free):
                name, cores, tries = left.pop(0)
                running[name] = (_start(name, cores), cores, tries)
                states[name] = "running"
            for name, (process, cores, tries) in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[name]
                states[name] = str(code)
                if code not in (0, PERMANENT) and tries:
                    left.append((name, cores, tries - 1))
                    states[name] = "waiting"
            if states != written:
                driver.write()
                written = dict(states)
            time.sleep(_PAUSE)
        failed = sum(states[entry.name] != "0" for entry in entries)
        if failed:
            return failed
    return 0


def _start(name: str, cores: int) -> subprocess.Popen[bytes]:
    with open(f"logs/{name}.log", "ab") as log:
        command = ["bash", "job.sh", name, str(cores)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
