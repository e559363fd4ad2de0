"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from MLTools.NanoML.errors import explain_os_error, is_os_error

__all__ = ["make_directory", "remove_leftovers", "replacing", "write_json", "write_text"]

_MARK = ".part-"


def make_directory(path: str | os.PathLike[str]) -> Path:
    """Create a directory and its parents; an error says what to do."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise explain_os_error(problem, path, "create this directory") from None
    return Path(path)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write aside, then rename onto `path`.

    Yields a path in the same directory, with the same suffix and a name of this process. If the block ends
    well, what was written there replaces `path`; if it raises, it is removed and `path` stays as it was.

    Raises
    ------
    NanoMLError
        The operating system refused: disk full, no permission, and the like.
    """
    final = Path(path)
    make_directory(final.parent)
    aside = final.with_name(f".{final.stem}{_MARK}{os.getpid()}{final.suffix}")
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
        aside.unlink(missing_ok=True)


def remove_leftovers(directory: str | os.PathLike[str]) -> int:
    """Remove what killed processes left behind in `directory`; return how many files.

    Call it only while holding the lock of the work directory: nobody else may be writing there.
    """
    leftovers = [path for path in Path(directory).glob(f"**/.*{_MARK}*") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
