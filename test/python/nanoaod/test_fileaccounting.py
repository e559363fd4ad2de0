"""What records say of weights, in words."""

from __future__ import annotations

import numpy as np

from MLTools.NanoML.nanoaod.fileaccounting import WeightSums, combined


def sums(values: dict[str, float]) -> WeightSums:
    return WeightSums("pdf", "all", False, False, {0: 10.0}, {key: {0: 10 * value} for key, value in values.items()})


def test_many_variations_are_told_by_their_range() -> None:
    assert sums({"nominal": 1.0, "up": 1.25, "down": -0.5}).varied_means(2) == "up 1.25, down -0.50"
    members = {f"member{number}": 1 + number / 100 for number in range(-2, 99)}
    assert sums({"nominal": 1.0, **members}).varied_means(3) == "101 variations from 0.980 to 1.980"
    assert sums({"nominal": 1.0}).varied_means(3) == ""
    assert WeightSums("pdf", "all", False, False, {0: 0.0}, {"nominal": {0: 1.0}, "up": {0: 1.0}}).varied_means(3) == ""


def test_variations_that_are_one_uncertainty() -> None:
    nominal, members = np.array([5.0]), np.array([[1.0], [2.0], [6.0]])
    assert np.concatenate(combined("envelope", nominal, members)).tolist() == [6, 1]
    assert np.concatenate(combined("hessian", nominal, members)).tolist() == [5 + 26**0.5, 5 - 26**0.5]
    assert np.allclose(
        np.concatenate(combined("replicas", nominal, members)), [5 + 7**0.5, 5 - 7**0.5]
    )  # around their mean
    assert np.concatenate(combined("replicas", nominal, members[:1])).tolist() == [5, 5]
