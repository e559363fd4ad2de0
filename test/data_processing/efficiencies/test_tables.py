from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_processing.efficiencies import measure as tables
from data_processing.efficiencies.counting import Bins, Counts
from MLTools.NanoML.corrections import CorrectionFile

BINS = Bins((0.0, 1.5, 2.5), (20.0, 50.0, 100.0, 200.0, 500.0))
Weights = NDArray[np.float64]


def counts(jets: Any, efficiency: Any, weight: float = 1.0) -> Counts:
    """As many jets in each bin, of which a share passes."""
    all_ = np.broadcast_to(jets, BINS.shape) * weight
    squares, passed = all_ * weight, all_ * efficiency
    return Counts(
        "medium",
        5,
        int(np.sum(np.broadcast_to(jets, BINS.shape))),
        *(each.tolist() for each in (all_, squares, passed)),
    )


def values(found: tables.Efficiency) -> list[tuple[list[float], list[float]]]:
    return [(each["edges"], each["content"]) for each in found.node["content"]]


def test_bins_of_pt_are_joined_with_those_below() -> None:
    jets = np.array([[500, 300, 60, 50], [30, 300, 120, 10]])
    passed = np.array([[250, 150, 24, 20], [15, 150, 48, 4]])
    found = tables.efficiency(5, counts(jets, passed / jets), None, BINS, 100)
    (first, one), (second, other) = values(found)
    assert first == [20, 50, 100, 500]
    assert np.allclose(one, [0.5, 0.5, 44 / 110])
    assert second == [20, 100, 500]
    assert np.allclose(other, [165 / 330, 52 / 130])


def test_a_dataset_without_enough_jets_takes_those_of_all_datasets() -> None:
    found = tables.efficiency(5, counts(3, 0.9), counts(500, 0.6), BINS, 100)
    assert np.allclose([content for _, content in values(found)], 0.6)
    assert found.note == "so those of all datasets"
    assert found.jets == 24
    few = tables.efficiency(5, counts(3, 0.9), counts(4, 0.8), BINS, 100)
    assert few.note == "so those of all datasets, which are too few"
    assert np.isclose(few.mean, 0.8)
    none = tables.efficiency(5, None, None, BINS, 100)
    assert (none.mean, none.jets) == (0.5, 0)


def test_weights_of_both_signs_are_worth_fewer_jets() -> None:
    """A bin with 300 jets of weight 1 and 100 of weight -1 is worth 100."""
    one, other = counts(300, 0.5), counts(100, 0.5, -1.0)
    tables_ = [(np.array(a) + np.array(b)).tolist() for a, b in zip(
        (one.all_, one.squares, one.passed), (other.all_, other.squares, other.passed))]  # fmt: skip
    both = Counts("medium", 5, 3200, *tables_)
    assert len(values(tables.efficiency(5, both, None, BINS, 99))[0][1]) == 4
    assert len(values(tables.efficiency(5, both, None, BINS, 101))[0][1]) == 2


sums = st.floats(-50, 500, allow_nan=False)


@given(st.lists(st.tuples(sums, sums, st.floats(1, 1e4)), min_size=8, max_size=8), st.floats(1, 200))
def test_every_value_is_that_of_its_bins_and_between_0_and_1(
    bins: list[tuple[float, float, float]], least: float
) -> None:
    """Whatever the weights are; so the jets that pass by the efficiency are as many as do pass, in every row that has its own."""
    all_, passed, squares = (np.array([each[place] for each in bins]).reshape(2, 4) for place in range(3))
    own = Counts("medium", 5, 8, all_.tolist(), squares.tolist(), passed.tolist())
    found = tables.efficiency(5, own, own, BINS, least)
    for row, (edges, content) in enumerate(values(found)):
        assert (edges[0], edges[-1]) == (20, 500)
        places = [BINS.pt.index(edge) for edge in edges]
        assert places == sorted(set(places))
        alone = all_[row].sum() > 0 and all_[row].sum() ** 2 / squares[row].sum() >= least
        alone &= 0 < passed[row].sum() < all_[row].sum()
        mine = [each[row] if alone else each.sum(axis=0) for each in (all_, squares, passed)]
        for value, start, stop in zip(content, places, places[1:]):
            jets, square, of_them = (each[start:stop].sum() for each in mine)
            worth = jets**2 / square if jets > 0 else 0.0
            margin = 0.5 / (worth + 1)
            expected = np.clip(of_them / jets, margin, 1 - margin) if worth else 0.5
            assert 0 < value < 1
            assert np.isclose(value, expected)


def test_the_file_is_one_of_correctionlib(tmp_path: Path) -> None:
    shares = np.array([[0.5, 0.6, 0.7, 0.8], [0.4, 0.5, 0.6, 0.7]])
    heavy, light = (
        tables.efficiency(flavour, counts(500, share), None, BINS, 100) for flavour, share in ((5, shares), (0, 0.1))
    )
    other = tables.correction("medium", {"WZ": [heavy, light], "ZZ": [light, heavy]})
    tables.write(tmp_path / "new" / "efficiencies.json", tables.text_of([other], "of a test"))
    medium = CorrectionFile(tmp_path / "new" / "efficiencies.json")["medium"]
    assert list(medium.axes["dataset"].choices) == ["WZ", "ZZ"]
    assert medium("WZ", 5, 2.0, 150.0) == 0.6
    assert medium("ZZ", 0, 2.0, 150.0) == 0.1
    # what is beyond the bins is in the first or last one
    assert medium("WZ", 5, 2.6, 10.0) == 0.4
    assert medium("WZ", 5, 0.1, 1e5) == 0.8


def test_values_stand_in_until_they_are_measured(tmp_path: Path) -> None:
    tables.write(tmp_path / "a.json", tables.text_of(tables.assumed(["medium", "tight"], ["WZ"]), "none"))
    assert CorrectionFile(tmp_path / "a.json")["tight"]("WZ", 4, 0.5, 50.0) == 0.5
