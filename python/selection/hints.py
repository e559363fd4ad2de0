"""Hints on common mistakes in selections."""

from __future__ import annotations

import re

# what awkward and numpy say of common errors in selections, and how to correct them
_HINTS = (
    (
        "index out of range",
        "some events have no such object. Cut on the number of objects before, and narrow the objects, too: "
        "events, muons = cutflow.cut(..., ak.num(muons) >= 2, events, muons)",
    ),
    (
        "cannot broadcast records",
        "these are not four-vectors. Read pt, eta, phi and mass of their collection; for a selection of fields use "
        'ak.with_name(objects, "Momentum4D")',
    ),
    (
        r"no field named '(?:deltaR|deltaphi|deltaeta|mass)'",
        "these are not four-vectors, or the branch was not read. Read pt, eta, phi and mass of their collection; for a "
        'selection of fields use ak.with_name(objects, "Momentum4D")',
    ),
    (
        "no field named '(?:nearest|metric_table)'",
        "these are coffea's. Pair the objects: one, other = ak.unzip(ak.cartesian([jets, muons], nested=True)); the distances are "
        "one.deltaR(other), and ak.firsts(other[ak.argmin(one.deltaR(other), axis=2, keepdims=True)], axis=2) is the nearest",
    ),
    ("no field named", "check its spelling, and that its branch is in `branches`"),
    (
        r"(?:too many|not enough) values to unpack",
        "cut returns as many things as follow its mask, and a single one as it is: "
        "events, muons = cutflow.cut(name, mask, events, muons), but events = cutflow.cut(name, mask, events)",
    ),
    (
        "'tuple' object has no attribute",
        "cut returns a tuple of what follows its mask. Take it apart: events, muons = cutflow.cut(name, mask, events, muons)",
    ),
    (
        "cannot broadcast",
        "these two do not have the same events or objects. Narrow both in every cut: "
        "events, muons = cutflow.cut(..., events, muons)",
    ),
    (
        "truth value of an array",
        "`and`, `or`, `not` and `if` take one event. For all at once: `&`, `|`, `~`, with each comparison in parentheses",
    ),
    (
        "ufunc 'bitwise_(?:and|or)' not supported",
        "`&` and `|` bind before `>` and `==`: put each comparison in parentheses",
    ),
)
_PLACE_IN_CODE = re.compile(r" \(in compiled code: [^)]*\)\.?")


def explain(problem: BaseException) -> str:
    """The message of an exception without details of awkward, and a hint for common errors."""
    lines = str(problem).strip().split("\n")
    details = [line.partition("Error details: ")[2] for line in lines if "Error details: " in line]
    message = _PLACE_IN_CODE.sub("", (details or lines)[0])
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, str(problem))), "")
    return f"{type(problem).__name__}: {message}" + (f": {hint}." if hint else "")
