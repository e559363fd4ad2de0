"""What travels with jobs, as archives that are named after their content: the same content is packed once."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

from MLTools.NanoML.atomic import make_directory, replacing
from MLTools.NanoML.errors import explain_os_error

__all__ = ["Entry", "below", "pack"]

Entry = tuple[str, Path]
"""A name in an archive, and the file that it is of."""

_SKIPPED = {"__pycache__", ".git", ".svn", "node_modules"}


def below(folder: Path, name: str, suffixes: tuple[str, ...] = (), follow: bool = False) -> list[Entry]:
    """All files below a folder, under `name`; hidden ones and what is made by Python are left out.

    Parameters
    ----------
    folder
        The folder; symbolic links to files are followed.
    name
        What it is called in the archive.
    suffixes
        Of the files wanted; empty for all.
    follow
        Whether symbolic links to directories are followed, too.
    """
    found, seen = [], set()
    for root, directories, files in os.walk(folder, followlinks=follow):
        if follow and os.path.realpath(root) in seen:  # links may go round in a circle
            directories.clear()
            continue
        seen.add(os.path.realpath(root))
        directories[:] = sorted(it for it in directories if it not in _SKIPPED and not it.startswith("."))
        for file in sorted(files):
            path = Path(root, file)
            if not file.startswith(".") and (not suffixes or file.endswith(suffixes)) and path.is_file():
                found.append((os.path.normpath(f"{name}/{path.relative_to(folder)}"), path))
    return found


def pack(kind: str, entries: Iterable[Entry], directory: Path) -> Path:
    """Make an archive, KIND-HASH.tar.gz, unless it is there already.

    Returns
    -------
    Its path.

    Raises
    ------
    NanoMLError
        A file cannot be read, or the archive not be written.
    """
    chosen = sorted(dict(entries).items())
    digest = hashlib.sha256()
    for name, path in chosen:
        digest.update(f"{name}\0{os.access(path, os.X_OK)}\0".encode())
        digest.update(_hash_of(path))
    archive = make_directory(directory) / f"{kind}-{digest.hexdigest()[:16]}.tar.gz"
    if not archive.is_file():
        with (
            replacing(archive) as aside,
            open(aside, "wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped,
        ):
            _write(zipped, chosen)
    return archive


def _hash_of(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as problem:
        raise explain_os_error(problem, path, "read") from None


def _write(zipped: gzip.GzipFile, entries: Iterable[Entry]) -> None:
    with tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in entries:
            about = tarfile.TarInfo(name)
            about.size = path.stat().st_size
            about.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            with open(path, "rb") as file:
                tar.addfile(about, file)
