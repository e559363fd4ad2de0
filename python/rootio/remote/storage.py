"""Small operations on files of remote storage, by the XRootD client.

Each asks again where an answer may come a moment later, and ends with one error otherwise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MLTools.NanoML.atomic import make_directory as make_local_directory
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.remote.client import Cause, ServerError, persist
from MLTools.NanoML.rootio.remote.server import Server
from MLTools.NanoML.rootio.remote.transfer import pieces_of, put
from MLTools.NanoML.rootio.remote.url import Url

__all__ = [
    "Status",
    "copy",
    "exists",
    "fetch_directory",
    "list_directory",
    "make_directory",
    "remove",
    "rename",
    "size",
    "stat",
]

_IS_DIRECTORY = 2


@dataclass(frozen=True)
class Status:
    """What is known of a file or directory.

    Attributes
    ----------
    name
        Its name in its directory.
    size
        In bytes.
    modified
        When it was changed, in seconds since 1970.
    is_directory
        Whether it is one.
    """

    name: str
    size: int
    modified: int
    is_directory: bool

    @classmethod
    def of(cls, name: str, info: Any) -> Status:
        """Take it from an answer of the client."""
        return cls(name, int(info.size), int(info.modtime), bool(info.flags & _IS_DIRECTORY))


def stat(url: str) -> Status:
    """What is known of a remote file or directory.

    Raises
    ------
    NanoMLError
        There is none, or the server does not tell.
    """
    server = Server(url)
    return Status.of(os.path.basename(server.path), server.insist("looked up", "stat", server.path))


def size(url: str) -> int:
    """How many bytes a remote file has; raises as `stat` does."""
    return stat(url).size


def exists(url: str) -> bool:
    """Whether there is such a remote file or directory.

    Raises
    ------
    NanoMLError
        The server does not tell.
    """
    server = Server(url)
    return persist(lambda: server.has(server.path), f"{url}: cannot be looked up")


def remove(url: str, missing_ok: bool = False) -> None:
    """Remove a remote file, or a directory that is empty.

    Parameters
    ----------
    url
        The file.
    missing_ok
        Whether it is fine if there is none.

    Raises
    ------
    NanoMLError
        It is not there, or the server refuses.
    """
    server = Server(url)
    if missing_ok and not exists(url):
        return
    method = "rmdir" if stat(url).is_directory else "rm"
    server.take_away(f"{url}: cannot be removed", lambda: server.ask(method, server.path), server.path)


def make_directory(url: str) -> None:
    """Create a remote directory and its parents; one that is there already is fine.

    Raises
    ------
    NanoMLError
        The server refuses.
    """
    server = Server(url)
    with_parents, mode = 1, 0o755
    server.insist("created", "mkdir", server.path, with_parents, mode)


def list_directory(url: str) -> list[Status]:
    """What is in a remote directory, in the order of the names.

    A redirector's directory is put together from those of all its servers.

    Raises
    ------
    NanoMLError
        There is none, or not all of its servers answer.
    """
    server = Server(url)
    found = persist(lambda: _entries(server), f"{url}: cannot be listed")
    return sorted(found.values(), key=lambda each: each.name)


def _entries(server: Server) -> dict[str, Status]:
    """The directory's content by names; may raise ServerError."""
    found: dict[str, Status] = {}
    missing, with_status = [], 1
    # the client's own way to ask all of them takes one that has no such directory for one that does not answer
    behind = server.behind()
    for each in behind:
        try:
            entries = each.ask("dirlist", each.path, with_status)
        except ServerError as problem:
            if problem.cause is not Cause.MISSING:
                raise ServerError(f"{each.url.site}: {problem}", problem.cause) from None
            missing.append(problem)
            continue
        for entry in entries:
            if entry.statinfo is None:
                raise ServerError(f"{each.url.site} says nothing of {entry.name}", Cause.TRANSIENT)
            found[entry.name] = Status.of(entry.name, entry.statinfo)
    if len(missing) == len(behind):
        raise missing[0]
    return found


def rename(source: str, destination: str) -> None:
    """Rename a remote file or directory on its server; a file of the new name is replaced.

    Raises
    ------
    NanoMLError
        The two are on different servers, or the server refuses.
    """
    server, target = Server(source), Url.parse(destination)
    if target.server != server.url.server:
        raise NanoMLError(f"{source}: cannot be renamed to {destination}, on another server: copy it.")
    server.rename(server.path, target.path, f"{source}: cannot be renamed to {destination}")


def copy(source: str | os.PathLike[str], destination: str | os.PathLike[str], checksum: bool = True) -> int:
    """Copy a file from or to remote storage. It appears whole or not at all.

    Parameters
    ----------
    source, destination
        Paths or root:// URLs; directories of the destination are created.
    checksum
        Whether to compare Adler-32 checksums, besides the sizes. A server that has none to tell is believed to give
        what it has; what was written to it is read back.

    Returns
    -------
    How many bytes it has.

    Raises
    ------
    NanoMLError
        It cannot be read or written, or what arrived is not the same.
    """
    source, destination = os.fspath(source), os.fspath(destination)
    what = f"{source}: cannot be copied to {destination}"
    return persist(lambda: put(pieces_of(source, checksum), destination, checksum), what)


def fetch_directory(url: str, directory: str | os.PathLike[str], checksum: bool = True) -> list[Path]:
    """Copy a remote directory, with all that is below it, to this machine.

    Parameters
    ----------
    url
        The remote directory.
    directory
        Where its content goes; it is created.
    checksum
        As of `copy`.

    Returns
    -------
    The files.

    Raises
    ------
    NanoMLError
        As `list_directory` and `copy`.
    """
    place, found = make_local_directory(directory), []
    for entry in list_directory(url):
        below, target = f"{url.rstrip('/')}/{entry.name}", place / entry.name
        if entry.is_directory:
            found += fetch_directory(below, target, checksum)
        else:
            copy(below, str(target), checksum)
            found.append(target)
    return found
