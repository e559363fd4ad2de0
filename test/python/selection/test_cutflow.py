from __future__ import annotations

from collections.abc import Callable
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.accounting import add_weight_sums
from MLTools.NanoML.nanoaod.fileaccounting import WeightSums, weight_column
from MLTools.NanoML.selection import Cutflow, DatasetInfo, Events, Factor, Flat, Selection, Weight
from MLTools.NanoML.selection.tryout import on_events


def test_cuts_narrow_and_count() -> None:
    cutflow = Cutflow(np.array([1.0, -0.5, 2.0, 1.0]))
    x = np.arange(4)
    y = ak.Array([[1], [], [2, 3], []])
    x, y = cutflow.cut("even", x % 2 == 0, x, y)
    assert x.tolist() == [0, 2]
    assert y.tolist() == [[1], [2, 3]]
    x = cutflow.cut("positive", ak.Array(x > 0), x)
    assert x.tolist() == [2]
    cutflow.cut("none", np.zeros(1, bool))
    cutflow.cut("still none", np.zeros(0, bool))
    steps = [("all", 4, 3.5), ("even", 2, 3.0), ("positive", 1, 2.0), ("none", 0, 0.0), ("still none", 0, 0.0)]
    assert [(step.cut, step.events, step.weights) for step in cutflow.steps] == steps


def test_the_steps_of_some_of_the_events() -> None:
    random = np.random.default_rng(1)
    weights, masks = random.normal(size=1000), random.random((2, 1000)) < 0.7

    def flow(chosen: Any) -> Cutflow:
        cutflow = Cutflow(weights[chosen])
        second = cutflow.cut("first", masks[0][chosen], masks[1][chosen])
        cutflow.cut("second", second)
        second &= False  # changes nothing any more
        return cutflow

    whole, chosen = flow(np.ones(1000, bool)), random.random(1000) < 0.3
    assert whole.steps_of(np.ones(1000, bool)) == whole.steps
    assert whole.steps_of(chosen) == flow(chosen).steps
    assert [step.events for step in whole.steps_of(np.zeros(1000, bool))] == [0, 0, 0]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (ak.Array([[True], [], [False, True]]), "a list for each event"),
        *((ak.Array([True, None, False]), "missing values"), (np.ones(3), "of float64, not one boolean")),
        *((np.ones(2, bool), "2 entries, but 3 events are left"), ([True, False], "2 entries, but 3 events are left")),
    ],
)
def test_a_wrong_mask_is_explained(mask: Any, message: str) -> None:
    with pytest.raises(NanoMLError, match=f'cut "z": .*{message}'):
        Cutflow(np.ones(3)).cut("z", mask)


def test_arrays_that_were_not_narrowed_and_names_that_are_taken() -> None:
    cutflow = Cutflow(np.ones(3))
    cutflow.cut("first", np.array([True, True, False]))
    with pytest.raises(NanoMLError, match="argument 1 after the mask has 3 entries, the mask 2"):
        cutflow.cut("second", np.ones(2, bool), np.arange(3))
    with pytest.raises(NanoMLError, match="there is a cut of this name"):
        cutflow.cut("first", np.ones(2, bool))
    with pytest.raises(NanoMLError, match='cut "all": the line before the first cut, with all events, has this name'):
        cutflow.cut("all", np.ones(2, bool))


def test_efficiencies_are_counted_only_where_they_are_measured() -> None:
    jets, passed = ak.Array([[30.0], []]), ak.Array([[True], []])
    silent = Cutflow(np.ones(2))
    silent.count_efficiency("medium", jets, passed)
    silent.count_efficiency("medium", jets[:1], passed)
    assert not silent.candidates
    cutflow = Cutflow(np.array([1.0, 2.0, -1.0]), counts=True)
    cutflow.cut("some", np.array([True, False, True]))
    cutflow.count_efficiency("medium", jets, passed)
    (found,) = cutflow.candidates
    assert (found.name, found.weights.tolist()) == ("medium", [1.0, -1.0])
    assert found.jets is jets
    with pytest.raises(NanoMLError, match='efficiency "medium": is counted twice'):
        cutflow.count_efficiency("medium", jets, passed)
    with pytest.raises(NanoMLError, match='efficiency "tight": jets of 1 events, but 2 are left'):
        cutflow.count_efficiency("tight", jets[:1], passed[:1])


BTAG = Weight(("hf_up", "hf_down"), keeps_yield=True, bins="number of jets")
DECLARED = {"pileup": Weight(), "btag": BTAG, "plain": Weight(())}


def factor(values: Any, **variations: Any) -> Factor:
    return Factor(np.asarray(values, float), {name: np.asarray(each, float) for name, each in variations.items()})


def test_sums_are_those_of_the_events_that_were_left_there() -> None:
    cutflow = Cutflow(np.array([1.0, -1.0, 2.0, 3.0]), DECLARED)
    cutflow.weigh("pileup", factor([1, 2, 3, 4], up=[2, 2, 2, 2], down=[1, 1, 1, 1]))
    cutflow.cut("first", np.array([True, True, False, True]))
    jets = np.array([2, 2, 3])
    cutflow.weigh("btag", factor([10, 20, 30], hf_up=[1, 1, 1], hf_down=[0, 0, 1]), jets)
    cutflow.cut("second", np.array([False, True, True]))
    cutflow.weigh("plain", np.array([5.0, 7.0]))
    pileup, btag, plain = cutflow.weight_sums()
    assert (pileup.cut, btag.cut, plain.cut) == ("all", "first", "second")
    assert pileup.without == {0: 5.0}
    assert pileup.sums == {"nominal": {0: 1 - 2 + 6 + 12.0}, "up": {0: 10.0}, "down": {0: 5.0}}
    assert btag.without == {2: 1 - 2.0, 3: 12.0}
    assert btag.sums["nominal"] == {2: 10 - 40.0, 3: 360.0}
    assert btag.sums["hf_down"] == {2: 0.0, 3: 12.0}
    assert plain.without == {0: -40 + 360.0}
    assert plain.sums == {"nominal": {0: -40 * 5 + 360 * 7.0}}
    columns = {"pileup": [2, 4], "pileupUp": [2, 2], "pileupDown": [1, 1], "btag": [20, 30], "btag_hfUp": [1, 1]}
    columns |= {"btag_hfDown": [0, 1], "btag_bin": [2, 3], "plain": [5, 7]}
    found = {name: values.tolist() for name, values in cutflow.columns.items()}
    assert found == {f"weight_{name}": values for name, values in columns.items()}
    assert [step.weights for step in cutflow.steps] == [5, 3, 2]  # generator weights, as without weights


def test_a_weight_that_keeps_the_yield_is_normalised_in_each_bin() -> None:
    sums = WeightSums("btag", "all", True, True, {2: -1.0, 3: 12.0, 4: 0.0}, {"nominal": {2: -30.0, 3: 360.0, 4: 0.0}})
    assert sums.ratio("nominal") == {2: -1 / -30, 3: 12 / 360, 4: 1.0}


@settings(max_examples=50)
@given(st.data(), st.integers(1, 30))
def test_parts_add_up_to_the_whole(data: st.DataObject, number: int) -> None:
    """Chunks, and events picked from a chunk as in an event loop, have the sums of the whole, with mixed signs."""
    numbers = st.lists(st.integers(-8, 8), min_size=number, max_size=number)
    generator, nominal, up = (np.array(data.draw(numbers), float) for _ in range(3))
    jets = np.array(data.draw(st.lists(st.integers(0, 3), min_size=number, max_size=number)))
    passed = np.array(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)))
    part = np.array(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)))

    def of(rows: np.ndarray) -> Cutflow:
        cutflow = Cutflow(generator[rows], {"btag": Weight(("hf_up",), True, "jets"), "plain": Weight(())})
        left = cutflow.cut("some", passed[rows], np.flatnonzero(rows))
        cutflow.weigh("btag", factor(nominal[left], hf_up=up[left]), jets[left])
        cutflow.weigh("plain", up[left])
        return cutflow

    everything = np.ones(number, bool)
    whole = of(everything).weight_sums()
    parts = [of(part).weight_sums(), of(~part).weight_sums()]
    assert _without_zeros(add_weight_sums(parts)) == _without_zeros(whole)
    assert _without_zeros(of(everything).weight_sums(part)) == _without_zeros(parts[0])


def _without_zeros(sums: list[WeightSums]) -> list[Any]:
    """A bin without events is as good as none."""
    return [
        (each.weight, each.cut, {k: v for k, v in each.without.items() if v},
         {key: {k: v for k, v in values.items() if v} for key, values in each.sums.items()})
        for each in sums
    ]  # fmt: skip


def test_columns_are_named_as_in_nanoaodtools() -> None:
    names = [weight_column("btag", variation) for variation in ("nominal", "up", "down", "hf_up", "cferr1_down")]
    assert names == ["weight_btag", "weight_btagUp", "weight_btagDown", "weight_btag_hfUp", "weight_btag_cferr1Down"]


def test_products() -> None:
    made = factor(2, up=3) * factor(5, down=7)  # of which each takes the nominal value of what the other lacks
    assert (made.nominal, made["up"], made["down"], made["left"]) == (10, 15, 14, 10)
    muons = Flat({"pt": np.array([1.0, 2.0, 3.0])}, np.array([0, 2, 2, 3]))
    assert factor([2, 3, 5], up=[1, 2, 3]).product(muons)["up"].tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cutflow: cutflow.weigh("pile", np.ones(2)), r'weight "pile": is not declared. Did you mean "pileup"'),
        (lambda cutflow: cutflow.weigh("pileup", np.ones(2)), "has the variations none, but `weights` declares up, down"),
        (lambda cutflow: cutflow.weigh("plain", np.ones(3)), "has shape .3,., but 2 events are left"),
        (lambda cutflow: cutflow.weigh("plain", np.array([1, np.nan])), "is NaN or infinite for 1 of 2 events"),
        (lambda cutflow: cutflow.weigh("plain", ak.Array([[1.0], []])), "has a list for each event. Multiply its objects"),
        (lambda cutflow: cutflow.weigh("plain", np.ones(2), np.ones(2)), "gets bins if, and only if"),
        (lambda cutflow: [cutflow.weigh("plain", np.ones(2)) for _ in range(2)], "is given twice"),
        (lambda cutflow: cutflow.weigh("btag", factor([1, 1], hf_up=[1, 1], hf_down=[1, 1]), np.ones(1)), "1 bins for 2"),
        (lambda cutflow: cutflow.weigh("btag", factor([1, 1], hf_up=[1, 1], hf_down=[1, 1]), [5, 2**40]), "its bins go from 5 to 109"),
    ],
)  # fmt: skip
def test_a_mistake_with_a_weight_is_explained(call: Callable[[Cutflow], Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        call(Cutflow(np.ones(2), DECLARED))


class Weighted(Selection):
    branches = ("MET_pt",)
    optional = {"Pileup_nTrueInt": 0.0}
    weights = {"pileup": Weight()}

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        number = events.Pileup.nTrueInt
        cutflow.weigh("pileup", lambda: factor(number, up=number, down=number))
        events = cutflow.cut("MET", np.asarray(events.MET.pt) > 10, events)
        return events, {}


def test_simulation_gets_the_columns_of_its_weights_and_data_have_1() -> None:
    events = {"MET_pt": [5.0, 20.0], "Pileup_nTrueInt": [2.0, 3.0]}
    assert on_events(Weighted(), events).columns["weight_pileup"].tolist() == [3]
    assert list(Weighted().made.always) == ["weight_pileup", "weight_pileupUp", "weight_pileupDown"]
    found = on_events(Weighted().of_dataset(DatasetInfo(is_data=True)), events)
    assert [values.tolist() for values in found.columns.values()] == [[1], [1], [1]]
    assert found.cutflow.weight_sums()[0].ratio("up") == {0: 1}


def test_a_weight_that_was_forgotten_is_an_error() -> None:
    class Forgotten(Weighted):
        def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
            return events, {}

    with pytest.raises(NanoMLError, match="select gave no weight pileup"):
        on_events(Forgotten(), {"MET_pt": [5.0]})


def test_how_variations_are_combined_is_one_of_few_words() -> None:
    declared = {"scale": Weight(("mur_up", "mur_down"), combine="envelope")}
    cutflow = Cutflow(np.ones(2), declared)
    cutflow.weigh("scale", factor([1, 1], mur_up=[1, 2], mur_down=[1, 1]))
    assert [each.combine for each in add_weight_sums([cutflow.weight_sums()] * 2)] == ["envelope"]
    with pytest.raises(NanoMLError, match='combine="sum": it is one of envelope, hessian, replicas, or left out'):
        Weight(combine="sum")
