"""Inputs on which models are known to fail (unusual sizes, no objects, extreme numbers, NaN), and how a model is run on them."""

from __future__ import annotations

import inspect
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.description import Description, ObjectInput
from MLTools.NanoML.terminal.progress import say

SIZES = (1, 7, 300)
"""Numbers of rows: the size with which a model was traced may have become part of it."""

Floats = NDArray[np.float32]
Feeds = dict[str, Floats]


@dataclass(frozen=True)
class Trial:
    """Inputs of one kind: float32 tensors by name, with max(SIZES) rows each."""

    name: str  # such as "events with NaN"
    feeds: Feeds
    same_as: Optional[str] = None  # name of an earlier trial that must have the same outputs

    def rows(self, size: int) -> Feeds:
        """The first rows."""
        return {name: values[:size] for name, values in self.feeds.items()}


def trials(description: Description, sample: Mapping[str, Floats]) -> list[Trial]:
    """All trials of a model; `sample` has each tensor of real events (or objects), all numbers finite."""
    rows, what = max(SIZES), f"{description.level}s"
    real = {name: np.resize(values, (rows, *values.shape[1:])) for name, values in sample.items()}
    masks = {tensor.tensor: tensor.mask for tensor in description.objects}
    numbers = [name for name in real if name not in masks.values()]
    random = np.random.default_rng(0)

    def changed(change: Callable[[Floats], NDArray[np.floating]]) -> Feeds:
        """The events with other numbers; padding stays 0."""
        found = dict(real)
        for name in numbers:
            there = real[masks[name]][..., None] > 0 if name in masks else True
            found[name] = np.where(there, change(real[name]), 0).astype(np.float32)
        return found

    def filled(positive: float, negative: float) -> Feeds:
        return changed(lambda values: np.where(random.random(values.shape) < 0.5, positive, negative))

    limits = np.finfo(np.float32)
    largest, smallest = float(limits.max), float(limits.smallest_subnormal)
    found = [
        Trial(f"real {what}", real),
        Trial(f"varied {what}", changed(lambda values: values * random.uniform(0.5, 2, values.shape))),
        Trial(f"{what} with NaN", changed(lambda values: np.where(random.random(values.shape) < 0.3, np.nan, values))),
        Trial("only NaN", filled(np.nan, np.nan)),
        Trial("infinity", filled(np.inf, -np.inf)),
        Trial("zeros", filled(0, 0)),
        Trial("the largest numbers", filled(largest, -largest)),
        Trial("the smallest numbers", filled(smallest, smallest)),
    ]
    return found + list(_object_trials(description.objects, real, f"real {what}"))


def _object_trials(objects: Sequence[ObjectInput], real: Feeds, plain: str) -> Iterator[Trial]:
    def changed(change: Callable[[Floats, Floats], tuple[Floats, Floats]]) -> Feeds:
        """The events with other values and masks of their objects."""
        found = dict(real)
        for tensor in objects:
            found[tensor.tensor], found[tensor.mask] = change(real[tensor.tensor], real[tensor.mask])
        return found

    if not objects:
        return
    most = max(tensor.max for tensor in objects)
    yield Trial("as many objects as there may be", changed(_full))
    for length in dict.fromkeys((0, 1, most // 2)):
        if length < most:
            name = f"{length} objects at most" if length > 1 else ("no objects", "1 object at most")[length]
            yield Trial(name, changed(partial(_cut, length)))
            yield Trial(f"{name}, in tensors of this length", changed(partial(_shortened, length)), name)
    dirty = changed(lambda values, mask: (np.where(mask[..., None] == 0, np.float32(1234.5), values), mask))
    yield Trial("padding with numbers in it", dirty, plain)


def _cut(length: int, values: Floats, mask: Floats) -> tuple[Floats, Floats]:
    """Without the objects beyond a number."""
    values, mask = values.copy(), mask.copy()
    values[:, length:], mask[:, length:] = 0, 0
    return values, mask


def _shortened(length: int, values: Floats, mask: Floats) -> tuple[Floats, Floats]:
    return np.ascontiguousarray(values[:, :length]), np.ascontiguousarray(mask[:, :length])


def _full(values: Floats, mask: Floats) -> tuple[Floats, Floats]:
    """The largest number of objects, taken from all events in turn."""
    there = values[mask > 0] if mask.any() else np.ones((1, values.shape[2]), np.float32)
    return np.resize(there, values.shape), np.ones_like(mask)


Outcome = Union[list[NDArray[np.float32]], str]
"""The outputs, or the reason why there are none."""

Outcomes = dict[tuple[str, int], Outcome]
"""By the name of the trial and its number of rows."""


def run_here(session: Any, trials: Sequence[Trial]) -> Outcomes:
    """Run trials in all sizes in an open session of ONNX Runtime."""
    return {(trial.name, size): _outcome(session, trial, size) for trial in trials for size in SIZES}


def _outcome(session: Any, trial: Trial, size: int) -> Outcome:
    try:
        found: list[NDArray[np.float32]] = session.run(None, trial.rows(size))
    except Exception as problem:  # ONNX Runtime's exceptions have no common base class
        return str(problem).split("\n")[0]
    return found


@dataclass(frozen=True)
class SubprocessRuntime:
    """A Python with another version of ONNX Runtime, without NanoML."""

    python: str
    version: str

    @classmethod
    @contextmanager
    def of(cls, version: str) -> Iterator[SubprocessRuntime]:
        """Make a temporary environment with a version of ONNX Runtime.

        Raises NanoMLError if there is no such version for this Python, or it cannot be installed.
        """
        if re.fullmatch(r"\d+\.\d+(\.\d+)?", version) is None:
            raise NanoMLError(f'ONNX Runtime "{version}": write a version as in 1.17.1.')
        with tempfile.TemporaryDirectory(prefix="nanoml-") as directory:
            yield cls(_environment(Path(directory, "environment"), version), version)

    def run(self, model: str, trials: Sequence[Trial]) -> Outcomes:
        """Run trials in all sizes.

        Raises NanoMLError if ONNX Runtime cannot load the model, or crashes on it.
        """
        keys = {f"case{number}": case for number, case in enumerate(itertools.product(trials, SIZES))}
        feeds: dict[str, Any] = {
            f"{key}/{name}": values for key, (trial, size) in keys.items() for name, values in trial.rows(size).items()
        }
        with tempfile.TemporaryDirectory(prefix="nanoml-") as directory:
            inputs, outputs = Path(directory, "inputs.npz"), Path(directory, "outputs.npz")
            np.savez(inputs, **feeds)
            script = f"{inspect.getsource(_run_cases)}\n\n_run_cases()\n"
            command = [self.python, "-I", "-c", script, os.path.abspath(model), str(inputs), str(outputs)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
            if done.returncode and done.stdout:
                trial, size = keys[done.stdout.split()[-1]]
                raise NanoMLError(
                    f'{model}: ONNX Runtime {self.version} crashes ({ended}) on "{trial.name}", {size} of them. '
                    "It may do so in CMSSW, too: replace what it cannot compute in the network."
                )
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [ended])[-1]
                raise NanoMLError(f"{model}: ONNX Runtime {self.version} cannot load it: {reason}")
            found: Outcomes = {}
            with np.load(outputs) as stored:
                for key, (trial, size) in keys.items():
                    names = sorted(name for name in stored.files if name.startswith(f"{key}/"))
                    failed = names == [f"{key}/error"]
                    found[trial.name, size] = str(stored[names[0]]) if failed else [stored[name] for name in names]
        return found


def _run_cases() -> None:
    """Run a model in an environment that has numpy and ONNX Runtime, but not NanoML: only the text of this function goes there.

    The inputs are arrays CASE/TENSOR, the outputs CASE/NUMBER; if a case fails, CASE/error has the reason. Each case is
    printed before it is run, since ONNX Runtime may crash.
    """
    import sys

    import numpy as np
    import onnxruntime

    model, inputs, outputs = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    cases: dict = {}  # type: ignore[type-arg]
    with np.load(inputs) as stored:
        for key in stored.files:
            case, _, tensor = key.partition("/")
            cases.setdefault(case, {})[tensor] = stored[key]
    found: dict = {}  # type: ignore[type-arg]
    for case, feeds in cases.items():
        print(case, flush=True)  # noqa: T201
        try:
            results = session.run(None, feeds)
        except Exception as problem:  # ONNX Runtime's exceptions have no common base class
            found[f"{case}/error"] = np.array(str(problem).split("\n")[0])
            continue
        found.update({f"{case}/{number}": result for number, result in enumerate(results)})
    np.savez(outputs, **found)


def _environment(directory: Path, version: str) -> str:
    """Make an environment with a version of ONNX Runtime; return its Python."""
    say(f"Installing ONNX Runtime {version} for this check alone")
    venv.create(directory, with_pip=True)
    python = str(directory / "bin" / "python")
    numbers = tuple(map(int, version.split(".")[:2]))
    # up to 1.18 it was built with numpy 1, and its metadata do not say so
    wanted = [f"onnxruntime=={version}", *(["numpy<2"] if numbers < (1, 19) else [])]
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    # most of what comes with it is never imported
    done = subprocess.run([*pip, "--no-compile", *wanted], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return python
    reason = f"cannot be installed: {(done.stderr.strip().splitlines() or ['pip was killed'])[-1]}"
    if "(from versions: none)" in done.stderr:
        reason = "cannot be installed: pip finds no version of it. Is a package index reachable?"
    elif "No matching distribution" in done.stderr:
        reason = (
            f"there is no wheel of it for Python {sys.version_info[0]}.{sys.version_info[1]} on this machine. "
            "Run nanoml verify with another Python, or in a CMSSW release that has it, without --onnxruntime."
        )
    raise NanoMLError(f"ONNX Runtime {version}: {reason}")
