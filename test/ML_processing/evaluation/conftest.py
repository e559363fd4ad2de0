"""Trainings that are evaluated once for all tests of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ML_processing.training.train import train
from services.evaluations import draw_only, evaluate
from services.trainings import QUICK


@pytest.fixture(scope="module")
def evaluated(request: Any, toys: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Path]:
    """A file of the events EVENTS of the module, the evaluation of a training on it by its TRAIN, and the directory."""
    directory, module = tmp_path_factory.mktemp("evaluated"), request.module
    file = toys(directory)(**module.EVENTS)
    train([file], getattr(module, "TRAIN", QUICK), directory / "run")
    with pytest.MonkeyPatch.context() as patch:
        draw_only(patch, module.DRAWN)
        evaluate(directory / "run", [file], directory / "run")
    return file, json.loads((directory / "run" / "metrics.json").read_text()), directory / "run"
