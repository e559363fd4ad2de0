"""What must hold before anything is submitted: a job that cannot work is not to find it out in the queue."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Optional
from urllib.parse import urlsplit

from MLTools.NanoML.batch.site import Site
from MLTools.NanoML.batch.staging import url_of
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio.remote.url import is_remote
from MLTools.NanoML.workflow.stages import Layout
from MLTools.NanoML.workflow.task import Task

__all__ = ["Place", "check_inputs", "check_place", "check_search", "needs_proxy", "usable_proxy"]

_QUEUE = timedelta(hours=4)  # that a job may wait while its proxy grows old
_MACRO = re.compile(r"\$\w*\(|[\r\n]")
_HERE = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Place:
    """Where jobs run.

    Attributes
    ----------
    site
        The site.
    system
        The batch system.
    environment
        Where a job finds its packages, as batch.environment.
    """

    site: Site
    system: str
    environment: str

    @property
    def is_shared(self) -> bool:
        """Whether workers see the same files."""
        return self.site.shared or self.system == "local"

    @property
    def storage(self) -> Optional[Mapping[str, str]]:
        """As in `Job`."""
        return None if self.is_shared else self.site.storage


def check_place(config: Config, place: Place) -> None:
    """Refuse what cannot work at a site.

    Raises
    ------
    ConfigError
        Jobs cannot be submitted from here, or would not find results or packages.
    """
    if place.system == "crab":  # its jobs see nothing of this machine
        return
    base, workdir = str(config.base), str(Layout.of(config).workdir)
    for beginning, why in place.site.not_from.items():
        if f"{base}/".startswith(beginning) and not place.system == "local":
            raise ConfigError(f"{config.where()}: {why}.")
    if place.system == "condor" and _MACRO.search(f"{base}/{os.path.basename(workdir)}"):
        raise ConfigError(
            f"{config.where()}: HTCondor takes $(...) and line breaks in names of directories for its own language. "
            f"Rename {config.base}, or workdir."
        )
    if place.environment == "container" and not config.batch.image:
        raise config.error("batch", "image", message="say which image the container is of")
    if place.system == "slurm" and not place.is_shared:
        raise config.error(
            "batch",
            "site",
            message=f"on Slurm workers must see the same files, and site {place.site.name} says that they do not",
        )
    if place.is_shared:
        return
    if url_of(workdir + "/", place.site.storage) is None:
        where = ", ".join(place.site.storage) or "nothing is named in `storage` of the site"
        raise config.error(
            "workdir",
            message=f"workers at site {place.site.name} cannot write to {workdir}. Put it where they can: {where}",
        )
    if place.environment == "here":
        raise config.error(
            "batch",
            "environment",
            message=f"workers at site {place.site.name} do not see this environment. Choose packed, cmssw or container",
        )


def check_search(config: Config, place: Place) -> None:
    """Refuse a search whose workers could not tell each other what they found.

    Raises
    ------
    ConfigError
        They do not see the same files.
    """
    if not place.is_shared:
        raise config.error(
            "batch",
            "site",
            message=f"a search needs workers that see the same files, and site {place.site.name} says that they do not. "
            "Run it here (nanoml tune), or submit it --on local",
        )


def check_inputs(
    config: Config, todo: Mapping[str, Sequence[Task]], storage: Optional[Mapping[str, str]]
) -> None:
    """Refuse tasks whose inputs are not there when they begin.

    Raises
    ------
    NanoMLError
        An input is missing, or is where workers do not see it.
    """
    made: set[str] = set()
    for stage, tasks in todo.items():
        for path in dict.fromkeys(path for task in tasks for path in task.inputs):
            if is_remote(path):
                continue
            if path not in made and not os.path.exists(path):
                raise NanoMLError(
                    f"{path}: no such file; {stage} needs it. Run or submit the earlier stages first."
                )
            if storage is not None and url_of(path, storage) is None and not _travels(config, path):
                raise ConfigError(
                    f"{path}: workers do not see it, and {stage} reads it. Put it where they do: {', '.join(storage)}."
                )
        made.update(str(path) for task in tasks for path in task.outputs)


def _travels(config: Config, path: str) -> bool:
    """Whether a file goes with each job, because the configuration names it."""
    skim = config.skim
    named = [name for name in (skim.certified, skim.branches) if name] if skim else []
    return os.path.realpath(path) in [os.path.realpath(config.path(name)) for name in named]


def needs_proxy(tasks: Iterable[Task]) -> bool:
    """Whether tasks read files of the grid; those of a server on this machine are not."""
    urls = {path for task in tasks for path in task.inputs if path.startswith(("root://", "roots://"))}
    return any(urlsplit(url).netloc.rpartition("@")[2].rpartition(":")[0] not in _HERE for url in urls)


def usable_proxy(longest: int, shared: bool) -> str:
    """The path of the proxy, which must be valid as long as the jobs may take.

    Parameters
    ----------
    longest
        The longest time that a job asks for [s].
    shared
        Whether workers read it where it is.

    Raises
    ------
    NanoMLError
        There is none, it ends too early, or workers do not see it.
    """
    from MLTools.NanoML.grid.proxy import check_proxy

    path = str(check_proxy(_QUEUE + timedelta(seconds=longest)).path)
    if _MACRO.search(path):
        raise NanoMLError(
            f"{path}: HTCondor does not take such a name. Make the proxy at the usual place: nanoml proxy init"
        )
    if shared and path.startswith("/tmp/"):
        raise NanoMLError(
            f"{path}: workers do not see /tmp of this machine. Make the proxy at the usual place: nanoml proxy init"
        )
    return path
