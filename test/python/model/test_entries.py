"""Discriminants from class probabilities, as a model describes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MLTools.NanoML.model import Discriminant
from MLTools.NanoML.model.entries import coefficients

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
