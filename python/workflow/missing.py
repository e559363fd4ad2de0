"""What becomes of a run where files of datasets cannot be read: whether the user allows that loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Union

from MLTools.NanoML.contracts import missing
from MLTools.NanoML.errors import UnreadableError
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.failures import FailedTasksError
from MLTools.NanoML.workflow.runner import Stage, plan, run
from MLTools.NanoML.workflow.task import Task

__all__ = ["forgive", "look_again", "note_read", "run_stage"]

Files = Mapping[str, Sequence[str]]
"""The files of each dataset."""


def forgive(failed: FailedTasksError, files: Files, workdir: Path, limit: Union[int, str]) -> None:
    """Note the files that could not be read as missing, if no more are than may be.

    Parameters
    ----------
    failed
        What happened.
    files
        All files of each dataset.
    workdir
        Where it is noted.
    limit
        As `read.max_missing_files`.

    Raises
    ------
    FailedTasksError
        More are missing, or something else failed.
    """
    owners = {file: name for name, paths in files.items() for file in paths}
    lost: dict[str, dict[str, str]] = {}
    for problem in failed.failures.values():
        if not isinstance(problem, UnreadableError) or problem.path not in owners:
            raise failed
        lost.setdefault(owners[problem.path], {})[problem.path] = str(problem)
    now = {name: {**_unread(workdir, name, failed.tasks), **gone} for name, gone in lost.items()}
    too_many = [name for name in now if len(now[name]) > missing.allowed(limit, len(files[name]))]
    if too_many:
        share = max((_share(len(now[name]), len(files[name])) for name in too_many), key=_as_number)
        more = "a loss" if missing.allowed(limit, 1 << 30) == 0 else f"a larger loss than {limit}"
        raise FailedTasksError(
            failed.tasks, failed.failures, f", or allow {more} with --max-missing-files {share}"
        )
    note_read(failed.tasks, files, workdir)
    missing.record(workdir, now)
    for line in missing.lines({name: missing.read(workdir)[name] for name in now}):
        say(f"  {line}")


def run_stage(stage: Stage, files: Sequence[str], workdir: Path, force: bool, limit: Union[int, str]) -> None:
    """Run one stage, each of whose tasks reads one of `files` first. Hold the lock of `workdir`.

    Raises
    ------
    FailedTasksError
        Something failed that is not a loss that is allowed.
    """
    try:
        run(plan([stage], workdir, force), workdir)
    except FailedTasksError as failed:
        forgive(failed, {"": files}, workdir, limit)
        gone = {each.file for each in missing.read(workdir)[""]}
        left = [task for task in stage.tasks if task.inputs[0] not in gone]
        run(plan([replace(stage, tasks=left)], workdir), workdir)
    else:
        note_read(stage.tasks, {"": files}, workdir)


def note_read(tasks: Sequence[Task], files: Files, workdir: Path) -> None:
    """Note that what tasks read is not missing, if it was."""
    before = missing.read(workdir)
    missing.record(workdir, {name: _unread(workdir, name, tasks) for name in before if name in files})


def look_again(workdir: Path) -> None:
    """Try to open what is missing, and note what is there again."""
    for name, files in missing.read(workdir).items():
        missing.record(workdir, {name: dict(_still_missing(files))})


def _still_missing(files: Iterable[missing.Missing]) -> Iterable[tuple[str, str]]:
    from MLTools.NanoML.rootio.rootfile import RootFile  # awkward takes half as long to import as all else

    for each in files:
        try:
            RootFile(each.file).close()
        except UnreadableError as problem:
            yield each.file, str(problem)


def _unread(workdir: Path, dataset: str, tasks: Sequence[Task]) -> dict[str, str]:
    """What is missing of a dataset and was not read by tasks."""
    inputs = {path for task in tasks for path in task.inputs}
    before = missing.read(workdir).get(dataset, ())
    return {each.file: each.reason for each in before if each.file not in inputs}


def _share(number: int, total: int) -> str:
    """The smallest loss that one would allow: 1% if that is enough."""
    return "1%" if number * 100 <= total else str(number)


def _as_number(share: str) -> int:
    return 0 if share == "1%" else int(share)
