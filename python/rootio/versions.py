"""Differences between NanoAOD versions, in one place: names, counters, sums of weights."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence

from MLTools.NanoML.terminal.progress import say_once

IDENTIFIERS = ("run", "luminosityBlock", "event")  # together they identify an event
# names, in the Runs tree, of the sum of generator weights (some v6 files have the underscore)
SUM_OF_WEIGHTS = ("genEventSumw", "genEventSumw_")
TRIGGERS = ("HLT_", "L1_", "Flag_")
"""How branches with the bits of trigger paths and filters begin."""
_OLD_MET = "MET_"
# how names begin in older and in newer versions: the particle-flow missing momentum up to v14 and from v15 on, the density of
# energy from pile-up up to v9 and from v10 on
_RENAMED = ((_OLD_MET, "PFMET_"), ("RawMET_", "RawPFMET_"), ("fixedGridRho", "Rho_fixedGridRho"))

_GENERATOR = re.compile(
    r"n?Gen(Part|Jet|JetAK8|VisTau|DressedLepton|IsolatedPhoton|MET|Vtx)(_\w+)?|n?LHE\w*|(Generator|HTXS)_\w+"
    r"|genTtbarId|Pileup_nTrueInt|\w+_genPart(Idx|Flav)"
)


def generator_branch(names: Iterable[str]) -> str | None:
    """The first branch that only simulation has, such as `GenPart_pt` or `Muon_genPartIdx`; None if there is none."""
    return next((name for name in names if _GENERATOR.fullmatch(name)), None)


def _other_names(name: str) -> Iterable[str]:
    for pair in _RENAMED:
        for here, there in (pair, pair[::-1]):
            if name.startswith(here):
                yield there + name[len(here) :]


def _mention_met(asked: str) -> None:
    """Say once in a run that the missing momentum has another name: in Run 3 another one may be wanted."""
    if asked.startswith(_OLD_MET):
        say_once(
            "PFMET",
            "NOTE: NanoAOD from v15 on has no MET_*: PFMET_*, which is the same quantity, is read in its place. "
            "Run 3 analyses use PuppiMET: for it, name PuppiMET_pt, PuppiMET_phi, ...",
        )


def is_glob(pattern: str) -> bool:
    """Whether a name has wildcards."""
    return any(character in pattern for character in "*?[")


def resolve(name: str, available: Collection[str]) -> str | None:
    """The name of a branch in a file, or None if the file does not have it.

    `MET_pt` is found as `PFMET_pt` in NanoAOD v15, and vice versa; a message says so once in a run. So is
    `fixedGridRhoFastjetAll` as `Rho_fixedGridRhoFastjetAll`, without a message.
    """
    if name in available:
        return name
    found = next((other for other in _other_names(name) if other in available), None)
    if found is not None:
        _mention_met(name)
    return found


def expand(pattern: str, available: Sequence[str]) -> list[str]:
    """All branches of a file that match a glob, in the file's order."""
    for candidate in (pattern, *_other_names(pattern)):
        found = fnmatch.filter(available, candidate)
        if found:
            if candidate != pattern:
                _mention_met(pattern)
            return found
    return []


def collection_of(name: str, counter: str | None, available: Collection[str]) -> str:
    """Collection of a jagged branch of a file with the branches `available`: `Proton_multiRP` for `Proton_multiRP_arm`.

    It is the branch's own name if it belongs to no collection (`LHEPdfWeight`). A counter for this branch only (`nMuon_pt`, as
    from some writers) says nothing about the collection.
    """
    if counter is not None and counter != "n" + name and name.startswith(counter[1:] + "_"):
        return counter[1:]
    parts = name.split("_")
    prefixes = ["_".join(parts[:length]) for length in range(1, len(parts))]
    return next((prefix for prefix in prefixes if "n" + prefix in available), prefixes[0] if prefixes else name)


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """` Did you mean "..."?` for a mistyped name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f' Did you mean "{close[0]}"?' if close else ""
