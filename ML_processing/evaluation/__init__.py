"""How good a training is: numbers, plots and a report, all on events that the networks have not seen."""

from __future__ import annotations

from ML_processing.evaluation.evaluation import evaluate

__all__ = ["evaluate"]
