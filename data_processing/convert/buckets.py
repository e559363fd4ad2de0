"""Raw temporary files into which rows are dealt, bucket by bucket."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.atomic import aside_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.parallel import locked

__all__ = ["Buckets", "scratch"]


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """A hidden directory beside a file, for what is needed on the way to it; removed at the end.

    What killed processes left of it, and of the file itself, is removed first.

    Raises
    ------
    NanoMLError
        Another process is making the same file.
    """
    hidden = aside_of(output, "scratch")
    with locked(hidden):
        for path in output.parent.glob(aside_of(Path(glob.escape(output.name)), "*").name):
            if path.is_file():
                path.unlink()
        directory = hidden / "buckets"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        try:
            yield directory
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


class Buckets:
    """Rows of several tables, dealt to buckets: one file for each table and bucket.

    Parameters
    ----------
    directory
        An empty directory.
    tables
        Name and type of what each table has for one event.
    """

    def __init__(self, directory: Path, tables: Mapping[str, np.dtype[Any]]) -> None:
        self._directory, self._tables = directory, tables
        self._numbers = {name: number for number, name in enumerate(tables)}

    def _path(self, table: str, bucket: int) -> Path:
        return self._directory / f"{bucket}.{self._numbers[table]}"

    def append(self, table: str, bucket: int, rows: NDArray[Any]) -> None:
        """Add rows to a bucket, shape (events, ...), contiguous."""
        # not kept open: there may be more files than a process may have open
        with open(self._path(table, bucket), "ab") as file:
            file.write(rows.reshape(-1).view(np.uint8).data)

    def take(self, table: str, bucket: int, expected: int) -> NDArray[Any]:
        """Rows of a bucket in the order in which they came, shape (events, ...); its file is removed.

        Raises
        ------
        NanoMLError
            They are not as many as expected: the file was changed by somebody else.
        """
        path, kind = self._path(table, bucket), self._tables[table]
        if not path.exists():
            rows = np.zeros(0, kind.base)
        else:
            rows = np.fromfile(path, kind.base)
            path.unlink()
        each = int(np.prod(kind.shape, dtype=np.int64))
        if len(rows) != expected * each:
            raise NanoMLError(
                f"{path}: has {len(rows)} rows of {expected * each}. Run the same command again."
            )
        return rows.reshape(expected, *kind.shape)
