"""Where a model is run to be verified: with the ONNX Runtime that is here, or with another version of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import elsewhere
from MLTools.NanoML.model.trials import SIZES, Trial
from MLTools.NanoML.progress import say

__all__ = ["Outcome", "Outcomes", "run_elsewhere", "run_here"]

Outcome = Union[list[NDArray[np.float32]], str]
"""The outputs, or why there are none."""

Outcomes = dict[tuple[str, int], Outcome]
"""By the name of the trial and its number of rows."""


def run_here(session: Any, trials: Sequence[Trial]) -> Outcomes:
    """Run trials in all sizes by an open session of ONNX Runtime."""
    return {(trial.name, size): _outcome(session, trial, size) for trial in trials for size in SIZES}


def _outcome(session: Any, trial: Trial, size: int) -> Outcome:
    try:
        found: list[NDArray[np.float32]] = session.run(None, trial.rows(size))
    except Exception as problem:  # ONNX Runtime's exceptions have no common base class
        return str(problem).split("\n")[0]
    return found


def run_elsewhere(model: str, trials: Sequence[Trial], version: str) -> Outcomes:
    """Run trials in all sizes by a version of ONNX Runtime, in an environment that is made for it and removed again.

    Raises
    ------
    NanoMLError
        There is no such version for this Python, it cannot be installed, or it cannot load the model or crashes on it.
    """
    if re.fullmatch(r"\d+\.\d+(\.\d+)?", version) is None:
        raise NanoMLError(f'ONNX Runtime "{version}": write a version as in 1.17.1.')
    keys = {f"case{number}": case for number, case in enumerate((t, size) for t in trials for size in SIZES)}
    feeds: dict[str, Any] = {
        f"{key}/{name}": values
        for key, (trial, size) in keys.items()
        for name, values in trial.rows(size).items()
    }
    with tempfile.TemporaryDirectory(prefix="nanoml-") as directory:
        python = _environment(Path(directory, "environment"), version)
        inputs, outputs = Path(directory, "inputs.npz"), Path(directory, "outputs.npz")
        np.savez(inputs, **feeds)
        command = [python, "-I", elsewhere.__file__, os.path.abspath(model), str(inputs), str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and done.stdout:
            trial, size = keys[done.stdout.split()[-1]]
            raise NanoMLError(
                f'{model}: ONNX Runtime {version} crashes ({_signal(done.returncode)}) on "{trial.name}", {size} of them. '
                "It may do so in CMSSW, too: replace what it cannot compute in the network."
            )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [_signal(done.returncode)])[-1]
            raise NanoMLError(f"{model}: ONNX Runtime {version} cannot load it: {reason}")
        with np.load(outputs) as stored:
            found = {key: stored[key] for key in stored.files}
    return {(trial.name, size): _found(found, key) for key, (trial, size) in keys.items()}


def _signal(code: int) -> str:
    """How a process ended."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _found(found: dict[str, Any], key: str) -> Outcome:
    if f"{key}/error" in found:
        return str(found[f"{key}/error"])
    return [found[name] for name in sorted(name for name in found if name.startswith(f"{key}/"))]


def _environment(directory: Path, version: str) -> str:
    """Make an environment with a version of ONNX Runtime; return its Python."""
    say(f"Installing ONNX Runtime {version} for this check alone")
    venv.create(directory, with_pip=True)
    python = str(directory / "bin" / "python")
    numbers = tuple(map(int, version.split(".")[:2]))
    # up to 1.18 it was built with numpy 1, which its metadata do not say
    wanted = [f"onnxruntime=={version}", *(["numpy<2"] if numbers < (1, 19) else [])]
    command = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return python
    here = ".".join(map(str, sys.version_info[:2]))
    if "(from versions: none)" in done.stderr:
        raise NanoMLError(
            f"ONNX Runtime {version}: cannot be installed: pip finds none at all. Is there a connection to a package index?"
        )
    if "No matching distribution" in done.stderr:
        raise NanoMLError(
            f"ONNX Runtime {version}: there is no wheel of it for Python {here} on this machine. "
            "Run nanoml verify with another Python, or in a CMSSW release that has it, without --onnxruntime."
        )
    raise NanoMLError(
        f"ONNX Runtime {version}: cannot be installed: {(done.stderr.strip().splitlines() or ['pip was killed'])[-1]}"
    )
