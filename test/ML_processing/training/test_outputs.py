"""The outputs that an evaluation keeps: networks run again for other events alone; and ratios that networks may learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ML_processing.evaluation.report import evaluate
from ML_processing.requests import NO_DATA, NO_REPEATS, OUTPUTS, DataRequest, RepeatRequest
from ML_processing.training.ratios import MeanRatios, RatioLoss, RatioTraining, check_events, description_of
from ML_processing.training.result import ResultEvents
from ML_processing.training.train import train
from MLTools.NanoML.config.training import PerObject, Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import CLASSES, RATIOS
from services.evaluations import draw_only, runs_of_networks
from services.shiftedbackground import ShiftedBackground
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


def events(path: Path, count: int, of_objects: bool = False) -> ResultEvents:
    target = ShiftedBackground(of_objects=of_objects).write(path, count, seed=1)
    return ResultEvents.read(Train("mlp", target=target), {"signal"})


def test_a_variation_that_changes_nothing_has_no_ratio(tmp_path: Path) -> None:
    loss = RatioLoss(events(tmp_path / "events.h5", 500))
    assert loss.pairs == [(2, 1), (2, 2)]  # the third class, up and down


def test_a_class_may_have_no_events_in_a_channel(tmp_path: Path) -> None:
    """Nor need anything ask how many are expected there."""
    found = events(tmp_path / "events.h5", 100)
    rows, about = np.flatnonzero(found.table.labels != 1), replace(found.table.about, datasets=())
    table = replace(found.table[rows], about=about)
    some = replace(found, table=table, varied=found.varied[rows], channel=found.channel[rows])
    made = description_of(some, [], Train("mlp", folds=3), torch.device("cpu"))
    assert (made.classes, made.discriminants, made.config.discriminants) == (["signal", "known", "shifted"], (), {})


def test_what_networks_cannot_learn_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NanoMLError, match="all has 49 effective events of signal, and networks need 50 to learn"):
        check_events(events(tmp_path / "few.h5", 49))
    found = events(tmp_path / "events.h5", 300)
    check_events(found)
    assert "WARNING: fit.unbinned: all has 300 effective events of shifted. With fewer" in capsys.readouterr().err

    def refused(match: str, varied: np.ndarray, shift: float = 0.0) -> None:
        features = found.table.features + np.float32(shift) * (found.table.labels[:, None] == 0)
        with pytest.raises(NanoMLError, match=match):
            check_events(replace(found, table=replace(found.table, features=features), varied=varied))

    odd = found.varied.copy()
    odd[:, 0] *= np.where(np.arange(len(odd)) // 3 % 5 < 2, -1, 1)
    refused("more than a third of the weights of signal are negative. Fit it in bins", odd)
    one = found.varied.copy()
    one[2, 1] *= 1e4
    refused("effective events of shifted under placeUp", one)
    refused("signal overlaps with no other class: cuts tell it from known by x, from shifted by x", found.varied, 9.0)


class Constant(torch.nn.Module):
    """Gives the same, whatever its inputs are."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.found = {CLASSES: torch.tensor([[value, 0.0]]), RATIOS: torch.tensor([[value]])}

    def forward(self, _: object) -> dict[str, torch.Tensor]:
        return self.found


def test_networks_of_a_fold_give_the_mean_of_ratios_not_of_logarithms() -> None:
    found = MeanRatios([Constant(0.0), Constant(2.0)])(None)
    assert found[RATIOS].item() == pytest.approx((1 + np.exp(2)) / 2)
    assert found[CLASSES].softmax(1)[0, 0].item() == pytest.approx((0.5 + 1 / (1 + np.exp(-2))) / 2)


def test_a_network_does_not_see_the_fold_that_it_tests_on(tmp_path: Path) -> None:
    found, config, device = events(tmp_path / "events.h5", 100), Train("mlp", folds=3, epochs=1), torch.device("cpu")
    features = np.where(found.table.folds(3)[:, None] == 0, np.float32(9), found.table.features)
    learned = []
    for name, it in (("one", found), ("two", replace(found, table=replace(found.table, features=features)))):
        (tmp_path / name).mkdir()
        training = RatioTraining(config, description_of(found, [], config, device), it, device)
        learned.append(training.train(0, 0, tmp_path / name, lambda *_: None).state_dict())
    assert all(torch.equal(it, learned[1][name]) for name, it in learned[0].items())
