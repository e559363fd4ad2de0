"""What is made once, for all workers of a run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["directory_of_all", "made_once"]


def directory_of_all(factory: pytest.TempPathFactory, name: str) -> Path:
    own = factory.getbasetemp()
    directory = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    directory.mkdir(exist_ok=True)
    return directory


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """Make a file, or what is in a directory, unless another worker has made it."""
    with open(f"{path}.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if not lock.read():
            make(path)
            lock.write("made")
    return path
