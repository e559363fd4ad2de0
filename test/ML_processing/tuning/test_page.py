"""The page doc/tune.md, followed to the letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytest.importorskip("optuna")
pytest.importorskip("data_processing.skim.skim")


@pytest.mark.exhaustive("pages of the manual")
def test_the_page_does_what_it_says(tmp_path: Path, follow: Callable[..., None]) -> None:
    follow("tune.md#tune-hyperparameters", tmp_path)
    directory = tmp_path / "examples" / "trilepton" / "tuning"
    rows = json.loads((directory / "table.json").read_text())
    assert [row["trial"] for row in rows] == list(range(6))
    best = yaml.safe_load((directory / "best.yaml").read_text())["train"]
    found = max((row for row in rows if row["validation_auc"]), key=lambda row: row["validation_auc"])
    assert best["learning_rate"] == found["learning_rate"]
    assert (best["model"], best["epochs"]) == ("mlp", 20)
    for name in ("history.png", "slices.png", "table.csv", "result.json", "journal.log"):
        assert (directory / name).is_file()
