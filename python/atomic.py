"""Files that appear complete or not at all, and the hash of what is in them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from MLTools.NanoML.errors import explain_os_error, is_os_error

_MARK = ".part-"
_OWNER = re.compile(r"\.part-(\d+)-([^.]*)")
_PATIENCE = 2.0  # seconds
_OLD = 86400.0  # seconds after which the process of another machine that wrote a file is taken to be gone


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal. It is read again only if the file system says that it was changed."""
    place, version = os.path.abspath(path), file_version(path)
    if known_hashes.get(place, ((), ""))[0] != version:
        found = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
        known_hashes[place] = version, found.hexdigest()
    return known_hashes[place][1]


def file_version(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """What the file system says of a file: if that is as it was, so is its content. OSError if there is none."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


known_hashes: dict[str, tuple[tuple[int, ...], str]] = {}
"""The hashes of files that need not be read again, by their absolute paths, with the versions that had them."""


def make_directory(path: str | os.PathLike[str]) -> Path:
    """Create a directory and its parents; raises NanoMLError that says what to do."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise explain_os_error(problem, path, "create this directory") from None
    return Path(path)


def cache_directory() -> Path:
    """NanoML's directory in the user's cache; without a home directory, a path where nothing can be written."""
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except (RuntimeError, KeyError):  # a job whose user is unknown to the machine; Python 3.9 says KeyError
        caches = os.devnull
    return Path(caches, "nanoml")


def aside_of(path: str | os.PathLike[str], tag: Optional[str] = None) -> Path:
    """A hidden path beside `path` for unfinished work, which `remove_leftovers` recognizes.

    By default the tag is that of this process on this machine.
    """
    final = Path(path)
    tag = f"{os.getpid()}-{_host()}" if tag is None else tag
    return final.with_name(f".{final.stem}{_MARK}{tag}{final.suffix}")


def is_aside(path: str | os.PathLike[str]) -> bool:
    """Whether the name of a path is that of unfinished work."""
    name = os.path.basename(path)
    return name.startswith(".") and _MARK in name


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to another path, then rename it to `path`.

    Yields a path in the same directory with the same suffix and the tag of this process on this machine. If the block ends
    normally, the file there replaces `path`; if it raises, the file is removed and `path` stays as it was.

    Raises NanoMLError if the operating system refused: disk full, no permission, and the like.
    """
    final = Path(path)
    make_directory(final.parent)
    aside = aside_of(final)
    try:
        yield aside
        with open(aside, "rb") as written:
            os.fsync(written.fileno())  # a full disk may only show here, and never after the rename
        os.replace(aside, final)
    except (OSError, RuntimeError) as problem:
        if isinstance(problem, RuntimeError) and not is_os_error(problem):
            raise
        raise explain_os_error(problem, path, "write") from problem
    finally:
        with contextlib.suppress(OSError):  # the first error says more
            aside.unlink(missing_ok=True)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())


def remove_leftovers(directory: str | os.PathLike[str]) -> int:
    """Remove what killed processes left behind in `directory`; return how many files and directories.

    Hold the lock of the work directory: no other process of this machine may be writing there. Files that processes of
    other machines write stay for a day.
    """
    leftovers = [path for path in Path(directory).glob(f"**/.*{_MARK}*") if _is_left(path)]
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(leftovers)


def _is_left(path: Path) -> bool:
    owner = _OWNER.search(path.name)
    if owner is None:
        return True
    if owner[2] != _host():
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime > _OLD
        return False
    return not _lives(int(owner[1]))


def _lives(process: int) -> bool:
    """Whether a process of this machine still runs; a worker ends a moment after its run was killed."""
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up and process != os.getpid():
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            break
        time.sleep(0.05)
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, completely or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """Write a JSON file, completely or not at all."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
