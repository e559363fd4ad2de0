"""What records say of weights, in words."""

from __future__ import annotations

from MLTools.NanoML.contracts.accounting import WeightSums


def sums(values: dict[str, float]) -> WeightSums:
    return WeightSums("pdf", "all", False, False, {0: 10.0}, {key: {0: 10 * value} for key, value in values.items()})


def test_many_variations_are_told_by_their_range() -> None:
    assert sums({"nominal": 1.0, "up": 1.25, "down": -0.5}).varied_means(2) == "up 1.25, down -0.50"
    members = {f"member{number}": 1 + number / 100 for number in range(-2, 99)}
    assert sums({"nominal": 1.0, **members}).varied_means(3) == "101 variations from 0.980 to 1.980"
    assert sums({"nominal": 1.0}).varied_means(3) == ""
    assert WeightSums("pdf", "all", False, False, {0: 0.0}, {"nominal": {0: 1.0}, "up": {0: 1.0}}).varied_means(3) == ""
