"""The journal of a search: a file that many processes on several machines write, one at a time."""

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

__all__ = ["Lock", "held", "journal", "quiet"]


class Lock:
    """A lock on a file that is released when its process ends, however that happens; the file stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def take(self, wait: bool = True) -> bool:
        """Take it; False if another process has it.

        Raises
        ------
        NanoMLError
            This file system has no locks.
        """
        self.free()  # a signal may have ended the block before it could free the lock
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
        """Release it."""
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
    """A process that was killed leaves no lock behind, and no half of a line."""

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


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings: Optuna calls some of its parts experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
    """Open the journal; it is created if it does not exist."""
    with quiet():
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))
