"""What training.json says, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ML_processing.training.data import TrainingFiles
from ML_processing.training.description import TrainingDescription, describe
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model.entries import inputs_of, outside_of
from MLTools.NanoML.schema.plain import build


def changed(run: Path, directory: Path, **changes: Any) -> Path:
    """A copy of training.json with changes; None takes an entry out."""
    content = json.loads((run / "training.json").read_text()) | changes
    directory.mkdir()
    kept = {key: value for key, value in content.items() if value is not None or key not in changes}
    (directory / "training.json").write_text(json.dumps(kept))
    return directory


def test_json_and_back(whole: Path) -> None:
    content = json.loads((whole / "training.json").read_text())
    description = TrainingDescription.read(whole)
    again = json.loads(json.dumps(description.to_json()))
    assert again == content
    assert list(again) == list(content)
    assert build(TrainingDescription, again) == description
    assert description.complete
    assert description.shape.features == ("x", "y")
    assert description.signal_index == 0


def test_a_setting_that_an_older_training_does_not_have(whole: Path, tmp_path: Path) -> None:
    config = json.loads((whole / "training.json").read_text())["config"]
    del config["tracking"]
    description = TrainingDescription.read(changed(whole, tmp_path / "older", config=config))
    assert description.config == TrainingDescription.read(whole).config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, r"schema 2, this NanoML reads 1. Remove .*older and run `nanoml train`"),
        ({"classes": None}, r"training.json: is damaged \(.*\). Remove .*older and run `nanoml train` again"),
        ({"data": {"sha256": "0"}}, r"training.json: is damaged"),
    ],
)
def test_what_cannot_be_read(whole: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        TrainingDescription.read(changed(whole, tmp_path / "older", **changes))


def test_the_values_of_the_inputs(toy: Callable[..., Path], quick: Train) -> None:
    random, other = np.random.default_rng(5), np.arange(3000) % 2
    x = np.where(other, random.uniform(20, 40, 3000), random.uniform(0, 30, 3000))
    x[7] = 1e6  # an outlier
    y = np.where(random.random(3000) < 0.1, -999.0, random.normal(0, 1, 3000))
    z = np.where(random.random(3000) < 0.1, np.nan, 2.0)
    file = toy(count=3000, x=x.astype("f4"), y=y.astype("f4"), z=z.astype("f4"))
    table, survey = TrainingFiles.open([file], quick).sample(100, 3)
    domain = {each.name: each for each in inputs_of(describe(table, survey, [file], quick, torch.device("cpu")).domain)}
    assert domain["x"].low == pytest.approx(-0.2, abs=0.15)
    assert 40 < domain["x"].high < 60
    assert domain["x"].outside == pytest.approx(1 / 1500, rel=0.01)
    assert domain["x"].limit == pytest.approx((4 + 3 * 3**0.5) / 1500, rel=0.01)
    assert domain["x"].quantiles == pytest.approx((0.06, 9.6, 25, 33.6, 40), abs=1.5)
    assert (domain["y"].missing, domain["y"].may_be_missing, domain["y"].outside) == ((-999.0,), False, 0)
    assert -5 < domain["y"].low < -2.5
    assert (domain["z"].low, domain["z"].high, domain["z"].may_be_missing) == (1.998, 2.002, True)


def test_no_alarm_for_more_events_of_the_same_kind(toy: Callable[..., Path], quick: Train) -> None:
    random = np.random.default_rng(5)
    draws = {"x": lambda n: random.exponential(50, n), "y": random.standard_cauchy, "z": lambda n: random.poisson(2, n)}
    file = toy(count=3000, **{name: draw(3000).astype("f4") for name, draw in draws.items()})
    table, survey = TrainingFiles.open([file], quick).sample(100, 3)
    domain = describe(table, survey, [file], quick, torch.device("cpu")).domain
    for size in (30, 1000, 100_000):
        rows = np.column_stack([draws[each.name](size) for each in inputs_of(domain)]).astype("f4")
        for factor, is_alarmed in ((1, False), (40, True)):
            found = outside_of(domain, {"features": factor * rows}).sum(axis=0).tolist()
            exceeded = [it.is_exceeded(number, size) for it, number in zip(inputs_of(domain), found, strict=True)]
            assert exceeded == [is_alarmed] * 3 or (is_alarmed and size == 30)
