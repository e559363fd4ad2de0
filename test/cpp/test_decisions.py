"""Models with their selection inside, and the networks of folds, in C++: as in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("ML_processing.export.with_selection")


from MLTools.NanoML.model import Model
from MLTools.NanoML.model.inside import Decisions, decide
from MLTools.NanoML.model.padding import Jagged
from MLTools.NanoML.nanoaod.folds import fold_of
from services.cplusplus import columns_of, run, write_events
from services.whole_models import NUMBERS, events_in, networks_of, own, whole_model

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-6

pytestmark = pytest.mark.slow


def decision_of(model: Model, found: Decisions, event: int) -> dict[str, Any]:
    inside = model.description.inside
    assert inside is not None
    made = []
    for collection in inside.collections:
        fields = [found.collections[f"{collection.name}_{field.name}"][event] for field in collection.fields]
        made.append([[float(value) for value in row] for row in zip(*fields)])
    return {
        "passed": bool(found.passed[event]),
        "failed": int(found.failed[event]),
        "cuts": sum(bool(passed[event]) for passed in found.cuts.values()),
        "columns": [float(values[event]) for values in found.columns.values()],
        "made": made,
    }


def write_decided(directory: Path, model: Model, arrays: Mapping[str, Any], fold: NDArray[np.int64] | None) -> Path:
    """The events as Python decides on them; with a fold, each by its own network."""
    found = decide(model, arrays, fold)
    events = range(len(found.passed))
    return write_events(
        directory / "events.json",
        Path(model.path),
        [columns_of(arrays, [name for name in model.reads if name in arrays], event) for event in events],
        [*found.scores],
        numbers=[] if fold is None else [tuple(int(arrays[name][event]) for name in NUMBERS) for event in events],  # type: ignore[misc]
        decisions=[decision_of(model, found, event) for event in events],
        outside=found.outside,
    )


@pytest.fixture(scope="module")
def trilepton(tmp_path_factory: pytest.TempPathFactory) -> Model:
    networks = networks_of(tmp_path_factory.mktemp("trilepton") / "model.onnx", "ZCand_mass", "WCand_mT", "MET_pt")
    return whole_model(networks, "MLTools.NanoML.trilepton:Trilepton", ROOT)


@pytest.mark.parametrize("own", [True, False], ids=["own network", "mean"])
def test_a_selection_decides_as_in_python(own: bool, trilepton: Model, tmp_path: Path, programs: Path) -> None:
    arrays = events_in(trilepton, 300)
    fold = fold_of(*(arrays[name] for name in NUMBERS), trilepton.folds)
    assert len(set(fold.tolist())) == 3
    events = write_decided(tmp_path, trilepton, arrays, fold if own else None)
    assert 50 < int(run(str(programs / "testDecisions"), str(events))) < 250
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


def test_no_memory_is_allocated_with_a_selection(tmp_path: Path, newest: Path) -> None:
    model = whole_model(networks_of(tmp_path / "model.onnx", "HT", "n"), own(tmp_path), tmp_path)
    events = write_decided(tmp_path, model, events_in(model, 100), None)
    assert int(run(str(newest / "testAllocations"), str(events))) == 0


def test_events_with_too_many_objects_are_flagged(trilepton: Model, tmp_path: Path, programs: Path) -> None:
    arrays = events_in(trilepton, 20)
    room = next(each.max for each in trilepton.objects if each.collection == "Muon")
    for name in [name for name in arrays if name.startswith("Muon_")]:
        jagged = Jagged.of(arrays[name])
        lists = ak.to_list(arrays[name])
        value = jagged.values[0].item()
        lists[3], lists[4] = [value] * (room + 1), [value] * room
        flat = np.concatenate([np.asarray(each, jagged.values.dtype) for each in lists])
        arrays[name] = ak.unflatten(flat, [len(each) for each in lists])
    events = write_decided(tmp_path, trilepton, arrays, None)
    assert decide(trilepton, arrays).failed.tolist() == [2 if event == 3 else 0 for event in range(20)]
    run(str(programs / "testDecisions"), str(events))


def test_collections_and_defaults(tmp_path: Path, programs: Path) -> None:
    networks = networks_of(tmp_path / "model.onnx", "HT", "n")
    model = whole_model(networks, own(tmp_path), tmp_path)
    arrays = events_in(model, 100)
    assert "HLT_Some" in model.reads
    for fired in (None, False):
        if fired is not None:
            arrays["HLT_Some"] = np.full(100, fired)
        events = write_decided(tmp_path, model, arrays, None)
        assert (int(run(str(programs / "testDecisions"), str(events))) > 20) == (fired is None)


def test_damage_to_a_model_with_its_selection(tmp_path: Path, programs: Path) -> None:
    model = whole_model(networks_of(tmp_path / "model.onnx", "HT"), own(tmp_path), tmp_path)
    run(str(programs / "testDamage"), model.path, str(tmp_path), "/selection")  # the rest is as in models without


def test_events_are_scored_by_the_network_of_their_fold(
    linear_model: Callable[..., Path], tmp_path: Path, programs: Path
) -> None:
    random = np.random.default_rng(7)
    numbers = [
        (int(random.integers(2**32)), int(random.integers(2**32)), int(random.integers(2**64, dtype=np.uint64)))
        for _ in range(100)
    ]
    run_number, block, event = (np.array(each, np.uint64) for each in zip(*numbers))
    fold = fold_of(run_number, block, event, 3)
    assert set(fold.tolist()) == {0, 1, 2}
    model = linear_model(["MET_pt"], targets=["x", "y", "z"])
    values = random.random(100).astype(np.float32)
    columns = [{"MET_pt": ("float32", [value])} for value in values]
    expected = [np.array([[value, own, 0]], np.float32) for value, own in zip(values, fold)]
    events = write_events(tmp_path / "events.json", model, columns, expected, numbers=numbers)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


def test_objects_and_parameters_are_scored_by_the_network_of_their_fold(
    linear_model: Callable[..., Path], tmp_path: Path, programs: Path
) -> None:
    numbers = [(1, 1, number) for number in range(6)]
    fold = fold_of(*(np.array(each) for each in zip(*numbers)), 3)
    objects = linear_model(["Jet_pt"], level="object", collection="Jet", targets=["x", "y", "z"])
    columns = [{"Jet_pt": ("float32", list(range(size)))} for size in range(6)]
    rows = [np.array([[pt, own, 0] for pt in range(size)], np.float32) for size, own in enumerate(fold)]
    events = write_events(tmp_path / "objects.json", objects, columns, rows, numbers=numbers)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE
    parameter = {"column": "mass", "values": [3.0, 4.0]}
    parametrised = linear_model(["mass"], targets=["x", "y", "z"], parameter=parameter)
    rows = [np.array([[mass, own, 0] for mass in (3, 4)], np.float32) for own in fold]
    events = write_events(tmp_path / "masses.json", parametrised, [{}] * 6, rows, numbers=numbers)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE
