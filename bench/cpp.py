"""C++: from NanoAOD's columns to a score, against the session's run() alone, for a small network and a transformer.

It needs a compiler, libonnxruntime-dev and nlohmann-json3-dev; headers in test/cpp/cmssw stand in for CMSSW's.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from common import CHECKOUT

from ML_processing.events.inputs import CollectionShape, Shape
from ML_processing.models import Ensemble, make_network

EVENTS = 400
FEATURES = tuple(f"x{i}" for i in range(20))
JETS = CollectionShape("Jet", ("pt", "eta", "phi", "mass", "btag"), 10, "-pt")
CASES = {
    "mlp, 20 features": ("mlp", Shape(FEATURES, (), 3), {"hidden": [64, 64]}),
    "transformer, 20 features, 10 jets": ("transformer", Shape(FEATURES, (JETS,), 3), {}),
}


def write_model(directory: Path, model: str, shape: Shape, options: dict[str, list[int]]) -> Path:
    """An untrained network of one fold."""
    path = directory / f"{model}.onnx"
    network = make_network(model, options, shape)
    tensors = [torch.rand(3, len(shape.features))]
    axes = {"features": {0: "events"}, "probabilities": {0: "events"}, "fold_probabilities": {0: "events"}}
    for it in shape.collections:
        tensors += [torch.rand(3, it.max, len(it.fields)), torch.ones(3, it.max)]
        axes |= {name: {0: "events", 1: "objects"} for name in (it.name, f"{it.name}_mask")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Ensemble([network], shape, "classification").eval(),
            tuple(tensors),
            str(path),
            input_names=shape.tensors,
            output_names=["probabilities", "fold_probabilities"],
            dynamic_axes=axes,
            opset_version=15,
            dynamo=False,
        )
    inputs: list[dict[str, object]] = [{"tensor": "features", "columns": [*shape.features]}]
    inputs += [
        {
            "tensor": it.name,
            "mask": f"{it.name}_mask",
            "collection": it.name,
            "columns": [f"{it.name}_{field}" for field in it.fields],
            "max": it.max,
            "order": it.order,
        }
        for it in shape.collections
    ]
    metadata = {
        "schema": 2,
        "name": model,
        "level": "event",
        "inputs": inputs,
        "outputs": [{"tensor": "probabilities", "classes": ["signal", "WZ", "ZG"], "discriminants": []}],
        "onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(metadata))
    return path


def write_events(directory: Path, model: Path, shape: Shape) -> Path:
    """Events with 0 to 14 jets, sorted as NanoAOD has them."""
    random = np.random.default_rng(1)
    events = []
    for _ in range(EVENTS):
        columns = {name: random.normal(size=1) for name in shape.features}
        for it in shape.collections:
            count = random.integers(0, 15)
            columns |= {f"{it.name}_{field}": random.normal(size=count) for field in it.fields}
            columns[f"{it.name}_pt"] = np.sort(random.exponential(50, count))[::-1]
        typed = {name: {"type": "float32", "values": values.tolist()} for name, values in columns.items()}
        events.append({"columns": typed, "scores": []})
    path = directory / "events.json"
    path.write_text(json.dumps({"model": str(model), "parameters": [], "events": events}))
    return path


def main() -> int:
    """Build, run, print."""
    build = CHECKOUT / "build" / "cpp-bench"
    for name, flags in {"run()": "", "runInto()": "-DNANOML_TEST_RUN_INTO"}.items():
        directory = build / name.strip("()")
        make = ["make", "-j2", "-C", str(CHECKOUT / "test" / "cpp"), f"BUILD={directory}", f"FLAGS={flags}", "bench"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        for case, (model, shape, options) in CASES.items():
            with tempfile.TemporaryDirectory() as temporary:
                path = write_model(Path(temporary), model, shape, options)
                events = write_events(Path(temporary), path, shape)
                done = subprocess.run(
                    [str(directory / "bench"), str(events)], check=True, capture_output=True, text=True
                )
            score, alone = map(float, done.stdout.split())
            sys.stdout.write(
                f"{case}, session by {name}: {score:.2f} us per event, the session alone {alone:.2f} us: {score / alone:.3f}\n"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
