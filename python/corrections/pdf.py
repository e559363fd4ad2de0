"""Parton distributions: the members of a set in LHEPdfWeight as variations of a weight, and alpha_s apart from them.

In a selection with `weights = {"pdf": pdf_weight(325300), "alpha_s": Weight()}`::

    cutflow.weigh("pdf", lambda: pdf(events.LHEPdfWeight, 325300))
    cutflow.weigh("alpha_s", lambda: alpha_s(events.LHEPdfWeight, 325300))

A set that is not in `SETS` takes the place of its number: `PdfSet(14400, 58, "hessian", confidence=90)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Union

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.weights import Factor, Weight

__all__ = ["KINDS", "SETS", "PdfSet", "alpha_s", "pdf", "pdf_members", "pdf_weight"]

_LHA_IDS = re.compile(r"LHA IDs (\d+) - (\d+)")
_NOMINAL_ALPHA_S, _ALPHA_S_ERROR = 0.118, 0.0015  # alpha_s(m_Z): PDF4LHC, arXiv:1510.03865

KINDS = ("replicas", "symmhessian", "hessian")
"""The kinds of sets, as LHAPDF calls them (ErrorType); in the last one, members are eigenvectors up and down, in pairs."""
# from a confidence level [%] of eigenvectors to one sigma
_ONE_SIGMA = {68.0: 1.0, 68.268949: 1.0, 90.0: 1 / 1.6448536}


@dataclass(frozen=True)
class PdfSet:
    """A set of parton distributions, as its .info file in LHAPDF describes it; member 0 is the central one.

    Attributes
    ----------
    lha_id
        LHA ID of member 0 (SetIndex).
    members
        How many eigenvectors or replicas it has: members 1 to `members`.
    kind
        One of KINDS (ErrorType, without "+as").
    alpha_s
        alpha_s(m_Z) of the two members that follow, rising; None if there are none.
    confidence
        Confidence level of the eigenvectors, 68 or 90 per cent (ErrorConfLevel).
    name
        Its name.
    """

    lha_id: int
    members: int
    kind: str
    alpha_s: Optional[tuple[float, float]] = None
    confidence: float = 68
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.confidence not in _ONE_SIGMA or (self.kind == KINDS[2] and self.members % 2):
            raise NanoMLError(
                f"PDF set {self.lha_id}: kind is one of {', '.join(KINDS)}, confidence 68 or 90, and a hessian set has eigenvectors in "
                "pairs. Its .info file in LHAPDF has them as ErrorType, ErrorConfLevel and NumMembers, which counts member 0, too."
            )

    def __str__(self) -> str:
        return f"{self.name} ({self.lha_id})" if self.name else str(self.lha_id)

    @property
    def combine(self) -> str:
        """How its variations are one uncertainty, as in `Weight`."""
        return "replicas" if self.kind == "replicas" else "hessian"

    @property
    def variations(self) -> list[str]:
        """The names of its variations: "member1", ..., or one for each pair."""
        return [f"member{number}" for number in range(1, self.members + 1, 1 + (self.kind == KINDS[2]))]


SETS = {
    each.lha_id: each
    for each in (
        PdfSet(13000, 56, "hessian", None, 90, "CT14nnlo"),
        PdfSet(14000, 58, "hessian", None, 90, "CT18NNLO"),
        PdfSet(27400, 64, "hessian", None, 68, "MSHT20nnlo_as118"),
        PdfSet(91400, 30, "symmhessian", (0.1165, 0.1195), 68, "PDF4LHC15_nnlo_30_pdfas"),
        PdfSet(93300, 40, "symmhessian", (0.117, 0.119), 68, "PDF4LHC21_40_pdfas"),
        PdfSet(292000, 100, "replicas", (0.117, 0.119), 68, "NNPDF30_nlo_nf_4_pdfas"),
        PdfSet(292200, 100, "replicas", (0.117, 0.119), 68, "NNPDF30_nlo_nf_5_pdfas"),
        PdfSet(303600, 100, "replicas", None, 68, "NNPDF31_nnlo_as_0118"),
        PdfSet(304400, 100, "symmhessian", None, 68, "NNPDF31_nnlo_as_0118_hessian"),
        PdfSet(306000, 100, "symmhessian", (0.116, 0.120), 68, "NNPDF31_nnlo_hessian_pdfas"),
        PdfSet(320900, 100, "replicas", None, 68, "NNPDF31_nnlo_as_0118_nf_4"),
        PdfSet(325300, 100, "symmhessian", (0.116, 0.120), 68, "NNPDF31_nnlo_as_0118_mc_hessian_pdfas"),
    )
}
"""The sets that simulation of CMS has most often, by the LHA ID of member 0."""


def pdf_members(title: str) -> tuple[int, int]:
    """The LHA IDs of the first and last member of LHEPdfWeight, from the branch's title.

    Raises NanoMLError if the title does not say.
    """
    found = _LHA_IDS.search(title)
    if found is None:
        raise NanoMLError(f'LHEPdfWeight: its title, "{title}", does not name the LHA IDs of the PDF set.')
    return int(found[1]), int(found[2])


def pdf_weight(lha_id: Union[int, PdfSet], keeps_yield: bool = False) -> Weight:
    """The declaration of the weight that `pdf` gives.

    With `keeps_yield` it does not change the number of events where it is given: before any cut, only the acceptance changes then.
    """
    found = _set_of(lha_id)
    return Weight(found.variations, keeps_yield, combine=found.combine)


def pdf(weights: ak.Array, lha_id: Union[int, PdfSet]) -> Factor:
    """Weights for each eigenvector or replica of a set, relative to its central member.

    They are 1 + w(member) - w(0), or half the difference of a pair: the sample may be made with another set. Eigenvectors are
    brought to one sigma. The uncertainty of a yield or a bin follows from all of them together, never from those of an event.

    Parameters
    ----------
    weights
        LHEPdfWeight, one list for each event. Where it is empty, the weights are 1.
    lha_id
        LHA ID of member 0 of the set; or the set, if it is not in `SETS`.

    Raises
    ------
    NanoMLError
        The set is not in `SETS`, or the lists do not have its length.
    """
    found = _set_of(lha_id)
    members, scale = list(_shifted(weights, found, range(1, found.members + 1))), _ONE_SIGMA[found.confidence]
    if found.kind == KINDS[2]:
        members = [1 + (up - down) / 2 for up, down in zip(members[::2], members[1::2])]
    members = [1 + scale * (each - 1) for each in members] if scale != 1 else members
    return Factor(np.ones(len(weights)), dict(zip(found.variations, members)))


def alpha_s(weights: ak.Array, lha_id: Union[int, PdfSet]) -> Factor:
    """The weight for alpha_s in the PDF set, up and down by 0.0015 (PDF4LHC, arXiv:1510.03865).

    The members with another alpha_s are scaled linearly to this difference. Parameters and errors as of `pdf`; NanoMLError if
    the set has no such members, too.
    """
    found, one = _set_of(lha_id), np.ones(len(weights))
    if found.alpha_s is None:
        raise NanoMLError(f"LHEPdfWeight: the set {found} has no members with another alpha_s.")
    low, high = (abs(value - _NOMINAL_ALPHA_S) for value in found.alpha_s)
    down, up = _shifted(weights, found, (found.members + 1, found.members + 2))
    scaled = {"up": (up - 1) * _ALPHA_S_ERROR / high, "down": (down - 1) * _ALPHA_S_ERROR / low}
    return Factor(one, {direction: one + change for direction, change in scaled.items()})


def _set_of(lha_id: Union[int, PdfSet]) -> PdfSet:
    if isinstance(lha_id, PdfSet):
        return lha_id
    if lha_id not in SETS:
        known = ", ".join(map(str, SETS.values()))
        raise NanoMLError(
            f"PDF set {lha_id}: is not known here. Known are {known}. Write PdfSet({lha_id}, MEMBERS, KIND) in place of the number, with "
            "what its .info file in LHAPDF says: MEMBERS without member 0, and KIND replicas, symmhessian or hessian."
        )
    return SETS[lha_id]


def _shifted(weights: ak.Array, found: PdfSet, members: ak.Array) -> Iterator[NDArray[np.float64]]:
    """1 + w(member) - w(0) of each event for some members; 1 where an event has no list."""
    counts = np.asarray(ak.num(weights))
    lengths = np.unique(counts[counts > 0]).tolist()
    beside = 0 if found.alpha_s is None else 2
    # some files lack member 0, which is the nominal weight then, or the members with another alpha_s
    begins = {found.members + more + zero: 1 - zero for more in (0, beside) for zero in (0, 1)}
    if len(lengths) > 1 or not set(lengths) <= set(begins):
        raise NanoMLError(
            f"LHEPdfWeight has {' and '.join(map(str, lengths))} entries, but the set {found} has {found.members} members "
            f"and {beside} with another alpha_s. `nanoml inspect FILE --branches LHEPdfWeight` shows the LHA IDs in its title."
        )
    begin, has_list = begins[lengths[0]] if lengths else 0, counts > 0
    filled = ak.to_numpy(weights[has_list]).astype(np.float64) if lengths else np.ones((0, 0))
    for member in members:
        made = np.ones(len(counts))
        place = member - begin
        if lengths and place >= lengths[0]:
            raise NanoMLError(f"LHEPdfWeight has {lengths[0]} entries: none has another alpha_s.")
        if lengths:
            made[has_list] += filled[:, place] - (filled[:, 0] if begin == 0 else 1.0)
        yield made
