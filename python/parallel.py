"""Parallel processes: how many, how they start and end, and only one run at a time in a work directory."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from MLTools.NanoML.atomic import make_directory
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.terminal.progress import silence

RECORDS = ".nanoml"  # the directory of records in the work directory
_FORKED = sys.platform == "linux"  # whether workers are
_LITTLE = 4_000_000  # bytes, which one process has read before others have begun


def usable_cores() -> int:
    """Cores that this process may use: those of its job, if it is one."""
    if os.environ.get("NANOML_CORES", "").isdigit():
        return max(1, int(os.environ["NANOML_CORES"]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(files: Iterable[str]) -> int:
    """How many processes are worth it for files that are read: one if all of them are here, and small."""
    size = 0
    for file in set(files):
        try:
            size += os.path.getsize(file)
        except OSError:  # as of a URL
            return usable_cores()
    return usable_cores() if size > _LITTLE else 1


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold the work directory: two runs must not write the same files.

    The lock ends with the process, however that ends. Raises NanoMLError if another run holds it.
    """
    path = make_directory(workdir / RECORDS) / "lock"
    try:
        file = open(path, "a+")  # noqa: SIM115
    except OSError as problem:
        raise NanoMLError(f"{path}: cannot be written ({problem.strerror}): choose another workdir.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno in (errno.EAGAIN, errno.EACCES):
                file.seek(0)
                raise NanoMLError(
                    f"{workdir}: another run is active here ({file.read().strip()}). Wait for it, or end it."
                ) from None
            # some network file systems have no locks: better to run without a lock than not at all
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        # what this process has started at a batch system holds the lock, too, when this is killed (see `system.call`)
        os.set_inheritable(file.fileno(), True)
        yield


def begin_worker() -> None:
    """Make this process a quiet worker that ends with its parent: an initializer for pools of processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    silence()
    threading.Thread(target=_end_with_parent, daemon=True).start()


@contextmanager
def worker_pool(
    workers: int, module: str, begin: Callable[..., None], *arguments: object
) -> Iterator[ProcessPoolExecutor]:
    """A pool of worker processes, which are killed at once if something is raised in the block.

    The `module` of the work is imported once for all processes where that is safe. `begin` is called first in each process, with
    the arguments; it must call `begin_worker`.
    """
    initial = (dict(os.environ), begin, arguments)
    pool = ProcessPoolExecutor(workers, mp_context=_context(module), initializer=_begin_like_parent, initargs=initial)
    try:
        yield pool
    except BaseException:
        # the pool cannot end work that has begun, and forgets its processes when it is shut down
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def expect_workers(module: str) -> None:
    """Say that there will probably be a `worker_pool` of this module: so it is imported while this process does other things."""
    _context(module)
    if _FORKED:
        from multiprocessing import forkserver

        forkserver.ensure_running()


def _context(module: str) -> Any:
    # Not forked from this process: the libraries that read files have threads, which do not survive a fork. A server
    # without threads imports the module and is forked. Libraries of macOS do not survive that either.
    context = multiprocessing.get_context("forkserver" if _FORKED else "spawn")
    context.set_forkserver_preload([module])
    return context


def _begin_like_parent(environment: Mapping[str, str], begin: Callable[..., None], arguments: Sequence[object]) -> None:
    os.environ.clear()  # the server may have been started with another environment
    os.environ.update(environment)
    begin(*arguments)


def _end_with_parent() -> None:
    """End with the parent: a worker must not write any more when the run that holds the lock was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
