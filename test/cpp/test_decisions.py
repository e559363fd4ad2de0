"""Models with their selection inside, and the networks of folds, in C++: as in Python."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from numpy.typing import NDArray

pytest.importorskip("services.whole_models")

from MLTools.NanoML.model import Model
from MLTools.NanoML.model.inside import Decisions, decide
from MLTools.NanoML.model.padding import Jagged
from MLTools.NanoML.nanoaod.folds import fold_of
from services.cplusplus import Damage, columns_of, in_json, run, with_other_parts, write_events
from services.whole_models import NUMBERS, SAMPLE, events_in, networks_of, own, whole_model

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-6


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
        directory / "events.txt",
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


@pytest.fixture(scope="module")
def with_own(tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("own")
    return whole_model(networks_of(directory / "model.onnx", "HT", "n"), own(directory), directory)


def check(
    model: Model, arrays: Mapping[str, Any], fold: NDArray[np.int64] | None, directory: Path, programs: Path
) -> Path:
    """Decisions, scores and what is outside of the domain are as in Python; the file with the events."""
    events = write_decided(directory, model, arrays, fold)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE
    return events


@pytest.mark.parametrize("own", [True, False], ids=["own network", "mean"])
def test_a_selection_decides_as_in_python(own: bool, trilepton: Model, tmp_path: Path, programs: Path) -> None:
    arrays = events_in(trilepton, 150)
    fold = fold_of(*(arrays[name] for name in NUMBERS), trilepton.folds)
    assert len(set(fold.tolist())) == 3
    assert 25 < decide(trilepton, arrays).passed.sum() < 125
    check(trilepton, arrays, fold if own else None, tmp_path, programs)


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
    assert decide(trilepton, arrays).failed.tolist() == [2 if event == 3 else 0 for event in range(20)]
    check(trilepton, arrays, None, tmp_path, programs)


@pytest.mark.exhaustive("the newest standard and interface, memory and threads")
def test_collections_and_defaults(with_own: Model, tmp_path: Path, programs: Path, newest: Path) -> None:
    """And no memory is allocated after the first event."""
    arrays = events_in(with_own, 100)
    assert "HLT_Some" in with_own.reads
    for fired in (None, False):
        if fired is not None:
            arrays["HLT_Some"] = np.full(100, fired)
        assert (decide(with_own, arrays).passed.sum() > 20) == (fired is None)
        events = check(with_own, arrays, None, tmp_path, programs)
        assert int(run(str(newest / "testAllocations"), str(events))) == 0


@pytest.mark.exhaustive("each part of a model, damaged")
def test_damage_to_a_model_with_its_selection(with_own: Model, tmp_path: Path, programs: Path) -> None:
    path = Path(with_own.path)
    onnx, content = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
    for unused in ("training", "reference", "target"):
        del content[unused]
    others = content.keys() - {"selection"}  # they are as in models without
    Damage(tmp_path, programs)((onnx, in_json(each)) for each in with_other_parts(content, others))


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
    events = write_events(tmp_path / "events.txt", model, columns, expected, numbers=numbers)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


def test_objects_and_parameters_are_scored_by_the_network_of_their_fold(
    linear_model: Callable[..., Path], tmp_path: Path, programs: Path
) -> None:
    numbers = [(1, 1, number) for number in range(6)]
    fold = fold_of(*(np.array(each) for each in zip(*numbers)), 3)
    objects = linear_model(["Jet_pt"], level="object", collection="Jet", targets=["x", "y", "z"])
    columns = [{"Jet_pt": ("float32", list(range(size)))} for size in range(6)]
    rows = [np.array([[pt, own, 0] for pt in range(size)], np.float32) for size, own in enumerate(fold)]
    events = write_events(tmp_path / "objects.txt", objects, columns, rows, numbers=numbers)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE
    parameter = {"column": "mass", "values": [3.0, 4.0]}
    parametrised = linear_model(["mass"], targets=["x", "y", "z"], parameter=parameter)
    rows = [np.array([[mass, own, 0] for mass in (3, 4)], np.float32) for own in fold]
    events = write_events(tmp_path / "masses.txt", parametrised, [{}] * 6, rows, numbers=numbers)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


@pytest.mark.root
@pytest.mark.exhaustive("the same scores by RDataFrame")
def test_the_example_of_rdataframe_gives_the_scores_of_python(tmp_path: Path, build: Callable[..., Path]) -> None:
    pytest.importorskip("ROOT", reason="needs ROOT")
    model = whole_model(
        networks_of(tmp_path / "model.onnx", "ZCand_mass", "MET_pt"), "MLTools.NanoML.trilepton:Trilepton", ROOT
    )
    library = build("shared", "libMLToolsNanoML.so", FLAGS="-fPIC", OPTIMIZE="-O0")
    places = {"LD_LIBRARY_PATH": str(library), "ROOT_INCLUDE_PATH": str(library / "include"), "HOME": str(tmp_path)}
    output = tmp_path / "scored.root"
    run(
        sys.executable,
        str(ROOT / "examples" / "programs" / "decide_in_rdataframe.py"),
        model.path,
        str(SAMPLE),
        str(output),
        **places,
    )
    arrays = events_in(model, 1000)
    found = decide(model, arrays, fold_of(*(arrays[name] for name in NUMBERS), model.folds))
    scored = uproot.open(output)["Events"].arrays(library="np")
    assert 100 < len(scored["event"]) < 900
    assert scored["event"].tolist() == arrays["event"][found.passed].tolist()
    for number, label in enumerate(model.outputs):
        np.testing.assert_allclose(scored[f"score_{label}"], found.scores[found.passed, number], atol=1e-6)
