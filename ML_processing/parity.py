"""Does an ONNX file compute what the network computes? Tried where exports are known to go wrong."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from ML_processing.models import Ensemble
from MLTools.NanoML.errors import NanoMLError

__all__ = ["SIZES", "TOLERANCE", "check_parity", "trial_inputs"]

TOLERANCE = 1e-6
"""How much a probability may differ, unless float32 itself rounds by more (see `check_parity`)."""

SIZES = (1, 7, 1000, 0)
"""Numbers of events: an export may have the size that it was traced with baked in."""

Floats = NDArray[np.float32]


def trial_inputs(sample: Floats) -> dict[str, Floats]:
    """Inputs to compare on, each of 1000 events, float32 of shape (1000, features).

    Parameters
    ----------
    sample
        Real events, shape (events, features), all finite.
    """
    largest = np.finfo(np.float32).max
    random = np.random.default_rng(0)
    events = np.resize(sample, (max(SIZES), sample.shape[1])).astype(np.float32)
    spread = (events * random.uniform(0.5, 2.0, events.shape)).astype(np.float32)
    holes = np.where(random.random(events.shape) < 0.3, np.float32(np.nan), events)
    return {
        "real events": events,
        "varied events": spread,
        "events with NaN": holes,
        "only NaN": np.full_like(events, np.nan),
        "infinity": np.where(random.random(events.shape) < 0.5, np.inf, -np.inf).astype(np.float32),
        "zeros": np.zeros_like(events),
        "the largest numbers": np.where(random.random(events.shape) < 0.5, largest, -largest).astype(
            np.float32
        ),
        "the smallest numbers": np.full_like(events, np.finfo(np.float32).smallest_subnormal),
    }


def check_parity(ensemble: Ensemble, onnx_file: Path, inputs: dict[str, Floats]) -> float:
    """Compare PyTorch with ONNX Runtime on every input and size.

    Far outside the training events probabilities can react so strongly that float32 itself rounds by more than
    `TOLERANCE`. How much it does is measured with PyTorch in float64, and ten times that is allowed.

    Returns
    -------
    The largest difference of a probability.

    Raises
    ------
    NanoMLError
        They differ by more than is allowed, in shape, or in being finite; or ONNX Runtime fails.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
    exact = deepcopy(ensemble).double()
    largest = 0.0
    for name, values in inputs.items():
        expected, precise = _torch(ensemble, values), _torch(exact, values.astype(np.float64))
        rounding = max(np.abs(a - b).max() for a, b in zip(expected, precise, strict=True))
        for size in SIZES:
            where = f'the exported model differs from the network on "{name}", {size} events'
            found = _onnx(session, values[:size], where)
            allowed = max(TOLERANCE, 10 * float(rounding))
            for output, ours, theirs in zip(session.get_outputs(), expected, found, strict=True):
                largest = max(largest, _difference(ours[:size], theirs, allowed, f"{where}: {output.name}"))
    return largest


def _torch(ensemble: Ensemble, values: NDArray[Any]) -> list[NDArray[Any]]:
    with torch.no_grad():
        return [output.numpy() for output in ensemble(torch.from_numpy(values))]


def _onnx(session: onnxruntime.InferenceSession, values: Floats, where: str) -> list[Floats]:
    try:
        found: list[Floats] = session.run(None, {"features": values})
    except Exception as problem:  # ONNX Runtime's exceptions have no common base class
        raise NanoMLError(f"{where}: ONNX Runtime fails: {str(problem).splitlines()[0]}") from None
    return found


def _difference(ours: Floats, theirs: Floats, allowed: float, where: str) -> float:
    """The largest difference of one output."""
    if ours.shape != theirs.shape:
        raise NanoMLError(f"{where} has the shape {theirs.shape} instead of {ours.shape}.")
    if not ours.size:
        return 0.0
    distance = np.abs(ours - theirs).reshape(len(ours), -1).max(axis=1)
    event = int(np.argmax(np.where(np.isfinite(distance), distance, np.inf)))
    if not distance[event] <= allowed:
        raise NanoMLError(
            f"{where}, event {event}, is {theirs[event].ravel().tolist()} instead of {ours[event].ravel().tolist()}; "
            f"a difference of {allowed:.1g} is allowed."
        )
    return float(distance[event])
