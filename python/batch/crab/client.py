"""CRAB's client: its commands, and the states and exit codes of jobs in what it prints."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from MLTools.NanoML.batch.job import JobProblem
from MLTools.NanoML.errors import NanoMLError

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
