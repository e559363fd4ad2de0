"""The journal of a search: a file that many processes write, on several machines, one at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from MLTools.NanoML.errors import NanoMLError

__all__ = ["Lock", "held", "journal"]


class Lock:
    """A lock that goes with its process, however that ends.

    Parameters
    ----------
    path
        The file that is locked; it stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def take(self, wait: bool = True) -> bool:
        """Take it, or tell that another process has it.

        Raises
        ------
        NanoMLError
            This file system has no locks.
        """
        self.free()  # an end by a signal can come before whoever took it was ready to free it
        self._file = file = open(self.path, "ab")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as problem:
            self.free()
            if problem.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise NanoMLError(
                f"{self.path}: this file system has no locks ({problem.strerror}), so workers cannot share a search: "
                "choose another workdir."
            ) from None
        return True

    def free(self) -> None:
        """Let another process have it."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def held(lock: Lock) -> Iterator[None]:
    """Wait for a lock, and hold it."""
    lock.take()
    try:
        yield
    finally:
        lock.free()


class _JournalLock(JournalFileOpenLock):
    """So that a process that was killed leaves no lock behind, and no half of a line."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._lock = Lock(journal.with_suffix(".lock"))

    def acquire(self) -> bool:
        self._lock.take()
        _cut_off_half_a_line(self._journal)
        return True

    def release(self) -> None:
        self._lock.free()


def _cut_off_half_a_line(path: Path) -> None:
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def journal(path: Path) -> JournalStorage:
    """Open the journal; it is made if it is not there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls some of what it has experimental
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))
