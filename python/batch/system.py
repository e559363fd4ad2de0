"""The methods of a batch system. Each system is a class in a module of its own, named in `config.batch.SYSTEMS`."""

from __future__ import annotations

import importlib
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from MLTools.NanoML.batch.job import JobProblem, JobResult
from MLTools.NanoML.batch.submission import JobEntry, JobOptions, JobRequest, Submission
from MLTools.NanoML.config.batch import ENVIRONMENTS, SYSTEMS, TIME, TITLES
from MLTools.NanoML.errors import ConfigError, NanoMLError, plural
from MLTools.NanoML.schema.settings import setting
from MLTools.NanoML.stages import seconds_in

if TYPE_CHECKING:
    from MLTools.NanoML.config.analysis import Config

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class QueueState:
    """A job as its batch system sees it."""

    # "waiting", "running", "held", "ended", or "idle" if it was not submitted and waits for nothing
    state: str
    problem: Optional[JobProblem] = None  # why it is held, or what was wrong when it ended
    attempt: int = 0  # how many times it was started; 0 if that is not known


@dataclass(frozen=True)
class Poll:
    """A submission as its batch system sees it."""

    # by name. Jobs that have not been submitted yet, or that the system has forgotten, are absent
    jobs: Mapping[str, QueueState]
    # whether anything of it is waiting or running, or may still be; None if the system did not answer
    is_active: Optional[bool]
    notes: Sequence[str] = ()  # what to tell the user about it
    # results of jobs that leave none in the directory of the submission
    results: Mapping[str, JobResult] = field(default_factory=dict)


@dataclass(frozen=True)
class Client:
    """The programs of a batch system, and what else its jobs need: what `nanoml doctor` checks."""

    program: str  # submits jobs
    remedy: str  # what to do if it is not in the PATH
    question: Sequence[str] = ()  # the command that asks for the user's jobs; none if that takes seconds
    # needs, options: names of `doctor.ways.CHECKS`, without which nothing works, and which some jobs need
    needs: Sequence[str] = ()
    options: Sequence[str] = ()


@dataclass(frozen=True)
class BatchSite:
    """A site where jobs run, as its YAML file describes it."""

    on: Optional[str] = setting(None, "The batch system, if the analysis does not name one.", enum=tuple(SYSTEMS))
    shared: bool = setting(True, "Whether workers see the same files as the machine from which jobs are submitted.")
    environment: str = setting("here", "As batch.environment, if the analysis does not set it.", enum=ENVIRONMENTS)
    storage: dict[str, str] = setting(
        dict, "Regular expressions for the beginnings of paths, and the URLs by which workers reach these files."
    )
    not_from: dict[str, str] = setting(dict, "Beginnings of paths from which jobs cannot be submitted, and why.")
    flavours: dict[str, str] = setting(
        dict, "Queues (CERN's job flavours) and the longest time that each allows, shortest first.", items=TIME
    )
    setup: list[str] = setting(list, "Lines of shell that a job runs first, before those of batch.")
    lines: list[str] = setting(list, "Lines for the description of jobs, before those of batch.")
    name: str = setting("", hidden=True)

    def flavour(self, time: int) -> Optional[str]:
        """The shortest queue that allows a wall time of so many seconds; None if the site has no queues.

        An error if none is long enough.
        """
        longest = None
        for flavour, longest in self.flavours.items():
            if time <= seconds_in(longest):
                return flavour
        if longest is None:
            return None
        raise ConfigError(
            f"site {self.name}: no queue allows {time} s, the longest {longest}: lower batch.time or batch.job_time."
        )


class System:
    """A batch system. `write`, `submit`, `poll` and `kill` must be given; what the others do here fits most.

    The methods with a submission are called in its directory. A job is run by `bash job.sh NAME CORES`, which is there.
    """

    # "cluster": jobs run on other machines; "here": on this one; "grid": where nothing of this machine is seen, and the
    # system itself sends all that a job needs
    where = "cluster"
    sends_files = False  # whether it can send files with jobs to machines that do not see those of this one
    # whether workers that do not see the files of this machine have a Python with the same packages
    brings_python = False
    starts_containers = False  # whether it starts the container of a job itself
    groups = "stage"  # what jobs are grouped by: a "stage" waits for the one before, a "dataset" for nothing
    pause = 0.0  # least time between two polls [s]
    advice: Mapping[str, str] = {}  # what to do about kinds of problems, where it differs from `job.KINDS`
    # whether jobs leave their results in the directory of the submission. If not, `poll` gives them, also after the end
    has_results = True
    client: Optional[Client] = None  # what `nanoml doctor` checks; None if there is nothing to check
    extra = ""  # the extra of pyproject.toml with its packages, which `nanoml doctor` checks, too

    def __init__(self, name: str) -> None:
        self.name = name  # in the configuration

    @property
    def title(self) -> str:
        """Its name for people."""
        return TITLES.get(self.name, self.name)

    def kept(self, config: Config) -> Mapping[str, Any]:
        """What it needs of the analysis while jobs run, as JSON, for `JobOptions.kept`."""
        return {}

    def check(self, config: Config, workdir: Path) -> None:
        """Refuse an analysis that cannot work here, by a ConfigError that says what to change."""

    def prepare(self, config: Config, place: Place, request: JobRequest, force: bool) -> Optional[Submission]:
        """Write what is to be done into a new directory; None if there is nothing to do. The work directory is locked.

        Only a system of the grid has this of its own; for others `prepare.prepare` does it, from the tasks of stages.
        """
        raise NotImplementedError

    def write(self, submission: Submission) -> None:
        """Write all files that the batch system reads."""
        raise NotImplementedError

    def submit(self, submission: Submission) -> None:
        """Submit what was written, all or nothing, and note `submission.handles`."""
        raise NotImplementedError

    def has_begun(self, submission: Submission) -> bool:
        """Whether anything was submitted although `submit` raised an error."""
        return False

    def recover(self, submission: Submission) -> bool:
        """After an interrupted submission: whether all was submitted. Then note the handles; if not, end what was."""
        return bool(submission.handles)

    def poll(self, submission: Submission) -> Poll:
        """Ask how the jobs are doing."""
        raise NotImplementedError

    def release(self, submission: Submission, held: Mapping[str, QueueState]) -> Sequence[str]:
        """Release held jobs, with more of what they lacked; say in lines what was done."""
        return []

    def retry(self, submission: Submission) -> Optional[Iterator[str]]:
        """Submit failed jobs again in the same submission, and say in lines what was done.

        None, as in most systems, if what is missing becomes a new submission.
        """
        return None

    def drive(self, submission: Submission) -> int:
        """Do all jobs, in a process that `submit` has started; return how many failed."""
        raise NotImplementedError

    def kill(self, submission: Submission) -> None:
        """End everything that is running or waiting."""
        raise NotImplementedError

    def log(self, submission: Submission, entry: JobEntry) -> Path:
        """The file with what a job printed, which may not exist yet."""
        return submission.log(entry.name)

    def describe(self, submission: Submission) -> list[str]:
        """The submission in lines of text."""
        stages = [
            f"{stage}: {plural(sum(len(entry.tasks) for entry in entries), 'task')} in {plural(len(entries), 'job')}"
            for stage, entries in submission.stages.items()
        ]
        return [*stages, f"{submission.name}: {plural(len(submission.jobs), 'job')} on {self.name}"]


@dataclass(frozen=True)
class Place:
    """Where jobs run."""

    site: BatchSite  # the site
    system: System  # the batch system
    environment: str  # where a job finds its packages, as `batch.environment`

    @property
    def is_shared(self) -> bool:
        """Whether workers see the same files."""
        return self.site.shared or self.system.where == "here"

    @property
    def storage(self) -> Optional[Mapping[str, str]]:
        """As in `Job`."""
        return None if self.is_shared else self.site.storage


def system_of(name: str) -> System:
    """The batch system of this name; an error if there is none."""
    if name not in SYSTEMS:
        raise ConfigError(f'"{name}" is not a batch system. Known: {", ".join(SYSTEMS)}.')
    module, _, kind = SYSTEMS[name].partition(":")
    return getattr(importlib.import_module(module), kind)(name)


def call(command: Sequence[str], timeout: float = 120.0) -> str:
    """Run a client of a batch system, and return what it printed; an error if it failed or did not answer in time."""
    try:
        # it inherits the lock of the work directory: what it submits is in the queue before another process looks there
        done = subprocess.run(
            list(command), capture_output=True, text=True, check=False, timeout=timeout, close_fds=False
        )
    except FileNotFoundError:
        raise NanoMLError(
            f"{command[0]}: is not installed on this machine. Choose another system: nanoml submit --on local."
        ) from None
    except subprocess.TimeoutExpired:
        raise NanoMLError(f"{command[0]}: did not answer in {timeout:.0f} s. Try again later.") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NanoMLError(f"{command[0]}: {' '.join(said[-3:]) or f'exit code {done.returncode}'}.")
    return done.stdout


def render(template: str, options: JobOptions, **values: object) -> str:
    """Fill a template with options and other values.

    The user's own template of the same name, in `options.templates`, comes first; an error if it is wrong.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

    own = options.templates
    if own and not Path(own).is_dir():
        raise ConfigError(f"{own}: no such directory; batch.templates names it.")
    folders = [*([own] if own else []), str(TEMPLATES)]
    # the languages are not HTML; what needs quoting says so by a filter
    engine = Environment(loader=FileSystemLoader(folders), undefined=StrictUndefined, autoescape=False)
    engine.filters["shell"] = lambda value: shlex.join([value] if isinstance(value, str) else value)
    try:
        return engine.get_template(template).render({**asdict(options), **values}) + "\n"
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{own}/{template}: is not UTF-8 ({problem}).") from None
    except TemplateError as problem:
        line = getattr(problem, "lineno", None)
        place = getattr(problem, "filename", None) or template
        raise ConfigError(f"{place}{f':{line}' if line else ''}: {problem}.") from None
