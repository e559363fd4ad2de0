"""Models with their selection inside, and events for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ML_processing.events.inputs import Shape
from ML_processing.export.export import export_networks
from ML_processing.export.releases import target
from ML_processing.export.with_selection import Compilation, Source, export_with_selection
from ML_processing.models import make_network
from MLTools.NanoML.model import Model
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import DatasetInfo
from services.trainings import training_of

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "examples" / "data" / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"
NUMBERS = ("run", "luminosityBlock", "event")


def networks_of(path: Path, *columns: str) -> Path:
    """A model of three networks with random weights."""
    torch.manual_seed(2)
    features = np.random.default_rng(1).normal(50, 30, (64, len(columns))).astype(np.float32)
    shape = Shape(columns, (), 3)
    networks = []
    for _ in range(3):
        networks.append(make_network("mlp", {"hidden": [8]}, shape).eval())
        networks[-1].fit(features, {}, None)
    training = training_of(networks, shape, {"features": features}, [], selection="own:Own")
    export_networks(training, path, "score", target("CMSSW_14_0_X"))
    return path


def whole_model(networks: Path, selection: str, directory: Path) -> Model:
    """A model with a selection of this directory in front of its networks."""
    source = Source(DatasetInfo("signal"), (str(SAMPLE),))
    path = networks.with_name("whole.onnx")
    export_with_selection(networks, path, [source], Compilation(selection, str(directory), 200, {}))
    return Model(path)


def events_in(model: Model, most: int) -> dict[str, Any]:
    """What the model reads, and the numbers of the events."""
    with RootFile(SAMPLE) as file:
        names = [name for name in (*model.reads, *NUMBERS) if name in file.branches]
        return dict(file.read(names, 0, most))
