"""A submission: the directory with its jobs, its identifiers in the batch system, and what its jobs left."""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.atomic import aside_of, make_directory, remove_leftovers, write_json, write_text
from MLTools.NanoML.batch.job import Job, JobProblem, JobResult
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import Resources
from MLTools.NanoML.parallel import RECORDS
from MLTools.NanoML.schema.plain import build, content_of
from MLTools.NanoML.workflow.records import Records

JOBS = "jobs"
"""Name of the directory of submissions, beside the YAML file, and of that of jobs in a submission."""

_VERSION = 2
_FILE = "submission.json"
_NUMBER = re.compile(r"-(\d+)$")


@dataclass(frozen=True)
class JobRequest:
    """The request of the command line."""

    what: str  # a stage, pipeline or tune
    on: Optional[str] = None  # the batch system; None for that of the configuration or the site
    dry_run: bool = False  # write everything, and submit nothing
    lacked: Mapping[str, tuple[str, Resources]] = field(default_factory=dict)  # as in `Grouping`
    variables: frozenset[str] = frozenset()  # that user code in jobs has read
    # trials, workers: for a search: how many trials, and how many jobs do them
    trials: Optional[int] = None
    workers: int = 4


@dataclass(frozen=True)
class JobEntry:
    """A job as its submission lists it."""

    name: str
    stage: str  # the stage of its tasks; for jobs that skim on the grid, the dataset
    tasks: Sequence[str]  # the names of its tasks
    resources: Resources  # what it asks for


@dataclass
class JobOptions:
    """How jobs run: what the templates are filled with."""

    shared: bool = True  # whether workers see the files of the submitting machine
    environment: str = "here"  # as `batch.environment`
    command: Sequence[str] = ()  # what starts NanoML on a machine that sees the same files
    variables: Mapping[str, str] = field(default_factory=dict)  # by which this command finds its packages
    python: str = "python3"  # the Python of a job elsewhere
    # setup, lines, retries, at_once, account: as in the section `batch`, with those of the site
    setup: Sequence[str] = ()
    lines: Sequence[str] = ()
    retries: int = 0
    at_once: Optional[int] = None
    account: Optional[str] = None
    partitions: Mapping[str, Optional[str]] = field(default_factory=dict)  # partitions of Slurm by stage
    image: Optional[str] = None  # the container image, if HTCondor itself starts it
    launch: Sequence[str] = ()  # what starts a container around a job, otherwise
    flavours: Mapping[str, str] = field(default_factory=dict)  # queues by job, where the site has any
    # proxy, token: the paths of the grid proxy and of the bearer token, if jobs need one of them and it can be used
    proxy: Optional[str] = None
    token: Optional[str] = None
    templates: Optional[str] = None  # the user's directory of templates
    # names of the archives that travel with jobs, by stage
    sent: dict[str, Sequence[str]] = field(default_factory=dict)
    area: Optional[str] = None  # the archive of the CMSSW area
    # python_version, scram_arch, cmssw_version: those of the submitting machine
    python_version: str = ""
    scram_arch: str = ""
    cmssw_version: str = ""
    kept: Mapping[str, Any] = field(default_factory=dict)  # what the batch system keeps of the analysis
    # of a hyperparameter tuning: the numbers of trials and workers
    search: Mapping[str, Optional[int]] = field(default_factory=dict)


@dataclass
class Submission:
    """Jobs that were submitted together."""

    directory: Path  # of all its files
    tag: str  # unique name, by which the batch system is asked for it
    system: str  # name of the batch system
    # config, workdir: the analysis
    config: str
    workdir: str
    what: str  # what was submitted: a stage, pipeline or tune
    created: str  # when, for people
    jobs: list[JobEntry]  # in the order of their stages
    options: JobOptions = field(default_factory=JobOptions)  # how they run
    # "written" (nothing is submitted yet), "submitted", or "ended" when no job of it is active any more
    state: str = "written"
    # what the batch system keeps about it: identifiers of jobs, as JSON that only its module reads
    handles: dict[str, Any] = field(default_factory=dict)
    # why jobs ended that the batch system may have forgotten since
    problems: dict[str, JobProblem] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name for people."""
        return self.directory.name

    @property
    def records(self) -> Records:
        """The records of its work directory."""
        return Records(Path(self.workdir, RECORDS), Path(self.config).parent)

    @property
    def number(self) -> int:
        """Its number among those of the same work directory."""
        return int(self.name.rpartition("-")[2])

    @property
    def stages(self) -> dict[str, list[JobEntry]]:
        """The jobs by stage, in order."""
        found: dict[str, list[JobEntry]] = {}
        for entry in self.jobs:
            found.setdefault(entry.stage, []).append(entry)
        return found

    def entry(self, name: str) -> JobEntry:
        """The job of this name; an error if there is none."""
        for entry in self.jobs:
            if entry.name == name:
                return entry
        few = ", ".join(entry.name for entry in self.jobs[:2])
        raise NanoMLError(f"{self.name}: has no job {name}. Jobs are named as {few} and so on.")

    def job(self, name: str) -> Job:
        """The work of a job."""
        return Job.read(self.directory / JOBS / f"{name}.json")

    def results(self) -> dict[str, JobResult]:
        """The results that jobs have left until now; jobs that have not begun, or not where this machine sees it, are absent."""
        left = {path.stem: path for path in (self.directory / "results").glob("*.json")}
        found = {entry.name: JobResult.read(left[entry.name]) for entry in self.jobs if entry.name in left}
        return {name: result for name, result in found.items() if result is not None}

    def log(self, name: str) -> Path:
        """The file with what a job printed."""
        return self.directory / "logs" / f"{name}.log"

    def save(self) -> None:
        """Write its file."""
        content = asdict(self)
        content.pop("directory")
        write_json(self.directory / _FILE, {"schema": _VERSION, **content})

    @classmethod
    def read(cls, directory: Path) -> Submission:
        """Read what `save` wrote; an error if there is none, or another version wrote it."""
        path = directory / _FILE
        try:
            content = content_of(path)
            version = content.pop("schema")
            if version != _VERSION:
                raise ValueError(f"it has version {version}, which another version of NanoML wrote: use that one")
            return build(cls, {**content, "directory": directory})
        except FileNotFoundError:
            raise NanoMLError(f"{directory}: is not a directory of jobs: it has no {_FILE}.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise NanoMLError(f"{path}: cannot be used ({problem}).") from None

    def register(self) -> None:
        """Note in the work directory that its jobs may be active there."""
        write_text(_pointers(Path(self.workdir)) / self.tag, f"{self.directory}\n")

    def end(self) -> None:
        """Note that none of its jobs is active any more."""
        self.state = "ended"
        self.save()
        (_pointers(Path(self.workdir)) / self.tag).unlink(missing_ok=True)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Be in its directory, so that none of the user's paths gets into the language of a batch system."""
        before = os.getcwd()
        os.chdir(self.directory)
        try:
            yield
        finally:
            os.chdir(before)


def _pointers(workdir: Path) -> Path:
    return workdir / RECORDS / "submissions"


def submissions_of(workdir: Path) -> list[Submission]:
    """The submissions whose jobs may be active in a work directory; those that were deleted are forgotten."""
    found = []
    for pointer in sorted(_pointers(workdir).glob("[!.]*")) if _pointers(workdir).is_dir() else []:
        directory = Path(pointer.read_text(encoding="utf-8").rstrip("\n"))
        if (directory / _FILE).is_file():
            found.append(Submission.read(directory))
        else:
            pointer.unlink(missing_ok=True)
    return found


def submissions_in(folder: Path, config: Optional[Path] = None) -> list[Submission]:
    """The submissions in a directory of them, but for dry runs; only those of a configuration if it is named."""
    found = [Submission.read(path.parent) for path in sorted(folder.resolve().glob("[!.]*/submission.json"))]
    of_config = [it for it in found if config is None or Path(it.config).resolve() == config.resolve()]
    return [it for it in of_config if not it.name.endswith("-dry-run")]


@contextmanager
def new_directory(folder: Path, name: str, dry_run: bool) -> Iterator[tuple[Path, Path]]:
    """A new directory for a submission of this work directory, which appears whole or not at all.

    Yields the directory to write into, and its final path, which it gets when the block ends well and has not removed it.
    """
    remove_leftovers(make_directory(folder))
    name = name.lstrip(".") or "jobs"  # hidden ones are not finished
    if dry_run:
        final = folder / f"{name}-dry-run"
    else:
        numbers = [_NUMBER.search(path.name) for path in folder.glob(f"{glob.escape(name)}-*")]
        final = folder / f"{name}-{max((int(it[1]) for it in numbers if it), default=0) + 1}"
    aside = make_directory(aside_of(final))
    try:
        yield aside, final
        if not aside.is_dir():
            return
        if dry_run:
            shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
