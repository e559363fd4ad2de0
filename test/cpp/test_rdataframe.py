"""The example that runs a model with its selection inside in RDataFrame."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import uproot

pytest.importorskip("ML_processing.export.with_selection")

from MLTools.NanoML.model.inside import decide
from MLTools.NanoML.nanoaod.folds import fold_of
from services.cplusplus import run
from services.whole_models import NUMBERS, SAMPLE, events_in, networks_of, whole_model

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.exhaustive("the same scores by RDataFrame"), pytest.mark.root]


def test_the_example_gives_the_scores_of_python(tmp_path: Path, build: Callable[..., Path]) -> None:
    pytest.importorskip("ROOT", reason="needs ROOT")
    model = whole_model(
        networks_of(tmp_path / "model.onnx", "ZCand_mass", "MET_pt"), "MLTools.NanoML.trilepton:Trilepton", ROOT
    )
    library = build("shared", "libMLToolsNanoML.so", FLAGS="-fPIC", OPTIMIZE="-O0")
    places = {"LD_LIBRARY_PATH": str(library), "ROOT_INCLUDE_PATH": str(library / "include"), "HOME": str(tmp_path)}
    output = tmp_path / "scored.root"
    run(
        sys.executable,
        str(ROOT / "examples" / "programs" / "decide_in_rdataframe.py"),
        model.path,
        str(SAMPLE),
        str(output),
        **places,
    )
    arrays = events_in(model, 1000)
    found = decide(model, arrays, fold_of(*(arrays[name] for name in NUMBERS), model.folds))
    scored = uproot.open(output)["Events"].arrays(library="np")
    assert 100 < len(scored["event"]) < 900
    assert scored["event"].tolist() == arrays["event"][found.passed].tolist()
    for number, label in enumerate(model.outputs):
        np.testing.assert_allclose(scored[f"score_{label}"], found.scores[found.passed, number], atol=1e-6)
