"""Exit codes of CRAB's jobs, in words."""

from __future__ import annotations

from MLTools.NanoML.batch.result import Problem

__all__ = ["ADVICE", "problem_of_code"]

_ANEW = "mend it; what was sent cannot be changed, so then: nanoml kill, nanoml submit skim --on crab"
_AGAIN = "nanoml resubmit tries again"

ADVICE = {
    "unreadable": f"{_AGAIN}; CRAB has tried several sites already",
    "configuration": _ANEW,
    "error": f"nanoml logs shows why. If it is your code: {_ANEW}",
    "memory": "nanoml resubmit asks for more",
    "time": "nanoml resubmit asks for more",
    "disk": "give jobs less to do (batch.files_per_job), then: nanoml kill, nanoml submit skim --on crab",
    "package": f"{_AGAIN}",
    "storage": f"see whether you may write to batch.grid.directory and have room there, then: {_AGAIN}",
    "stopped": f"{_AGAIN}",
    "lost": f"{_AGAIN}",
    "rejected": "change what it says, then: nanoml resubmit, or nanoml submit skim --on crab",
    "removed": "nanoml submit skim --on crab does the whole dataset anew",
}
"""Kinds of reasons, and what to do about them, where the jobs are CRAB's."""

_CODES = {
    "unreadable": {
        8020: "a file cannot be opened at any place",
        8021: "a file cannot be read",
        8022: "a file is damaged",
        8028: "a file cannot be opened at the site nor elsewhere",
    },
    "configuration": {
        8009: "something is wrong with what was asked for",
    },
    "error": {
        8001: "an exception of CMSSW",
        8002: "an error that nobody foresaw",
        50115: "the job left no report",
    },
    "memory": {
        50660: "the job used more memory than it asked for",
    },
    "time": {
        50664: "the job ran longer than it asked for",
        50663: "the job used more time of the CPU than it asked for",
        60403: "there was no time left to write the output to the storage",
    },
    "disk": {
        50662: "the job used more disk than a job may",
    },
    "package": {
        10034: "the release is not at the site",
        50513: "there is no working CMSSW at the site",
    },
    "storage": {
        60302: "the job's output was not there to be written to the storage",
        60307: "the output could not be written to the storage",
        60311: "the output could not be written to the storage",
        60317: "the transfer of the output took too long",
        60318: "the output could not be entered into the job's report",
        60321: "the storage did not answer",
        60322: "you may not write to this directory of the storage",
        60323: "the storage is full, or your quota of it",
        60324: "the transfer of the output failed",
        80000: "the output could not be moved",
        90000: "what comes after the job, as the transfer of its output, failed",
    },
    "stopped": {
        50665: "the job waited for more than a week",
        50666: "the batch system ended the job",
        50669: "the batch system ended the job",
        137: "the site killed the job",
    },
    "lost": {
        10040: "the site could not prepare the job",
    },
}


def problem_of_code(code: int, message: str) -> Problem:
    """Why a job failed, of its exit code and what CRAB says beside it."""
    said = " ".join(message.split())
    for kind, words in _CODES.items():
        if code in words:
            return Problem(kind, f"exit code {code}, {words[code]}{f': {said}' if said else ''}")
    return Problem("error", f"exit code {code}{f': {said}' if said else ''}")
