"""Inputs outside of the range of the training, and the warnings about them."""

from __future__ import annotations

import numpy as np
import pytest

from MLTools.NanoML.model.entries import InputRange, KnownTensor, Outside, domain_lines, outside_of


def known(name: str, low: float = 0.0, high: float = 10.0, **changes: object) -> InputRange:
    given = {"missing": (), "may_be_missing": False, "quantiles": (), "outside": 0.0002, "limit": 0.01, **changes}
    return InputRange(name, low, high, **given)  # type: ignore[arg-type]


DOMAIN = (
    KnownTensor("features", None, 0, (known("a"), known("b", may_be_missing=True), known("c", missing=(-999.0,)))),
    KnownTensor("Jet", "Jet_mask", 2, (known("Jet_pt", 20, 100), known("Jet_eta", -2.5, 2.5))),
)


def test_numbers_and_objects_outside() -> None:
    nan, inf = np.nan, np.inf
    features = np.array([[0, 0, 0], [10, 10, 10], [10.1, nan, -999], [nan, inf, nan], [-1, -1, -998]], np.float32)
    jets = np.array(
        [[[0, 0], [0, 0]], [[100, 0], [19, 0]], [[50, -3], [0, 0]], [[nan, 0], [50, 0]], [[0, 0], [30, 0]]], np.float32
    )
    mask = np.array([[0, 0], [1, 1], [1, 0], [1, 1], [0, 1]], np.float32)
    found = outside_of(DOMAIN, {"features": features, "Jet": jets, "Jet_mask": mask}).astype(int)
    assert found.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 1], [1, 0, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert outside_of((), {"features": features}).shape == (5, 0)


def test_files_are_added_up() -> None:
    total = Outside()
    for rows in ([[1, 0, 0, 0, 1]], [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]):
        total.add(DOMAIN, np.array(rows, bool))
    assert total == Outside(3, {"a": 2, "Jet_eta": 1})


@pytest.mark.parametrize(("rows", "most"), [(10, 3), (1000, 21), (100_000, 1096)])
def test_as_many_as_statistics_allow(rows: int, most: int) -> None:
    assert not known("a").is_exceeded(most, rows)
    assert known("a").is_exceeded(most + 1, rows)


def test_one_warning_for_each_input() -> None:
    found = {"WZ": Outside(1000, {"a": 2}), "TTbar": Outside(2000, {"a": 100, "Jet_eta": 1})}
    found["data"] = Outside(500, {"a": 60})
    summary, warning = domain_lines("score", "event", DOMAIN, found)
    assert summary == "score: inputs outside of the training's range: a in 4.6 %, Jet_eta in 0.029 % of the events."
    assert warning == (
        "WARNING: score: a is outside of the range 0 to 10, on which the networks were trained, in 12 % of the events of data, 5 % of "
        "the events of TTbar; in the training, in 0.02 %."
    )
    every = next(domain_lines("score", "event", DOMAIN, {"": Outside(10, {"a": 10})}))
    assert every == "score: inputs outside of the training's range: a in 100 % of the events."
    (nothing,) = domain_lines("score", "object", DOMAIN, {"": Outside(10)})
    assert nothing == "score: inputs outside of the training's range: none of the objects."
    assert not [*domain_lines("score", "event", DOMAIN, {"": Outside()})]
