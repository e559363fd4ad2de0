from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import uproot

from data_processing.score import ScoreJob, score_file
from MLTools.NanoML.books import Provenance
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.folds import fold_of
from MLTools.NanoML.model import file_hash
from MLTools.NanoML.rootfile import RootFile


@pytest.fixture
def source(sample: Path) -> Path:
    return sample / "WZTo3LNu" / "WZTo3LNu_0.root"


def test_scores_belong_to_the_right_events(
    tmp_path: Path, source: Path, linear_model: Callable[..., Path]
) -> None:
    model = linear_model(["MET_phi", "MET_pt"])
    assert score_file(ScoreJob(str(source), tmp_path / "s.root", model, chunk=300)) == {"entries": 800}
    with uproot.open(source) as original, uproot.open(tmp_path / "s.root") as scored:
        inputs = original["Events"].arrays(["run", "luminosityBlock", "event", "MET_phi"], library="np")
        found = scored["Events"].arrays(library="np")
    for name in ("run", "luminosityBlock", "event"):
        assert (found[name] == inputs[name]).all()
        assert found[name].dtype == inputs[name].dtype
    fold = fold_of(inputs["run"], inputs["luminosityBlock"], inputs["event"], 3)
    assert (found["linear_fold"] == fold).all()
    logits = np.stack([inputs["MET_phi"].astype(float), fold, np.zeros(800)], axis=1)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = np.stack([found[f"linear_{name}"] for name in ("signal", "WZ", "ZG")], axis=1)
    assert scores == pytest.approx(expected, abs=1e-6)
    with RootFile(tmp_path / "s.root") as file:
        record = Provenance.of(file)
    assert record is not None
    assert record.model == {"name": "linear", "sha256": file_hash(model)}
    assert record.books.sum_of_weights == 800


def test_a_file_without_events_is_scored(
    tmp_path: Path, real_files: dict[str, Path], linear_model: Callable[..., Path]
) -> None:
    score_file(
        ScoreJob(str(real_files["nano_v6_mc_dy_zero_events"]), tmp_path / "s.root", linear_model(["MET_pt"]))
    )
    with uproot.open(tmp_path / "s.root") as file:
        assert file["Events"].num_entries == 0
        assert {"run", "linear_signal", "linear_fold"} <= set(file["Events"].keys())


@pytest.mark.parametrize(
    ("columns", "of_selection", "message"),
    [
        (
            ["ZCand_mass"],
            ["ZCand_mass"],
            "a column of selection MLTools.NanoML.trilepton:Trilepton: skim the file with it first",
        ),
        (["MET_ptt"], [], 'has no branch MET_ptt. Did you mean "MET_pt"'),
        (["Muon_pt"], [], "Muon_pt as one number per event, but it is of type"),
    ],
)
def test_a_column_that_is_not_there_is_explained(
    tmp_path: Path,
    source: Path,
    linear_model: Callable[..., Path],
    columns: list[str],
    of_selection: list[str],
    message: str,
) -> None:
    with pytest.raises(NanoMLError, match=message):
        score_file(ScoreJob(str(source), tmp_path / "s.root", linear_model(columns, of_selection)))
    assert os.listdir(tmp_path) == []
