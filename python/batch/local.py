"""The machine itself as a batch system: one process in the background does the jobs, stage after stage."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.batch.causes import PERMANENT
from MLTools.NanoML.batch.command import nanoml_command
from MLTools.NanoML.batch.result import Problem
from MLTools.NanoML.batch.seen import Look, Seen
from MLTools.NanoML.batch.submission import Submission
from MLTools.NanoML.parallel import usable_cores

__all__ = ["Local", "drive"]

_DRIVER = Path("driver.json")
_PAUSE = 0.05

_started: dict[int, subprocess.Popen[bytes]] = {}
"""The processes that this one has started."""


class Local:
    """Processes of this machine."""

    def write(self, submission: Submission) -> None:
        """Nothing but job.sh is needed."""

    def submit(self, submission: Submission) -> None:
        """Start the process that starts the others; it goes on when the terminal is closed."""
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
        """The process, if it was started, has written down its number."""
        driver = _written()
        if driver:
            submission.handles = {"process": driver["process"], "host": driver["host"]}
        return bool(driver)

    def look(self, submission: Submission) -> Look:
        """What the process has written down, and whether it is there."""
        if submission.handles and submission.handles["host"] != os.uname().nodename:
            return Look({}, None, [f"The jobs run on {submission.handles['host']}: look there."])
        alive = bool(submission.handles) and _is_at_work(submission.handles["process"])
        jobs = {name: _seen(state, alive) for name, state in _written().get("jobs", {}).items()}
        return Look(jobs, alive)

    def release(self, submission: Submission, held: Mapping[str, Seen]) -> Sequence[str]:
        """No job is ever held here."""
        return []

    def kill(self, submission: Submission) -> None:
        """End the process and its jobs."""
        if submission.handles:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(submission.handles["process"], signal.SIGTERM)


def _written() -> dict[str, Any]:
    try:
        return dict(json.loads(_DRIVER.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _is_at_work(group: int) -> bool:
    """Whether the process, or a job that it started and that outlives it, is at work in this directory."""
    if group in _started:
        _started[group].poll()  # a child of this process must not stay a zombie
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    if sys.platform == "darwin":
        return True
    here = os.getcwd()  # the number may have been given to other processes since
    return any(_works_in(here, group, int(path.name)) for path in Path("/proc").glob("[0-9]*"))


def _works_in(directory: str, group: int, process: int) -> bool:
    try:
        return os.getpgid(process) == group and os.readlink(f"/proc/{process}/cwd") == directory
    except OSError:
        return False


def _seen(state: str, alive: bool) -> Seen:
    if state == "running":
        return Seen("running") if alive else Seen("ended", Problem("killed", "its process was ended"))
    if state == "waiting":
        return Seen("waiting") if alive else Seen("ended")
    return Seen("ended", None if state == "0" else Problem("killed", f"the process ended with {state}"))


def drive(submission: Submission) -> int:
    """Do all jobs of a submission, in its directory: those of a stage at the same time, as many as there are cores.

    Returns
    -------
    How many failed. If some of a stage did, later stages are not begun.
    """
    states: dict[str, str] = {}
    written: dict[str, str] = {}
    own = {"process": os.getpid(), "host": os.uname().nodename}
    write_json(_DRIVER, own)
    for entries in submission.stages.values():
        states.update((entry.name, "waiting") for entry in entries)
        left = [(entry.name, entry.resources.cores, submission.options["retries"]) for entry in entries]
        running: dict[str, tuple[subprocess.Popen[bytes], int, int]] = {}
        free = submission.options["at_once"] or usable_cores()
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
                write_json(_DRIVER, {**own, "jobs": states})
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
