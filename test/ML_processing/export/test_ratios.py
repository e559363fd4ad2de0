"""Ratios of densities as a model, against those of a toy that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ML_processing.export import ratios
from ML_processing.export.ratios import learn_ratios
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.closure import RATIO, RatioClosure
from MLTools.NanoML.model import Model
from services.shiftedbackground import CLASSES, MEANS, ShiftedBackground, write_events
from services.toys import Floats, gaussian
from services.trainings import QUICK

TRAIN = replace(QUICK, options={"hidden": [32, 32], "dropout": 0.0}, batch_size=512, epochs=4)


def learned(path: Path, count: int, config: Train, seeds: int, is_varied: bool = True) -> RatioClosure:
    target = ShiftedBackground().write(path / "events.h5", count, seed=1)
    if not is_varied:
        label = np.arange(3 * count) % 3
        x = np.random.default_rng(1).normal(MEANS[label], 1.0)
        write_events(path / "events.h5", CLASSES, label, np.ones(len(label)), x, {})
    return learn_ratios([path / "events.h5"], config, target, seeds, None, path / "SR.onnx")


def distance(one: Floats, other: Floats, weights: Floats) -> float:
    """The root of the mean square of the difference."""
    return float(np.sqrt(weights @ (one - other) ** 2 / weights.sum()))


def test_the_model_gives_the_ratios_of_the_densities(tmp_path: Path) -> None:
    closure = learned(tmp_path, 3000, TRAIN, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"events.h5", "SR.onnx", "SR.json"}
    model = Model(tmp_path / "SR.onnx")
    about = model.description
    assert about.name == "ratios_SR"
    assert about.outputs == tuple(CLASSES)
    assert [it.outputs for it in about.heads] == [("varied_shifted_placeUp", "varied_shifted_placeDown")]
    assert about.training["metrics"]["seeds"] == 2
    x = np.random.default_rng(7).normal(MEANS[np.arange(6000) % 3], 1.0).astype("f4")
    found = model.scores({"x": x[:, 0], "y": x[:, 1]}).astype(float)
    each = np.stack([gaussian(x.astype(float), mean, 1.0) for mean in MEANS])
    ratio = dict(zip(about.output_columns, found.T, strict=True))
    for name, mine in zip(CLASSES, each / each.mean(axis=0), strict=True):
        assert distance(3 * ratio[name], mine, np.ones(len(x))) < 0.1
    toy = ShiftedBackground()
    for side, sign in (("Up", 1), ("Down", -1)):
        truth = np.log(toy.ratio(x.astype(float), sign))
        assert distance(np.log(ratio[f"varied_shifted_place{side}"]), truth, each[2]) < 0.07
        assert distance(0 * truth, truth, each[2]) > 0.2
    assert all(abs(it - 1) < 0.05 for it in closure.factors.values())
    assert all(0 < it < 0.2 for it in closure.spread.values())
    assert {it.quantity for it in closure.tests} == {"x", "y", RATIO}
    assert not [it for it in closure.differing if it.difference > 0.15]


def test_an_interrupted_training_goes_on_another_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of events without variations."""
    quick, kept = replace(TRAIN, epochs=1), tmp_path / "SR" / "network_0.pt"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for settings, is_taken in ((quick, True), (replace(quick, learning_rate=1e-3), False)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(ratios, "closure_of", stop)
            learned(tmp_path, 300, quick, 1, is_varied=False)
        content = torch.load(kept, weights_only=True)
        for name, values in content["network"].items():
            content["network"][name] = values * (not name.startswith("core."))
        torch.save(content, kept)
        learned(tmp_path, 300, settings, 1, is_varied=False)
        assert not kept.parent.exists()
        model = Model(tmp_path / "SR.onnx")
        assert model.description.output_columns == CLASSES
        found = model.scores({name: np.array([0.0, 3]) for name in "xy"}, np.array([0, 0]))
        assert (found[0] == pytest.approx(found[1])) == is_taken
