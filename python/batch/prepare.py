"""From an analysis to a submission: what is to be done becomes jobs, in a directory of their own."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import aside_of, make_directory, remove_leftovers, write_text
from MLTools.NanoML.batch import payload
from MLTools.NanoML.batch.command import nanoml_command
from MLTools.NanoML.batch.conditions import (
    Place,
    check_inputs,
    check_place,
    check_search,
    needs_proxy,
    usable_proxy,
)
from MLTools.NanoML.batch.grouping import Grouping
from MLTools.NanoML.batch.job import Job
from MLTools.NanoML.batch.render import render
from MLTools.NanoML.batch.resources import Resources
from MLTools.NanoML.batch.site import load_site
from MLTools.NanoML.batch.submission import JOBS, Entry, Submission
from MLTools.NanoML.batch.systems import system_of
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.batch import Needs
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.rootio.remote.client import VARIABLE
from MLTools.NanoML.workflow.runner import Planned
from MLTools.NanoML.workflow.stages import Layout
from MLTools.NanoML.workflow.task import Task, forget

__all__ = ["PIPELINE", "TUNE", "Wish", "new_directory", "place_of", "prepare"]

PIPELINE = "pipeline"
"""What is submitted that is all stages."""

TUNE = "tune"
"""What is submitted that is no stage: the workers of a search."""

_NUMBER = re.compile(r"-(\d+)$")


@dataclass(frozen=True)
class Wish:
    """What the command line asks for.

    Attributes
    ----------
    what
        A stage, pipeline or tune.
    on
        The batch system; None for what the configuration or the site says.
    dry_run
        Write everything, and submit nothing.
    lacked
        As in `Grouping`.
    trials, workers
        Of a search: how many trials, and how many jobs that do them.
    """

    what: str
    on: Optional[str] = None
    dry_run: bool = False
    lacked: Mapping[str, tuple[str, Resources]] = field(default_factory=dict)
    trials: Optional[int] = None
    workers: int = 4


def place_of(config: Config, on: Optional[str]) -> Place:
    """Where jobs run: what is asked for, else what the configuration says, else the site.

    Raises
    ------
    ConfigError
        Nobody says it, or it cannot work there.
    """
    site = load_site(config.batch.site, config.base)
    system = on or config.batch.on or site.on
    if system is None:
        raise config.error("batch", message="say where jobs run: --on condor, slurm, crab or local")
    place = Place(site, system, "here" if system == "local" else config.batch.environment or site.environment)
    check_place(config, place)
    return place


def prepare(
    config: Config, planned: Sequence[Planned], sizes: Mapping[str, int], place: Place, wish: Wish
) -> Submission:
    """Write the jobs of what was planned, and all files that the batch system reads.

    Hold the lock of the work directory. The directory of the submission appears whole or not at all.

    Parameters
    ----------
    config
        The analysis.
    planned
        Of `pipeline.planned`; of a search nothing.
    sizes
        Of remote files, as far as they are known [B].
    place
        Where the jobs run.
    wish
        What is asked for.

    Raises
    ------
    NanoMLError
        The jobs would not find their files, packages or a proxy.
    """
    todo = _todo(planned)
    if wish.what == TUNE:
        check_search(config, place)
    check_inputs(config, todo, place.storage)
    tasks = [task for each in todo.values() for task in each]
    drafts = _drafts(config, todo, sizes, wish)
    entries = [draft.entry for draft in drafts]
    proxy = None
    if needs_proxy(tasks):
        proxy = usable_proxy(
            max(entry.resources.time for entry in entries), place.is_shared and place.system != "local"
        )
    workdir = Layout.of(config).workdir
    submission = Submission(
        directory=Path(),
        tag=f"nanoml-{uuid.uuid4().hex[:12]}",
        system=place.system,
        config=os.path.abspath(config.document.name),
        workdir=str(workdir),
        what=wish.what,
        created=time.strftime("%Y-%m-%d %H:%M"),
        jobs=entries,
        options={
            **_options(config, place, proxy, entries),
            "search": {"trials": wish.trials, "workers": wish.workers},
        },
    )
    with new_directory(config.base / JOBS, workdir.name, wish.dry_run) as (aside, final):
        submission.directory = aside
        _write(submission, drafts, config, place)
        submission.directory = final
        if not wish.dry_run:
            remove_leftovers(workdir)
            for task in tasks:
                forget(task, workdir / RECORDS)
            submission.register()  # before it is there: it must not be there and be unknown
    return submission


def _todo(planned: Sequence[Planned]) -> dict[str, list[Task]]:
    found = {
        each.stage.name: [task for task in each.stage.tasks if task.name in each.reasons] for each in planned
    }
    return {stage: tasks for stage, tasks in found.items() if tasks}


@dataclass(frozen=True)
class _Draft:
    """A job that is not written yet: its tasks, or its command."""

    entry: Entry
    tasks: Sequence[Task] = ()
    command: Sequence[str] = ()

    def job(self, **common: Any) -> Job:
        name, stage = self.entry.name, self.entry.stage
        if self.command:
            return Job(name, stage, command=self.command, **common)
        return Job.of(name, self.tasks, proxy=needs_proxy(self.tasks), **common)


def _drafts(
    config: Config, todo: Mapping[str, Sequence[Task]], sizes: Mapping[str, int], wish: Wish
) -> list[_Draft]:
    grouping = Grouping(config.batch, sizes, wish.lacked)
    found = []
    for stage, tasks in todo.items():
        for number, group in enumerate(grouping.groups(stage, tasks)):
            names = [task.name for task in group.tasks]
            entry = Entry(f"{stage}-{number:04d}", stage, names, group.resources)
            found.append(_Draft(entry, group.tasks))
    if wish.what == TUNE:
        for name, stage, command in _search(config, wish):
            entry = Entry(name, stage, [name], grouping.wanted(TUNE))
            found.append(_Draft(entry, command=command))
    return found


def _search(config: Config, wish: Wish) -> list[tuple[str, str, list[str]]]:
    """The workers of a search, and what draws the conclusion when they are done."""
    command = [TUNE, os.path.abspath(config.document.name), "--workers", "1"]
    command += ["--trials", str(wish.trials)] if wish.trials else []
    workers = [(f"{TUNE}-{number:04d}", TUNE, [*command, "--join"]) for number in range(wish.workers)]
    return [*workers, (f"{TUNE}-conclusion", "conclusion", command)]


def _options(config: Config, place: Place, proxy: Optional[str], entries: Sequence[Entry]) -> dict[str, Any]:
    """What the templates are filled with."""
    batch, site = config.batch, place.site
    container = place.environment == "container"
    launch = ["apptainer", "exec", batch.image] if container and place.system != "condor" else []
    flavours = {entry.name: site.flavour(entry.resources.time) for entry in entries}
    return {
        "shared": place.is_shared,
        "environment": place.environment,
        "command": [batch.python, "-m", "MLTools.NanoML.cli"] if container else nanoml_command(),
        "python": batch.python,
        "setup": [*site.setup, *batch.setup],
        "lines": [*site.lines, *batch.lines],
        "retries": batch.retries,
        "at_once": batch.at_once,
        "account": batch.account,
        "partitions": {
            stage: batch.stages.get(stage, Needs()).partition or batch.partition
            for stage in dict.fromkeys(entry.stage for entry in entries)
        },
        "image": batch.image if container and place.system == "condor" else None,
        "launch": launch,
        "flavours": {name: flavour for name, flavour in flavours.items() if flavour},
        "proxy": proxy,
        "templates": str(config.path(batch.templates)) if batch.templates else None,
        "sent": {},
        "area": None,
        "python_version": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "scram_arch": os.environ.get("SCRAM_ARCH", ""),
        "cmssw_version": os.environ.get("CMSSW_VERSION", ""),
    }


def _write(submission: Submission, drafts: Sequence[_Draft], config: Config, place: Place) -> None:
    directory = submission.directory
    for name in (JOBS, "results", "logs"):
        make_directory(directory / name)
    common: dict[str, Any] = {
        "workdir": str(Layout.of(config).workdir),
        "base": str(config.base),
        "storage": place.storage,
        "environment": {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {},
    }
    for draft in drafts:
        draft.job(**common).write(directory / JOBS / f"{draft.entry.name}.json")
    if not place.is_shared:
        _pack(submission, config, place)
    with submission.here():
        write_text("job.sh", render("job.sh", submission.options, submission.options["templates"]))
        os.chmod("job.sh", 0o755)
        system_of(submission.system).write(submission)
    submission.save()


def _pack(submission: Submission, config: Config, place: Place) -> None:
    """Pack what travels with the jobs; archives are beside the submissions, which share them."""
    folder, options = config.base / JOBS, submission.options
    of_all = [payload.code(config, folder)]
    if place.environment == "cmssw":
        of_all.append(payload.cmssw_area(folder))
        options["area"] = of_all[-1].name
    for stage in submission.stages:
        packed = [payload.environment(stage, folder)] if place.environment == "packed" else []
        options["sent"][stage] = [path.name for path in (*of_all, *packed)]
    for name in {name: None for names in options["sent"].values() for name in names}:
        (submission.directory / name).symlink_to(Path("..", name))
    for entry in submission.jobs:
        write_text(submission.directory / "results" / f"{entry.name}.json", "{}\n")


@contextmanager
def new_directory(folder: Path, name: str, dry: bool) -> Iterator[tuple[Path, Path]]:
    """A directory that is not there yet: first under another name, then, if all went well, under its own."""
    remove_leftovers(make_directory(folder))
    name = name.lstrip(".") or "jobs"  # hidden ones are not finished
    if dry:
        final = folder / f"{name}-dry-run"
    else:
        numbers = [_NUMBER.search(path.name) for path in folder.glob(f"{glob.escape(name)}-*")]
        final = folder / f"{name}-{max((int(it[1]) for it in numbers if it), default=0) + 1}"
    aside = make_directory(aside_of(final))
    try:
        yield aside, final
        if dry:
            shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
