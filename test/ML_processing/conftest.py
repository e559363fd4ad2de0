"""HDF5 files for these tests: of the example's simulation, and of made-up events with known answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ML_processing.training import loss_figure
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.model.padding import Jagged, Places
from MLTools.NanoML.report import figures
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.trilepton import Trilepton
from services.toyfiles import CLASSES, Writer, toy, toy_in, toys, write
from services.trainings import QUICK, event_rows

FEATURES = ["ZCand_mass", "ZCand_dR", "ThreeLep_sumPt", "WLep_pt", "MET_pt", "WCand_mT", "ThreeLep_mass"]
SELECTION = "MLTools.NanoML.trilepton:Trilepton"
FIELDS = ["pt", "eta", "phi", "mass", "charge"]
MOST = 3  # leptons of a kind in an event
PROCESSES = {
    "WprimeToWZToLNuLL_M600": ("signal", 0.0921),
    "WZTo3LNu_Pt100": ("WZ", 0.0546),
    "ZGToLLG_PtG100": ("ZG", 0.0757),
}

__all__ = ["toy", "toys", "write"]


@pytest.fixture(scope="session", autouse=True)
def one_core() -> None:
    """These networks are too small to gain from more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def read_back() -> Iterator[None]:
    """What is measured comes back from its file as it was, in every evaluation of these tests."""
    from ML_processing.evaluation.content import Evaluation
    from services.evaluations import exact

    write = Evaluation.write

    def checked(found: Evaluation, path: Path) -> None:
        write(found, path)
        assert exact(Evaluation.read(path)) == exact(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluation, "write", checked)
        yield


DRAW, SAVE = loss_figure.losses, figures.save


@pytest.fixture(scope="module")
def no_plots() -> Iterator[None]:
    """No figure is drawn, which takes longer than trainings as small as these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_figure, "losses", lambda *arguments: None)
        patch.setattr(figures, "save", lambda figure, stem, numbers=None: None)
        yield


@pytest.fixture
def plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """But here they are."""
    monkeypatch.setattr(loss_figure, "losses", DRAW)
    monkeypatch.setattr(figures, "save", SAVE)


@pytest.fixture(scope="session")
def files(sample: Path, tmp_path_factory: pytest.TempPathFactory, write: Writer) -> list[Path]:
    """The example's simulation after its selection: three classes, seven features, about 1500 events."""
    return _written(tmp_path_factory.mktemp("hdf5"), sample, write, has_objects=False)


@pytest.fixture(scope="session")
def object_files(sample: Path, tmp_path_factory: pytest.TempPathFactory, write: Writer) -> list[Path]:
    """The same with the electrons and muons of each event."""
    return _written(tmp_path_factory.mktemp("objects"), sample, write, has_objects=True)


def _written(directory: Path, sample: Path, write: Writer, has_objects: bool) -> list[Path]:
    found = []
    for name, class_, rows, objects in _selected_processes(sample):
        of = {"class_": class_, "selection": SELECTION, "objects": objects if has_objects else None}
        found.append(write(directory / f"{name}.h5", rows, **of))
    return found


def _selected_processes(sample: Path) -> Iterator[tuple[str, str, NDArray[Any], dict[str, NDArray[Any]]]]:
    for name, (class_, cross_section) in PROCESSES.items():
        sources = sorted((sample / name).glob("*.root"))
        if not sources:
            pytest.skip(f"no simulation in {sample / name}")
        columns, objects, entries = _selected(sources)
        weight = cross_section * 1000 * 59.8 / entries
        yield name, class_, event_rows(columns, CLASSES.index(class_), weight), objects


def _selected(sources: Sequence[Path]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], int]:
    """Features and leptons of the events that pass the example's selection, and how many events there were."""
    selection, entries = Trilepton(), 0
    ids = ["run", "luminosityBlock", "event"]
    parts: list[dict[str, NDArray[Any]]] = []
    leptons: dict[str, list[NDArray[Any]]] = {"Electron": [], "Muon": []}
    for source in sources:
        with RootFile(source) as file:
            bound = selection.bind(file.branches, file.path)
            arrays = file.read([*bound.branches, *ids])
            found = bound.apply(arrays, np.ones(file.entries))
            entries += file.entries
            for name, members in leptons.items():
                found_here = file.read([f"{name}_{field}" for field in FIELDS])
                flat = {field: found_here[f"{name}_{field}"] for field in FIELDS}
                members.append(_padded(flat, found.rows))
        of_input = {name: np.asarray(arrays[name])[found.rows] for name in [*ids, "MET_pt"]}
        parts.append({name: {**found.columns, **of_input}[name] for name in [*ids, *FEATURES]})
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns, {name: np.concatenate(members) for name, members in leptons.items()}, entries


def _padded(fields: dict[str, Any], rows: NDArray[Any]) -> NDArray[Any]:
    lists = {name: Jagged.of(values[rows]) for name, values in fields.items()}
    key = lists["pt"]
    places = Places.of(key.counts, MOST, key.values, descending=True)
    members = np.zeros(places.shape, [("valid", "?"), *((name, it.values.dtype) for name, it in lists.items())])
    members["valid"] = places.spread(np.ones(len(places.target), bool))
    for name, it in lists.items():
        members[name] = places.spread(places.picked(it.values))
    return members


@pytest.fixture(scope="session")
def run(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of the example with the settings of its YAML file."""
    directory = tmp_path_factory.mktemp("training")
    train(files, Train("mlp", device="cpu"), directory)
    return directory


@pytest.fixture(scope="session")
def measured(run: Path, files: list[Path]) -> dict[str, Any]:
    """Its evaluation, with the report in the directory of the training."""
    from services.evaluations import evaluate

    return evaluate(run, files, run)


@pytest.fixture
def quick() -> Train:
    """Settings for a training of a fraction of a second."""
    return QUICK


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, write: Writer) -> Path:
    """A training on toy events with these settings, without plots; to be copied before it is changed."""
    directory = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", lambda figure, stem, numbers=None: None)
        train([toy_in(directory, write)()], QUICK, directory / "run")
    return directory / "run"
