"""An analysis and its stages; their tasks that are missing or out of date are run in order, and the records kept."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from MLTools.NanoML.atomic import remove_leftovers
from MLTools.NanoML.errors import TOO_LITTLE_MEMORY, NanoMLError, UnreadableError, lacks_memory, told_once
from MLTools.NanoML.extending import Declaration
from MLTools.NanoML.observing import sources
from MLTools.NanoML.parallel import RECORDS, begin_worker, worker_pool, workers_for
from MLTools.NanoML.report.page import Site
from MLTools.NanoML.report.section import Style, style_of
from MLTools.NanoML.stages import import_part
from MLTools.NanoML.terminal.progress import check_interrupt, notes, progress, say, say_once
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.records import ASKED, NOT_DONE, Fingerprints, Reason, Records
from MLTools.NanoML.workflow.task import Record, Task, do, look_up
from MLTools.NanoML.workflow.unblinding import Blinded, blinded

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config
    from MLTools.NanoML.contracts.missing import Missing

_MOST = 20  # messages that are listed, and tasks that each show their progress
_AHEAD = 8  # tasks that are handed over to each worker


@dataclass(frozen=True)
class Stage:
    """All tasks of one stage, which are independent of each other."""

    name: str  # "skim", "train", ...
    tasks: Sequence[Task]
    # how many tasks run at the same time; 1 runs them in this process; 0: as many as their inputs are worth
    workers: int = 1
    # the result in lines, given what the work of each task returned, by the task's name
    summary: Callable[[Mapping[str, Mapping[str, Any]]], Sequence[str]] = lambda _: ()
    of: str = "files"  # what its tasks are counted as
    written: Sequence[Path] = ()  # files that the summary writes
    # what the plan says of a task whose inputs change, but for the core, which is all that it reads: it is not done again
    kept: str = ""


@dataclass(frozen=True)
class Analysis:
    """A configuration, its files, and those of each dataset that are left out because they cannot be read."""

    config: Config
    missing: Mapping[str, Sequence[Missing]] = field(default_factory=dict)
    is_retrained: bool = False  # whether networks are trained anew before what is planned

    @functools.cached_property
    def blinded(self) -> Blinded:
        """The data that must not be looked at."""
        return blinded(self.config, self.is_retrained, self.missing)

    @functools.cached_property
    def files(self) -> Mapping[str, list[str]]:
        """All files of each dataset; an error if one has none."""
        datasets = import_part("data_processing.datasets.datasets")
        found: Mapping[str, list[str]] = datasets.resolve_datasets(self.config)
        return found

    def style(self, era: Optional[str] = None) -> Style:
        """The style of the figures and pages of an era, or of the whole analysis."""
        layout, path = Layout.of(self.config), Path(self.config.document.name)
        # `nanoml init` names the directory, not the file
        name = self.config.base.resolve().name if path.stem == "analysis" else path.stem
        pages = ((title, page.relative_to(layout.workdir).as_posix()) for title, page in layout.pages(self.config))
        return replace(style_of(self.config, era), site=Site(name, tuple(pages)))

    def left_out(self, dataset: str) -> set[str]:
        """The files of a dataset that are missing."""
        return {each.file for each in self.missing.get(dataset, ())}

    def stage(self, declared: Declaration) -> Optional[Stage]:
        """A stage of it; None if it does not ask for it.

        An error if a part is missing, a dataset has no files, the selection cannot be imported, and so on.
        """
        if all(getattr(self.config, section) is None for section in declared.sections):
            return None
        module, _, function = declared.maker.partition(":")
        return getattr(import_part(module), function)(self)


@dataclass(frozen=True)
class Planned:
    """A stage, and the reason why each of its tasks is to be run, by its name; tasks that are up to date have none."""

    stage: Stage
    reasons: Mapping[str, Reason]
    # fingerprints of tasks that are up to date, and whether all that follows from them was done before
    fingerprints: Collection[str] = ()
    is_settled: bool = False
    kept: Mapping[str, str] = field(default_factory=dict)  # why inputs of tasks will be rebuilt, but not their core
    anew: bool = False  # whether they are run without what was kept to spare work

    @property
    def todo(self) -> list[Task]:
        """The tasks that are to be run."""
        return [task for task in self.stage.tasks if task.name in self.reasons]

    def lines(self) -> list[str]:
        """The plan in words, one line per reason; files that concern one task each, as its input, are one reason.

        That nothing has been done yet needs no reason.
        """
        total = len(self.stage.tasks)
        if not self.reasons:
            kept = self.stage.kept and [f"  {name}: {self.stage.kept.format(why)}" for name, why in self.kept.items()]
            return [f"{self.stage.name}: up to date ({total} of {total})", *kept]
        lines = [f"{self.stage.name}: {len(self.reasons)} of {total} to do"]
        if len(self.reasons) == total and set(self.reasons.values()) == {NOT_DONE}:
            return lines
        by_reason: dict[Reason, list[str]] = {}
        for name, reason in self.reasons.items():
            by_reason.setdefault(reason, []).append(name)
        by_kind: dict[str, dict[str, list[str]]] = {}
        for reason, names in by_reason.items():
            by_kind.setdefault(reason.kind if len(names) == 1 and reason.kind else reason, {})[reason] = names
        for found in by_kind.values():
            names, others = list(itertools.chain(*found.values())), len(found) - 1
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"  {', '.join(names[:3])}{more}: {next(iter(found))}{f' (and {others} more)' * bool(others)}")
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


def plan(stages: Sequence[Stage], workdir: Path, force: bool = False, base: Optional[Path] = None) -> list[Planned]:
    """The tasks that must be run, and why; with `force` all tasks, even those that are up to date.

    `base` is the directory of the YAML file, if there is one: it may be moved together with the work directory.
    An error if two tasks make the same file, or one would overwrite its input.
    """
    records, renewed, touched = Records(workdir / RECORDS, base), dict[str, str](), dict[str, str]()
    made: dict[str, Task] = {}
    planned = []
    look_up(path for stage in stages for task in stage.tasks for path in task.inputs)
    for stage in stages:
        fingerprints, found = Fingerprints(records, stage.name), list[str]()
        reasons, kept = dict[str, Reason](), dict[str, str]()
        before = fingerprints.read()
        is_settled = all(path.exists() for path in stage.written)
        for task in stage.tasks:
            for path in task.outputs:
                other = made.setdefault(str(path), task)
                if other is not task:
                    raise NanoMLError(
                        f"{path}: is made both by {other.stage} {other.name} and by {stage.name} {task.name}."
                    )
            now, reason, near = fingerprints.now(task), None, [path for path in task.inputs if path in touched]
            if now is None or now not in before or near or not renewed.keys().isdisjoint(task.inputs):
                reason, is_settled = records.reason(task, renewed, touched), False
            if reason is not None or force:
                why = reasons[task.name] = reason or Reason(ASKED)
                why.spares_core = why.spares_core and not force
                outdated = touched if why.spares_core else renewed
                outdated.update((str(path), why.cause) for path in task.outputs)
            elif now is not None:
                found.append(now)
                kept.update((task.name, touched[path]) for path in near[:1])
        planned.append(Planned(stage, reasons, found, is_settled, kept, force))
    if renewed or touched:
        _spare_sources([task for stage in stages for task in stage.tasks], made, {*renewed, *touched})
    return planned


def _spare_sources(tasks: Sequence[Task], outputs: Container[str], renewed: Collection[str]) -> None:
    """Refuse to overwrite a file that is read, unless an earlier task made it."""
    directory_of = functools.cache(os.path.realpath)

    def real(path: str) -> str:
        directory, name = os.path.split(path)
        return os.path.realpath(path) if os.path.islink(path) else os.path.join(directory_of(directory), name)

    made = set(map(real, renewed))
    for task in tasks:
        own = set(map(str, task.outputs))
        for path in task.inputs:
            if (path in own or path not in outputs) and real(path) in made:
                raise NanoMLError(
                    f"{path}: would be overwritten by {task.stage}. Choose another directory for the output."
                )


def run(planned: Sequence[Planned], workdir: Path, base: Optional[Path] = None) -> None:
    """Run what was planned with the same directories. Hold the lock of `workdir` (see `locked`) while planning and running.

    The record of a task is written last, after its output: the next run continues one that was killed at any moment. If
    tasks fail, the others of the same stage are done before FailedTasksError is raised; later stages are not begun.
    """
    records = Records(workdir / RECORDS, base)
    if any(each.reasons for each in planned):
        remove_leftovers(workdir)
    for each in planned:
        check_interrupt()
        for line in each.lines():
            say(line)
        stage, todo = each.stage, each.todo
        if each.is_settled and not todo:
            continue
        for task in todo:
            records.forget(task, each.anew, each.reasons[task.name].spares_core)
        fingerprints = Fingerprints(records, stage.name)
        done = _Done(records, fingerprints, set(each.fingerprints))
        workers = min(stage.workers or workers_for(path for task in todo for path in task.inputs), len(todo))
        failures = _run_pool(stage, todo, done, workers) if workers > 1 else _run_here(stage, todo, done)
        if failures:
            raise FailedTasksError(stage.tasks, failures)
        # may write a file, even if there was nothing to do; what batch jobs have done is summed up by the first run after them
        for line in stage.summary(_Summaries(stage.tasks, records)):
            say(f"  {line}")
        fingerprints.write(done.found)


@dataclass(frozen=True)
class _Done:
    """Notes that tasks are done."""

    records: Records
    fingerprints: Fingerprints
    found: set[str]

    def note(self, task: Task, outcome: _Outcome) -> None:
        """Print the notes of a task, and write its record."""
        done, told = outcome
        for key, text in told.items():
            say_once(key, text)
        self.found.add(self.fingerprints.of(task, self.records.write(task, done)))


class _Summaries(Mapping[str, Mapping[str, Any]]):
    """The summaries that the work of each task returned, by the task's name: each is read from its record when it is asked for."""

    def __init__(self, tasks: Sequence[Task], records: Records) -> None:
        self._tasks, self._records = {task.name: task for task in tasks}, records

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        record = self._records.read(self._tasks[name])
        return record.summary if record else {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


def _run_here(stage: Stage, todo: Sequence[Task], done: _Done) -> dict[str, NanoMLError]:
    failures = {}
    # a few show their own progress, one after the other
    with progress(stage.name, len(todo), stage.of) if len(todo) > _MOST else nullcontext() as bar:
        for task in todo:
            check_interrupt()
            try:
                done.note(task, _work(task))
            except NanoMLError as problem:
                failures[task.name] = problem
            if bar is not None:
                bar.has_failed = bool(failures)
                bar.advance()
    return failures


_Outcome = tuple[Record, Mapping[str, str]]
"""The record of a task that is done, and its notes."""


def _work(task: Task, planned: Optional[Mapping[str, Optional[str]]] = None) -> _Outcome:
    try:
        return do(task, planned), notes()
    except Exception as problem:
        if lacks_memory(problem):
            raise NanoMLError(f"{TOO_LITTLE_MEMORY}.") from problem
        raise


def _run_pool(stage: Stage, todo: Sequence[Task], done: _Done, workers: int) -> dict[str, NanoMLError]:
    failures: dict[str, NanoMLError] = {}
    module = getattr(todo[0].work, "func", todo[0].work).__module__
    with worker_pool(workers, module, begin_worker) as pool, progress(stage.name, len(todo), stage.of) as bar:
        waiting = iter(todo)
        running: dict[Future[_Outcome], Task] = {}
        while True:
            # to wait for thousands takes longer than what they do
            for task in itertools.islice(waiting, _AHEAD * workers - len(running)):
                running[_submitted(pool, task)] = task
            if not running:
                break
            # Python handles a signal that came just before it began to wait only when the wait ends
            for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    done.note(task, future.result())
                except NanoMLError as problem:
                    failures[task.name] = problem
                except BrokenProcessPool:
                    failures[task.name] = NanoMLError(f"the process that did it was killed. Maybe {TOO_LITTLE_MEMORY}.")
                bar.advance()
        bar.has_failed = bool(failures)
    return failures


def _submitted(pool: ProcessPoolExecutor, task: Task) -> Future[_Outcome]:
    try:
        return pool.submit(_work, task, sources())
    except BrokenProcessPool as problem:  # by an earlier task
        failed: Future[_Outcome] = Future()
        failed.set_exception(problem)
        return failed
