"""Which columns a training reads, by its settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ML_processing.events.columns import TrainingColumns
from ML_processing.training.data import TrainingFiles
from MLTools.NanoML.config.training import Decorrelation, PerObject, Train
from MLTools.NanoML.errors import ConfigError, NanoMLError

Toy = Callable[..., Path]


def columns(path: Path, everything: bool = False, **settings: Any) -> TrainingColumns:
    return TrainingFiles.open([path], Train(**settings), everything).columns


def jets(fields: str = "pt eta", most: int = 2) -> dict[str, Any]:
    return {"Jet": np.zeros((600, most), [("valid", "?"), *((name, "f4") for name in fields.split())])}


@pytest.fixture
def rich(toy: Toy) -> Path:
    """Features x, y, z and the parameter mass, and jets."""
    return toy(objects=jets(), parameter="mass", z=np.arange(600), mass=np.full(600, np.nan))


def test_by_default_all_columns_but_parameters(rich: Path) -> None:
    found = columns(rich)
    assert found.names == ["x", "y", "z"]
    assert found.extras == ()
    assert found.shape.tensors == ["features", "Jet", "Jet_mask"]
    assert found.shape.outputs == 2


def test_a_choice_in_its_order(rich: Path) -> None:
    found = columns(rich, features=["z", "x"], objects=[])
    assert found.names == ["z", "x"]
    assert found.shape.tensors == ["features"]
    assert columns(rich, features=[]).shape.tensors == ["Jet", "Jet_mask"]


def test_a_parameter_is_the_last_feature(rich: Path) -> None:
    assert columns(rich, parameter="mass").names == ["x", "y", "z", "mass"]
    assert columns(rich, parameter="mass", features=["mass", "x"]).names == ["x", "mass"]


def test_targets_and_spectators_are_no_features(rich: Path) -> None:
    found = columns(rich, targets=["z"], decorrelate=Decorrelation("x"))
    assert found.names == ["x", "y"]  # what the output must not depend on may be a feature
    assert (found.targets, found.spectator, found.extras) == (("z",), "x", ("z", "x"))
    assert found.shape.outputs == 1
    assert columns(rich, everything=True, features=["x"]).extras == ("y", "z")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": ["x", "masss"]}, 'train.features: "masss" is not in the HDF5 files. Did you mean "mass"?'),
        ({"objects": ["Jets"]}, 'train.objects: "Jets" is not in the HDF5 files. Did you mean "Jet"?'),
        ({"targets": ["pt"]}, 'train.targets: "pt" is not in the HDF5 files. They have: x, y, z, mass.'),
        ({"decorrelate": Decorrelation("mas")}, 'train.decorrelate.column: "mas" is not in the HDF5 files. Did you mean'),
        ({"flatten": ["p"]}, 'train.flatten: "p" is not in the HDF5 files'),
        ({"parameter": "x"}, 'train.parameter: "x" is not a parameter of the HDF5 files (mass). Give its value'),
        ({"features": ["x", "mass"]}, "train.features: mass is a parameter of some datasets, so it would tell them"),
        ({"features": ["x"], "targets": ["x"]}, "train.targets: x is a feature as well"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit(rich: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        columns(rich, **settings)


def test_nothing_is_left(rich: Path) -> None:
    with pytest.raises(NanoMLError, match="or leave `train.features` and `train.objects` out"):
        columns(rich, features=[], objects=[])


def test_no_weight(toy: Toy) -> None:
    path = toy()
    with h5py.File(path, "r+") as file:
        rows = file["events"][:]
        del file["events"]
        file["events"] = rows[["run", "luminosityBlock", "event", "label", "x", "y"]]
    with pytest.raises(NanoMLError, match="toy.h5: its events have no weight, since no cross section or lumino"):
        columns(path)


def test_a_collection_that_is_not_there(toy: Toy) -> None:
    path = toy(objects=jets())
    with h5py.File(path, "r+") as file:
        del file["Jet"]
    with pytest.raises(NanoMLError, match="`Jet` has no field valid. Make the file again"):
        columns(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objects": jets("pt")}, "its collections are not those of .*a.h5: without Jet_eta"),
        ({"objects": {}}, "its collections are not those of .*a.h5: without Jet_pt, Jet_eta"),
        ({"objects": jets(most=3)}, r"its numbers of objects are not .* with Jet \(3, sorted by -pt\)"),
        ({"objects": jets(), "parameter": "y"}, "its parameters are not those of .*a.h5: with y"),
    ],
)
def test_files_that_disagree(toy: Toy, changes: dict[str, Any], message: str) -> None:
    files = [toy("a.h5", objects=jets()), toy("b.h5", **changes)]
    with pytest.raises(NanoMLError, match=message):
        TrainingFiles.open(files, Train())


FLAVOUR = PerObject("Jet", "flavour", {"b": [5, -5], "light": [0]})


def flavoured(toy: Toy, **changes: Any) -> Path:
    types = [("valid", "?"), ("pt", "f4"), ("flavour", "i4"), ("eta", "f4")]
    return toy(objects={"Jet": np.zeros((600, 2), types), "Muon": jets()["Jet"]}, parameter="mass", **changes)


def test_of_objects_all_fields_but_the_label(toy: Toy) -> None:
    path = flavoured(toy, mass=np.full(600, np.nan))
    found = columns(path, everything=True, per_object=FLAVOUR)
    assert found.names == ["Jet_pt", "Jet_eta", "x", "y"]
    assert (found.classes, found.collections, found.extras) == (["b", "light"], (), ())
    assert found.datasets_read == ["events", "Jet"]
    assert found.shape.tensors == ["features"]
    found = columns(path, True, per_object=FLAVOUR, features=["y", "Jet_eta"], parameter="mass")
    assert found.names == ["y", "Jet_eta", "mass"]
    assert found.extras == ("Jet_pt", "x")
    found = columns(path, per_object=FLAVOUR, features=["x"], decorrelate=Decorrelation("Jet_pt"))
    assert (found.spectator, found.extras) == ("Jet_pt", ("Jet_pt",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_object": PerObject("Jets", "flavour", {})}, 'per_object.collection: "Jets" is not .*"Jet"'),
        ({"per_object": PerObject("Jet", "flavor", {})}, 'per_object.label: "flavor" is not .*"flavour"'),
        ({"per_object": PerObject("Jet", "pt", {})}, '"pt" is of type float32, but classes are given by whole'),
        ({"per_object": FLAVOUR, "objects": ["Muon"]}, "one object at a time .* take out train.objects"),
        ({"per_object": FLAVOUR, "targets": ["x"]}, "separate classes: take out train.targets"),
        ({"per_object": FLAVOUR, "features": ["Jet_flavour"]}, '"Jet_flavour" is not in the HDF5 files'),
    ],
)
def test_objects_that_cannot_be_told_apart(toy: Toy, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        columns(flavoured(toy, mass=np.zeros(600)), **settings)


def test_a_name_of_the_event_and_of_the_object(toy: Toy) -> None:
    path = flavoured(toy, mass=np.zeros(600), Jet_pt=np.zeros(600))
    with pytest.raises(NanoMLError, match=r"Jet_pt is a column of the event and, as Jet\.pt, one of its objects"):
        columns(path, per_object=FLAVOUR)
