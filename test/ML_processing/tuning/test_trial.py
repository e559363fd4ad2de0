"""Trials of a search whose networks are trained on the result of a fit."""

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
from MLTools.NanoML.config.training import METRICS, Axis, Train, Tune
from MLTools.NanoML.nanoaod.folds import fold_of
from services.shiftedbackground import ShiftedBackground
from services.trainings import OF_RESULT, changing

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
    found = data.expected(config, replace(TUNE, metric=METRICS[2]))
    with h5py.File(tmp_path / "events.h5") as file:
        rows = file["events"][()]
    assert found is not None
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
