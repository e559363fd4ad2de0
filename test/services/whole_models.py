"""Models with their selection inside, and events for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ML_processing.events.inputs import Shape
from ML_processing.export.export import export_networks
from ML_processing.export.releases import target
from ML_processing.models.network import make_network
from MLTools.NanoML.extensions.compiled.with_selection import Compilation, Source, export_with_selection
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.entries import InputRange, KnownTensor
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import DatasetInfo
from services.trainings import training_of

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "examples" / "nano" / "WprimeToWZToLNuLL_M600" / "WprimeToWZToLNuLL_M600_0.root"
NUMBERS = ("run", "luminosityBlock", "event")
TRILEPTON = "MLTools.NanoML.trilepton:Trilepton"

OWN = '''
import awkward as ak
from MLTools.NanoML.selection import Column, Selection, Weight


class Own(Selection):
    """Two leptons, and good muons as a collection."""

    branches = ("Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge", "Electron_pt", "MET_pt", "Muon_highPtId")
    optional = {"HLT_Some": True}
    columns = {"HT": Column("f4", "sum of pt [GeV]"), "n": Column("i4", "muons")}
    collections = {"Good": {"pt": Column("f4", "pt [GeV]"), "eta": Column("f4", "eta"), "charge": Column("b", "charge")}}
    weights = {"some": Weight(())}

    def select(self, events, cutflow):
        cutflow.weigh("some", lambda: events.MET.pt)
        events = cutflow.cut("trigger", events.HLT.Some, events)
        good = events.Muon[(events.Muon.pt > 15) & (abs(events.Muon.eta) < 2)]
        enough = ak.num(good) + ak.num(events.Electron) >= 2
        events, good = cutflow.cut("two", enough, events, good)
        BODY
        return events, {"HT": ak.sum(good.pt, axis=1), "n": ak.num(good), "Good": good}
'''


def model_of(path: Path, shape: Shape, cmssw: str = "CMSSW_14_0_X", **changes: Any) -> Path:
    """A model of three networks with random weights."""
    torch.manual_seed(2)
    random = np.random.default_rng(1)
    sample = {"features": random.normal(50, 30, (64, len(shape.features))).astype("f4")}
    for it in shape.collections:
        sample[it.name] = random.exponential(30, (64, it.max, len(it.fields))).astype("f4")
        sample[f"{it.name}_mask"] = np.ones((64, it.max), "f4")
    sample = {name: sample[name] for name in shape.tensors}
    networks = []
    for _ in range(3):
        network = make_network("deepsets" if shape.collections else "mlp", {"hidden": [8]}, shape).eval()
        objects = {it.name: (sample[it.name], sample[f"{it.name}_mask"] > 0) for it in shape.collections}
        network.fit(sample.get("features", np.zeros((64, 0), "f4")), objects, None)
        networks.append(network)
    known = [("features", None, 0, shape.features)] if shape.features else []
    known += [(it.name, f"{it.name}_mask", it.max, it.columns) for it in shape.collections]
    domain = tuple(
        KnownTensor(tensor, mask, most, tuple(InputRange(it, 10.0, 100.0, (), False, (), 0.0, 0.01) for it in names))
        for tensor, mask, most, names in known
    )
    about = {"domain": domain, "versions": {"torch": torch.__version__}, "metrics": {"auc": 0.9}, **changes}
    training = training_of(networks, shape, sample, [], **{"selection": TRILEPTON, **about})
    export_networks(training, path, "score", target(cmssw))
    return path


def networks_of(path: Path, *columns: str) -> Path:
    return model_of(path, Shape(columns, (), 3))


def own(directory: Path, body: str = "pass") -> str:
    """A selection with a trigger, a cut and a collection, as "file.py:Class"; `body` is a line before its end."""
    (directory / "own.py").write_text(OWN.replace("BODY", body))
    return f"{directory / 'own.py'}:Own"


def whole_model(networks: Path, selection: str, directory: Path) -> Model:
    """A model with a selection of this directory in front of its networks."""
    source = Source(DatasetInfo("signal"), (str(SAMPLE),))
    path = networks.with_name("whole.onnx")
    export_with_selection(networks, path, [source], Compilation(selection, str(directory), 200, {}))
    return Model(path)


def events_in(model: Model, most: int | None = None) -> dict[str, Any]:
    """What the model reads, and the numbers of the events."""
    with RootFile(SAMPLE) as file:
        names = [name for name in (*model.reads, *NUMBERS) if name in file.branches]
        return dict(file.read(names, 0, most))
