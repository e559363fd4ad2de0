"""The changes under variations of weights, against the same written out plainly."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ML_processing.evaluation.sections.variations import Change, Variation, Variations, VariedDiscriminant, VariedYields
from ML_processing.events.columns import Source, sources_of
from ML_processing.metrics.significance import asimov, discovery
from ML_processing.training.data import read
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.contracts.hdf5 import ConvertedWeight
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod.fileaccounting import NOMINAL, WeightSums
from MLTools.NanoML.report.page import with_error
from services.evaluations import draw_only, evaluate, evaluation, undefined_in

pytestmark = pytest.mark.exhaustive("each section and answer of the report")

Toy, Evaluated = Callable[..., Path], tuple[Path, dict[str, Any], Path]
COUNT = 600
NUMBER = np.arange(COUNT)
FACTORS: dict[str, Any] = {
    "weight_pileupUp": 1 + 0.02 * (NUMBER % 3),
    "weight_pileupDown": 1 - 0.01 * (NUMBER % 3),
    "weight_btag_hfUp": np.where(NUMBER % 2, 1.4, 1.0),
    "weight_btag_hfDown": np.where(NUMBER % 2, 0.7, 1.0),
    "weight_btag_lfUp": np.where(NUMBER % 4, 1.0, 1.1),
    "weight_btag_lfDown": np.where(NUMBER % 4, 1.0, 1.05),
    "weight_modelOther": np.linspace(0.9, 1.1, COUNT),
}
MEMBERS = {f"weight_scale_{name}": 1 + shift * (NUMBER % 5) for name, shift in (("murUp", 0.01), ("murDown", 0.03))}
REGIONS = {"CR": "cut"}
FLAGS: dict[str, Any] = {"in_CR": NUMBER >= 300}


def sums(name: str, means: dict[str, float], keeps_yield: bool = False) -> WeightSums:
    return WeightSums(name, "all", keeps_yield, False, {0: 10.0}, {key: {0: 10 * mean} for key, mean in means.items()})


WEIGHTS = {
    "pileup": sums("pileup", {NOMINAL: 1.01, "up": 1.3, "down": 0.9}),
    "btag": sums("btag", dict.fromkeys([NOMINAL, "hf_up", "hf_down", "lf_up", "lf_down"], 2.0), True),
    "model": sums("model", {NOMINAL: 1.0, "other": 1.0}),
    "scale": replace(sums("scale", {NOMINAL: 1.0, "mur_up": 1.0, "mur_down": 1.0}), combine="envelope"),
}


@pytest.fixture(autouse=True)
def few_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than all else here, and those of `evaluated` are drawn."""
    draw_only(monkeypatch)


def columns(count: int = COUNT) -> dict[str, Any]:
    return {name: values.astype("f4")[:count] for name, values in {**FACTORS, **MEMBERS}.items()}


EVENTS = {"weights": WEIGHTS, "regions": REGIONS, "cross_section": 1.0, **columns(), **FLAGS}  # of weight 1
DRAWN = "variations"


def test_every_number_is_that_of_events_with_other_weights(evaluated: Evaluated) -> None:
    file, metrics, run = evaluated
    training = Training.load(run)
    table = read([file], training.description.config)
    score = training.out_of_fold(table)[1][:, 0].astype(float)
    cut = metrics["plots"]["significance"]["best"]["score_at_least"]

    def quantities(weights: Any) -> dict[str, float]:
        passed = [weights[(score >= cut) & (table.labels == label)].sum() for label in (0, 1)]
        return {
            "signal": weights[table.labels == 0].sum(),
            "other": weights[table.labels == 1].sum(),
            "auc": float(roc_auc_score(table.labels == 0, score, sample_weight=weights)),
            "significance": float(asimov(*passed)),
        }

    nominal = quantities(np.ones(COUNT))
    assert nominal["auc"] == pytest.approx(metrics["auc"]["network"])
    assert nominal["significance"] == pytest.approx(metrics["plots"]["significance"]["best"]["asimov"])
    found = {each["name"]: each for each in metrics["variations"]["sources"]}
    assert set(found) == {"btag_hf", "model_other", "btag_lf", "pileup", "scale"}
    scale = found.pop("scale")["yields"]["signal"]  # both are on one side
    assert scale == {"up": pytest.approx(MEMBERS["weight_scale_murDown"][::2].mean() - 1, abs=1e-6), "down": 0}
    for name, each in found.items():
        for direction in ("up", "down"):
            ending = "weight_modelOther" if name == "model_other" else f"weight_{name}{direction.capitalize()}"
            if name == "model_other" and direction == "down":
                expected = dict.fromkeys(nominal)
            else:
                varied = quantities(FACTORS[ending].astype("f4").astype(float))
                expected = {key: varied[key] / nominal[key] - 1 for key in nominal}
            measured = {**each["yields"], "auc": each["auc"], "significance": each["significance"]}
            for key, value in expected.items():
                assert measured[key][direction] == (None if value is None else pytest.approx(value, abs=1e-6))


def test_a_fit_knows_less_with_variations(evaluated: Evaluated) -> None:
    """Each of them moves the background in all bins together, half of the way from down to up."""
    file, metrics, run = evaluated
    training, found = Training.load(run), metrics["significance"]
    table = read([file], training.description.config)
    score, background = training.out_of_fold(table)[1][:, 0], table.labels == 1

    def events(column: str | None, mine: Any = background) -> Any:
        weights = np.ones(COUNT) if column is None else {**FACTORS, **MEMBERS}[column].astype("f4").astype(float)
        return np.histogram(score[mine], [*found["edges"][:-1], 1.1], weights=weights[mine])[0]

    nominal, signal = events(None), events(None, ~background)
    assert (nominal.tolist(), signal.tolist()) == (found["background"], found["signal"])
    assert len(nominal) > 3
    assert found["background_errors"] == pytest.approx(np.sqrt(nominal), rel=1e-5)
    shifts = {
        "pileup": (events("weight_pileupUp") - events("weight_pileupDown")) / 2,
        "btag_hf": (events("weight_btag_hfUp") - events("weight_btag_hfDown")) / 2,
        "btag_lf": (events("weight_btag_lfUp") - events("weight_btag_lfDown")) / 2,
        "model_other": events("weight_modelOther") - nominal,
        "scale": (np.max(members := [nominal, *map(events, MEMBERS)], axis=0) - np.min(members, axis=0)) / 2,
    }
    assert set(found["sources"]) == set(shifts)
    assert found["network"] == pytest.approx(discovery(signal, nominal, np.sqrt(nominal))[0])
    with_all = discovery(signal, nominal, np.sqrt(nominal), list(shifts.values()))[0]
    assert found["with_variations"]["value"] == pytest.approx(with_all)
    assert with_all < 0.95 * found["network"]
    assert found["difference"] == pytest.approx(found["network"] - found["baseline"])
    page = (run / "report.html").read_text()
    alone = with_error(found["network"], found["network_error"])
    assert f"<td>with statistical errors alone</td><td>{alone}</td>" in page
    both = with_error(with_all, found["with_variations"]["error"])
    assert f"<td>and 5 variations of weights</td><td>{both}</td>" in page


def test_the_largest_comes_first(evaluated: Evaluated) -> None:
    _, metrics, _ = evaluated
    found = [[*it["yields"].values(), it["auc"], it["significance"]] for it in metrics["variations"]["sources"]]
    sizes = [max(abs(change or 0) for of in each for change in of.values()) for each in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(0.4)


def test_regions_have_the_changes_of_their_events_and_the_page_says_what_should_worry(evaluated: Evaluated) -> None:
    _, metrics, run = evaluated
    found = {each["name"]: each["yields"] for each in metrics["variations"]["regions"]["CR"]}
    inside = FLAGS["in_CR"] & (NUMBER % 2 == 0)
    assert found["pileup"]["signal"]["up"] == pytest.approx(FACTORS["weight_pileupUp"][inside].mean() - 1, abs=1e-6)
    page = (run / "report.html").read_text()
    assert "Largest variations of the expected events: btag_hf +40 / \u221230 % of other, " in page
    assert re.findall(r'<section id="(\w+)"', page)[-4:] == ["correlations", "variations", "region_CR", "provenance"]
    assert "<td>model_other</td>" in page
    assert undefined_in(page) == []
    (answer,) = (each for each in metrics["verdict"] if each["question"].startswith("Stable"))
    assert answer["state"] == "bad"
    assert "Largest change of the expected events: btag_hf, +40 / -30 % of other; of the AUC: " in answer["text"]
    assert "to the same side: btag_lf. " in answer["text"]
    assert "The weight pileup (up) has the mean 1.3 in toy and is not normalised" in answer["text"]
    assert "The weight btag" not in answer["text"]


def test_the_picture_has_ratios_in_bins(evaluated: Evaluated) -> None:
    file, metrics, run = evaluated
    training = Training.load(run)
    table = read([file], training.description.config)
    score = training.out_of_fold(table)[1][:, 0]
    shown = metrics["plots"]["variations"]
    assert shown["label"] == "Probability of signal"
    for label, each in enumerate(shown["classes"]):
        mine = table.labels == label
        nominal = np.histogram(score[mine], shown["edges"])[0]
        assert each["error"] == [None if not n else pytest.approx(1 / np.sqrt(n), rel=1e-4) for n in nominal]
        for source in each["sources"]:
            if source["name"] == "btag_lf":
                weights = FACTORS["weight_btag_lfUp"].astype("f4").astype(float)
                varied = np.histogram(score[mine], shown["edges"], weights=weights[mine])[0]
                pairs = zip(varied, nominal, strict=True)
                ratios = [None if not n else pytest.approx(v / n, rel=1e-4) for v, n in pairs]
                assert source["up"] == ratios
    assert len(shown["classes"][0]["sources"]) == 3


def test_a_dataset_without_the_weight_keeps_its_own(toy: Toy, quick: Train, tmp_path: Path) -> None:
    """Only some events fit into the memory; yields are those of all, however many are scored."""
    with_it = toy("a.h5", weights=WEIGHTS, **columns())
    without = toy("b.h5", event=np.arange(COUNT) + COUNT)
    run = tmp_path / "run"
    train([with_it, without], replace(quick, folds=1), run)
    for file in (with_it, without):
        with h5py.File(file) as h5:
            assert ("weight_pileupUp" in h5["events"].dtype.names) == (file == with_it)
    metrics = evaluate(run, [with_it, without], run)
    (found,) = (each for each in metrics["variations"]["sources"] if each["name"] == "pileup")
    expected = (FACTORS["weight_pileupUp"][NUMBER % 2 == 0].sum() + 300) / 600 - 1
    assert found["yields"]["signal"]["up"] == pytest.approx(expected, abs=1e-6)


def test_a_sample_of_the_events_has_the_yields_of_all(toy: Toy, quick: Train, tmp_path: Path) -> None:
    """Which events are in memory is found again in the files."""
    count = 30_000
    repeated = {name: np.resize(values, count) for name, values in columns().items()}
    file, run = toy(count=count, weights=WEIGHTS, **repeated), tmp_path / "run"
    train([file], replace(quick, memory=1, epochs=1, batch_size=4096), run)
    metrics = evaluate(run, [file], run)
    assert metrics["events"]["tested"] < count
    found = {each["name"]: each for each in metrics["variations"]["sources"]}
    labels = np.arange(count) % 2
    expected = repeated["weight_pileupUp"][labels == 0].astype(float).mean() - 1
    assert found["pileup"]["yields"]["signal"]["up"] == pytest.approx(expected, abs=1e-6)
    training = Training.load(run)
    table = read([file], training.description.config)
    score = training.out_of_fold(table)[1][:, 0].astype(float)
    assert len(np.unique(score)) > 2048  # AUC from bins
    varied = repeated["weight_modelOther"][table.identifiers[2].astype(int)].astype(float)
    before, after = (roc_auc_score(table.labels == 0, score, sample_weight=each) for each in (None, varied))
    assert found["model_other"]["auc"]["up"] == pytest.approx(after / before - 1, rel=0.01)


def test_a_regression_has_the_changes_of_its_events(toy: Toy, quick: Train, tmp_path: Path) -> None:
    file = toy(z=np.linspace(0, 1, COUNT, dtype=np.float32), weights=WEIGHTS, **columns())
    run = tmp_path / "run"
    train([file], replace(quick, targets=["z"]), run)
    metrics = evaluate(run, [file], run)
    found = metrics["variations"]["sources"][0]
    assert (found["name"], found["auc"], found["significance"]) == ("btag_hf", None, None)
    assert found["yields"]["other"]["up"] == pytest.approx(0.4, abs=1e-6)
    assert metrics["plots"]["variations"]["label"] == "Predicted z"


def test_a_weight_that_is_no_number_is_an_error(toy: Toy, whole: Path, tmp_path: Path) -> None:
    bad = columns()
    bad["weight_pileupUp"][7] = np.nan
    with pytest.raises(NanoMLError, match=r"toy.h5: event 7 has weight_pileupUp nan: a weight must be a number"):
        evaluate(whole, [toy(weights=WEIGHTS, **bad)], tmp_path / "report")
    assert not (tmp_path / "report" / "report.html").exists()


def test_a_long_table_ends_with_the_rest_in_quadrature() -> None:
    yields = [VariedYields(f"pdf{i}", {"WZ": Change(0.03, -0.01)}) for i in range(24)]
    small = [Variation(it, Change(-0.0004, None), None) for it in yields]
    page = VariedDiscriminant("", np.zeros(0), [], 0).tables(evaluation({Variations: Variations(small, {}, [])}))
    assert page.count("<tr>") == 1 + 20 + 1
    assert "<td>pdf19</td><td>+3.0 / -1.0</td><td>-0.04</td>" in page
    assert "<td>4 more, in quadrature</td><td>± 6.0</td><td>± 0.08</td>" in page
    assert "significance</th>" not in page


NUMBERS = st.lists(st.floats(-10, 10), min_size=2, max_size=8)


def test_up_and_down_are_a_pair() -> None:
    btag = ConvertedWeight("btag", {"hf_up": "a", "lf_up": "b", "lf_down": "c", "hf_down": "d", "odd": "e"})
    pileup, plain = ConvertedWeight("pileup", {"down": "f", "up": "g"}), ConvertedWeight("plain")
    scale = ConvertedWeight("scale", {"mur_up": "h", "mur_down": "i"}, False, "envelope")
    assert sources_of([btag, pileup, plain, scale]) == [
        Source("btag_hf", "btag", ("a", "d")),
        Source("btag_lf", "btag", ("b", "c")),
        Source("btag_odd", "btag", ("e",)),
        Source("pileup", "pileup", ("g", "f")),
        Source("scale", "scale", ("h", "i"), "envelope"),
    ]


@given(NUMBERS)
def test_members_are_combined_value_by_value(values: list[float]) -> None:
    nominal, *members = values
    names = [f"member{i}" for i in range(len(members))]

    def ends(combine: str) -> list[list[float]]:
        quantity = np.array([[value, 2 * value] for value in values])
        found = Source("x", "x", tuple(names), combine).ends(quantity, ["weight", *names])
        return [each.tolist() for each in found if each is not None]

    def around(spread: float) -> list[object]:
        found = ([nominal + shift, 2 * (nominal + shift)] for shift in (spread, -spread))
        return [pytest.approx(each, abs=1e-9) for each in found]

    assert ends("envelope") == [[max(values), 2 * max(values)], [min(values), 2 * min(values)]]
    assert ends("hessian") == around(sum((member - nominal) ** 2 for member in members) ** 0.5)
    assert ends("replicas") == around(float(np.std(members, ddof=1)) if len(members) > 1 else 0.0)


def test_the_combination_is_that_of_bins_and_not_of_events() -> None:
    """Two members that move events of one bin to opposite sides leave its sum."""
    events = np.array([[1.0, 1.0], [1.2, 0.8], [0.8, 1.2]])
    up, down = Source("pdf", "pdf", ("a", "b"), "hessian").ends(events.sum(axis=1), ["weight", "a", "b"])
    assert down is not None
    assert (float(up), float(down)) == pytest.approx((2.0, 2.0))
