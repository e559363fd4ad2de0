"""XGBoost and LightGBM on the events of a training of NanoML, for `bench/field.py`: trained and tuned as ours are.

They have NanoML's folds, weights, balance of classes and inputs; of objects each field is a column, which is missing where there is no
object. They stop by the validation fold. A search is that of `nanoml tune`: Optuna's TPE for the loss of the validation events of the
first fold, where the first trial has good settings for small tables.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from ML_processing.events.data import Table
from ML_processing.events.survey import Split, class_factors, make_splits

Settings = dict[str, Any]
_ROUNDS, _PATIENCE = 1000, 30
_FIRST = {"learning_rate": 0.05, "subsample": 0.8, "colsample_bytree": 0.8, "reg_lambda": 1.0}


@dataclass(frozen=True)
class Part:
    """Events for training or validation: columns (N, columns), labels (N,) and weights (N,)."""

    columns: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def both(cls, table: Table, split: Split) -> tuple[Part, Part]:
        """The events that one model learns from, and those that stop it."""
        weights = np.abs(table.weights)
        factors = class_factors(table.labels[split.training], weights[split.training], table.classes)
        weights = weights * factors[table.labels]
        first, second = (
            cls(table[rows].flattened(), table.labels[rows], weights[rows])
            for rows in (split.training, split.validation)
        )
        return first, second

    def loss(self, model: Any) -> float:
        """Cross entropy of a model."""
        right = model.predict_proba(self.columns)[np.arange(len(self.labels)), self.labels]
        return float(np.average(-np.log(np.maximum(right, 1e-7)), weights=self.weights))


@dataclass(frozen=True)
class Trees:
    """A library of decision trees."""

    package: str
    fit: Callable[[Settings, int, Part, Part], Any]
    first: Settings  # without a search
    vary: Callable[[optuna.trial.BaseTrial], Settings]  # its own settings in a search

    def scores(self, table: Table, folds: int, settings: Settings, seed: int) -> NDArray[np.float32]:
        """Class probabilities (N, classes) of each event by a model that has not seen its fold."""
        found = np.empty((len(table), len(table.classes)), np.float32)
        for split in make_splits(table, folds):
            model = self.fit(settings, seed, *Part.both(table, split))
            found[split.test] = model.predict_proba(table[split.test].flattened())
        return found

    def tuned(self, table: Table, folds: int, trials: int) -> Settings:
        """The best settings of a search."""
        training, validation = Part.both(table, make_splits(table, folds)[0])
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
        study.enqueue_trial(self.first)
        study.optimize(lambda trial: validation.loss(self.fit(self._space(trial), 1, training, validation)), trials)
        return study.best_params

    def _space(self, trial: optuna.trial.BaseTrial) -> Settings:
        return {
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.01, 100, log=True),
            **self.vary(trial),
        }


def _fit_xgboost(settings: Settings, seed: int, training: Part, stop: Part) -> Any:
    from xgboost import XGBClassifier

    more = {"n_estimators": _ROUNDS, "early_stopping_rounds": _PATIENCE, "n_jobs": 1, "random_state": seed}
    watch = {"eval_set": [(stop.columns, stop.labels)], "sample_weight_eval_set": [stop.weights], "verbose": False}
    model = XGBClassifier(**more, **settings)
    return model.fit(training.columns, training.labels, sample_weight=training.weights, **watch)


def _fit_lightgbm(settings: Settings, seed: int, training: Part, stop: Part) -> Any:
    from lightgbm import LGBMClassifier, early_stopping

    more = {"n_estimators": _ROUNDS, "subsample_freq": 1, "n_jobs": 1, "random_state": seed, "verbosity": -1}
    watch = {"eval_set": [(stop.columns, stop.labels)], "eval_sample_weight": [stop.weights]}
    model = LGBMClassifier(force_row_wise=True, **more, **settings)
    with warnings.catch_warnings():  # its name for the events to watch is to change
        warnings.simplefilter("ignore")
        early = early_stopping(_PATIENCE, verbose=False)
        model.fit(training.columns, training.labels, sample_weight=training.weights, callbacks=[early], **watch)
    return model


TREES = (
    Trees(
        "xgboost",
        _fit_xgboost,
        {**_FIRST, "max_depth": 5, "min_child_weight": 5.0},
        lambda trial: {
            "max_depth": trial.suggest_int("max_depth", 2, 8),
            "min_child_weight": trial.suggest_float("min_child_weight", 0.1, 100, log=True),
        },
    ),
    Trees(
        "lightgbm",
        _fit_lightgbm,
        {**_FIRST, "num_leaves": 15, "min_child_samples": 20},
        lambda trial: {
            "num_leaves": trial.suggest_int("num_leaves", 4, 64, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 5, 200, log=True),
        },
    ),
)
