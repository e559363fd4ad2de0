from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from MLTools.NanoML.corrections.random_numbers import ELECTRON, normal_numbers


def test_random_numbers_are_normal_and_independent() -> None:
    events, places = np.repeat(np.arange(50_000), 4), np.tile(np.arange(4), 50_000)
    numbers = normal_numbers(np.ones(200_000), np.ones(200_000), events, places)
    assert abs(numbers.mean()) < 5 / 200_000**0.5
    assert abs(numbers.std() - 1) < 0.01
    assert abs((abs(numbers) > 2).mean() - 0.0455) < 0.003
    table = numbers.reshape(-1, 4)
    for other in (1, 2, 3):
        assert abs(np.corrcoef(table[:, 0], table[:, other])[0, 1]) < 0.03
    assert abs(np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]) < 0.03


@given(st.integers(1, 2**31), st.integers(1, 2**31), st.integers(0, 2**63), st.integers(0, 100))
def test_a_random_number_depends_on_nothing_else(run: int, section: int, event: int, index: int) -> None:
    def number(kind: type) -> float:
        columns = [np.array([value], kind) for value in (run, section, event, index)]
        return float(normal_numbers(*columns)[0])

    alone = number(np.uint64)
    assert np.isfinite(alone)
    many = [np.full(7, value, np.uint64) for value in (run, section, event, index)]
    assert (normal_numbers(*many) == alone).all()
    assert normal_numbers(many[0], many[1], many[2], many[3] + np.uint64(1))[0] != alone


def test_the_random_numbers_stay_what_they_are() -> None:
    found = normal_numbers(np.array([1, 315267]), np.array([1, 205]), np.array([1, 123456789]), np.array([0, 3]))
    assert np.allclose(found, [0.7955296902259495, 0.7491486129535961], rtol=1e-12, atol=0)


def test_an_electron_has_another_number_than_the_jet_in_its_place() -> None:
    columns = np.ones(100_000), np.ones(100_000), np.arange(100_000), np.zeros(100_000)
    jets, electrons = normal_numbers(*columns), normal_numbers(*columns, ELECTRON)
    assert abs(np.corrcoef(jets, electrons)[0, 1]) < 0.02
