"""The commands of CRAB's client, and what it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.errors import NanoMLError

__all__ = ["Answer", "Client"]

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
class Answer:
    """What `crab status` says of a task.

    Attributes
    ----------
    server
        The state of the task, as NEW, SUBMITTED, SUBMITFAILED or KILLED; empty if the server did not answer.
    jobs
        By their numbers, what CRAB has of each: "State", "Error", "SiteHistory" and so on.
    refusal
        Why the server did not take the task.
    is_forgotten
        Whether it is too long ago for CRAB to know of its jobs.
    said
        Of an answer that cannot be understood, its end.
    """

    server: str
    jobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refusal: str = ""
    is_forgotten: bool = False
    said: str = ""


@dataclass(frozen=True)
class Client:
    """CRAB's client, for a task.

    Attributes
    ----------
    directory
        Of the task, as `write_tasks` makes it.
    request
        Its name in CRAB.
    """

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
        """What the server calls the task; empty if it has not been submitted."""
        try:  # a pickle of text, which is not unpickled: it may hold classes that are only in CMSSW
            text = (self.project / _CACHE).read_text(encoding="ascii", errors="replace")
        except OSError:
            return ""
        found = _NAME.search(text)
        return found[0] if found else ""

    def submit(self) -> None:
        """Submit the task.

        Raises
        ------
        NanoMLError
            CRAB does not take it.
        """
        code, text = _crab(["submit", "-c", "crab_cfg.py"], self.directory, 900)
        if code or not self.is_submitted:
            raise NanoMLError(f"crab submit: {_end(text)}")

    def recover(self, since: str) -> bool:
        """Find out whether the task was submitted, if `crab submit` was interrupted in between.

        Parameters
        ----------
        since
            The day before which it was not, as in 2024-05-31.

        Raises
        ------
        NanoMLError
            CRAB does not say it.
        """
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

    def status(self) -> Answer:
        """Ask how the task goes; whatever goes wrong is in the answer."""
        try:
            _, text = _crab(["status", "-d", str(self.project), "--json"], self.directory)
        except NanoMLError as problem:
            return Answer("", said=str(problem))
        server, refusal = _SERVER.search(text), _REFUSAL.search(text)
        if server is None:
            return Answer("", said=_end(text))
        return Answer(
            server[1],
            _jobs(text),
            " ".join(refusal[1].split()) if refusal else "",
            _PURGED in text,
        )

    def resubmit(self, jobs: Sequence[str], memory: Optional[int], minutes: Optional[int]) -> None:
        """Submit failed jobs again.

        Parameters
        ----------
        jobs
            Their numbers.
        memory, minutes
            What they ask for from now on; None for what they asked for.

        Raises
        ------
        NanoMLError
            CRAB does not do it.
        """
        command = ["resubmit", "-d", str(self.project), f"--jobids={','.join(jobs)}"]
        command += [f"--maxmemory={memory}"] if memory else []
        command += [f"--maxjobruntime={minutes}"] if minutes else []
        self._do(command)

    def kill(self) -> None:
        """End all jobs of the task.

        Raises
        ------
        NanoMLError
            CRAB does not do it.
        """
        self._do(["kill", "-d", str(self.project)])

    def outputs(self, jobs: Sequence[str]) -> list[str]:
        """The logical names of the outputs of jobs that are done.

        Raises
        ------
        NanoMLError
            CRAB does not tell them.
        """
        command = ["getoutput", "-d", str(self.project), "--dump"]
        parts = [
            self._do([*command, f"--jobids={','.join(jobs[begin : begin + _MOST])}"])
            for begin in range(0, len(jobs), _MOST)
        ]
        names = [name for part in parts for name in _LFN.findall(part)]
        return sorted(names, key=lambda name: [int(number) for number in _JOB.findall(name)])

    def log(self, job: str) -> Path:
        """Fetch the short log of a job, of the last time that it was tried.

        Raises
        ------
        NanoMLError
            There is none yet.
        """
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
    told = [line for line in lines if not line.startswith(_CHATTER)]
    return " ".join(told[-4:])[:600] or "it said nothing"


def _jobs(text: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for line in _objects(text):
        found.update(
            (number, job)
            for number, job in line.items()
            if _JOB.fullmatch(number) and isinstance(job, dict) and isinstance(job.get("State"), str)
        )
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                yield dict(json.loads(line))
            except ValueError:
                continue
