"""The outputs that an evaluation keeps: networks run again for other events alone, and the numbers are the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ML_processing.evaluation.report import evaluate
from ML_processing.requests import NO_DATA, NO_REPEATS, OUTPUTS, DataRequest, RepeatRequest
from ML_processing.training.train import train
from MLTools.NanoML.config.training import PerObject, Train
from services.evaluations import draw_only, runs_of_networks
from services.trainings import changing

Toy = Callable[..., Path]
COUNT = 600
NUMBER = np.arange(COUNT)
FLAGS: dict[str, Any] = {"in_SR": NUMBER < 400, "in_CR": NUMBER >= 450}
REGIONS = {"SR": "x < 1", "CR": "x > 2"}


@pytest.fixture(autouse=True)
def few_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_only(monkeypatch)


def change(file: Path, **columns: Any) -> None:
    """Other values in a file, which says that its core is as it was."""
    with h5py.File(file, "r+") as h5:
        rows = h5["events"][:]
        for name, values in columns.items():
            rows[name] = values
        h5["events"][:] = rows
        content = json.loads(h5["metadata"].asstr()[()])
        h5["metadata"][()] = json.dumps({**content, "core": file.stem})
        h5["metadata"].attrs.pop("crc32", None)


def jets() -> Any:
    found = np.zeros((COUNT, 3), [("valid", "?"), ("pt", "f4"), ("id", "i2")])
    found["valid"] = np.arange(3) < (NUMBER % 4)[:, None]
    found["pt"], found["id"] = np.random.default_rng(2).exponential(30, found.shape), NUMBER[:, None] % 3
    return found


def masses() -> dict[str, Any]:
    mass = np.array([1, 2, 3])[NUMBER // 2 % 3]
    return {"parameter": "mass", "mass": np.where(NUMBER % 2, np.nan, mass).astype("f4")}


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], RepeatRequest]] = {
    "a regression by one network": ({"z": NUMBER.astype("f4")}, {"targets": ["z"], "folds": 1}, NO_REPEATS),
    "objects": (
        {"objects": {"Jet": jets()}},
        {"per_object": PerObject("Jet", "id", {"a": [0], "b": [1]}), "features": ["Jet_pt", "x"]},
        NO_REPEATS,
    ),
    "a parameter, and other trainings": (
        masses(),
        {"parameter": "mass", "features": ["x"], "regions": ["SR"]},
        RepeatRequest(1, left_out=True),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_do_not_run_for_other_weights_and_regions(toy: Toy, quick: Train, tmp_path: Path, kind: str) -> None:
    columns, settings, repeats = KINDS[kind]
    file, other = (toy(name, regions=REGIONS, **FLAGS, **columns) for name in ("toy.h5", "other.h5"))
    change(file)
    change(other)
    run, wanted = tmp_path / "run", DataRequest(("CR",), {}, (other,), (file,))
    given = {"data": NO_DATA if kind == "objects" else wanted, "eras": {"1": [file], "2": [other]}, "repeats": repeats}
    train([file], replace(quick, epochs=2, **settings), run)
    before = evaluate(run, [file], run, **given)
    change(file, weight=np.linspace(1, 2, COUNT), in_CR=NUMBER >= 420)
    change(other, in_CR=NUMBER >= 300)
    with runs_of_networks() as again:
        kept = evaluate(run, [file], run, **given)
    with runs_of_networks() as anew:
        made = evaluate(run, [file], tmp_path / "report", **given)
    assert (again, sum(anew) > COUNT) == ([], True)
    assert {**kept, "created": ""} == {**made, "created": ""}
    assert kept["regions"]["CR"] != before["regions"]["CR"]


def test_a_damaged_file_and_one_of_other_networks_are_made_again(
    toy: Toy, quick: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = toy(), tmp_path / "run"
    train([file], replace(quick, epochs=2), run)

    def evaluated() -> tuple[dict[str, Any], bool, str]:
        capsys.readouterr()
        with runs_of_networks() as runs:
            found = evaluate(run, [file], tmp_path / "report")
        return {**found, "created": ""}, bool(runs), capsys.readouterr().err

    kept = tmp_path / "report" / OUTPUTS
    first, ran, told = evaluated()
    assert (ran, OUTPUTS in told) == (True, False)
    good = kept.read_bytes()
    with h5py.File(kept) as h5:
        largest = max(h5.values(), key=len)
        place = largest.id.get_chunk_info(0).byte_offset
    for content in (good[:place] + b"damage" + good[place + 6 :], b"nothing"):
        kept.write_bytes(content)
        found, ran, told = evaluated()
        assert (found, ran, f"{OUTPUTS} cannot be used (" in told) == (first, True, True)
        assert kept.stat().st_size == len(good)
    found, ran, told = evaluated()
    assert (found, ran, OUTPUTS in told) == (first, False, False)
    with changing(file) as rows:  # other events, in a file that does not know its core
        rows["x"] += 1
    found, ran, told = evaluated()
    assert found != first
    assert (ran, "was of other networks or events" in told) == (True, True)
