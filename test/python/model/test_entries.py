"""Discriminants from class probabilities, as a model describes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MLTools.NanoML.model import Discriminant
from MLTools.NanoML.model.entries import InputRange, KnownTensor, Outside, coefficients, domain_lines, outside_of

CLASSES = ["signal", "WZ", "ZG"]
shares = st.floats(1e-3, 1e3)


def test_two_classes_of_equal_shares() -> None:
    found = np.array([[0.3, 0.7], [1, 0], [0, 1]], np.float32)
    alone = Discriminant("d", "a", {"a": 1.0, "b": 1.0})
    assert alone.of(found, ["a", "b"]).tolist() == found[:, 0].tolist()


@given(shares, shares, shares, st.lists(st.tuples(*[st.floats(0, 1)] * 3).filter(any), min_size=1))
def test_bayes(s: float, w: float, z: float, scores: list[tuple[float, ...]]) -> None:
    """With weights f of the classes, the share of the signal in each small region is its share of f times the densities."""
    p = np.array(scores, np.float32)
    found = Discriminant("d", "signal", {"ZG": z, "signal": s, "WZ": w}).of(p, CLASSES)
    exact = p.astype(np.float64)
    expected = s * exact[:, 0] / np.maximum(exact @ [s, w, z], 1e-30)
    assert ((found >= 0) & (found <= 1)).all()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(shares, st.lists(st.floats(0, 1, width=32), min_size=2))
def test_the_share_of_the_signal_changes_no_order(share: float, scores: list[float]) -> None:
    p = np.array([[value, (1 - value) / 3, 2 * (1 - value) / 3] for value in sorted(scores)], np.float32)
    found = Discriminant("d", "signal", {"signal": share, "WZ": 1, "ZG": 4}).of(p, CLASSES)
    assert (np.diff(found) >= -1e-6).all()


def test_several_at_once_and_classes_without_a_share() -> None:
    p = np.array([[0.2, 0.2, 0.6], [0, 0, 1]], np.float32)
    assert Discriminant("d", "signal", {"signal": 1, "WZ": 1}).of(p, CLASSES).tolist() == [0.5, 0]
    two = [Discriminant("a", "WZ", {"WZ": 2, "ZG": 1}), Discriminant("b", "ZG", {"ZG": 1, "signal": 3, "WZ": 4})]
    above, below = coefficients(two, CLASSES)
    assert above.tolist() == [[0, 0], [2, 0], [0, 1]]
    assert below.tolist() == [[0, 3], [2, 4], [1, 1]]


def test_its_formula_in_words() -> None:
    found = Discriminant("d", "WZ", {"ZG": 0.25, "WZ": 1, "signal": 1e-7})
    assert found.formula(CLASSES) == "WZ against signal 1e-07, ZG 0.25"
    assert Discriminant("d", "ZG", {"ZG": 0.5, "WZ": 2}).formula(CLASSES) == "ZG 0.5 against WZ 2"


@pytest.mark.parametrize(
    "given", [{"b": 1}, {"a": 1}, {"a": 1, "b": 0}, {"a": 1, "b": float("nan")}, {"a": "x", "b": 1}]
)
def test_what_is_none(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"discriminant d: shares|could not convert"):
        Discriminant.of_json({"name": "d", "signal": "a", "shares": given})
    Discriminant.of_json({"name": "d", "signal": "a", "shares": {"a": 1, "b": 2}})


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
