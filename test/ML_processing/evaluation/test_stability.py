"""The same networks on the simulation of each era."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from ML_processing.evaluation.scored import OutOfFold
from ML_processing.evaluation.sections.stability import Eras, Repeat, Repeats, repeated
from ML_processing.metrics.measured import Measured
from ML_processing.metrics.roc import auc
from ML_processing.requests import RepeatRequest, repeats_of
from ML_processing.training import result_training
from ML_processing.training import train as training_module
from ML_processing.training.data import read
from ML_processing.training.description import TrainingDescription
from ML_processing.training.directory import Training
from ML_processing.training.result_training import Gain
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.report import figures
from MLTools.NanoML.report.page import Answer
from MLTools.NanoML.schema.plain import build
from services.evaluations import draw_only, evaluate, evaluation
from services.shiftedbackground import ShiftedBackground
from services.trainings import OF_RESULT, changing

pytestmark = pytest.mark.exhaustive("each section and answer of the report")

Toy = Callable[..., Path]


@pytest.fixture
def training(whole: Path) -> Training:
    """A training on toy events."""
    return Training.load(whole)


def measured(training: Training, files: dict[str, list[Path]]) -> Eras:
    found = Eras.measured(training, files, True)
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
    with changing(file) as rows:
        rows["label"] = 1
    found = measured(training, {"2018": [toy()], "2022": [file]})
    assert found.eras["2022"].measured.auc.value is None
    assert found.eras["2022"].yields["signal"].events == 0
    assert found.probability is None


def test_one_era_is_not_compared(toy: Toy, training: Training) -> None:
    assert Eras.measured(training, {"2018": [toy()]}, True) is None
    assert Eras.measured(training, {}, True) is None


def test_the_page_shows_it(toy: Toy, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy()
    draw_only(monkeypatch, "eras")
    content = evaluate(whole, [file], tmp_path, eras={"2018": [file], "2022": [file]})
    assert list(content["plots"]["eras"]["eras"]) == ["2018", "2022"]
    page = (tmp_path / "report.html").read_text()
    assert '<section id="eras"' in page
    assert "Stability by era" in page
    cells = re.findall(r"<td>(2018|2022)</td><td>([^<]*)</td>", page)
    assert cells == [("2018", "300 ± 17"), ("2022", "300 ± 17")]


WANTED = RepeatRequest(2, (0.3, 0.6))


@pytest.fixture(autouse=True)
def few_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other figures take longer than all else here."""
    draw_only(monkeypatch, "repeats")
    save = figures.save
    monkeypatch.setattr(figures, "save", lambda it, stem, _=None: save(Figure() if stem.name == "loss" else it, stem))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the training and its repetitions are, once a test has made them."""
    return tmp_path_factory.mktemp("repeats")


@pytest.fixture
def run(whole: Path, shared: Path) -> Path:
    if not (shared / "run").is_dir():
        shutil.copytree(whole, shared / "run")
    return shared / "run"


def content_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_trainings_are_beside_the_first_and_measured_on_the_same_events(run: Path, toy: Toy, tmp_path: Path) -> None:
    file, before = toy(), content_of(run)
    content = evaluate(run, [file], tmp_path, repeats=WANTED)
    assert content_of(run) == before
    found, seed = content["plots"]["repeats"], Training.load(run).description.config.seed
    assert [it["seed"] for it in found["seeds"]] == [seed, seed + 1, seed + 2]
    names = sorted(path.name for path in repeats_of(run).iterdir())
    assert names == [f"seed_{seed + 1}", f"seed_{seed + 2}", "share_0.3", "share_0.6"]
    table = read([file], Train(folds=3))
    for it, name in zip(found["seeds"][1:] + found["curve"][:2], names, strict=True):
        rows, scores = Training.load(repeats_of(run) / name).out_of_fold(table)
        expected = auc(scores[:, 0], table.labels[rows] == 0, table.weights[rows])
        assert it["auc"] == pytest.approx(expected.value, abs=1e-6)
        assert it["auc_error"] == pytest.approx(expected.error, rel=1e-4)
    assert found["curve"][-1] == found["seeds"][0]
    assert found["seeds"][0]["auc"] == pytest.approx(content["auc"]["network"], abs=1e-6)
    values = [it["auc"] for it in found["seeds"]]
    assert len(set(values)) == 3
    assert found["spread"] == pytest.approx(np.std(values, ddof=1))
    assert found["spread_error"] == pytest.approx(found["spread"] / 2)
    assert found["gain"] == pytest.approx(found["curve"][-1]["auc"] - found["curve"][-2]["auc"], abs=1e-6)
    page = (tmp_path / "report.html").read_text()
    assert '<section id="repeats"' in page
    assert "The same with another seed?" in page
    assert "Would more events help?" in page


def test_a_share_of_the_events_is_learned_from(run: Path, toy: Toy) -> None:
    file = toy()
    again = repeated(Training.load(run), [file], run, WANTED)
    everything = read([file], Train(folds=3))
    for it in again:
        kept = int((everything.hashes() < np.uint64(it.share * 2.0**64)).sum()) if it.share < 1 else 600
        assert sum(total.events for total in it.training.description.data.classes.values()) == kept
        assert kept == pytest.approx(600 * it.share, abs=60)


def test_finished_trainings_are_kept(run: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    file, training = toy(), Training.load(run)
    repeated(training, [file], run, WANTED)

    def fail(*_: Any) -> None:
        raise AssertionError("trained once more")

    monkeypatch.setattr(training_module, "train_fold", fail)
    assert len(repeated(training, [file], run, WANTED)) == 4
    with changing(file) as events:  # as after a change of a cross section
        events["weight"] *= 2
    assert len(repeated(training, [file], run, WANTED)) == 4
    with pytest.raises(AssertionError, match="trained once more"):
        repeated(training, [file], run, RepeatRequest(3))


def test_too_small_a_share(whole: Path, toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="learning_curve: with 0.1 % of the events: .*(no event|needs)"):
        repeated(Training.load(whole), [toy()], tmp_path / "run", RepeatRequest(0, (0.001,)))


def repeats(spread: float, gain: float, error: float = 0.002) -> Repeats:
    seeds = [Repeat(i, 1000, Measured(0.8 + i * spread, 0.01)) for i in range(3)]
    curve = [Repeat(0, 300, Measured(0.8 - gain, 0.01)), seeds[0]]
    return Repeats(seeds, Measured(spread, spread / 2), 0.05, curve, Measured(gain, error))


def answers_about(found: Repeats | None) -> list[Answer]:
    assert found is not None
    return list(found.answers(evaluation({Repeats: found})))


@pytest.mark.parametrize(("spread", "state"), [(0.001, "good"), (0.02, "look")])
def test_what_the_spread_means(spread: float, state: str) -> None:
    answer = answers_about(repeats(spread, 0.001))[0]
    assert answer.state == state
    assert f"standard deviation {spread:.4f}" in answer.text


def test_other_seeds_are_trained_for_the_same_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_training, "_STEPS", 4)
    target, file = ShiftedBackground().write(tmp_path / "events.h5", 1000, seed=1), tmp_path / "events.h5"
    settings = replace(OF_RESULT, epochs=2, folds=1, target=target)
    training_module.train([file], settings, tmp_path / "run")
    first = Training.load(tmp_path / "run")
    (again,) = repeated(first, [file], tmp_path / "run", RepeatRequest(1, target=target))
    table = read([file], settings)
    rows, scores = first.out_of_fold(table)
    found: Any = Repeats.measured(OutOfFold(first, table[rows], scores), [again])
    results = [build(Gain, (it.description.metrics or {})["result"]).kept for it in (first, again.training)]
    assert results[0] != results[1]
    assert [it.result for it in found.seeds] == results
    text = answers_about(found)[0].text
    assert f"The expected uncertainty by the fit: mean {np.mean(results):.4g}, standard deviation" in text
    assert f"<td>{results[1]:.4g}</td>" in found.tables(evaluation({Repeats: found}))


@pytest.mark.parametrize(
    ("gain", "error", "state", "says"),
    [
        (0.03, 0.002, "look", "significant (limit: 2 standard errors) and relevant (limit: 0.005): more simulation would help"),
        (0.003, 0.001, "good", "significant (limit: 2 standard errors), but not relevant (limit: 0.005): the curve is flat"),
        (0.03, 0.02, "open", "relevant (limit: 0.005), but not significant (limit: 2 standard errors): these events are"),
        (0.001, 0.02, "open", "neither significant (limit: 2 standard errors) nor relevant (limit: 0.005): these events"),
        (0.001, 0.002, "good", "neither significant (limit: 2 standard errors) nor relevant (limit: 0.005): the curve is"),
    ],
)  # fmt: skip
def test_whether_the_curve_is_flat(gain: float, error: float, state: str, says: str) -> None:
    answer = answers_about(repeats(0.001, gain, error))[1]
    assert answer.state == state
    assert "From 300 to 1,000 training events" in answer.text
    assert says in answer.text


def test_only_what_was_varied_is_answered() -> None:
    alone = Repeats([Repeat(1, 100, Measured(0.8, 0.01))], Measured(None, None), None, [], Measured(None, None))
    assert answers_about(alone) == []


def test_networks_at_a_value_of_the_parameter_that_they_have_not_seen(toy: Toy, quick: Train, tmp_path: Path) -> None:
    # signal of mass m is at x = m, and at 3, where there is none of 1 and 2, a network that has not seen it does worse
    random, other = np.random.default_rng(1), np.arange(1200) % 2
    mass = np.array([1, 2, 3])[np.arange(1200) % 3]
    x = np.where(other, random.uniform(-1, 5, 1200), random.normal(mass, 0.3)).astype("f4")
    masses = np.where(other, np.nan, mass).astype("f4")
    file, run = toy(count=1200, parameter="mass", mass=masses, x=x), tmp_path / "run"
    config = replace(quick, parameter="mass", features=["x"], epochs=12, options={"hidden": [16], "dropout": 0.0})
    training_module.train([file], config, run)
    content = evaluate(run, [file], run, repeats=RepeatRequest(left_out=True))
    found = {it["parameter"]: it for it in content["auc_at_parameter"]}
    assert list(found) == [1, 2, 3]
    assert found[3]["value"] > 0.85
    assert found[3]["without"] < found[3]["value"] - 3 * found[3]["without_error"]
    assert content["plots"]["repeats"] is None
    assert "trained without this value" in (run / "report.html").read_text()
    left_out: Any = TrainingDescription.read(repeats_of(run) / "without_2")
    assert left_out.parameter.values == (1, 3)
    assert sum(it.events for it in left_out.data.classes.values()) == 1000


@pytest.mark.parametrize(("model", "reason"), [("mlp", "it takes three or more"), ("bdt", "trees know no other")])
def test_no_value_can_be_left_out(toy: Toy, quick: Train, tmp_path: Path, model: str, reason: str) -> None:
    values = [1, 2, 3] if model == "bdt" else [1, 2]
    mass = np.where(np.arange(600) % 2, np.nan, np.array(values)[np.arange(600) % len(values)]).astype("f4")
    mass[::2] = np.array(values)[np.arange(300) % len(values)]
    file = toy(parameter="mass", mass=mass)
    options = {} if model == "bdt" else quick.options
    config = replace(quick, model=model, options=options, parameter="mass", epochs=1)
    training_module.train([file], config, tmp_path / "run")
    with pytest.raises(ConfigError, match=f"evaluate.left_out: .*{reason}"):
        repeated(Training.load(tmp_path / "run"), [file], tmp_path / "run", RepeatRequest(left_out=True))
