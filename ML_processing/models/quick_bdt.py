"""BDTs beside the networks, by LightGBM: for comparisons, and where a function must be learned on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # noqa: F401  it brings GCC's OpenMP along, which LightGBM needs and not every machine has
from numpy.typing import NDArray

from MLTools.NanoML.errors import NanoMLError

try:
    import lightgbm
except OSError as problem:
    raise NanoMLError(
        f"LightGBM cannot be loaded ({problem}). It needs GCC's OpenMP: apt-get install libgomp1, or dnf install libgomp."
    ) from None

__all__ = ["Events", "QuickBDT", "lightgbm"]

_ROUNDS = 2000
_PATIENCE = 30  # rounds without an improvement, as those of `model: bdt`
_SETTINGS: dict[str, object] = {
    "lambda_l2": 1.0,
    "learning_rate": 0.05,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
_FEW = 50_000  # up to this number of events one core is faster than several, on a busy machine ten times


@dataclass(frozen=True)
class Events:
    """The events that a BDT learns from: columns, float32 (N, columns), NaN where a value is missing; truth (N,); and weights (N,) >= 0."""

    columns: NDArray[np.float32]
    truth: NDArray[Any]
    weights: NDArray[Any]

    def __getitem__(self, some: slice) -> Events:
        """Some of them."""
        return Events(self.columns[some], self.truth[some], self.weights[some])


@dataclass(frozen=True)
class QuickBDT:
    """A BDT that has learned."""

    booster: lightgbm.Booster
    threads: int  # 0 for all cores

    @classmethod
    def learn(
        cls, training: Events, stop: Events, classes: int, seed: int, threads: int | None = None, **settings: object
    ) -> QuickBDT:
        """A BDT trained on some events as long as it gets better on others.

        The truth of events is the number of the class; a regression has 0 classes. By default it has one thread if the events are few, and
        otherwise one for each core. The settings are those of LightGBM, such as `num_leaves`.
        """
        if threads is None:
            threads = 1 if len(training.truth) <= _FEW else 0
        several = {"objective": "multiclass", "num_class": classes} if classes > 2 else {"objective": "binary"}
        task = several if classes else {"objective": "regression"}
        chosen = {**_SETTINGS, **task, "seed": seed, "num_threads": threads, **settings}
        # or a leaf, which needs some sum of weights, would depend on the luminosity
        scale = 1 / training.weights.mean()
        rows = lightgbm.Dataset(training.columns, training.truth, weight=training.weights * scale, params=chosen)
        others = rows.create_valid(stop.columns, stop.truth, weight=stop.weights * scale)
        stopping = lightgbm.early_stopping(_PATIENCE, verbose=False)
        return cls(lightgbm.train(chosen, rows, _ROUNDS, [others], callbacks=[stopping]), threads)

    @property
    def loss(self) -> float:
        """On the events that stopped it."""
        return float(next(iter(self.booster.best_score["valid_0"].values())))

    def __call__(self, columns: NDArray[np.float32]) -> NDArray[np.float64]:
        """Class probabilities (N, classes), or values (N,)."""
        found = np.asarray(self.booster.predict(columns, num_threads=self.threads))
        is_binary = self.booster.params["objective"] == "binary"
        return np.column_stack([1 - found, found]) if is_binary else found
