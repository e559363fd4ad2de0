"""Types of numbers, cuts and lines of a selection that is being compiled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Optional

import awkward as ak
import numpy as np

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing.graph import Tensor
from MLTools.NanoML.extensions.compiled.tracing.lists import Value
from MLTools.NanoML.selection import selection

_HERE = Path(__file__).parent
_LIBRARIES = tuple(f"{Path(str(module.__file__)).parent}/" for module in (ak, np, selection))
KIND_OF = {"f": "d", "i": "i", "u": "i", "b": "b"}
"""The type of a tensor for that of numpy's numbers."""

Scope = tuple[Tensor, ...]
"""The cuts that events have passed: which arrays have an entry for the same events."""


def of_same_events(one: Scope, other: Scope) -> bool:
    """Whether arrays with these cuts have an entry for the same events."""
    return [cut.name for cut in one] == [cut.name for cut in other]


def typed(value: Value, concrete: object) -> Value:
    """Numbers in the type of the engine's, which may be narrower than float64."""
    if value.data is None or value.data.kind == "f":
        return value
    dtype = dtype_of(concrete)
    if dtype is None or dtype.kind not in KIND_OF:
        return value
    if dtype == np.float16:
        raise NanoMLError(
            "gives 16-bit floating-point numbers, of 8-bit integers: convert them before, by ak.values_astype(..., float)."
        )
    data = value.data.to(KIND_OF[dtype.kind])
    if dtype == np.float32:
        data = data.to("f").to("d")
    return value if data is value.data else replace(value, data=data)


def wrapped(data: Tensor, dtype: np.dtype[np.generic]) -> Tensor:
    """Integers in the range of a type: those beyond begin again at its other end."""
    if dtype.itemsize >= 4 and dtype.kind == "i":
        return data  # NanoAOD has no integers as large
    if dtype.itemsize == 8:
        raise NanoMLError(
            "computes with unsigned 64-bit integers, as sums of unsigned ones are: convert them before, by "
            "ak.values_astype(..., np.int64)."
        )
    number = data.graph.constant(1 << 8 * dtype.itemsize)
    if dtype.kind == "u":
        return data.graph.arithmetic_of("Mod", data, number, fmod=0)
    half = 1 << (8 * dtype.itemsize - 1)
    return data.graph.arithmetic_of("Mod", data + half, number, fmod=0) - half


def dtype_of(concrete: object) -> Optional[np.dtype[np.generic]]:
    """The type of the numbers of an array; None of records."""
    if isinstance(concrete, (np.ndarray, np.generic)):
        return None if concrete.dtype.names else concrete.dtype
    if not isinstance(concrete, ak.Array) or concrete.fields:
        return None
    layout = concrete.layout
    while not layout.is_numpy:
        if layout.is_unknown or not hasattr(layout, "content"):
            return None
        layout = layout.content
    return np.dtype(layout.dtype)


def user_line() -> str:
    """File and line of the user's code that is running."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if not name.startswith((*_LIBRARIES, f"{_HERE}/")) and Path(name).parent.name != "vector":
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@contextmanager
def quiet() -> Iterator[None]:
    """Without numpy's warnings of numbers: the engine runs the same code, and warns."""
    with np.errstate(all="ignore"):
        yield
