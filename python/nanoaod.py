"""What differs between NanoAOD versions, in one place: names, counters, sums of weights."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable, Sequence

__all__ = [
    "IDENTIFIERS",
    "SUM_OF_WEIGHTS",
    "collection_of",
    "did_you_mean",
    "expand",
    "is_glob",
    "resolve",
]

IDENTIFIERS = ("run", "luminosityBlock", "event")
"""The branches that together identify an event."""

SUM_OF_WEIGHTS = ("genEventSumw", "genEventSumw_")
"""Names, in the Runs tree, of the sum of generator weights (some v6 files have the underscore)."""

_PREFIXES = (("MET_", "PFMET_"),)  # up to v14, from v15 on: the particle-flow missing momentum


def _other_names(name: str) -> Iterable[str]:
    for old, new in _PREFIXES:
        if name.startswith(old):
            yield new + name[len(old) :]
        elif name.startswith(new):
            yield old + name[len(new) :]


def is_glob(pattern: str) -> bool:
    """Whether a name has wildcards."""
    return any(character in pattern for character in "*?[")


def resolve(name: str, available: Collection[str]) -> str | None:
    """The name under which a file has a branch, or None if it has it under no name.

    `MET_pt` is found as `PFMET_pt` in NanoAOD v15, and the other way round.
    """
    if name in available:
        return name
    return next((other for other in _other_names(name) if other in available), None)


def expand(pattern: str, available: Sequence[str]) -> list[str]:
    """All branches that match a glob, under the names that the file has, in the file's order."""
    for candidate in (pattern, *_other_names(pattern)):
        found = [name for name in available if fnmatch.fnmatchcase(name, candidate)]
        if found:
            return found
    return []


def collection_of(name: str, counter: str | None, available: Collection[str]) -> str:
    """Collection of a jagged branch: `Muon` for `Muon_pt`, `Proton_multiRP` for `Proton_multiRP_arm`.

    Parameters
    ----------
    name
        The branch.
    counter
        Its counter where the file has one. A counter of the branch's own (`nMuon_pt`, as some writers make
        them) says nothing about the collection.
    available
        All branches of the file.

    Returns
    -------
    The branch's own name if it belongs to no collection (`LHEPdfWeight`).
    """
    if counter is not None and counter != "n" + name and name.startswith(counter[1:] + "_"):
        return counter[1:]
    parts = name.split("_")
    prefixes = ["_".join(parts[:length]) for length in range(1, len(parts))]
    return next(
        (prefix for prefix in prefixes if "n" + prefix in available), prefixes[0] if prefixes else name
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean "..."?` for a mistyped name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f' Did you mean "{close[0]}"?' if close else ""
