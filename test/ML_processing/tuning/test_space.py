from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

pytest.importorskip("optuna")

from optuna.trial import TrialState

from ML_processing.training import result_training
from ML_processing.training.result_training import read_fold
from ML_processing.tuning import result, trial
from ML_processing.tuning.space import Space
from ML_processing.tuning.study import Study
from ML_processing.tuning.trial import FOLD, TrialData, work
from MLTools.NanoML.config.evaluation import METRICS, Axis, Tune
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.nanoaod.folds import fold_of
from services.configurations import loaded
from services.shiftedbackground import ShiftedBackground
from services.trainings import OF_RESULT, changing

CONFIG = "train:\n  files: a.h5\n  model: MODEL\n  options: {dropout: 0.1}\n"


def space(directory: Path, text: str, model: str = "mlp") -> Space:
    config = loaded(directory, CONFIG.replace("MODEL", model) + text)
    assert config.train is not None
    return Space.of(config, config.train)


@pytest.mark.parametrize("model", ["mlp", "deepsets", "particlenet", "transformer", "tabular"])
def test_the_default_space_has_options_of_the_model(tmp_path: Path, model: str) -> None:
    found = space(tmp_path, "tune:\n", model)
    assert {"learning_rate", "batch_size", "options.dropout"} < set(found.axes)
    assert set(found.own()) == set(found.axes)  # the defaults lie in it
    values = {name: distribution.to_external_repr(0) for name, distribution in found.distributions.items()}
    assert found.apply(values).model == model


def test_a_bdt_has_a_space_of_its_own(tmp_path: Path) -> None:
    config = loaded(tmp_path, "train: {files: a.h5, model: bdt}\ntune:\n")
    assert config.train is not None
    found = Space.of(config, config.train)
    options = ("leaves", "min_events", "event_share", "feature_share", "l2")
    assert set(found.axes) == {"learning_rate", *(f"options.{name}" for name in options)}
    assert set(found.own()) == set(found.axes)
    assert found.axes["learning_rate"].low == 0.005


def test_values_go_into_the_section(tmp_path: Path) -> None:
    found = space(
        tmp_path,
        "tune:\n  space:\n    batch_size: {low: 32, high: 100, step: 32}\n    clip: {choices: [null, 1.0]}\n"
        "    options.hidden: {choices: [[8], [16, 16]]}\n    learning_rate: {low: 1e-4, high: 1e-2, log: true}\n",
    )
    values = {"batch_size": 64, "clip": "null", "options.hidden": "[16, 16]", "learning_rate": 0.00123456789}
    train = found.apply(values)
    assert (train.batch_size, train.clip, train.learning_rate) == (64, None, 0.001235)
    assert train.options == {"dropout": 0.1, "hidden": [16, 16]}
    assert found.distributions["batch_size"].high == 96  # type: ignore[attr-defined]
    # 256 is no batch size of this space, and [128, 128] no choice
    assert found.own() == {"clip": "1.0", "learning_rate": 0.002}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rat: {low: 1, high: 2}", 'is not a setting that can be searched. Did you mean "learning_rate"?'),
        ("seed: {choices: [1, 2]}", "is not a setting that can be searched. Known: features, "),
        ("learning_rate: {low: 0.1, high: 0.01}", "low, 0.1, is not below high, 0.01."),
        ("learning_rate: {low: 0.1}", 'takes "low" and "high"'),
        ("weight_decay: {low: 0, high: 0.01, log: true}", "low, 0, has no logarithm"),
        ("batch_size: {low: 1, high: 9, log: true, step: 2}", "takes log or step, not both."),
        ("batch_size: {low: 1, high: 9, step: 20}", "step, 20, is larger than the range."),
        ("batch_size: {choices: []}", 'choices: expected a list of values, as in "choices: [64, 128]".'),
        ("batch_size: {choices: [64, 64]}", "choices: 64 is listed twice."),
        ("batch_size: {choices: [64], low: 3}", "takes a range (low and high) or choices, not both."),
        ("batch_size: {choices: [64, many]}", 'expected a whole number, got "many".'),
        ("learning_rate: {low: -1, high: 1}", "expected a number above 0, got -1.0."),
        ("features: {choices: [[x, x], [x]]}", "twice"),
        ("features: {choices: [[x], 3]}", "expected text or a list of them, got 3."),
        ("schedule: {choices: [cosine, cosin]}", '"cosin" is not a schedule. Did you mean "cosine"?'),
        ("options.hiden: {choices: [[8], [16]]}", 'the model "mlp" has no such option. Did you mean "hidden"?'),
        ("options.hidden: {low: 8, high: 16}", "is a list in a mlp: give choices"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        space(tmp_path, f"tune:\n  trials: 5\n  space:\n    {line}\n")
    (told,) = str(error.value).splitlines()
    assert "a.yaml:8: tune.space." in told
    assert message in told


def test_all_features_of_trials_are_read(tmp_path: Path) -> None:
    found = space(tmp_path, "  features: [x, y]\ntune: {space: {features: {choices: [[z, x], w, [x, y]]}}}\n")
    assert found.features == [["x", "y"], ["z", "x"], ["w"], ["x", "y"]]
    assert found.widest.features == ["x", "y", "z", "w"]
    assert found.apply({"features": '["z", "x"]'}).features == ["z", "x"]
    assert found.apply({"features": '"w"'}).features == ["w"]
    assert found.own() == {"features": '["x", "y"]'}
    found = space(tmp_path, "tune: {space: {features: {choices: [[x], null]}}}\n")
    assert found.widest.features is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {files: a.h5, targets: [x]}\ntune: {metric: validation_auc}\n",
            "2: tune.metric: a regression has no AUC",
        ),
        ("tune:\n", "1: tune: there is no training"),
    ],
)
def test_what_cannot_be_tuned(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"a.yaml:{message}"):
        loaded(tmp_path, text)


TUNE = Tune(sampler="random", pruner="none")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_training, "_STEPS", 4)


def searched(file: Path, train: Train, directory: Path, tune: Tune = TUNE) -> Study:
    space = Space(train, {"learning_rate": Axis(low=1e-3, high=1e-2, log=True)})
    data = TrialData.read([file], space)
    study = Study.open(directory / "tuning", space, tune, data.table.sha256())
    work(data, study, 2, None, lambda _: None)
    return study


def test_the_best_trial_has_the_smallest_expected_uncertainty(tmp_path: Path) -> None:
    file = tmp_path / "events.h5"
    target = ShiftedBackground().write(file, 3000, seed=1)
    study = searched(file, replace(OF_RESULT, target=target), tmp_path)
    for number, each in enumerate(study.trials()):
        found = read_fold(study.trial_directory(number), FOLD)
        assert each.value == min(found.before, *found.epochs)
        assert list(each.intermediate_values.values()) == found.epochs
        assert 0.2 < found.before < 0.5
    best: Any = study.best()
    assert best.value == min(each.value for each in study.trials())  # type: ignore[type-var]

    assert study.metric == "expected uncertainty"

    # both are tested on events that have not been read, with what a training gives
    tested = result._tested(study, best, [file])["test"]
    for name in ("best", "own") if "own" in tested else ("best",):
        assert 0.19 < tested[name]["result"] < 0.4
    text = "\n".join(result._words({"test": tested}))
    assert f"expected uncertainty {tested['best']['result']:.4g} with the best settings" in text

    # an edit of an uncertainty is another search
    looser = replace(target, settings=replace(target.settings, uncertainties={"known": "9 %"}))
    with pytest.raises(trial.NanoMLError, match="holds a search with train.target"):
        searched(file, replace(OF_RESULT, target=looser), tmp_path)


def test_no_trial_reads_the_test_fold(tmp_path: Path) -> None:
    values = []
    for name in "ab":
        file = tmp_path / f"{name}.h5"
        target = ShiftedBackground().write(file, 1000, seed=1)
        if name == "b":
            with changing(file) as rows:
                tested = fold_of(rows["run"], rows["luminosityBlock"], rows["event"], 3) == FOLD
                for column, factor in (("x", -3), ("y", -3), ("weight", 7), ("weight_placeUp", 2)):
                    rows[column][tested] *= factor
        study = searched(file, replace(OF_RESULT, target=target, epochs=2), tmp_path / name)
        values.append([each.value for each in study.trials()])
    assert values[0] == values[1]


def test_expected_events_are_those_of_all_folds(tmp_path: Path) -> None:
    target = ShiftedBackground().write(tmp_path / "events.h5", 1000, seed=1)
    config = replace(OF_RESULT, target=target)
    data = TrialData.read([tmp_path / "events.h5"], Space(config, {}))
    about = replace(data.table.about, datasets=())  # none lacks its cross section
    data = replace(data, table=replace(data.table, about=about))
    found: Any = data.expected(config, replace(TUNE, metric=METRICS[2]))
    with h5py.File(tmp_path / "events.h5") as file:
        rows = file["events"][()]
    assert found.events == pytest.approx(np.bincount(rows["label"], rows["weight"]), rel=0.1)


def test_a_trial_is_pruned_by_the_expected_uncertainty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "events.h5"
    target = ShiftedBackground().write(file, 1000, seed=1)
    monkeypatch.setattr(trial.HeldTrial, "report", _prune)
    study = searched(file, replace(OF_RESULT, target=target), tmp_path)
    (one, two) = study.trials()
    assert (one.state, two.state) == (TrialState.PRUNED, TrialState.PRUNED)
    directory = study.trial_directory(0)
    assert [it.name for it in directory.glob("*.pt")] == ["before_0.pt"]  # no checkpoint
    assert (directory / "history_0.json").is_file()


def _prune(self: trial.HeldTrial, values: dict[int, float]) -> None:
    assert all(0.1 < it < 0.6 for it in values.values())  # no cross entropy, which is larger
    if max(values, default=0) > 1:
        raise trial.optuna.TrialPruned
