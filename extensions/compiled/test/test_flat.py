"""`Flat`, cuts, awkward's and numpy's functions with their options, and four-vectors, in the graph and in the engine."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled.tracing.graph import KINDS, Graph, Tensor
from MLTools.NanoML.extensions.compiled.tracing.mathematics import UFUNCS
from MLTools.NanoML.extensions.compiled.tracing.selection import TracedSelection, padded
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.selection import Events, Flat, away_from
from services.compilation import OTHERS, SIZES, check, made_up, selection_of, traced
from services.supported import LINES as FUNCTIONS
from services.supported import results_of

pytestmark = pytest.mark.exhaustive("each line that a selection may have, compiled")

LINES = {
    "counts": lambda jets, muons, met: jets.counts,
    "place": lambda jets, muons, met: (jets.place, jets.keep(jets.good).place),
    "columns": lambda jets, muons, met: (jets.pt, jets["charge"], jets.good),
    "numbers of the event": lambda jets, muons, met: met.pt[jets.event] * jets.pt,
    "booleans of the event": lambda jets, muons, met: (met.pt > 1)[jets.event] & jets.good,
    "numbers of the event, for some": lambda jets, muons, met: met.pt[jets.keep(jets.good).event],
    "keep": lambda jets, muons, met: jets.keep(jets.pt > 20).keep(jets.keep(jets.pt > 20).good).eta,
    "kept counts": lambda jets, muons, met: jets.keep(jets.good).counts,
    "vectors": lambda jets, muons, met: (jets.p4.px, jets.p4.energy, abs(jets.p4)),
    "pairs": lambda jets, muons, met: (
        jets.pairs()[0].pt,
        jets.pairs()[1].pt,
        jets.pairs()[1].place,
        jets.pairs()[0].counts,
    ),
    "pairs of few": lambda jets, muons, met: muons.keep(muons.good).pairs()[1].eta,
    "mass of pairs": lambda jets, muons, met: (jets.pairs()[0].p4 + jets.pairs()[1].p4).mass,
    "pairs of pairs": lambda jets, muons, met: jets.pairs()[0].keep(jets.pairs()[0].good).charge,
    "with columns": lambda jets, muons, met: jets.with_columns(double=jets.pt * 2, one=1, good=True).double,
    "number as a column": lambda jets, muons, met: (
        jets.with_columns(one=1.5).one,
        jets.with_columns(one=1).pairs()[0].one,
    ),
    "joined": lambda jets, muons, met: (Flat.joined(jets, muons).pt, Flat.joined(jets, muons).counts),
    "joined with columns": lambda jets, muons, met: (
        Flat.joined(
            jets.with_columns(kind=1), muons.keep(muons.good).with_columns(kind=muons.keep(muons.good).charge)
        ).kind
    ),
    "joined, flags": lambda jets, muons, met: (
        Flat.joined(jets.with_columns(flag=False), muons.with_columns(flag=muons.good)).flag
    ),
    "joined, kept": lambda jets, muons, met: (
        (both := Flat.joined(jets.keep(jets.good), muons)).keep(both.pt > 20).place,
        both.keep(both.pt > 20).pairs()[0].pt,
    ),
    "chosen": lambda jets, muons, met: Flat.chosen(jets.good, jets, jets.with_columns(pt=0.0)).pt,
}

OF_FULL = {
    "largest": lambda jets, met: jets.at(jets.largest(jets.pt)).eta,
    "smallest": lambda jets, met: jets.at(jets.smallest(jets.pt)).place,
    "largest of numbers that may be NaN": lambda jets, met: jets.at(jets.largest(jets.score)).phi,
    "smallest of numbers that may be NaN": lambda jets, met: jets.at(jets.smallest(jets.score)).phi,
    "smallest of integers": lambda jets, met: jets.at(jets.smallest(jets.charge)).phi,
    "at, for all events": lambda jets, met: (
        jets.at(jets.largest(jets.pt)).counts,
        met.pt[jets.at(jets.largest(jets.pt)).event],
    ),
    "picked column": lambda jets, met: jets.pt[jets.largest(jets.score)] - met.pt,
    "vector of one": lambda jets, met: jets.at(jets.largest(jets.pt)).p4.deltaR(jets.at(jets.smallest(jets.pt)).p4),
    "number of one for all": lambda jets, met: jets.at(jets.largest(jets.pt)).pt[jets.event] - jets.pt,
    "one joined with all": lambda jets, met: Flat.joined(jets.at(jets.largest(jets.pt)), jets).pt,
    "chosen of one": lambda jets, met: _swapped(jets),
}


def _swapped(jets: Any) -> tuple[Any, ...]:
    one, two = jets.at(jets.largest(jets.eta)), jets.at(jets.smallest(jets.eta))
    swap = two.pt > one.pt
    return Flat.chosen(swap, two, one).phi, Flat.chosen(swap, one, two).p4.px


def results(events: Events) -> dict[str, Any]:
    """The results of all lines; lines that need an object in each event are given only events with a good jet."""
    jets, muons = events.flat("Jet"), events.flat("Muon")
    made = {name: line(jets, muons, events.MET) for name, line in LINES.items()}
    enough = jets.keep(jets.good).counts >= 1
    good, met = jets[enough].keep(jets[enough].good), SimpleNamespace(pt=events.MET.pt[enough])
    made |= {name: line(good, met) for name, line in OF_FULL.items()}
    enough = muons.counts >= 1
    muons = muons[enough]
    leading = muons.at(muons.largest(muons.pt))
    return {**made, "away": away_from(events.Jet[enough], leading, distance=0.9)}


def test_graph_and_engine_agree() -> None:
    check(results)


@pytest.mark.parametrize(
    ("cut", "demands"),
    [
        (lambda jets, events: jets.counts >= 1, 0),  # the cut says that there is one
        (lambda jets, events: jets.counts >= 2, 0),
        (lambda jets, events: ak.any(events.Jet.pt > 0, axis=1), 1),
    ],
)
def test_an_event_without_objects_to_choose_from_fails_unless_a_cut_says_so(cut: Any, demands: int) -> None:
    def lines(events: Events) -> None:
        jets = events.flat("Jet")
        jets = jets[cut(jets, events)]
        jets.smallest(jets.pt)

    assert len(traced(selection_of(lines)).trace.demands) == demands


@pytest.mark.parametrize("group", FUNCTIONS)
def test_lines_with_functions_and_vectors_agree(group: str) -> None:
    check(results_of(FUNCTIONS[group]))


SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 1e-8, -1e-8, 0.3, 0.29, 20.0, -20.1, 88.0, 709.0, -745.0, 1e4, 1e15, -1e15,
]  # fmt: skip
EXTREME = [np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1e-310, 2.2250738585072014e-308, 1.7e308, -1.7e308, 1e200, 1e-200]
NUMBERS = np.array(
    [
        *SPECIAL,
        *EXTREME,
        math.pi,
        -math.pi / 2,
        math.nextafter(1, 0),
        math.nextafter(1, 2),
        *np.random.default_rng(0).normal(0, 3, 30),
        *np.random.default_rng(1).uniform(-1, 1, 30),
        *10.0 ** np.random.default_rng(2).uniform(-20, 20, 30),
    ]
)

# relative differences; of zero where the result is not larger
EXACT, LAST_BITS = 0.0, 4e-16
TOLERANCE = {
    **dict.fromkeys(
        ("exp", "log", "sin", "power", "float_power", "degrees", "radians", "rad2deg", "deg2rad"), LAST_BITS
    ),
    **dict.fromkeys(("hypot", "expm1", "log1p", "log2", "log10", "exp2", "sinh", "cosh", "tanh"), 1e-15),
    "cbrt": 1e-13,
    **dict.fromkeys(("arcsin", "arccos", "arctan", "arctan2", "arcsinh", "arccosh", "arctanh", "cos", "tan"), 2e-15),
}
"""Others agree in each bit."""

LIMITS = {
    # large angles need more digits of pi
    "sin": lambda x: ~(abs(x) > 1e4),
    "cos": lambda x: ~(abs(x) > 10),
    "tan": lambda x: ~(abs(x) > 10) & (abs(np.cos(x)) > 1e-3),
    # between infinities, and numbers that are nearly as large or too small for all digits, it has float32's accuracy
    "arctan2": lambda y, x: (
        ~((abs(x) > 1e308) & (abs(y) > 1e308)) & ~((abs(x) < 1e-300) & (abs(y) < 1e-300) & (x != 0) & (y != 0))
    ),
}
"""Where they are compared, if not everywhere."""

OF_INTEGERS = {"bitwise_and", "bitwise_or", "bitwise_xor", "right_shift", "left_shift", "invert"}


def run(name: str, columns: list[NDArray[np.float64]]) -> NDArray[np.generic]:
    graph = Graph()
    inputs = [Tensor(graph, f"x{number}", "d", 1) for number in range(len(columns))]
    made = UFUNCS[name](*inputs)
    given_ = [helper.make_tensor_value_info(each.name, TensorProto.DOUBLE, ["n"]) for each in inputs]
    nodes = [*graph.nodes, helper.make_node("Identity", [made.name], ["y"])]
    results = [helper.make_tensor_value_info("y", KINDS[made.kind], ["n"])]
    body = helper.make_graph(nodes, "ufunc", given_, results, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {each.name: values for each, values in zip(inputs, columns, strict=True)})[0]


def compare(name: str, columns: list[NDArray[np.float64]]) -> None:
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*columns)
    found = run(name, columns)
    assert found.dtype == expected.dtype
    tolerance = TOLERANCE.get(name, EXACT)
    if name in LIMITS:
        with np.errstate(all="ignore"):
            keep = LIMITS[name](*columns)
        found, expected, columns = found[keep], expected[keep], [each[keep] for each in columns]
    scale = np.maximum(abs(expected), 1.0 if name in ("sin", "cos", "tan", "arccos") else 1e-300) if tolerance else 1.0
    with np.errstate(all="ignore"):
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        same |= abs(found - expected) <= tolerance * scale if tolerance else False
    assert same.all(), [(*(each[~same][:3] for each in columns), found[~same][:3], expected[~same][:3])]


@pytest.mark.parametrize("name", sorted(set(UFUNCS) - OF_INTEGERS))
def test_graph_and_numpy_agree(name: str) -> None:
    pairs = [each.ravel() for each in np.meshgrid(NUMBERS, NUMBERS)]
    compare(name, pairs if getattr(np, name).nin == 2 else [NUMBERS])


CUTS = [
    "MET_pt > 1.1 && PV_npvs != 7",
    "HLT_A || !HLT_B",
    "Jet_pt[0] > 20",
    "HLT_A || Muon_pt[1] > 20",
    "Jet_pt > 30 && abs(Jet_eta) < 1",
    "Jet_pt - MET_pt > 40 || Jet_good",
    "Sum$(Jet_pt > 20 && Jet_good) >= 2",
    "Sum$(Jet_pt * (Jet_pt > 20)) > 60.5",
    "Max$(Jet_eta) - Min$(Jet_eta) > 0.5",
    "Length$(Muon_pt) == 2",
    "Length$(Muon_pt[0]) + Sum$(Muon_charge[1]) > 0",
    "Jet_pt > Max$(Muon_pt)",
    "Alt$(Muon_pt[2], -1) < 10",
    "Alt$(Jet_pt[1], PV_npvs) > 20",
    "(PV_npvs % 4) / 2 > 0.6 && (5 / 2) == 2.5",
    "(Jet_id[0] & 6) != 0 && (PV_npvs >> 2) > 3 && (PV_npvs << 1) > 3",
    "sqrt(MET_pt) + sq(MET_phi) + pow(MET_pt, 2) > 3 && min(MET_pt, 1.5) == MET_pt",
    "log(MET_pt) < 0.5 && exp(-MET_pt) < 0.6 && int(MET_pt) == TMath::Max(1, floor(MET_pt))",
    "MET_pt / (PV_npvs % 2) > 1 || atan2(MET_pt, MET_phi) > 1",
    "-Jet_charge > 0 || MET_pt / 0 > 1 || MET_pt < log(2) / 1e1",
    "MET_pt ^ 2 > 2",
]


def traced_cut(cut: str, seed: int = 1) -> TracedSelection:
    return TracedSelection(selection_of(lambda events: None), *made_up(seed), SIZES, Formula(cut))


@pytest.mark.parametrize("cut", CUTS)
def test_graph_and_skim_agree(cut: str) -> None:
    graph = traced_cut(cut)
    model, inputs = graph.model(graph.outputs())
    session = onnxruntime.InferenceSession(model.SerializeToString())
    arrays, _ = made_up(1 + OTHERS, 300)
    (passed, cuts) = session.run(["passed", "cuts"], padded(inputs, arrays))
    expected = Formula(cut).mask(arrays, 300)
    assert 0 < expected.sum() < 300
    assert np.flatnonzero(passed[:, 0]).tolist() == np.flatnonzero(expected).tolist()
    assert graph.cuts == ("cut", "kept")
    assert cuts[:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("Jet_pt > Muon_pt", "Jet_pt and Muon_pt, which are lists of different lengths"),
        ("Alt$(Muon_pt, 0) > 3", r"Alt\$ beside or of a list"),
        ("(PV_npvs & Jet_id[0]) > 3", "`&`, .* of integers need a constant on one side"),
    ],
)
def test_what_cannot_be_compiled_is_said(cut: str, message: str) -> None:
    with pytest.raises(NanoMLError, match=rf"^cut .*: {message}.*Do the same in `select`"):
        traced_cut(cut)
