"""Members of PDF sets as variations, and alpha_s apart; triggers of several leptons, against the sum over all legs that may fire."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from MLTools.NanoML.corrections import Factor
from MLTools.NanoML.corrections.pdf import SETS, PdfSet, alpha_s, pdf, pdf_members, pdf_weight
from MLTools.NanoML.corrections.triggers import Leptons, pair, weight
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import combined
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.rootio.lists import offsets_of
from MLTools.NanoML.rootio.rootfile import RootFile
from services import invented
from services.real import era, plain


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
    formulas = {"replicas": members.std(ddof=1), "symmhessian": np.sqrt((members**2).sum())}
    formulas["hessian"] = np.sqrt(((members[::2] - members[1::2]) ** 2).sum()) / 2
    expected = formulas[kind] / (1.6448536 if confidence == 90 else 1)
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


LEGS = ("trailing", "leading", "single")


def drawn(counts: NDArray[np.int64], seed: int) -> Leptons:
    """Leptons with efficiencies at random, also of tighter legs above those of looser ones, as they fluctuate."""
    random = np.random.default_rng(seed)

    def legs() -> dict[str, NDArray[np.float64]]:
        return dict(zip(LEGS, random.uniform(size=(3, counts.sum()))))

    of = {name: Factor(values, {"up": np.sqrt(values)}) for name, values in legs().items()}
    return Leptons(of, {name: Factor(values) for name, values in legs().items()}, Flat({}, offsets_of(counts)))


def summed(kinds: list[Leptons], event: int, is_data: bool, variation: str, is_mixed: bool, names: tuple[str, ...]) -> float:  # fmt: skip
    """The probability that an event fires: of each lepton, the tightest leg that it fires is one of four."""
    chances: list[list[float]] = []
    kind_of: list[int] = []
    for number, kind in enumerate(kinds):
        assert kind.objects is not None
        for place in np.flatnonzero(kind.objects.event == event):
            legs = kind.data if is_data else kind.simulation
            at = [1.0, *(float(legs[name][variation][place]) if name in names else -1.0 for name in LEGS), 0.0]
            for level in (3, 2, 1):  # a leg that no trigger has is as efficient as the next tighter one
                at[level] = max(at[level], at[level + 1] if level < 3 else 0.0)
            chances.append([at[level] - at[level + 1] for level in range(4)])
            kind_of.append(number)
    total = 0.0
    for fired in itertools.product(range(4), repeat=len(chances)):
        pairs = itertools.permutations(zip(fired, kind_of), 2)
        if 3 in fired or any(a[0] >= 2 and b[0] >= 1 and (is_mixed or a[1] == b[1]) for a, b in pairs):
            total += float(np.prod([chance[level] for chance, level in zip(chances, fired)]))
    return total


@pytest.mark.parametrize(
    ("names", "is_mixed"),
    [(LEGS, False), (LEGS, True), (("trailing", "leading"), True), (("leading",), False), (("single",), True)],
)
def test_the_weight_is_the_sum_over_all_that_may_fire(names: tuple[str, ...], is_mixed: bool) -> None:
    random = np.random.default_rng(7)
    kinds = [drawn(random.integers(0, 4, 10), seed) for seed in (1, 2)]
    given = [Leptons({n: k.data[n] for n in names}, {n: k.simulation[n] for n in names}, k.objects) for k in kinds]
    found = weight(*given, is_mixed=is_mixed)
    for event, variation in itertools.product(range(10), ("nominal", "up")):
        in_data, expected = (summed(kinds, event, is_data, variation, is_mixed, names) for is_data in (True, False))
        ratio = in_data / expected if expected > 1e-12 else 1.0
        assert found[variation][event] == pytest.approx(ratio, rel=1e-9)


def test_known_formulas() -> None:
    """1 - prod(1 - e) for triggers of one lepton, L1 T2 + T1 L2 - L1 L2 for triggers of two."""
    data = Factor(ak.Array([[0.9, 0.5], [], [0.8]]), {"up": ak.Array([[0.95, 0.55], [], [0.85]])})
    simulation = Factor(ak.Array([[0.8, 0.5], [], [0.0]]))
    found = weight(Leptons({"single": data}, {"single": simulation}))
    assert np.allclose(found.nominal, [0.95 / 0.9, 1, 1])
    assert np.allclose(found["up"], [(1 - 0.05 * 0.45) / 0.9, 1, 1])
    two = {"leading": Factor(ak.Array([[0.7, 0.6]])), "trailing": Factor(ak.Array([[0.9, 0.8]]))}
    certain = {"leading": Factor(ak.Array([[1.0, 1.0]]))}
    (found_two,) = np.asarray(weight(Leptons(two, certain)).nominal)
    assert found_two == pytest.approx(0.7 * 0.8 + 0.9 * 0.6 - 0.7 * 0.6)
    with pytest.raises(NanoMLError, match="leg `single`, or of `leading`"):
        weight(Leptons({"trailing": data}, {"trailing": simulation}))
    with pytest.raises(NanoMLError, match="need two kinds, but got 1"):
        weight(Leptons(two, certain), is_mixed=True)


def file_of_legs(folder: Path) -> Path:
    """A file in the layout of EGM's electronHlt.json, with three legs."""
    corrections = []
    for name, shift in (("DataEff", 0.0), ("McEff", 0.02)):
        legs = {
            f"leg{place}": {
                key: invented.binning("pt", (15.0, 30.0, 200.0), [0.5 + up, top + shift + up], "error")
                for key, up in (("nom", 0.0), ("up", 0.03), ("down", -0.03))
            }
            for place, top in enumerate((0.8, 0.9, 0.96))
        }
        inputs = {"ValType": "string", "Path": "string", "eta": "real", "pt": "real"}
        of_leg = invented.category("Path", {leg: invented.category("ValType", each) for leg, each in legs.items()})
        corrections.append(invented.correction(f"Electron-HLT-{name}", inputs, of_leg))
    return invented.write(folder / "electronHlt.json", *corrections)


def test_an_entry_has_the_legs_of_its_file(tmp_path: Path) -> None:
    path, legs = file_of_legs(tmp_path), {name: {"Path": f"leg{place}"} for place, name in enumerate(LEGS[::-1])}
    entry = {"file": path.name, "data": {"name": "Electron-HLT-DataEff"}, "simulation": {"name": "Electron-HLT-McEff"}}
    text = json.dumps({"electron_legs": {**entry, "legs": legs}})
    random, counts = np.random.default_rng(1), np.array([2, 0, 3, 1])
    columns = {"pt": np.array([25.0, 40, 10, 900, 31, 70]), "eta": random.uniform(-2, 2, 6), "deltaEtaSC": np.zeros(6)}
    electrons = Flat(columns, offsets_of(counts))
    found, one = era(tmp_path, text).electron_legs.on(electrons).named("electron"), plain(path)
    for which, opposite, end in (("nom", "nom", ""), ("up", "down", "electron_up"), ("down", "up", "electron_down")):
        for correction, key, counted in (("Data", which, found.data), ("Mc", opposite, found.simulation)):
            for place, leg in enumerate(LEGS[::-1]):
                at = functools.partial(one[f"Electron-HLT-{correction}Eff"].evaluate, key, f"leg{place}", 0.0)
                assert counted[leg][end].tolist() == [at(min(pt, 199.0)) if pt > 15 else 0.0 for pt in columns["pt"]]
    ragged = ak.zip({name: ak.unflatten(values, counts) for name, values in columns.items()})
    again = weight(era(tmp_path, text).electron_legs.on(ragged).named("electron"))
    assert again.nominal.tolist() == weight(found).nominal.tolist()
    assert set(again.variations) == {"electron_up", "electron_down"}
    single = era(tmp_path, json.dumps({"electron_legs": {**entry, "legs": {"single": {"Path": "leg0"}}}}))
    assert single.electron_legs.described[:2] == ("Electron-HLT-DataEff, Electron-HLT-McEff", "single")
    with pytest.raises(ConfigError, match="single, leading or trailing"):
        era(tmp_path, json.dumps({"electron_legs": {**entry, "legs": {"hard": {}}}}))


def test_a_pair_has_one_scale_factor(tmp_path: Path) -> None:
    edges = (20.0, 50.0, 200.0)
    rows = [invented.binning("lepton2_pt", edges, values, "error") for values in ((1.0, 2.0), (3.0, 4.0))]
    keys = {"nominal": invented.binning("lepton1_pt", edges, rows, "error"), "up": 5.0, "down": 0.5}
    inputs = {"syst": "string", "lepton1_pt": "real", "lepton2_pt": "real", "subleadingAbsEta": "real", "njet": "int"}
    content = invented.correction("ee", inputs, invented.category("syst", keys))
    invented.write(tmp_path / "trigger.json", content)
    correction = era(tmp_path, "trigger: {file: trigger.json, name: ee}").trigger
    pt = ak.Array([[25.0, 60.0], [60.0], [], [900.0, 12.0, 70.0]])
    found = pair(correction, ak.zip({"pt": pt, "eta": -pt}), njet=np.arange(4))
    assert found.nominal.tolist() == [3, 1, 1, 4]
    assert found["up"].tolist() == [5, 1, 1, 5]
    with pytest.raises(NanoMLError, match="needs subleadingAbsEta, but these objects have no eta"):
        pair(correction, ak.zip({"pt": pt}), njet=np.arange(4))
