"""The closure of ratios of densities: of exact ones, and of wrong ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ML_processing.evaluation.closure_figures import draw_closure
from ML_processing.events.inputs import Inputs
from ML_processing.export.ratios import closure_of
from ML_processing.training.ratios import RatioTraining, description_of
from ML_processing.training.result import ResultEvents
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.closure import RatioClosure
from MLTools.NanoML.model import CLASSES, RATIOS
from MLTools.NanoML.report.section import PRIVATE_WORK
from services.shiftedbackground import MEANS, ShiftedBackground

pytestmark = pytest.mark.exhaustive("each section and answer of the report")

UNSCALED = Train("mlp", options={"hidden": [4]}, scaling="none", folds=3, device="cpu")


class Exact(nn.Module):
    """The logarithms of the densities of the toy, and of the ratios of the third class under its shift, which is 0.3."""

    def __init__(self, shift: float, tilt: float) -> None:
        super().__init__()
        self.shift, self.tilt = shift, tilt

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        x = inputs.features.double()
        means = torch.tensor(MEANS)
        moved = torch.stack([means[2] - torch.tensor([sign * self.shift, 0.0]) for sign in (1, -1)])
        plain, varied = (-((x[:, None] - it) ** 2).sum(dim=2) / 2 for it in (means, moved))
        ratios = torch.cat([torch.zeros(len(x), 4), varied - plain[:, 2:]], dim=1)
        return {CLASSES: plain + self.tilt * x[:, :1] * torch.tensor([1.0, 0, 0]), RATIOS: ratios.float()}


def closed(path: Path, count: int, shift: float = 0.3, tilt: float = 0.0, seeds: int = 1) -> RatioClosure:
    target = ShiftedBackground(of_objects=True).write(path, count, seed=2)
    events = ResultEvents.read(replace(UNSCALED, target=target), {"signal"})
    device = torch.device("cpu")
    training = RatioTraining(UNSCALED, description_of(events, [path], UNSCALED, device), events, device)
    networks = [[training.network() for _ in range(seeds)] for _ in range(3)]
    for fold in networks:
        for seed, network in enumerate(fold):
            network.core = Exact(shift, tilt * (1 - 2 * seed))
    return closure_of(training, networks)


def test_exact_ratios_close_and_chi2_has_its_distribution(tmp_path: Path) -> None:
    found = closed(tmp_path / "events.h5", 4000)
    assert not found.differing
    assert found.text == "all differences in 23 tests may be chance, or are below 5 %."
    assert found.events == pytest.approx(dict.fromkeys(["signal", "known", "shifted"], 4000.0), rel=1e-5)
    chi2 = np.array([(it.chi2, it.ndf) for it in found.tests if it.variation is None or it.process == "shifted"])
    assert chi2[:, 0].sum() == pytest.approx(chi2[:, 1].sum(), abs=4 * (2 * chi2[:, 1].sum()) ** 0.5)
    assert not found.spread
    found.write(tmp_path / "closure.json")
    assert RatioClosure.read(tmp_path / "closure.json") == found


def test_wrong_ratios_do_not(tmp_path: Path) -> None:
    found = closed(tmp_path / "events.h5", 4000, shift=0.0)
    assert {(it.process, it.variation) for it in found.differing} == {("shifted", "placeUp"), ("shifted", "placeDown")}
    worst = found.differing[0]
    assert worst.quantity == "x"
    assert found.text.startswith("2 of 21 tests differ by more than chance and 5 %, most shifted under placeUp in x: ")
    tilted = closed(tmp_path / "events.h5", 4000, tilt=0.2)
    assert {it.process for it in tilted.differing if it.variation is None} >= {"signal"}
    assert abs(tilted.factors["signal"] - 1) > 0.02


def test_the_spread_of_seeds_and_their_mean(tmp_path: Path) -> None:
    found = closed(tmp_path / "events.h5", 1000, tilt=0.2, seeds=2)
    assert found.spread["signal"] > 10 * found.spread["varied_shifted_placeUp"]
    assert 0.02 < found.spread["signal"] < 0.3


def test_figures_are_drawn_and_named_with_how_to_read_them(tmp_path: Path, white_figures: None) -> None:
    found = closed(tmp_path / "events.h5", 300)
    draw_closure(found, tmp_path, "SR", PRIVATE_WORK)
    assert [it.name for it in found.figures("SR")] == ["SR_classes", "SR_variations"]
    assert [len(it.tests) for it in found.figures("SR")] == [9, 12]
    assert all((tmp_path / f"{it.name}{end}").exists() for it in found.figures("SR") for end in (".png", ".json"))
