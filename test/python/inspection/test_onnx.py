from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from printing import words

from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.commands.files import inspect as command
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file, kind_of
from MLTools.NanoML.inspection.onnx import OnnxInspection
from MLTools.NanoML.model import Discriminant, twin_of, write_described
from MLTools.NanoML.model.file import read_header
from MLTools.NanoML.nanoaod.folds import RULE

onnx = pytest.importorskip("onnx")

MADE = ["ZCand_mass", "WLep_pt"]
SELECTION = "MLTools.NanoML.trilepton:Trilepton"
KERNEL = np.array([[0.01, -0.02], [0.005, 0.0], [-0.03, 0.01]], "f4")
BOOKS = {"entries": 4000, "selected": 1100, "sum_of_weights": 4000.0}
EVENTS = np.array([[91.0, 60.0, 40.0], [88.5, 120.0, 300.0]], "f4")


def scores() -> list[list[float]]:
    odds = np.exp(EVENTS.astype("f8") @ KERNEL)
    found: list[list[float]] = (odds / odds.sum(axis=1, keepdims=True)).tolist()
    return found


def metadata() -> dict[str, Any]:
    columns = {"classes": ["signal", "WZ"], "discriminants": []}
    read, made = ["ZCand_mass", "WLep_pt", "MET_pt"], {"selection": SELECTION, "selection_columns": MADE}
    training = {"created": "2025-11-24T15:00:00+00:00", "versions": {"nanoml": "0.1.0", "torch": "2.13.0"}}
    training |= {"git": "abc-dirty", "device": "cpu", "notes": ["3 events [have] NaN"], "metrics": {"auc": 0.91234567}}
    about = {"schema": 2, "name": "trilepton", "level": "event", "collection": None, "parameter": None}
    return {
        **about,
        "inputs": [{"tensor": "features", "columns": read, "dtypes": ["float32"] * 3, **made}],
        "outputs": [{"tensor": "probabilities", **columns}, {"tensor": "fold_probabilities", **columns, "folds": 2}],
        "target": {"cmssw": "CMSSW_14_0_X", "onnxruntime": "1.14.1", "opset": 15, "ir": 8},
        "folds": {"k": 2, "hash": RULE},
        "training": {
            **training,
            "config": {"model": "mlp", "options": {"hidden": [8]}, "regions": [], "epochs": 3, "ema": None},
            "data": {"sha256": "ff00", "files": ["a.h5"]},
            "datasets": [{"name": "WZ", "class": "WZ", "cross_section": 0.05464, "books": BOOKS}, {"name": "unknown"}],
        },
        "reference": {"inputs": {"features": EVENTS.tolist()}, "outputs": scores()},
    }


def model(described: object = None) -> Any:
    """Softmax of a product: two networks in one file, both the same."""
    helper, kind, values = onnx.helper, onnx.TensorProto.FLOAT, onnx.numpy_helper.from_array
    nodes = [
        helper.make_node("MatMul", ["features", "kernel"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Unsqueeze", ["probabilities", "axis"], ["one"]),
        helper.make_node("Concat", ["one", "one"], ["fold_probabilities"], axis=1),
    ]
    tensor = helper.make_tensor_value_info
    outputs = [tensor("probabilities", kind, ["events", 2]), tensor("fold_probabilities", kind, [None, 2, 2])]
    inputs = [tensor("features", kind, ["events", 3])]
    weights = [values(KERNEL, "kernel"), values(np.array([1]), "axis")]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 2)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="test", producer_version="1")
    if described is not None:
        text = described if isinstance(described, str) else json.dumps(described)
        helper.set_model_props(made, {"nanoml": text})
    return made


def write(path: Path, described: object, twin: bool = True) -> Path:
    onnx.save(model(described), path)
    if twin and isinstance(described, dict):
        twin_of(path).write_text(json.dumps({**described, "onnx_sha256": file_hash(path)}))
    return path


def test_a_good_model_and_all_of_it_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", metadata())
    found = inspect_file(path)
    content, text = found.to_json(), words(found)
    assert content["kind"] == "onnx"
    assert content["own"] is True
    assert content["warnings"] == content["errors"] == []
    assert content["sha256"] == file_hash(path)
    assert content["twin"]["state"] == "matches"
    assert content["reference"]["agrees"] is True
    assert content["reference"]["events"] == 2
    assert content["reference"]["difference"] < 1e-6
    columns = [(one["name"], one["source"], one["selection"]) for one in content["columns"]]
    made = [(name, "selection", SELECTION) for name in ("ZCand_mass", "WLep_pt")]
    assert columns == [*made, ("MET_pt", "branch", None)]
    assert content["inputs"] == [{"tensor": "features", "dtype": "tensor(float)", "shape": ["events", 3]}]
    for said in (
        *("trilepton", "signal, WZ", "2, one per fold", "CMSSW_14_0_X (ONNX Runtime 1.14.1 or newer)"),
        *("opset 15, IR 8, ai.onnx.ml 2, written by test 1", file_hash(path)),
        *("belongs to this file", "every event, as branches trilepton_signal and so on", "What it reads of each event"),
        *("gives the scores of all 2 reference events", f"selection {SELECTION}", "NanoAOD branch", "events, 2, 2"),
        *("2025-11-24T15:00:00+00:00", "nanoml 0.1.0, torch 2.13.0"),
        "settings model: mlp, options: {hidden: [8]}, epochs: 3 metrics",  # no defaults, in YAML's words
        *("auc 0.9123", "ff00", "3 events [have] NaN", "0.05464 pb", "4,000", "1,100"),
    ):
        assert said in text


def test_a_model_of_one_network_for_every_release(tmp_path: Path) -> None:
    described = metadata()
    described["folds"]["k"] = 1
    described["target"] = {"cmssw": None, "opset": 15}
    described["training"] = {}
    text = words(inspect_file(write(tmp_path / "model.onnx", described)))
    assert "any release from CMSSW_12_4 on" in text
    assert "one per fold" not in text


def test_metadata_that_contradict_the_file_are_told(tmp_path: Path) -> None:
    described = metadata()
    described["inputs"][0]["columns"].append("MET_phi")
    described["inputs"][0]["dtypes"].append("float32")
    described["target"].update(opset=13, ir=7)
    content = inspect_file(write(tmp_path / "model.onnx", described)).to_json()
    error = "The metadata are not of this model: input features has shape ['events', 3], not [any, 4]"
    assert content["errors"][0].startswith(error)
    assert (content["opset"], content["ir"]) == (15, 8)
    assert content["warnings"][0].startswith("The metadata say opset 13, but the file has 15")
    assert content["warnings"][1].startswith("The metadata say ir 7, but the file has 8")


def test_collections_are_shown(linear_model: Callable[..., Path]) -> None:
    objects = {"Jet": (["eta"], 4, "-btag"), "Muon": (["pt", "eta"], 2, None)}
    mass = {"column": "mass", "values": [600.0, 1000.0]}
    found = inspect_file(linear_model(["MET_pt", "mass"], objects=objects, parameter=mass))
    content = found.to_json()
    assert content["warnings"] == []
    assert [(one["name"], one["collection"], one["source"]) for one in content["columns"]] == [
        *(("MET_pt", None, "branch"), ("mass", None, "parameter"), ("Jet_eta", "Jet", "branch")),
        *(("Muon_pt", "Muon", "branch"), ("Muon_eta", "Muon", "branch")),
    ]
    text = words(found)
    for said in (
        *("What it reads of each event", "up to 4 objects of Jet, the largest Jet_btag first"),
        *("up to 2 objects of Muon, in the file's order", "mass, trained at 600, 1000", "parameter: you give it"),
        *("N, Jets, 1", "gives the scores of all 2 reference events"),
    ):
        assert said in text


def test_a_regression_of_objects(linear_model: Callable[..., Path]) -> None:
    path = linear_model(["Jet_pt"], targets=["a", "b", "c"], level="object", collection="Jet")
    text = words(inspect_file(path))
    for said in (
        *("every object of Jet, as branches Jet_linear_a and so on", "targets a, b, c", "What it reads of each object"),
        "values is their mean, fold_values has each",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("twin", "state", "kind", "said"),
    [
        (None, "missing", "warnings", "There is no .*model.json"),
        ("{", "unreadable", "errors", "model.json: cannot be read. Copy or export both again"),
        ("[]", "unreadable", "errors", "cannot be read"),
        ({"onnx_sha256": "0"}, "of another file", "errors", "another version of this model, or .* damaged"),
        ({"name": "other"}, "edited", "warnings", "was edited. Export both again"),
    ],
)
def test_the_twin_is_compared(tmp_path: Path, twin: object, state: str, kind: str, said: str) -> None:
    path = write(tmp_path / "model.onnx", metadata(), twin=False)
    if isinstance(twin, dict):
        twin = json.dumps({**metadata(), "onnx_sha256": file_hash(path), **twin})
    if twin is not None:
        twin_of(path).write_text(str(twin))
    found = inspect_file(path)
    content = found.to_json()
    assert content["twin"]["state"] == state
    [(where, text), *more] = [(key, text) for key in ("errors", "warnings") for text in content[key]]
    assert ["has no hash inside" in each for _, each in more] == ([True] if state == "missing" else [])
    assert where == kind
    assert re.search(said, text)
    assert f"{kind[:-1]}: " in words(found)


@pytest.mark.parametrize(
    ("change", "said", "problem"),
    [
        ({"outputs": [[0.5, 0.5], [0.5, 0.5]]}, "gives other scores", "must not be used with ONNX Runtime"),
        ({"inputs": {"features": [[float("nan")] * 3] * 2}}, "gives other scores", "number 0 is .nan"),
        ({"outputs": [[0.5], [0.5]]}, "gives other scores", r"shape \(2, 2\), but \(2, 1\) is expected"),
        ({"inputs": {"features": [[1.0, 2.0]] * 2}}, "failed with", "cannot be computed: .*invalid dimensions"),
        ({"inputs": {"features": ["x"]}}, "failed with", "cannot be computed: could not convert"),
        ({"inputs": {"features": []}, "outputs": []}, "there are no reference events", "has no reference events"),
    ],
)
def test_the_reference_events_are_scored(tmp_path: Path, change: dict[str, Any], said: str, problem: str) -> None:
    described = metadata()
    described["reference"].update(change)
    found = inspect_file(write(tmp_path / "model.onnx", described))
    content = found.to_json()
    assert content["reference"] is None or content["reference"]["agrees"] is False
    kind = "warnings" if content["reference"] is None else "errors"
    [(where, text)] = [(key, text) for key in ("errors", "warnings") for text in content[key]]
    assert where == kind
    assert re.search(problem, text)
    assert said in words(found)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_exit_code_tells_of_a_damaged_model(tmp_path: Path, form: list[str]) -> None:
    path, weights = write(tmp_path / "model.onnx", metadata()), KERNEL.tobytes()
    whole = path.read_bytes()
    assert whole.count(weights) == 1
    for content, code, said in (
        (whole, 0, ""),
        # which ONNX Runtime takes for a model
        (whole.replace(weights, (KERNEL * 30).tobytes()), 1, "It does not compute here what it computed where it was"),
        # as one whose end, the metadata, was cut off
        (model().SerializeToString(), 1, "but this file is not one: copy both again"),
    ):
        path.write_bytes(content)
        done = CliRunner().invoke(command, [str(path), *form], standalone_mode=False)
        assert done.return_value == code
        assert said in " ".join(done.stdout.split())


def test_discriminants(linear_model: Callable[..., Path]) -> None:
    against = [
        Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.7, "ZG": 0.3}),
        Discriminant("against_WZ", "signal", {"signal": 1.0, "WZ": 1.0}),
    ]
    found = inspect_file(linear_model(["x"], discriminants=against))
    content = found.to_json()
    assert content["errors"] == content["warnings"] == []
    assert content["discriminants"][0] == {
        "name": "discriminant", "signal": "signal", "shares": {"signal": 1.0, "WZ": 0.7, "ZG": 0.3}
    }  # fmt: skip
    text = words(found)
    assert "discriminant discriminant signal against WZ 0.7, ZG 0.3" in text
    assert "discriminant against_WZ signal against WZ 1" in text


@pytest.mark.parametrize(
    ("described", "message"),
    [
        *(("{", "cannot be understood"), ("[]", "cannot be understood")),
        pytest.param("[" * 100_000, "cannot be understood .ValueError: it is nested too deeply", id="deep"),
        ({**metadata(), "schema": 5}, "schema 5, this NanoML reads 1 to 4. Update NanoML"),
        ({**metadata(), "folds": {"k": 2}}, "cannot be understood .KeyError: 'hash'"),
        ({**metadata(), "training": "none"}, "cannot be understood"),
    ],
)
def test_bad_metadata_are_explained(tmp_path: Path, described: object, message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        inspect_file(write(tmp_path / "model.onnx", described))


def test_a_foreign_model(tmp_path: Path) -> None:
    found = inspect_file(write(tmp_path / "model.onnx", None))
    content = found.to_json()
    assert content["own"] is False
    assert "twin" not in content
    assert isinstance(found, OnnxInspection)
    found.outputs[1].shape[0] = None  # as for an axis that has no name
    text = words(found)
    for said in ("?, 2, 2", "not written by nanoml export", "opset 15, IR 8", "tensor(float)", "fold_probabilities"):
        assert said in text


@pytest.mark.parametrize("name", ["logreg_iris.onnx", "mul_1.onnx"])
def test_models_of_others(name: str) -> None:
    from onnxruntime.datasets import get_example

    path = get_example(name)
    header, expected = read_header(path), onnx.load(path)
    assert kind_of(path) == "onnx"
    assert header.ir == expected.ir_version
    opsets = {entry.domain: entry.version for entry in expected.opset_import}
    assert header.opset == opsets.pop("", None)
    assert header.domains == opsets
    assert header.producer.startswith(expected.producer_name)
    words(inspect_file(path))


def test_a_model_that_onnx_runtime_refuses(tmp_path: Path) -> None:
    made = model()
    made.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(NanoMLError, match=r"ONNX Runtime .* cannot load it: .*NoSuchOperator"):
        inspect_file(tmp_path / "model.onnx")


def test_truncated_models_are_explained(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", metadata())
    whole = path.read_bytes()
    for size in [*range(3, len(whole), 29), *range(len(whole) - 20, len(whole))]:
        path.write_bytes(whole[:size])
        # one that ends between two fields is whole for ONNX Runtime, but it is no model of ours any more
        said = outcome(path)
        assert path.name in said
        assert "damaged" in said or "is a binary file" in said or "but this file is not one" in said


def outcome(path: Path) -> str:
    """The complaint about a file, as an error or as warnings."""
    try:
        found = inspect_file(path)
        content = found.to_json()
    except NanoMLError as problem:
        return str(problem)
    words(found, 120)
    return f"{path.name}: {' '.join([*content['errors'], *content['warnings']])}"


def test_every_damage_is_explained(tmp_path: Path) -> None:
    whole = bytearray(model(metadata()).SerializeToString())
    path = tmp_path / "model.onnx"
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = whole.copy()
        damaged[int(random.integers(2, len(whole)))] = int(random.integers(256))
        path.write_bytes(damaged)
        assert path.name in outcome(path)


def test_a_model_without_its_twin_is_judged_by_the_hash_inside(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_described(model(), json.dumps(metadata()), path)
    assert not inspect_file(path).to_json()["errors"]
    path.write_bytes(path.read_bytes().replace(b"0.91234567", b"0.81234567"))
    [error] = inspect_file(path).to_json()["errors"]
    assert "does not have the hash that stands in it" in error
