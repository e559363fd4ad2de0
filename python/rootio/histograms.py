"""Histograms of ROOT files: sums of those that uproot has read, and new ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Optional

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import uproot

_CLASSES = re.compile("TH[123][CSIFD]|TProfile([23]D)?")
_AXES = ("fXaxis", "fYaxis", "fZaxis")
_CONTENTS = ""
# sums of squared weights, which ROOT leaves out while all weights are 1, and what they equal in that case
_SQUARES = {"fSumw2": _CONTENTS, "fBinSumw2": "fBinEntries"}
_ARRAYS = (_CONTENTS, "fBinEntries", *_SQUARES)


def is_histogram(kind: str) -> bool:
    """Whether objects of a class can be added."""
    return _CLASSES.fullmatch(kind) is not None


def add_histogram(total: uproot.Model, other: uproot.Model) -> Optional[str]:
    """Add histogram `other` to `total`, as `hadd` does: contents, errors, entries, and the sums behind means.

    Returns None, or why they cannot be added; then `total` stays as it was.
    """
    if total.classname != other.classname:
        return f"is a {total.classname} and a {other.classname}"
    if not all(_is_same(total.member(axis), other.member(axis)) for axis in _AXES):
        return "has different axes"
    mine, theirs = _arrays(total), _arrays(other)
    sums = {name: _sum(name, mine, theirs) for name in mine}
    if any(values is None for values in sums.values()):
        return "has contents that are too large for its type"
    for part, added in zip(_parts(total), _parts(other)):
        for name in part.members:
            if name == "fEntries" or name.startswith("fTsum"):
                part.members[name] += added.members[name]
    for name, array in mine.items():
        array._data = sums[name]  # there is no other way to change an array that uproot has read
        array.members["fN"] = len(array._data)
    return None


def bins_of(histogram: uproot.Model) -> list[NDArray[np.generic]]:
    """All numbers in the bins of a histogram, overflow included: contents, and sums of squared weights."""
    return [np.asarray(array) for array in _arrays(histogram).values()]


def _is_same(axis: uproot.Model, other: uproot.Model) -> bool:
    return axis.labels() == other.labels() and np.array_equal(axis.edges(), other.edges())


def _parts(model: uproot.Model) -> Iterator[uproot.Model]:
    """A histogram and the objects of its base classes, in the same order for all histograms of a class."""
    yield model
    for base in model.bases:
        yield from _parts(base)


def _arrays(histogram: uproot.Model) -> dict[str, uproot.Model]:
    found = {name: histogram.member(name) for name in _ARRAYS if name and histogram.has_member(name)}
    contents = next(part for part in _parts(histogram) if part.classname.startswith("TArray"))
    return {_CONTENTS: contents, **found}


def _sum(name: str, mine: dict[str, uproot.Model], theirs: dict[str, uproot.Model]) -> Optional[NDArray[np.generic]]:
    """The sum of one array of two histograms; None if it is too large for its type."""
    pair = [np.asarray(arrays[name]) for arrays in (mine, theirs)]
    if name in _SQUARES and len(pair[0]) != len(pair[1]):
        pair = [
            values if len(values) else np.abs(np.asarray(arrays[_SQUARES[name]]))
            for values, arrays in zip(pair, (mine, theirs))
        ]
    kind = mine[name].dtype
    exact = pair[0].astype(np.int64) + pair[1] if kind.kind == "i" else pair[0] + pair[1]
    found = exact.astype(kind)
    return found if kind.kind == "f" or np.array_equal(found, exact) else None


def root_histogram(
    name: str,
    title: str,
    axes: Sequence[tuple[str, Sequence[float]]],
    values: NDArray[np.float64],
    variances: NDArray[np.float64],
) -> uproot.Model:
    """Make a TH1D, TH2D or TH3D that uproot can write.

    Parameters
    ----------
    axes
        The title and the edges of the bins of each axis.
    values, variances
        Contents and squares of their errors, underflow and overflow first and last on each axis: float64 of shape (bins + 2, ...).
    """
    from uproot.writing import identify

    made = [
        identify.to_TAxis(axis, title, len(edges) - 1, edges[0], edges[-1], np.array(edges))
        for axis, (title, edges) in zip(("xaxis", "yaxis", "zaxis"), axes)
    ]
    inner = values[(slice(1, -1),) * values.ndim]
    kind = (identify.to_TH1x, identify.to_TH2x, identify.to_TH3x)[values.ndim - 1]
    # what the means of the axes follow from, which nobody needs of a template: as ROOT has it after a rescaling, none
    moments = [0.0] * (2, 5, 9)[values.ndim - 1]
    data, squares = (np.ascontiguousarray(each.T.ravel()) for each in (values, variances))
    total = float(inner.sum())
    return kind(name, title, data, total, total, float(variances.sum()), *moments, squares, *made)
