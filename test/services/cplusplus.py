"""Events in the file that the C++ tests read, and the programs that read it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **environment}
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
    return done.stdout


def write_events(
    path: Path,
    model: Path,
    columns: Sequence[Mapping[str, tuple[str, Sequence[Any]]]],
    scores: Sequence[NDArray[np.float32]],
    parameters: Sequence[float] = (),
    numbers: Sequence[tuple[int, int, int]] = (),
    decisions: Sequence[Mapping[str, Any]] = (),
    outside: NDArray[np.bool_] | None = None,
) -> Path:
    """The file that the C++ tests read; `numbers`, `decisions` and which inputs lie `outside` may be left out."""
    events: list[dict[str, Any]] = [
        {
            "columns": {
                name: {"type": dtype, "values": [_plain(value) for value in np.asarray(values, dtype)]}
                for name, (dtype, values) in event.items()
            },
            "scores": [_plain(score) for score in result.ravel()],
        }
        for event, result in zip(columns, scores)
    ]
    for event, number in zip(events, numbers):
        event["number"] = number
    for event, decision in zip(events, decisions):
        event["decision"] = decision
    counts = [] if outside is None else outside.sum(axis=0).tolist()
    content = {"model": str(model), "parameters": [*parameters], "events": events, "outside": counts}
    path.write_text(json.dumps(content))
    return path


def columns_of(arrays: Mapping[str, Any], names: list[str], event: int) -> dict[str, tuple[str, list[Any]]]:
    """Type and values of some columns of an event."""
    found = {}
    for name in names:
        values = arrays[name][event]
        plain = ak.to_numpy(values) if isinstance(values, ak.Array) else np.atleast_1d(values)
        found[name] = (plain.dtype.name, [*plain])
    return found


def _plain(value: Any) -> Any:
    number = value.item()
    if isinstance(number, bool):
        return int(number)
    return number if np.isfinite(number) else str(number)
