"""What the report says of made-up analyses, each with one fault that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.report import figures
from services.evaluations import draw_only
from services.situations import Analysis, Sample, trained, verdict

pytestmark = pytest.mark.exhaustive("each section and answer of the report")

Answers = Mapping[str, Mapping[str, str]]
TOY = Analysis(seed=5)
COUNT = 3000


@pytest.fixture(scope="module", autouse=True)
def no_plots() -> Iterator[None]:
    """They take longer than all else here."""
    with pytest.MonkeyPatch.context() as patch:
        draw_only(patch)
        patch.setattr(figures, "save", lambda figure, stem, numbers=None: stem.with_suffix(".png").write_bytes(b""))
        yield


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("situations")


@pytest.fixture(scope="module")
def good(directory: Path) -> tuple[Path, Path]:
    """The training without a fault, and its events."""
    return trained(directory / "good", TOY.sample(COUNT, 1))


def of_training(directory: Path, sample: Sample, epochs: int = 5, **changes: Any) -> Answers:
    return verdict(*trained(directory, sample, epochs=epochs, **changes))


def test_nothing_is_wrong_with_a_good_one(good: tuple[Path, Path], directory: Path) -> None:
    answers = verdict(*good, compare=[TOY.sample(COUNT, 2).write(directory / "same.h5")])
    states = {question: it["state"] for question, it in answers.items()}
    assert not {question: state for question, state in states.items() if state in ("look", "bad")}
    assert states["Duplicate events?"] == states["Default values?"] == states["Like the compared files?"] == "good"


def test_leak(tmp_path: Path) -> None:
    sample = TOY.sample(COUNT, 1)
    leaking = sample.having(leak=(sample.labels == 0) + 0.05 * np.random.default_rng(1).normal(size=COUNT))
    answer = of_training(tmp_path, leaking, epochs=15)["Too good to be true?"]
    assert answer["state"] == "bad"
    assert "The most important input is leak" in answer["text"]


def doubled(sample: Sample) -> Sample:
    """All events twice, under other numbers."""
    return sample[np.concatenate([np.arange(len(sample))] * 2)]


def test_duplicates(tmp_path: Path) -> None:
    answer = of_training(tmp_path, doubled(TOY.sample(COUNT // 2, 1)))["Duplicate events?"]
    assert answer["state"] == "bad"
    copies = int(answer["text"].split(" of ")[0].replace(",", ""))
    assert copies == pytest.approx(COUNT / 3 * 2 / 3, rel=0.1)  # a third of the pairs share their fold


def test_a_sample_that_is_in_two_classes(tmp_path: Path) -> None:
    sample = TOY.sample(COUNT, 1)
    both = doubled(sample[sample.labels == 1])
    both.labels[: len(both) // 2] = 2
    rest = sample[sample.labels != 1]
    inputs = {name: np.concatenate([values, both.inputs[name]]) for name, values in rest.inputs.items()}
    labels, weights = (np.concatenate([getattr(it, name) for it in (rest, both)]) for name in ("labels", "weights"))
    answers = of_training(tmp_path, replace(rest, inputs=inputs, labels=labels, weights=weights))
    assert "of them of one in another class" in answers["Duplicate events?"]["text"]


def test_few_and_discrete_inputs_are_no_duplicates(tmp_path: Path) -> None:
    sample = Analysis(gaussian=0, exponential=0, counts=4, seed=3).sample(COUNT, 1)
    assert of_training(tmp_path, sample)["Duplicate events?"]["state"] == "good"


def test_default_values_come_before_the_learning_rate(tmp_path: Path) -> None:
    """-999 in a few whole numbers is not recognised, and takes up the scale of the input."""
    sample = TOY.sample(COUNT, 1)
    random = np.random.default_rng(1)
    counts = [random.poisson(1.0 + 2 * (sample.labels == i)) for i in range(3)]
    inputs = {f"n{i}": np.where(random.random(COUNT) < 0.4, -999, it) for i, it in enumerate(counts)}
    answers = of_training(tmp_path, replace(sample, inputs=inputs), epochs=15)
    default = answers["Default values?"]
    assert default["state"] == "look"
    assert default["text"].count("far from all else") == 3
    assert '"missing: {n' in default["text"]
    poor = answers["Better than a BDT?"]
    assert poor["state"] == "bad"
    first, then = poor["text"].split("First see to ")[1].split("If it stays worse: ")
    assert "is exactly -999 in" in first
    assert "train.learning_rate" in then


def test_a_spike_of_one_class(tmp_path: Path) -> None:
    sample = TOY.sample(COUNT, 1)
    spike = (sample.labels == 2) & (np.random.default_rng(1).random(COUNT) < 0.4)
    spiky = sample.having(x1=np.where(spike, 0.5, sample.inputs["x1"]))
    answer = of_training(tmp_path, spiky)["Default values?"]
    assert answer["state"] == "look"
    assert "x1 is exactly 0.5 in" in answer["text"]
    assert "of ZG and 0% of" in answer["text"]


def test_a_shift_of_an_input(good: tuple[Path, Path], tmp_path: Path) -> None:
    """By 0.3 standard deviations, in a file of another size."""
    other = TOY.sample(COUNT + 600, 2)
    file = other.having(x1=other.inputs["x1"] + 0.3).write(tmp_path / "other.h5")
    answer = verdict(*good, compare=[file])["Like the compared files?"]
    assert answer["state"] in ("look", "bad")
    assert "Shifted: x1 by +0." in answer["text"]
    assert "they differ in x1" in answer["text"]


def test_an_era_that_differs(good: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = TOY.sample(COUNT, 2), TOY.sample(COUNT, 3)
    random = np.random.default_rng(1)
    broken = {name: random.permutation(second.inputs[name]) for name in ("x0", "x1")}
    eras = {"2017": [first.write(tmp_path / "2017.h5")], "2018": [second.having(**broken).write(tmp_path / "2018.h5")]}
    answer = verdict(*good, eras=eras)["The same in all eras?"]
    assert answer["state"] == "look"
    eras = {"2017": [good[1]], "2018": [tmp_path / "2017.h5"]}
    assert verdict(*good, eras=eras)["The same in all eras?"]["state"] in ("good", "open")


def test_classes_that_nothing_separates(tmp_path: Path) -> None:
    random, labels = np.random.default_rng(1), np.arange(2 * COUNT) % 2
    inputs = {name: random.normal(size=2 * COUNT) for name in "abc"}
    answers = of_training(tmp_path, Sample(inputs, labels, np.ones(2 * COUNT), 2))
    assert answers["Separated?"]["state"] == "bad"
    assert "nothing separates them, so longer training will not" in answers["Separated?"]["text"]
    assert "learning_rate" not in answers["Better than a BDT?"]["text"]


def test_a_mislabelled_class(tmp_path: Path) -> None:
    """Events of WZ are called ZG."""
    sample, source = TOY.sample(2 * COUNT, 1), TOY.sample(4 * COUNT, 4)
    of_wz = {name: values[source.labels == 1] for name, values in source.inputs.items()}
    wrong = sample.labels == 2
    inputs = {name: values.copy() for name, values in sample.inputs.items()}
    for name, values in inputs.items():
        values[wrong] = of_wz[name][: wrong.sum()]
    answer = of_training(tmp_path, replace(sample, inputs=inputs), epochs=15)["Separated?"]
    assert answer["state"] == "look"
    assert answer["text"].startswith("AUC of WZ and ZG")


def test_overtraining_and_probabilities_that_are_too_sure(tmp_path: Path) -> None:
    options = {"hidden": [128, 128], "dropout": 0.0}
    sample = TOY.sample(600, 1, distance=0.2)
    answers = of_training(tmp_path, sample, epochs=60, patience=100, learning_rate=0.01, options=options)
    assert answers["Overtrained?"]["state"] == "bad"
    assert answers["Calibrated?"]["state"] == "bad"


def test_too_few_epochs(tmp_path: Path) -> None:
    answer = of_training(tmp_path, TOY.sample(COUNT, 1), epochs=1, learning_rate=0.0003)["Better than a BDT?"]
    assert answer["state"] == "bad"
    assert "No duplicates, default values or leaks are to blame." in answer["text"]
    assert "3 of 3 networks were at their best in their last epoch" in answer["text"]


def test_wrong_weights(tmp_path: Path) -> None:
    sample = TOY.sample(COUNT, 1)
    sample.weights[[10, 100, 301]] *= 500
    answer = of_training(tmp_path, sample)["Enough events?"]
    assert answer["state"] in ("look", "bad")
    assert "of the sum: check its cross section and genWeight" in answer["text"]


def test_negative_weights(tmp_path: Path) -> None:
    sample = replace(TOY, negative=0.4).sample(COUNT, 1)
    answer = of_training(tmp_path, sample, negative_weights="reweight")["Enough events?"]
    assert answer["state"] in ("look", "bad")
    assert "% of the weights are negative" in answer["text"]
