"""Channels in which networks can learn ratios of densities, and the ratios that they learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ML_processing.training.ratios import MeanRatios, RatioLoss, RatioTraining, check_events, description_of
from ML_processing.training.result import ResultEvents
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import CLASSES, RATIOS
from services.shiftedbackground import ShiftedBackground


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
