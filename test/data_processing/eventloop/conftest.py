"""Runs user modules over a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import awkward as ak
import numpy as np
import pytest

from data_processing.eventloop import ModuleChain, load_module
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.rootfile import RootFile

USER_MODULES = Path(__file__).resolve().parent.parent / "nano_modules"


@dataclass(frozen=True)
class Result:
    branches: dict[str, Branch]
    rows: Any
    columns: dict[str, ak.Array]
    flows: list[list[tuple[str, int, float]]]


def _run(
    path: Path, specs: Sequence[str], chunk: int = 10_000, look_at: Optional[Any] = None, always: bool = True
) -> Result:
    modules = [module for spec in specs for module in load_module(spec, USER_MODULES, always)]
    chain = ModuleChain(modules, always)
    parts, rows, flows = [], [], []
    with RootFile(path) as file:
        branches = chain.branches_made(file)
        for start in range(0, max(file.entries, 1), chunk):
            stop = min(start + chunk, file.entries)
            within = None if look_at is None else look_at[(look_at >= start) & (look_at < stop)] - start
            selected = chain.run(file, start, stop, within)
            assert list(selected.columns) == list(branches)
            parts.append(selected.columns)
            rows.append(selected.rows + start)
            flows.append([(step.cut, step.events, step.weights) for step in selected.cutflow.steps])
        chain.end(file)
    columns = {name: ak.concatenate([ak.Array(part[name]) for part in parts]) for name in branches}
    return Result(branches, np.concatenate(rows), columns, flows)


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Runs modules ("file.py:NAME") over a file; chunk by chunk, and over some entries only if asked."""
    return _run


@pytest.fixture(scope="session")
def user_modules() -> Path:
    """The directory of the user modules."""
    return USER_MODULES


@pytest.fixture(scope="session")
def wz(sample: Path) -> Path:
    """A file of 800 events."""
    return sample / "WZTo3LNu" / "WZTo3LNu_0.root"
