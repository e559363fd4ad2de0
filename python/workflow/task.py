"""A task: inputs, settings and code in, outputs out; and the record that tells whether it is up to date."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML import __version__
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.dependencies import changed
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.remote.url import is_remote

__all__ = [
    "Task",
    "accept",
    "forget",
    "read_record",
    "reason_to_run",
    "stamps",
    "write_record",
]


@dataclass(frozen=True)
class Task:
    """One piece of work of a stage: what it reads, what it makes, and how.

    Attributes
    ----------
    stage
        The stage that it belongs to.
    name
        Unique in its stage; may have slashes.
    inputs
        Files and URLs that it reads.
    outputs
        Files that it makes. The first one stands for the task.
    settings
        All settings that its result depends on, as JSON could hold them.
    code
        `dependencies.code_of` what its result depends on; the tasks of a stage share it.
    work
        Does it, and returns a summary for the record. It must be picklable.
    memory
        Files by which work that was interrupted goes on where it was. They are removed before work that was done is
        done again.
    folders
        Directories that it reads and writes beside its inputs and outputs.
    """

    stage: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[Path, ...]
    settings: Mapping[str, Any]
    code: str
    work: Callable[[], Mapping[str, Any]] = field(compare=False)
    memory: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()


def _stamp(path: str) -> dict[str, Any]:
    """What tells a file's version: size and time of change. A remote file on the grid never changes."""
    if is_remote(path):
        return {"path": path}
    status = os.stat(path)
    return {"path": path, "size": status.st_size, "modified": status.st_mtime_ns}


def _record_path(task: Task, records: Path) -> Path:
    return records / task.stage / f"{task.name}.json"


def read_record(task: Task, records: Path) -> Optional[dict[str, Any]]:
    """The record of a task that was done, or None. A record that cannot be read counts as none."""
    try:
        content = json.loads(_record_path(task, records).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return (
        content
        if isinstance(content, dict) and {"inputs", "outputs", "settings", "code", "version"} <= set(content)
        else None
    )


def write_record(
    task: Task,
    records: Path,
    inputs: list[dict[str, Any]],
    summary: Mapping[str, Any],
    seconds: float,
    **others: Any,
) -> None:
    """Note that a task is done.

    Parameters
    ----------
    task
        The task.
    records
        Directory of all records.
    inputs
        `stamps` of the inputs, taken before it began: what changed meanwhile shows at the next run.
    summary
        What its work returned.
    seconds
        How long it took.
    others
        What else is known, such as the host if it is another one.
    """
    content = {
        "task": f"{task.stage}/{task.name}",
        "inputs": inputs,
        "outputs": [_stamp(str(path)) for path in task.outputs],
        "settings": dict(task.settings),
        "code": task.code,
        "version": __version__,
        "summary": dict(summary),
        "seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        **others,
    }
    write_json(_record_path(task, records), content)


def forget(task: Task, records: Path) -> None:
    """Before a task is done again: it is not done any more, and must not go on from where it was."""
    record = _record_path(task, records)
    if record.exists():
        for path in task.memory:
            path.unlink(missing_ok=True)
        record.unlink()


def stamps(task: Task) -> list[dict[str, Any]]:
    """Versions of a task's inputs now.

    Raises
    ------
    NanoMLError
        One is missing.
    """
    found = []
    for path in task.inputs:
        try:
            found.append(_stamp(path))
        except OSError:
            raise NanoMLError(
                f"{path}: no such file; {task.stage} {task.name} needs it. Run the earlier stages first."
            ) from None
    return found


def reason_to_run(task: Task, records: Path, renewed: Collection[str]) -> Optional[str]:
    """Why a task must be run, in words; None if its outputs are up to date.

    Parameters
    ----------
    task
        The task.
    records
        Directory of all records.
    renewed
        Paths that earlier tasks of the same run make anew.
    """
    record = read_record(task, records)
    missing = [path for path in task.outputs if not path.exists()]
    if record is None:
        return "not done yet" if missing else "there is no record of how its output was made"
    if missing:
        return f"{missing[0]} is missing"
    again = [path for path in task.inputs if path in renewed]
    if again:
        return f"{again[0]} is made anew"
    return _changed_files(task, record) or _changed_settings(task, record) or _changed_code(task, record)


def _changed_files(task: Task, record: Mapping[str, Any]) -> Optional[str]:
    before = {stamp["path"]: stamp for stamp in record["inputs"]}
    added = [path for path in task.inputs if path not in before]
    removed = [path for path in before if path not in task.inputs]
    if added:
        return f"{added[0]} is a new input" + (f" (and {len(added) - 1} more)" if len(added) > 1 else "")
    if removed:
        return f"{removed[0]} is no input any more"
    for stamp in [*record["inputs"], *record["outputs"]]:
        try:
            now = _stamp(stamp["path"])
        except OSError:
            return f"{stamp['path']} is missing"
        if now != stamp:
            return f"{stamp['path']} was changed"
    return None


def _changed_settings(task: Task, record: Mapping[str, Any]) -> Optional[str]:
    before, now = record["settings"], json.loads(json.dumps(dict(task.settings)))
    for key in [*now, *before]:
        if now.get(key) != before.get(key):
            return f"{key} was changed from {_short(before.get(key))} to {_short(now.get(key))}"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _changed_code(task: Task, record: Mapping[str, Any]) -> Optional[str]:
    if record["code"] == task.code:
        return None
    if record["version"] != __version__:
        return f"NanoML {__version__} does it differently from {record['version']}, which did it before"
    modules = changed(record["code"], task.code)
    if not modules:
        return "the code that does it was changed"
    return f"{modules[0]} was changed" + (f" (and {len(modules) - 1} more)" if len(modules) > 1 else "")


def accept(task: Task, records: Path, dry_run: bool = False) -> Optional[str]:
    """Take what a task has made as up to date, if nothing but its code was changed; the record says so from then on.

    Returns
    -------
    How the code was changed; None if that is not the reason to do the task again.
    """
    record = read_record(task, records)
    reason = reason_to_run(task, records, ())
    if record is None or reason is None or reason != _changed_code(task, record):
        return None
    if not dry_run:
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        accepted = [*record.get("accepted", []), {"code": record["code"], "because": reason, "at": now}]
        changes = {"code": task.code, "version": __version__, "accepted": accepted}
        write_json(_record_path(task, records), {**record, **changes})
    return reason
