"""Records of trainings besides their own files: MLflow and TensorBoard."""

from __future__ import annotations

from MLTools.NanoML.extending import Extension

EXTENSION = Extension(
    "Records of trainings in MLflow and TensorBoard.",
    fields={"train": "settings:OfTrain", "tune": "settings:OfTune"},
    kinds={"followers": {"tracking": "tracking:Tracker"}},
)

PAGE = "tune.md"
