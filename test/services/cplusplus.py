"""Events in the file that the C++ tests read, and the programs that read it."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "ASAN_OPTIONS": "malloc_context_size=1:quarantine_size_mb=8"}
"""ONNX Runtime allocates much, and where it did so is of no interest."""


def run(*command: str, given: str = "", **environment: str) -> str:
    environment = {**ENVIRONMENT, **environment}
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, env=environment)
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
    lines: list[Iterable[Any]] = [["model", model], ["parameters", *parameters]]
    if outside is not None:
        lines.append(["outside", *outside.sum(axis=0)])
    for number, (event, result) in enumerate(zip(columns, scores)):
        lines.append(["event"])
        for name, (dtype, values) in event.items():
            lines.append(["column", name, dtype, *np.asarray(values, "uint8" if dtype == "bool" else dtype)])
        lines.append(["scores", *result.ravel()])
        if numbers:
            lines.append(["number", *numbers[number]])
        if decisions:
            lines += _lines_of(decisions[number])
    path.write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    return path


def _lines_of(decision: Mapping[str, Any]) -> Iterator[Iterable[Any]]:
    yield ["decision", int(decision["passed"]), decision["failed"], decision["cuts"]]
    yield ["columns", *decision["columns"]]
    for collection in decision["made"]:
        yield ["made"]
        for fields in collection:
            yield ["object", *fields]


def columns_of(arrays: Mapping[str, Any], names: list[str], event: int) -> dict[str, tuple[str, list[Any]]]:
    """Type and values of some columns of an event."""
    found = {}
    for name in names:
        values = arrays[name][event]
        plain = ak.to_numpy(values) if isinstance(values, ak.Array) else np.atleast_1d(values)
        found[name] = (plain.dtype.name, [*plain])
    return found


@dataclass(frozen=True)
class Damage:
    """Loads pairs of a model and its JSON file by the C++ tests; which of them are refused. A crash ends the test."""

    directory: Path
    programs: Path

    def __call__(self, pairs: Iterable[tuple[bytes, bytes]]) -> list[bool]:
        paths = []
        for number, (onnx, twin) in enumerate(pairs):
            paths.append(self.directory / f"{number}.onnx")
            paths[-1].write_bytes(onnx)
            paths[-1].with_suffix(".json").write_bytes(twin)
        told = run(str(self.programs / "testDamage"), given="".join(f"{path}\n" for path in paths))
        return [line == "1" for line in told.splitlines()]


def in_json(content: Any) -> bytes:
    return json.dumps(content).encode()


_OTHERS = (None, -1, 2**64 - 1, "x", {})


def with_other_parts(content: dict[str, Any], unused: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The content with each of its parts, but for those that are not used, replaced by something else."""
    for place in _places({key: it for key, it in content.items() if key not in unused}):
        for other in _OTHERS:
            part = changed = copy.deepcopy(content)
            for key in place[:-1]:
                part = part[key]
            part[place[-1]] = other
            yield changed


def _places(content: Any) -> Iterator[tuple[Any, ...]]:
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, each in inner:
        yield (key,)
        yield from ((key, *place) for place in _places(each))
