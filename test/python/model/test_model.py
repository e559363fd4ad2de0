from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import Description, Discriminant, Model, twin_of, write_described
from MLTools.NanoML.model.entries import InputRange, KnownTensor, Outside, coefficients, domain_lines, outside_of
from MLTools.NanoML.model.padding import Jagged, Places, padded
from services.pages import fences

Make = Callable[..., Path]
JET_PT = ak.Array([[10.0, 20.0, 30.0], [], [5.0, 1.0], [2.0]])
JET_BTAG = ak.Array([[0.1, 0.9, 0.5], [], [0.2, 0.3], [1.0]])


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def expected(x: np.ndarray, fold: np.ndarray | int) -> np.ndarray:
    return softmax(np.stack([x, np.broadcast_to(fold, x.shape), np.zeros(len(x))], axis=1))


def test_a_model_names_its_inputs_and_scores_by_name(linear_model: Make) -> None:
    model = Model(linear_model(["x", "MET_pt"], ["x"]))
    assert (model.name, model.outputs, model.folds) == ("linear", ["signal", "WZ", "ZG"], 3)
    assert model.columns == model.reads == ["x", "MET_pt"]
    assert model.selection_columns == {"x": "MLTools.NanoML.trilepton:Trilepton"}
    columns = {"MET_pt": np.array([7, 8, 9, 10]), "x": np.array([0.5, 1.5, -2.0, 0.0]), "other": np.zeros(4)}
    fold = np.array([0, 1, 2, 2])
    assert model.scores(columns, fold) == pytest.approx(expected(columns["x"], fold), abs=1e-6)
    mean = np.mean([expected(columns["x"], k) for k in range(3)], axis=0)
    assert model.scores(columns) == pytest.approx(mean, abs=1e-6)
    assert model.scores({"x": np.zeros(0), "MET_pt": np.zeros(0)}, np.zeros(0, np.int64)).shape == (0, 3)


def test_collections(linear_model: Make) -> None:
    """The two jets of the best tag, whose tag the model does not read."""
    model = Model(linear_model(["MET_pt"], objects={"Jet": (["pt", "eta"], 2, "-btag")}))
    assert model.columns == ["MET_pt"]
    assert model.reads == ["MET_pt", "Jet_pt", "Jet_eta", "Jet_btag"]
    columns = {"MET_pt": np.array([1.0, 2.0, 3.0, 4.0]), "Jet_pt": JET_PT / 10, "Jet_eta": JET_PT, "Jet_btag": JET_BTAG}
    tensors = model.tensors(columns)
    assert tensors["Jet"][0] == pytest.approx(np.array([[2, 20], [3, 30]]))
    assert tensors["Jet_mask"].tolist() == [[1, 1], [0, 0], [1, 1], [1, 0]]
    x = np.array([1 + 5.0, 2, 3 + 0.6, 4 + 0.2])
    assert model.scores(columns, np.array([0, 1, 2, 0])) == pytest.approx(expected(x, np.array([0, 1, 2, 0])), abs=1e-6)


def test_the_page_on_scoring(linear_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[3] / "doc" / "scores.md").read_text()
    (code,) = (fence.code for fence in fences(page) if fence.about == "plain.py")
    path = linear_model(["MET_pt"], objects={"Jet": (["pt", "eta"], 2, "-btag"), "Muon": (["pt"], 3, None)})
    shutil.copy(path, tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    jets = {"Jet_pt": JET_PT / 10, "Jet_eta": JET_PT, "Jet_btag": JET_BTAG}
    events = ak.zip({"MET_pt": [1.0, 2.0, 3.0, 4.0], **jets, "Muon_pt": JET_BTAG}, depth_limit=1)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["scores"](events) == pytest.approx(Model(path).scores(events), abs=1e-6)


def test_only_collections(linear_model: Make) -> None:
    model = Model(linear_model([], objects={"Jet": (["pt"], 3, None), "Muon": (["pt"], 1, "pt")}))
    columns = {"Jet_pt": JET_PT / 10, "Muon_pt": Jagged(np.array([3.0, 1.0, 2.0]), np.array([2, 0, 1, 0]))}
    assert list(model.tensors(columns)) == ["Jet", "Jet_mask", "Muon", "Muon_mask"]
    x = np.array([6.0 + 1, 0, 0.6 + 2, 0.2])
    assert model.scores(columns, np.zeros(4, int)) == pytest.approx(expected(x, 0), abs=1e-6)
    model = Model(linear_model([], objects={"Jet": (["pt", "eta"], 3, None)}))
    with pytest.raises(NanoMLError, match="Jet_eta and Jet_pt have different numbers of objects"):
        model.scores({"Jet_pt": JET_PT, "Jet_eta": JET_PT[:, :1]})


def test_batches_make_no_difference(linear_model: Make) -> None:
    model = Model(linear_model(["x"], objects={"Jet": (["pt"], 400, None)}))
    random = np.random.default_rng(1)
    counts = random.integers(0, 3, 1000)
    columns = {"x": random.normal(size=1000), "Jet_pt": Jagged(random.normal(size=counts.sum()), counts)}
    x = columns["x"] + np.bincount(np.repeat(np.arange(1000), counts), columns["Jet_pt"].values, minlength=1000)
    fold = np.arange(1000) % 3
    assert model.scores(columns, fold) == pytest.approx(expected(x, fold), abs=1e-6)


def test_a_model_of_objects(linear_model: Make) -> None:
    model = Model(linear_model(["Jet_btag", "MET_pt"], level="object", collection="Jet"))
    columns = {"Jet_btag": JET_BTAG, "MET_pt": np.arange(4.0)}
    features = model.tensors(columns)["features"]
    assert features[:, 1].tolist() == [0, 0, 0, 2, 2, 3]
    fold = np.array([0, 0, 0, 2, 2, 1])
    assert model.scores(columns, fold) == pytest.approx(expected(ak.flatten(JET_BTAG).to_numpy(), fold), abs=1e-6)
    with pytest.raises(NanoMLError, match="none of Jet_btag, MET_pt has a number for each object"):
        model.scores({"Jet_btag": np.zeros(4), "MET_pt": np.zeros(4)})


AGAINST = [Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.875, "ZG": 0.125})]
AGAINST.append(Discriminant("photons", "ZG", {"ZG": 0.5, "WZ": 2.0}))


def discriminants(p: np.ndarray) -> np.ndarray:
    """Those in AGAINST, computed by hand."""
    of_signal = p[:, 0] / (p[:, 0] + 0.875 * p[:, 1] + 0.125 * p[:, 2])
    return np.stack([of_signal, 0.5 * p[:, 2] / (0.5 * p[:, 2] + 2 * p[:, 1])], axis=1)


def test_discriminants(linear_model: Make) -> None:
    model = Model(linear_model(["x"], discriminants=AGAINST))
    assert model.outputs == ["signal", "WZ", "ZG", "discriminant", "photons"]
    assert model.description.discriminants == tuple(AGAINST)
    assert Description.of_text(json.dumps(model.description.to_json()), "again") == model.description
    x, fold = np.array([0.5, 1.5, -2.0, 0.0]), np.array([0, 1, 2, 2])
    own = expected(x, fold)
    assert model.scores({"x": x}, fold) == pytest.approx(np.hstack([own, discriminants(own)]), abs=1e-6)
    mean = np.mean([expected(x, k) for k in range(3)], axis=0)
    assert model.scores({"x": x}) == pytest.approx(np.hstack([mean, discriminants(mean)]), abs=1e-6)


def test_columns_of_scores(linear_model: Make) -> None:
    model = Model(linear_model(["x", "mass"], discriminants=AGAINST, parameter={"column": "mass", "values": [1.0]}))
    assert [(each.name, each.title) for each in model.score_columns(1.5)][2:-1] == [
        ("linear_ZG", "probability of class ZG by linear at mass = 1.5"),
        ("linear_discriminant", "signal against WZ 0.875, ZG 0.125 by linear at mass = 1.5"),
        ("linear_photons", "ZG 0.5 against WZ 2 by linear at mass = 1.5"),
    ]
    jets = Model(linear_model(["Jet_pt"], discriminants=AGAINST, level="object", collection="Jet"))
    assert [(each.name, each.collection) for each in jets.score_columns(None)][3:] == [
        ("Jet_linear_discriminant", "Jet"),
        ("Jet_linear_photons", "Jet"),
        ("linear_fold", None),
    ]


def test_schema_1_has_no_discriminants(linear_model: Make) -> None:
    outputs = [{"tensor": f"{fold}probabilities", "classes": ["signal", "WZ", "ZG"]} for fold in ("", "fold_")]
    model = Model(linear_model(["x"], schema=1, outputs=outputs))
    assert (model.outputs, model.description.discriminants) == (["signal", "WZ", "ZG"], ())
    assert model.scores({"x": np.zeros(2)}).shape == (2, 3)
    with pytest.raises(NanoMLError, match="cannot be understood .KeyError: 'discriminants'"):
        Model(linear_model(["x"], outputs=outputs))


def test_bad_discriminants(linear_model: Make) -> None:
    good = {"name": "d", "signal": "signal", "shares": {"signal": 1, "WZ": 1}}
    for bad in (
        *({"name": "ZG"}, {"signal": "x", "shares": {"x": 1, "WZ": 1}}),
        *({"shares": it} for it in ({"signal": 1, "x": 1}, {"signal": 1, "WZ": 0}, [1, 2])),
    ):
        columns = {"classes": ["signal", "WZ", "ZG"], "discriminants": [{**good, **bad}]}
        outputs = [{"tensor": f"{fold}probabilities", **columns} for fold in ("", "fold_")]
        with pytest.raises(NanoMLError, match="`nanoml` metadata cannot be understood"):
            Model(linear_model(["x"], outputs=outputs))


def test_regression(linear_model: Make) -> None:
    model = Model(linear_model(["x"], targets=["nu_px", "nu_py", "nu_pz"]))
    assert (model.outputs, model.description.kind) == (["nu_px", "nu_py", "nu_pz"], "targets")
    assert model.scores({"x": np.array([600.0])}, np.array([2])).tolist() == [[600.0, 2.0, 0.0]]


def test_a_parameter_is_given(linear_model: Make) -> None:
    model = Model(linear_model(["mass"], parameter={"column": "mass", "values": [1.0, 2.0]}))
    said = "has the parameter mass, trained at 1, 2: give a number, as in --parameter mass=1"
    with pytest.raises(ConfigError, match=said):
        model.check_parameter(None)
    with pytest.raises(ConfigError, match="give a number"):
        model.check_parameter(float("nan"))
    model = Model(linear_model(["x", "mass"], parameter={"column": "mass", "values": [1.0, 2.0]}))
    assert model.reads == ["x"]
    assert model.tensors({"x": np.zeros(2)}, 1.5)["features"].tolist() == [[0, 1.5], [0, 1.5]]
    with pytest.raises(ConfigError, match="the model has no parameter"):
        Model(linear_model(["x"])).scores({"x": np.zeros(2)}, parameter=3)


def test_a_score_that_is_not_finite_stops(linear_model: Make) -> None:
    model = Model(linear_model(["x"]))
    with pytest.raises(NanoMLError, match="1 of 2 events have a score that is NaN or infinite, for example number 1"):
        model.scores({"x": np.array([0.0, np.nan])})


def test_bad_models_are_explained(linear_model: Make, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    good, bad = linear_model(["x"]), tmp_path / "bad.onnx"
    foreign = onnx.load(good)
    del foreign.metadata_props[:]
    for content, message in (
        *((None, "no such file"), (b"text", "cannot load it"), (good.read_bytes()[:300], "cannot load it.*truncated")),
        (foreign.SerializeToString(), "does not describe itself"),
        (linear_model(["x"], schema=5).read_bytes(), "schema 5, this NanoML reads 1 to 4. Update NanoML"),
    ):
        if content is not None:
            bad.write_bytes(content)
        with pytest.raises(NanoMLError, match=message):
            Model(bad)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"level": "jet"}, "level jet, collection None"), ({"level": "object"}, "level object, collection None")),
        *(({"outputs": []}, "ValueError"), ({"folds": {}}, "KeyError: 'k'")),
        ({"parameter": {"column": "mass", "values": []}}, "parameter mass is not the last column"),
        ({"inputs": [{"tensor": "features"}]}, "KeyError: 'columns'"),
    ],
)
def test_metadata_that_cannot_be(linear_model: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=f"`nanoml` metadata cannot be understood .*{message}"):
        Model(linear_model(["x"], **changes))


def test_the_twin_must_belong_to_the_model(linear_model: Make, tmp_path: Path) -> None:
    good = linear_model(["x"])
    path = tmp_path / "model.onnx"
    shutil.copy(good, path)
    Model(path)  # without a twin: fine
    twin_of(path).write_text(json.dumps({"onnx_sha256": "0" * 64}))
    with pytest.raises(NanoMLError, match="model.json: belongs to another version"):
        Model(path)
    for text in ("{", "[" * 100_000):
        twin_of(path).write_text(text)
        with pytest.raises(NanoMLError, match="model.json: is not the JSON"):
            Model(path)


def test_without_twin_a_hash_counts(linear_model: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    good, path = onnx.load(linear_model(["x"])), tmp_path / "model.onnx"
    write_described(good, good.metadata_props[0].value, path)
    content = path.read_bytes()
    Model(path)
    assert "hash" not in capsys.readouterr().err
    key = content.index(b"nanoml_sha256")
    for place in [key, *(place for place in range(0, len(content), 97) if not key - 4 <= place < key + 15)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        if place != key:
            with pytest.raises(NanoMLError):
                Model(path)
        else:
            Model(path)
            assert f"{path}: has no hash inside, and there is no model.json" in capsys.readouterr().err
    path.write_bytes(content)
    json_of_another = {"onnx_sha256": hashlib.sha256(content).hexdigest()}
    twin_of(path).write_text(json.dumps(json_of_another))
    Model(path)


CLASSES = ["signal", "WZ", "ZG"]
shares = st.floats(1e-3, 1e3)


def test_two_classes_of_equal_shares() -> None:
    found = np.array([[0.3, 0.7], [1, 0], [0, 1]], np.float32)
    alone = Discriminant("d", "a", {"a": 1.0, "b": 1.0})
    assert alone.of(found, ["a", "b"]).tolist() == found[:, 0].tolist()


@given(shares, shares, shares, st.lists(st.tuples(*[st.floats(0, 1)] * 3).filter(any), min_size=1))
def test_bayes(s: float, w: float, z: float, scores: list[tuple[float, ...]]) -> None:
    """With weights f of the classes, the share of the signal in each small region is its share of f times the densities."""
    p = np.array(scores, np.float32)
    found = Discriminant("d", "signal", {"ZG": z, "signal": s, "WZ": w}).of(p, CLASSES)
    exact = p.astype(np.float64)
    expected = s * exact[:, 0] / np.maximum(exact @ [s, w, z], 1e-30)
    assert ((found >= 0) & (found <= 1)).all()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(shares, st.lists(st.floats(0, 1, width=32), min_size=2))
def test_the_share_of_the_signal_changes_no_order(share: float, scores: list[float]) -> None:
    p = np.array([[value, (1 - value) / 3, 2 * (1 - value) / 3] for value in sorted(scores)], np.float32)
    found = Discriminant("d", "signal", {"signal": share, "WZ": 1, "ZG": 4}).of(p, CLASSES)
    assert (np.diff(found) >= -1e-6).all()


def test_several_at_once_and_classes_without_a_share() -> None:
    p = np.array([[0.2, 0.2, 0.6], [0, 0, 1]], np.float32)
    assert Discriminant("d", "signal", {"signal": 1, "WZ": 1}).of(p, CLASSES).tolist() == [0.5, 0]
    two = [Discriminant("a", "WZ", {"WZ": 2, "ZG": 1}), Discriminant("b", "ZG", {"ZG": 1, "signal": 3, "WZ": 4})]
    above, below = coefficients(two, CLASSES)
    assert above.tolist() == [[0, 0], [2, 0], [0, 1]]
    assert below.tolist() == [[0, 3], [2, 4], [1, 1]]


def test_its_formula_in_words() -> None:
    found = Discriminant("d", "WZ", {"ZG": 0.25, "WZ": 1, "signal": 1e-7})
    assert found.formula(CLASSES) == "WZ against signal 1e-07, ZG 0.25"
    assert Discriminant("d", "ZG", {"ZG": 0.5, "WZ": 2}).formula(CLASSES) == "ZG 0.5 against WZ 2"


@pytest.mark.parametrize("given", [{"b": 1}, {"a": 1}, {"a": 1, "b": 0}, {"a": 1, "b": np.nan}, {"a": "x", "b": 1}])
def test_what_is_none(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"discriminant d: shares|could not convert"):
        Discriminant.of_json({"name": "d", "signal": "a", "shares": given})
    Discriminant.of_json({"name": "d", "signal": "a", "shares": {"a": 1, "b": 2}})


def known(name: str, low: float = 0.0, high: float = 10.0, **changes: object) -> InputRange:
    given = {"missing": (), "may_be_missing": False, "quantiles": (), "outside": 0.0002, "limit": 0.01, **changes}
    return InputRange(name, low, high, **given)  # type: ignore[arg-type]


DOMAIN = (
    KnownTensor("features", None, 0, (known("a"), known("b", may_be_missing=True), known("c", missing=(-999.0,)))),
    KnownTensor("Jet", "Jet_mask", 2, (known("Jet_pt", 20, 100), known("Jet_eta", -2.5, 2.5))),
)


def test_numbers_and_objects_outside() -> None:
    nan, inf = np.nan, np.inf
    features = np.array([[0, 0, 0], [10, 10, 10], [10.1, nan, -999], [nan, inf, nan], [-1, -1, -998]], np.float32)
    pairs = [[[0, 0], [0, 0]], [[100, 0], [19, 0]], [[50, -3], [0, 0]], [[nan, 0], [50, 0]], [[0, 0], [30, 0]]]
    jets = np.array(pairs, np.float32)
    mask = np.array([[0, 0], [1, 1], [1, 0], [1, 1], [0, 1]], np.float32)
    found = outside_of(DOMAIN, {"features": features, "Jet": jets, "Jet_mask": mask}).astype(int)
    assert found.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 1], [1, 0, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert outside_of((), {"features": features}).shape == (5, 0)


def test_files_are_added_up() -> None:
    total = Outside()
    for rows in ([[1, 0, 0, 0, 1]], [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]):
        total.add(DOMAIN, np.array(rows, bool))
    assert total == Outside(3, {"a": 2, "Jet_eta": 1})


@pytest.mark.parametrize(("rows", "most"), [(10, 3), (1000, 21), (100_000, 1096)])
def test_as_many_as_statistics_allow(rows: int, most: int) -> None:
    assert not known("a").is_exceeded(most, rows)
    assert known("a").is_exceeded(most + 1, rows)


def test_one_warning_for_each_input() -> None:
    found = {"WZ": Outside(1000, {"a": 2}), "TTbar": Outside(2000, {"a": 100, "Jet_eta": 1})}
    found["data"] = Outside(500, {"a": 60})
    summary, warning = domain_lines("score", "event", DOMAIN, found)
    assert summary == "score: inputs outside of the training's range: a in 4.6 %, Jet_eta in 0.029 % of the events."
    assert warning == (
        "WARNING: score: a is outside of the range 0 to 10, on which the networks were trained, in 12 % of the events of data, 5 % of "
        "the events of TTbar; in the training, in 0.02 %."
    )
    every = next(domain_lines("score", "event", DOMAIN, {"": Outside(10, {"a": 10})}))
    assert every == "score: inputs outside of the training's range: a in 100 % of the events."
    (nothing,) = domain_lines("score", "object", DOMAIN, {"": Outside(10)})
    assert nothing == "score: inputs outside of the training's range: none of the objects."
    assert not [*domain_lines("score", "event", DOMAIN, {"": Outside()})]


PT = ak.Array([[30.0, 50.0, 50.0, 10.0], [], [7.0], [1.0, 2.0, 3.0]])
NUMBER = ak.Array([[0, 1, 2, 3], [], [4], [5, 6, 7]])


def test_lists_of_awkward() -> None:
    for array in (PT, PT[1:], PT[[3, 0]], ak.from_iter([[1.0, None], []])[:, :1]):
        found = Jagged.of(array)
        assert found.values.tolist() == ak.flatten(array).to_list()
        assert found.counts.tolist() == ak.num(array).to_list()


@pytest.mark.parametrize(
    ("by", "descending", "most", "expected"),
    [
        *((None, False, 3, [[0, 1, 2], [], [4], [5, 6, 7]]), (PT, True, 3, [[1, 2, 0], [], [4], [7, 6, 5]])),
        *((PT, False, 2, [[3, 0], [], [4], [5, 6]]), (PT, True, 6, [[1, 2, 0, 3], [], [4], [7, 6, 5]])),
        (NUMBER, True, 1, [[3], [], [4], [7]]),
        (ak.values_astype(NUMBER, np.uint8), True, 2, [[3, 2], [], [4], [7, 6]]),
        (NUMBER > 1, True, 2, [[2, 3], [], [4], [5, 6]]),
    ],
)
def test_order_and_padding(by: ak.Array, descending: bool, most: int, expected: list[list[int]]) -> None:
    numbers, pt = Jagged.of(NUMBER), Jagged.of(PT)
    key = None if by is None else Jagged.of(by).values
    values, mask = padded([numbers.values, pt.values], numbers.counts, most, key, descending)
    assert (values.dtype, mask.dtype) == (np.float32, np.float32)
    assert (values.shape, mask.shape) == ((4, most, 2), (4, most))
    assert mask.tolist() == [[1.0] * len(row) + [0.0] * (most - len(row)) for row in expected]
    flat = ak.flatten(PT).to_list()
    for row, found in zip(expected, values):
        assert found[: len(row), 0].tolist() == row
        assert found[: len(row), 1].tolist() == [flat[number] for number in row]
        assert not found[len(row) :].any()


def test_nan_comes_last() -> None:
    key = np.array([1.0, np.nan, 3.0])
    for descending in (False, True):
        places = Places.of(np.array([3]), 3, key, descending)
        assert places.picked(np.arange(3)).tolist()[2] == 1


def test_no_events_and_numbers_that_are_too_large_for_float32() -> None:
    values, mask = padded([np.zeros(0)], np.zeros(0, np.int64), 4)
    assert (values.shape, mask.shape) == ((0, 4, 1), (0, 4))
    values, _ = padded([np.array([1e300])], np.array([1]), 1)
    assert np.isinf(values).all()
