"""The sections of an analysis's YAML file, with the defaults that a physicist would choose."""

from __future__ import annotations

from MLTools.NanoML.config.sections.batch import SYSTEMS, Batch, Grid, Needs
from MLTools.NanoML.config.sections.convert import Convert, Objects
from MLTools.NanoML.config.sections.dataset import FROM_WHERE, TIERS, Dataset
from MLTools.NanoML.config.sections.names import DATASET, NAME
from MLTools.NanoML.config.sections.read import Read
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
    "DATASET",
    "ENGINES",
    "FROM_WHERE",
    "METRICS",
    "MODELS",
    "NAME",
    "PRECISIONS",
    "PRUNERS",
    "SAMPLERS",
    "SCHEDULES",
    "SYSTEMS",
    "TIERS",
    "TRACKERS",
    "TUNABLE",
    "Axis",
    "Batch",
    "Convert",
    "Dataset",
    "Decorrelation",
    "Evaluate",
    "Export",
    "Grid",
    "Needs",
    "Objects",
    "PerObject",
    "Read",
    "Score",
    "Skim",
    "Train",
    "Tune",
]
