"""Networks that score single objects, from simulation to branches: prompt against fake electrons."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot

pytest.importorskip("torch")
pytest.importorskip("data_processing.skim.skim")
pytest.importorskip("ML_processing.stages")

import torch

from data_processing.convert.columns import StoredCollection
from data_processing.convert.convert import ConvertJob, Sample, convert_files
from data_processing.score.score import ScoreJob, score_file
from ML_processing.evaluation.report import evaluate
from ML_processing.events.inputs import Inputs
from ML_processing.export.export import TrainedNetworks, export
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.evaluation import Export
from MLTools.NanoML.config.training import PerObject, Train
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.verification import verify_model
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaodtools.branches import Scoring
from MLTools.NanoML.selection.tryout import on_file

pytestmark = [pytest.mark.exhaustive("each kind of analysis"), pytest.mark.usefixtures("nothing_drawn")]
ROOT = Path(__file__).resolve().parents[2]
FIELDS = ("pt", "eta", "sieie", "sip3d", "pfRelIso03_all")
CLASSES = {"prompt": [1, 15], "fake": [0, 3, 4, 5]}
INPUTS = [*(f"Electron_{name}" for name in FIELDS), "PV_npvs"]


@pytest.fixture(scope="module")
def source(sample: Path) -> Path:
    return sample / "ZGToLLG_PtG100" / "ZGToLLG_PtG100_0.root"


@pytest.fixture(scope="module")
def directory(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of three folds, its report and its model; no dataset has a class."""
    directory = tmp_path_factory.mktemp("electrons")
    hdf5 = directory / "ZG.h5"
    objects = {"Electron": StoredCollection((*FIELDS, "genPartFlav"), 4, "-pt")}
    convert_files(ConvertJob([str(source)], hdf5, ["PV_npvs"], objects, Sample("ZG", None, 0.0757, False), (), 59.8))
    of_each, options = PerObject("Electron", "genPartFlav", CLASSES), {"hidden": [16]}
    settings = Train("mlp", options, per_object=of_each, epochs=8, learning_rate=0.02, folds=3, device="cpu")
    train([hdf5], settings, directory / "training")
    evaluate(directory / "training", [hdf5], directory / "training")
    export(directory / "training", directory / "tagger.onnx", Export())
    return directory


def content(path: Path) -> Any:
    return json.loads(path.read_text())


def read(path: Path, *names: str) -> list[Any]:
    with uproot.open(path) as file:
        return [file["Events"][name].array() for name in names]


def test_the_training_is_of_objects(directory: Path, source: Path) -> None:
    (flavour,) = read(source, "Electron_genPartFlav")
    flavours = ak.to_numpy(ak.flatten(flavour))
    counts = {name: int(np.isin(flavours, values).sum()) for name, values in CLASSES.items()}
    described = content(directory / "training" / "training.json")
    assert (described["level"], described["collection"]) == ("object", "Electron")
    assert {name: it["events"] for name, it in described["data"]["classes"].items()} == counts
    note = "objects of Electron have no class by Electron_genPartFlav and are left out: 22 (158)."
    assert described["notes"][0] == f"158 of {len(flavours):,} {note}"
    measured = content(directory / "training" / "metrics.json")
    assert measured["signal"] == "prompt"
    assert measured["auc"]["network"] > 0.9
    assert measured["events"]["tested"] == sum(counts.values())


def test_the_model_is_of_objects(directory: Path) -> None:
    model = Model(directory / "tagger.onnx")
    assert (model.description.level, model.description.collection) == ("object", "Electron")
    assert (model.columns, model.outputs, model.folds) == (INPUTS, ["prompt", "fake"], 3)
    networks = TrainedNetworks.of(directory / "training")
    said = "\n".join(verify_model(directory / "tagger.onnx", None, networks))
    assert "1, 7, 300 objects of each" in said
    assert "PyTorch gives the same" in said


def test_scores_are_those_of_the_network_that_has_not_seen_the_event(directory: Path, source: Path) -> None:
    output = directory / "scores.root"
    score_file(ScoreJob(str(source), output, [directory / "tagger.onnx"], chunk=500))
    counts, *inputs = read(source, "nElectron", *INPUTS)
    run, block, event = (ak.to_numpy(it) for it in read(source, "run", "luminosityBlock", "event"))
    fold = np.repeat(fold_of(run, block, event, 3), counts)
    features = [ak.to_numpy(ak.flatten(it) if it.ndim > 1 else np.repeat(it, counts)) for it in inputs]
    rows = torch.from_numpy(np.stack(features, axis=1).astype("f4"))
    networks = Training.load(directory / "training").networks
    with torch.no_grad():
        inputs_of = Inputs(rows, {})
        of_fold = [torch.softmax(network.outputs(inputs_of), dim=1).numpy() for network in networks]
    expected = np.stack(of_fold)[fold, np.arange(len(rows))]
    for i, name in enumerate(("prompt", "fake")):
        (found,) = read(output, f"Electron_tagger_{name}")
        assert ak.num(found).to_list() == counts.to_list()
        assert ak.to_numpy(ak.flatten(found)) == pytest.approx(expected[:, i], abs=1e-5)
    assert read(output, "nElectron")[0].to_list() == counts.to_list()
    scoring = Scoring(directory / "tagger.onnx")
    columns = on_file(scoring, source).columns
    for name in ("Electron_tagger_prompt", "Electron_tagger_fake", "tagger_fold"):
        assert read(output, name)[0].to_list() == columns[name].tolist()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, follow: Callable[..., None]) -> Path:
    """What is made by following the pages on training: on classes of events, on classes of objects, on numbers."""
    directory = tmp_path_factory.mktemp("training")
    follow("howto/train.md#train", directory, quick=True)
    follow("howto/train.md#classify-objects", directory, inside=".")
    follow("howto/train.md#estimate-a-quantity", directory, inside=".", quick=True)
    return directory


def test_the_page_has_its_numbers(page: Path) -> None:
    text = (ROOT / "doc" / "howto" / "train.md").read_text()
    measured = content(page / "electrons" / "training" / "metrics.json")
    told: Any = re.search(r"AUC is ([\d.]+) ± ([\d.]+) on", text)
    assert measured["auc"]["network"] == pytest.approx(float(told[1]), abs=float(told[2]))
    notes = content(page / "electrons" / "training" / "training.json")["notes"]
    (note,) = (it for it in notes if "left out" in it)
    assert note in " ".join(text.split())


def test_the_page_shuffles_and_scores(page: Path) -> None:
    assert content(page / "discriminants" / "training" / "training.json")["complete"]
    with h5py.File(page / "electrons" / "hdf5" / "all.h5") as file:
        assert len(file["events"]) == 8250
    copies = sorted((page / "electrons" / "scores").glob("*/*.root"))
    names = ("WZTo3LNu_Pt100", "ZGToLLG_PtG100")
    assert [path.stem for path in copies] == [f"{name}_{i}" for name in names for i in range(3)]
    prompt, flavour = read(copies[0], "Electron_electrons_prompt", "Electron_genPartFlav")
    assert ak.num(prompt).to_list() == ak.num(flavour).to_list()
    assert ak.mean(prompt[flavour == 1]) > 0.8 > 0.4 > ak.mean(prompt[flavour == 3])
