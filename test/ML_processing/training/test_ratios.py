"""Channels in which networks can learn ratios of densities, and the ratios that they learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ML_processing.training.ratios import RatioLoss, of_channel
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


def test_what_networks_cannot_learn_is_said_before_they_are_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NanoMLError, match="all has 49 effective events of signal, and networks need 50 to learn"):
        of_channel(events(tmp_path / "few.h5", 49), 0)
    found = events(tmp_path / "events.h5", 300)
    assert of_channel(found, 0).channels == found.channels
    assert "WARNING: fit.unbinned: all has 300 effective events of shifted. With fewer" in capsys.readouterr().err

    def refused(match: str, varied: np.ndarray, shift: float = 0.0) -> None:
        features = found.table.features + np.float32(shift) * (found.table.labels[:, None] == 0)
        with pytest.raises(NanoMLError, match=match):
            of_channel(replace(found, table=replace(found.table, features=features), varied=varied), 0)

    odd = found.varied.copy()
    odd[:, 0] *= np.where(np.arange(len(odd)) // 3 % 5 < 2, -1, 1)
    refused("more than a third of the weights of signal are negative. Fit it in bins", odd)
    one = found.varied.copy()
    one[2, 1] *= 1e4
    refused("effective events of shifted under placeUp", one)
    refused(
        "signal and the other classes do not overlap: a cut tells it from known by x, from shifted by x",
        found.varied,
        9.0,
    )


def test_classes_that_overlap_with_one_other_are_enough(tmp_path: Path) -> None:
    found = events(tmp_path / "events.h5", 300)
    apart = found.table.features + 9 * (found.table.labels[:, None] == 2).astype("f4") * [1, 0]
    with pytest.raises(NanoMLError, match="shifted and the other classes do not overlap"):
        of_channel(replace(found, table=replace(found.table, features=apart.astype("f4"))), 0)
    both = found.table.features + 9 * (found.table.labels[:, None] != 1).astype("f4") * [1, 0]
    with pytest.raises(NanoMLError, match="known and the other classes"):
        of_channel(replace(found, table=replace(found.table, features=both.astype("f4"))), 0)
