"""A model and its networks give the same on all kinds of inputs: right after the export, and whenever somebody asks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from ML_processing.events.inputs import CollectionShape, Shape
from ML_processing.export.export import TrainedNetworks, check_parity, export_networks, networks_of, sample_of
from ML_processing.export.releases import target
from ML_processing.models.network import make_network
from MLTools.NanoML.commands.files import verify
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.model import Description, Discriminant, Input, ModelFormat, ObjectInput, Reference, twin_of
from MLTools.NanoML.model.trials import SIZES, Outcomes, Trial, trials
from MLTools.NanoML.model.verification import verify_model
from services.trainings import training_of

OBJECTS = {"Jet": (["pt", "eta"], 4, "-pt")}
AGAINST = Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.9, "ZG": 0.1})


class Linear(nn.Module):
    """What the model of the fixture `linear_model` computes."""

    def __init__(self, slope: float = 1.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, features: Tensor, jets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.slope * (features[:, 0] + (jets[:, :, 0] * mask).sum(dim=1))
        zero = torch.zeros_like(x)
        each = torch.stack([torch.stack([x, zero + fold, zero], dim=1) for fold in range(3)], dim=1)
        return each.mean(dim=1), each


def sample() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    mask = (np.arange(4) < random.integers(0, 5, (64, 1))).astype("f4")
    jets = (random.normal(1, 1, (64, 4, 2)) * mask[..., None]).astype("f4")
    return {"features": random.normal(1, 1, (64, 2)).astype("f4"), "Jet": jets, "Jet_mask": mask}


def changed(path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """The model with a graph, or with metadata in it, that were changed."""
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    twin_of(path).unlink(missing_ok=True)
    return path


def robust(model: onnx.ModelProto) -> None:
    """Let a graph take what is not finite or huge for 0, as an exported one does."""
    for tensor in ("features", "Jet"):
        if tensor not in [each.name for each in model.graph.input]:
            continue
        for node in model.graph.node:
            node.input[:] = [f"{tensor}_safe" if name == tensor else name for name in node.input]
        constants = {"limit": np.float32(100), "low": np.float32(-100), "nothing": np.float32(0)}
        known = [each.name for each in model.graph.initializer]
        new = {name: np.asarray(value) for name, value in constants.items() if name not in known}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in new.items())
        make = onnx.helper.make_node
        nodes = [
            make("IsNaN", [tensor], [f"{tensor}_nan"]),
            make("Where", [f"{tensor}_nan", "nothing", tensor], [f"{tensor}_number"]),
            make("Clip", [f"{tensor}_number", "low", "limit"], [f"{tensor}_safe"]),
        ]
        for node in reversed(nodes):
            model.graph.node.insert(0, node)


@pytest.fixture
def model(linear_model: Callable[..., Path]) -> Path:
    return changed(linear_model(["x", "MET_pt"], objects=OBJECTS), robust)


@pytest.fixture
def discriminating(linear_model: Callable[..., Path]) -> Path:
    """The same with a discriminant."""
    return changed(linear_model(["x", "MET_pt"], objects=OBJECTS, discriminants=[AGAINST]), robust)


def test_a_good_model(discriminating: Path) -> None:
    said = "\n".join(verify_model(discriminating, None, None))
    assert "tensors: as the metadata say" in said
    assert "gives the outputs again" in said
    assert "16 kinds of inputs, 1, 7, 300 events of each" in said


def test_the_command(model: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(verify, [str(model)])
    assert done.exit_code == 0
    assert f"{model}: model linear, SHA-256 " in done.output
    done = CliRunner().invoke(verify, [str(model), "--run", str(tmp_path)])
    assert isinstance(done.exception, NanoMLError)
    assert "training.json: no such file" in str(done.exception)


def test_a_model_that_fears_nan(linear_model: Callable[..., Path]) -> None:
    path = linear_model(["x"])
    with pytest.raises(NanoMLError, match=r'linear.onnx: "events with NaN", 300 events: probabilities of event \d+ is'):
        list(verify_model(path, None, None))


def unmasked(content: onnx.ModelProto) -> None:
    for node in content.graph.node:
        if node.op_type == "Mul":
            node.CopyFrom(onnx.helper.make_node("Identity", [node.input[0]], list(node.output)))


def test_the_padding_must_not_matter(model: Path) -> None:
    with pytest.raises(NanoMLError, match='"padding with numbers in it", 300 events must give the same as "real '):
        list(verify_model(changed(model, unmasked), None, TrainedNetworks(Linear(), sample())))


def described(change: Callable[[Any], object]) -> Callable[[onnx.ModelProto], None]:
    """Other metadata."""

    def apply(content: onnx.ModelProto) -> None:
        found = json.loads(content.metadata_props[0].value)
        change(found)
        onnx.helper.set_model_props(content, {"nanoml": json.dumps(found)})

    return apply


def other_shares(content: Any) -> None:
    content["outputs"][0]["discriminants"][0]["shares"] = {"signal": 1.0, "WZ": 0.899, "ZG": 0.101}


def mean_of_discriminants(content: onnx.ModelProto) -> None:
    """The mean of the networks' discriminants, with reference events that agree."""
    nodes = [node for node in content.graph.node if node.output[0] != "probabilities"]
    del content.graph.node[:]
    content.graph.node.extend(nodes)
    last = onnx.helper.make_node("ReduceMean", ["fold_probabilities"], ["probabilities"], axes=[1], keepdims=0)
    content.graph.node.append(last)
    session = onnxruntime.InferenceSession(content.SerializeToString())
    outputs = session.run(["probabilities"], sample())[0].tolist()
    inputs = {name: values.tolist() for name, values in sample().items()}
    described(lambda found: found.update(reference={"inputs": inputs, "outputs": outputs}))(content)


def fixed_number(content: onnx.ModelProto) -> None:
    content.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def other_reference(content: Any) -> None:
    content["reference"]["outputs"][1][0] += 0.01


def other_tensors(content: Any) -> None:
    content["inputs"][0]["columns"].append("MET_phi")
    content["inputs"][0]["dtypes"].append("float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (described(other_shares), '"real events", 300 events: the discriminant discriminant: probabilities of'),
        (mean_of_discriminants, '"real events", 300 events: the discriminant discriminant: probabilities of'),
        (fixed_number, r"input features has shape \[2, 2\], not \[any, 2\]"),
        (described(other_reference), "reference events: probabilities of number 1 is"),
        (described(other_tensors), r"input features has shape \['N', 2\], not \[any, 3\]"),
    ],
)
def test_what_differs_is_told(discriminating: Path, change: Callable[[onnx.ModelProto], object], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        list(verify_model(changed(discriminating, change), None, None))


def softmaxed(slope: float = 1.0) -> nn.Module:
    class Probabilities(Linear):
        def forward(self, features: Tensor, jets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            safe = [torch.clamp(torch.nan_to_num(it, posinf=100, neginf=-100), -100, 100) for it in (features, jets)]
            each = torch.softmax(super().forward(*safe, mask)[1], dim=2)
            return each.mean(dim=1), each

    return Probabilities(slope)


def test_against_the_networks(model: Path) -> None:
    said = list(verify_model(model, None, TrainedNetworks(softmaxed(), sample())))
    assert said[-1].startswith("networks of the training: PyTorch gives the same, to ")
    message = r'differs from the network on "real events", 1 event: .* Was it exported from this training\?'
    with pytest.raises(NanoMLError, match=message):
        list(verify_model(model, None, TrainedNetworks(softmaxed(1.01), sample())))
    with pytest.raises(NanoMLError, match="reads features, Jet, Jet_mask, but the networks of the training features: "):
        list(verify_model(model, None, TrainedNetworks(softmaxed(), {"features": sample()["features"]})))


def test_a_version_that_is_none(model: Path) -> None:
    with pytest.raises(NanoMLError, match='ONNX Runtime "newest": write a version as in 1.17.1'):
        list(verify_model(model, "newest", None))


@pytest.mark.exhaustive("versions of ONNX Runtime that are installed first")
def test_a_version_that_is_not_there(model: Path) -> None:
    with pytest.raises(NanoMLError, match=r"ONNX Runtime 0.0.1: (there is no wheel of it|cannot be installed)"):
        list(verify_model(model, "0.0.1", None))


@pytest.mark.exhaustive("versions of ONNX Runtime that are installed first")
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="no wheel of ONNX Runtime 1.17.1 for this Python")
def test_another_version(tmp_path: Path) -> None:
    """A network that needs some care there: of no objects and of no events old versions compute little."""
    torch.manual_seed(1)
    jets = CollectionShape("Jet", ("pt", "eta", "phi"), 4, "-pt")
    shape = Shape(("MET_pt", "x"), (jets,), 3)
    network = make_network("particlenet", {"width": 8, "hidden": [8], "neighbors": 2}, shape).eval()
    events = {**sample(), "Jet": np.random.default_rng(2).normal(1, 1, (64, 4, 3)).astype("f4")}
    network.fit(events["features"], {"Jet": (events["Jet"], events["Jet_mask"] > 0)})
    training = training_of([network, network], shape, events, discriminants=(AGAINST,))
    path = tmp_path / "model.onnx"
    export_networks(training, path, "jets", target())
    try:
        said = list(verify_model(path, "1.17.1", TrainedNetworks(networks_of(training), sample_of(training))))
    except NanoMLError as problem:
        if "cannot be installed" in str(problem):
            pytest.skip("no package index")
        raise
    assert "reference events: ONNX Runtime 1.17.1 gives the outputs again" in "\n".join(said)


JETS = ObjectInput("Jet", ("Jet_pt",), (), None, (), "Jet_mask", "Jet", 6, "-pt")
READ = (Input("features", ("x", "y"), (), None, ()), (JETS,))
GIVEN = (("probabilities", "fold_probabilities"), "classes", ("signal", "other"), ())
DESCRIPTION = Description(
    "toy", "event", None, *READ, *GIVEN, 1, "", None, ModelFormat(None, None, None, None), {}, Reference({}, [])
)


def made_up() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    mask = (np.arange(6) < random.integers(0, 7, (20, 1))).astype("f4")
    jets = (random.exponential(50, (20, 6)) * mask).astype("f4")[..., None]
    return {"features": random.normal(0, 1, (20, 2)).astype("f4"), "Jet": jets, "Jet_mask": mask}


class Toy(nn.Module):
    """Robust, and strong in its reaction by `gain`, which is applied to the sum or, `apart`, to its parts."""

    def __init__(self, gain: float = 1.0, apart: bool = False) -> None:
        super().__init__()
        self.gain, self.apart = gain, apart

    def forward(self, features: Tensor, jets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        safe = [torch.clamp(torch.nan_to_num(each, posinf=10, neginf=-10), -10, 10) for each in (features, jets)]
        parts = safe[0][:, 0] / 3, safe[0][:, 1] / 3 + (safe[1][..., 0] * mask).sum(dim=1) / 700
        x = self.gain * parts[0] + self.gain * parts[1] if self.apart else self.gain * (parts[0] + parts[1])
        mean = torch.softmax(torch.stack([x, torch.zeros_like(x)], dim=1), dim=1)
        return mean, mean.unsqueeze(1)


def outcomes(tried: list[Trial], change: Any = lambda trial, size, found: found, network: Any = None) -> Outcomes:
    """What a right model gives, or what becomes of it."""
    found: Outcomes = {}
    network = network or Toy()
    for trial in tried:
        for size in SIZES:
            feeds = [torch.from_numpy(trial.rows(size)[name]) for name in DESCRIPTION.input_tensors]
            outputs = [output.numpy() for output in network(*feeds)]
            found[trial.name, size] = change(trial, size, outputs)
    return found


def test_trials_are_what_they_are_called() -> None:
    tried = {trial.name: trial.feeds for trial in trials(DESCRIPTION, made_up())}
    assert 1 in SIZES
    for feeds in tried.values():
        assert all(values.dtype == np.float32 and len(values) == max(SIZES) for values in feeds.values())
        assert feeds["Jet"].shape[:2] == feeds["Jet_mask"].shape
    real = tried["real events"]
    assert np.array_equal(real["features"][:20], made_up()["features"])
    objects = real["Jet_mask"] > 0
    nan = tried["events with NaN"]
    assert 0.2 < np.isnan(nan["features"]).mean() < 0.4
    assert 0.2 < np.isnan(nan["Jet"][objects]).mean() < 0.4
    assert not nan["Jet"][~objects].any()
    assert np.isinf(tried["infinity"]["features"]).all()
    assert np.isinf(tried["infinity"]["Jet"][objects]).all()
    assert tried["as many objects as there may be"]["Jet_mask"].all()
    assert tried["as many objects as there may be"]["Jet"].all()
    assert not tried["no objects"]["Jet_mask"].any()
    assert tried["no objects, in tensors of this length"]["Jet"].shape == (300, 0, 1)
    assert tried["1 object at most, in tensors of this length"]["Jet"].shape == (300, 1, 1)
    assert tried["3 objects at most"]["Jet_mask"].sum(axis=1).max() == 3
    assert tried["3 objects at most, in tensors of this length"]["Jet_mask"].shape == (300, 3)
    assert tried["padding with numbers in it"]["Jet"][~objects].all()


def test_a_right_export() -> None:
    tried = trials(DESCRIPTION, made_up())
    assert check_parity(Toy(), tried, outcomes(tried), DESCRIPTION) < 1e-6
    # the rounding of float32 is allowed for
    found = outcomes(tried, network=Toy(1000, apart=True))
    assert 1e-6 < check_parity(Toy(1000), tried, found, DESCRIPTION) < 1e-2


def late(trial: Trial, size: int, found: Any) -> Any:
    if trial.name == "no objects" and size == 300:
        found = [found[0], found[1].copy()]
        found[1][123] += 0.01
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            late,
            r'differs from the network on "no objects", 300 events: fold_probabilities of event 123 is \[.*\] '
            r"instead of \[.*\]; a difference of 1e-06 is allowed",
        ),
        (
            lambda trial, size, found: [found[0] * np.nan, found[1]] if trial.name == "events with NaN" else found,
            r'"events with NaN", 1 event: probabilities of event 0 is \[nan, nan\]',
        ),
        (
            lambda trial, size, found: [found[0], found[1].repeat(2, axis=1)],
            r"fold_probabilities has the shape \(1, 2, 2\) instead of \(1, 1, 2\)",
        ),
        (
            lambda trial, size, found: "of one size only" if size == 7 else found,
            '"real events", 7 events: ONNX Runtime fails: of one size only',
        ),
    ],
)
def test_the_failure_names_input_size_and_event(change: Callable[..., Any], message: str) -> None:
    tried = trials(DESCRIPTION, made_up())
    with pytest.raises(NanoMLError, match=message):
        check_parity(Toy(), tried, outcomes(tried, change), DESCRIPTION)


def test_a_network_that_fails_itself() -> None:
    class Failing(Toy):
        def forward(self, features: Tensor, jets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            jets.amax(dim=1)
            return super().forward(features, jets, mask)

    tried = trials(DESCRIPTION, made_up())
    message = 'the network fails on "no objects, in tensors of this length", 300 events: '
    with pytest.raises(NanoMLError, match=message):
        check_parity(Failing(), tried, outcomes(tried), DESCRIPTION)
