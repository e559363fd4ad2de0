"""Where jobs run: what is special at a site, and what must hold before anything is submitted there.

A site is a YAML file, which users may write for a cluster of their own. A job that cannot work must not find that out in
the queue.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from MLTools.NanoML.batch import payload
from MLTools.NanoML.batch.job import url_of
from MLTools.NanoML.batch.system import BatchSite, Place, counted, system_of
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.batch import SYSTEMS
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio.remote.server import is_remote, on_cvmfs
from MLTools.NanoML.schema.document import Document
from MLTools.NanoML.schema.settings import json_schema, parse
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.task import Task

_FOLDER = Path(__file__).parent / "sites"
_QUEUE = timedelta(hours=4)  # that a job may wait while its proxy grows old
_HERE = ("localhost", "127.0.0.1", "[::1]")


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
            more = f" and {counted(len(shared) - 1, 'more file')}" if len(shared) > 1 else ""
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
    return os.path.realpath(path) in [os.path.realpath(config.path(name)) for _, name in payload.named(config)]


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
