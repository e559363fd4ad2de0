from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Cutflow


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
        (ak.Array([True, None, False]), "missing values"),
        (np.ones(3), "of float64, not one boolean"),
        (np.ones(2, bool), "2 entries, but 3 events are left"),
        ([True, False], "2 entries, but 3 events are left"),
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
