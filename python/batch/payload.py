"""Files that travel with jobs to machines that do not see the files of the submitting one: code, the user's files, packages.

They travel as archives named after their content, so that the same content is packed once.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from MLTools import NanoML
from MLTools.NanoML.atomic import file_hash, make_directory, replacing
from MLTools.NanoML.batch.job import BASE, CORRECTIONS
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import ConfigError, explain_os_error
from MLTools.NanoML.schema.document import Keys
from MLTools.NanoML.stages import PARTS
from MLTools.NanoML.workflow.layout import Layout

ArchiveEntry = tuple[str, Path]
"""A name in an archive, and the file that is stored under it."""

_SKIPPED = {"__pycache__", ".git", ".svn", "node_modules"}
_MOST = 50 << 20  # bytes of a user's own files, which travel with each job
_CMSSW = ("bin", "python", "cfipython", "lib", "biglib", "module")


def code(config: Config, directory: Path) -> Path:
    """Pack NanoML and the user's own files, which lie beside the YAML file or in the directory of corrections.

    An error if a file of the configuration is elsewhere, or the files are too large to travel.
    """
    package = Path(NanoML.__path__[0]).resolve()
    entries = files_below(package, "lib/MLTools/NanoML")
    for part in PARTS:
        spec = importlib.util.find_spec(part)
        if spec is not None and spec.submodule_search_locations:
            entries += files_below(Path(spec.submodule_search_locations[0]).resolve(), f"lib/{part}")
    own = list(_own(config))
    size = sum(path.stat().st_size for _, path in own)
    if size > _MOST:
        largest = max(own, key=lambda entry: entry[1].stat().st_size)
        raise ConfigError(
            f"{config.base}: {size >> 20} MB of files beside {config.where()} would travel with each job (the largest: "
            f"{largest[1]}). Put the YAML file and your own code into a directory of their own."
        )
    return pack("code", [*entries, *own], directory)


def _own(config: Config) -> Iterator[ArchiveEntry]:
    from MLTools.NanoML.corrections.era import own_directory  # awkward, which it imports, takes long

    workdir = Layout.of(config).workdir.resolve()
    for name, path in files_below(config.base, BASE, (".py",)):
        if workdir not in path.resolve().parents and "site-packages" not in path.parts:
            yield name, path
    folders = {BASE: str(config.base), CORRECTIONS: own_directory()}
    for key, text in named(config):
        path = config.path(text)
        inside = {name: os.path.relpath(path, folder) for name, folder in folders.items() if folder}
        found = [f"{name}/{place}" for name, place in inside.items() if not place.startswith("..")]
        if not found or not path.is_file():
            reason = "no such file" if not path.is_file() else f"is not below {config.base}"
            raise config.error(*key, message=f"{text}: {reason}, so that it cannot travel with jobs. Put it there")
        yield found[0], path


def named(config: Config) -> Iterator[tuple[Keys, str]]:
    """The files that stages read and that travel, each with the key that names it."""
    yield from config.skim_files()
    if config.skim:
        for spec in (config.skim.selection or "", *config.skim.modules):
            if spec.rpartition(":")[0].endswith(".py"):
                yield ("skim",), spec.rpartition(":")[0]
    if config.train and config.train.model.rpartition(":")[0].endswith(".py"):
        yield ("train", "model"), config.train.model.rpartition(":")[0]
    if config.train and config.train.start:
        yield ("train", "init"), config.train.start.file
    for model in (config.score.model or ()) if config.score else ():
        yield ("score", "model"), model
        if config.path(model).with_suffix(".json").is_file():
            yield ("score", "model"), str(Path(model).with_suffix(".json"))


def environment(training: bool, directory: Path) -> Path:
    """Pack the packages that stages need, from this environment: a worker needs only the same version of Python.

    Those of training have torch, which is larger than all that the other stages need. An error if NanoML was not installed
    by pip here.
    """
    entries: list[ArchiveEntry] = []
    extras = ["data", "xrootd", "corrections", *(["train"] if training else [])]
    try:
        names = _closure("nanoml", extras)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            "batch.environment: packed takes the packages that pip installed with NanoML, and it did not install it here. "
            "In a virtual environment: pip install '.[all]'; in CMSSW: batch.environment: cmssw."
        ) from None
    for name in sorted(names):
        distribution = importlib.metadata.distribution(name)
        root = Path(str(distribution.locate_file("")))
        for file in distribution.files or ():
            path = root / file
            if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
                entries.append((f"site/{file}", path))
    return pack("environment", entries, directory)


def _closure(name: str, extras: Collection[str]) -> set[str]:
    """The requirements of a distribution with these extras, and theirs, as far as they are installed; without itself."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    todo = [(name, "")]
    while todo:
        current, extra = todo.pop()
        for requirement in map(Requirement, importlib.metadata.distribution(current).requires or []):
            wanted = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": it}) for it in ("", extra, *(extras if current == name else ()))
            )
            key = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if wanted and key not in found and key != name:
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                    importlib.metadata.distribution(key)
                    found.add(key)
                    todo += [(key, ""), *((key, it) for it in requirement.extras)]
    return found


def cmssw_area(directory: Path) -> Path:
    """Pack the user's CMSSW area, as CRAB does, and the scripts of its packages; an error if there is no area."""
    base = os.environ.get("CMSSW_BASE")
    if not base or not os.environ.get("CMSSW_VERSION"):
        raise ConfigError(
            "batch.environment: cmssw needs a CMSSW area: cd to its src and run cmsenv. Or choose packed or container."
        )
    entries: list[ArchiveEntry] = []
    for name in _CMSSW:
        entries += files_below(Path(base, name), name, follow=True)  # python/ is links to the packages' own
    for package in sorted(Path(base, "src").glob("*/*")):
        for name in ("data", "interface", "python", "scripts"):
            entries += files_below(package / name, f"src/{package.parent.name}/{package.name}/{name}")
    return pack("cmssw", entries, directory)


def files_below(folder: Path, name: str, suffixes: tuple[str, ...] = (), follow: bool = False) -> list[ArchiveEntry]:
    """All files below a folder, under `name` in an archive; hidden files and what Python makes are left out.

    Symbolic links to files are followed; those to directories only on request. Without `suffixes`, all files are wanted.
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


def pack(kind: str, entries: Iterable[ArchiveEntry], directory: Path) -> Path:
    """Make an archive, KIND-HASH.tar.gz, unless it exists already; return its path.

    An error if a file cannot be read, or the archive cannot be written.
    """
    chosen = sorted(dict(entries).items())
    digest = hashlib.sha256()
    for name, path in chosen:
        try:
            digest.update(f"{name}\0{os.access(path, os.X_OK)}\0{file_hash(path)}".encode())
        except OSError as problem:
            raise explain_os_error(problem, path, "read") from None
    archive = make_directory(directory) / f"{kind}-{digest.hexdigest()[:16]}.tar.gz"
    if not archive.is_file():
        with (
            replacing(archive) as aside,
            open(aside, "wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, path in chosen:
                about = tarfile.TarInfo(name)
                about.size = path.stat().st_size
                about.mode = 0o755 if os.access(path, os.X_OK) else 0o644
                with open(path, "rb") as content:
                    tar.addfile(about, content)
    return archive
