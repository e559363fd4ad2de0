from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ML_processing.export.export import check_parity
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description, Input, ModelFormat, ObjectInput, Reference
from MLTools.NanoML.model.trials import SIZES, Outcomes, Trial, trials

JETS = ObjectInput("Jet", ("Jet_pt",), (), None, (), "Jet_mask", "Jet", 6, "-pt")
READ = (Input("features", ("x", "y"), (), None, ()), (JETS,))
GIVEN = (("probabilities", "fold_probabilities"), "classes", ("signal", "other"), ())
DESCRIPTION = Description(
    "toy", "event", None, *READ, *GIVEN, 1, "", None, ModelFormat(None, None, None, None), {}, Reference({}, [])
)


def sample() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    mask = (np.arange(6) < random.integers(0, 7, (20, 1))).astype("f4")
    jets = (random.exponential(50, (20, 6)) * mask).astype("f4")[..., None]
    return {"features": random.normal(0, 1, (20, 2)).astype("f4"), "Jet": jets, "Jet_mask": mask}


class Toy(nn.Module):
    """Robust, and strong in its reaction by `gain`, which is applied to the sum or, `apart`, to its parts."""

    def __init__(self, gain: float = 1.0, apart: bool = False) -> None:
        super().__init__()
        self.gain, self.apart = gain, apart

    def forward(self, features: Tensor, jets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        safe = [torch.clamp(torch.nan_to_num(each, posinf=10, neginf=-10), -10, 10) for each in (features, jets)]
        parts = safe[0][:, 0] / 3, safe[0][:, 1] / 3 + (safe[1][..., 0] * mask).sum(dim=1) / 700
        x = self.gain * parts[0] + self.gain * parts[1] if self.apart else self.gain * (parts[0] + parts[1])
        mean = torch.softmax(torch.stack([x, torch.zeros_like(x)], dim=1), dim=1)
        return mean, mean.unsqueeze(1)


def outcomes(tried: list[Trial], change: Any = lambda trial, size, found: found, network: Any = None) -> Outcomes:
    """What a right model gives, or what becomes of it."""
    found: Outcomes = {}
    network = network or Toy()
    for trial in tried:
        for size in SIZES:
            feeds = [torch.from_numpy(trial.rows(size)[name]) for name in DESCRIPTION.input_tensors]
            outputs = [output.numpy() for output in network(*feeds)]
            found[trial.name, size] = change(trial, size, outputs)
    return found


def test_trials_are_what_they_are_called() -> None:
    tried = {trial.name: trial.feeds for trial in trials(DESCRIPTION, sample())}
    assert 1 in SIZES
    for feeds in tried.values():
        assert all(values.dtype == np.float32 and len(values) == max(SIZES) for values in feeds.values())
        assert feeds["Jet"].shape[:2] == feeds["Jet_mask"].shape
    real = tried["real events"]
    assert np.array_equal(real["features"][:20], sample()["features"])
    objects = real["Jet_mask"] > 0
    nan = tried["events with NaN"]
    assert 0.2 < np.isnan(nan["features"]).mean() < 0.4
    assert 0.2 < np.isnan(nan["Jet"][objects]).mean() < 0.4
    assert not nan["Jet"][~objects].any()
    assert np.isinf(tried["infinity"]["features"]).all()
    assert np.isinf(tried["infinity"]["Jet"][objects]).all()
    assert tried["as many objects as there may be"]["Jet_mask"].all()
    assert tried["as many objects as there may be"]["Jet"].all()
    assert not tried["no objects"]["Jet_mask"].any()
    assert tried["no objects, in tensors of this length"]["Jet"].shape == (300, 0, 1)
    assert tried["1 object at most, in tensors of this length"]["Jet"].shape == (300, 1, 1)
    assert tried["3 objects at most"]["Jet_mask"].sum(axis=1).max() == 3
    assert tried["3 objects at most, in tensors of this length"]["Jet_mask"].shape == (300, 3)
    assert tried["padding with numbers in it"]["Jet"][~objects].all()


def test_a_right_export() -> None:
    tried = trials(DESCRIPTION, sample())
    assert check_parity(Toy(), tried, outcomes(tried), DESCRIPTION) < 1e-6


def late(trial: Trial, size: int, found: Any) -> Any:
    if trial.name == "no objects" and size == 300:
        found = [found[0], found[1].copy()]
        found[1][123] += 0.01
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            late,
            r'differs from the network on "no objects", 300 events: fold_probabilities of event 123 is \[.*\] '
            r"instead of \[.*\]; a difference of 1e-06 is allowed",
        ),
        (
            lambda trial, size, found: [found[0] * np.nan, found[1]] if trial.name == "events with NaN" else found,
            r'"events with NaN", 1 event: probabilities of event 0 is \[nan, nan\]',
        ),
        (
            lambda trial, size, found: [found[0], found[1].repeat(2, axis=1)],
            r"fold_probabilities has the shape \(1, 2, 2\) instead of \(1, 1, 2\)",
        ),
        (
            lambda trial, size, found: "of one size only" if size == 7 else found,
            '"real events", 7 events: ONNX Runtime fails: of one size only',
        ),
    ],
)
def test_the_failure_names_input_size_and_event(change: Callable[..., Any], message: str) -> None:
    tried = trials(DESCRIPTION, sample())
    with pytest.raises(NanoMLError, match=message):
        check_parity(Toy(), tried, outcomes(tried, change), DESCRIPTION)


def test_a_network_that_fails_itself() -> None:
    class Failing(Toy):
        def forward(self, features: Tensor, jets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            jets.amax(dim=1)
            return super().forward(features, jets, mask)

    tried = trials(DESCRIPTION, sample())
    message = 'the network fails on "no objects, in tensors of this length", 300 events: '
    with pytest.raises(NanoMLError, match=message):
        check_parity(Failing(), tried, outcomes(tried), DESCRIPTION)


def test_the_rounding_of_float32_is_allowed_for() -> None:
    tried = trials(DESCRIPTION, sample())
    found = outcomes(tried, network=Toy(1000, apart=True))
    assert 1e-6 < check_parity(Toy(1000), tried, found, DESCRIPTION) < 1e-2
