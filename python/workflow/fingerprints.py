"""Digests of tasks that are up to date: a run of many with nothing to do looks at their files, and reads no record."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.rootio.remote.server import is_remote
from MLTools.NanoML.workflow.task import Record, Stamp, Task, record_path

_SHARED = 1000  # the inputs that tasks share, such as files of corrections: how many may follow each other


class Fingerprints:
    """What is known of the tasks of a stage, in the directory of all records."""

    def __init__(self, records: Path, stage: str) -> None:
        self._records, self._path = records, records / f"{stage}.txt"
        self._settings: dict[int, tuple[Mapping[str, Any], str]] = {}  # as text, by the identity of what tasks share
        self._input = functools.lru_cache(_SHARED)(_version)

    def read(self) -> frozenset[str]:
        """Those of tasks that were up to date; none if this is not known."""
        try:
            return frozenset(self._path.read_text(encoding="utf-8").split())
        except (OSError, ValueError):
            return frozenset()

    def write(self, found: Collection[str]) -> None:
        """Note those of tasks that are up to date."""
        write_text(self._path, "".join(f"{each}\n" for each in sorted(found)))

    def now(self, task: Task) -> Optional[str]:
        """That of a task with its files as they are; None if one is missing."""
        try:
            inputs, outputs = map(self._input, task.inputs), map(_version, map(str, task.outputs))
            return self._digest(task, inputs, outputs)
        except OSError:
            return None

    def of(self, task: Task, record: Record) -> str:
        """That of a task which was just done, as its record says."""
        return self._digest(task, map(_told, record.inputs), map(_told, record.outputs))

    def _digest(self, task: Task, inputs: Iterable[str], outputs: Iterable[str]) -> str:
        if id(task.settings) not in self._settings:
            self._settings[id(task.settings)] = task.settings, json.dumps(dict(task.settings), sort_keys=True)
        settings, record = self._settings[id(task.settings)][1], _version(record_path(task, self._records))
        text = "\0".join([task.code, settings, record, *inputs, "", *outputs])
        return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=12).hexdigest()


def _version(path: str) -> str:
    if is_remote(path):
        return path
    status = os.stat(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _told(stamp: Stamp) -> str:
    return stamp.path if stamp.size is None else f"{stamp.path} {stamp.size} {stamp.modified}"
