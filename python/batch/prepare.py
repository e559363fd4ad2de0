"""From an analysis to a submission: what is to be done becomes jobs, in a directory of their own."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML import observing
from MLTools.NanoML.atomic import make_directory, remove_leftovers, write_text
from MLTools.NanoML.batch.job import SOFTWARE, Job, digest_of, encode
from MLTools.NanoML.batch.site import (
    check_inputs,
    check_search,
    cmssw_area,
    named,
    needs_credential,
    packed_code,
    packed_environment,
    usable_credentials,
)
from MLTools.NanoML.batch.status import settle
from MLTools.NanoML.batch.submission import JOBS, JobEntry, JobOptions, JobRequest, Submission, new_directory
from MLTools.NanoML.batch.system import Place, render
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.batch import Batch, Needs
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import Resources
from MLTools.NanoML.installation import nanoml_command
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.rootio.remote.client import VARIABLE
from MLTools.NanoML.rootio.remote.server import is_remote
from MLTools.NanoML.stages import NAMES, PARTS, declared, import_part, seconds_in, with_figures
from MLTools.NanoML.workflow.layout import Layout
from MLTools.NanoML.workflow.pipeline import planned
from MLTools.NanoML.workflow.records import Records
from MLTools.NanoML.workflow.task import Stamp, Task

PIPELINE = "pipeline"
"""The name of a submission of all stages."""

TUNE = "tune"
"""The name of a submission that is not a stage: the workers of a hyperparameter tuning."""

_OVERHEAD = 10.0  # seconds for each file, whatever its size
_UNKNOWN = 500e6  # bytes of a file about which nothing is known
_MARGIN = 3.0  # machines differ
_SHORTEST = 1200  # seconds that any job may ask for


def prepare(
    config: Config, place: Place, request: JobRequest, force: bool = False, again: Optional[bool] = None
) -> Optional[Submission]:
    """Write the jobs for what is to be done, and all files that the batch system reads; None if nothing is to be done.

    Hold the lock of the work directory. The directory of the submission appears whole or not at all.

    An error if jobs are active already, or would not find their files, packages or what the grid asks for.
    """
    workdir = Layout.of(config).workdir
    settle(workdir)
    todo: dict[str, list[Task]] = {}
    if request.what == TUNE:
        check_search(config, place)
    else:
        names = NAMES if request.what == PIPELINE else with_figures([request.what])
        todo = {each.stage.name: each.todo for each in planned(config, names, force, again) if each.reasons}
        if not todo:
            return None
    check_inputs(config, todo, place.storage)
    tasks = [task for each in todo.values() for task in each]
    entries, jobs = zip(*_jobs(config, place, todo, request))
    proxy = token = None
    if needs_credential(tasks):
        longest = max(entry.resources.time for entry in entries)
        proxy, token = usable_credentials(longest, place.is_shared and place.system.where != "here")
    with new_directory(config.base / JOBS, workdir.name, request.dry_run) as (aside, final):
        submission = new_submission(config, place, request, aside, list(entries))
        submission.options = replace(_options(config, place, entries), proxy=proxy, token=token)
        submission.options.search = {"trials": request.trials, "workers": request.workers}
        _write(submission, jobs, config, place)
        submission.directory = final
        if not request.dry_run:
            remove_leftovers(workdir)
            records = Records(workdir / RECORDS, config.base)
            for task in tasks:
                records.forget(task, force)
            submission.register()  # before it appears: it must never be there without being known
    return submission


def new_submission(
    config: Config, place: Place, request: JobRequest, directory: Path, entries: list[JobEntry]
) -> Submission:
    """A submission of this analysis, which is not written yet."""
    return Submission(
        directory=directory,
        tag=f"nanoml-{uuid.uuid4().hex[:12]}",
        system=place.system.name,
        config=os.path.abspath(config.document.name),
        workdir=str(Layout.of(config).workdir),
        what=request.what,
        created=time.strftime("%Y-%m-%d %H:%M"),
        jobs=entries,
    )


def _sizes(config: Config, tasks: Sequence[Task]) -> dict[str, int]:
    """Sizes of remote files that are to be read, as far as the catalogue or their server gave them [B]."""
    if not any(is_remote(path) for task in tasks for path in task.inputs):
        return {}
    described = import_part("data_processing.datasets.datasets").describe_datasets(config)
    return {file.name: file.size for each in described.values() for file in each.files if file.size is not None}


@dataclass(frozen=True)
class JobGroup:
    """Tasks that make one job, and what it asks for."""

    tasks: Sequence[Task]
    resources: Resources


@dataclass(frozen=True)
class Grouping:
    """The rule by which tasks become jobs."""

    batch: Batch  # the section of the configuration
    # sizes of remote files, as far as they are known [B]
    sizes: Mapping[str, int] = field(default_factory=dict)
    # what earlier jobs lacked: by task, as "skim WZ/0", the kind of problem and what they had asked for
    lacked: Mapping[str, tuple[str, Resources]] = field(default_factory=dict)

    def groups(self, stage: str, tasks: Sequence[Task]) -> Iterator[JobGroup]:
        """The jobs of a stage."""
        others = []
        for task in tasks:
            kind, before = self.lacked.get(f"{stage} {task.name}", ("", None))
            if before is None:
                others.append(task)
            else:  # alone, so that it does not ask for more than others need
                yield JobGroup([task], self.wanted(stage, [task], before.after(kind)))
        pieces = self._pieces(stage, others)
        resources = [self.wanted(stage, piece) for piece in pieces]
        for piece in pieces:  # jobs of a stage ask for the same, so that they can be one array
            yield JobGroup(piece, replace(resources[0], time=max(each.time for each in resources)))

    def _pieces(self, stage: str, tasks: Sequence[Task]) -> list[Sequence[Task]]:
        speed, most = declared(stage).speed, self.batch.files_per_job
        if speed is None:
            return [[task] for task in tasks]
        if most is not None:
            return [tasks[begin : begin + most] for begin in range(0, len(tasks), most)]
        pieces: list[list[Task]] = []
        target, filled = seconds_in(self.batch.job_time), 0.0
        for task in tasks:
            seconds = self._seconds(task, speed)
            if not pieces or filled + seconds > target:
                pieces.append([])
                filled = 0.0
            pieces[-1].append(task)
            filled += seconds
        return [*pieces]

    def _seconds(self, task: Task, speed: float) -> float:
        return _OVERHEAD + sum(self._size(path) for path in task.inputs if path.endswith(".root")) / speed

    def _size(self, path: str) -> float:
        if path in self.sizes:
            return self.sizes[path]
        if is_remote(path):
            return _UNKNOWN
        try:
            return os.path.getsize(path)
        except OSError:  # an earlier stage makes it
            return _UNKNOWN / 20

    def wanted(self, stage: str, tasks: Sequence[Task] = (), least: Optional[Resources] = None) -> Resources:
        """The resources of a job with these tasks: as configured, otherwise what is usual or follows from sizes."""
        needs, batch = self.batch.stages.get(stage, Needs()), self.batch
        declaration = declared(stage if stage in NAMES else "train")  # a search consists of trainings
        usual, speed = declaration.resources, declaration.speed
        time = usual.time
        if speed is not None:
            time = max(_SHORTEST, round(_MARGIN * sum(self._seconds(task, speed) for task in tasks)))
        text = needs.time or batch.time
        found = Resources(
            seconds_in(text) if text else time,
            needs.memory or batch.memory or usual.memory,
            needs.cores or usual.cores,
            needs.gpus or 0,
            needs.disk or batch.disk or usual.disk,
        )
        if least is None:
            return found
        return Resources(**{name: max(value, getattr(least, name)) for name, value in vars(found).items()})


def _variables(records: Records, tasks: Sequence[Task], asked: Collection[str]) -> dict[str, str]:
    """The variables that jobs set: batch systems do not hand them on.

    Those that code of the user reads stand in the files of the jobs, which only their owner can read: they are `asked` for by jobs
    that failed without them, or were read by earlier tasks or at import.
    """
    from MLTools.NanoML.corrections import era  # awkward, which it imports, takes long

    found = {VARIABLE: os.environ.get(VARIABLE, ""), era.VARIABLE: era.own_directory()}
    found = {name: value for name, value in found.items() if value}
    before = (record for task in tasks if (record := records.read(task)) is not None)
    read = {key for record in before for key in record.observed if key.startswith(f"{observing.VARIABLE} ")}
    for name in {*asked, *observing.variables_at_import(), *(key.partition(" ")[2] for key in read)}:
        if name in os.environ and not SOFTWARE.fullmatch(name):
            if observing.SECRET.fullmatch(name):
                raise NanoMLError(
                    f"Your code reads the environment variable {name}, which may be a secret by its name, so no job gets it. "
                    "Let your code read a file that only you can read, or give the variable another name."
                )
            found.setdefault(name, os.environ[name])
    return found


def _sent(config: Config) -> list[Any]:
    """The versions of the files that travel, for `Job.sent`."""
    paths = [config.path(name) for _, name in named(config)]
    return [encode(Stamp.of(str(path)).with_content()) for path in paths if path.is_file()]


def _jobs(
    config: Config, place: Place, todo: Mapping[str, Sequence[Task]], request: JobRequest
) -> Iterator[tuple[JobEntry, Job]]:
    tasks = [task for each in todo.values() for task in each]
    records = Records(Layout.of(config).workdir / RECORDS, config.base)
    grouping = Grouping(config.batch, _sizes(config, tasks), request.lacked)
    common: dict[str, Any] = {
        "workdir": str(Layout.of(config).workdir),
        "base": str(config.base),
        "storage": place.storage,
        "environment": _variables(records, tasks, request.variables),
        "variables": {name: digest_of(name, it) for name, it in observing.variables().items()},
        "planned": observing.sources() if place.is_shared else {},
        "sent": [] if place.is_shared else _sent(config),
    }
    for stage, of_stage in todo.items():
        for number, group in enumerate(grouping.groups(stage, of_stage)):
            name, names = f"{stage}-{number:04d}", [task.name for task in group.tasks]
            job = Job.of(name, group.tasks, proxy=needs_credential(group.tasks), **common)
            yield JobEntry(name, stage, names, group.resources), job
    if request.what == TUNE:
        command = [TUNE, os.path.abspath(config.document.name), "--workers", "1"]
        command += ["--trials", str(request.trials)] if request.trials else []
        workers = [(f"{TUNE}-{number:04d}", TUNE, [*command, "--join"]) for number in range(request.workers)]
        # when the workers are done, another run draws the conclusion
        for name, stage, each in [*workers, (f"{TUNE}-conclusion", "conclusion", command)]:
            yield (JobEntry(name, stage, [name], grouping.wanted(TUNE)), Job(name, stage, command=each, **common))


def _options(config: Config, place: Place, entries: Sequence[JobEntry]) -> JobOptions:
    batch, site = config.batch, place.site
    container = place.environment == "container"
    stages = dict.fromkeys(entry.stage for entry in entries)
    flavours = {entry.name: site.flavour(entry.resources.time) for entry in entries}
    # of this shell, as after cmsenv: HTCondor does not hand them on
    software = {name: value for name, value in sorted(os.environ.items()) if SOFTWARE.fullmatch(name)}
    return JobOptions(
        shared=place.is_shared,
        environment=place.environment,
        command=[batch.python, "-m", "MLTools.NanoML.cli"] if container else nanoml_command(),
        variables=software if place.is_shared and not container else {},
        python=batch.python,
        setup=[*site.setup, *batch.setup],
        lines=[*site.lines, *batch.lines],
        retries=batch.retries,
        at_once=batch.at_once,
        account=batch.account,
        partitions={stage: batch.stages.get(stage, Needs()).partition or batch.partition for stage in stages},
        image=batch.image if container and place.system.starts_containers else None,
        launch=["apptainer", "exec", batch.image or ""] if container and not place.system.starts_containers else [],
        flavours={name: flavour for name, flavour in flavours.items() if flavour},
        templates=str(config.path(batch.templates)) if batch.templates else None,
        python_version=f"{sys.version_info[0]}.{sys.version_info[1]}",
        scram_arch=os.environ.get("SCRAM_ARCH", ""),
        cmssw_version=os.environ.get("CMSSW_VERSION", ""),
        kept=place.system.kept(config),
    )


def _write(submission: Submission, jobs: Sequence[Job], config: Config, place: Place) -> None:
    directory = submission.directory
    for name in (JOBS, "results", "logs"):
        make_directory(directory / name)
    for job in jobs:
        job.write(directory / JOBS / f"{job.name}.json")
    if not place.is_shared:
        _pack(submission, config, place)
    with submission.here():
        write_text("job.sh", render("job.sh", submission.options))
        os.chmod("job.sh", 0o755)
        place.system.write(submission)
    submission.save()


def _pack(submission: Submission, config: Config, place: Place) -> None:
    """Pack what travels with the jobs, into archives beside the submissions, which share them."""
    folder, options = config.base / JOBS, submission.options
    common, is_packed = [packed_code(config, folder)], place.environment == "packed"
    if place.environment == "cmssw":
        common.append(cmssw_area(folder))
        options.area = common[-1].name
    training = {stage: stage in PARTS["ML_processing"] for stage in submission.stages}
    packed = {kind: packed_environment(kind, folder) for kind in set(training.values())} if is_packed else {}
    for stage, kind in training.items():
        options.sent[stage] = [path.name for path in (*common, *([packed[kind]] if is_packed else []))]
    for name in {name for names in options.sent.values() for name in names}:
        (submission.directory / name).symlink_to(Path("..", name))
    for entry in submission.jobs:
        write_text(submission.directory / "results" / f"{entry.name}.json", "{}\n")
