"""The settings `train.tracking` and `tune.tracking`."""

from __future__ import annotations

from dataclasses import dataclass

from MLTools.NanoML.schema.roles import HOW
from MLTools.NanoML.schema.settings import setting

TRACKERS = ("mlflow", "tensorboard")


@dataclass(frozen=True)
class OfTrain:
    """Where trainings are recorded."""

    tracking: list[str] = setting(
        list,
        "Where the training is recorded besides its own files: mlflow, tensorboard.",
        uniqueItems=True,
        items={"enum": TRACKERS},
        **HOW,
        of=("scores",),  # see `Train.about`
    )


@dataclass(frozen=True)
class OfTune:
    """Whether trials are recorded."""

    tracking: bool = setting(False, "True to also record each trial where `train.tracking` says.")
