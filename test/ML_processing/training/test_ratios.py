"""Ratios of densities by networks, against those of a toy that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ML_processing.events.inputs import Shape
from ML_processing.training.ratios import RatioLoss, RatioTraining, of_channel
from ML_processing.training.result import ResultEvents
from MLTools.NanoML.config.fit import EVERYWHERE, Fit
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.densities import UnbinnedChannel
from MLTools.NanoML.contracts.templates import FilledHistogram, TemplateAxis, Templates
from MLTools.NanoML.errors import NanoMLError
from services.shiftedbackground import MEANS, YIELDS, ShiftedBackground
from services.toys import Floats, gaussian

QUICK = Train(
    "mlp", options={"hidden": [32, 32], "dropout": 0.0}, learning_rate=5e-3, epochs=12, patience=12, device="cpu"
)


def events(path: Path, count: int, of_objects: bool = False) -> ResultEvents:
    target = ShiftedBackground(of_objects=of_objects).write(path, count, seed=1)
    return ResultEvents.read(replace(QUICK, objective="result", target=target), {"signal": None})  # type: ignore[dict-item]


def trained(path: Path, of_objects: bool) -> tuple[ResultEvents, UnbinnedChannel]:
    """The events, and the channel by the networks of three folds."""
    found = of_channel(events(path / "events.h5", 10_000, of_objects), 0)
    training = RatioTraining(QUICK, Shape(("x", "y"), (), 3), found, 3, torch.device("cpu"))
    networks = {fold: [training.train(fold, path, lambda _, __: None)] for fold in range(3)}
    channel, closure = training.densities(networks)
    assert all(abs(it - 1) < 0.05 for it in closure.values())
    return found, channel


def distance(one: Floats, other: Floats, weights: Floats) -> float:
    """The root of the mean square of the difference."""
    return float(np.sqrt(weights @ (one - other) ** 2 / weights.sum()))


@pytest.mark.parametrize("of_objects", [False, True], ids=["weights", "shifts"])
def test_ratios_are_those_of_the_densities(tmp_path: Path, of_objects: bool) -> None:
    """And so is the uncertainty of the signal strength, but for the size of the reference."""
    found, channel = trained(tmp_path, of_objects)
    x, widths = found.table.features[found.varied[:, 0] != 0].astype(float), channel.widths
    assert widths.sum() == pytest.approx(1)
    each = np.stack([gaussian(x, mean, 1.0) for mean in MEANS])
    for name, total, mine in zip(found.table.classes, YIELDS, each / each.mean(axis=0), strict=True):
        nominal = channel.processes[name].nominal
        assert channel.total(nominal) == pytest.approx(total, rel=1e-5)
        assert distance(nominal / total, mine, widths) < 0.06
    toy, moved = ShiftedBackground(), channel.processes["shifted"]
    for side, sign in ((moved.up, 1), (moved.down, -1)):
        logarithm, truth = np.log(side["place"] / moved.nominal), np.log(toy.ratio(x, sign))
        assert distance(logarithm, truth, widths * moved.nominal) < 0.04
        assert distance(0 * truth, truth, widths * moved.nominal) > 0.25
    assert uncertainty(channel) == pytest.approx(toy.best(), rel=0.03)


def uncertainty(channel: UnbinnedChannel) -> float:
    """That of the signal strength, without the statistical errors of yields."""
    pytest.importorskip("jax")
    likelihoods = pytest.importorskip("statistical_analysis.likelihood")
    from statistical_analysis.model import statistical_model
    from statistical_analysis.unbinned import Points
    from statistical_analysis.workspace import workspace

    histogram = FilledHistogram("events", (TemplateAxis("events", (0.0, 1.0)),), (channel.counted,))
    settings = Fit({EVERYWHERE: "events"}, "signal", uncertainties={"known": "1 %"})
    content = workspace(statistical_model(Templates("", (histogram,), (), "signal", {}), settings, {}))
    for sample in content["channels"][0]["samples"]:
        sample["modifiers"] = [it for it in sample["modifiers"] if it["type"] != "staterror"]
    found = likelihoods.Likelihood(content, points=Points.of([channel], settings.named))
    at = found.with_strength(1.0)
    return float(found.covariance(found.expected(at), at)[found.poi, found.poi] ** 0.5)


def test_a_variation_that_changes_nothing_has_no_ratio(tmp_path: Path) -> None:
    loss = RatioLoss(events(tmp_path / "events.h5", 500))
    assert loss.pairs == [(2, 1), (2, 2)]  # the third class, up and down


def test_too_few_events_are_said_before_anything_is_trained(tmp_path: Path) -> None:
    found = events(tmp_path / "events.h5", 1999)
    with pytest.raises(NanoMLError, match="has 1999 events of signal, and a network needs 2000 to learn their density"):
        of_channel(found, 0)
    varied = np.concatenate([found.varied, found.varied, -found.varied])
    table = found.table[np.tile(np.arange(len(found.table)), 3)]
    more = replace(found, table=table, varied=varied, channel=np.tile(found.channel, 3))
    assert of_channel(more, 0).channels == found.channels
    varied[:, 0] = np.where(np.arange(len(varied)) % 5 < 2, -1.0, 1.0)
    with pytest.raises(NanoMLError, match="more than a third of the weights of signal are negative. Fit it in bins"):
        of_channel(more, 0)
