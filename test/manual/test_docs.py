"""The pages of doc/, followed to the letter."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

pytest.importorskip("data_processing.skim.skim")

from data_processing.datasets.datasets import query, resolve_datasets
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.hdf5 import metadata_content, open_hdf5
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.corrections import electrons
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.remote.client import Read
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.selection import DatasetInfo, load_selection
from MLTools.NanoML.selection.tryout import on_events
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from services.blinding import unblind_all
from services.catalogue import CatalogueServer, Content
from services.pages import whole

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def skims(tmp_path_factory: pytest.TempPathFactory, follow: Callable[..., None]) -> Path:
    """What is made by following the page on skims."""
    directory = tmp_path_factory.mktemp("skim")
    follow("skim.md#skim-nanoaod", directory)
    return directory / "skims"


def accounting_of_skim(path: Path) -> Accounting:
    with RootFile(path) as file:
        found = Provenance.of(file)
    assert found is not None
    return found.accounting


def events(path: Path) -> Any:
    return uproot.open(path)["Events"]


def test_the_selection_finds_the_z(skims: Path) -> None:
    masses = np.concatenate([tree["DiMuon_mass"].array() for tree in map(events, (skims / "dimuon").glob("*.root"))])
    assert len(masses) == 442
    assert abs(np.median(masses) - 91) < 2
    (accounting,) = accounting_of_skim(skims / "dimuon" / "ZGToLLG_0.root").files
    assert [step.cut for step in accounting.cutflow] == ["all", "two muons", "pt", "opposite charge"]


def test_the_analysis_skims_both_datasets(skims: Path) -> None:
    found = sorted((skims / "analysis" / "skims").glob("*/*.root"))
    assert [path.stem for path in found] == ["WZTo3LNu_0", "WZTo3LNu_1", "ZGToLLG_0", "ZGToLLG_1"]
    for path in found:
        cuts = [step.cut for step in accounting_of_skim(path).cutflow]
        assert cuts == ["all", "cut", "two muons", "pt", "opposite charge"]
        names = events(path).keys()
        assert "MET_pt" in names
        assert "MET_covXX" not in names


def test_cut_and_selection_agree(skims: Path) -> None:
    chosen, cut = (events(skims / name / "ZGToLLG_0.root")["event"].array(library="np") for name in ("dimuon", "cut"))
    assert len(chosen) < len(cut) < 800
    assert np.isin(chosen, cut).all()


def test_rules_keep_what_the_page_says(skims: Path) -> None:
    names = events(skims / "rules" / "ZGToLLG_0.root").keys()
    assert {"run", "luminosityBlock", "event", "genWeight", "MET_pt", "nMuon", "HLT_IsoMu24"} <= set(names)
    assert not [name for name in names if "Iso" in name and name.startswith("Muon_")]
    assert not [name for name in names if name.startswith(("Jet_", "Flag_", "HLT_Ele"))]


def test_the_merged_skim_has_the_events_and_weights_of_both(skims: Path) -> None:
    merged = accounting_of_skim(skims / "ZGToLLG.root")
    assert (merged.entries, merged.selected, merged.sum_of_weights) == (1600, 442, 1600)
    assert events(skims / "ZGToLLG.root").num_entries == 442


def test_datasets(tmp_path: Path, follow: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    follow("datasets.md#name-datasets", tmp_path)
    config = load(tmp_path / "datasets.yaml")
    assert {name: len(files) for name, files in resolve_datasets(config).items()} == {"WZ": 2, "ZG": 1}
    # the catalogue's part, by a server that has datasets of these names
    server = CatalogueServer()
    try:
        das = load(tmp_path / "das.yaml")
        for name, dataset in das.datasets.items():
            for number, text in enumerate(dataset.das):
                files = {f"/store/{name}/{number}/{file}.root": 30_000 for file in range(10)}
                server.datasets[text] = Content(files)
        monkeypatch.setenv("NANOML_DBS", server.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        assert {name: len(files) for name, files in resolve_datasets(das).items()} == {"WZ": 4, "muons": 20}
        page = (ROOT / "doc" / "datasets.md").read_text()
        (pattern,) = re.findall("^nanoml datasets '(.*)'$", page, re.M)
        (wz,) = das.datasets["WZ"].das
        assert [each.name for each in query(pattern).datasets] == [wz]
        assert f"1 VALID, for a configuration:\n    das:\n      - {wz}\n" in page
    finally:
        server.stop()


def test_remote_files(tmp_path: Path, follow: Callable[..., None]) -> None:
    follow("xrootd.md#read-remote-files", tmp_path)
    (described,) = metadata_content(tmp_path / "half" / "hdf5" / "WZ.h5")["datasets"]
    (gone,) = described["missing"]
    assert gone["file"] == str(tmp_path / "data" / "WZTo3LNu_1.root")
    page = (ROOT / "doc" / "xrootd.md").read_text()
    told: Any = re.search(r"^  WZ: data/WZTo3LNu_1.root is left out: (cannot be read .*)$", page, re.M)
    assert gone["reason"] == told[1]
    for name, default in plain(Read()).items():
        found = re.search(rf"^  {name}: ([^#\n]*?) +#", page, re.M)
        assert found is not None, name
        assert name == "redirectors" or found[1] == json.dumps(default), name


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, follow: Callable[..., None]) -> Path:
    """What is made by following the page on models."""
    pytest.importorskip("ML_processing.stages")
    pytest.importorskip("torch")
    directory = tmp_path_factory.mktemp("model")
    follow("scores.md#score-files", directory, quick=True)
    return directory


@whole
def test_a_selection_is_put_into_the_model(tmp_path: Path, follow: Callable[..., None]) -> None:
    pytest.importorskip("ML_processing.stages")
    pytest.importorskip("torch")
    follow("cmssw.md#put-the-selection-into-the-model", tmp_path, quick=True)
    described = json.loads((tmp_path / "analysis" / "model_with_selection.json").read_text())
    assert described["selection"]["name"] == "MLTools.NanoML.trilepton:Trilepton"
    assert described["selection"]["events"] == 8250


def scored(path: Path, name: str) -> tuple[Any, Any]:
    """The scores by a model, and the fold of each event."""
    tree = events(path)
    others = {f"{name}_fold", f"{name}_selected"}
    branches = [key for key in tree.keys() if key.startswith(f"{name}_") and key not in others]
    arrays = tree.arrays([*branches, f"{name}_fold"], library="np")
    return np.stack([arrays[key] for key in branches], axis=1), arrays[f"{name}_fold"]


def in_plain_python(page: Path, model: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The outputs of a model by the page's lines."""
    directory = page / f"plain_{model.stem}"
    directory.mkdir()
    shutil.copy(model, directory / "model.onnx")
    monkeypatch.chdir(directory)
    names: dict[str, Any] = {}
    exec((page / "plain.py").read_text(), names)
    arrays = events(source).arrays()
    mean, each = names["session"].run(None, dict(names["tensors"](names["metadata"], arrays)))
    assert np.array_equal(names["scores"](arrays), mean)
    return [mean, each]


def check_plain(outputs: list[Any], path: Path, name: str) -> None:
    mean, each = outputs
    expected, fold = scored(path, name)
    assert len(expected) > 20
    np.testing.assert_allclose(each[np.arange(len(fold)), fold], expected, rtol=0, atol=1e-6)
    if name == "leptons":  # its discriminant follows from the probabilities, that of the mean from their mean
        mean, each = mean[:, :-1], each[..., :-1]
    np.testing.assert_allclose(each.mean(axis=1), mean, rtol=0, atol=1e-6)


@pytest.mark.exhaustive("pages of the manual")
def test_plain_python_scores_features(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dataset in ("WZ", "ZG"):
        (source,) = (models / "analysis" / "skims" / dataset).glob("*_0.root")
        (found,) = (models / "scored").rglob(source.name)
        with monkeypatch.context() as patch:
            outputs = in_plain_python(models, models / "analysis" / "model.onnx", source, patch)
        check_plain(outputs, found, "analysis")
        shutil.rmtree(models / "plain_model")


@pytest.mark.exhaustive("pages of the manual")
def test_plain_python_scores_collections(
    models: Path, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_processing.score.score import ScoreJob, score_file

    source, leptons = sample / "WZTo3LNu" / "WZTo3LNu_0.root", ROOT / "data" / "leptons.onnx"
    score_file(ScoreJob(str(source), tmp_path / "scores.root", [leptons]))
    check_plain(in_plain_python(models, leptons, source, monkeypatch), tmp_path / "scores.root", "leptons")


@pytest.mark.exhaustive("pages of the manual")
def test_models_for_other_releases_score_the_same(models: Path) -> None:
    (copy,) = (models / "copies").rglob("*.root")
    (new, fold), (old, _) = scored(copy, "model"), scored(copy, "old")
    selected = events(copy)["model_selected"].array(library="np")
    assert 0 < selected.sum() < len(selected)
    assert np.array_equal(np.isfinite(new).all(axis=1), selected)
    assert np.array_equal(new, old, equal_nan=True)
    assert set(fold) == set(range(5))


@pytest.mark.exhaustive("pages of the manual")
def test_batch(tmp_path: Path, follow: Callable[..., None]) -> None:
    pytest.importorskip("ML_processing.stages")
    from MLTools.NanoML.batch.site import load_site

    follow("batch.md#run-jobs", tmp_path, quick=True)
    follow("batch.md#settings-of-jobs", tmp_path, inside=".")
    assert (tmp_path / "examples" / "jobs" / "trilepton-dry-run" / "job.sh").is_file()
    assert (tmp_path / "examples" / "trilepton" / "model.onnx").is_file()
    assert len(list((tmp_path / "examples" / "trilepton" / "scores").glob("*/*.root"))) == 9
    batch = load(tmp_path / "batch.yaml").batch
    assert (batch.stages["train"].gpus, batch.stages["train"].time, batch.at_once) == (1, "8h", 200)
    assert load_site("my_cluster.yaml", tmp_path).setup == ["module load gcc"]


_SIMULATED = r"n?(Gen|gen|LHE|PSWeight|Pileup)|.*(hadronFlavour|partonFlavour|genPartFlav|gen\w*Idx)$"


def pretend_data(sources: Sequence[Path], target: Path, is_tight: bool = True) -> None:
    """A file that looks like data, with all that is reconstructed in simulation; or every second event without tight muons."""
    trees = [events(source) for source in sources]
    kept = [branch for branch in trees[0].branches if not re.match(_SIMULATED, branch.name)]
    arrays = ak.concatenate([tree.arrays([branch.name for branch in kept]) for tree in trees])
    if not is_tight:
        arrays["Muon_highPtId"] = ak.values_astype(arrays["Muon_highPtId"] * (arrays["event"] % 2 == 0), np.uint8)
    collections: dict[str, list[str]] = {}
    for branch in (branch for branch in kept if branch.count_branch is not None):
        collections.setdefault(branch.count_branch.name[1:], []).append(branch.name)
    counters = {f"n{name}" for name in collections}
    flat = [branch.name for branch in kept if branch.count_branch is None and branch.name not in counters]
    rows: dict[str, Any] = {name: np.asarray(arrays[name]) for name in flat}
    rows["run"] = np.full(len(arrays), 316_000, np.uint32)
    rows["event"] = np.arange(len(arrays), dtype=np.uint64)
    for name, members in collections.items():
        rows[name] = ak.zip({member[len(name) + 1 :]: arrays[member] for member in members})
    target.parent.mkdir(parents=True)
    with uproot.recreate(target) as file:
        types = {name: it.dtype if isinstance(it, np.ndarray) else ak.type(it).content for name, it in rows.items()}
        tree = file.mktree(
            "Events", types, counter_name=lambda name: f"n{name}", field_name=lambda name, field: f"{name}_{field}"
        )
        tree.extend(rows)


@pytest.mark.exhaustive("pages of the manual")
def test_regions(tmp_path: Path, follow: Callable[..., None]) -> None:
    pytest.importorskip("ML_processing.stages")
    for number, name in enumerate(("Muon", "EGamma")):
        source = ROOT / "examples" / "nano" / "ZGToLLG" / f"ZGToLLG_{number}.root"
        pretend_data([source], tmp_path / "data" / name / source.name, is_tight=False)
    follow("regions.md#use-regions-and-data-driven-backgrounds", tmp_path, quick=True)
    found = json.loads((tmp_path / "analysis" / "training" / "metrics.json").read_text())["regions"]
    trained = [(name, each["is_trained_on"]) for name, each in found.items()]
    assert trained == [("SR", True), ("CR_MET", False), ("muons", False)]
    metrics = json.loads((tmp_path / "fakes" / "training" / "metrics.json").read_text())
    found = metrics["regions"]
    parts = [
        metadata_content(tmp_path / "fakes" / "hdf5" / f"fakes_{name}.h5")["datasets"][0]
        for name in ("from_Muon", "from_EGamma", "less_WZ")
    ]
    total = sum(part["data_driven"]["sum_of_weights"] for part in parts)
    assert parts[2]["data_driven"]["sum_of_weights"] < 0 < total
    assert sum(found[name]["yields"]["fakes"]["sum_of_weights"] for name in ("SR", "CR")) == pytest.approx(total)
    assert found["sideband"]["yields"]["fakes"]["events"] == 0
    # data are compared with simulation in the region that is named, and in no other
    assert list(metrics["data"]) == ["CR"]
    count = 0
    for name in ("Muon", "EGamma"):
        with open_hdf5(tmp_path / "fakes" / "hdf5" / f"{name}.h5") as file:
            rows = file["events"][:]
        count += int((rows["in_CR"] & ~rows["in_SR"]).sum())
    assert 0 < metrics["data"]["CR"]["data"] <= count  # without those in bins where the signal may show


@whole
def test_weights_of_the_selection_reach_the_hdf5_files(tmp_path: Path, follow: Callable[..., None]) -> None:
    follow("howto/corrections.md#use-eras-corrections-and-weights", tmp_path)
    follow("howto/corrections.md#correct-and-shift-objects", tmp_path, inside=".")
    content = metadata_content(tmp_path / "analysis" / "hdf5" / "WZ_2022.h5")
    assert [each["name"] for each in content["weights"]] == ["pileup", "muon_id", "btag"]
    assert content["datasets"][0]["luminosity"] == 8
    assert content["datasets"][0]["cross_section"] == 5.31 * 0.063
    for dataset in ("WZ", "ZG"):
        assert list((tmp_path / "btag" / "skims" / dataset).glob("*.root"))
    theory = load_selection("my_theory.py:WithTheory", tmp_path).of_dataset(DatasetInfo("WZ"))
    lists = {"LHEScaleWeight": 9, "LHEPdfWeight": 103, "PSWeight": 4}
    numbers = {key: [1, 1, 1] for key in ("run", "luminosityBlock", "event")}
    weights = {name: [[1 + place / 100 for place in range(length)]] * 3 for name, length in lists.items()}
    found = on_events(theory, {**numbers, **weights, "Muon_pt": [[50.0], [], [30.0, 5.0]]})
    assert found.rows.tolist() == [0, 2]
    assert found.columns["weight_pdfMember100"].tolist() == pytest.approx([2, 2])
    assert found.columns["weight_alpha_sUp"].tolist() == pytest.approx([1 + 1.02 * 0.75] * 2)
    assert found.columns["weight_scale_mur_mufUp"].tolist() == pytest.approx([1.08, 1.08])
    mine = load_selection("my_factor.py:GoodMuon", tmp_path).of_dataset(DatasetInfo("WZ"))
    found = on_events(mine, {**numbers, "Muon_pt": [[25.0, 60.0], [10.0], [30.0, 5.0, 200.0]]})
    for name, values in {"": (0.95 * 0.98, 0.97 * 0.99), "Down": (0.92 * 0.97, 0.96 * 0.97)}.items():
        assert found.columns[f"weight_my_muon{name}"].tolist() == pytest.approx(values)
    for era, branches in (("2018", electrons.RUN2), ("2022", ())):
        info = DatasetInfo("signal", era, corrections_file=str(tmp_path / "examples" / "corrections" / f"{era}.yaml"))
        selection = load_selection("my_electrons.py:OneElectron", tmp_path).of_dataset(info)
        names = [name for name in (*electrons.BRANCHES, *branches) if name.startswith("Electron_")]
        made = {name: [[1.0], [], [1.0]] for name in names if name not in ("Electron_pt", "Electron_seedGain")}
        events = {**made, "Electron_pt": [[50.0], [], [10.0]], "Electron_seedGain": [[12], [], [6]]}
        found = on_events(selection, {**events, **{key: [1, 1, 1] for key in ("run", "luminosityBlock", "event")}})
        assert found.rows.tolist() == [0]
        shifted = {name for name in found.columns if name.startswith("Electron1_pt_")}
        assert shifted == {
            f"Electron1_pt_electron{shift}{way}" for shift in ("Scale", "Smearing") for way in ("Up", "Down")
        }


@pytest.fixture(scope="module")
def used_scores(tmp_path_factory: pytest.TempPathFactory, follow: Callable[..., str]) -> tuple[Path, str]:
    """What is made by following the page on what to do with scores, and what it prints."""
    pytest.importorskip("ML_processing.stages")
    pytest.importorskip("torch")
    directory = tmp_path_factory.mktemp("scores")
    samples = ROOT / "examples" / "nano"
    sources = [samples / name / f"{name}_1.root" for name in ("WZTo3LNu_Pt100", "ZGToLLG_PtG100")]
    pretend_data(sources, directory / "data" / "Muon" / "data.root")
    return directory, follow("scores.md#use-the-scores-in-your-program", directory, quick=True)


def expected_yields(directory: Path, region: str) -> dict[str, tuple[float, float]]:
    """The yield of each process in a region and its error, by the histograms of the analysis."""
    found = Templates.read(directory / "analysis" / "histograms" / "histograms.h5").histogram("ZCand_mass").channels
    (channel,) = (each for each in found if each.region == region)
    return {
        name: (float(each.nominal.sum()), float(each.variances.sum()) ** 0.5)
        for name, each in channel.processes.items()
    }


def check_yields(printed: str, directory: Path, programs: int) -> None:
    """That each program gives the yields of the histograms, with their errors."""
    known = {region: expected_yields(directory, region) for region in ("SR", "CR_b")}
    for each in known.values():
        each["Muon"] = each.pop("data_obs", (0.0, 0.0))
    told = re.findall(r"^(\w+) in (\w+): ([\d.]+) ± ([\d.]+)$", printed, re.M)
    seen = 0
    for name, region, total, error in told:
        if name in known[region]:
            expected = pytest.approx(known[region][name], rel=1e-4, abs=1e-4)
            assert (float(total), float(error)) == expected, (name, region)
            assert float(total) > 0
            seen += 1
    assert seen == programs


@pytest.mark.exhaustive("pages of the manual")
def test_every_way_to_use_scores_gives_the_yields_of_the_histograms(used_scores: tuple[Path, str]) -> None:
    directory, printed = used_scores
    config = load(directory / "analysis.yaml")
    assert "data_obs" not in expected_yields(directory, "SR")
    assert np.isnan(expected_yields(directory, "CR_b")["data_obs"][0])
    unblind_all(config)
    for stage in pipeline_stages(config, ("fill", "histogram")):
        for task in stage.tasks:
            task.work()
    check_yields(printed, directory, 3 + 4)  # hist; pandas, with data
    alone = dict(re.findall(r"^(\w+) in SR, from test events alone: ([\d.]+)", printed, re.M))
    assert list(alone) == ["signal", "WZ", "ZG"]
    for name, printed_yield in alone.items():
        total, error = expected_yields(directory, "SR")[name]
        assert abs(float(printed_yield) - total) < 5 * 5**0.5 * error  # a fifth of the events
    shifts = re.findall(r"^_(\w+) (\[.*?\])$", printed, re.M | re.S)
    assert [name for name, _ in shifts] == ["pileupUp", "jesUp"]
    assert re.search(r"^data / simulation = \d", printed, re.M)


@pytest.mark.exhaustive("pages of the manual")
def test_files_that_are_scored_already_get_their_weights(used_scores: tuple[Path, str]) -> None:
    directory, _ = used_scores
    scores = Path("scores", "WZ", "WZTo3LNu_Pt100_0.root")
    made, added = (events(directory / name / scores) for name in ("analysis", "weights"))
    for name in ("eventWeight", "eventWeight_jesUp", "in_SR_jesDown"):
        assert made[name].array().to_list() == added[name].array().to_list()
    assert 10 < sum(made["eventWeight"].array()) < 1000


@pytest.mark.exhaustive("pages of the manual")
@pytest.mark.parametrize(
    ("program", "package"),
    [pytest.param("with_rdataframe.py", "ROOT", marks=pytest.mark.root), ("with_coffea.py", "coffea")],
)
def test_programs_that_need_other_packages_give_the_same(
    used_scores: tuple[Path, str], program: str, package: str
) -> None:
    pytest.importorskip(package)
    directory, _ = used_scores
    line = [sys.executable, f"examples/programs/{program}"]
    done = subprocess.run(line, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check_yields(done.stdout, directory, 3)


def test_histograms_are_templates(tmp_path: Path, follow: Callable[..., None]) -> None:
    pytest.importorskip("ML_processing.stages")
    follow("histograms.md", tmp_path, quick=True)
    made = tmp_path / "analysis" / "histograms"
    with uproot.open(made / "histograms.root") as file:
        found = file["discriminant/SR/WZ"]
        assert 0 < found.values().sum() < 1000
        assert file["plane/SR/WZ"].values().shape == (10, 5)
        assert file["discriminant/SR/WZ_jesUp"].values().tolist() != found.values().tolist()
    assert (made / "discriminant_SR_uncertainties.png").is_file()
    assert "| WZ |" in (made / "yields.md").read_text()
    pytest.importorskip("pyhf")
    follow("howto/fit.md", tmp_path, inside=".")
    assert "jes" in (tmp_path / "cards" / "datacard.txt").read_text()


def test_a_real_analysis_has_scores_under_shifts(tmp_path: Path, follow: Callable[..., None]) -> None:
    pytest.importorskip("ML_processing.stages")
    follow("analysis.md#from-the-first-line-to-the-result", tmp_path, quick=True)
    results = tmp_path / "wprime" / "results"
    content = metadata_content(results / "hdf5" / "WZ_2022.h5")
    assert [each["luminosity"] for each in content["datasets"]] == [8]
    assert [each["name"] for each in content["weights"]] == ["pileup"]
    regions = json.loads((results / "training" / "metrics.json").read_text())["regions"]
    assert [each["is_trained_on"] for each in regions.values()] == [True, False]
    skim, score = (events(results / name / "WZ_2018" / "WZTo3LNu_Pt100_0.root") for name in ("skims", "scores"))
    assert {"missing_jesUp", "GoodJet_jerDown_pt", "nGoodJet_jesUp", "selected_jesDown"} <= set(skim.keys())
    assert {f"wprime_signal_{shift}" for shift in ("jesUp", "jesDown", "jerUp", "jerDown")} <= set(score.keys())
    assert {path.stem for path in results.glob("*.onnx")} == {"model", "model_2018", "model_2022"}
    own = (ROOT / "doc" / "analysis.md").read_text().partition("```python corrected.py\n")[2].partition("```")[0]
    lines = [line for line in own.splitlines() if line.strip()]
    assert len(lines) < 40


@pytest.fixture(scope="module")
def salted(tmp_path_factory: pytest.TempPathFactory, follow: Callable[..., None]) -> Path:
    """What is made by following the page on training with salt, which has packages of its own."""
    if shutil.which("salt") is None:
        pytest.skip("salt is not in the PATH: pip install salt-ml")
    directory = tmp_path_factory.mktemp("salt")
    follow("networks.md#training-with-salt", directory, hidden=["PYTHONPATH"])
    return directory


@pytest.mark.exhaustive("pages of the manual")
def test_salt_trains_on_a_file_as_it_is(salted: Path) -> None:
    metadata = yaml.safe_load((salted / "logs/trilepton_first/metadata.yaml").read_text())
    assert (metadata["num_train"], metadata["num_val"]) == (7600, 3650)
    (checkpoint,) = salted.glob("logs/trilepton_first/ckpts/*.ckpt")
    loss = re.search(r"val_loss=([0-9.]+)[.]ckpt", checkpoint.name)
    assert loss is not None
    assert float(loss[1]) < 0.95  # guessing gives ln 3 = 1.10


@pytest.mark.exhaustive("pages of the manual")
def test_its_scores_go_back_to_the_files_that_they_were_made_of(salted: Path) -> None:
    right, total = 0, 0
    for name, class_ in (("WprimeToWZToLNuLL_M600", 0), ("WZTo3LNu_Pt100", 1), ("ZGToLLG_PtG100", 2)):
        with uproot.open(salted / "scores" / f"{name}_2.root") as root:
            scores = root["Events"].arrays(library="np")
        found = np.stack([scores[f"trilepton_p{column}"] for column in ("signal", "WZ", "ZG")], axis=1)
        assert np.allclose(found.sum(axis=1), 1, atol=1e-3)
        right += int((found.argmax(axis=1) == class_).sum())
        total += len(found)
    assert total == 3650
    assert right / total > 0.55  # guessing gives a third
