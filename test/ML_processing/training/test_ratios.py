"""Channels in which networks can learn ratios of densities, and the ratios that they learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ML_processing.training.ratios import RatioLoss, check_events, description_of
from ML_processing.training.result import ResultEvents
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import NanoMLError
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
