"""Discriminants of networks with classes in an order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ML_processing.events.survey import Survey
from ML_processing.metrics.roc import auc
from ML_processing.models.discriminant import BoundDiscriminant, discriminants_of, notes_on, signal_of
from ML_processing.training.data import TrainingFiles
from ML_processing.training.train import train
from MLTools.NanoML.config.training import DISCRIMINANT, Against, Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Discriminant

pytestmark = pytest.mark.usefixtures("no_plots")

CLASSES = ["ZG", "signal", "WZ", "fakes"]
SOME = BoundDiscriminant(Discriminant("d", "signal", {"signal": 2, "WZ": 3, "ZG": 1}), CLASSES)
ALONE = BoundDiscriminant.probability("signal", CLASSES)


def probabilities(count: int = 300) -> np.ndarray:
    return np.random.default_rng(1).dirichlet(np.ones(4), count).astype(np.float32)


def test_classes_without_a_share_do_not_count() -> None:
    assert SOME.signal == 1
    assert SOME.backgrounds == [0, 2]
    assert SOME.shares.tolist() == [1, 2, 3, 0]
    assert SOME.counts(np.array([3, 0, 1])).tolist() == [False, True, True]


def test_values() -> None:
    p = probabilities()
    assert SOME.values(p) == pytest.approx(2 * p[:, 1] / (p[:, 0] + 2 * p[:, 1] + 3 * p[:, 2]), rel=1e-6)
    assert (ALONE.values(p) == p[:, 1]).all()


@pytest.mark.parametrize("discriminant", [SOME, ALONE], ids=["some", "alone"])
def test_log_odds(discriminant: BoundDiscriminant) -> None:
    p = probabilities()
    found = torch.sigmoid(discriminant.log_odds(torch.log(torch.from_numpy(p)) + 7)).numpy()
    assert found == pytest.approx(discriminant.values(p), rel=1e-5)


def test_area_is_of_the_events_that_count() -> None:
    p, random = probabilities(), np.random.default_rng(2)
    labels, weights = random.integers(0, 4, 300), random.normal(1, 0.5, 300).astype(np.float32)
    use = labels < 3
    score, other, truth = SOME.values(p)[use], p[use, 1], labels[use] == 1
    assert SOME.area(p, labels, weights) == auc(score, truth, weights[use])
    exchanged = p[:, [0, 2, 1, 3]]
    found = SOME.area_difference(p, exchanged, labels, weights)
    areas = [SOME.area(each, labels, weights).value or 0 for each in (p, exchanged)]
    assert found.value == pytest.approx(areas[0] - areas[1])
    assert auc(other, truth, weights[use]) != auc(score, truth, weights[use])


def test_words() -> None:
    assert SOME.text == "discriminant d, signal against ZG (25 %) and WZ (75 %)"
    two = BoundDiscriminant.probability("a", ["b", "a"])
    assert two.label == "Probability of a"
    alone = BoundDiscriminant(Discriminant(DISCRIMINANT, "a", {"a": 1.0, "b": 1.0}), ["b", "a"])
    assert (alone.title, alone.label) == ("discriminant", "Discriminant")
    assert two.text == "probability of a, a against b"


def survey_of(files: list[Path], sums: list[float], physical: bool = True) -> Survey:
    """The survey of the example's three classes, with these sums of weights."""
    survey = TrainingFiles.open(files, Train()).sample(100, 5)[1]
    datasets = survey.about.datasets
    if physical:
        datasets = tuple(replace(each, cross_section=1.0, luminosity=1.0) for each in datasets)
    about = replace(survey.about, datasets=datasets)
    return replace(survey, about=about, sums=np.outer(sums, np.full(5, 0.2)))


def test_signal() -> None:
    assert signal_of(Train(), ["WZ", "signal"]) == "signal"
    assert signal_of(Train(), ["WZ", "ZG"]) == "WZ"
    assert signal_of(Train(signal="ZG"), ["WZ", "ZG"]) == "ZG"
    assert signal_of(Train(discriminants={"a": "ZG", "b": "WZ"}), ["WZ", "ZG"]) == "ZG"
    assert signal_of(Train(discriminants={"a": Against("ZG")}), ["WZ", "ZG"]) == "ZG"
    with pytest.raises(ConfigError, match=r'train.signal: "ZZ" is not a class. Known: WZ, ZG'):
        signal_of(Train(signal="ZZ"), ["WZ", "ZG"])
    with pytest.raises(ConfigError, match=r'train.discriminants.a: "ZZ" is not a class. Known: WZ, ZG'):
        signal_of(Train(discriminants={"a": "ZZ"}), ["WZ", "ZG"])


def test_expected_shares(files: list[Path]) -> None:
    survey = survey_of(files, [0.5, 30, 10])
    (found,) = discriminants_of(Train(), survey)
    assert (found.name, found.signal) == (DISCRIMINANT, "signal")
    assert found.shares == pytest.approx({"signal": 1, "WZ": 0.75, "ZG": 0.25})
    assert discriminants_of(Train(discriminants={DISCRIMINANT: "signal"}), survey) == (found,)
    assert not notes_on((found,), Train(), survey)


def test_given_shares(files: list[Path]) -> None:
    wanted = {"a": Against("WZ", {"signal": 3, "ZG": 1}), "b": Against("ZG", {"WZ": 4, "ZG": 2})}
    a, b = discriminants_of(Train(discriminants=wanted), survey_of(files, [0.5, 30, -10]))
    assert a.shares == {"WZ": 1, "signal": 0.75, "ZG": 0.25}
    assert b.shares == {"ZG": 2, "WZ": 1}


def test_without_cross_sections(files: list[Path]) -> None:
    survey = survey_of(files, [0.5, 30, -10], physical=False)
    (found,) = discriminants_of(Train(), survey)
    assert found.shares == {"signal": 1, "WZ": 0.5, "ZG": 0.5}
    (note,) = notes_on((found,), Train(), survey)
    assert "takes all backgrounds to be equally frequent" in note
    given = Train(discriminants={DISCRIMINANT: Against("signal", {"WZ": 2, "ZG": 1})})
    assert not notes_on(discriminants_of(given, survey), given, survey)


@pytest.mark.parametrize(
    ("discriminants", "message"),
    [
        ({}, r'needs the share of class "ZG", but its [0-9,]+ events have the sum of weights -10. Give train.discriminants.*shares'),
        ({"a": "signal"}, r'the discriminant a needs the share of class "ZG"'),
        ({"a": Against("signal", {"ZZ": 1})}, r'train.discriminants.a.shares: "ZZ" is not a class. Known: signal, WZ, ZG'),
        ({"WZ": "signal"}, r"train.discriminants.WZ: a class has this name"),
    ],
)  # fmt: skip
def test_what_cannot_be(files: list[Path], discriminants: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        discriminants_of(Train(discriminants=discriminants), survey_of(files, [0.5, 30, -10]))


def test_other_shares_need_no_training(files: list[Path], tmp_path: Path) -> None:
    """The networks are those of before, and the description has the new shares."""
    settings = Train("mlp", epochs=1, folds=1, discriminants={"a": Against("signal", {"WZ": 1, "ZG": 1})})
    train(files, settings, tmp_path)
    before = (tmp_path / "network_0.pt").stat().st_mtime_ns, (tmp_path / "training.json").read_text()
    train(files, replace(settings, discriminants={"a": Against("signal", {"WZ": 3, "ZG": 1})}), tmp_path)
    after = (tmp_path / "network_0.pt").stat().st_mtime_ns, (tmp_path / "training.json").read_text()
    assert before[0] == after[0]
    assert '"WZ": 0.5' in before[1]
    assert '"WZ": 0.75' in after[1]
