"""Members of PDF sets as variations, and alpha_s apart."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MLTools.NanoML.corrections.pdf import SETS, PdfSet, alpha_s, pdf, pdf_members, pdf_weight
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import combined
from MLTools.NanoML.rootio.rootfile import RootFile


def test_a_set_is_named_by_the_title() -> None:
    title = "LHE pdf variation weights (w_var / w_nominal) for LHA IDs 325300 - 325402"
    assert pdf_members(title) == (325300, 325402)
    with pytest.raises(NanoMLError, match="does not name the LHA IDs"):
        pdf_members("LHEPdfWeight/F")


@pytest.mark.parametrize(
    ("lha_id", "zero", "with_alpha_s"),
    [
        *((number, True, True) for number, each in SETS.items() if each.alpha_s),
        *((306000, *given) for given in ((False, True), (True, False), (False, False))),
    ],
)
def test_each_member_is_where_it_belongs(lha_id: int, zero: bool, with_alpha_s: bool) -> None:
    found = SETS[lha_id]
    members = range(0 if zero else 1, found.members + (3 if with_alpha_s else 1))
    lists = ak.Array([[1.0 + member / 1000 for member in members], [], [0.5 + member / 100 for member in members]])
    assert [len(values) for values in pdf(lists[:0], lha_id).variations.values()] == [0] * found.members
    factor = pdf(lists, lha_id)
    assert list(factor.variations) == list(pdf_weight(lha_id).variations)
    assert pdf_weight(lha_id).combine == found.combine
    assert len(factor.variations) == found.members
    assert factor.nominal.tolist() == [1, 1, 1]
    for member in (1, 7, found.members):
        # without member 0, the nominal weight stands for it
        third = 1 + member / 100 if zero else 0.5 + member / 100
        assert factor[f"member{member}"].tolist() == pytest.approx([1 + member / 1000, 1, third])
    if not with_alpha_s:
        with pytest.raises(NanoMLError, match="none has another alpha_s"):
            alpha_s(lists, lha_id)
        return
    assert found.alpha_s is not None
    low, high = found.alpha_s
    for way, member, distance in (("down", found.members + 1, 0.118 - low), ("up", found.members + 2, high - 0.118)):
        change = member / 1000 * 0.0015 / distance
        assert alpha_s(lists, lha_id)[way][:2].tolist() == pytest.approx([1 + change, 1])


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.lists(st.floats(-3, 3), min_size=33, max_size=33), min_size=1, max_size=5))
def test_sums_are_those_of_plain_weights(values: list[list[float]]) -> None:
    """The squared difference of a yield is that of the sums of w(member) and w(0), which LHAPDF's formula takes."""
    factor, plain = pdf(ak.Array(values), 91400), np.array(values).sum(axis=0)
    own = sum((factor[name].sum() - factor.nominal.sum()) ** 2 for name in factor.variations)
    assert own == pytest.approx(((plain[1:31] - plain[0]) ** 2).sum(), abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "confidence"),
    [("replicas", 68), ("symmhessian", 68), ("symmhessian", 90), ("hessian", 68), ("hessian", 90)],
)
def test_any_set_has_the_uncertainty_of_lhapdf(kind: str, confidence: float) -> None:
    """The formulae of LHAPDF (arXiv:1412.7420, section 6), for the yield of some events."""
    values = 1 + np.random.default_rng(1).normal(0, 0.1, (5, 13))
    own = PdfSet(12345, 12, kind, confidence=confidence)
    factor, weight, yields = pdf(ak.Array(values), own), pdf_weight(own), values.sum(axis=0)
    members = yields[1:] - yields[0]
    expected = {
        "replicas": members.std(ddof=1),
        "symmhessian": np.sqrt((members**2).sum()),
        "hessian": np.sqrt(((members[::2] - members[1::2]) ** 2).sum()) / 2,
    }[kind] / (1.6448536 if confidence == 90 else 1)
    varied = np.array([each.sum() for each in factor.variations.values()])
    assert list(weight.variations) == list(factor.variations)
    assert len(varied) == (6 if kind == "hessian" else 12)
    assert combined(weight.combine, 5.0, varied)[0] - 5.0 == pytest.approx(expected, rel=1e-6)
    change = (values[:, 12] - values[:, 0]) * 0.0015 / 0.004
    assert alpha_s(ak.Array(values), PdfSet(1, 10, kind, (0.116, 0.122)))["up"] == pytest.approx(1 + change)
    with pytest.raises(NanoMLError, match=r"the set 12345 has no members"):
        alpha_s(ak.Array(values), own)


def test_a_kind_that_is_none_is_an_error() -> None:
    for members, kind, confidence in ((12, "hesian", 68), (12, "hessian", 95), (13, "hessian", 68)):
        said = "PDF set 1: kind is one of replicas, symmhessian, hessian, confidence 68 or 90"
        with pytest.raises(NanoMLError, match=said):
            PdfSet(1, members, kind, confidence=confidence)


def test_what_does_not_fit_is_explained() -> None:
    with pytest.raises(NanoMLError, match=r"PDF set 12345: is not known here. .*Write PdfSet\(12345, MEMBERS, KIND\)"):
        pdf_weight(12345)
    said = "LHEPdfWeight has 33 entries, but the set NNPDF31_nnlo_hessian_pdfas .306000. has 100"
    with pytest.raises(NanoMLError, match=said):
        pdf(ak.Array([[1.0] * 33]), 306000)
    with pytest.raises(NanoMLError, match="LHEPdfWeight has 101 and 103 entries"):
        pdf(ak.Array([[1.0] * 101, [1.0] * 103]), 306000)


def test_sets_of_real_files_are_known(real_files: dict[str, Path]) -> None:
    """Their members differ from nominal by some per cent, as they do by the title's order."""
    seen = set()
    for path in (path for name, path in real_files.items() if "rntuple" not in name):
        with RootFile(path) as file:
            branch = file.branches.get("LHEPdfWeight")
            if branch is None or "LHA IDs" not in branch.title or not file.entries:
                continue
            lists, title = file.read(["LHEPdfWeight"])["LHEPdfWeight"], branch.title
        first, last = pdf_members(title)
        lha_id = first - first % 100
        assert last - lha_id == SETS[lha_id].members + 2
        seen.add(lha_id)
        factor, plain = pdf(lists, lha_id), ak.to_numpy(lists).astype(float)
        central = plain[:, 0] if first == lha_id else 1.0
        place = 9 if first == lha_id else 8
        assert factor["member9"] == pytest.approx(1 + plain[:, place] - central)
        spread = [values.mean() - 1 for values in factor.variations.values()]
        assert 0 < np.std(spread) < 0.1
        assert all(abs(alpha_s(lists, lha_id)[end].mean() - 1) < 0.1 for end in ("up", "down"))
    assert seen == {91400, 292200, 306000, 325300}
