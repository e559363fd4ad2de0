"""Every network in every format that is written, and all lines that can be compiled, in the versions of ONNX Runtime that CMSSW has.

That takes minutes, and is done when the environment names versions that have wheels: NANOML_TEST_RUNTIMES=1.17.1,1.20.1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import chain
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ML_processing.events.inputs import Inputs, Shape
from ML_processing.export.export import TrainedNetworks, export_networks, networks_of, sample_of
from ML_processing.export.releases import OPSET, target
from ML_processing.models.network import Network
from ML_processing.training.directory import Training
from MLTools.NanoML.extensions.compiled.tracing.proof import model_with_outputs
from MLTools.NanoML.extensions.compiled.tracing.proof import tensors_of as tensors_of_steps
from MLTools.NanoML.model import Description, Discriminant
from MLTools.NanoML.model.trials import SubprocessRuntime, Trial, trials
from MLTools.NanoML.model.verification import check_trials
from services.compilation import feed_of, selection_of, traced
from services.supported import LINES, UFUNC_LINES, results_of
from services.trainings import tensors_of, training_of

VERSIONS = [version for version in os.environ.get("NANOML_TEST_RUNTIMES", "").split(",") if version]

pytestmark = [
    pytest.mark.exhaustive("each network and format in each version of ONNX Runtime"),
    pytest.mark.skipif(not VERSIONS, reason="name versions of ONNX Runtime by NANOML_TEST_RUNTIMES"),
]


@pytest.fixture(scope="module", params=VERSIONS)
def there(request: pytest.FixtureRequest) -> Iterator[SubprocessRuntime]:
    with SubprocessRuntime.of(request.param) as made:
        yield made


def formats(version: str) -> list[str]:
    """A release for each format that is written for one in the table, and that a version of ONNX Runtime reads."""
    lines = json.loads((files("ML_processing.export") / "releases.json").read_text())["releases"]
    found = {}
    for line in lines:
        release = f"CMSSW_{line['first']}_X"
        limits = target(release)
        if not limits.dynamo or target(onnxruntime=version).dynamo:
            found[min(limits.opset, OPSET), limits.ir if limits.opset < OPSET else None, limits.dynamo] = release
    return list(found.values())


@pytest.fixture
def training(model: str, shape: Shape, draw: Callable[..., Inputs], build: Callable[..., Network]) -> Training:
    events = dict(zip(shape.tensors, (it.numpy() for it in tensors_of(draw(shape, 64))), strict=True))
    against = (Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.01}),)
    networks = [build(model, shape), build(model, shape)]
    return training_of(networks, shape, events, classes=["signal", "WZ"], discriminants=against)


def test_every_network_in_every_format(training: Training, there: SubprocessRuntime, tmp_path: Path) -> None:
    path, networks = tmp_path / "model.onnx", TrainedNetworks(networks_of(training), sample_of(training))
    assert len(formats(there.version)) == 4 + target(onnxruntime=there.version).dynamo
    for release in formats(there.version):
        content = export_networks(training, path, "model", target(release))
        description = Description.of_text(json.dumps(content), str(path))
        tried = trials(description, networks.sample(description))
        # tensors without events are none of the trials, since nobody gives them, but they should do no harm
        nothing = Trial("no events", {name: values[:0] for name, values in tried[0].feeds.items()})
        outcomes = there.run(str(path), [*tried, nothing])
        networks.compare(tried, outcomes, description)
        check_trials(tried, outcomes, description)
        assert [found.shape for found in outcomes[nothing.name, 1]] == [(0, 3), (0, 2, 3)]


@pytest.mark.parametrize("version", VERSIONS)
def test_lines_of_selections(version: str, tmp_path: Path) -> None:
    lines = results_of(chain(*LINES.values(), UFUNC_LINES))
    graph, path = traced(selection_of(lines)), tmp_path / "lines.onnx"
    feed = {name: np.resize(values, (300, *values.shape[1:])) for name, values in feed_of(graph, 2).items()}
    made = tensors_of_steps(graph.trace.steps)
    outputs = {name: it for name, it in made.items() if it.value is None and name not in feed}
    model = model_with_outputs(graph.graph, outputs, {name: values.ndim for name, values in feed.items()})
    path.write_bytes(model.SerializeToString())
    expected = onnxruntime.InferenceSession(str(path)).run(None, feed)
    with SubprocessRuntime.of(version) as there:
        found = there.run(str(path), [Trial("events", feed)])["events", 300]
    assert isinstance(found, list), found
    order = sorted(range(len(expected)), key=str)  # as the outputs are read
    for number, values in zip(order, found, strict=True):
        np.testing.assert_allclose(values, expected[number], rtol=1e-12, atol=1e-12)
