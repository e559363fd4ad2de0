"""The commands of CRAB's client, what it prints, and the exit codes of its jobs in words."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.batch.problems import JobProblem
from MLTools.NanoML.errors import NanoMLError

__all__ = ["CrabClient", "CrabStatus", "GridJob", "problem_of_code"]

_CACHE = ".requestcache"  # CRAB writes it when its server has taken a task
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SERVER = re.compile(r"^Status on the CRAB server:\s*(\w+)", re.M)
_REFUSAL = re.compile(r"^Failure message from server:\s*(.*(?:\n\t\t\t\t.*)*)", re.M)
_PURGED = "Files are purged from Grid scheduler"
_NAME = re.compile(r"(?<!\d)\d{6}_\d{6}\w*:[A-Za-z0-9-]+_crab_[A-Za-z0-9_-]+")
_LFN = re.compile(r"^ +LFN: (\S+)", re.M)
_JOB = re.compile(r"\d+")
_CHATTER = ("Log file is", "{", "Will use CRAB configuration file", "Sending the request to the server")
_MOST = 500  # jobs that `crab getoutput` and `getlog` take at a time


@dataclass(frozen=True)
class GridJob:
    """A job as CRAB knows it: its state, exit code and message, where it last ran, and how often it was submitted."""

    state: str
    code: Optional[int] = None
    message: str = ""
    site: str = ""
    tries: int = 0


@dataclass(frozen=True)
class CrabStatus:
    """What `crab status` says about a task."""

    # the state of the task, such as NEW, SUBMITTED, SUBMITFAILED or KILLED; empty if the server did not
    # answer
    server: str
    jobs: Mapping[str, GridJob] = field(default_factory=dict)  # its jobs by number
    refusal: str = ""  # why the server did not take the task
    is_forgotten: bool = False  # whether the task is so old that CRAB has forgotten its jobs
    said: str = ""  # the end of an answer that cannot be understood


@dataclass(frozen=True)
class CrabClient:
    """CRAB's client, for the task in a directory, under its name in CRAB."""

    directory: Path
    request: str

    @property
    def project(self) -> Path:
        """The directory that CRAB makes for the task."""
        return self.directory / "crab" / f"crab_{self.request}"

    @property
    def is_submitted(self) -> bool:
        """Whether CRAB's server has taken the task."""
        return (self.project / _CACHE).is_file()

    @property
    def name(self) -> str:
        """The name that the server gave the task; empty if it has not been submitted."""
        try:  # a pickle of text, which is not unpickled: it may hold classes that are only in CMSSW
            text = (self.project / _CACHE).read_text(encoding="ascii", errors="replace")
        except OSError:
            return ""
        found = _NAME.search(text)
        return found[0] if found else ""

    def submit(self) -> None:
        """Submit the task; an error if CRAB does not take it."""
        code, text = _crab(["submit", "-c", "crab_cfg.py"], self.directory, 900)
        if code or not self.is_submitted:
            raise NanoMLError(f"crab submit: {_end(text)}")

    def recover(self, since: str) -> bool:
        """Find out whether the task was submitted, if `crab submit` was interrupted, no earlier than on a day (2024-05-31)."""
        if self.is_submitted or not self.project.is_dir():
            return self.is_submitted
        code, text = _crab(["tasks", f"--fromdate={since}"], self.directory)
        if code:
            raise NanoMLError(f"crab tasks: {_end(text)}")
        found = [name for name in _NAME.findall(text) if name.endswith(f"_crab_{self.request}")]
        os.replace(self.project, f"{self.project}.interrupted-{os.getpid()}")
        if not found:
            return False
        code, text = _crab(["remake", f"--task={max(found)}"], self.project.parent)
        if code or not self.is_submitted:
            raise NanoMLError(f"crab remake: {_end(text)}")
        return True

    def status(self) -> CrabStatus:
        """Ask how the task is doing; whatever goes wrong is in the answer."""
        try:
            _, text = _crab(["status", "-d", str(self.project), "--json"], self.directory)
        except NanoMLError as problem:
            return CrabStatus("", said=str(problem))
        server, refusal = _SERVER.search(text), _REFUSAL.search(text)
        if server is None:
            return CrabStatus("", said=_end(text))
        return CrabStatus(server[1], _jobs(text), " ".join(refusal[1].split()) if refusal else "", _PURGED in text)

    def resubmit(self, jobs: Sequence[str], memory: Optional[int], minutes: Optional[int]) -> None:
        """Submit failed jobs again, asking for this memory [MB] and time from now on; None for what they asked for."""
        command = ["resubmit", "-d", str(self.project), f"--jobids={','.join(jobs)}"]
        command += [f"--maxmemory={memory}"] if memory else []
        command += [f"--maxjobruntime={minutes}"] if minutes else []
        self._do(command)

    def kill(self) -> None:
        """End all jobs of the task."""
        self._do(["kill", "-d", str(self.project)])

    def outputs(self, jobs: Sequence[str]) -> list[str]:
        """The logical names of the outputs of jobs that are done."""
        command = ["getoutput", "-d", str(self.project), "--dump"]
        parts = [
            self._do([*command, f"--jobids={','.join(jobs[begin : begin + _MOST])}"])
            for begin in range(0, len(jobs), _MOST)
        ]
        names = [name for part in parts for name in _LFN.findall(part)]
        return sorted(names, key=lambda name: [int(number) for number in _JOB.findall(name)])

    def log(self, job: str) -> Path:
        """Fetch the short log of the last attempt at a job."""
        self._do(["getlog", "-d", str(self.project), "--short", f"--jobids={job}"])
        found = list((self.project / "results").glob(f"job_out.{job}.*.txt"))
        if not found:
            raise NanoMLError(f"{self.directory.name}-{job}: CRAB has no log of it yet.")
        return max(found, key=lambda path: int(path.name.split(".")[-2]))

    def _do(self, command: Sequence[str]) -> str:
        code, text = _crab(command, self.directory)
        if code:
            raise NanoMLError(f"crab {command[0]}: {_end(text)}")
        return text


def _crab(command: Sequence[str], directory: Path, timeout: float = 180.0) -> tuple[int, str]:
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


def _end(text: str) -> str:
    """The last lines of what was printed that say something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = [line for line in lines if not line.startswith(_CHATTER)]
    return " ".join(last[-4:])[:600] or "it said nothing"


def _jobs(text: str) -> dict[str, GridJob]:
    found = {}
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            content = json.loads(line) if line.startswith("{") else {}
            for number, job in content.items():
                if _JOB.fullmatch(number) and isinstance(job, dict) and isinstance(job.get("State"), str):
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


def problem_of_code(code: int, message: str) -> JobProblem:
    """Why a job failed, from its exit code and what CRAB says with it."""
    said = " ".join(message.split())
    kind, words = _CODES.get(code, ("error", ""))
    words = f", {words}" if words else ""
    return JobProblem(kind, f"exit code {code}{words}{f': {said}' if said else ''}")
