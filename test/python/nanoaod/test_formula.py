from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.rootio.rootfile import RootFile

Event = dict[str, Any]


def passing(cut: str, file: RootFile) -> list[bool]:
    formula = Formula(cut)
    formula.resolve(file.branches, file.path)
    return formula.mask(file.read(formula.branches), file.entries).tolist()


def _leading(event: Event, branch: str, number: int = 0) -> float:
    return event[branch][number] if len(event[branch]) > number else math.nan  # NaN passes no comparison


# what a cut means, said again in Python
CUTS: list[tuple[str, Callable[[Event], bool]]] = [
    *(("1", lambda e: True), ("0", lambda e: False), ("nMuon", lambda e: e["nMuon"] != 0)),
    *(("nMuon >= 2", lambda e: e["nMuon"] >= 2), ("!HLT_IsoMu24", lambda e: not e["HLT_IsoMu24"])),
    ("MET_pt>40.5&&MET_phi<-.5", lambda e: e["MET_pt"] > 40.5 and e["MET_phi"] < -0.5),
    ("nMuon + nElectron == 3", lambda e: e["nMuon"] + e["nElectron"] == 3),
    *(("nMuon / 2 == 0.5", lambda e: e["nMuon"] == 1), ("event % 3 == 1", lambda e: e["event"] % 3 == 1)),
    *(("(PV_npvs & 0x3) == 2", lambda e: e["PV_npvs"] & 3 == 2), ("MET_pt / nMuon == 0", lambda e: e["nMuon"] == 0)),
    ("sqrt(MET_sumEt) > 20 || exp(MET_phi) > 10", lambda e: e["MET_sumEt"] > 400 or math.exp(e["MET_phi"]) > 10),
    *(("-MET_phi^2 < -4", lambda e: e["MET_phi"] ** 2 > 4), ("Muon_pt[0] > 30", lambda e: _leading(e, "Muon_pt") > 30)),
    ("Muon_pt[1] > 20 && abs(Muon_eta[1]) < 2.4",
     lambda e: _leading(e, "Muon_pt", 1) > 20 and abs(_leading(e, "Muon_eta", 1)) < 2.4),
    ("nMuon < 2 || Muon_pt[1] > 20", lambda e: _leading(e, "Muon_pt", 1) > 20),
    ("nMuon < 2 || Alt$(Muon_pt[1], 0) > 20", lambda e: e["nMuon"] < 2 or e["Muon_pt"][1] > 20),
    ("Muon_pt[] > 30", lambda e: any(pt > 30 for pt in e["Muon_pt"])),
    ("Muon_pt > 10 && Muon_tightId && fabs(Muon_eta) < 1.5",
     lambda e: any(pt > 10 and good and abs(eta) < 1.5
                   for pt, eta, good in zip(e["Muon_pt"], e["Muon_eta"], e["Muon_tightId"]))),
    ("!(Muon_pt > 30)", lambda e: any(pt <= 30 for pt in e["Muon_pt"])),
    ("Jet_pt > Max$(Muon_pt)", lambda e: any(pt > max(e["Muon_pt"], default=0) for pt in e["Jet_pt"])),
    ("Sum$(Muon_pt > 10 && abs(Muon_eta) < 2.4) + Sum$(Electron_pt > 10) >= 3",
     lambda e: sum(pt > 10 and abs(eta) < 2.4 for pt, eta in zip(e["Muon_pt"], e["Muon_eta"]))
     + sum(pt > 10 for pt in e["Electron_pt"]) >= 3),
    ("Max$(Jet_pt) > 50", lambda e: max(e["Jet_pt"], default=0) > 50),
    *(("Min$(Jet_pt) < 20", lambda e: min(e["Jet_pt"], default=0) < 20), ("Max$(Muon_pt) > -1", lambda e: True)),
    *(("Min$(Muon_pt) < 1", lambda e: min(e["Muon_pt"], default=0) < 1), ("Length$(Jet_pt) != nJet", lambda e: False)),
    ("Sum$(Jet_pt[0] > 0)", lambda e: e["nJet"] > 0),
    ("Sum$((Jet_jetId & 2) * (Jet_pt > 30)) > 2 && max(nMuon, nElectron) == 2",
     lambda e: sum((jet & 2) * (pt > 30) for jet, pt in zip(e["Jet_jetId"], e["Jet_pt"])) > 2
     and max(e["nMuon"], e["nElectron"]) == 2),
    ("(HLT_IsoMu24 || HLT_Mu50) && !(nMuon == 0) && TMath::Abs(Muon_eta[0]) < 1.2",
     lambda e: bool(e["HLT_IsoMu24"] or e["HLT_Mu50"]) and abs(_leading(e, "Muon_eta")) < 1.2),
]  # fmt: skip
NAMES = sorted({name for cut, _ in CUTS for name in Formula(cut).branches})


@pytest.fixture(scope="module")
def file(sample: Path) -> Any:
    with RootFile(sample / "WZTo3LNu" / "WZTo3LNu_0.root") as file:
        yield file


@pytest.fixture(scope="module")
def events(file: RootFile) -> Sequence[Event]:
    found: Sequence[Event] = ak.zip({**file.read(NAMES)}, depth_limit=1).to_list()
    return found


@pytest.mark.parametrize(("cut", "meaning"), CUTS)
def test_cuts_as_in_python(cut: str, meaning: Callable[[Event], bool], file: RootFile, events: Sequence[Event]) -> None:
    assert passing(cut, file) == [meaning(event) for event in events]


def test_two_lists_are_read_in_parallel(file: RootFile, events: Sequence[Event]) -> None:
    # not compared with ROOT, whose releases have 0 or NaN for what is beyond the end of one of them
    assert passing("Muon_pt > Electron_pt", file) == [
        any(muon > electron for muon, electron in zip(event["Muon_pt"], event["Electron_pt"])) for event in events
    ]


@pytest.mark.root
def test_a_cut_has_the_same_meaning_as_in_root(file: RootFile) -> None:
    ROOT = pytest.importorskip("ROOT")  # noqa: N806
    opened = ROOT.TFile.Open(file.path)
    tree = opened.Get("Events")
    more = [
        "Muon_pt * cosh(Muon_eta) - Muon_mass + nMuon > 2 * MET_pt - 3 / nMuon - 1",
        "Electron_pt[0] / Electron_mass[0] * Electron_charge[0] / nElectron > 1e3",
        "log(MET_pt - 30) * pow(nJet, 2) > log10(nMuon) - sqrt(-MET_phi)",
        "min(Jet_pt[0], Jet_pt[1]) > TMath::Min(MET_pt, 40) && int(MET_phi) == 1",
        "(GenPart_statusFlags >> 13) & 1 && abs(GenPart_pdgId) == 13 && GenPart_pt > 60",
        "nMuon - -1 - nElectron + 2 - 1 > 1 && atan2(MET_phi, -1.) < 0",
        "Sum$(Muon_highPtId == 2) == 2 && Electron_convVeto && Alt$(Electron_pt[2], -1) < 15",
        "Sum$(Alt$(Muon_pt[2], 7) * (Muon_charge > 0)) > 7",
    ]
    for cut in [*(cut for cut, _ in CUTS), *more]:
        tree.Draw(">>passed", cut, "entrylist")
        entries = ROOT.gDirectory.Get("passed")
        expected = [entries.GetEntry(n) for n in range(entries.GetN())]
        assert np.flatnonzero(passing(cut, file)).tolist() == expected, cut


class Made:
    """A made-up expression: its text, its value for an instance, and the lists it loops over or picks from."""

    def __init__(self, text: str, value: Callable[[Event, int], float], lists: frozenset[str]) -> None:
        self.text, self.value, self.lists = text, value, lists

    def count(self, event: Event) -> int:
        if any(len(event["Obj_x"]) <= int(name[-2]) for name in self.lists if name.endswith("]")):
            return 0
        return len(event["Obj_x"]) if {"Obj_x", "Obj_k"} & self.lists else 1

    def values(self, event: Event) -> list[float]:
        return [self.value(event, instance) for instance in range(self.count(event))]


def _branch(name: str) -> Made:
    return Made(name, lambda e, i: float(e[name]), frozenset())


def _element(name: str, index: int) -> Made:
    text = f"{name}[{index}]"
    return Made(text, lambda e, i: float(e[name][index]), frozenset([text]))


def _list(name: str) -> Made:
    return Made(name, lambda e, i: float(e[name][i]), frozenset([name]))


def _binary(operator: str, apply: Callable[[float, float], float], left: Made, right: Made) -> Made:
    text = f"({left.text} {operator} {right.text})"
    return Made(text, lambda e, i: float(apply(left.value(e, i), right.value(e, i))), left.lists | right.lists)


def _unary(text: str, apply: Callable[[float], float], inner: Made) -> Made:
    return Made(text.format(inner.text), lambda e, i: float(apply(inner.value(e, i))), inner.lists)


def _reduced(name: str, apply: Callable[[list[float]], float], inner: Made) -> Made:
    return Made(f"{name}({inner.text})", lambda e, i: float(apply(inner.values(e))), frozenset())


def _alternative(inner: Made, otherwise: int) -> Made:
    def value(event: Event, instance: int) -> float:
        values = inner.values(event)
        return values[instance] if instance < len(values) else otherwise

    return Made(f"Alt$({inner.text}, {otherwise})", value, frozenset())


OPERATORS: list[tuple[str, Callable[[float, float], float]]] = [
    *(("+", lambda x, y: x + y), ("-", lambda x, y: x - y), ("*", lambda x, y: x * y)),
    *(("/", lambda x, y: x / y if y else 0), ("<", lambda x, y: x < y), (">=", lambda x, y: x >= y)),
    *(("==", lambda x, y: x == y), ("!=", lambda x, y: x != y), ("&&", lambda x, y: bool(x) and bool(y))),
    ("||", lambda x, y: bool(x) or bool(y)),
]
UNARY: list[tuple[str, Callable[[float], float]]] = [
    *(("!{0}", lambda x: not x), ("(-{0})", lambda x: -x), ("abs({0})", abs)),
    *(("sqrt({0})", lambda x: math.sqrt(abs(x))), ("log({0})", lambda x: math.log(x) if x > 0 else 0)),
]
REDUCTIONS: list[tuple[str, Callable[[list[float]], float]]] = [
    *(("Sum$", sum), ("Max$", lambda values: max(values, default=0)), ("Min$", lambda values: min(values, default=0))),
    ("Length$", len),
]
leaves = st.one_of(
    st.sampled_from(["nObj", "x"]).map(_branch),
    st.builds(_element, st.sampled_from(["Obj_x", "Obj_k"]), st.integers(0, 2)),
    st.sampled_from(["Obj_x", "Obj_k"]).map(_list),
    st.integers(0, 3).map(lambda number: Made(str(number), lambda e, i: float(number), frozenset())),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda op, x, y: _binary(*op, x, y), st.sampled_from(OPERATORS), inner, inner),
        st.builds(lambda op, x: _unary(*op, x), st.sampled_from(UNARY), inner),
        st.builds(lambda op, x: _reduced(*op, x), st.sampled_from(REDUCTIONS), inner),
        st.builds(_alternative, inner, st.integers(0, 3)),
    ),
    max_leaves=8,
)
# eighths, of which sums and products are exact
numbers = st.integers(-24, 24).map(lambda number: number / 8)
made_events = st.lists(st.tuples(numbers, st.lists(st.tuples(numbers, st.integers(-3, 3)), max_size=4)), max_size=5)


@settings(max_examples=100)
@given(expressions, made_events)
def test_random_expressions_agree_with_python(made: Made, content: Any) -> None:
    events: list[Event] = [
        {"x": x, "nObj": len(objects), "Obj_x": [o[0] for o in objects], "Obj_k": [o[1] for o in objects]}
        for x, objects in content
    ]
    lists = ak.Array([[[0.0, 0]], *([[*pair] for pair in objects] for _, objects in content)])[1:]
    of_event = {"x": np.float32, "nObj": np.uint32}
    arrays: Any = {name: np.array([event[name] for event in events], kind) for name, kind in of_event.items()}
    arrays["Obj_x"] = ak.values_astype(lists[:, :, 0], np.float32)
    arrays["Obj_k"] = ak.values_astype(lists[:, :, 1], np.int8)
    expected = [any(value != 0 for value in made.values(event)) for event in events]
    assert Formula(made.text).mask(arrays, len(events)).tolist() == expected


@pytest.mark.parametrize("name", ["made_v9_mc_zero_events", "made_v9_mc", "made_v15_mc"])
def test_versions_of_nanoaod_have_their_own_names_and_types(made_files: dict[str, Path], name: str) -> None:
    with RootFile(made_files[name]) as file:
        # MET_pt is PFMET_pt in v15
        found = passing("nMuon >= 1 && Muon_pt[0] > 5 && MET_pt > 0 && Sum$(Jet_pt > 30) >= 0", file)
        leading = ak.to_list(ak.max(file.read(["Muon_pt"])["Muon_pt"][:, :1], axis=1))
    assert found == [pt is not None and pt > 5 for pt in leading]


def test_only_the_branches_of_the_cut_are_named() -> None:
    cut = "Sum$(Muon_pt > 10 && abs(Muon_eta) < 2.4) >= 2 && Alt$(Jet_pt[1], MET_pt) > nMuon * 1e1 && Muon_pt[0] > 3"
    assert Formula(cut).branches == ("Muon_pt", "Muon_eta", "Jet_pt", "MET_pt", "nMuon")
    assert Formula("1 > 0").branches == ()


def test_arrays_of_fixed_size_are_lists() -> None:
    array = ak.from_numpy(np.array([[1.0, 5.0], [2.0, 3.0]]), regulararray=True)
    assert Formula("x > 4").mask({"x": array}, 2).tolist() == [True, False]
    assert Formula("x[1] < 4").mask({"x": array}, 2).tolist() == [False, True]
    assert Formula("x[2] < 4").mask({"x": array}, 2).tolist() == [False, False]
    with pytest.raises(NanoMLError, match="column 1: x is one number per event"):
        Formula("x[0] > 1").mask({"x": np.ones(3)}, 3)


def test_a_long_or_of_triggers_is_no_problem() -> None:
    names = [f"HLT_{number}" for number in range(600)]
    arrays = {name: np.array([False, name == "HLT_599"]) for name in names}
    assert Formula(" || ".join(names)).mask(arrays, 2).tolist() == [False, True]


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("", 'cut "": column 1: unexpected end, expected a number, a branch, a function or (.'),
        *(("nMuon >= ", "column 10: unexpected end"), ("nMuon >= && x", 'column 10: unexpected "&&"')),
        *(("(nMuon", 'column 7: unexpected end, expected ")"'), ("nMuon)", 'column 6: unexpected ")".')),
        ("nMuon = 2", 'column 7: unexpected "=". Compare with ==.'),
        *(("nMuon and x", 'column 7: unexpected "and". Write &&.'), ("not x", "Write !.")),
        ("Muon_pt[-1] > 2", 'column 9: unexpected "-", expected an index: an integer that is not negative'),
        ("Muon_pt[nMuon] > 2", 'column 9: unexpected "nMuon", expected an index'),
        ("Muon_pt[0 > 2", 'column 11: unexpected ">", expected "]"'),
        *(("20GeV < MET_pt", 'column 3: unexpected "GeV"'), ('x == "a"', "column 6: unexpected")),
        ("x ? 1 : 0", 'column 3: unexpected "?"'),
        ("sqr(x) > 1", 'column 1: there is no function sqr. Did you mean "sqrt"?'),
        ("pow(x) > 1", "column 1: pow takes 2 argument(s), not 1."),
        *(("abs() > 1", "abs takes 1 argument(s), not 0."), ("Entry$ < 100", "column 1: Entry$ is not supported.")),
        ("MaxIf$(x, y) > 1", "there is no function MaxIf$"),
        ("0 < nMuon < 3", 'column 11: "<" and "<" need parentheses'),
        *(("x > 1 == y", 'column 7: ">" and "==" need parentheses'), ("event % 4 * 2", '"*" and "%" need parentheses')),
        *(("x >> 2 > 1", '">>" and ">" need parentheses'), ("x^2^3", '"^" and "^" need parentheses')),
        ("(" * 500 + "x" + ")" * 500, "nested too deeply"),
    ],
)
def test_errors_in_a_cut_name_the_column(cut: str, message: str) -> None:
    with pytest.raises(NanoMLError) as raised:
        Formula(cut)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("nMuon > 1 && Muon_ptt > 2", 'column 14: {path} has no branch Muon_ptt. Did you mean "Muon_pt"?'),
        ("MET_pt[0] > 2", "column 1: MET_pt is one number per event: it has no index."),
        ("Alt$(Muon_pt[1], Muon_pt) > 2", "column 18: the second argument of Alt$ is one number per event"),
    ],
)
def test_a_cut_is_checked_against_a_file(cut: str, message: str, file: RootFile) -> None:
    with pytest.raises(NanoMLError) as raised:
        Formula(cut).resolve(file.branches, file.path)
    assert message.format(path=file.path) in str(raised.value)


def test_branches_of_other_types_are_refused(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as written:
        written.mktree("Events", {"x": np.dtype(("f4", (2, 3)))}).extend({"x": np.ones((1, 2, 3), "f4")})
    refused = pytest.raises(NanoMLError, match=r"column 5: .*a.root: x is of type float\[2\]\[3\]")
    with RootFile(tmp_path / "a.root") as file, refused:
        Formula("1 < x").resolve(file.branches, file.path)


def test_an_expression_has_a_value_for_each_event() -> None:
    arrays = {"ht": np.array([50.0, 150.0]), "pt": ak.Array([[30.0, 20.0], [10.0, 5.0]])}
    assert Formula("1 - 0.5 * (ht > 100)").values(arrays, 2).tolist() == [1, 0.5]
    assert Formula("pt[0] + Sum$(pt)").values(arrays, 2).tolist() == [80, 25]
    assert Formula("1").values({}, 2).tolist() == [1, 1]
    with pytest.raises(NanoMLError, match="it must be one number for each event, but it reads a list"):
        Formula("pt * 2").values(arrays, 2)
    with pytest.raises(NanoMLError, match="it is NaN or infinite for 1 of 2 events"):
        Formula("2e306 * ht").values(arrays, 2)
