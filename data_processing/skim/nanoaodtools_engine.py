"""Skims by nanoAOD-tools itself: the same job, run by the PostProcessor of PhysicsTools/NanoAODTools."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_processing.skim.job import SkimJob
from data_processing.skim.nanoaodtools_process import ERROR
from MLTools.NanoML.atomic import aside_of, make_directory, replacing
from MLTools.NanoML.contracts.provenance import Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile

__all__ = ["postprocess_file"]

_NEEDED = ("ROOT", "PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor")
_LINES = 20  # of what nanoAOD-tools printed before it failed


def postprocess_file(job: SkimJob) -> dict[str, Any]:
    """Skim one file by nanoAOD-tools, in a process of its own.

    Parameters
    ----------
    job
        What to do; `chunk` and `memory` do not matter.

    Returns
    -------
    The file's accounting, as of `skim_file`. The output has the same events, branches and record.

    Raises
    ------
    NanoMLError
        ROOT or nanoAOD-tools cannot be imported, nanoAOD-tools cannot do what is asked for, or one of the errors of
        `skim_file`; nothing is written then.
    """
    _require()
    make_directory(job.output.parent)
    hidden = aside_of(job.output, "nanoaodtools-").stem
    with replacing(job.output) as aside:
        with TemporaryDirectory(prefix=hidden, dir=job.output.parent) as folder:
            os.replace(_run(job, Path(folder)), aside)
        with RootFile(aside) as file:
            record = Provenance.of(file)
    assert record is not None
    return record.accounting.as_dict()


def _require() -> None:
    missing = [name.partition(".postprocessing")[0] for name in _NEEDED if not _is_there(name)]
    if missing:
        raise NanoMLError(
            f"skim.engine nanoaodtools: {' and '.join(missing)} cannot be imported by {sys.executable}. In CMSSW "
            "(13_3 and newer have both) run cmsenv first; elsewhere install ROOT (pip install root) and put the "
            "directory that holds PhysicsTools/NanoAODTools into PYTHONPATH. The engine columnar needs neither."
        )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # one of its packages
        return False


def _run(job: SkimJob, folder: Path) -> Path:
    """Run nanoAOD-tools; return the file that it wrote."""
    # a process for each file: ROOT takes the tree of the next one for the last one's where it lies at the same place
    done = subprocess.run(
        [sys.executable, "-m", "data_processing.skim.nanoaodtools_process"],
        input=pickle.dumps((job, folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    if (folder / ERROR).exists():
        problem: NanoMLError = pickle.loads((folder / ERROR).read_bytes())
        raise problem
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().split("\n")[-_LINES:]
        raise NanoMLError(
            f"{job.source}: nanoAOD-tools failed (exit code {done.returncode}). The last that it said:\n"
            + "\n".join(f"  {line}" for line in lines)
        )
    [output] = (folder / "out").iterdir()
    return output
