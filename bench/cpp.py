"""C++: from NanoAOD's columns to a score, against the session's run() alone.

The models are a small network, a transformer, and those of the worked example: its network alone, and behind its selection in
one model, which also runs over many events at once. `cpp.py MODEL.onnx FILE...` takes any such model, and events of files. It needs
a compiler, libonnxruntime-dev and nlohmann-json3-dev; headers in test/cpp/cmssw stand in for CMSSW's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from common import CHECKOUT, SAMPLES, SELECTION

from ML_processing.events.inputs import CollectionShape, Shape
from ML_processing.export.export import export_networks
from ML_processing.export.releases import target
from ML_processing.models.network import Ensemble, make_network
from MLTools.NanoML.extensions.compiled.with_selection import Compilation, Source, export_with_selection
from MLTools.NanoML.model import Model
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import DatasetInfo
from MLTools.NanoML.trilepton import Trilepton

sys.path.insert(0, str(CHECKOUT / "test"))

from services.cplusplus import columns_of, write_events
from services.trainings import training_of

EVENTS = 400
BATCH = 500  # events at once
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
        "outputs": [
            {"tensor": "probabilities", "classes": ["signal", "WZ", "ZG"], "discriminants": []},
            {"tensor": "fold_probabilities"},
        ],
        "folds": {"k": 1},
        "onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(metadata))
    return path


def invented_events(directory: Path, model: Path, shape: Shape) -> Path:
    """Events with 0 to 14 jets, sorted as NanoAOD has them."""
    random = np.random.default_rng(1)
    events = []
    for _ in range(EVENTS):
        columns = {name: random.normal(size=1) for name in shape.features}
        for it in shape.collections:
            count = random.integers(0, 15)
            columns |= {f"{it.name}_{field}": random.normal(size=count) for field in it.fields}
            columns[f"{it.name}_pt"] = np.sort(random.exponential(50, count))[::-1]
        events.append({name: ("float32", values) for name, values in columns.items()})
    return write_events(directory / "events.txt", model, events, [np.zeros(0, np.float32)] * EVENTS)


def worked_example(directory: Path) -> dict[str, Path]:
    """Five untrained networks of the selection's columns, and the same behind the selection: events for each."""
    shape = Shape((*Trilepton.columns, "MET_pt"), (), 3)
    features = np.random.default_rng(1).exponential(50, (64, len(shape.features))).astype(np.float32)
    networks = [make_network("mlp", {"hidden": [64, 64]}, shape).eval() for _ in range(5)]
    for network in networks:
        network.fit(features, {}, None)
    training = training_of(networks, shape, {"features": features}, [*Trilepton.columns], selection=SELECTION)
    plain = directory / "plain.onnx"
    export_networks(training, plain, "plain", target("CMSSW_14_0_X"))
    source = Source(DatasetInfo("all"), tuple(map(str, SAMPLES)))
    export_with_selection(plain, directory / "whole.onnx", [source], Compilation(SELECTION, ".", 11_000, {}))
    return {
        "network of the worked example": invented_events(directory, plain, shape),
        "selection and network of the worked example": events_of(directory / "whole.onnx", SAMPLES[0], directory),
    }


def events_of(model: Path, sample: Path, directory: Path) -> Path:
    """The first events of a file, for a model with its selection inside."""
    reads, numbers = Model(model).reads, ("run", "luminosityBlock", "event")
    with RootFile(str(sample)) as file:
        names = [name for name in reads if name in file.branches]
        arrays = file.read([*names, *numbers], 0, EVENTS)
    columns = [columns_of(arrays, names, event) for event in range(EVENTS)]
    scores = [np.zeros(0, np.float32)] * EVENTS
    own = [tuple(int(arrays[name][event]) for name in numbers) for event in range(EVENTS)]
    return write_events(directory / f"{sample.stem}.txt", model, columns, scores, numbers=own)


def measure(program: Path, case: str, events: Path) -> None:
    """Run, and print a line."""
    done = subprocess.run([str(program), str(events), str(BATCH)], check=True, capture_output=True, text=True)
    score, alone, *batch = map(float, done.stdout.split())
    line = f"{case}: {score:.2f} us per event, the session alone {alone:.2f} us: {score / alone:.3f}"
    if batch:
        line += f"; {BATCH} events at once: {1e3 / batch[0]:.0f} kHz"
    sys.stdout.write(line + "\n")


def main() -> int:
    """Build, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("given", nargs="*", type=Path, help="a model with its selection inside, and files of events")
    whole, *files = parser.parse_args().given or [None]
    build = CHECKOUT / "build" / "cpp-bench"
    make = ["make", "-j2", "-C", str(CHECKOUT / "test" / "cpp"), f"BUILD={build}", "bench"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as temporary:
        if whole is not None:
            for file in files:
                measure(build / "bench", file.stem, events_of(whole, file, Path(temporary)))
            return 0
        for case, (model, shape, options) in CASES.items():
            path = write_model(Path(temporary), model, shape, options)
            measure(build / "bench", case, invented_events(Path(temporary), path, shape))
        for case, events in worked_example(Path(temporary)).items():
            measure(build / "bench", case, events)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
