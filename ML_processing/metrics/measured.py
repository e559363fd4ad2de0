"""Numbers with errors, histograms and quantiles of weighted events; and how JSON and texts hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from MLTools.NanoML.report.page import with_error

Floats = NDArray[np.float64]

MERGED = {"json": "merged"}
"""Metadata of a field whose own fields are written beside those around it."""

PAIR = {"json": "pair"}
"""Metadata of a field with a `Measured`, which is written as NAME and NAME_error."""

LEFT_OUT = {"json": "left out"}
"""Metadata of a field that is not written."""


def as_json(value: object) -> Any:
    """Numbers as metrics.json holds them: dataclasses by the names of their fields, and arrays as lists.

    Arrays keep no more digits than matter, and have None for what is not finite.
    """
    if isinstance(value, np.ndarray):
        if value.dtype == np.bool_:
            return value.tolist()
        if value.ndim > 1:
            return [as_json(row) for row in value]
        return [float(f"{each:.6g}") if np.isfinite(each) else None for each in value.astype(np.float64)]
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if not is_dataclass(value):
        return value
    content: dict[str, object] = {}
    for field in fields(value):
        form = field.metadata.get("json")
        if form == "left out":
            continue
        part = as_json(getattr(value, field.name))
        if form == "merged":
            content |= part
        elif form == "pair":
            content |= {field.name: part["value"], f"{field.name}_error": part["error"]}
        else:
            content[field.name] = part
    return content


@dataclass(frozen=True)
class Measured:
    """A number with its statistical error; both None if the events do not allow one."""

    value: float | None
    error: float | None

    @classmethod
    def of(cls, value: float, error: float) -> Measured:
        """The same; None for both if either is not finite."""
        finite = np.isfinite(value) and np.isfinite(error)
        return cls(float(value), float(error)) if finite else cls(None, None)


UNDEFINED = Measured(None, None)
"""A number that the events do not allow."""


@dataclass(frozen=True)
class Histogram:
    """Sums of weights per bin, and their errors."""

    values: Floats
    errors: Floats


def effective_events(weights: ArrayLike) -> float:
    """Number of events of weight 1 with the same relative error as these: (sum of w)^2 / sum of w^2."""
    w = np.asarray(weights, np.float64)
    squares = (w**2).sum()
    return float(w.sum() ** 2 / squares) if squares > 0 else 0.0


def sums(values: ArrayLike, weights: ArrayLike, edges: Floats) -> Histogram:
    """Sums of weights per bin and their errors.

    Values beyond the edges count in the first and the last bin; values that are not finite are left out.
    """
    x, w = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    known = np.isfinite(x)
    x, w = np.clip(x[known], edges[0], edges[-1]), w[known]
    return Histogram(np.histogram(x, edges, weights=w)[0], np.sqrt(np.histogram(x, edges, weights=w**2)[0]))


def histogram(values: ArrayLike, weights: ArrayLike, edges: Floats) -> Histogram:
    """As `sums`, scaled to a total of 1."""
    found = sums(values, weights, edges)
    scale = 1 / found.values.sum() if found.values.sum() > 0 else 0.0
    return Histogram(found.values * scale, found.errors * scale)


def efficiency(passed: ArrayLike, weights: ArrayLike) -> Measured:
    """Share of the weight that passes.

    The error is that of a ratio whose numerator is part of the denominator: with e the efficiency, the square root
    of the sum over passing events of w^2 (1 - e)^2 and over failing events of w^2 e^2, over the sum of all weights.
    """
    p, w = np.asarray(passed, np.bool_), np.asarray(weights, np.float64)
    total = w.sum()
    if not total > 0:
        return Measured(None, None)
    share = w[p].sum() / total
    return Measured(float(share), float(np.sqrt((w**2 * (p - share) ** 2).sum()) / total))


def bin_of(values: ArrayLike, edges: Floats) -> NDArray[np.int64]:
    """Bin of each value, int64: beyond the edges the first or the last, the last also for NaN."""
    x = np.asarray(values, np.float64)
    return np.clip(np.searchsorted(edges, x, "right") - 1, 0, len(edges) - 2)


def quantile(values: ArrayLike, weights: ArrayLike, shares: Sequence[float]) -> Floats:
    """Values below which given shares of the weight lie.

    Where negative weights make the cumulative weight fall, it is kept constant.
    """
    x, w = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if not w.sum() > 0:
        return np.full(len(shares), np.nan)
    order = np.argsort(x, kind="stable")
    below = np.maximum.accumulate(np.cumsum(w[order]) - w[order] / 2) / w.sum()
    found: Floats = np.interp(shares, below, x[order])
    return found


def quantile_edges(values: NDArray[np.generic], bins: int) -> Floats:
    """Edges of bins with about the same number of events each, float64: fewer than `bins` if values repeat.

    Empty if there are fewer than two different values.
    """
    known = _known(values)
    if not known.size:
        return np.empty(0)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)))
    if len(edges) == 2 and bins > 1:  # most events share an end: it has a bin of its own
        edges = np.insert(edges, 1, np.nextafter(edges[0], edges[1]))
    return edges if len(edges) > 1 else np.empty(0)


def even_edges(values: NDArray[np.generic], bins: int) -> Floats:
    """Edges of even bins over most of the values, without the tails, float64 of shape (bins + 1,).

    Empty if there are fewer than two different values.
    """
    known = _known(values)
    if not known.size:
        return np.empty(0)
    lowest, low, middle, high, highest = np.quantile(known, (0.002, 0.16, 0.5, 0.84, 0.998))
    reach = 5 * (high - low) / 2 or highest - lowest  # a narrow peak with long tails is to be seen
    start, end = max(lowest, middle - reach), min(highest, middle + reach)
    return np.linspace(start, end, bins + 1) if end > start else np.empty(0)


def _known(values: NDArray[np.generic]) -> Floats:
    known = np.asarray(values, np.float64)
    return known[np.isfinite(known)]


def number(measured: Measured) -> str:
    """A measured number as text: "0.9413 ± 0.0062"."""
    if measured.value is None or measured.error is None:
        return "not defined"
    return with_error(measured.value, measured.error)


def per_cent(*changes: float | None, unit: str = "") -> str:
    """Relative changes in per cent as text: "+1.2 / -0.95", and the unit; None is left out."""
    texts = []
    for change in changes:
        if change is not None:
            value = 100 * change
            digits = 0 if abs(value) >= 9.95 else 1 if abs(value) >= 0.995 else 2
            texts.append(f"{value:+.{digits}f}" if abs(value) >= 0.005 else "0")
    return " / ".join(texts) + unit if texts else "not defined"
