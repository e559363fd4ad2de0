"""Where jobs run: what is special at a site, what travels there, and what must hold before anything is submitted.

A site is a YAML file, which users may write for a cluster of their own. A job that cannot work must not find that out in
the queue. Code, the user's files and packages travel to machines that do not see them, as archives named after their
content, so that the same content is packed once.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import socket
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from MLTools import NanoML
from MLTools.NanoML.atomic import file_hash, make_directory, replacing
from MLTools.NanoML.batch.job import BASE, CORRECTIONS, url_of
from MLTools.NanoML.batch.system import BatchSite, Place, system_of
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.batch import SYSTEMS
from MLTools.NanoML.errors import ConfigError, NanoMLError, explain_os_error, plural
from MLTools.NanoML.extending import folders, naming
from MLTools.NanoML.rootio.remote.server import is_remote, on_cvmfs
from MLTools.NanoML.schema.document import Document, Keys
from MLTools.NanoML.schema.settings import json_schema, parse
from MLTools.NanoML.stages import PARTS
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Task

ArchiveEntry = tuple[str, Path]
"""A name in an archive, and the file that is stored under it."""

_SKIPPED = {"__pycache__", ".git", ".svn", "node_modules"}
_MOST = 50 << 20  # bytes of a user's own files, which travel with each job
_LEVEL = 4  # 6 takes 70 % longer, for archives that are 3 % smaller
_CMSSW = ("bin", "python", "cfipython", "lib", "biglib", "module")
_FOLDER = Path(__file__).parent / "sites"
_QUEUE = timedelta(hours=4)  # that a job may wait while its proxy grows old
_HERE = ("localhost", "127.0.0.1", "[::1]")


def packed_code(config: Config, directory: Path) -> Path:
    """Pack NanoML and the user's own files, which lie beside the YAML file or in the directory of corrections.

    An error if a file of the configuration is elsewhere, or the files are too large to travel.
    """
    package = Path(NanoML.__path__[0]).resolve()
    entries = files_below(package, "lib/MLTools/NanoML")
    for part in PARTS:
        spec = importlib.util.find_spec(part)
        if spec is not None and spec.submodule_search_locations:
            entries += files_below(Path(spec.submodule_search_locations[0]).resolve(), f"lib/{part}")
    for name, folder in folders().items():
        found = files_below(folder, f"lib/{name.replace('.', '/')}")
        entries += [it for it in found if "test" not in it[1].relative_to(folder).parts]
    entries += [(f"lib/{it.parent.name}/{it.name}", it) for it in naming()]
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


def packed_environment(training: bool, directory: Path) -> Path:
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
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, path in chosen:
                about = tarfile.TarInfo(name)
                about.size = path.stat().st_size
                about.mode = 0o755 if os.access(path, os.X_OK) else 0o644
                with open(path, "rb") as content:
                    tar.addfile(about, content)
    return archive


def load_site(name: Optional[str], base: Path) -> BatchSite:
    """The site "cern" or "shared", or that of a YAML file relative to `base`; None to follow from the name of this machine.

    An error if there is no such site, or its file is wrong.
    """
    if name is None:
        name = "cern" if socket.getfqdn().endswith(".cern.ch") else "shared"
    shipped = {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}
    path = shipped.get(name, base / name)
    if not path.is_file():
        known = ", ".join(shipped)
        raise ConfigError(f'batch.site: "{name}" is not a site, and not a YAML file in {base}. Known: {known}.')
    document = Document.read(path)
    site = parse(BatchSite, document, json_schema(BatchSite))
    problems = []
    for pattern, url in site.storage.items():
        try:
            # a pattern that matches anything has the same groups
            found = re.compile(f"(?:{pattern})?").match("")
            assert found is not None
            found.expand(url)
        except (re.error, IndexError) as problem:
            why = f"is not a regular expression, or its URL names a group that it does not have: {problem}"
            problems.append((("storage", pattern), why))
    if problems:
        raise document.error(problems)
    return replace(site, name=Path(name).stem)


def place_of(config: Config, on: Optional[str]) -> Place:
    """Where jobs run: on the system named, else that of the configuration, else that of the site.

    An error if none is named, or the analysis cannot work there.
    """
    site = load_site(config.batch.site, config.base)
    name = on or config.batch.on or site.on
    if name is None:
        *first, last = SYSTEMS
        raise config.error("batch", message=f"say where jobs run: --on {', '.join(first)} or {last}")
    system = system_of(name)
    environment = "here" if system.where == "here" else config.batch.environment or site.environment
    place = Place(site, system, environment)
    if system.where != "grid":
        check_place(config, place)
    return place


def check_place(config: Config, place: Place) -> None:
    """Refuse what cannot work at a site."""
    site, system = place.site, place.system
    workdir = Layout.of(config).workdir
    for beginning, why in site.not_from.items():
        if f"{config.base}/".startswith(beginning) and system.where != "here":
            raise ConfigError(f"{config.where()}: {why}.")
    system.check(config, workdir)
    if place.environment == "container" and not config.batch.image:
        raise config.error("batch", "image", message="say which image the container is made from")
    if place.is_shared:
        return
    if not system.sends_files:
        message = f"on {system.title} workers must see the same files, and site {site.name} says that they do not"
        raise config.error("batch", "site", message=message)
    if url_of(f"{workdir}/", site.storage) is None:
        where = ", ".join(site.storage) or "nothing is named in `storage` of the site"
        message = f"workers at site {site.name} cannot write to {workdir}. Put it where they can: {where}"
        raise config.error("workdir", message=message)
    if place.environment == "here" and not system.brings_python:
        message = f"workers at site {site.name} do not see this environment. Choose packed, cmssw or container"
        raise config.error("batch", "environment", message=message)


def check_search(config: Config, place: Place) -> None:
    """Refuse a search whose workers could not exchange their results."""
    if not place.is_shared:
        message = (
            f"a search needs workers that see the same files, and site {place.site.name} says that they do not. "
            "Run it here (nanoml tune), or submit it --on local"
        )
        raise config.error("batch", "site", message=message)


def check_inputs(config: Config, todo: Mapping[str, Sequence[Task]], storage: Optional[Mapping[str, str]]) -> None:
    """Refuse tasks whose inputs will not be there when they begin."""
    made: set[str] = set()
    for stage, tasks in todo.items():
        paths = list(dict.fromkeys(path for task in tasks for path in task.inputs))
        shared = [path for path in paths if on_cvmfs(path)]
        if shared:
            more = f" and {plural(len(shared) - 1, 'more file')}" if len(shared) > 1 else ""
            say(f"{stage}: jobs read {shared[0]}{more} on CVMFS, which workers must have mounted.")
        for path in paths:
            if is_remote(path):
                continue
            if path not in made and not os.path.exists(path):
                raise NanoMLError(f"{path}: no such file; {stage} needs it. Run or submit the earlier stages first.")
            if storage is None or path in shared:
                continue
            if url_of(path, storage) is None and not _travels(config, path):
                raise ConfigError(
                    f"{path}: workers do not see it, and {stage} reads it. Put it where they do: {', '.join(storage)}."
                )
        made.update(str(path) for task in tasks for path in task.outputs)


def _travels(config: Config, path: str) -> bool:
    """Whether a file goes with each job, because the configuration names it."""
    return os.path.realpath(path) in [os.path.realpath(config.path(name)) for _, name in named(config)]


def needs_credential(tasks: Iterable[Task]) -> bool:
    """Whether tasks read files of the grid; files of a server on this machine are not."""
    urls = {path for task in tasks for path in task.inputs if path.startswith(("root://", "roots://"))}
    return any(urlsplit(url).netloc.rpartition("@")[2].rpartition(":")[0] not in _HERE for url in urls)


def usable_credentials(longest: int, shared: bool) -> tuple[Optional[str], Optional[str]]:
    """The paths of the proxy, which must be valid for the longest job [s], and of the bearer token, which must be valid now.

    Either may be None. With `shared`, workers read them where they are. An error if neither can be used, or workers see neither.
    """
    from MLTools.NanoML.grid.proxy import Proxy, duration
    from MLTools.NanoML.grid.token import ITSELF, VARIABLE, Token, check_access

    needed = _QUEUE + timedelta(seconds=longest)
    found = {type(it): it for it in check_access(needed)}
    paths = {kind: os.path.abspath(it.path) for kind, it in found.items() if str(it.path) != ITSELF}
    seen = {kind: path for kind, path in paths.items() if not (shared and path.startswith(("/tmp/", "/run/")))}
    remedy = {
        Proxy: "workers do not see /tmp of this machine. Make the proxy at the usual place: nanoml proxy init",
        Token: f"workers do not see it. Write the token to a file of mode 600 that they see, and let {VARIABLE} name it",
    }
    if not seen:
        raise NanoMLError("\n".join(f"{it.path}: {remedy[kind]}" for kind, it in found.items()))
    if Proxy not in seen and found[Token].left() < needed:
        say(
            f"The {found[Token]} is valid for {duration(found[Token].left())}: renew it there until the jobs have ended."
        )
    return seen.get(Proxy), seen.get(Token)
