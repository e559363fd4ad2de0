"""The sections of an analysis's YAML file, with the defaults that a physicist would choose."""

from __future__ import annotations

from MLTools.NanoML.config.sections.convert import Convert, Objects
from MLTools.NanoML.config.sections.dataset import Dataset
from MLTools.NanoML.config.sections.names import NAME
from MLTools.NanoML.config.sections.results import Evaluate, Export, Score
from MLTools.NanoML.config.sections.skim import ENGINES, Skim
from MLTools.NanoML.config.sections.train import (
    MODELS,
    PRECISIONS,
    SCHEDULES,
    TRACKERS,
    Decorrelation,
    PerObject,
    Train,
)
from MLTools.NanoML.config.sections.tune import METRICS, PRUNERS, SAMPLERS, TUNABLE, Axis, Tune

__all__ = [
    "ENGINES",
    "METRICS",
    "MODELS",
    "NAME",
    "PRECISIONS",
    "PRUNERS",
    "SAMPLERS",
    "SCHEDULES",
    "TRACKERS",
    "TUNABLE",
    "Axis",
    "Convert",
    "Dataset",
    "Decorrelation",
    "Evaluate",
    "Export",
    "Objects",
    "PerObject",
    "Score",
    "Skim",
    "Train",
    "Tune",
]
