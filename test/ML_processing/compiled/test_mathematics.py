"""numpy's functions of numbers against numpy, on numbers of all sizes. The sign of zero is not compared."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ML_processing.compiled.graph import KINDS, Graph, Tensor
from ML_processing.compiled.mathematics import UFUNCS

pytestmark = pytest.mark.exhaustive("each line that a selection may have, compiled")

SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 1e-8, -1e-8, 0.3, 0.29, 20.0, -20.1, 88.0, 709.0, -745.0, 1e4, 1e15, -1e15,
]  # fmt: skip
EXTREME = [np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1e-310, 2.2250738585072014e-308, 1.7e308, -1.7e308, 1e200, 1e-200]
NUMBERS = np.array(
    [
        *SPECIAL,
        *EXTREME,
        math.pi,
        -math.pi / 2,
        math.nextafter(1, 0),
        math.nextafter(1, 2),
        *np.random.default_rng(0).normal(0, 3, 30),
        *np.random.default_rng(1).uniform(-1, 1, 30),
        *10.0 ** np.random.default_rng(2).uniform(-20, 20, 30),
    ]
)

# relative differences; of zero where the result is not larger
EXACT, LAST_BITS = 0.0, 4e-16
TOLERANCE = {
    **dict.fromkeys(
        ("exp", "log", "sin", "power", "float_power", "degrees", "radians", "rad2deg", "deg2rad"), LAST_BITS
    ),
    **dict.fromkeys(("hypot", "expm1", "log1p", "log2", "log10", "exp2", "sinh", "cosh", "tanh"), 1e-15),
    "cbrt": 1e-13,
    **dict.fromkeys(("arcsin", "arccos", "arctan", "arctan2", "arcsinh", "arccosh", "arctanh", "cos", "tan"), 2e-15),
}
"""Others agree in each bit."""

LIMITS = {
    # large angles need more digits of pi
    "sin": lambda x: ~(abs(x) > 1e4),
    "cos": lambda x: ~(abs(x) > 10),
    "tan": lambda x: ~(abs(x) > 10) & (abs(np.cos(x)) > 1e-3),
    # between infinities, and numbers that are nearly as large or too small for all digits, it has float32's accuracy
    "arctan2": lambda y, x: (
        ~((abs(x) > 1e308) & (abs(y) > 1e308)) & ~((abs(x) < 1e-300) & (abs(y) < 1e-300) & (x != 0) & (y != 0))
    ),
}
"""Where they are compared, if not everywhere."""

OF_INTEGERS = {"bitwise_and", "bitwise_or", "bitwise_xor", "right_shift", "left_shift", "invert"}


def run(name: str, columns: list[NDArray[np.float64]]) -> NDArray[np.generic]:
    """The graph's result for float64 numbers."""
    graph = Graph()
    inputs = [Tensor(graph, f"x{number}", "d", 1) for number in range(len(columns))]
    made = UFUNCS[name](*inputs)
    given_ = [helper.make_tensor_value_info(each.name, TensorProto.DOUBLE, ["n"]) for each in inputs]
    nodes = [*graph.nodes, helper.make_node("Identity", [made.name], ["y"])]
    results = [helper.make_tensor_value_info("y", KINDS[made.kind], ["n"])]
    body = helper.make_graph(nodes, "ufunc", given_, results, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {each.name: values for each, values in zip(inputs, columns, strict=True)})[0]


def compare(name: str, columns: list[NDArray[np.float64]]) -> None:
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*columns)
    found = run(name, columns)
    assert found.dtype == expected.dtype
    tolerance = TOLERANCE.get(name, EXACT)
    if name in LIMITS:
        with np.errstate(all="ignore"):
            keep = LIMITS[name](*columns)
        found, expected, columns = found[keep], expected[keep], [each[keep] for each in columns]
    scale = np.maximum(abs(expected), 1.0 if name in ("sin", "cos", "tan", "arccos") else 1e-300) if tolerance else 1.0
    with np.errstate(all="ignore"):
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        same |= abs(found - expected) <= tolerance * scale if tolerance else False
    assert same.all(), [(*(each[~same][:3] for each in columns), found[~same][:3], expected[~same][:3])]


@pytest.mark.parametrize("name", sorted(set(UFUNCS) - OF_INTEGERS))
def test_graph_and_numpy_agree(name: str) -> None:
    pairs = [each.ravel() for each in np.meshgrid(NUMBERS, NUMBERS)]
    compare(name, pairs if getattr(np, name).nin == 2 else [NUMBERS])
