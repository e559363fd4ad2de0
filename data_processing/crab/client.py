"""A task of CRAB: what was written for it, its jobs, and CRAB's client: its commands, and what it says about them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.batch.job import JobProblem, JobResult
from MLTools.NanoML.batch.submission import JobEntry, Submission
from MLTools.NanoML.batch.system import QueueState
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extending import Resources

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CHATTER = ("Log file is", "{", "Will use CRAB configuration file", "Sending the request to the server")

_CODES = {
    8020: ("unreadable", "a file cannot be opened anywhere"),
    8021: ("unreadable", "a file cannot be read"),
    8022: ("unreadable", "a file is damaged"),
    8028: ("unreadable", "a file cannot be opened at the site nor elsewhere"),
    8009: ("configuration", "something is wrong with what was asked for"),
    8001: ("error", "an exception in CMSSW"),
    8002: ("error", "an unforeseen error"),
    50115: ("error", "the job left no report"),
    50660: ("memory", "the job used more memory than it asked for"),
    50664: ("time", "the job ran longer than it asked for"),
    50663: ("time", "the job used more CPU time than it asked for"),
    60403: ("time", "there was no time left to write the output to the storage"),
    50662: ("disk", "the job used more disk than a job may"),
    10034: ("package", "the release is not at the site"),
    50513: ("package", "there is no working CMSSW at the site"),
    60302: ("storage", "the job's output was not there to be written to the storage"),
    60307: ("storage", "the output could not be written to the storage"),
    60311: ("storage", "the output could not be written to the storage"),
    60317: ("storage", "the transfer of the output took too long"),
    60318: ("storage", "the output could not be entered into the job's report"),
    60321: ("storage", "the storage did not answer"),
    60322: ("storage", "you may not write to this directory of the storage"),
    60323: ("storage", "the storage is full, or your quota of it"),
    60324: ("storage", "the transfer of the output failed"),
    80000: ("storage", "the output could not be moved"),
    90000: ("storage", "what follows the job, such as the transfer of its output, failed"),
    50665: ("stopped", "the job waited for more than a week"),
    50666: ("stopped", "the batch system ended the job"),
    50669: ("stopped", "the batch system ended the job"),
    137: ("stopped", "the site killed the job"),
    10040: ("lost", "the site could not prepare the job"),
}
_CACHE = ".requestcache"  # CRAB writes it when its server has taken a task
_SERVER = re.compile(r"^Status on the CRAB server:\s*(\w+)", re.M)
_REFUSAL = re.compile(r"^Failure message from server:\s*(.*(?:\n\t\t\t\t.*)*)", re.M)
_PURGED = "Files are purged from Grid scheduler"
_NAME = re.compile(r"(?<!\d)\d{6}_\d{6}\w*:[A-Za-z0-9-]+_crab_[A-Za-z0-9_-]+")
_LFN = re.compile(r"^ +LFN: (\S+)", re.M)
_CHANGING = ("NEW", "HOLDING", "QUEUED", "WAITING", "TAPERECALL", "KILLRECALL")
REFUSED, _KILLED, _FORGOTTEN = "SUBMITFAILED", "KILLED", "FORGOTTEN"
_MOST = 500  # jobs that `crab getoutput` takes at a time
_TIME = 1250 * 60  # seconds: CRAB's default
_STALE = 3600  # seconds after which what CRAB says about resubmitted jobs is believed in any case


@dataclass(frozen=True)
class GridJob:
    """A job as CRAB knows it: its state, exit code and message, where it last ran, and how often it was submitted."""

    state: str
    code: Optional[int] = None
    message: str = ""
    site: str = ""
    tries: int = 0

    @property
    def problem(self) -> JobProblem:
        """Why it failed."""
        if self.code is None:
            return JobProblem("error", "CRAB does not say why")
        kind, words = _CODES.get(self.code, ("error", ""))
        words, said = f", {words}" if words else "", " ".join(self.message.split())
        return JobProblem(kind, f"exit code {self.code}{words}{f': {said}' if said else ''}")


def output_of(command: Sequence[str], directory: Path) -> str:
    """The output of `crab`; an error if it fails."""
    code, text = run_client(command, directory)
    if code:
        raise NanoMLError(f"crab {command[0]}: {last_words(text)}")
    return text


def run_client(command: Sequence[str], directory: Path, timeout: float = 180.0) -> tuple[int, str]:
    """Run `crab`, and return its exit code and what it printed."""
    try:
        done = subprocess.run(
            ["crab", *command],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except FileNotFoundError:
        raise NanoMLError(
            "crab: is not in the PATH. In the CMSSW area: cmsenv, then source /cvmfs/cms.cern.ch/common/crab-setup.sh"
        ) from None
    except subprocess.TimeoutExpired:
        raise NanoMLError(
            f"crab {command[0]}: did not answer in {timeout:.0f} s. Without a valid proxy it may wait for a pass phrase: "
            "nanoml proxy init"
        ) from None
    text = _COLOURS.sub("", done.stdout)
    if "CMSSW is missing" in text:  # its exit code is 0
        raise NanoMLError("crab: needs CMSSW. Do cmsenv first, in the CMSSW area.")
    return done.returncode, text


def last_words(text: str) -> str:
    """The last lines of what was printed that say something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = [line for line in lines if not line.startswith(_CHATTER)]
    return " ".join(last[-4:])[:600] or "it said nothing"


def jobs_in(text: str) -> dict[str, GridJob]:
    """The jobs in what `crab status --json` prints, by their numbers."""
    found = {}
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            content = json.loads(line) if line.startswith("{") else {}
            for number, job in content.items():
                if number.isdecimal() and isinstance(job, dict) and isinstance(job.get("State"), str):
                    found[number] = _job(job)
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def _job(content: Mapping[str, Any]) -> GridJob:
    error = content.get("Error")
    code, message = None, ""
    if isinstance(error, list) and len(error) > 1 and isinstance(error[0], int):
        code, message = error[0], str(error[1])
    sites = [site for site in content.get("SiteHistory") or [] if site != "Unknown"]
    tries = len(content.get("SubmitTimes") or [])
    return GridJob(content["State"], code, message, sites[-1] if sites else "", tries)


@dataclass(frozen=True)
class CrabTask:
    """A task whose directory has been written: what one `crab submit` submits."""

    name: str  # of the directory
    dataset: str  # the dataset of the configuration, of which it is all or a part
    what: str  # what is read, for people
    request: str  # its name in CRAB
    memory: int  # of a job [MB]
    time: Optional[int]  # wall time of a job [s]; None for CRAB's default
    scores: Sequence[str]  # names of the models that score
    digest: str  # distinguishes it from tasks that read or do something else, or write elsewhere

    def entry(self, number: str = "") -> JobEntry:
        """The entry of a job, or of the whole task while CRAB has not made its jobs."""
        name = f"{self.name}-{number}" if number else self.name
        return JobEntry(name, self.name, [number or self.name], Resources(self.time or _TIME, self.memory))


@dataclass
class CrabRecord:
    """The answers of CRAB about a task, and the requests to it, as the submission keeps it."""

    server: str = ""  # the task's state, such as NEW, SUBMITTED or KILLED
    refusal: str = ""  # why the server did not take it
    name: str = ""  # the server's name for it
    jobs: dict[str, GridJob] = field(default_factory=dict)
    # by job: how many tries it had when it was resubmitted, and when that was [s since 1970]
    again: dict[str, list[float]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    listed: int = 0  # the number of jobs whose outputs are known
    asked: dict[str, int] = field(default_factory=dict)  # memory and time that resubmitted jobs ask for

    @property
    def done(self) -> list[str]:
        """The jobs that are done."""
        return [number for number, job in self.jobs.items() if job.state == "finished"]


@dataclass(frozen=True)
class JobNow:
    """A job at a poll; the whole task, if CRAB has not made its jobs yet."""

    entry: JobEntry
    state: QueueState
    result: Optional[JobResult] = None

    @classmethod
    def failed(cls, entry: JobEntry, problem: JobProblem, site: str = "") -> JobNow:
        """One that failed."""
        return cls(entry, QueueState("ended"), JobResult(entry.name, "failed", host=site, problem=problem))


@dataclass(frozen=True)
class CrabProject:
    """A task and what is known about it, in its directory, where CRAB's client keeps a project for it."""

    directory: Path
    written: CrabTask
    record: CrabRecord

    @classmethod
    def all_of(cls, submission: Submission) -> dict[str, CrabProject]:
        """The tasks of a submission, by name, as it keeps them."""
        records: Mapping[str, Any] = submission.handles.get("tasks", {})
        found = {}
        for name, content in submission.handles["written"].items():
            known = records.get(name, {})
            jobs = {number: GridJob(**job) for number, job in known.get("jobs", {}).items()}
            record = CrabRecord(**{**known, "jobs": jobs})
            found[name] = cls(submission.directory / name, CrabTask(**content), record)
        return found

    @property
    def path(self) -> Path:
        """The directory that CRAB makes for the task."""
        return self.directory / "crab" / f"crab_{self.written.request}"

    @property
    def is_submitted(self) -> bool:
        """Whether CRAB's server has taken the task."""
        return (self.path / _CACHE).is_file()

    @property
    def name(self) -> str:
        """The name that the server gave the task; empty if it has not been submitted."""
        try:  # a pickle of text, which is not unpickled: it may hold classes that are only in CMSSW
            text = (self.path / _CACHE).read_text(encoding="ascii", errors="replace")
        except OSError:
            return ""
        found = _NAME.search(text)
        return found[0] if found else ""

    @property
    def is_done(self) -> bool:
        """Whether all jobs are done."""
        return bool(self.record.jobs) and len(self.record.done) == len(self.record.jobs)

    @property
    def is_settled(self) -> bool:
        """Whether all jobs are done and their outputs known: there is nothing left to ask."""
        return self.is_done and self.record.listed == len(self.record.jobs)

    @property
    def is_active(self) -> bool:
        """Whether the server is working on it, or jobs have not ended."""
        return self.record.server in _CHANGING or any(job.state.state != "ended" for job in self.jobs())

    def submit(self) -> None:
        """Submit the task; an error if CRAB does not take it."""
        code, text = run_client(["submit", "-c", "crab_cfg.py"], self.directory, 900)
        if code or not self.is_submitted:
            raise NanoMLError(f"crab submit: {last_words(text)}")

    def kill(self) -> None:
        """End all jobs of the task."""
        self._do("kill")

    def log(self, job: str) -> Path:
        """Fetch the short log of the last attempt at a job."""
        self._do("getlog", "--short", f"--jobids={job}")
        found = list((self.path / "results").glob(f"job_out.{job}.*.txt"))
        if not found:
            raise NanoMLError(f"{self.directory.name}-{job}: CRAB has no log of it yet.")
        return max(found, key=lambda path: int(path.name.split(".")[-2]))

    def ask(self) -> tuple[bool, list[str]]:
        """Ask how it is doing, and note the answer; whether there was one, and what the user must know about it."""
        name, record = self.written.name, self.record
        try:
            _, text = run_client(["status", "-d", str(self.path), "--json"], self.directory)
            said = last_words(text)
        except NanoMLError as problem:
            text, said = "", str(problem)
        server, refusal = _SERVER.search(text), _REFUSAL.search(text)
        if server is None:
            return False, [f"{name}: CRAB does not answer ({said}): this is what it said before."]
        record.server = _FORGOTTEN if _PURGED in text else server[1]
        record.refusal = " ".join(refusal[1].split()) if refusal else ""
        record.jobs = jobs_in(text) or record.jobs
        is_new = record.refusal and server[1] != REFUSED
        return True, [f"{name}: {server[1]}: {record.refusal}"] if is_new else []

    def jobs(self) -> Iterator[JobNow]:
        """Its jobs as they are known."""
        server, entry = self.record.server, self.written.entry()
        if server == REFUSED:
            yield JobNow.failed(entry, JobProblem("rejected", self.record.refusal or "CRAB does not say why"))
        elif self.record.jobs:
            yield from (self._job(number, job) for number, job in self.record.jobs.items())
        elif server in (_KILLED, _FORGOTTEN, "FAILED"):
            yield JobNow.failed(entry, JobProblem("removed", f"the task is {server} for CRAB, and has no jobs"))
        else:
            yield JobNow(entry, QueueState("waiting"))

    def _job(self, number: str, job: GridJob) -> JobNow:
        entry, server, has_failed = self.written.entry(number), self.record.server, job.state == "failed"
        tries, when = self.record.again.get(number, (-1, 0.0))
        # CRAB takes minutes until it starts what was resubmitted
        is_old_news = job.tries == tries and time.time() - when < _STALE
        if job.state == "finished":
            result = JobResult(entry.name, "done", {}, job.site)
            return JobNow(entry, QueueState("ended"), result)
        if job.state == "killed" or (server == _KILLED and not has_failed):
            return JobNow.failed(entry, JobProblem("removed", "the job was killed"), job.site)
        if has_failed and not is_old_news:
            return JobNow.failed(entry, job.problem, job.site)
        if server == _FORGOTTEN and not has_failed:
            return JobNow.failed(entry, JobProblem("lost", "CRAB no longer knows how the job ended"), job.site)
        is_running = job.state in ("running", "transferring", "transferred")
        return JobNow(entry, QueueState("running" if is_running else "waiting"), JobResult(entry.name, host=job.site))

    def list_outputs(self) -> list[str]:
        """Ask for the logical names of the outputs; return what the user must know."""
        name, record, done = self.written.name, self.record, self.record.done
        if record.listed == len(done):
            return []
        portions = [",".join(done[begin : begin + _MOST]) for begin in range(0, len(done), _MOST)]
        try:
            texts = [self._do("getoutput", "--dump", f"--jobids={portion}") for portion in portions]
        except NanoMLError as problem:
            return [f"{name}: the names of its outputs are not known yet ({problem}): ask again."]
        found = _LFN.findall("\n".join(texts))
        record.outputs = sorted(found, key=lambda output: [int(number) for number in re.findall(r"\d+", output)])
        if len(found) != len(done):
            return [f"{name}: {len(done)} jobs are done, but CRAB names {len(found)} outputs: ask again."]
        record.listed = len(done)
        return []

    def resubmit(self, jobs: Sequence[str], more: Mapping[str, int]) -> None:
        """Submit failed jobs again, asking for more memory [MB] or time [s] from now on where that is given."""
        options = [f"--maxmemory={more['memory']}"] if "memory" in more else []
        options += [f"--maxjobruntime={more['time'] // 60}"] if "time" in more else []
        self._do("resubmit", f"--jobids={','.join(jobs)}", *options)
        self.record.again.update((number, [self.record.jobs[number].tries, time.time()]) for number in jobs)
        self.record.asked.update(more)

    def recover(self, since: str) -> bool:
        """Whether the task was submitted, even if `crab submit` was interrupted, no earlier than on a day (2024-05-31)."""
        if self.is_submitted or not self.path.is_dir():
            return self.is_submitted
        text = output_of(["tasks", f"--fromdate={since}"], self.directory)
        found = [name for name in _NAME.findall(text) if name.endswith(f"_crab_{self.written.request}")]
        os.replace(self.path, f"{self.path}.interrupted-{os.getpid()}")
        if not found:
            return False
        text = output_of(["remake", f"--task={max(found)}"], self.path.parent)
        if not self.is_submitted:
            raise NanoMLError(f"crab remake: {last_words(text)}")
        return True

    def _do(self, command: str, *options: str) -> str:
        return output_of([command, "-d", str(self.path), *options], self.directory)
