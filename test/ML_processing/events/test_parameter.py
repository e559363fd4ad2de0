"""The parameter of a network: values for events that have none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from ML_processing.events.batches import Events
from ML_processing.events.data import Data
from ML_processing.events.inputs import Inputs
from ML_processing.events.parameter import Parameter
from ML_processing.events.survey import Survey
from ML_processing.events.table import Table
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import NanoMLError

Toy = Callable[..., Path]
MASSES = np.array([600.0, 1000.0, 1000.0, 2000.0])


@pytest.fixture
def sample(toy: Toy) -> tuple[Table, Survey]:
    """4000 events; the odd ones have no mass, and half of the others have 1000."""
    number = np.arange(4000)
    mass = np.where(number % 2, np.nan, MASSES[number // 2 % 4]).astype("f4")
    return Data.open([toy(count=4000, mass=mass, parameter="mass")], Train(parameter="mass")).sample(100, 5)


def test_values_and_shares(sample: tuple[Table, Survey]) -> None:
    found = Parameter.of(sample[1])
    assert found == Parameter("mass", (600.0, 1000.0, 2000.0), (0.25, 0.5, 0.25))
    assert Parameter.from_json(asdict(found)) == found
    assert Parameter.from_json(None) is None


def test_no_parameter(toy: Toy) -> None:
    assert Parameter.of(Data.open([toy()], Train()).sample(100, 5)[1]) is None


def test_filled_by_the_event_alone(sample: tuple[Table, Survey]) -> None:
    table, survey = sample
    parameter = Parameter.of(survey)
    assert parameter is not None
    filled = parameter.filled(table)
    own = ~np.isnan(table.features[:, -1])
    assert np.array_equal(filled[own], table.features[own])
    shares = [(filled[~own, -1] == value).mean() for value in parameter.values]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
    for fold in range(5):  # nor does it depend on the fold
        some = filled[~own & (table.folds(5) == fold), -1]
        assert [(some == value).mean() for value in parameter.values] == pytest.approx([1 / 3] * 3, abs=0.08)
    rows = np.array([3999, 5, 17])
    assert np.array_equal(parameter.filled(table[rows]), filled[rows])


def test_every_value_has_the_same_weight(sample: tuple[Table, Survey]) -> None:
    table, survey = sample
    parameter = Parameter.of(survey)
    assert parameter is not None
    balance, mass = parameter.balance(table), table.features[:, -1]
    totals = [(table.weights * balance)[mass == value].sum() for value in parameter.values]
    assert totals == pytest.approx([table.weights[~np.isnan(mass)].sum() / 3] * 3)
    assert (balance[np.isnan(mass)] == 1).all()


def test_a_value_without_weight(sample: tuple[Table, Survey]) -> None:
    survey = sample[1]
    survey.parameters[600.0] = -1.0
    with pytest.raises(NanoMLError, match=r"the weights of the events with mass 600 sum to -1, so"):
        Parameter.of(survey)


def test_drawn_anew_in_place(sample: tuple[Table, Survey]) -> None:
    table, survey = sample
    parameter = Parameter.of(survey)
    assert parameter is not None
    features, nothing = torch.from_numpy(table.features.copy()), torch.empty(0)
    free = torch.isnan(features[:, -1])
    labels, none = torch.from_numpy(table.labels), torch.empty(4000, 0)
    events = Events(Inputs(features, {}), labels, torch.ones(4000), none, nothing, free)
    scaled = torch.tensor([-1.0, 0.0, 1.0])
    drawn = []
    for seed in (1, 1, 2):
        parameter.redraw(events, scaled, torch.Generator().manual_seed(seed))
        drawn.append(features[free, -1].clone())
    shares = [float((drawn[0] == value).float().mean()) for value in scaled]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert np.array_equal(features[~free].numpy(), table.features[~free.numpy()])
