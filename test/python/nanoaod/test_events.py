from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import weakref
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.flat import vector_package
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Cutflow, Events, Flat, away_from


@pytest.fixture
def events() -> Events:
    muons = {"pt": [[30.0, 20.0], [], [40.0]], "eta": [[0.1, 0.2], [], [0.3]], "phi": [[0.0, 3.0], [], [1.0]]}
    muons["mass"] = [[0.1, 0.1], [], [0.1]]
    arrays = {
        "run": ak.Array(np.array([1, 1, 2], np.uint32)),
        "MET_pt": ak.Array(np.array([10, 20, 30], np.float32)),
        "HLT_IsoMu24": ak.Array(np.array([True, False, True])),
        **{f"Muon_{name}": ak.Array(values) for name, values in muons.items()},
        "Jet_pt": ak.values_astype(ak.Array([[1.0], [2.0, 3.0], []]), np.float32),
        "LHEPdfWeight": ak.Array([[1.0, 1.1], [1.0, 0.9], [1.0, 1.0]]),
    }
    collections = {name: "Muon" for name in arrays if name.startswith("Muon_")}
    return Events(arrays, {**collections, "Jet_pt": "Jet", "LHEPdfWeight": "LHEPdfWeight"}, "Mine")


def test_branches_look_as_in_nanoaod(events: Events) -> None:
    assert len(events) == 3
    assert events.run.tolist() == [1, 1, 2]
    assert events.MET.pt.tolist() == [10, 20, 30]
    assert events.HLT.IsoMu24.tolist() == [True, False, True]
    assert events.Muon.pt.tolist() == [[30, 20], [], [40]]
    assert events.Jet.pt.tolist() == [[1], [2, 3], []]
    assert events.LHEPdfWeight[1].tolist() == [1.0, 0.9]
    assert events["MET_pt"].tolist() == [10, 20, 30]


def test_collections_with_kinematics_are_four_vectors_in_double_precision(events: Events) -> None:
    muons = events.Muon
    assert str(muons.pt.type) == "3 * var * float64"
    pair = muons[:1, 0] + muons[:1, 1]
    expected = np.sqrt(2 * 30 * 20 * (np.cosh(0.1) - np.cos(3.0)))  # for massless particles
    assert pair.mass[0] == pytest.approx(expected, rel=1e-4)
    assert str(events.Jet.pt.type) == "3 * var * float64"
    jets = ak.values_astype(ak.Array([[0.1], [], [0.2, 0.3]]), np.float32)[np.array([2, 0])]
    picked = Events({"Jet_pt": jets}, {"Jet_pt": "Jet"}).Jet.pt  # an array that awkward has indexed
    assert (str(picked.type), picked.tolist()) == ("2 * var * float64", ak.to_list(jets))


def test_a_mask_narrows_everything_and_remembers_the_rows(events: Events) -> None:
    left = events[ak.Array([True, False, True])]
    assert len(left) == 2
    assert left.rows.tolist() == [0, 2]
    assert left.Muon.pt.tolist() == [[30, 20], [40]]
    last = left[np.array([False, True])]
    assert last.rows.tolist() == [2]
    assert last.MET.pt.tolist() == [30]
    assert len(events[np.zeros(3, bool)]) == 0


def test_completion_shows_what_there_is_and_what_was_not_read_is_explained(events: Events) -> None:
    assert {"Muon", "Jet", "MET", "HLT", "run"} <= set(dir(events))
    assert dir(events.HLT) == ["IsoMu24"]
    with pytest.raises(NanoMLError, match=r'Mine: `Muons` was not read.*`branches`.* Did you mean "Muon"'):
        _ = events.Muons
    with pytest.raises(NanoMLError, match="`MET_sumEt` was not read"):
        _ = events.MET.sumEt


def test_events_are_gone_with_the_last_that_uses_them() -> None:
    events = Events({"MET_pt": ak.Array([1.0, 2.0]), "Muon_pt": ak.Array([[1.0], []])}, {"Muon_pt": "Muon"}, "Mine")
    assert events.MET.pt.tolist() == [1, 2]
    picked = events[np.array([True, False])]
    assert (picked.MET.pt.tolist(), picked.Muon.pt.tolist(), len(picked.flat("Muon"))) == ([1], [[1]], 1)
    gone = weakref.ref(events), weakref.ref(picked)
    gc.disable()  # a chunk of many events must not wait for it
    try:
        del events, picked
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


numbers_of_objects = st.lists(st.integers(0, 4), max_size=8)


def made(counts: list[int], seed: int = 1) -> tuple[Events, ak.Array]:
    """Events with muons whose pt repeats, and the same as awkward has them."""
    random = np.random.default_rng(seed)
    total = sum(counts)
    content = {
        "Muon_pt": random.integers(1, 4, total).astype(np.float32),
        "Muon_eta": random.normal(size=total).astype(np.float32),
        "Muon_phi": random.uniform(-3, 3, total).astype(np.float32),
        "Muon_mass": np.full(total, 0.105, np.float32),
        "Muon_charge": random.choice([-1, 1], total).astype(np.int32),
    }
    arrays = {name: ak.unflatten(values, np.array(counts, np.int64)) for name, values in content.items()}
    events = Events({**arrays, "met": ak.Array(np.arange(len(counts)))}, dict.fromkeys(arrays, "Muon"))
    return events, events.Muon


def lists(flat: Flat, name: str) -> list[list[Any]]:
    found: list[list[Any]] = ak.unflatten(getattr(flat, name), flat.counts).tolist()
    return found


@settings(max_examples=12)
@given(numbers_of_objects, st.integers(0, 5))
def test_flat_columns_and_their_pairs_agree_with_awkward(counts: list[int], seed: int) -> None:
    events, muons = made(counts, seed)
    flat = events.flat("Muon")
    assert len(flat) == len(counts)
    assert flat.counts.tolist() == counts
    assert flat.pt.dtype == np.float64
    assert flat.charge.dtype == np.int32
    assert lists(flat, "pt") == muons.pt.tolist()
    assert flat["charge"].tolist() == ak.flatten(muons.charge).tolist()
    assert ak.unflatten(flat.place, flat.counts).tolist() == ak.local_index(muons.pt).tolist()
    assert flat.event.tolist() == [event for event, count in enumerate(counts) for _ in range(count)]

    hard = flat.keep(flat.pt > 1)
    assert lists(hard, "eta") == muons.eta[muons.pt > 1].tolist()
    positive = hard.keep(hard.charge > 0)  # of those that are left
    assert lists(positive, "eta") == muons.eta[(muons.pt > 1) & (muons.charge > 0)].tolist()

    first, second = flat.pairs()
    one, other = ak.unzip(ak.combinations(muons, 2))
    assert lists(first, "eta") == one.eta.tolist()
    assert lists(second, "eta") == other.eta.tolist()
    assert (first.p4 + second.p4).mass.tolist() == pytest.approx(ak.flatten((one + other).mass).tolist(), rel=1e-12)


@settings(max_examples=12)
@given(numbers_of_objects, st.integers(0, 5))
def test_of_equal_ones_the_first_is_chosen(counts: list[int], seed: int) -> None:
    events, muons = made([count + 1 for count in counts], seed)
    flat = events.flat("Muon")
    for chosen, expected in (
        (flat.at(flat.smallest(flat.pt)), ak.argmin(muons.pt, axis=1, keepdims=True)),
        (flat.at(flat.largest(flat.pt)), ak.argmax(muons.pt, axis=1, keepdims=True)),
    ):
        assert chosen.eta.tolist() == muons[expected][:, 0].eta.tolist()
        assert chosen.counts.tolist() == [1] * len(counts)


def test_nan_is_never_the_best_and_an_event_without_objects_has_nothing_to_choose() -> None:
    flat = Flat({"pt": np.array([np.nan, 2.0, 1.0, np.nan])}, np.array([0, 3, 4]))
    assert flat.smallest(flat.pt).tolist() == [2, 3]
    assert flat.largest(flat.pt).tolist() == [1, 3]
    with pytest.raises(NanoMLError, match="cut on their `counts` before"):
        Flat({"pt": flat.pt}, np.array([0, 4, 4])).largest(flat.pt)


@settings(max_examples=12)
@given(numbers_of_objects, numbers_of_objects)
def test_two_collections_are_joined_event_by_event(counts: list[int], others: list[int]) -> None:
    length = min(len(counts), len(others))
    (one, muons), (other, more) = made(counts[:length], 1), made(others[:length], 2)
    harder = one.flat("Muon").with_columns(kind=1, pt=2 * one.flat("Muon").pt)
    joined = Flat.joined(harder, other.flat("Muon").with_columns(kind=2, only="here"))
    assert lists(joined, "pt") == ak.concatenate([2 * muons.pt, more.pt], axis=1).tolist()
    assert lists(joined, "kind") == ak.concatenate([muons.charge**2, 2 * more.charge**2], axis=1).tolist()
    with pytest.raises(AttributeError, match="there is no column only"):
        _ = joined.only


@settings(max_examples=12)
@given(numbers_of_objects, st.data())
def test_cuts_narrow_it(counts: list[int], data: st.DataObject) -> None:
    events, muons = made(counts)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts))), np.bool_)
    cutflow = Cutflow(np.ones(len(counts)))
    left, flat = cutflow.cut("some", mask, events, events.flat("Muon"))
    assert lists(flat, "eta") == muons.eta[mask].tolist()
    assert lists(left.flat("Muon"), "eta") == muons.eta[mask].tolist()
    events_of = np.repeat(np.arange(len(counts)), np.array(counts, np.int64) * mask)
    assert left["met"][flat.event].tolist() == events_of.tolist()


def test_chosen_takes_all_columns_from_one_or_the_other() -> None:
    events, _ = made([1, 1, 1])
    flat = events.flat("Muon")
    mask = np.array([True, False, True])
    chosen = Flat.chosen(mask, flat, flat.with_columns(pt=9.0, charge=7))
    assert chosen.charge.tolist() == np.where(mask, flat.charge, 7).tolist()
    assert chosen.pt.tolist() == np.where(mask, flat.pt, 9).tolist()


def test_other_layouts_of_awkward_give_the_same() -> None:
    plain = ak.Array([[1, 2], [], [3, 4, 5], [6]])
    sliced = ak.concatenate([plain[:1], plain])[1:]
    regular = ak.Array(np.array([[1, 2], [3, 4]]))
    for array in (plain, sliced, plain[np.arange(4)], regular):
        flat = Events({"Jet_id": array}, {"Jet_id": "Jet"}).flat("Jet")
        assert lists(flat, "id") == array.tolist()


def test_an_unknown_collection_is_explained() -> None:
    events, _ = made([1, 2])
    with pytest.raises(NanoMLError, match='`Muons` was not read.*Did you mean "Muon"'):
        events.flat("Muons")
    with pytest.raises(AttributeError, match='no column charg of these objects. Did you mean "charge"'):
        _ = events.flat("Muon").charg
    arrays = {"Muon_pt": ak.Array([[1.0], [2.0]]), "Muon_eta": ak.Array([[1.0, 2.0], []])}
    with pytest.raises(NanoMLError, match="Muon_eta and the rest of Muon have different numbers of objects"):
        Events(arrays, dict.fromkeys(arrays, "Muon")).flat("Muon")


def test_branches_of_a_collection_share_where_their_lists_begin(sample: Path) -> None:
    with RootFile(sample / "ZGToLLG" / "ZGToLLG_0.root") as file:
        arrays = file.read(["Muon_pt", "Muon_eta", "Electron_pt"], 10, 500)
    offsets = {name: array.layout.offsets for name, array in arrays.items()}
    assert offsets["Muon_pt"] is offsets["Muon_eta"]
    assert offsets["Muon_pt"] is not offsets["Electron_pt"]
    assert np.asarray(offsets["Muon_pt"].data)[0] == 0


FRESH = """
import sys
from MLTools.NanoML.nanoaod.flat import vector_package
vector = vector_package()
assert "sympy" not in sys.modules
import sympy
assert sympy.Symbol("x") - sympy.Symbol("x") == 0
assert vector.array({"pt": [3.0], "eta": [0.0], "phi": [0.0], "mass": [4.0]}).energy.tolist() == [5.0]
"""


def test_a_branch_comes_before_what_four_vectors_have() -> None:
    names = [*(f"FatJet_{name}" for name in ("pt", "eta", "phi", "mass", "tau1", "tau2")), "SV_x", "SV_y", "SV_z"]
    names += [f"SV_{name}" for name in ("pt", "eta", "phi", "mass")]
    arrays = {name: ak.Array([[number + 0.1, number + 0.2], [number + 0.3]]) for number, name in enumerate(names)}
    events = Events(arrays, {name: name.split("_")[0] for name in names})
    jets = events.FatJet
    assert (jets.tau2 / jets.tau1)[:, 0].tolist() == pytest.approx([5.1 / 4.1, 5.3 / 4.3])
    assert jets[0, 1].tau2 == ak.cartesian([jets, jets])["1"].tau2[0, 1] == 5.2
    pair = jets[:, 0] + jets[:, 0]  # has no such branch
    assert pair.tau2.tolist() == pytest.approx((pair.mass**2).tolist())
    assert pair.mass.tolist() == pytest.approx([6.2, 6.6])
    assert (events.SV.pt.tolist(), events.SV.x.tolist()) == ([[9.1, 9.2], [9.3]], [[6.1, 6.2], [6.3]])


def test_sympy_is_not_imported_for_it() -> None:
    subprocess.run([sys.executable, "-c", FRESH], check=True)


def test_sympy_stays_what_it_was_also_where_vector_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(name: str) -> None:
        assert sys.modules["sympy"] is None
        raise ImportError(name)

    for name in [each for each in sys.modules if each.split(".")[0] in ("sympy", "vector")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib, "import_module", failing)
    with pytest.raises(ImportError, match="vector"):
        vector_package()
    assert "sympy" not in sys.modules
    imported_before = ModuleType("sympy")
    monkeypatch.setitem(sys.modules, "sympy", imported_before)
    monkeypatch.setattr(importlib, "import_module", lambda _: sys.modules["sympy"])
    assert vector_package() is imported_before


REPLACED_ARRAYS = {
    "Jet_pt": ak.Array([[50.0, 20.0], [], [30.0], [40.0, 10.0, 5.0]]),
    "Jet_eta": ak.Array([[1.0, 2.0], [], [0.0], [-1.0, 0.5, 0.1]]),
    "MET_pt": ak.Array([10.0, 20.0, 30.0, 40.0]),
}


def doubled(seen: list[Any]) -> Events:
    """Events with twice the pt of jets and missing momentum; `seen` gets the numbers of events that were computed."""

    def values(left: Events) -> dict[str, Any]:
        seen.append(len(left))
        return {"Jet_pt": 2 * left.flat("Jet").pt, "MET_pt": 2 * left.MET.pt}

    return Events(REPLACED_ARRAYS, {"Jet_pt": "Jet", "Jet_eta": "Jet"}).replaced(("Jet_pt", "MET_pt"), values)


def test_branches_to_replace_are_a_list_of_those_that_were_read() -> None:
    """A string would be a list of letters, which no branch has, and `once` would not notice a shift."""
    for ask in (lambda it: it.replaced("MET_pt", dict), lambda it: it.once(len, "MET_pt")):
        with pytest.raises(NanoMLError, match=r'events.\w+: takes a list of branches. Write \["MET_pt"\]'):
            ask(doubled([]))
    with pytest.raises(NanoMLError, match=r"`Jet_mass` was not read"):
        doubled([]).replaced(["Jet_mass"], dict)


def test_new_values_are_seen_in_every_way_and_computed_when_they_are_needed() -> None:
    seen: list[int] = []
    events = doubled(seen)
    jets = events.flat("Jet")
    assert jets.keep(jets.eta > 0.2).eta.tolist() == [1, 2, 0.5]
    assert not seen
    assert jets.keep(jets.eta > 0.2).pt.tolist() == [100, 40, 20]
    assert seen == [4]
    assert events.Jet.pt.tolist() == [[100, 40], [], [60], [80, 20, 10]]
    assert events["Jet_pt"].tolist() == events.Jet.pt.tolist()
    assert events.flat("Jet").pt.tolist() == [100, 40, 60, 80, 20, 10]
    assert events.flat("Jet").eta.tolist() == [1, 2, 0, -1, 0.5, 0.1]
    assert events.MET.pt.tolist() == [20, 40, 60, 80]


def test_they_are_computed_once_for_the_events_that_are_left() -> None:
    seen: list[int] = []
    events = doubled(seen)[np.array([True, False, True, True])]
    assert not seen
    assert events.MET.pt.tolist() == [20, 60, 80]
    assert events[np.array([False, True, True])].Jet.pt.tolist() == [[60], [80, 20, 10]]
    assert events[np.array([False, False, True])].flat("Jet").pt.tolist() == [80, 20, 10]
    assert seen == [3]


def test_events_that_were_not_computed_are_computed_when_they_are_asked_for() -> None:
    seen: list[int] = []
    events = doubled(seen)
    assert events[np.array([2])].MET.pt.tolist() == [60]
    assert events.MET.pt.tolist() == [20, 40, 60, 80]
    assert events[np.array([3, 0])].MET.pt.tolist() == [80, 20]
    assert seen == [1, 4]
    more = events.replaced(["MET_pt"], lambda left: {"MET_pt": left.MET.pt + 1})
    assert more.MET.pt.tolist() == [21, 41, 61, 81]
    pt = itemgetter("MET_pt")
    once = (it.under("", np.arange(4)).once(pt, ["MET_pt"]) for it in (events, more))
    assert [it.tolist() for it in once] == [[20, 40, 60, 80], [21, 41, 61, 81]]
    nothing = doubled([])[np.zeros(4, bool)]
    assert (nothing.Jet.pt.tolist(), len(nothing.flat("Jet").pt)) == ([], 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda left: {"MET_pt": left.MET.pt}, "did not return them"),
        (lambda left: {"Jet_pt": np.zeros(5)}, r"the new Jet_pt has shape \(5,\), not one number for each of 6"),
        (lambda left: {"Jet_pt": left.Jet.pt[left.Jet.pt > 25]}, "the new Jet_pt has other numbers of objects"),
    ],
)
def test_other_numbers_of_values_are_an_error(values: Any, message: str) -> None:
    events = Events(REPLACED_ARRAYS, {"Jet_pt": "Jet", "Jet_eta": "Jet"}, "a.py:1").replaced(["Jet_pt"], values)
    with pytest.raises(NanoMLError, match=message):
        _ = events.Jet


RANDOM = np.random.default_rng(7)


def objects(counts: list[int]) -> dict[str, ak.Array]:
    """Directions, of which many are near the edge of the azimuth."""
    number = sum(counts)
    phi = np.where(RANDOM.random(number) < 0.5, RANDOM.uniform(2.9, 3.3, number), RANDOM.uniform(-1, 1, number))
    columns = {"eta": RANDOM.uniform(-0.6, 0.6, number), "phi": np.angle(np.exp(1j * phi))}
    return {name: ak.unflatten(values, counts) for name, values in columns.items()}


def test_jets_near_leptons_are_none() -> None:
    counts = {"Jet": [3, 0, 2, 20, 4], "Muon": [2, 1, 0, 5, 2], "Electron": [0, 2, 0, 3, 1]}
    arrays = {f"{name}_{key}": it for name, each in counts.items() for key, it in objects(each).items()}
    events = Events(arrays, {name: name.split("_")[0] for name in arrays})
    for distance in (0.4, 0.8):
        found = away_from(events.Jet, events.Muon, events.flat("Electron"), distance=distance)
        for row in range(5):
            others = [*zip(*(arrays[f"Muon_{key}"][row] for key in ("eta", "phi")))]
            others += zip(*(arrays[f"Electron_{key}"][row] for key in ("eta", "phi")))
            for place, (eta, phi) in enumerate(zip(arrays["Jet_eta"][row], arrays["Jet_phi"][row])):
                apart = [np.hypot(eta - e, np.angle(np.exp(1j * (phi - p)))) for e, p in others]
                assert found[row, place] == all(it >= distance for it in apart)
        assert 0 < ak.sum(found) < 29


def test_the_rule_is_fixed_for_all_time() -> None:
    # scores of models that exist depend on these numbers
    events = np.arange(8, dtype=np.uint64) * 1_000_003
    of_lists = fold_of([1] * 8, list(range(8)), events.tolist(), 5)
    assert fold_of(np.full(8, 1), np.arange(8), events, 5).tolist() == of_lists.tolist()
    assert fold_of(1, 11001, 2200003, 5).tolist() == [_by_hand(1, 11001, 2200003, 5)]
    assert fold_of(359571, 42, 2**63 + 5, 7).tolist() == [_by_hand(359571, 42, 2**63 + 5, 7)]


def _by_hand(run: int, block: int, event: int, k: int) -> int:
    mask = 2**64 - 1

    def mix(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    return mix((mix((mix(run) + block) & mask) + event) & mask) % k


def test_folds_have_equal_shares_also_of_consecutive_events_and_of_any_type() -> None:
    fold = fold_of(np.ones(100_000, np.uint32), np.arange(100_000) // 100, np.arange(100_000), 5)
    shares = np.bincount(fold, minlength=5) / len(fold)
    assert np.abs(shares - 0.2).max() < 0.005  # 4 standard deviations of a fair draw
    # integer types do not matter
    columns = [np.array([1, 2, 3]), np.array([4, 5, 6]), np.array([7, 8, 9])]
    expected = fold_of(*columns, 5)
    for dtype in (np.uint32, np.int64, np.uint64):
        assert (fold_of(*(column.astype(dtype) for column in columns), 5) == expected).all()
