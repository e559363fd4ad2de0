"""The program of a capsule: another signal in a likelihood, limits, and options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.publish import reproduce
from MLTools.NanoML.extensions.publish.content import as_python
from MLTools.NanoML.nanoaod.formula import Formula


def likelihood(observed: list[float]) -> dict[str, Any]:
    normal = {"name": "scale", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    shape = {"name": "scale", "type": "histosys", "data": {"hi_data": [9.0, 1.0], "lo_data": [1.0, 9.0]}}
    strength = {"name": "mu", "type": "normfactor", "data": None}
    samples = [
        {"name": "signal", "data": [5.0, 5.0], "modifiers": [strength, normal, shape]},
        {"name": "other", "data": [1.0, 0.0], "modifiers": [strength]},
        {"name": "WZ", "data": [20.0, 4.0], "modifiers": [normal]},
    ]
    found = {"channels": [{"name": "SR", "samples": samples}], "observations": [{"name": "SR", "data": observed}]}
    measurement = {"name": "nanoml", "config": {"poi": "mu", "parameters": []}}
    return {"version": "1.0.0", **found, "measurements": [measurement]}


def test_another_signal_gets_the_uncertainties_of_the_yield_alone() -> None:
    old = likelihood([20.0, 4.0])
    new = reproduce.with_signal(old, {"SR": np.array([0.5, 3.0])})
    signal, background = new["channels"][0]["samples"]
    assert signal["data"] == [0.5, 3.0]
    assert [it["type"] for it in signal["modifiers"]] == ["normfactor", "normsys"]
    assert background == old["channels"][0]["samples"][2]
    assert old == likelihood([20.0, 4.0])


def test_limits_are_those_of_pyhf() -> None:
    pyhf, observed = pytest.importorskip("pyhf"), [25.0, 9.0]
    workspace = reproduce.with_signal(likelihood(observed), {"SR": np.array([1.0, 6.0])})
    before = pyhf.get_backend()
    pyhf.set_backend("numpy")  # which an outsider has
    try:
        found = reproduce.limits(workspace, True)
        model = pyhf.Workspace(workspace).model()
        data = [*observed, *model.config.auxdata]
        right, bands = pyhf.infer.intervals.upper_limits.upper_limit(data, model)
        expected = reproduce.limits(workspace, False)
    finally:
        pyhf.set_backend(*before)
    assert found == {"observed": pytest.approx(float(right), rel=2e-3), **expected}
    assert [*expected.values()] == pytest.approx([float(it) for it in bands], rel=2e-3)


def test_values_of_each_era() -> None:
    eras = {"2018": {}, "2022": {}}
    assert reproduce._by_era(["a.root", "2022=b=c.root"], eras) == {"2018": ["a.root"], "2022": ["a.root", "b=c.root"]}
    assert reproduce._by_era(["0.5"], {"": {}}, float) == {"": [0.5]}
    with pytest.raises(reproduce.CapsuleError, match="2018=a.root: nothing is given for 2022: add 2022=VALUE"):
        reproduce._by_era(["2018=a.root"], eras)
    with pytest.raises(reproduce.CapsuleError, match="2019=1: is not a number, nor one of an era: 2018, 2022"):
        reproduce._by_era(["2019=1"], eras, float)


def test_a_cut_runs_no_program() -> None:
    names = {"__builtins__": {}, **reproduce._FUNCTIONS, "mass": np.array([90.0, 120.0])}
    assert [*reproduce.evaluated("abs(mass - 91.2) < 15.", names)] == [True, False]
    for text in ("abs.__class__", "().__class__.__base__.__subclasses__()", "mass.tofile('a')", "[abs][0].__self__"):
        with pytest.raises(reproduce.CapsuleError, match="is not a cut or a quantity"):
            reproduce.evaluated(text, names)


NUMPY = {"abs": np.abs, "sqrt": lambda x: np.sqrt(np.abs(x)), "min": np.minimum, "pow": np.power}


@pytest.mark.parametrize(
    "text",
    [
        *("n == 0 && abs(mass - 91.2) < 15", "!(n > 1) || -mass < -90 && n != 2", "(mass - 80) / 10 * 2 - 1 - n"),
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
    found = as_python("net_signal > 0.5 && netto > 1", ["signal"], "net_")
    assert found == ("((signal > 0.5) & (netto > 1.0))", ["netto"])


@pytest.mark.parametrize("text", ["Muon_pt[0] > 20", "Sum$(Muon_pt) > 20", "n % 2 == 0", "TMath::Abs(n) > 1"])
def test_what_is_not_known_there_is_refused(text: str) -> None:
    with pytest.raises(NanoMLError, match="is not a number of the event, or a function that is not known there"):
        as_python(text, ["n"], "net_")
