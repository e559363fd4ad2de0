"""Files in directories of XRootD servers."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from data_processing.catalogue.answers import FileInfo
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.versions import is_glob
from MLTools.NanoML.rootio.remote.storage import FileStatus, list_directory
from MLTools.NanoML.rootio.remote.url import Url

__all__ = ["is_listing", "list_remote"]

_MOST = 1000  # directories that one pattern looks into


def is_listing(url: str) -> bool:
    """Whether a root:// URL names a directory, by a slash at its end, or has wildcards."""
    path = Url.parse(url).path
    return path.endswith("/") or is_glob(path)


def list_remote(url: str) -> list[FileInfo]:
    """The files of a directory on a server, or those that a pattern matches, in the order of their names.

    A redirector's directory is put together from those of all its servers.

    Parameters
    ----------
    url
        With a slash at its end for all *.root of a directory, or with wildcards in its path, within its parts.

    Raises
    ------
    NanoMLError
        There is none, not all servers answer, or the pattern is too wide.
    """
    place = Url.parse(url)
    path = place.path + ("*.root" if place.path.endswith("/") else "")
    parts = path.split("/")[1:]
    if "**" in parts:
        raise NanoMLError(f"{url}: ** does not work on servers. Write a * for each directory.")
    first = next(at for at, part in enumerate(parts) if is_glob(part))
    if first == 0:
        raise NanoMLError(
            f"{url}: begins with a wildcard, which would list all of the server. Name the directory."
        )
    found = _matches(place, ["/" + "/".join(parts[:first])], parts[first:], url)
    if not found:
        raise NanoMLError(f"{url}: no such file.")
    return [FileInfo(str(place.at(name)), size=size) for name, size in sorted(found)]


def _matches(place: Url, directories: Sequence[str], parts: Sequence[str], url: str) -> list[tuple[str, int]]:
    if len(directories) > _MOST:
        raise NanoMLError(f"{url}: matches {len(directories)} directories. Write a narrower pattern.")
    entries = [
        (f"{directory}/{entry.name}", entry)
        for directory in directories
        for entry in _list(place, directory)
        if fnmatchcase(entry.name, parts[0]) and entry.is_directory == (len(parts) > 1)
    ]
    if len(parts) == 1:
        return [(name, entry.size) for name, entry in entries]
    return _matches(place, [name for name, _ in entries], parts[1:], url)


def _list(place: Url, directory: str) -> list[FileStatus]:
    return list_directory(str(place.at(directory)))
