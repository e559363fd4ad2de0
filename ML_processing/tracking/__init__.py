"""Records of trainings in addition to their own files: MLflow, TensorBoard."""

from __future__ import annotations

from ML_processing.tracking.mlflow_run import TrackingError
from ML_processing.tracking.record import add, begin, check, ending, finish, following, prepare

__all__ = ["TrackingError", "add", "begin", "check", "ending", "finish", "following", "prepare"]
