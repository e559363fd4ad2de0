from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnx
import pytest
import uproot

from data_processing.score.score import ScoreJob, score_file
from data_processing.score.stage import score_stage
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import KEY, Model, write_described
from MLTools.NanoML.nanoaodtools.branches import Scoring
from MLTools.NanoML.workflow.analysis import Analysis

pytest.importorskip("torch")
pytest.importorskip("services.whole_models")

from MLTools.NanoML.extensions.compiled.with_selection import Compilation, Source, export_with_selection
from MLTools.NanoML.selection import DatasetInfo
from services.whole_models import SAMPLE, events_in, networks_of, own

pytestmark = pytest.mark.exhaustive("selections inside of models, against skims")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks of two columns, the same with a selection inside that depends on is_data, and that selection."""
    directory = tmp_path_factory.mktemp("models")
    networks = networks_of(directory / "model.onnx", "HT", "MET_pt")
    spec = own(directory, "assert not self.dataset.is_data")
    source = Source(DatasetInfo("signal"), (str(SAMPLE),))
    export_with_selection(networks, directory / "whole.onnx", [source], Compilation(spec, ".", 60, {}))
    return {"networks": networks, "whole": directory / "whole.onnx", "selection": directory / "own.py"}


def read(path: Path) -> Any:
    with uproot.open(path) as file:
        return file["Events"].arrays()


def test_a_file_is_scored_as_its_skim_is(models: dict[str, Path], tmp_path: Path) -> None:
    selection = f"{models['selection']}:Own"
    skim_file(SkimJob(str(SAMPLE), tmp_path / "skim.root", selection, keep=("MET_pt",)))
    score_file(ScoreJob(str(tmp_path / "skim.root"), tmp_path / "expected.root", [models["networks"]], copy=True))
    score_file(ScoreJob(str(SAMPLE), tmp_path / "scores.root", [models["whole"]], chunk=300))
    found, expected = read(tmp_path / "scores.root"), read(tmp_path / "expected.root")
    assert len(found) == len(read(SAMPLE))
    passed = found[found.score_passed]
    assert 0 < len(passed) < len(found)
    assert passed.event.to_list() == expected.event.to_list()
    for name in ("HT", "score_signal", "score_WZ", "score_ZG", "Good_pt", "Good_eta"):
        mine, others = (ak.flatten(each[name], axis=None) for each in (passed, expected))
        np.testing.assert_allclose(mine, others, rtol=2e-6)
    assert passed.nGood.to_list() == expected.nGood.to_list()
    others = found[~found.score_passed]
    assert not ak.any(others.HT)
    assert not ak.any(others.nGood)
    assert np.isnan(others.score_signal.to_numpy()).all()
    assert set(passed.score_cuts.to_list()) == {2}
    assert set(others.score_cuts.to_list()) == {1}
    assert not ak.any(found.score_failed)
    assert "score_corrected" not in found.fields


def write(path: Path, model: Model, **others: Any) -> Path:
    """Five events, of which the second has more muons than the model has room for."""
    arrays = events_in(model, 5)
    room = next(each.max for each in model.objects if each.collection == "Muon")
    many = np.where(np.arange(5) == 1, room + 1, 2)
    muons = {name[5:]: values for name, values in arrays.items() if name.startswith("Muon_")}
    muons = {name: ak.unflatten(np.resize(ak.flatten(values), many.sum()), many) for name, values in muons.items()}
    with uproot.recreate(path) as file:
        flat = {name: values for name, values in arrays.items() if values.ndim == 1}
        electrons = {name[9:]: values for name, values in arrays.items() if name.startswith("Electron_")}
        rows = {**flat, "Muon": ak.zip(muons), "Electron": ak.zip(electrons), **others}
        file.mktree("Events", {name: ak.Array(values).type.content for name, values in rows.items()}).extend(rows)
    return path


def test_events_with_too_many_objects_are_known(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "many.root", Model(models["whole"]), genWeight=np.ones(5))
    score_file(ScoreJob(str(source), tmp_path / "s.root", [models["whole"]], copy=True))
    found = read(tmp_path / "s.root")
    assert found.score_failed.to_list() == [0, 2, 0, 0, 0]
    assert not found.score_passed[1]
    assert ak.sum(found.score_passed) > 1
    assert np.isnan(found.score_WZ.to_numpy()).tolist() == (~found.score_passed).to_list()
    assert found.HT[1] == found.nGood[1] == found.score_cuts[1] == 0
    assert "score cannot decide on some events, see score_failed. More objects" in capsys.readouterr().err


def test_the_selection_of_another_era(models: dict[str, Path], tmp_path: Path) -> None:
    content = onnx.load(models["whole"])
    (text,) = (it.value for it in content.metadata_props if it.key == KEY)
    text = text.replace('"dataset": {', '"dataset": {"era": "2018", ')
    write_described(content, text, tmp_path / "of_2018.onnx")
    (tmp_path / "a.root").touch()
    text = "eras: {2022: {luminosity: 8}}\ndatasets: {A: {era: 2022, files: a.root, class: signal}}\nscore: {model: of_2018.onnx}"
    (tmp_path / "a.yaml").write_text(text)
    message = "a.yaml:3: score: .*of_2018.onnx: has the selection of era 2018 inside, but dataset A is"
    with pytest.raises(ConfigError, match=message):
        score_stage(Analysis(load(tmp_path / "a.yaml")))


def test_what_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    write(tmp_path / "data.root", Model(models["whole"]))
    job = SkimJob(str(SAMPLE), tmp_path / "skim.root", f"{models['selection']}:Own", keep=("drop *", "keep Muon_*"))
    skim_file(job)
    skim_file(replace(job, output=tmp_path / "all.root", keep=("keep *",)))
    for name, message in (
        ("skim", "has no branch MET_pt, which the selection inside .*whole.onnx reads.* before any skim"),
        ("data", "whole.onnx has the selection of simulation inside, but these are data: take the other one"),
        ("all", "has a branch HT already, which .*whole.onnx makes. The selection inside the model reads"),
    ):
        with pytest.raises(NanoMLError, match=message):
            score_file(ScoreJob(str(tmp_path / f"{name}.root"), tmp_path / "s.root", [models["whole"]]))
    told = "has the selection .*Own inside. In nanoAOD-tools the selection is a module of its own"
    with pytest.raises(NanoMLError, match=told):
        Scoring(models["whole"])
    assert not (tmp_path / "s.root").exists()
