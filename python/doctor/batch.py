"""Batch systems: their programs, and whether the queue answers."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from MLTools.NanoML.doctor.finding import Finding
from MLTools.NanoML.doctor.outside import ask, has

__all__ = ["crab", "htcondor", "slurm"]


def htcondor() -> Finding:
    """Check HTCondor, by asking for one's own jobs."""
    return _queue(
        "condor_submit", ["condor_q", "-totals"], "log in to lxplus, or to the machine that submits"
    )


def slurm() -> Finding:
    """Check Slurm, by asking for one's own jobs."""
    command = ["squeue", "--noheader", "--user", getpass.getuser()]
    return _queue("sbatch", command, "log in to the machine from which the cluster's jobs are submitted")


def _queue(submits: str, question: Sequence[str], mend: str) -> Finding:
    if not has(submits) or not has(question[0]):
        return Finding(False, f"{submits} is not in the PATH", mend)
    answer = ask(question)
    if answer.code != 0:
        return Finding(
            False, f"{question[0]}: {answer.first_line}", f"try again in a minute: {' '.join(question)}"
        )
    return Finding(True, "the queue answers")


def crab() -> Finding:
    """Check that CRAB's client is here. It is not run, which takes seconds."""
    if not has("crab"):
        return Finding(
            False,
            "crab is not in the PATH",
            "source /cvmfs/cms.cern.ch/common/crab-setup.sh, after cmsenv",
        )
    return Finding(True, "crab is in the PATH")
