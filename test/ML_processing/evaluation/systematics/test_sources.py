"""Which variations are one source, and what it does to a quantity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ML_processing.evaluation.systematics.sources import NOMINAL, Source, sources_of
from MLTools.NanoML.contracts.hdf5 import ConvertedWeight

NUMBERS = st.lists(st.floats(-10, 10), min_size=2, max_size=8)


def test_up_and_down_are_a_pair() -> None:
    btag = ConvertedWeight("btag", {"hf_up": "a", "lf_up": "b", "lf_down": "c", "hf_down": "d", "odd": "e"})
    pileup, plain = ConvertedWeight("pileup", {"down": "f", "up": "g"}), ConvertedWeight("plain")
    scale = ConvertedWeight("scale", {"mur_up": "h", "mur_down": "i"}, False, "envelope")
    assert sources_of([btag, pileup, plain, scale]) == [
        Source("btag_hf", "btag", ("a", "d")),
        Source("btag_lf", "btag", ("b", "c")),
        Source("btag_odd", "btag", ("e",)),
        Source("pileup", "pileup", ("g", "f")),
        Source("scale", "scale", ("h", "i"), "envelope"),
    ]


@given(NUMBERS)
def test_members_are_combined_value_by_value(values: list[float]) -> None:
    nominal, *members = values
    names = [f"member{i}" for i in range(len(members))]

    def ends(combine: str) -> list[list[float]]:
        quantity = np.array([[value, 2 * value] for value in values])
        found = Source("x", "x", tuple(names), combine).ends(quantity, [NOMINAL, *names])
        return [each.tolist() for each in found if each is not None]

    def around(spread: float) -> list[object]:
        found = ([nominal + shift, 2 * (nominal + shift)] for shift in (spread, -spread))
        return [pytest.approx(each, abs=1e-9) for each in found]

    assert ends("envelope") == [[max(values), 2 * max(values)], [min(values), 2 * min(values)]]
    assert ends("hessian") == around(sum((member - nominal) ** 2 for member in members) ** 0.5)
    assert ends("replicas") == around(float(np.std(members, ddof=1)) if len(members) > 1 else 0.0)


def test_the_combination_is_that_of_bins_and_not_of_events() -> None:
    """Two members that move events of one bin to opposite sides leave its sum."""
    events = np.array([[1.0, 1.0], [1.2, 0.8], [0.8, 1.2]])
    up, down = Source("pdf", "pdf", ("a", "b"), "hessian").ends(events.sum(axis=1), [NOMINAL, "a", "b"])
    assert down is not None
    assert (float(up), float(down)) == pytest.approx((2.0, 2.0))
