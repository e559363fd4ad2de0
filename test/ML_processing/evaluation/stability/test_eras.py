"""The same networks on the simulation of each era."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from ML_processing import plots
from ML_processing.evaluation import evaluate
from ML_processing.evaluation.stability.eras import Eras, eras_of
from ML_processing.training.directory import Training

Toy = Callable[..., Path]


@pytest.fixture
def training(whole: Path) -> Training:
    """A training on toy events."""
    return Training.load(whole)


def measured(training: Training, files: dict[str, list[Path]]) -> Eras:
    found = eras_of(training, files, True)
    assert found is not None
    return found


def test_equal_eras_agree(toy: Toy, training: Training) -> None:
    file = toy()
    found = measured(training, {"2018": [file], "2022": [file]})
    first, second = found.eras.values()
    assert first.measured == second.measured
    assert found.probability == pytest.approx(1)
    assert found.auc.value == pytest.approx(first.measured.auc.value)
    assert found.auc.error == pytest.approx((first.measured.auc.error or 0) / np.sqrt(2))
    assert first.yields["signal"].sum_of_weights.value == 300
    assert first.discriminant is not None
    for it in first.discriminant.classes:
        assert it.bins.values.sum() == pytest.approx(1)


def test_an_era_without_separation_is_told(toy: Toy, training: Training) -> None:
    noise = np.random.default_rng(3).normal(size=(2, 600)).astype("f4")
    found = measured(training, {"2018": [toy()], "2022": [toy("noise.h5", x=noise[0], y=noise[1])]})
    assert found.eras["2022"].measured.auc.value == pytest.approx(0.5, abs=0.1)
    assert (found.probability or 1) < 1e-6


def test_an_era_without_signal_has_no_separation(toy: Toy, training: Training) -> None:
    file = toy("other.h5")
    with h5py.File(file, "r+") as h5:
        rows: Any = h5["events"][:]
        rows["label"] = 1
        h5["events"][:] = rows
    found = measured(training, {"2018": [toy()], "2022": [file]})
    assert found.eras["2022"].measured.auc.value is None
    assert found.eras["2022"].yields["signal"].events == 0
    assert found.probability is None


def test_one_era_is_not_compared(toy: Toy, training: Training) -> None:
    assert eras_of(training, {"2018": [toy()]}, True) is None
    assert eras_of(training, {}, True) is None


def test_the_page_shows_it(toy: Toy, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, file = plots._figure, toy()
    monkeypatch.setattr(plots, "_figure", lambda name, *rest: draw(name, *rest) if name == "eras" else Figure())
    content = evaluate(whole, [file], tmp_path, eras={"2018": [file], "2022": [file]})
    assert list(content["plots"]["eras"]["eras"]) == ["2018", "2022"]
    page = (tmp_path / "report.html").read_text()
    assert '<section id="eras"' in page
    assert "Stability by era" in page
    cells = re.findall(r"<td>(2018|2022)</td><td>([^<]*)</td>", page)
    assert cells == [("2018", "300 ± 17"), ("2022", "300 ± 17")]
