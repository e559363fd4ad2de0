"""Running a range of stages of an analysis, also if some of its files cannot be read."""

from __future__ import annotations

import fnmatch
import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Optional, Union

from MLTools.NanoML.atomic import write_text
from MLTools.NanoML.contracts import missing
from MLTools.NanoML.contracts.missing import Missing
from MLTools.NanoML.errors import NanoMLError, UnreadableError
from MLTools.NanoML.parallel import RECORDS, locked
from MLTools.NanoML.rootio.remote.client import adopt_settings, current_settings
from MLTools.NanoML.stages import NAMES, STAGES, declared, import_part, with_figures
from MLTools.NanoML.terminal.progress import check_interrupt, say
from MLTools.NanoML.workflow.analysis import Analysis, FailedTasksError, Planned, Stage, plan, run
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.records import ASKED, Reason, Records
from MLTools.NanoML.workflow.task import Task
from MLTools.NanoML.workflow.unblinding import record_declared

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

_Files = Mapping[str, Sequence[str]]
"""The files of each dataset."""


def between(first: Optional[str], last: Optional[str]) -> tuple[str, ...]:
    """The stages from one to another, both included, and what draws their results; None stands for the first or the last of all."""
    begin = NAMES.index(first) if first else 0
    end = NAMES.index(last) if last else len(NAMES) - 1
    if begin > end:
        raise NanoMLError(f"{first} comes after {last}: there is no stage from the one to the other.")
    return with_figures(NAMES[begin : end + 1])


def pipeline_stages(
    config: Config,
    names: Sequence[str],
    left_out: Mapping[str, Sequence[Missing]] = MappingProxyType({}),
    is_retrained: bool = False,
) -> list[Stage]:
    """The stages with these names that the configuration asks for, in order, without the missing files of each dataset."""
    analysis = Analysis(config, left_out, is_retrained)
    made = (analysis.stage(stage) for stage in STAGES if stage.name in names)
    return [stage for stage in made if stage is not None]


def _reader(config: Config) -> Optional[str]:
    """The first stage that reads the files of the datasets."""
    sections = {"skim": config.skim, "convert": config.convert, "score": config.score}
    return next((name for name, section in sections.items() if section is not None), None)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Look for no garbage: among what is made for many tasks there is none, and it takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def planned(config: Config, names: Sequence[str], force: bool = False, again: Optional[bool] = None) -> list[Planned]:
    """The tasks to be done in the stages with these names, and why; with `force` everything is.

    Missing files are tried `again` by default if the stage that reads each of them by itself is one of those named. An
    error if a part is missing, a dataset has no files, the configuration does not fit the real files, and so on.
    """
    layout = Layout.of(config)
    if again is None:
        again = _reader(config) in names and _reader(config) != "convert"
    with _no_garbage():
        left_out = {} if again else missing.read(layout.workdir)
        stages = pipeline_stages(config, names, left_out)
        if not stages:
            raise _nothing_to_do(config, names)
        todo = plan(stages, layout.workdir, force, config.base)
        if _is_retrained(config, todo):  # nobody has unblinded what other networks show
            todo = plan(pipeline_stages(config, names, left_out, True), layout.workdir, force, config.base)
    if any(each.reasons for each in todo if each.stage.name in ("skim", "convert")):
        import_part("data_processing.check").check(config)
    return todo


def _is_retrained(config: Config, todo: Sequence[Planned]) -> bool:
    """Whether networks are trained whose scores may have been unblinded as they were before."""
    return Layout.of(config).unblinded.exists() and any(
        it.stage.name in ("train", "ratios") and it.reasons for it in todo
    )


def _nothing_to_do(config: Config, names: Sequence[str]) -> NanoMLError:
    wanted = " and ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
    why = "there is nothing to do."
    parameter = config.train.parameter if config.train else None
    if "score" in names and parameter is not None:
        why = f"the model's parameter {parameter} needs a value. Add one, as in `score: {{parameter: {{{parameter}: 600}}}}`."
    return NanoMLError(f"{config.where()}: has no section for {wanted}: {why}")


def results(config: Config, stage: Stage) -> list[Path]:
    """The files that a run names when a stage is done."""
    declaration, layout = declared(stage.name), Layout.of(config)
    if declaration.names_outputs:
        return [task.outputs[0] for task in stage.tasks]
    if declaration.result is None:
        return []
    return list(dict.fromkeys(declaration.result(layout, era) for era in config.trainings))


def execute(config: Config, names: Sequence[str], force: bool, settle: Callable[[Path], None]) -> None:
    """Do what is to be done in the stages with these names, after `settle` has recorded what jobs did in the work directory.

    Files that cannot be read are left out if the configuration allows it; each run tries them again. It raises as
    `planned` and `runner.run` do.
    """
    workdir = Layout.of(config).workdir
    with locked(workdir):
        file, note = os.path.abspath(config.document.name), workdir / RECORDS / "yaml.txt"
        before = note.read_text(encoding="utf-8") if note.exists() else file
        if before != file and os.path.exists(before):
            say(
                f"WARNING {before} has the same workdir: each run replaces the other's results. Give one another workdir."
            )
        settle(workdir)
        if _reader(config) == "convert" and "convert" in names:
            adopt_settings(config.read)
            _look_again(workdir)
        record_declared(config)
        todo = _run(config, names, force)
        _finish(config, todo, any(each.reasons for each in todo))
        if before != file or not note.exists():
            write_text(note, file)
    if not any(each.reasons for each in todo):
        say("Everything is up to date.")


def redraw(config: Config, only: Sequence[str], dry_run: bool, settle: Callable[[Path], None]) -> None:
    """Draw figures and pages again, of the results that are there; with `only`, just the figures with these names or globs.

    A task for which more is to be done is named with the reason, and left as it is. `settle` is as for `execute`.
    """
    workdir = Layout.of(config).workdir
    with locked(workdir):
        settle(workdir)
        todo = _drawable(planned(config, with_figures({it.draws for it in STAGES if it.draws})))
        if only:
            todo = _draw_some(todo, only, dry_run, Records(workdir / RECORDS, config.base))
        elif not dry_run:
            run(todo, workdir, config.base)
        else:
            say("\n".join(line for each in todo for line in each.lines()))
        if todo and not dry_run:
            _finish(config, todo, True)


def _drawable(todo: Sequence[Planned]) -> list[Planned]:
    """The tasks that draw what is there, where that is as it would be made now. Others are named."""
    found, late, outdated = list[Planned](), list[str](), set[str]()
    for each in todo:
        drawn = [] if declared(each.stage.name).draws is None else each.stage.tasks
        ready = [it for it in drawn if outdated.isdisjoint(it.inputs) and all(map(os.path.exists, it.inputs))]
        reasons = {it.name: each.reasons.get(it.name, Reason(ASKED)) for it in ready}
        left = replace(each, reasons={name: why for name, why in each.reasons.items() if name not in reasons})
        outdated.update(str(path) for task in left.todo for path in task.outputs)
        if left.reasons:
            late += left.lines()
        if ready:
            found.append(replace(each, stage=replace(each.stage, tasks=ready), reasons=reasons))
    if late:
        say("\n".join(["Left as it is, since drawing is not enough:", *late]))
    return found


def _draw_some(todo: Sequence[Planned], only: Sequence[str], dry_run: bool, records: Records) -> list[Planned]:
    """Draw some figures, and write their pages; return their stages. Records still say in which style the other figures are."""
    tasks = [(each, task, sorted(task.outputs[0].parent.glob("*.png"))) for each in todo for task in each.todo]
    known, stages = sorted({path.stem for _, _, paths in tasks for path in paths}), list[Planned]()
    for pattern in only:
        if not fnmatch.filter(known, pattern):
            raise NanoMLError(f"{pattern}: there is no such figure. Known are {', '.join(known) or 'none'}.")
    for each, task, paths in tasks:
        chosen = [it.stem for it in paths if any(fnmatch.fnmatch(it.stem, pattern) for pattern in only)]
        if chosen:
            say(f"{each.stage.name} {task.name}: {', '.join(chosen)}")
            stages.append(each)
        if chosen and not dry_run:
            check_interrupt()
            task.work(only=chosen)
            records.write_outputs(task)
    return stages


def _finish(config: Config, todo: Sequence[Planned], is_changed: bool) -> None:
    """Write the page of the analysis, and name what was made."""
    here, made = Path.cwd(), [(each.stage.name, path) for each in todo for path in results(config, each.stage)]
    for name, path in dict.fromkeys([*made, *described(config, is_changed)]):
        say(f"{name}: {path.relative_to(here) if path.is_relative_to(here) else path}")


def described(config: Config, is_changed: bool = False) -> list[tuple[str, Path]]:
    """Write the page of the analysis, if something was done or a page is newer; name it if it was written."""
    (_, index), *pages = Layout.of(config).pages(config)
    newest = max((path.stat().st_mtime_ns for _, path in pages if path.exists()), default=0)
    if not is_changed and index.exists() and newest <= index.stat().st_mtime_ns:
        return []
    from MLTools.NanoML.workflow.overview import write_overview  # not needed to plan

    write_overview(Analysis(config))
    return [("analysis", index)]


def accept_stage(config: Config, name: str, dry_run: bool) -> list[str]:
    """Accept the results of a stage as up to date where only their code was changed; return what was done, in lines."""
    workdir = Layout.of(config).workdir
    with locked(workdir):
        stages = pipeline_stages(config, [name], missing.read(workdir))
        if not stages:
            raise _nothing_to_do(config, [name])
        (stage,) = stages
        (todo,) = plan([stage], workdir, base=config.base)
        records = Records(workdir / RECORDS, config.base)
        changes = Counter(
            change for task in stage.tasks if task.name in todo.reasons and (change := records.accept(task, dry_run))
        )
    total, left = len(stage.tasks), len(todo.reasons) - sum(changes.values())
    verb = "would be" if dry_run else "are"
    lines = [f"{name}: {count} of {total} {verb} accepted as they are: {change}" for change, count in changes.items()]
    if left:
        lines.append(f"{name}: {left} of {total} are out of date for another reason")
    return lines or [f"{name}: up to date, nothing to accept"]


def _run(config: Config, names: Sequence[str], force: bool, again: Optional[bool] = None) -> Sequence[Planned]:
    workdir = Layout.of(config).workdir
    todo = planned(config, names, force, again)
    for number, each in enumerate(todo):
        later = [one.stage.name for one in todo[number + 1 :]]
        try:
            run([each], workdir, config.base)
        except FailedTasksError as failed:
            if not failed.is_unreadable:
                raise
            forgive(failed, files_of(config), workdir, config.read.max_missing_files)
            _run(config, (each.stage.name,), False, False)
            if later:
                _run(config, later, force, False)
            break
        if declared(each.stage.name).part == "data_processing" and missing.read(workdir):
            _note_read(each.stage.tasks, files_of(config), workdir)
        if later and _is_retrained(config, [each]):  # they may be as before
            return [*todo[: number + 1], *_run(config, later, force, False)]
    return todo


def files_of(config: Config) -> Mapping[str, Sequence[str]]:
    """The files of each dataset; it raises as `datasets.resolve_datasets` does."""
    return Analysis(config).files


def forgive(failed: FailedTasksError, files: _Files, workdir: Path, limit: Union[int, str]) -> None:
    """Note the files that could not be read as missing.

    FailedTasksError if more of a dataset are missing than `limit` allows (`read.max_missing_files`), or something else failed.
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
        enough = [len(now[name]) if len(now[name]) * 100 > len(files[name]) else 0 for name in too_many]
        share = max(enough) or "1%"
        more = "a loss" if missing.allowed(limit, 1 << 30) == 0 else f"a larger loss than {limit}"
        raise FailedTasksError(failed.tasks, failed.failures, f", or allow {more} with --max-missing-files {share}")
    _note_read(failed.tasks, files, workdir)
    missing.record(workdir, now)
    for line in missing.lines({name: missing.read(workdir)[name] for name in now}):
        say(f"  {line}")


def run_stage(stage: Stage, files: Sequence[str], workdir: Path, force: bool) -> None:
    """Run one stage without a configuration, whose tasks each read one of `files` first; some of these may be missing."""
    with locked(workdir):
        try:
            run(plan([stage], workdir, force), workdir)
        except FailedTasksError as failed:
            forgive(failed, {"": files}, workdir, current_settings().max_missing_files)
            gone = {each.file for each in missing.read(workdir)[""]}
            left = [task for task in stage.tasks if task.inputs[0] not in gone]
            run(plan([replace(stage, tasks=left)], workdir), workdir)
        else:
            _note_read(stage.tasks, {"": files}, workdir)


def _note_read(tasks: Sequence[Task], files: _Files, workdir: Path) -> None:
    """Note that files that tasks could read are no longer missing."""
    before = missing.read(workdir)
    missing.record(workdir, {name: _unread(workdir, name, tasks) for name in before if name in files})


def _look_again(workdir: Path) -> None:
    """Try to open missing files, and note which ones can be read again."""
    for name, files in missing.read(workdir).items():
        from MLTools.NanoML.rootio.rootfile import RootFile  # awkward takes half as long to import as all else

        still = {}
        for each in files:
            try:
                RootFile(each.file).close()
            except UnreadableError as problem:
                still[each.file] = str(problem)
        missing.record(workdir, {name: still})


def _unread(workdir: Path, dataset: str, tasks: Sequence[Task]) -> dict[str, str]:
    """The missing files of a dataset that tasks did not read, with the reasons."""
    inputs = {path for task in tasks for path in task.inputs}
    before = missing.read(workdir).get(dataset, ())
    return {each.file: each.reason for each in before if each.file not in inputs}
