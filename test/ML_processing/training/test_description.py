"""What training.json says, and how it is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ML_processing.training.description import TrainingDescription
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.schema.plain import build


def changed(run: Path, directory: Path, **changes: Any) -> Path:
    """A copy of training.json with changes; None takes an entry out."""
    content = json.loads((run / "training.json").read_text()) | changes
    directory.mkdir()
    kept = {key: value for key, value in content.items() if value is not None or key not in changes}
    (directory / "training.json").write_text(json.dumps(kept))
    return directory


def test_json_and_back(whole: Path) -> None:
    content = json.loads((whole / "training.json").read_text())
    description = TrainingDescription.read(whole)
    again = json.loads(json.dumps(description.to_json()))
    assert again == content
    assert list(again) == list(content)
    assert build(TrainingDescription, again) == description
    assert description.complete
    assert description.shape.features == ("x", "y")
    assert description.signal_index == 0


def test_a_setting_that_an_older_training_does_not_have(whole: Path, tmp_path: Path) -> None:
    config = json.loads((whole / "training.json").read_text())["config"]
    del config["tracking"]
    description = TrainingDescription.read(changed(whole, tmp_path / "older", config=config))
    assert description.config == TrainingDescription.read(whole).config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, r"schema 2, this NanoML reads 1. Remove .*older and run `nanoml train`"),
        ({"classes": None}, r"training.json: is damaged \(.*\). Remove .*older and run `nanoml train` again"),
        ({"data": {"sha256": "0"}}, r"training.json: is damaged"),
    ],
)
def test_what_cannot_be_read(whole: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        TrainingDescription.read(changed(whole, tmp_path / "older", **changes))


def test_a_history_that_is_damaged(whole: Path, tmp_path: Path) -> None:
    from ML_processing.training.directory import Training

    copy = shutil.copytree(whole, tmp_path / "run")
    (copy / "history_1.json").write_text('[{"epoch": 1}]')
    with pytest.raises(NanoMLError, match=r"history_1.json: is damaged. Remove .* and run `nanoml train` again"):
        Training.load(copy)
