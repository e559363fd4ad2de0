from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Model, open_session, twin_of
from MLTools.NanoML.model.file import network_files, parse_onnx
from MLTools.NanoML.model.trials import SubprocessRuntime, Trial, run_here, trials
from MLTools.NanoML.model.verification import reference_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

Make = Callable[..., Path]
OUTPUT = "fold_probabilities"


def bundle(count: int = 3, axis: int = 1, **changes: Any) -> Any:
    """A model of networks that share a product with their input; network k multiplies it by k + 2."""
    make, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    nodes = [make("Mul", ["features", "three"], ["common"])]
    weights = [constant(np.float32([3]), "three"), constant(np.array([axis]), "axis")]
    for k in range(count):
        nodes.append(make("Mul", ["common", f"factor{k}"], [f"scaled{k}"]))
        nodes.append(make("Unsqueeze", [f"scaled{k}", "axis"], [f"row{k}"]))
        weights.append(constant(np.float32([k + 2]), f"factor{k}"))
    nodes.append(make("Concat", [f"row{k}" for k in range(count)], [OUTPUT], axis=axis))
    nodes.append(make("ReduceMean", [OUTPUT], ["probabilities"], axes=[axis], keepdims=0))

    def tensor(name: str, shape: list[Any]) -> Any:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    inputs, outputs = [tensor("features", ["N", 2])], [tensor("probabilities", ["N", 2]), tensor(OUTPUT, [None] * 3)]
    graph = onnx.helper.make_graph(nodes, "bundle", inputs, outputs, weights, **changes)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=8)
    onnx.helper.set_model_props(made, {"other": "text", "nanoml": "described: µ"})
    return made


def test_each_network_is_a_file_of_its_own() -> None:
    parts = network_files(bundle(), OUTPUT, 3)
    assert parts is not None
    features = np.array([[1, 2], [3, 4]], np.float32)
    for k, part in enumerate(parts):
        content = onnx.load_from_string(part)
        onnx.checker.check_model(content)
        assert [node.op_type for node in content.graph.node] == ["Mul", "Mul", "Unsqueeze"]
        assert {tensor.name for tensor in content.graph.initializer} == {"three", "axis", f"factor{k}"}
        session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"features": features})
        assert found.tolist() == (features * 3 * (k + 2))[:, None].tolist()


def with_condition() -> Any:
    made = bundle()
    branch = onnx.helper.make_graph([], "branch", [], [onnx.helper.make_tensor_value_info("three", 1, [1])])
    made.graph.node.insert(0, onnx.helper.make_node("If", ["yes"], ["x"], then_branch=branch, else_branch=branch))
    return made


def with_sparse_weights() -> Any:
    values = onnx.helper.make_tensor("sparse", onnx.TensorProto.FLOAT, [1], [1.0])
    where = onnx.helper.make_tensor("where", onnx.TensorProto.INT64, [1], [0])
    return bundle(sparse_initializer=[onnx.helper.make_sparse_tensor(values, where, [2])])


def test_another_form_stays_as_it_is() -> None:
    for made, count in ((bundle(1), 1), (bundle(), 4), (bundle(axis=2), 3)):
        assert network_files(made, OUTPUT, count) is None
    for made in (with_condition(), with_sparse_weights()):
        assert network_files(made, OUTPUT, 3) is None
    for output in ("probabilities", "nothing"):
        assert network_files(bundle(), output, 3) is None


def test_a_file_that_is_cut_off() -> None:
    content = bundle().SerializeToString()
    for size in [*range(0, len(content), 11), *range(len(content) - 90, len(content))]:
        try:
            found = network_files(parse_onnx(content[:size]), OUTPUT, 3)
        except ValueError:
            continue
        assert found is None or len(found) == 3  # only the metadata are missing


def joined(path: Path) -> Any:
    """A model whose result for each network is joined from parts."""
    content = onnx.load(path)
    (last,) = (node for node in content.graph.node if node.op_type == "Softmax")
    last.output[0] = "soft"
    make = onnx.helper.make_node
    names = [f"network{k}" for k in range(3)]
    content.graph.node.insert(len(content.graph.node) - 1, make("Split", ["soft"], names, axis=1))
    content.graph.node.insert(len(content.graph.node) - 1, make("Concat", names, [OUTPUT], axis=1))
    return content


def test_a_model_that_is_replaced(tmp_path: Path, linear_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    content = joined(linear_model(["x"]))
    onnx.save(content, tmp_path / "model.onnx")
    model, columns, fold = Model(tmp_path / "model.onnx"), {"x": np.array([0.5, -1.0, 2.0])}, np.array([2, 0, 1])
    expected = np.exp([[x, k, 0] for x, k in zip(columns["x"], fold)])
    assert model.scores(columns, fold) == pytest.approx(expected / expected.sum(axis=1, keepdims=True), abs=1e-6)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)  # type: ignore[arg-type]
        alone = Model(tmp_path / "model.onnx")  # with ONNX Runtime alone, by all networks together
        assert (len(alone._networks), len(model._networks)) == (0, 3)
        assert alone.scores(columns, fold).tolist() == model.scores(columns, fold).tolist()
    content.producer_name = "another"
    onnx.save(content, tmp_path / "model.onnx")
    model.scores(columns, fold)
    with pytest.raises(NanoMLError, match="model.onnx: was replaced while it was in use"):
        model.scores(columns)
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(NanoMLError, match="model.onnx: cannot read: No such file"):
        model.scores(columns)


def constant_in_a_branch(tensor: Any) -> Any:
    """A model whose tensor is an attribute of a node in a graph within the graph."""
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    y, z = (info(name, onnx.TensorProto.FLOAT, [2]) for name in "yz")
    inner = onnx.helper.make_graph([make("Constant", [], ["y"], value=tensor)], "inner", [], [y])
    inputs, outputs = [info("x", onnx.TensorProto.BOOL, [])], [z]
    nodes = [make("If", ["x"], ["z"], then_branch=inner, else_branch=inner)]
    outer = onnx.helper.make_graph(nodes, "outer", inputs, outputs)
    return onnx.helper.make_model(outer, opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=8)


@pytest.mark.parametrize("place", ["weights", "constant"])
def test_data_in_another_file_are_refused(tmp_path: Path, place: str) -> None:
    tensor = onnx.numpy_helper.from_array(np.float32([1, 2]), "factors")
    whole = bundle() if place == "weights" else constant_in_a_branch(tensor)
    if place == "weights":
        whole.graph.initializer.append(tensor)
    path = tmp_path / "model.onnx"
    external = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 8}
    onnx.save(whole, str(path), **external, convert_attribute=place == "constant")
    assert (tmp_path / "weights.bin").stat().st_size >= 8
    expected = r"model.onnx: the values of its tensor \w+ are in another file, weights.bin.*save it with the data in"
    with pytest.raises(NanoMLError, match=expected):
        open_session(str(path))  # although ONNX Runtime would find the file
    with pytest.raises(NanoMLError, match=expected):
        open_session(str(path), path.read_bytes())
    onnx.save(onnx.load(str(path)), str(tmp_path / "one.onnx"))  # as the message says
    (tmp_path / "weights.bin").unlink()
    open_session(str(tmp_path / "one.onnx"))


def test_a_model_of_ours_whose_data_are_elsewhere(linear_model: Make) -> None:
    path = linear_model(["x"])
    content = onnx.load(path)
    onnx.save(content, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    twin_of(path).unlink()
    with pytest.raises(NanoMLError, match="are in another file, weights.bin"):
        Model(path)


def test_another_python_gives_the_same(linear_model: Make) -> None:
    model = Model(linear_model(["x"], objects={"Jet": (["pt"], 2, None)}))
    reference = reference_of(model.description)
    assert reference is not None
    tried = trials(model.description, reference.feeds)
    tried.append(Trial("of the wrong shape", {name: values[:, :0] for name, values in tried[0].feeds.items()}))
    here, there = run_here(model.session, tried), SubprocessRuntime(sys.executable, "here").run(model.path, tried)
    assert here.keys() == there.keys()
    for case, outcome in here.items():
        if isinstance(outcome, str):
            assert there[case] == outcome
        else:
            assert all(np.array_equal(*pair, equal_nan=True) for pair in zip(outcome, there[case]))  # type: ignore[arg-type]
    assert isinstance(here["of the wrong shape", 7], str)
