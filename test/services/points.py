"""Events around a point of the plane, in ROOT files, for analyses with regions and data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import uproot


def write(path: Path, seed: int, count: int, at: float, run: int = 1, first: int = 0) -> None:
    """Events around a point, half of them tight."""
    random = np.random.default_rng(seed)
    columns = {
        "run": np.full(count, run, np.uint32),
        "luminosityBlock": np.ones(count, np.uint32),
        "event": np.arange(first, first + count, dtype=np.uint64),
        "x": random.normal(at, 1, count).astype(np.float32),
        "y": random.normal(-at, 1, count).astype(np.float32),
        "isTight": random.random(count) < 0.5,
        "nB": random.integers(0, 2, count).astype(np.int32),
    }
    if run == 1:
        columns["genWeight"] = np.where(random.random(count) < 0.1, -1, 1).astype(np.float32)
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values.dtype for name, values in columns.items()}).extend(columns)
