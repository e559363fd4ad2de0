"""All lines that can be compiled, in the versions of ONNX Runtime that CMSSW has and that have wheels.

That is done when the environment names the versions: NANOML_TEST_RUNTIMES=1.17.1,1.20.1.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ML_processing.compiled.proof import model_with_outputs, tensors_of
from MLTools.NanoML.model.trials import SubprocessRuntime, Trial
from MLTools.NanoML.selection import Events
from services.compilation import feed_of, selection_of, traced
from services.supported import LINES, UFUNC_LINES, VECTORS, function_of

VERSIONS = [version for version in os.environ.get("NANOML_TEST_RUNTIMES", "").split(",") if version]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VERSIONS, reason="name versions of ONNX Runtime by NANOML_TEST_RUNTIMES"),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_old_and_new_versions_agree(version: str, tmp_path: Path) -> None:
    def lines(events: Events) -> None:
        for line in (*LINES, *UFUNC_LINES, *VECTORS):
            function_of(line)(events)

    graph, path = traced(selection_of(lines)), tmp_path / "lines.onnx"
    feed = {name: np.resize(values, (300, *values.shape[1:])) for name, values in feed_of(graph, 2).items()}
    outputs = {name: it for name, it in tensors_of(graph.trace.steps).items() if it.value is None and name not in feed}
    model = model_with_outputs(graph.graph, outputs, {name: values.ndim for name, values in feed.items()})
    path.write_bytes(model.SerializeToString())
    expected = onnxruntime.InferenceSession(str(path)).run(None, feed)
    with SubprocessRuntime.of(version) as there:
        found = there.run(str(path), [Trial("events", feed)])["events", 300]
    assert isinstance(found, list), found
    order = sorted(range(len(expected)), key=str)  # as the outputs are read
    for number, values in zip(order, found, strict=True):
        np.testing.assert_allclose(values, expected[number], rtol=1e-12, atol=1e-12)
