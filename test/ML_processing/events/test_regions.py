"""Trainings on the events of some regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ML_processing.events.data import Table
from ML_processing.events.survey import Survey
from ML_processing.training.data import TrainingFiles, read
from ML_processing.training.train import train
from ML_processing.tuning.space import Space
from ML_processing.tuning.trial import TrialData
from MLTools.NanoML.config.training import PerObject, Train
from MLTools.NanoML.errors import ConfigError, NanoMLError

pytestmark = pytest.mark.usefixtures("no_plots")

Toy = Callable[..., Path]
REGIONS = {"SR": "number < 300", "CR": "number >= 200 && number < 400", "odd": "label == 1"}
NUMBER = np.arange(600)
FLAGS: dict[str, Any] = {
    "in_SR": NUMBER < 300, "in_CR": (NUMBER >= 200) & (NUMBER < 400), "in_odd": NUMBER % 2 == 1,
}  # fmt: skip


@pytest.fixture
def file(toy: Toy) -> Path:
    """600 events in three regions, with jets."""
    members = np.zeros((600, 2), [("valid", "?"), ("pt", "f4"), ("id", "u1")])
    members["valid"][:, 0] = True
    members["pt"], members["id"] = NUMBER[:, None], NUMBER[:, None] % 2
    return toy(objects={"Jet": members}, regions=REGIONS, **FLAGS)


def table_of(file: Path, regions: list[str], **settings: Any) -> tuple[Table, Survey]:
    return TrainingFiles.open([file], Train(regions=regions, **settings)).sample(1000, 5)


@pytest.mark.parametrize(
    ("regions", "numbers"),
    [([], range(600)), (["SR"], range(300)), (["CR"], range(200, 400)), (["SR", "CR"], range(400))],
)
def test_events_in_any_of_the_regions_are_used(file: Path, regions: list[str], numbers: range) -> None:
    table, survey = table_of(file, regions)
    assert table.identifiers[2].tolist() == list(numbers)
    assert table.objects["Jet"][0][:, 0, 0].tolist() == list(numbers)
    assert table.names == ["x", "y"]  # the flags are no features
    assert survey.counts.sum() == survey.sums.sum() == len(numbers)
    assert [region.name for region in table.about.regions] == ["SR", "CR", "odd"]
    assert [region.name for region in table.about.within] == regions


def test_objects_of_other_events_are_left_out(file: Path) -> None:
    table, _ = table_of(file, ["CR"], per_object=PerObject("Jet", "id", {"a": [0], "b": [1]}), features=["Jet_pt"])
    assert table.features[:, 0].tolist() == list(range(200, 400))


def test_a_search_for_settings_sees_the_same_events(file: Path) -> None:
    data = TrialData.read([file], Space(Train(regions=["SR"], device="cpu"), {}))
    assert data.table.identifiers[2].max() < 300
    assert data.survey.counts.sum() == len(data.table)


def test_a_region_that_is_not_there(file: Path) -> None:
    with pytest.raises(ConfigError, match='train.regions: "RS" is not in the HDF5 files. They have: SR, CR, odd'):
        table_of(file, ["RS"])


def test_a_class_without_an_event_in_the_region(file: Path) -> None:
    with pytest.raises(NanoMLError, match=r'class "signal" has no event in odd \('):
        table_of(file, ["odd"])


def test_files_with_other_regions_do_not_go_together(toy: Toy) -> None:
    file = toy(regions=REGIONS, **FLAGS)
    other = toy("other.h5", regions={**REGIONS, "CR": "number > 5"}, **FLAGS)
    with pytest.raises(NanoMLError, match=r"other.h5: its regions are not those of .*with CR \(number > 5\)"):
        TrainingFiles.open([file, other], Train())


def test_a_training_is_that_on_these_events_alone(toy: Toy, quick: Train, tmp_path: Path) -> None:
    """Classes are balanced, inputs are scaled, and networks are tested within the region."""
    inside = toy("inside.h5", regions=REGIONS, **FLAGS)
    table = read([inside], replace(quick, regions=["SR"]))
    alone = toy("alone.h5", count=300)
    assert table.features.shape == (300, 2)
    restricted = train([inside], replace(quick, regions=["SR"]), tmp_path / "restricted")
    with h5py.File(inside) as source, h5py.File(alone, "r+") as target:
        names = ["run", "luminosityBlock", "event", "label", "weight", "x", "y"]
        target["events"][:] = source["events"][:300][names]
    assert restricted == train([alone], quick, tmp_path / "plain")
