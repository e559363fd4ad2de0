from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ML_processing.evaluation.sections.cuts import is_mass
from ML_processing.events.data import Table
from ML_processing.events.survey import make_splits
from ML_processing.metrics.measured import effective_events
from ML_processing.training.data import inputs_of, read
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Against, Decorrelation, Train
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.report import figures
from MLTools.NanoML.report.page import with_error
from services.evaluations import draw_only, evaluate, undefined_in
from services.trainings import changing

Toy, Tested = Callable[..., Path], tuple[Training, Table, Any]
CLASSES = ["signal", "WZ", "ZG"]
FEATURES = ["ZCand_mass", "ZCand_dR", "ThreeLep_sumPt", "WLep_pt", "MET_pt", "WCand_mT", "ThreeLep_mass"]
TOY_AUC = 0.841  # the best: two Gaussians of unit width at a distance of sqrt(2), Phi(1)


@pytest.fixture(autouse=True)
def no_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than all else here; those of the example, of drift and of a regression are made."""
    if "drawn" not in request.fixturenames:
        draw_only(monkeypatch)

    def save(figure: object, stem: Path, numbers: object = None) -> None:
        for kind in (".png", ".json"):
            stem.with_suffix(kind).touch()

    monkeypatch.setattr(figures, "save", save)


@pytest.fixture
def drawn() -> None:
    """Asks for figures that are drawn, though not saved."""


@pytest.fixture(scope="module")
def tested(run: Path, files: list[Path]) -> Tested:
    """The training of the example, the events that its networks have not seen, and their scores."""
    training, table = Training.load(run), read(files, Train())
    rows, scores = training.out_of_fold(table)
    return training, table[rows], scores


@pytest.fixture
def trained(toy: Toy, whole: Path) -> tuple[Path, Path]:
    """The toy events, and the directory of a quick training on them."""
    return toy(), whole


def test_numbers_are_out_of_fold(run: Path, files: list[Path], measured: dict[str, Any]) -> None:
    """Once more, written out plainly and measured by scikit-learn."""
    training, table = Training.load(run), read(files, Train())
    scores = np.full(len(table), np.nan)
    shares = training.description.discriminants[0].shares
    for split, network in zip(make_splits(table, 5), training.networks, strict=True):
        with torch.no_grad():
            logits = network(inputs_of(table[split.test]))
        p = torch.softmax(logits, dim=1).numpy()
        scores[split.test] = p[:, 0] / (p[:, 0] + p[:, 1] * shares["WZ"] + p[:, 2] * shares["ZG"])
    truth = table.labels == 0
    weighted = roc_auc_score(truth, scores, sample_weight=table.weights)
    assert measured["auc"]["network"] == pytest.approx(weighted, abs=1e-6)
    assert measured["auc_unweighted"]["network"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    for label, name in enumerate(table.classes[1:], 1):
        use = truth | (table.labels == label)
        expected = roc_auc_score(truth[use], scores[use], sample_weight=table.weights[use])
        assert measured["auc_against"][name]["weighted"]["network"] == pytest.approx(expected, abs=1e-6)
    for cut in measured["cuts"]:
        passed = scores >= cut["score_at_least"]
        kept = table.weights[passed & ~truth].sum() / table.weights[~truth].sum()
        assert cut["background_efficiency"] == pytest.approx(kept, rel=1e-4)
        assert cut["background_rejection"] == pytest.approx(1 / kept, rel=1e-4)


def test_one_against_all_and_one_against_one(measured: dict[str, Any]) -> None:
    alone, pairs = measured["auc_one_against_all"], measured["auc_one_against_one"]
    assert alone["signal"]["value"] == pytest.approx(measured["auc"]["network"])
    for name in ("WZ", "ZG"):
        assert pairs["signal"][name]["value"] == pytest.approx(pairs[name]["signal"]["value"])
        assert pairs["signal"][name]["value"] > 0.9
    assert measured["auc_bootstrap_error"] == pytest.approx(measured["auc"]["network_error"], rel=0.25)


def test_every_class_has_its_probability(tested: Tested, measured: dict[str, Any]) -> None:
    _, table, scores = tested
    panels = measured["plots"]["probabilities"]["panels"]
    assert [panel["signal"] for panel in panels] == CLASSES
    for i, panel in enumerate(panels):
        for label, found in enumerate(panel["classes"]):
            mine = table.labels == label
            sums = np.histogram(scores[mine, i], panel["edges"], weights=table.weights[mine].astype(float))[0]
            assert found["test"]["values"] == pytest.approx(sums / sums.sum(), rel=1e-4, abs=1e-6)


def test_significance_is_that_of_the_best_cut(tested: Tested, measured: dict[str, Any]) -> None:
    training, table, scores = tested
    best = measured["plots"]["significance"]["best"]
    passed = training.discriminant.values(scores) >= best["score_at_least"]
    signal = table.labels == 0
    s, b = (table.weights[passed & part].sum(dtype=float) for part in (signal, ~signal))
    assert best["signal"] == pytest.approx(s)
    assert best["background"] == pytest.approx(b)
    assert best["asimov"] == pytest.approx(np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s)))
    assert not measured["plots"]["significance"]["physical"]  # these files know no luminosity


def test_the_significance_is_that_of_the_other_half(run: Path, tested: Tested, measured: dict[str, Any]) -> None:
    training, table, scores = tested
    is_even = table.hashes() % 2 == 0
    totals = np.bincount(table.labels, table.weights.astype(float))
    found = measured["plots"]["significance"]["cross_fit"]
    for half, measures in zip(found["halves"], (~is_even, is_even), strict=True):
        part, score = table[measures], training.discriminant.values(scores)[measures]
        here = np.bincount(part.labels, part.weights.astype(float))
        weights = (part.weights * (totals / here)[part.labels])[score >= half["score_at_least"]]
        signal = part.labels[score >= half["score_at_least"]] == 0
        s, b = weights[signal].sum(), weights[~signal].sum()
        assert half["asimov"] == pytest.approx(np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s)))
    assert [half["chosen_on"] for half in found["halves"]] == ["even", "odd"]
    text = (run / "report.html").read_text()
    shown = with_error(found["asimov"], found["asimov_error"])
    assert f"Significance: {shown}, with the cut chosen on one half" in text


def test_efficiencies_are_those_of_the_cut(measured: dict[str, Any]) -> None:
    efficiency, best = measured["plots"]["efficiency"], measured["plots"]["significance"]["best"]
    assert efficiency["score_at_least"] == best["score_at_least"]
    assert [panel["name"] for panel in efficiency["features"]] == FEATURES
    for panel in efficiency["features"]:
        values, errors = (np.array(panel["classes"][0][key], float) for key in ("values", "errors"))
        assert len(values) == len(panel["edges"]) - 1 == 8
        assert np.nanmin(values) >= 0
        assert np.nanmax(values) == pytest.approx(best["signal_efficiency"], abs=0.3)
        assert np.nanmax(errors) < 0.25


def test_masses_are_tested_for_sculpting(measured: dict[str, Any]) -> None:
    panels = measured["plots"]["sculpting"]["panels"]
    assert {panel["feature"] for panel in panels} == {"ZCand_mass", "WCand_mT", "ThreeLep_mass"}
    assert {panel["background"] for panel in panels} == {"WZ", "ZG"}
    by_name = {(panel["feature"], panel["background"]): panel["after"][-1] for panel in panels}
    bound = by_name["ThreeLep_mass", "WZ"]  # the signal is a peak in it
    assert bound["jensen_shannon"] > 0.1
    assert bound["standard_deviations"] > 5
    (answer,) = (it for it in measured["verdict"] if it["question"] == "Does a cut sculpt the mass?")
    assert answer["state"] == "good"  # nobody asked for the shape to be kept
    assert answer["text"].startswith("Most of all ")
    assert "natural for a network that knows the mass" in answer["text"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Dijet_mass", True), ("WCand_mT", True), ("mll", True), ("Muon_pt", False), ("MET_mTower", False)],
)
def test_what_is_a_mass(name: str, expected: bool) -> None:
    assert is_mass(name) is expected


def test_importance(measured: dict[str, Any]) -> None:
    importance = measured["plots"]["importance"]
    rows = {row["name"]: row for row in importance["inputs"]}
    assert list(rows) == FEATURES
    assert rows["MET_pt"]["loss"] > 5 * rows["MET_pt"]["error"] > 0
    assert rows["ZCand_mass"]["loss"] < rows["MET_pt"]["loss"] / 5
    assert rows["ZCand_mass"]["attribution"] < rows["MET_pt"]["attribution"] / 2


def test_overtraining_is_tested_network_by_network(measured: dict[str, Any]) -> None:
    checked = measured["overtraining"]
    assert checked["auc_on_training_events"] > checked["auc_on_test_events"]
    assert checked["auc_on_test_events"] == pytest.approx(measured["auc"]["network"], abs=0.01)
    for name in CLASSES:
        tests = checked["kolmogorov_smirnov"][name]["networks"]
        assert len(tests) == 5
        smallest = min(test["probability"] for test in tests)
        assert checked["kolmogorov_smirnov"][name]["probability"] == pytest.approx(min(1, 5 * smallest))


def test_events_and_confusion(files: list[Path], measured: dict[str, Any]) -> None:
    table = read(files, Train())
    assert measured["events"]["total"] == measured["events"]["tested"] == len(table)
    sums = np.bincount(table.labels, table.weights.astype(float))
    for i, found in enumerate(measured["events"]["classes"].values()):
        assert found["events"] == (table.labels == i).sum() == pytest.approx(found["effective"], rel=1e-5)
        assert found["sum_of_weights"] == pytest.approx(sums[i])
    assert np.array(measured["confusion"]).sum(axis=1) == pytest.approx(sums)


def test_discriminants_have_their_own_backgrounds(files: list[Path], quick: Train, tmp_path: Path, drawn: None) -> None:
    """A class without a share does not count."""
    wanted = {"a": Against("signal", {"ZG": 1}), "b": Against("WZ", {"WZ": 3, "ZG": 1})}
    wanted["c"] = Against("signal", {"WZ": 1, "ZG": 9})
    train(files, dataclasses.replace(quick, discriminants=wanted), tmp_path / "run")
    content = evaluate(tmp_path / "run", files, tmp_path)
    training, table = Training.load(tmp_path / "run"), read(files, Train())
    rows, p = training.out_of_fold(table)
    labels, weights = table.labels[rows], table.weights[rows]
    first, second, third = content["discriminants"]
    assert third["shares"] == {"signal": 1, "WZ": 0.1, "ZG": 0.9}
    score = p[:, 0] / (p[:, 0] + 0.1 * p[:, 1] + 0.9 * p[:, 2])
    expected = roc_auc_score(labels == 0, score, sample_weight=weights)
    assert third["auc"]["network"] == pytest.approx(expected, abs=1e-5)
    use = labels > 0
    score = 3 * p[use, 1] / (3 * p[use, 1] + p[use, 2])
    expected = roc_auc_score(labels[use] == 1, score, sample_weight=weights[use])
    assert second["auc"]["network"] == pytest.approx(expected, abs=1e-5)
    against = {name: it["weighted"] for name, it in content["auc_against"].items()}
    assert content["auc"] == first["auc"] == against["ZG"] != against["WZ"]
    assert content["score"] == "discriminant a, signal against ZG"
    plots, titles = content["plots"], [f"iscriminant {name}" for name in wanted]
    assert [it["name"] for it in plots["calibration"]["discriminants"]] == [f"d{it}" for it in titles]
    assert [it["label"] for it in plots["discriminants"]["panels"]] == [f"D{it}" for it in titles]
    assert plots["scores"]["label"] == "Discriminant a"
    assert [it["label"] for it in plots["roc"]["curves"]] == ["Network (vs ZG)", "BDT (vs ZG)"]
    # all are expected behind a cut
    expected = table.weights[table.labels > 0].sum(dtype=float)
    assert plots["significance"]["background"][0] == pytest.approx(expected, rel=1e-4)
    report = (tmp_path / "report.html").read_text()
    assert "signal against ZG</td>" in report
    assert "signal against WZ (10 %) and ZG (90 %)" in report
    assert '<section id="discriminants"' in report


@pytest.mark.parametrize("how", ["signed", "reweight"])
def test_negative_weights(toy: Toy, quick: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    file = toy(negative=0.25)
    train([file], dataclasses.replace(quick, epochs=30, negative_weights=how), tmp_path / "run")
    content = evaluate(tmp_path / "run", [file], tmp_path / "report")
    assert content["auc"]["network"] == pytest.approx(TOY_AUC, abs=0.05)
    assert content["auc"]["baseline"] == pytest.approx(TOY_AUC, abs=0.05)
    assert content["auc_against"]["other"]["weighted"] == content["auc"]
    assert content["score"] == "probability of signal, signal against other"
    assert content["discriminants"] == content["plots"]["calibration"]["discriminants"] == []
    assert content["plots"]["discriminants"] is None
    page = (tmp_path / "report" / "report.html").read_text()
    signed = read([file], Train())
    for i, name in enumerate(signed.classes):  # whatever the training did
        weights = signed.weights[signed.labels == i]
        events = content["events"]["classes"][name]
        assert events["sum_of_weights"] == weights.sum()
        assert events["negative"] == pytest.approx((weights < 0).mean())
        assert events["effective"] == pytest.approx(effective_events(weights))
    assert ("effective events, positive" in page) == (how == "reweight") == bool(content["events"]["reweighted"])
    if how == "signed":
        monkeypatch.setattr("ML_processing.evaluation.measurement.MOST_EVENTS", 200)
        sampled = evaluate(tmp_path / "run", [file], tmp_path / "report")
        assert sampled["auc"] == content["auc"]
        assert sampled["events"]["sampled"] == sampled["plots"]["features"]["events"] == 200
        assert "a random choice of 200 of them" in sampled["notes"][-1]


def test_other_events_are_noted(toy: Toy, trained: tuple[Path, Path], tmp_path: Path) -> None:
    content = evaluate(trained[1], [toy("more.h5", count=700)], tmp_path / "report")
    expected = "These are not the events of the training, or not with its weights: the BDT learned from these, the networks from others."
    assert expected in content["notes"]


def test_events_with_other_features(toy: Toy, trained: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="the training has the features x, y, but these events have x, y, z"):
        evaluate(trained[1], [toy("z.h5", z=np.arange(600.0))], tmp_path / "report")


def test_signal_without_a_positive_sum_of_weights(toy: Toy, trained: tuple[Path, Path], tmp_path: Path) -> None:
    """The report says so in colours and words."""
    other = toy("other.h5")
    with changing(other) as rows:
        rows["weight"][rows["label"] == 0] = -1
    content = evaluate(trained[1], [other], tmp_path / "report")
    assert content["auc"]["network"] is None
    assert content["auc_unweighted"]["network"] == pytest.approx(TOY_AUC, abs=0.05)
    assert content["cuts"] == []
    page = (tmp_path / "report" / "report.html").read_text()
    assert "No AUC is defined" in page
    assert '<li class="bad"><span class="state">✗ worrying</span><b>Separated?</b>' in page
    assert '<li class="good"><span class="state">✓ fine</span><b>Enough events?</b>' in page


def test_notes_on_sentinels_and_on_too_few_epochs(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy(z=np.where(np.arange(600) % 10 == 3, -99, np.random.default_rng(3).normal(size=600)).astype("f4"))
    train([file], dataclasses.replace(quick, epochs=2, learning_rate=1e-3), tmp_path / "run")
    notes = evaluate(tmp_path / "run", [file], tmp_path / "run")["notes"]
    assert notes == [
        "3 of 3 networks were at their best in their last epoch: a larger train.epochs should improve them.",
        "These values lie apart from all others, so they count as missing: -99 in z.",
    ]
    assert "<td>z</td><td>0 %</td><td>20 %</td>" in (tmp_path / "run" / "report.html").read_text()


def test_collections(object_files: list[Path], tmp_path: Path) -> None:
    options = {"hidden": [16]}
    config = Train("deepsets", options, features=["MET_pt"], folds=1, epochs=4, learning_rate=5e-3, device="cpu")
    train(object_files, config, tmp_path / "run")
    content = evaluate(tmp_path / "run", object_files, tmp_path / "report")
    rows = {row["name"]: row for row in content["plots"]["importance"]["inputs"]}
    assert {"MET_pt", "Electron_pt", "Muon_eta", "Electron", "Muon"} <= set(rows)
    assert [name for name, row in rows.items() if row["collection"]] == ["Electron", "Muon"]
    assert rows["Muon"]["loss"] > 0
    assert rows["Muon"]["attribution"] is None
    assert all(rows[name]["attribution"] > 0 for name in ("MET_pt", "Muon_pt", "Electron_eta"))
    assert rows["Muon_mass"]["attribution"] == rows["Muon_mass"]["loss"] == 0  # the same in every muon
    panels = {panel["name"]: panel for panel in content["plots"]["features"]["panels"]}
    assert {"MET_pt", "Electron_pt", "Muon_pt"} <= set(panels)
    assert content["auc"]["baseline"] > 0.8  # the trees read the leptons, too
    spectators = [panel["name"] for panel in content["plots"]["efficiency"]["features"]]
    assert "ThreeLep_mass" in spectators  # a column that is no input


def test_regression(files: list[Path], tmp_path: Path, drawn: None) -> None:
    config = Train("mlp", targets=["ThreeLep_mass"], folds=3, epochs=30, batch_size=64, learning_rate=5e-3)
    train(files, config, tmp_path / "run")
    content = evaluate(tmp_path / "run", files, tmp_path / "report", compare=files[1:2])
    training, table = Training.load(tmp_path / "run"), read(files, config)
    rows, values = training.out_of_fold(table)
    residual = values[:, 0].astype(float) - table.extras["ThreeLep_mass"][rows]
    found = content["targets"]["ThreeLep_mass"]["network"]
    weights = table.weights[rows].astype(float)
    assert found["bias"]["value"] == pytest.approx(np.average(residual, weights=weights))
    assert found["rmse"]["value"] == pytest.approx(np.sqrt(np.average(residual**2, weights=weights)))
    assert 0 < found["resolution"]["value"] < found["rmse"]["value"] < 200
    assert 0 < content["targets"]["ThreeLep_mass"]["baseline"]["resolution"]["value"] < 100
    assert "resolution of the network" in content["verdict"][0]["text"]
    loss = {row["name"]: row["loss"] for row in content["plots"]["importance"]["inputs"]}
    assert loss["ThreeLep_sumPt"] > loss["ZCand_mass"]
    assert "Regression of ThreeLep_mass." in (tmp_path / "report" / "report.html").read_text()


def test_drift(toy: Toy, trained: tuple[Path, Path], tmp_path: Path, drawn: None) -> None:
    """All other numbers are the same, and so they are once more, without its figure."""
    (file, run), random = trained, np.random.default_rng(2)
    shifted = toy("shifted.h5", x=random.normal(1.5, 1.0, 600).astype("f4"))
    content = evaluate(run, [file], tmp_path / "report", [shifted])
    panels = content["plots"]["drift"]["panels"]
    assert [panel["name"] for panel in panels] == ["x", "y"]
    assert panels[0]["distance"] > 0.3
    assert panels[0]["shift"] == pytest.approx(1.0 / 1.2, abs=0.25)
    assert panels[0]["probability"] < 1e-6
    assert panels[1]["distance"] == panels[1]["shift"] == 0
    assert (tmp_path / "report" / "drift.png").exists()
    again = evaluate(run, [file], tmp_path / "report")
    assert not (tmp_path / "report" / "drift.png").exists()
    assert {name for name in content if again[name] != content[name]} <= {"created", "plots", "verdict"}
    assert {**content["plots"], "drift": None} == again["plots"]


def test_drift_of_files_without_a_feature(trained: tuple[Path, Path], write: Any, tmp_path: Path) -> None:
    file, run = trained
    with h5py.File(file) as h5:
        rows = h5["events"][:]
    names = [name for name in rows.dtype.names if name != "y"]
    other = write(tmp_path / "other.h5", rows[names].copy(), classes=["signal", "other"])
    with pytest.raises(NanoMLError, match=r"other.h5: cannot be compared with .* \"y\" is not in the HDF5 files"):
        evaluate(run, [file], tmp_path / "report", [other])


def test_decorrelated_column_is_tested(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy(spectator=np.random.default_rng(3).normal(size=600).astype("f4"))
    config = dataclasses.replace(quick, features=["x", "y"], decorrelate=Decorrelation("spectator"))
    train([file], config, tmp_path / "run")
    content = evaluate(tmp_path / "run", [file], tmp_path / "report")
    assert {panel["feature"] for panel in content["plots"]["sculpting"]["panels"]} == {"spectator"}
    assert "These are not" not in str(content["notes"])


def test_a_parametrised_network_is_measured_at_each_value(toy: Toy, quick: Train, tmp_path: Path) -> None:
    """Otherwise the value itself would tell signal from background, to a BDT as well, and be called a better AUC."""
    number, found = np.arange(1200), []
    mass = np.where(number % 2, np.nan, np.where(number % 4, 600, 1000)).astype("f4")
    for cross_section in (1, 64):
        file = toy(f"{cross_section}.h5", count=1200, mass=mass, parameter="mass")
        with changing(file) as rows:
            rows["weight"][mass == 600] *= cross_section
        run = tmp_path / f"run{cross_section}"
        metrics = train([file], dataclasses.replace(quick, parameter="mass"), run)
        content = evaluate(run, [file], run)
        assert metrics["auc"] == pytest.approx(content["auc"]["network"])
        assert content["plots"]["significance"] is None
        assert "Every mass has the same total weight in what is measured" in str(content["notes"])
        assert "These are not" not in str(content["notes"])
        found.append(content["auc"])
    assert found[1] == pytest.approx(found[0], abs=5e-3)
    assert found[0]["baseline"] == pytest.approx(TOY_AUC, abs=0.05)
    at = content["auc_at_parameter"]
    assert [(it["parameter"], it["signal_events"]) for it in at] == [(600, 300), (1000, 300)]
    for it in at:
        assert it["value"] == pytest.approx(TOY_AUC, abs=4 * it["error"])
    page = (run / "report.html").read_text()
    assert "At each value of the parameter" in page
    assert '<li class="open"><span class="state">? no answer</span>' in page
    assert content["plots"]["sculpting"] is None  # the parameter has the name of a mass, but is none
    (sculpting,) = (it for it in content["verdict"] if it["question"] == "Does a cut sculpt the mass?")
    assert sculpting["state"] == "open"


EMPTY = ("meta", "img")


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.places: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            found = {"src": self.sources, "href": self.links, "id": self.places}.get(name)
            if found is not None:
                found.append(value or "")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


SHOWN = (
    "loss", "features", "scores", "probabilities", "roc", "importance", "significance", "efficiency", "sculpting", "calibration",
    "confusion", "correlations",
)  # fmt: skip


def test_report_needs_nothing_beside_it(run: Path, measured: dict[str, Any]) -> None:
    for name in SHOWN:
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (run / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert json.loads((run / "metrics.json").read_text()) == measured
    text = (run / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert len(page.sources) == len(SHOWN)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.places == ["numbers", *SHOWN, "provenance"]
    assert set(page.links) == {f"#{place}" for place in page.places}
    assert len(text) < 5e6
    assert 'name="viewport"' in text
    assert "@media print" in text


def test_report_says_what_there_is_to_say(run: Path, measured: dict[str, Any]) -> None:
    text = (run / "report.html").read_text()
    assert measured["significance"] is None  # a fit needs expected numbers of events
    assert "expected significance of a fit" not in text
    for expected in (
        with_error(measured["auc"]["network"], measured["auc"]["network_error"]),
        "ThreeLep_sumPt",
        "WZTo3LNu_Pt100 (WZ)",
        "Overtrained?",
        "Calibrated?",
        "Too good to be true?",
        "Enough events?",
        f"Best cut: discriminant at least {measured['plots']['significance']['best']['score_at_least']:.4f}",
        "there is no luminosity",
    ):
        assert expected in text
    assert text.count("<b>Watch for:</b>") == len(SHOWN)
    assert undefined_in(text) == []
