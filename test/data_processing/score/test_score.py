from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot

from data_processing.convert.columns import StoredCollection
from data_processing.convert.convert import ConvertJob, Sample, convert_files
from data_processing.score import score
from data_processing.score.eventcolumns import Mark
from data_processing.score.score import Scored, ScoreJob, load_models, score_file
from data_processing.score.stage import domain_summary, score_tasks
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Discriminant, Model, twin_of
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaod.provenance import ScoredBy
from MLTools.NanoML.rootio.rootfile import RootFile
from services.rootfiles import Short, lists_of, record_of

LinearModel = Callable[..., Path]

SELECTION = "MLTools.NanoML.trilepton:Trilepton"


@pytest.fixture
def source(sample: Path) -> Path:
    return sample / "WZTo3LNu" / "WZTo3LNu_0.root"


def softmax(x: np.ndarray, fold: np.ndarray) -> np.ndarray:
    logits = np.stack([x.astype(float), fold, np.zeros(len(x))], axis=1)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def folds(path: Path) -> np.ndarray:
    found = lists_of(path, "run", "luminosityBlock", "event")
    return fold_of(*(values.to_numpy() for values in found.values()), 3)


def scores_of(path: Path, prefix: str = "linear") -> np.ndarray:
    found = lists_of(path, *(f"{prefix}_{name}" for name in ("signal", "WZ", "ZG")))
    return np.stack([ak.to_numpy(values) for values in found.values()], axis=1)


def test_scores_belong_to_the_right_events(tmp_path: Path, source: Path, linear_model: LinearModel) -> None:
    against = [Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.75, "ZG": 0.25})]
    model = linear_model(["MET_phi", "MET_pt"], discriminants=against)
    assert score_file(ScoreJob(str(source), tmp_path / "s.root", [model], chunk=300)) == Scored(800, {})
    found = lists_of(tmp_path / "s.root")
    scores = [f"linear_{name}" for name in ("signal", "WZ", "ZG", "discriminant", "fold")]
    assert list(found) == ["run", "luminosityBlock", "event", *scores]
    for name, values in lists_of(source, "run", "luminosityBlock", "event").items():
        assert found[name].to_list() == values.to_list()
        assert str(found[name].type) == str(values.type)
    fold = folds(source)
    assert found["linear_fold"].to_list() == fold.tolist()
    x = lists_of(source, "MET_phi")["MET_phi"].to_numpy()
    p = softmax(x, fold)
    assert scores_of(tmp_path / "s.root") == pytest.approx(p, abs=1e-6)
    expected = p[:, 0] / (p[:, 0] + 0.75 * p[:, 1] + 0.25 * p[:, 2])
    assert found["linear_discriminant"].to_numpy() == pytest.approx(expected, abs=1e-6)
    with RootFile(tmp_path / "s.root") as file:
        assert file.branches["linear_WZ"].title == "probability of class WZ by linear"
        assert file.branches["linear_discriminant"].title == "signal against WZ 0.75, ZG 0.25 by linear"
    record = record_of(tmp_path / "s.root")
    assert (record.kind, record.model) == ("scores", ScoredBy("linear", file_hash(model)))
    assert record.accounting.sum_of_weights == 800


def test_objects_are_padded_as_in_the_conversion(tmp_path: Path, source: Path, linear_model: LinearModel) -> None:
    model = Model(linear_model([], objects={"Muon": (["eta", "charge"], 2, "pt")}))
    muons = {"Muon": StoredCollection(("eta", "charge"), 2, "pt")}
    convert_files(ConvertJob([str(source)], tmp_path / "WZ.h5", ("MET_pt",), muons, Sample("WZ")))
    tensors = model.tensors(lists_of(source, *model.reads))
    with h5py.File(tmp_path / "WZ.h5") as file:
        rows = file["Muon"][:]
    assert np.array_equal(tensors["Muon_mask"] > 0, rows["valid"])
    for number, name in enumerate(("eta", "charge")):
        assert np.array_equal(tensors["Muon"][..., number], rows[name].astype("f4"))


def test_a_model_of_objects(tmp_path: Path, source: Path, linear_model: LinearModel) -> None:
    """In events that the selection of an input does not keep, they have no score."""
    of_objects = {"level": "object", "collection": "Muon"}
    plain = linear_model(["Muon_eta", "MET_pt"], **of_objects)
    selected = linear_model(["Muon_eta", "ZCand_dR"], ["ZCand_dR"], name="selected", **of_objects)
    score_file(ScoreJob(str(source), tmp_path / "s.root", [plain, selected], chunk=300))
    read, found = lists_of(source, "Muon_eta", "nMuon"), lists_of(tmp_path / "s.root")
    assert found["nMuon"].to_list() == read["nMuon"].to_list()
    scores = np.stack([ak.flatten(found[f"Muon_linear_{name}"]) for name in ("signal", "WZ", "ZG")], axis=1)
    counts = ak.num(read["Muon_eta"]).to_numpy()
    expected = softmax(ak.flatten(read["Muon_eta"]).to_numpy(), np.repeat(folds(source), counts))
    assert scores == pytest.approx(expected, abs=1e-6)
    assert ak.num(found["Muon_selected_WZ"]).to_list() == counts.tolist()
    passed = np.repeat(found["selected_selected"].to_numpy(), counts)
    assert (np.isfinite(ak.flatten(found["Muon_selected_WZ"]).to_numpy()) == passed).all()
    with RootFile(tmp_path / "s.root") as file:
        assert file.branches["Muon_linear_WZ"].collection == "Muon"
        assert file.branches["nMuon"].dtype == read["nMuon"].to_numpy().dtype


def test_several_models_in_one_pass(tmp_path: Path, source: Path, linear_model: LinearModel) -> None:
    mass = {"column": "mass", "values": [1.0, 2.0]}
    models = [
        linear_model(["MET_phi"]),
        linear_model(["MET_phi", "mass"], name="at_mass", parameter=mass),
        linear_model(["MET_phi"], name="values", targets=["a", "b", "c"]),
    ]
    score_file(ScoreJob(str(source), tmp_path / "s.root", models, {"mass": [1.5]}))
    assert np.array_equal(scores_of(tmp_path / "s.root"), scores_of(tmp_path / "s.root", "at_mass"))
    found = lists_of(tmp_path / "s.root", "values_a", "values_fold")
    assert found["values_a"].to_list() == lists_of(source, "MET_phi")["MET_phi"].to_list()
    with RootFile(tmp_path / "s.root") as file:
        assert file.branches["at_mass_WZ"].title == "probability of class WZ by at_mass at mass = 1.5"
        assert file.branches["values_b"].title == "estimate of b by values"
    hashes = ", ".join(map(file_hash, map(str, models)))
    assert record_of(tmp_path / "s.root").model == ScoredBy("linear, at_mass, values", hashes, {"mass": [1.5]})
    with pytest.raises(NanoMLError, match="has the name linear, as .* has: export one of them under another name"):
        load_models([models[0], linear_model(["x"])], {})
    with pytest.raises(ConfigError, match="has the parameter mass, trained at 1, 2"):
        load_models(models, {})
    with pytest.raises(ConfigError, match='parameter mas: none of the models has it .*Did you mean "mass"'):
        load_models(models, {"mas": [1], "mass": [1]})
    with pytest.raises(ConfigError, match="parameter mass: none of the models has it .they have none"):
        load_models(models[:1], {"mass": [1]})


def test_a_model_is_loaded_once_unless_it_is_replaced(linear_model: LinearModel) -> None:
    path = linear_model(["MET_phi"])
    assert load_models([path], {})[0] is load_models([path], {})[0]
    other = linear_model(["MET_pt"])
    twin_of(path).unlink()
    os.replace(other, path)
    assert load_models([path], {})[0].columns == ["MET_pt"]


def test_scores_are_kept_as_long_as_all_that_they_follow_from_is_the_same(
    tmp_path: Path, source: Path, linear_model: LinearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "in.root"
    shutil.copy(source, copy)
    job = ScoreJob(str(copy), tmp_path / "s.root", [linear_model(["MET_phi"])])
    score_file(job)
    expected, of_model, runs = scores_of(job.output), Model.run, list[str]()
    monkeypatch.setattr(Model, "run", lambda self, *given: runs.append(self.name) or of_model(self, *given))

    def is_kept(job: ScoreJob) -> bool:
        runs.clear()
        score_file(job)
        return not runs

    weighted = replace(job, marks=[Mark("year", 3, "the year")])
    assert is_kept(weighted)
    assert scores_of(job.output).tolist() == expected.tolist()
    assert set(lists_of(job.output)["year"].to_list()) == {3}
    assert is_kept(job)
    assert "year" not in lists_of(job.output)
    content = bytearray(job.output.read_bytes())
    with uproot.open(job.output) as file:
        branch = file["Events"]["linear_WZ"]
        content[branch.member("fBasketSeek")[0] + branch.member("fBasketBytes")[0] // 2] ^= 0xFF
    job.output.write_bytes(content)
    assert not is_kept(job)
    job.output.write_bytes(job.output.read_bytes()[:-1000])
    assert not is_kept(job)
    assert not is_kept(replace(job, compression="ZLIB:1"))
    assert not is_kept(replace(job, compression="ZLIB:1", models=[linear_model(["MET_pt"])]))
    assert not is_kept(job)
    shutil.copy(source.with_name("WZTo3LNu_1.root"), copy)
    assert not is_kept(job)
    monkeypatch.setattr(score, "_code", lambda: "other")
    assert not is_kept(job)


def test_scores_at_several_values_of_a_parameter(tmp_path: Path, source: Path, linear_model: LinearModel) -> None:
    parameter = {"column": "mass", "values": [1.0, 2.0]}
    model = linear_model(["mass"], objects={"Muon": (["pt"], 3, None)}, parameter=parameter)
    score_file(ScoreJob(str(source), tmp_path / "several.root", [model], {"mass": [1.0, -2.5]}))
    with RootFile(tmp_path / "several.root") as file:
        made = [name for name in file.branches if name.startswith("linear_")]
        assert file.branches["linear_WZ_massm2p5"].title == "probability of class WZ by linear at mass = -2.5"
    scores = {f"linear_{name}_mass{value}" for name in ("WZ", "ZG", "signal") for value in ("1", "m2p5")}
    assert {*made} == {"linear_fold", *scores}
    for value, ending in ((1.0, "mass1"), (-2.5, "massm2p5")):
        score_file(ScoreJob(str(source), tmp_path / f"{ending}.root", [model], {"mass": [value]}))
        alone, several = (lists_of(tmp_path / f"{name}.root") for name in (ending, "several"))
        for name in ("signal", "WZ", "ZG"):
            assert several[f"linear_{name}_{ending}"].to_list() == alone[f"linear_{name}"].to_list()


def test_a_selection_is_run_where_its_columns_are_missing(
    tmp_path: Path, source: Path, linear_model: LinearModel
) -> None:
    model = linear_model(["ZCand_dR", "MET_pt"], ["ZCand_dR"])
    skim_file(SkimJob(str(source), tmp_path / "skim.root", SELECTION, keep=("MET_*",)))
    for name, path in (("raw", source), ("skimmed", tmp_path / "skim.root")):
        score_file(ScoreJob(str(path), tmp_path / f"{name}.root", [model], chunk=300))
    passed = lists_of(tmp_path / "raw.root", "linear_selected")["linear_selected"].to_numpy()
    skimmed = lists_of(tmp_path / "skim.root", "event")["event"].to_numpy()
    every = lists_of(source, "event")["event"].to_numpy()
    assert 0 < passed.sum() < len(passed)
    assert every[passed].tolist() == skimmed.tolist()
    found = scores_of(tmp_path / "raw.root")
    assert found[passed] == pytest.approx(scores_of(tmp_path / "skimmed.root"), abs=1e-6)
    assert np.isnan(found[~passed]).all()
    assert "linear_selected" not in lists_of(tmp_path / "skimmed.root")


def test_full_copies(tmp_path: Path, source: Path, linear_model: LinearModel) -> None:
    models = [linear_model(["MET_phi"]), linear_model(["Muon_eta"], name="tag", level="object", collection="Muon")]
    score_file(ScoreJob(str(source), tmp_path / "s.root", models, copy=True, chunk=300))
    before, after = lists_of(source), lists_of(tmp_path / "s.root")
    added = [*(f"linear_{name}" for name in ("signal", "WZ", "ZG", "fold")), "tag_fold"]
    assert set(after) - set(before) == {*added, *(f"Muon_tag_{name}" for name in ("signal", "WZ", "ZG"))}
    assert set(before) <= set(after)
    for name, values in before.items():
        assert after[name].to_list() == values.to_list(), name
    assert after["linear_signal"].to_list() == scores_of(tmp_path / "s.root")[:, 0].tolist()
    with uproot.open(source) as one, uproot.open(tmp_path / "s.root") as other:
        assert {"Runs", "nanoml"} <= set(other.keys(cycle=False)) - (set(one.keys(cycle=False)) - {"Runs"})


def test_a_copy_of_a_skim_is_a_skim(tmp_path: Path, source: Path, linear_model: LinearModel) -> None:
    skim_file(SkimJob(str(source), tmp_path / "skim.root", SELECTION, keep=("MET_*",)))
    score_file(ScoreJob(str(tmp_path / "skim.root"), tmp_path / "s.root", [linear_model(["MET_phi"])], copy=True))
    skim, copy = (record_of(tmp_path / name) for name in ("skim.root", "s.root"))
    assert (copy.kind, copy.selection, copy.columns) == ("skim", SELECTION, skim.columns)
    assert copy.accounting == skim.accounting
    with pytest.raises(NanoMLError, match="has a branch linear_signal already"):
        score_file(ScoreJob(str(tmp_path / "s.root"), tmp_path / "t.root", [linear_model(["MET_phi"])]))


@pytest.mark.parametrize("name", ["made_v12_data", "made_v15_mc", "made_v9_mc_zero_events"])
def test_versions_of_nanoaod(tmp_path: Path, made_files: dict[str, Path], name: str, linear_model: LinearModel) -> None:
    path = made_files[name]
    model = linear_model(["MET_phi"], objects={"Jet": (["eta"], 4, "-pt")})
    tagger = linear_model(["Jet_pt"], name="tag", level="object", collection="Jet")
    score_file(ScoreJob(str(path), tmp_path / "s.root", [model, tagger]))
    assert {"run", "linear_fold", "Jet_tag_WZ", "nJet"} <= set(lists_of(tmp_path / "s.root"))
    with RootFile(path) as file:
        entries = file.entries
        arrays = file.read(["MET_phi", "Jet_eta", "Jet_pt"])
    found = scores_of(tmp_path / "s.root")
    assert found.shape == (entries, 3)
    order = ak.argsort(-arrays["Jet_pt"], stable=True)
    x = ak.to_numpy(arrays["MET_phi"]) + ak.to_numpy(ak.sum(arrays["Jet_eta"][order][:, :4], axis=1))
    assert found == pytest.approx(softmax(x, folds(path)), abs=1e-5)


@pytest.mark.parametrize(
    ("columns", "changes", "message"),
    [
        (["MET_ptt"], {}, 'has no branch MET_ptt. Did you mean "MET_pt"'),
        (["Muon_pt"], {}, "Muon_pt as one number per event, but it is of type"),
        ([], {"objects": {"Muon": (["ptt"], 3, None)}}, 'has no branch Muon_ptt. Did you mean "Muon_pt"'),
        ([], {"objects": {"Muon": (["pt"], 3, "-tag")}}, "has no branch Muon_tag"),
        ([], {"objects": {"MET": (["pt"], 3, None)}},
         "MET_pt as a number for each object of MET, but it is of type float"),
        (["Electron_pt"], {"level": "object", "collection": "Muon"},
         "Electron_pt as a number for each object of Muon, .*of Electron"),
        (["MET_pt"], {"level": "object", "collection": "Muon"}, "none of its inputs is a branch of Muon here"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_is_explained(
    tmp_path: Path, source: Path, linear_model: LinearModel, columns: list[str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(NanoMLError, match=message):
        score_file(ScoreJob(str(source), tmp_path / "s.root", [linear_model(columns, **changes)]))
    assert os.listdir(tmp_path) == []


def with_selection(model: Path, spec: str) -> Path:
    """The model with another selection in its metadata, without its twin."""
    model.with_suffix(".json").unlink()
    content = model.read_bytes()
    old = SELECTION.encode()
    assert len(spec) == len(SELECTION)
    model.write_bytes(content.replace(old, spec.encode()))
    return model


def test_a_selection_that_cannot_be_run(tmp_path: Path, source: Path, linear_model: LinearModel) -> None:
    spec = "my_lost_selections".ljust(SELECTION.index(":"), "_") + ":Trilepton"
    model = with_selection(linear_model(["ZCand_mass"], ["ZCand_mass"]), spec)
    with pytest.raises(
        NanoMLError,
        match="reads ZCand_mass, which the file lacks. Its selection, .*, cannot be run here: .* Skim the file",
    ):
        score_file(ScoreJob(str(source), tmp_path / "s.root", [model]))
    with pytest.raises(NanoMLError, match="no longer makes ZCand_old"):
        score_file(ScoreJob(str(source), tmp_path / "s.root", [linear_model(["ZCand_old"], ["ZCand_old"])]))
    assert os.listdir(tmp_path) == []


def test_tasks(tmp_path: Path, source: Path, linear_model: LinearModel) -> None:
    model = linear_model(["ZCand_mass"], ["ZCand_mass"])
    job = ScoreJob("", Path(), [model], copy=True)
    task, other = score_tasks([str(source), "b/other.root"], tmp_path, job, "WZ/")
    assert (task.name, other.name) == ("WZ/WZTo3LNu_0", "WZ/other")
    assert task.inputs == (str(source), str(model))
    assert task.outputs == (tmp_path / "WZTo3LNu_0.root",)
    assert task.settings == {"parameters": {}, "copy": True, "compression": "ZLIB:5", "roles": [], "marks": []}
    assert task.settings is other.settings
    plain = score_tasks([str(source)], tmp_path, ScoreJob("", Path(), [linear_model(["MET_pt"])]))
    assert plain[0].code != task.code  # which has that of the selection
    not_there = score_tasks([str(source)], tmp_path, ScoreJob("", Path(), [tmp_path / "model.onnx"]))
    assert not_there[0].code == plain[0].code
    assert Model(model).selection_columns == {"ZCand_mass": SELECTION}


def domain_of(*ranges: tuple[str, float, float], tensor: str = "features", **changes: Any) -> list[dict[str, Any]]:
    more = {"missing": [], "may_be_missing": False, "quantiles": [], "outside": 0.01, "limit": 0.02}
    inputs = [{"name": name, "low": low, "high": high, **more} for name, low, high in ranges]
    return [{"tensor": tensor, "mask": None, "size": 0, "inputs": inputs, **changes}]


def test_files_outside_of_the_domain_are_one_warning(tmp_path: Path, sample: Path, linear_model: LinearModel) -> None:
    domain = domain_of(("MET_pt", 0, 100), ("MET_phi", -3.2, 3.2))
    domain += domain_of(("Muon_pt", 0, 50), tensor="Muon", mask="Muon_mask", size=2)
    model = linear_model(["MET_pt", "MET_phi"], objects={"Muon": (["pt"], 2, "-pt")}, domain=domain)
    files = [str(path) for name in ("WZTo3LNu", "WprimeToWZToLNuLL_M600") for path in (sample / name).glob("*.root")]
    done = {}
    for number, file in enumerate(files):
        dataset = Path(file).parent.name
        (task,) = score_tasks([file], tmp_path / str(number), ScoreJob("", Path(), [model], chunk=300), f"{dataset}/")
        done[f"{dataset}/{number}"] = task.do()
    summary, met, muon = domain_summary({Path(file).parent.name: [model] for file in files}, done)
    with RootFile(files[-1]) as file:
        last = file.read(["MET_pt", "Muon_pt"])
    assert done[f"{Path(files[-1]).parent.name}/{len(files) - 1}"]["outside"]["linear"] == {
        "rows": len(last["MET_pt"]),
        "inputs": {
            "MET_pt": int(ak.sum(last["MET_pt"] > 100)),
            "Muon_pt": int(ak.sum(ak.any(last["Muon_pt"] > 50, axis=1))),
        },
    }
    assert summary.startswith("linear: inputs outside of the training's range: Muon_pt in ")
    for line, (name, most) in {met: ("MET_pt", 100), muon: ("Muon_pt", 50)}.items():
        about = f"{name} is outside of the range 0 to {most}, on which the networks were trained, in "
        assert line.startswith(f"WARNING: linear: {about}")
        assert line.endswith("% of the events of WZTo3LNu; in the training, in 1 %.")
    assert domain_summary({}, {"WZ/0": {"entries": 3}}) == []  # of models of before
    assert not any(it["is_data"] for it in done.values())
    models = {Path(file).parent.name: [model] for file in files}
    data = {name: {**it, "is_data": True} for name, it in done.items()}
    assert domain_summary(models, done, hidden=models) == domain_summary(models, data) == [summary, met, muon]
    assert domain_summary(models, data, hidden=models) == []


def test_scores_of_some_events_only_are_refused(
    tmp_path: Path, source: Path, linear_model: LinearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "RootFile", Short)
    with pytest.raises(NanoMLError, match=r"600 of 800 events were scored: nothing was written"):
        score_file(ScoreJob(str(source), tmp_path / "s.root", [linear_model(["MET_phi"])], chunk=300))
    assert list(tmp_path.iterdir()) == []
