"""Where the files of corrections are: beside the YAML file of an era, in a directory of the user's, on CVMFS, or in the network."""

from __future__ import annotations

import os
import shutil
import urllib.request
from pathlib import Path

from MLTools.NanoML.atomic import cache_directory, replacing
from MLTools.NanoML.errors import ConfigError, explain_os_error
from MLTools.NanoML.rootio.remote.file import RemoteFile
from MLTools.NanoML.rootio.remote.server import is_remote, is_xrootd, on_cvmfs
from MLTools.NanoML.schema.document import Document

CVMFS = (
    "/cvmfs/cms-griddata.cern.ch/cat/metadata",
    "/cvmfs/cms.cern.ch/rsync/cms-nanoAOD/jsonpog-integration",
    "/cvmfs/cms.cern.ch/rsync/cms-nanoAOD/jsonpog-integration/POG",
)
"""Where CMS keeps the files of its object groups."""

VARIABLE = "NANOML_CORRECTIONS"
"""The environment variable with a directory of files of corrections."""


def local_files(path: Path) -> list[Path]:
    """The files that the YAML file of an era names and that are only here: neither on CVMFS nor in the network."""
    entries = Document.read(path).data
    names = (
        [entry.get("file") for entry in entries.values() if isinstance(entry, dict)]
        if isinstance(entries, dict)
        else []
    )
    found = [_found(name, path.parent) for name in names if isinstance(name, str) and not is_remote(name)]
    return list(dict.fromkeys(file for file in found if file is not None and not on_cvmfs(file)))


def own_directory() -> str:
    """The directory in the environment variable NANOML_CORRECTIONS, absolute; empty if it is not set."""
    text = os.environ.get(VARIABLE)
    return os.path.abspath(text) if text else ""


def find_file(name: str, base: Path, place: str) -> Path:
    """A file of corrections.

    Parameters
    ----------
    name
        A URL; or a path, relative to `base`, to the directory in the environment variable NANOML_CORRECTIONS, or to one of
        CMS's directories on CVMFS.
    base
        A directory.
    place
        Where the name stands, for messages.

    Raises
    ------
    ConfigError
        There is no such file.
    """
    if is_remote(name):
        return _downloaded(name)
    found = _found(name, base)
    if found is None:
        below = next((os.path.relpath(name, root) for root in CVMFS if name.startswith(f"{root}/")), None)
        if below is not None:
            raise ConfigError(
                f"{place}: there is no file {name}. Where CVMFS is not mounted, write {below}, and copy it into a directory that the "
                f"environment variable {VARIABLE} names."
            )
        if Path(name).name.startswith("efficiencies"):
            raise ConfigError(
                f"{place}: there is no file {name} yet: `nanoml efficiencies ANALYSIS.yaml` measures them."
            )
        raise ConfigError(
            f"{place}: there is no file {name} in {', '.join(map(str, _roots(base)))}. Where CVMFS is not mounted, copy the files, "
            f"and name their directory in the environment variable {VARIABLE}."
        )
    return found


def _roots(base: Path) -> list[Path]:
    return [base, *map(Path, filter(None, (own_directory(), *CVMFS)))]


def _found(name: str, base: Path) -> Path | None:
    paths = (root / os.path.expanduser(name) for root in _roots(base))
    return next((path for path in paths if path.is_file()), None)


def _downloaded(url: str) -> Path:
    """A copy of a file of the network, which stays in the cache."""
    target = cache_directory() / "corrections" / url.replace("://", "/").lstrip("/")
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as aside:
        if is_xrootd(url):
            with RemoteFile(url) as file:
                file.copy(aside)
        else:
            try:
                with urllib.request.urlopen(url, timeout=60) as answer, aside.open("wb") as output:
                    shutil.copyfileobj(answer, output)
            except (OSError, ValueError) as problem:
                raise explain_os_error(problem, url, "download") from None
    return target
