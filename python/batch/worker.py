"""A job on the machine that it was sent to: its tasks are done, and its result says what became of each.

If workers do not see the files of the submitting machine, inputs are fetched before a task, and outputs delivered after it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional, Union

from MLTools.NanoML.atomic import is_aside, make_directory
from MLTools.NanoML.batch.job import (
    BASE,
    CORRECTIONS,
    FAILED,
    PERMANENT,
    SOFTWARE,
    Job,
    JobProblem,
    JobResult,
    digest_of,
    url_of,
)
from MLTools.NanoML.errors import ConfigError, NanoMLError, UnreadableError, lacks_memory
from MLTools.NanoML.observing import SECRET, VARIABLE, state_of
from MLTools.NanoML.rootio.remote import storage
from MLTools.NanoML.rootio.remote.server import is_remote, on_cvmfs
from MLTools.NanoML.terminal.progress import say
from MLTools.NanoML.workflow.task import Record, Stamp, Task, do

_PAUSE = 1.0  # seconds between two looks whether the twin of a job has ended
_PERMANENT = ("configuration", "package", "proxy", "variable")
_PROXY_WORDS = ("proxy", "bearer token", "authentication", "auth failed", "[3010]", "no protocols left to try")


def work(path: Path, place: Path, run: Callable[[Sequence[str]], object]) -> int:
    """Do the job that a file describes, write its result to `place`, and return the exit code: 0 if all is done.

    A job that was interrupted at any moment, or that is run twice, does what is left to do. A job that is a command of
    nanoml is done by `run`, which takes its arguments. It raises NanoMLError if the file cannot be read.
    """
    job = Job.read(path)
    with _alone(place):
        result = _begun(job.name, JobResult.read(place))
        result.write(place)
        try:
            _do(job, result, place, run)
        except Exception as problem:
            result.problem = problem_of(problem)
        except BaseException:  # SIGTERM and Ctrl-C
            result.problem = JobProblem("stopped", "the job was told to stop before it was done")
            result.state = "stopped"
            _end(result, place)
            raise
        _end(result, place)
    return result.exit_code or 0


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Wait until no other process does the same job: a batch system may restart a job that it has lost track of."""
    with open(place.with_suffix(".lock"), "a") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say("Another process does the same job: waiting for it.")
                waiting = True
                time.sleep(_PAUSE)
            except OSError:  # a file system without locks: both do the same, and each output appears whole
                break
        yield


def _begun(name: str, before: Optional[JobResult]) -> JobResult:
    batch = os.environ.get("NANOML_BATCH_ID", "")
    begun = JobResult(name, host=platform.node(), process=os.getpid(), batch=batch, started=time.time())
    if before is not None:
        begun.tasks.update(before.records)
        begun.earlier = list(before.earlier)
        if before.state != "done":
            last = next(iter(before.problems), JobProblem("killed", "its process ended without a message"))
            begun.earlier.append(replace(last, host=before.host, observed={}))
    return begun


def _do(job: Job, result: JobResult, place: Path, run: Callable[[Sequence[str]], object]) -> None:
    staging = Staging.of(job, Path.cwd())
    os.environ.update({name: staging.rename(value) for name, value in job.environment.items()})
    if job.proxy:
        from MLTools.NanoML.grid.token import check_access

        check_access()
    if job.command:
        run(job.command)
        return
    for submitted, task in zip(job.recorded(), job.decoded(staging.rename)):
        before = result.tasks.get(task.name)
        if isinstance(before, Record) and all(map(staging.has, before.outputs)):
            say(f"{task.name}: is done already")
            continue
        result.tasks[task.name] = _attempt(job, task, submitted, staging)
        result.write(place)


class _OtherVariableError(NanoMLError):
    """A variable that user code reads is not what it was where the job was submitted."""


def _refuse_other_variables(job: Job, touched: Mapping[str, Optional[str]]) -> None:
    for kind, _, name in (key.partition(" ") for key in touched if job.variables is not None):
        if kind != VARIABLE or SOFTWARE.fullmatch(name):
            continue
        wanted, found = (job.variables or {}).get(name), digest_of(name, touched[f"{kind} {name}"])
        if found != wanted:
            remedy = f'nanoml resubmit hands it on, and batch.setup sets it for all jobs: ["export {name}=..."]'
            if SECRET.fullmatch(name):
                remedy = "It may be a secret by its name, so no job gets it: let your code read a file that only you can read."
            raise _OtherVariableError(
                f"Your code reads the environment variable {name}, which is not the same here as where you submitted. {remedy}"
            )


def _attempt(job: Job, task: Task, submitted: Task, staging: Staging) -> Union[Record, JobProblem]:
    touched = dict[str, Optional[str]]()
    say(f"{task.stage} {task.name}")
    try:
        staging.fetch(task, submitted)
        try:
            done = do(task, job.planned)
        except BaseException:  # including a request to stop
            try:  # what training has learned so far helps the next attempt
                staging.deliver_folders(task)
            except NanoMLError as problem:  # what ended the work says more
                say(str(problem))
            raise
        touched = {staging.submitted_key(key): it for key, it in done.observed.items()}
        given = {f"{VARIABLE} {name}": state_of(name, value) for name, value in job.environment.items()}
        touched.update((key, given[key]) for key in touched.keys() & given)  # paths in them are others here
        _refuse_other_variables(job, touched)
        staging.deliver(task, submitted)
    except Exception as problem:
        reason = problem_of(problem)
        say(f"{task.name}: {reason.message}")
        return replace(reason, observed=touched)
    finally:
        staging.clear(task)
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    memory = int(max(peaks) / (1 << 20 if sys.platform == "darwin" else 1 << 10))
    outputs = tuple(replace(it, path=str(path)) for it, path in zip(done.outputs, submitted.outputs))
    return replace(done, outputs=outputs, observed=touched, memory=memory)


def _end(result: JobResult, place: Path) -> None:
    codes = [PERMANENT if problem.kind in _PERMANENT else FAILED for problem in result.problems]
    if result.state == "running":
        result.state = "failed" if codes else "done"
    result.exit_code = FAILED if result.state == "stopped" else max(codes, default=0)
    result.finished = time.time()
    try:
        result.write(place)
    except NanoMLError as problem:  # on a full disk; the log and the exit code say so
        say(str(problem))
        result.exit_code = max(result.exit_code, FAILED)


def problem_of(problem: Exception) -> JobProblem:
    """The reason for a failure, from the exception; the traceback of an unforeseen one goes to the log."""
    text = str(problem) or type(problem).__name__
    if isinstance(problem, BrokenProcessPool) or lacks_memory(problem):
        return JobProblem("memory", text if isinstance(problem, BrokenProcessPool) else "the memory was used up")
    if getattr(problem, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return JobProblem("disk", text)
    if isinstance(problem, ModuleNotFoundError):
        return JobProblem("package", f"The Python package {problem.name} is missing")
    if isinstance(problem.__cause__, ModuleNotFoundError):
        return JobProblem("package", text)
    if isinstance(problem, _OtherVariableError):
        return JobProblem("variable", text)
    if isinstance(problem, ConfigError):
        return JobProblem("configuration", text)
    if isinstance(problem, NanoMLError):
        if any(word in text.lower() for word in _PROXY_WORDS):
            return JobProblem("proxy", text)
        if isinstance(problem, UnreadableError):
            return JobProblem("unreadable", text, problem.path)
        return JobProblem("error", text)
    for line in traceback.format_exception(type(problem), problem, problem.__traceback__):
        say(line.rstrip())
    return JobProblem("defect", f"{type(problem).__name__}: {text}")


@dataclass(frozen=True)
class Staging:
    """Where the files of a job are on this machine, and on the storage."""

    # workdir, base: directories on the submitting machine
    workdir: str
    base: str
    storage: Optional[Mapping[str, str]]  # as in `Job`; None if this machine sees the same files
    scratch: Path  # directory of the job on this machine
    # URLs of inputs that are read over the network, by their names on the submitting machine
    remote: Mapping[str, str] = field(default_factory=dict)
    corrections: str = ""  # the user's directory of corrections on the submitting machine; empty without one
    # files in folders that the storage has, with their size and time when they were fetched or delivered
    delivered: dict[Path, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, scratch: Path) -> Staging:
        """The staging of a job, whose own directory is `scratch`."""
        from MLTools.NanoML.corrections import era as of_corrections  # awkward, which it imports, takes long

        files = [name for task in job.recorded() for name in task.inputs if name.endswith(".root")]
        urls = {name: url_of(name, job.storage or {}) for name in files if not is_remote(name)}
        remote = {name: url for name, url in urls.items() if url is not None}  # only what is needed is read
        corrections = job.environment.get(of_corrections.VARIABLE, "")
        return cls(job.workdir, job.base, job.storage, scratch, remote, corrections)

    def rename(self, text: str) -> str:
        """The path on this machine for one of the submitting machine; any other text stays as it is."""
        if self.storage is None or not text.startswith("/") or on_cvmfs(text):
            return text
        if text in self.remote:
            return self.remote[text]
        for before, now in ((self.workdir, "work"), (self.base, BASE), (self.corrections, CORRECTIONS)):
            if before and (text == before or text.startswith(before + "/")):
                return str(self.scratch / now) + text[len(before) :]
        if url_of(text, self.storage) is not None:
            return str(self.scratch / "other") + text
        return text

    def submitted_key(self, key: str) -> str:
        """The key of an observation, with the path that it has on the submitting machine."""
        kind, _, path = key.partition(" ")
        for before, now in ((self.workdir, "work"), (self.base, BASE), (self.corrections, CORRECTIONS)):
            if self.storage is not None and path.startswith(f"{self.scratch / now}/"):
                return f"{kind} {before}{path[len(str(self.scratch / now)) :]}"
        return key

    def fetch(self, task: Task, submitted: Task) -> None:
        """Get the inputs that are not read over the network, and the folders of a task, which has other paths here."""
        if self.storage is None:
            return
        for name, path in zip(submitted.inputs, task.inputs):
            if not is_remote(path) and not os.path.exists(path):
                url = self._url(name)
                make_directory(Path(path).parent)
                storage.copy(url, path)
        for folder, url in self._folders(task):
            if storage.exists(url):
                self.delivered.update((path, _version(path)) for path in storage.fetch_directory(url, folder))

    def deliver(self, task: Task, submitted: Task) -> None:
        """Copy the folders and outputs of a task to the storage."""
        if self.storage is None:
            return
        self.deliver_folders(task)
        for name, path in zip(submitted.outputs, task.outputs):
            if self.delivered.get(path) != _version(path):
                storage.copy(path, self._url(str(name)))

    def deliver_folders(self, task: Task) -> None:
        """Copy the folders of a task to the storage as they are now, so that another attempt can continue from them.

        What has not changed since it was fetched is not copied: a later time would make it look new. What has been
        removed here is removed there. The outputs come last, since they say that the rest is there.
        """
        if self.storage is None:
            return
        for folder, url in self._folders(task):
            for path in [path for path in self.delivered if folder in path.parents and not path.exists()]:
                storage.remove(f"{url}/{path.relative_to(folder)}", missing_ok=True)
                del self.delivered[path]
            found = [path for path in folder.rglob("*") if path.is_file() and not is_aside(path)]
            for path in sorted(found, key=lambda path: (path in task.outputs, path)):
                version = _version(path)
                if self.delivered.get(path) != version:
                    storage.copy(path, f"{url}/{path.relative_to(folder)}")
                    self.delivered[path] = version

    def clear(self, task: Task) -> None:
        """Remove what has been delivered, or has failed: the next task may need the space."""
        if self.storage is None:
            return
        for path in task.outputs:
            path.unlink(missing_ok=True)
        for folder in task.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def has(self, output: Stamp) -> bool:
        """Whether an output of an earlier attempt is as that left it."""
        if self.storage is not None:
            url = self._url(output.path)
            return storage.exists(url) and storage.size(url) == output.size
        try:
            return _version(Path(output.path)) == (output.size, output.modified)
        except OSError:
            return False

    def _folders(self, task: Task) -> Sequence[tuple[Path, str]]:
        """The folders of a task, and their URLs."""
        now = len(str(self.scratch / "work"))
        return [(folder, self._url(self.workdir + str(folder)[now:])) for folder in task.folders]

    def _url(self, name: str) -> str:
        if on_cvmfs(name):
            raise NanoMLError(f"{name}: this worker does not have it: CVMFS is not mounted, or its copy is older.")
        url = url_of(name, self.storage or {})
        if url is None:
            raise ConfigError(f"{name}: workers do not see it. Put it where they do: {', '.join(self.storage or {})}.")
        return url


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
