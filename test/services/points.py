"""Events around a point of the plane, in ROOT files, for analyses with regions and data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import uproot


def write_columns(path: Path, run: int = 1, first: int = 0, **columns: Any) -> None:
    """Events with these columns, numbered from `first`; those of run 1 are simulation, of weight 1 unless `genWeight` is given."""
    count = len(next(iter(columns.values())))
    made = {"run": np.full(count, run, np.uint32), "luminosityBlock": np.ones(count, np.uint32)}
    made["event"] = np.arange(first, first + count, dtype=np.uint64)
    if run == 1:
        made["genWeight"] = np.ones(count, np.float32)
    made.update(columns)
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values.dtype for name, values in made.items()}).extend(made)


def write(path: Path, seed: int, count: int, at: float, run: int = 1, first: int = 0) -> None:
    """Events around a point, half of them tight."""
    random = np.random.default_rng(seed)
    columns = {name: random.normal(mean, 1, count).astype(np.float32) for name, mean in (("x", at), ("y", -at))}
    columns |= {"isTight": random.random(count) < 0.5, "nB": random.integers(0, 2, count).astype(np.int32)}
    if run == 1:
        columns["genWeight"] = np.where(random.random(count) < 0.1, -1, 1).astype(np.float32)
    write_columns(path, run, first, **columns)
