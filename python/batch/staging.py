"""Files of a job where workers do not see those of the submitting machine: fetched before, delivered after."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import is_aside, make_directory
from MLTools.NanoML.batch.job import Job, TaskNames
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootio.remote.url import is_remote
from MLTools.NanoML.workflow.task import Task

__all__ = ["Staging", "url_of"]


def url_of(path: str, storage: Mapping[str, str]) -> Optional[str]:
    """The URL by which a worker reaches a file of the submitting machine; None if it does not.

    Parameters
    ----------
    path
        The file.
    storage
        Regular expressions of the beginnings of paths, and what they are on the network: "/eos/user/" and
        "root://eosuser.cern.ch//eos/user/".
    """
    for pattern, url in storage.items():
        found = re.match(pattern, path)
        if found:
            return found.expand(url) + path[found.end() :]
    return None


@dataclass(frozen=True)
class Staging:
    """Where a job's files are on this machine, and on the storage.

    Attributes
    ----------
    workdir, base
        Directories where the job was submitted.
    storage
        As in `Job`; None where this machine sees the same files.
    scratch
        Directory of the job on this machine.
    directly
        Inputs that are read over the network, by their names where the job was submitted.
    delivered
        Files of folders that the storage has, as they were when they were fetched or delivered.
    """

    workdir: str
    base: str
    storage: Optional[Mapping[str, str]]
    scratch: Path
    directly: Mapping[str, str] = field(default_factory=dict)
    delivered: dict[Path, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, scratch: Path) -> Staging:
        """That of a job, whose own directory is `scratch`."""
        directly = {}
        if job.storage is not None:
            files = [name for task in job.names() for name in task.inputs if name.endswith(".root")]
            urls = {
                name: url_of(name, job.storage) for name in files if not is_remote(name)
            }  # ROOT reads only what it needs
            directly = {name: url for name, url in urls.items() if url is not None}
        return cls(job.workdir, job.base, job.storage, scratch, directly)

    def rename(self, text: str) -> str:
        """What a path of the submitting machine is on this one; any other text stays."""
        if self.storage is None or not text.startswith("/"):
            return text
        if text in self.directly:
            return self.directly[text]
        for before, now in ((self.workdir, "work"), (self.base, "base")):
            if text == before or text.startswith(before + "/"):
                return str(self.scratch / now) + text[len(before) :]
        if url_of(text, self.storage) is not None:
            return str(self.scratch / "other") + text
        return text

    def fetch(self, task: Task, names: TaskNames) -> None:
        """Get the inputs that are not read over the network, and the folders of a task.

        Raises
        ------
        NanoMLError
            One cannot be had.
        """
        if self.storage is None:
            return
        from MLTools.NanoML.rootio.remote import storage

        for name, path in zip(names.inputs, task.inputs):
            if not is_remote(path) and not os.path.exists(path):
                make_directory(Path(path).parent)
                storage.copy(self._url(name), path)
        for folder, name in self._folders(task):
            url = self._url(name)
            if storage.exists(url):
                found = storage.fetch_directory(url, folder)
                self.delivered.update((path, _version(path)) for path in found)

    def deliver(self, task: Task, names: TaskNames) -> None:
        """Put the outputs, and the folders of a task, where they belong.

        Raises
        ------
        NanoMLError
            The storage does not take one.
        """
        if self.storage is None:
            return
        from MLTools.NanoML.rootio.remote import storage

        self.deliver_folders(task)
        for name, path in zip(names.outputs, task.outputs):
            if self.delivered.get(path) != _version(path):
                storage.copy(path, self._url(name))

    def deliver_folders(self, task: Task) -> None:
        """Put the folders of a task where they belong, as they are: another attempt goes on with them.

        What has not changed since it was fetched stays as it is: a later time would make it look new. What has been
        removed since is removed there. The outputs come last, since they say that the rest is there.
        """
        if self.storage is None:
            return
        from MLTools.NanoML.rootio.remote import storage

        for folder, name in self._folders(task):
            gone = [path for path in self.delivered if folder in path.parents and not path.exists()]
            for path in gone:
                storage.remove(f"{self._url(name)}/{path.relative_to(folder)}", missing_ok=True)
                del self.delivered[path]
            found = [path for path in folder.rglob("*") if path.is_file() and not is_aside(path)]
            for path in sorted(found, key=lambda path: (path in task.outputs, path)):
                version = _version(path)
                if self.delivered.get(path) != version:
                    storage.copy(path, f"{self._url(name)}/{path.relative_to(folder)}")
                    self.delivered[path] = version

    def clear(self, task: Task) -> None:
        """Remove what has been delivered, or has failed: the next task may need the room."""
        if self.storage is None:
            return
        for path in task.outputs:
            path.unlink(missing_ok=True)
        for folder in task.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def is_there(self, outputs: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the outputs of an earlier attempt are as it left them."""
        return all(self._is_there(output) for output in outputs)

    def _is_there(self, output: Mapping[str, Any]) -> bool:
        if self.storage is not None:
            from MLTools.NanoML.rootio.remote import storage

            url = self._url(output["path"])
            return storage.exists(url) and storage.size(url) == output["size"]
        try:
            status = os.stat(output["path"])
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (output["size"], output["modified"])

    def _folders(self, task: Task) -> list[tuple[Path, str]]:
        before, now = self.workdir, str(self.scratch / "work")
        return [(folder, before + str(folder)[len(now) :]) for folder in task.folders]

    def _url(self, name: str) -> str:
        url = url_of(name, self.storage or {})
        if url is None:
            raise ConfigError(
                f"{name}: workers do not see it. Put it where they do: {', '.join(self.storage or {})}."
            )
        return url


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
