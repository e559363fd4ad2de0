"""A job on the machine that it was sent to: its tasks are done, and its result says what became of each."""

from __future__ import annotations

import fcntl
import os
import platform
import resource
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.batch.causes import FAILED, exit_code_of, problem_of
from MLTools.NanoML.batch.job import Job, TaskNames
from MLTools.NanoML.batch.result import Done, Problem, Result
from MLTools.NanoML.batch.staging import Staging
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.task import Task, stamps

__all__ = ["adler32", "work"]

_PAUSE = 1.0  # seconds between two looks whether the twin of a job has ended


def work(path: Path, place: Path) -> int:
    """Do a job, and write its result.

    A job that was ended at any moment, or that is run twice, does what is left to do.

    Parameters
    ----------
    path
        The file of the job.
    place
        Where its result goes.

    Returns
    -------
    The exit code of the process: 0 if all is done.

    Raises
    ------
    NanoMLError
        The file cannot be read.
    """
    job = Job.read(path)
    os.environ.update(job.environment)
    with _alone(place):
        before = Result.read(place)
        result = _begun(job.name, before)
        result.write(place)
        try:
            _do(job, result, place)
        except BaseException as stopped:  # SIGTERM and Ctrl-C too
            if isinstance(stopped, Exception):
                result.problem = problem_of(stopped)
            else:
                result.problem = Problem("stopped", "the job was told to end before it was done")
                result.state = "stopped"
            _end(result, place)
            if not isinstance(stopped, Exception):
                raise
        else:
            _end(result, place)
    return result.exit_code or 0


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Wait until no other process does the same job: a batch system may start a job again that it has lost sight of."""
    with open(place.with_suffix(".lock"), "a") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say("Another process does the same job: waiting for it.")
                waiting = True
                time.sleep(_PAUSE)
            except OSError:  # a file system without locks: both do the same, and each output appears whole
                break
        yield


def _begun(name: str, before: Optional[Result]) -> Result:
    batch = os.environ.get("NANOML_BATCH_ID", "")
    begun = Result(name, host=platform.node(), process=os.getpid(), batch=batch, started=time.time())
    if before is not None:
        begun.tasks = {name: done for name, done in before.tasks.items() if done.state == "done"}
        begun.earlier = list(before.earlier)
        if before.state != "done":
            last = next(iter(before.problems), Problem("killed", "its process ended without a word"))
            begun.earlier.append({"host": before.host, "kind": last.kind, "message": last.message})
    return begun


def _do(job: Job, result: Result, place: Path) -> None:
    if job.proxy:
        _check_proxy()
    if job.command:
        _command(job)
        return
    staging = Staging.of(job, Path.cwd())
    for names, task in zip(job.names(), job.decoded(staging.rename)):
        done = result.tasks.get(names.name)
        if done is not None and staging.is_there(done.outputs):
            say(f"{names.name}: is done already")
            continue
        result.tasks[names.name] = _attempt(task, names, staging)
        result.write(place)


def _check_proxy() -> None:
    from datetime import timedelta

    from MLTools.NanoML.grid.proxy import check_proxy

    check_proxy(timedelta(0))


def _command(job: Job) -> None:
    from MLTools.NanoML.cli import nanoml

    nanoml.main(list(job.command), standalone_mode=False)


def _attempt(task: Task, names: TaskNames, staging: Staging) -> Done:
    begin = time.monotonic()
    say(f"{names.stage} {names.name}")
    try:
        staging.fetch(task, names)
        inputs = stamps(task)
        try:
            summary = task.work()
        except BaseException:  # told to end, too
            _save(staging, task)
            raise
        outputs = [_described(path, name) for path, name in zip(task.outputs, names.outputs)]
        staging.deliver(task, names)
    except Exception as problem:
        reason = problem_of(problem)
        say(f"{names.name}: {reason.message}")
        return _done("failed", begin, problem=reason)
    finally:
        staging.clear(task)
    return _done("done", begin, inputs=inputs, outputs=outputs, summary=dict(summary))


def _save(staging: Staging, task: Task) -> None:
    """Keep what training has learned until now, for another attempt."""
    try:
        staging.deliver_folders(task)
    except NanoMLError as problem:  # what ended the work says more
        say(str(problem))


def _described(path: Path, name: str) -> dict[str, Any]:
    status = path.stat()
    return {
        "path": name,
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "adler32": adler32(path),
    }


def adler32(path: Path) -> str:
    """The checksum that CMS's catalogue and XRootD have, as 8 hexadecimal digits."""
    value = 1
    with open(path, "rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return f"{value & 0xFFFFFFFF:08x}"
            value = zlib.adler32(block, value)


def _done(state: str, begin: float, **others: Any) -> Done:
    return Done(
        state,
        seconds=round(time.monotonic() - begin, 3),
        memory=_memory(),
        host=platform.node(),
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **others,
    )


def _memory() -> int:
    """Most memory of this process and of those that it waited for [MB]."""
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return int(most / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def _end(result: Result, place: Path) -> None:
    problems = result.problems
    if result.state == "running":
        result.state = "failed" if problems else "done"
    result.exit_code = max((exit_code_of(problem) for problem in problems), default=0)
    if result.state == "stopped":
        result.exit_code = FAILED
    result.finished = time.time()
    try:
        result.write(place)
    except NanoMLError as problem:  # of a full disk; the log and the exit code tell
        say(str(problem))
        result.exit_code = max(result.exit_code, FAILED)
