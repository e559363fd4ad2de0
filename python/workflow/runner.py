"""Runs the tasks that are missing or out of date, in order of their stages, and keeps the records."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MLTools.NanoML.atomic import remove_leftovers
from MLTools.NanoML.errors import NanoMLError, UnreadableError, told_once
from MLTools.NanoML.parallel import RECORDS, begin_worker, worker_pool
from MLTools.NanoML.terminal.progress import check_interrupt, notes, progress, say, say_once
from MLTools.NanoML.workflow.task import Stamp, Task, forget, read_record, reason_to_run, stamps, write_record

_MOST = 20  # messages that are listed


@dataclass(frozen=True)
class Stage:
    """All tasks of one stage, which are independent of each other."""

    name: str  # "skim", "train", ...
    tasks: Sequence[Task]
    workers: int = 1  # how many tasks run at the same time; 1 runs them in this process
    # the result in lines, given what the work of each task returned, by the task's name
    summary: Callable[[Mapping[str, Mapping[str, Any]]], Sequence[str]] = lambda _: ()
    of: str = "files"  # what its tasks are counted as


@dataclass(frozen=True)
class Planned:
    """A stage, and the reason why each of its tasks is to be run, by its name; tasks that are up to date have none."""

    stage: Stage
    reasons: Mapping[str, str]

    @property
    def todo(self) -> list[Task]:
        """The tasks that are to be run."""
        return [task for task in self.stage.tasks if task.name in self.reasons]

    def lines(self) -> list[str]:
        """The plan in words, one line per reason."""
        total = len(self.stage.tasks)
        if not self.reasons:
            return [f"{self.stage.name}: up to date ({total} of {total})"]
        lines = [f"{self.stage.name}: {len(self.reasons)} of {total} to do"]
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.reasons.items():
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"  {', '.join(names[:3])}{more}: {reason}")
        return lines


class FailedTasksError(NanoMLError):
    """Some of a stage's tasks failed, by their names; the others are done.

    The hint says what else can be done if files cannot be read; it follows "Run the same command again to retry".
    """

    def __init__(self, tasks: Sequence[Task], failures: Mapping[str, NanoMLError], hint: str = "") -> None:
        self.stage, self.tasks, self.failures = tasks[0].stage, tasks, dict(failures)
        super().__init__("\n".join(self._lines(hint)))

    @property
    def is_unreadable(self) -> bool:
        """Whether all that failed is that files of events cannot be read."""
        return all(isinstance(problem, UnreadableError) for problem in self.failures.values())

    def _lines(self, hint: str) -> Iterator[str]:
        total, failed = len(self.tasks), len(self.failures)
        done = total - failed
        paths = {task.name: (*task.inputs, *map(str, task.outputs)) for task in self.tasks}
        messages = told_once(
            (name, f"{self.stage} {name}: {problem}", paths[name]) for name, problem in self.failures.items()
        )
        yield from messages[:_MOST]
        if len(messages) > _MOST:
            yield f"and {len(messages) - _MOST} more."
        if self.is_unreadable:
            it, kind = "it" if failed == 1 else "them", "files " if self.stage in ("skim", "score") else ""
            others = f"; {done} of {total} {kind}are done" if total > 1 else ""
            yield f"Nothing was written for {it}{others}. Run the same command again to retry{hint}."
        elif total > 1:
            yield f"{failed} of {total} failed, {done} are done. Fix this, then run the same command again."


def plan(stages: Sequence[Stage], workdir: Path, force: bool = False) -> list[Planned]:
    """What must be run, and why; with `force` all tasks, even those that are up to date.

    An error if two tasks make the same file, or one would overwrite its input.
    """
    _spare_sources([task for stage in stages for task in stage.tasks])
    renewed: set[str] = set()
    made: dict[str, str] = {}
    planned = []
    for stage in stages:
        reasons = {}
        for task in stage.tasks:
            for path in task.outputs:
                other = made.setdefault(str(path), f"{stage.name} {task.name}")
                if other != f"{stage.name} {task.name}":
                    raise NanoMLError(f"{path}: is made both by {other} and by {stage.name} {task.name}.")
            reason = reason_to_run(task, workdir / RECORDS, renewed)
            if reason or force:
                reasons[task.name] = reason or "you asked for it"
                renewed.update(str(path) for path in task.outputs)
        planned.append(Planned(stage, reasons))
    return planned


def _spare_sources(tasks: Sequence[Task]) -> None:
    """Refuse to overwrite a file that is read, unless an earlier task made it."""
    outputs = {str(path) for task in tasks for path in task.outputs}
    made = {os.path.realpath(path) for path in outputs}
    for task in tasks:
        own = {str(path) for path in task.outputs}
        for path in task.inputs:
            if (path in own or path not in outputs) and os.path.realpath(path) in made:
                raise NanoMLError(
                    f"{path}: would be overwritten by {task.stage}. Choose another directory for the output."
                )


def run(planned: Sequence[Planned], workdir: Path) -> None:
    """Run what was planned. Hold the lock of `workdir` (see `locked`) while planning and running.

    The record of a task is written last, after its output: the next run continues one that was killed at any moment. If
    tasks fail, the others of the same stage are done before FailedTasksError is raised; later stages are not begun.
    """
    records = workdir / RECORDS
    remove_leftovers(workdir)
    for each in planned:
        check_interrupt()
        for line in each.lines():
            say(line)
        stage, todo = each.stage, each.todo
        for task in todo:
            forget(task, records)
        workers = min(stage.workers, len(todo))
        failures = _run_pool(stage, todo, records, workers) if workers > 1 else _run_here(todo, records)
        if failures:
            raise FailedTasksError(stage.tasks, failures)
        done = {task.name: read_record(task, records) for task in stage.tasks}
        # may write a file, even if there was nothing to do
        lines = stage.summary({name: record.summary if record else {} for name, record in done.items()})
        for line in lines if todo else ():
            say(f"  {line}")


def _run_here(todo: Sequence[Task], records: Path) -> dict[str, NanoMLError]:
    failures = {}
    for task in todo:
        check_interrupt()
        try:
            _work(task).note(task, records)
        except NanoMLError as problem:
            failures[task.name] = problem
    return failures


@dataclass(frozen=True)
class _Outcome:
    """What the work of a task returned, its inputs when it began, how long it took [s], and the notes of its process."""

    summary: Mapping[str, Any]
    inputs: Sequence[Stamp]
    seconds: float
    notes: Mapping[str, str]

    def note(self, task: Task, records: Path) -> None:
        """Print the notes, and write the record of the task."""
        for key, text in self.notes.items():
            say_once(key, text)
        write_record(task, records, self.inputs, self.summary, self.seconds)


def _work(task: Task) -> _Outcome:
    begin, inputs = time.monotonic(), stamps(task)
    summary = task.do()
    return _Outcome(summary, inputs, time.monotonic() - begin, notes())


def _run_pool(stage: Stage, todo: Sequence[Task], records: Path, workers: int) -> dict[str, NanoMLError]:
    failures: dict[str, NanoMLError] = {}
    module = getattr(todo[0].work, "func", todo[0].work).__module__
    with worker_pool(workers, module, begin_worker) as pool, progress(stage.name, len(todo), stage.of) as bar:
        running = {pool.submit(_work, task): task for task in todo}
        pending = set(running)
        while pending:
            # Python handles a signal that came just before it began to wait only when the wait ends
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    future.result().note(running[future], records)
                except NanoMLError as problem:
                    failures[running[future].name] = problem
                except BrokenProcessPool:
                    failures[running[future].name] = NanoMLError(
                        "the process that did it was killed, maybe for lack of memory: lower the chunk or the number of workers"
                    )
                bar.advance()
    return failures
