"""The HDF5 schema that joins conversion and training: its names, and how to read what a file says of itself."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.versions import IDENTIFIERS

__all__ = [
    "EVENTS",
    "IDENTIFIERS",
    "METADATA",
    "PARAMETER",
    "RESERVED",
    "SCHEMA",
    "check_events_differ",
    "new_hdf5",
    "open_hdf5",
    "read_metadata",
    "reading",
    "write_metadata",
]

SCHEMA = 1
EVENTS = "events"
METADATA = "metadata"
RESERVED = (*IDENTIFIERS, "genWeight", "label", "weight")
"""Event-level fields that the schema gives a meaning: no feature or parameter can have such a name."""
PARAMETER = "parameter"
"""The `source` of a column that is the same for all events of a dataset, and NaN where the dataset has no such parameter."""


def open_hdf5(path: str | os.PathLike[str]) -> Any:
    """Open an HDF5 file for reading.

    Raises
    ------
    NanoMLError
        There is no such file, or it is no HDF5 file or a damaged one.
    """
    import h5py

    name = os.fspath(path)
    if not os.path.isfile(name):
        raise NanoMLError(f"{name}: no such file. `nanoml convert` makes HDF5 files.")
    try:
        return h5py.File(name, "r")
    except OSError as problem:
        reason = (
            "is no HDF5 file, or is truncated" if not h5py.is_hdf5(name) else f"cannot be read: {problem}"
        )
        raise NanoMLError(f"{name}: {reason}. Make it again with `nanoml convert`.") from None


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Explain what goes wrong while an open HDF5 file is being read.

    Raises
    ------
    NanoMLError
        Something of the file is damaged, or not there.
    """
    try:
        yield
    except (OSError, RuntimeError, KeyError) as problem:
        raise NanoMLError(
            f"{os.fspath(path)}: cannot be read: {problem}. It may be damaged: copy it again, or convert again."
        ) from problem


class _Disk(io.FileIO):
    """The file under an HDF5 file. After a failed write it accepts everything and keeps nothing.

    The HDF5 library cannot close a file that it cannot write, and crashes when Python ends; so it never learns.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest and self.failure is None:
                rest = rest[super().write(rest) or 0 :]
        except OSError as problem:
            self.failure = problem
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        return super().truncate(size) if self.failure is None else size or 0


def _parsed(file: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(file[METADATA].asstr()[()])
        if isinstance(content, dict):
            return content
        raise ValueError(content)
    except (OSError, ValueError, TypeError):
        raise NanoMLError(
            f"{os.fspath(path)}: its `{METADATA}` cannot be understood. Convert again."
        ) from None


@contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Create an HDF5 file; yields a `h5py.File`. Use it inside `atomic.replacing`.

    Raises
    ------
    OSError
        The disk is full, and the like; at the end of the block at the latest.
    """
    import h5py

    with _Disk(path, "w+") as disk:
        try:
            with h5py.File(disk, "w") as hdf5:
                yield hdf5
        except (OSError, RuntimeError):
            if disk.failure is None:
                raise
        # what HDF5 says of a file that lost a part of itself only hides the reason
        if disk.failure is not None:
            raise disk.failure


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What an HDF5 file of the pipeline says of itself (see doc/hdf5.md).

    Raises
    ------
    NanoMLError
        The file is not one of `nanoml convert`, or of a newer schema.
    """
    with open_hdf5(path) as file:
        if METADATA not in file or EVENTS not in file:
            raise NanoMLError(
                f"{os.fspath(path)}: was not written by `nanoml convert`: it has no `{METADATA}`."
            )
        content = _parsed(file, path)
    if content.get("schema") != SCHEMA:
        raise NanoMLError(
            f"{os.fspath(path)}: schema {content.get('schema')}, this NanoML reads {SCHEMA}. Update NanoML or convert again."
        )
    return content


def write_metadata(file: Any, content: dict[str, Any]) -> None:
    """Let a file say of itself what it holds (see doc/hdf5.md); `events` must be there already.

    Parameters
    ----------
    file
        A `h5py.File` open for writing.
    content
        As `read_metadata` gives it.
    """
    import h5py

    text = h5py.string_dtype("utf-8")
    file.create_dataset(METADATA, data=json.dumps(content), dtype=text)
    file.attrs["schema"] = SCHEMA
    file.attrs["creator"] = content["creator"]
    file[EVENTS].attrs.create("classes", content["classes"] or [""], dtype=text)


def check_events_differ(
    paths: Sequence[str | os.PathLike[str]], contents: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse files made from the same ROOT file, as are a shuffled file and one of those that it was made of.

    Parameters
    ----------
    paths
        The files.
    contents
        What they say of themselves.

    Raises
    ------
    NanoMLError
        Two have events of the same ROOT file.
    """
    owner: dict[str, int] = {}
    for number, content in enumerate(contents):
        for dataset in content["datasets"]:
            for file in dataset["books"]["files"]:
                other = owner.setdefault(file["file"], number)
                if other != number:
                    raise NanoMLError(
                        f"{os.fspath(paths[number])}: has events of {file['file']}, which {os.fspath(paths[other])} has, "
                        "too: they would count twice. Leave one of the two out."
                    )
