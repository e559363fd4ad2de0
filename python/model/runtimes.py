"""Where a model is run to be verified: with the ONNX Runtime that is here, or with another version of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import elsewhere
from MLTools.NanoML.model.trials import SIZES, Trial
from MLTools.NanoML.terminal.progress import say

__all__ = ["Elsewhere", "Outcome", "Outcomes", "run_here"]

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


@dataclass(frozen=True)
class Elsewhere:
    """An environment with another version of ONNX Runtime, and nothing of NanoML.

    Attributes
    ----------
    python
        Its Python.
    version
        Of ONNX Runtime.
    """

    python: str
    version: str

    @classmethod
    @contextmanager
    def of(cls, version: str) -> Iterator[Elsewhere]:
        """Make it; it is removed again.

        Raises
        ------
        NanoMLError
            There is no such version for this Python, or it cannot be installed.
        """
        if re.fullmatch(r"\d+\.\d+(\.\d+)?", version) is None:
            raise NanoMLError(f'ONNX Runtime "{version}": write a version as in 1.17.1.')
        with tempfile.TemporaryDirectory(prefix="nanoml-") as directory:
            yield cls(_environment(Path(directory, "environment"), version), version)

    def run(self, model: str, trials: Sequence[Trial]) -> Outcomes:
        """Run trials in all sizes.

        Raises
        ------
        NanoMLError
            ONNX Runtime cannot load the model, or crashes on it.
        """
        numbered = enumerate((trial, size) for trial in trials for size in SIZES)
        keys = {f"case{number}": case for number, case in numbered}
        feeds: dict[str, Any] = {
            f"{key}/{name}": values
            for key, (trial, size) in keys.items()
            for name, values in trial.rows(size).items()
        }
        with tempfile.TemporaryDirectory(prefix="nanoml-") as directory:
            inputs, outputs = Path(directory, "inputs.npz"), Path(directory, "outputs.npz")
            np.savez(inputs, **feeds)
            command = [
                self.python,
                "-I",
                elsewhere.__file__,
                os.path.abspath(model),
                str(inputs),
                str(outputs),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode and done.stdout:
                trial, size = keys[done.stdout.split()[-1]]
                raise NanoMLError(
                    f'{model}: ONNX Runtime {self.version} crashes ({_signal(done.returncode)}) on "{trial.name}", {size} '
                    "of them. It may do so in CMSSW, too: replace what it cannot compute in the network."
                )
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [_signal(done.returncode)])[-1]
                raise NanoMLError(f"{model}: ONNX Runtime {self.version} cannot load it: {reason}")
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
