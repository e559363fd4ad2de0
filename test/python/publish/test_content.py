"""Cuts in the language of NumPy, as in a capsule."""

from __future__ import annotations

import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.formula import Formula
from MLTools.NanoML.publish.content import as_python

NUMPY = {"abs": np.abs, "sqrt": lambda x: np.sqrt(np.abs(x)), "min": np.minimum, "pow": np.power}


@pytest.mark.parametrize(
    "text",
    [
        "n == 0 && abs(mass - 91.2) < 15",
        "!(n > 1) || -mass < -90 && n != 2",
        "(mass - 80) / 10 * 2 - 1 - n",
        "sqrt(pow(mass, 2) + n^2) >= min(mass, 91)",
    ],
)  # fmt: skip
def test_an_expression_has_the_values_of_the_cut(text: str) -> None:
    random = np.random.default_rng(1)
    columns = {"n": random.integers(0, 3, 100).astype(np.float64), "mass": random.normal(91, 10, 100)}
    written, others = as_python(text, ["mass"], "net_")
    found = eval(written, {"__builtins__": {}, **NUMPY, **columns})
    np.testing.assert_allclose(np.asarray(found, np.float64), Formula(text).values(columns, 100))
    assert others == ["n"]


def test_an_output_may_have_the_name_of_its_network() -> None:
    assert as_python("net_signal > 0.5 && netto > 1", ["signal"], "net_") == (
        "((signal > 0.5) & (netto > 1.0))",
        ["netto"],
    )


@pytest.mark.parametrize("text", ["Muon_pt[0] > 20", "Sum$(Muon_pt) > 20", "n % 2 == 0", "TMath::Abs(n) > 1"])
def test_what_is_not_known_there_is_refused(text: str) -> None:
    with pytest.raises(NanoMLError, match="is not a number of the event, or a function that is not known there"):
        as_python(text, ["n"], "net_")
