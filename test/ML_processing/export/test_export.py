from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from ML_processing.events.inputs import CollectionShape, Inputs, Shape
from ML_processing.export import export as exporting
from ML_processing.export import graph
from ML_processing.export.export import TrainedNetworks, export, export_networks, networks_of, sample_of
from ML_processing.export.releases import Target, target
from ML_processing.models.network import make_network
from ML_processing.models.scaling import Scaling
from ML_processing.training.data import ParameterGrid
from ML_processing.training.directory import Training
from ML_processing.training.train import train
from MLTools.NanoML.atomic import file_hash
from MLTools.NanoML.commands.pipeline import export as export_command
from MLTools.NanoML.config.evaluation import Export
from MLTools.NanoML.config.training import Train
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.model import KEY, Description, Discriminant, Model, Parameter
from MLTools.NanoML.model.file import network_files
from MLTools.NanoML.model.padding import Jagged
from MLTools.NanoML.model.verification import verify_model
from MLTools.NanoML.nanoaod.folds import RULE
from services.trainings import grow, training_of

pytestmark = pytest.mark.usefixtures("no_plots")

Captured = pytest.CaptureFixture[str]
SELECTION = "MLTools.NanoML.trilepton:Trilepton"
JETS = CollectionShape("Jet", ("pt", "eta", "phi", "btag"), 5, "-pt")
MUONS = CollectionShape("Muon", ("pt", "charge"), 2)
CLASSES = ("signal", "WZ", "ZG")
PHOTONS = Discriminant("photons", "ZG", {"ZG": 0.5, "WZ": 2.0})
DISCRIMINANTS = (Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.999, "ZG": 0.001}), PHOTONS)

FLAT, BOTH = Shape(("ZCand_mass", "MET_pt"), (), 3), Shape(("ZCand_mass", "MET_pt"), (JETS, MUONS), 3)


def events(shape: Shape, count: int = 64) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    found = {"features": random.normal(80, 20, (count, len(shape.features))).astype("f4")}
    for it in shape.collections:
        mask = np.arange(it.max) < random.integers(0, it.max + 1, count)[:, None]
        values = random.normal(1, 2, (count, it.max, len(it.fields)))
        values[..., 0] = -np.sort(-random.exponential(50, (count, it.max)), axis=1)
        found[it.name] = (values * mask[..., None]).astype("f4")
        found[f"{it.name}_mask"] = mask.astype("f4")
    return {name: found[name] for name in shape.tensors}


def with_missing_values(shape: Shape) -> Shape:
    """As networks see it that are told which inputs have no value, and by which numbers."""
    names = [*shape.features, *(name for it in shape.collections for name in it.columns)]
    named = {name: (-1.0, 0.0) for name in ("MET_pt", "Jet_btag") if name in names}
    return replace(shape, missing=tuple(named), named=named)


def trained(
    shape: Shape, model: str = "mlp", options: Any = None, folds: int = 3, inside: Any = None, **changes: Any
) -> Training:
    torch.manual_seed(1)
    sample = events(shape)
    objects = {it.name: (sample[it.name], sample[f"{it.name}_mask"] > 0) for it in shape.collections}
    targets = np.random.default_rng(5).normal(600, 50, (64, shape.outputs)).astype("f4")
    networks = []
    for _ in range(folds):
        network = make_network(model, options or {}, inside or shape).eval()
        features = sample.get("features", np.zeros((64, 0), "f4"))
        network.fit(features, objects, targets if changes.get("targets") else None)
        if inside and shape.collections and isinstance(network.scaling, Scaling):
            network.scaling.objects[0].below[0] = 5.0
        grow(network, Inputs.of_tensors(shape, [torch.from_numpy(values) for values in sample.values()]))
        networks.append(network)
    about = {"versions": {"torch": torch.__version__}, "metrics": {"auc": 0.9}, "selection": SELECTION, **changes}
    return training_of(networks, shape, sample, ["ZCand_mass"], **about)


def columns_of(shape: Shape, sample: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The sample as a reader has it, with the objects of an event in another order."""
    found: dict[str, Any] = dict(zip(shape.features, sample["features"].T, strict=True))
    for it in shape.collections:
        mask = sample[f"{it.name}_mask"] > 0
        turn = slice(None, None, -1 if it.order else 1)
        turned = [values[there][turn] for values, there in zip(sample[it.name], mask, strict=True)]
        flat = np.concatenate(turned)
        for number, field in enumerate(it.fields):
            found[f"{it.name}_{field}"] = Jagged(flat[:, number], mask.sum(axis=1))
    return found


def axes_of(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    return {
        entry.name: [dimension.dim_param or dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]
        for entry in (*model.graph.input, *model.graph.output)
    }


@pytest.mark.parametrize(
    ("model", "options", "shape", "discriminants"),
    [
        ("mlp", {"hidden": [16]}, FLAT, ()),
        ("mlp", {"hidden": [16]}, BOTH, DISCRIMINANTS),
        ("mlp", {"hidden": [16]}, Shape((), (JETS,), 3), DISCRIMINANTS),
        ("deepsets", {"width": 8, "hidden": [8]}, BOTH, DISCRIMINANTS),
        ("particlenet", {"width": 8, "neighbors": 2}, Shape(("MET_pt",), (JETS,), 3), DISCRIMINANTS),
        ("transformer", {"width": 8, "heads": 2, "pair_width": 4}, BOTH, DISCRIMINANTS),
        ("bdt", {"min_events": 5}, BOTH, DISCRIMINANTS),
        ("tabular", {"members": 2}, BOTH, DISCRIMINANTS),
    ],
)
def test_scores_are_those_of_the_networks(
    tmp_path: Path, model: str, options: Any, shape: Shape, discriminants: Any
) -> None:
    training = trained(shape, model, options, inside=with_missing_values(shape), discriminants=discriminants)
    export_networks(training, tmp_path / "model.onnx", "trilepton", target("CMSSW_14_0_X"))
    sample = sample_of(training)
    with torch.no_grad():
        mean, each = networks_of(training)(*(torch.from_numpy(values) for values in sample.values()))
    for outputs in (mean.numpy(), each.numpy()):
        assert outputs.shape[-1] == 3 + len(discriminants)
        for number, discriminant in enumerate(discriminants, 3):
            expected = discriminant.of(outputs[..., :3], CLASSES)
            assert outputs[..., number] == pytest.approx(expected, abs=1e-6)
            assert np.ptp(expected) > 0.005
    assert mean[:, :3].numpy() == pytest.approx(each[:, :, :3].mean(dim=1).numpy(), abs=1e-6)
    loaded = Model(tmp_path / "model.onnx")
    assert loaded.outputs == [*CLASSES, *(each.name for each in discriminants)]
    assert network_files(onnx.load(tmp_path / "model.onnx"), "fold_probabilities", 3) is not None
    columns = columns_of(shape, {"features": np.zeros((64, 0)), **sample})
    assert loaded.scores(columns) == pytest.approx(mean.numpy(), abs=2e-6)
    fold = np.arange(64) % 3
    assert loaded.scores(columns, fold) == pytest.approx(each.numpy()[np.arange(64), fold], abs=2e-6)
    nothing = loaded.run({name: values[:0] for name, values in sample.items()})
    assert nothing.shape == (0, 3 + len(discriminants))


@pytest.mark.exhaustive("both exporters, for networks and trees")
@pytest.mark.parametrize(("model", "options"), [("deepsets", {"width": 8, "hidden": [8]}), ("bdt", {"min_events": 5})])
def test_both_exporters_write_the_same_scores(tmp_path: Path, capsys: Captured, model: str, options: Any) -> None:
    shape = Shape(("MET_pt",), (JETS,), 3)
    training = trained(shape, model, options, 2, with_missing_values(shape), discriminants=DISCRIMINANTS)
    old, new = tmp_path / "old.onnx", tmp_path / "new.onnx"
    export_networks(training, old, "model", target("CMSSW_14_2_X"))
    metadata = export_networks(training, new, "model", target("CMSSW_15_0_X"))
    assert metadata["target"] == {"cmssw": "CMSSW_15_0_X", "onnxruntime": "1.20.1", "opset": 18, "ir": 10}
    assert "exporter cannot" not in capsys.readouterr().err
    assert axes_of(onnx.load(new)) == axes_of(onnx.load(old))
    assert network_files(onnx.load(new), "fold_probabilities", 2) is not None
    columns = columns_of(shape, sample_of(training))
    for fold in (None, np.arange(64) % 2):
        assert Model(new).scores(columns, fold) == pytest.approx(Model(old).scores(columns, fold), abs=2e-6)


def test_what_the_new_exporter_cannot_write_the_older_one_writes(tmp_path: Path, capsys: Captured) -> None:
    training = trained(Shape(("MET_pt",), (JETS,), 3), "particlenet", {"blocks": 1, "width": 8}, folds=1)
    metadata = export_networks(training, tmp_path / "model.onnx", "model", target("CMSSW_15_0_X"))
    assert (metadata["target"]["opset"], metadata["target"]["ir"]) == (15, 8)
    assert "PyTorch's new exporter cannot write these networks" in capsys.readouterr().err


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Path]:
    """Networks of features and objects with two discriminants, and their model."""
    training = trained(BOTH, options={"hidden": [8]}, discriminants=DISCRIMINANTS)
    path = tmp_path_factory.mktemp("both") / "model.onnx"
    export_networks(training, path, "trilepton", target("CMSSW_12_4_X"))
    return training, path


def test_metadata(both: tuple[Training, Path]) -> None:
    _, model = both
    twin = json.loads(model.with_suffix(".json").read_text())
    assert twin.pop("onnx_sha256") == file_hash(model)
    entries = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert json.loads(entries[KEY]) == twin
    content, own = model.read_bytes(), entries.pop("nanoml_sha256").encode()
    assert content.count(own) == 1
    assert hashlib.sha256(content.replace(own, b"0" * 64)).hexdigest().encode() == own
    assert list(entries) == [KEY]
    features, jets, muons = twin["inputs"]
    of_features = {"selection": SELECTION, "selection_columns": ["ZCand_mass"]}
    columns = ["ZCand_mass", "MET_pt"]
    assert features == {"tensor": "features", "columns": columns, "dtypes": ["float32"] * 2, **of_features}
    of_jets = {"collection": "Jet", "max": 5, "order": "-pt", "selection": None, "selection_columns": []}
    columns = [f"Jet_{name}" for name in JETS.fields]
    assert jets == {"tensor": "Jet", "columns": columns, "dtypes": ["float32"] * 4, "mask": "Jet_mask", **of_jets}
    assert (muons["columns"], muons["order"]) == (["Muon_pt", "Muon_charge"], None)
    named = {"classes": [*CLASSES], "discriminants": [asdict(it) for it in DISCRIMINANTS]}
    each = {"tensor": "fold_probabilities", **named, "folds": 3}
    assert twin["outputs"] == [{"tensor": "probabilities", **named}, each]
    assert twin["target"] == {"cmssw": "CMSSW_12_4_X", "onnxruntime": "1.10.0", "opset": 15, "ir": 8}
    assert twin["folds"] == {"k": 3, "hash": RULE}
    assert (twin["schema"], twin["name"], twin["level"]) == (2, "trilepton", "event")
    assert (twin["collection"], twin["parameter"]) == (None, None)
    about = twin["training"]
    assert (about["versions"], about["metrics"]) == ({"torch": torch.__version__}, {"auc": 0.9})
    assert " ".join(about) == "versions created git device config folds data datasets notes metrics"


def test_format_of_the_file(both: tuple[Training, Path]) -> None:
    content = onnx.load(both[1])
    assert content.ir_version == 8
    assert [(entry.domain, entry.version) for entry in content.opset_import] == [("", 15)]
    assert axes_of(content) == {
        "features": ["events", 2], "Jet": ["events", "Jet_objects", 4], "Jet_mask": ["events", "Jet_objects"],
        "Muon": ["events", "Muon_objects", 2], "Muon_mask": ["events", "Muon_objects"], "probabilities": ["events", 5],
        "fold_probabilities": ["events", 3, 5],
    }  # fmt: skip


def test_reference_events(both: tuple[Training, Path]) -> None:
    training, path = both
    reference = json.loads(path.with_suffix(".json").read_text())["reference"]
    inputs = {name: np.array(values, np.float32) for name, values in reference["inputs"].items()}
    assert [*inputs] == BOTH.tensors
    assert all(np.array_equal(values, sample_of(training)[name][:8]) for name, values in inputs.items())
    assert Model(path).run(inputs) == pytest.approx(np.array(reference["outputs"]), abs=1e-6)


@pytest.mark.parametrize(("release", "opset", "ir"), [("CMSSW_11_0_X", 11, 6), ("CMSSW_12_0_X", 13, 7)])
def test_old_releases(tmp_path: Path, release: str, opset: int, ir: int) -> None:
    export_networks(trained(FLAT), tmp_path / "model.onnx", "old", target(release))
    content = onnx.load(tmp_path / "model.onnx")
    assert (content.opset_import[0].version, content.ir_version) == (opset, ir)
    # without discriminants, the probabilities are all that there is
    outputs = {"probabilities", "fold_probabilities"}
    assert [it.op_type for it in content.graph.node if outputs & {*it.output}] == ["Concat", "ReduceMean"]


def test_a_single_network_that_knows_float32_alone(tmp_path: Path) -> None:
    metadata = export_networks(odd("float"), tmp_path / "model.onnx", "one", target())
    assert metadata["target"] == {"cmssw": None, "onnxruntime": None, "opset": 15, "ir": 8}
    assert metadata["folds"] == {"k": 1, "hash": RULE}
    columns = {"ZCand_mass": np.zeros(3), "MET_pt": np.zeros(3)}
    loaded = Model(tmp_path / "model.onnx")
    assert np.array_equal(loaded.scores(columns, np.zeros(3, int)), loaded.scores(columns))


def test_regression(tmp_path: Path) -> None:
    shape = Shape(("ZCand_mass", "MET_pt"), (JETS,), 2)
    training = trained(shape, "deepsets", targets=("nu_px", "nu_py"), classes=[])
    metadata = export_networks(training, tmp_path / "model.onnx", "neutrino", target())
    assert metadata["outputs"][0] == {"tensor": "values", "targets": ["nu_px", "nu_py"]}
    loaded = Model(tmp_path / "model.onnx")
    assert (loaded.description.kind, loaded.outputs) == ("targets", ["nu_px", "nu_py"])
    found = loaded.scores(columns_of(shape, sample_of(training)))
    assert found.shape == (64, 2)
    assert 300 < found.mean() < 900


def test_a_model_of_objects(tmp_path: Path) -> None:
    shape = Shape(("Jet_pt", "Jet_btag", "MET_pt"), (), 3)
    training = trained(shape, level="object", collection="Jet")
    export_networks(training, tmp_path / "model.onnx", "tagger", target())
    loaded = Model(tmp_path / "model.onnx")
    counts, rows = np.array([2, 0, 1]), sample_of(training)["features"][[0, 1, 2]]
    rows[:, 2] = [50, 50, 70]
    jets = {name: Jagged(rows[:, i], counts) for i, name in enumerate(("Jet_pt", "Jet_btag"))}
    columns = {**jets, "MET_pt": np.array([50.0, 60.0, 70.0])}
    with torch.no_grad():
        expected = networks_of(training)(torch.from_numpy(rows))[0].numpy()
    assert loaded.scores(columns) == pytest.approx(expected, abs=1e-6)


def test_a_parameter(tmp_path: Path) -> None:
    shape = Shape(("MET_pt", "mass"), (), 3)
    training = trained(shape, parameter=ParameterGrid("mass", (600.0, 1000.0), (0.5, 0.5)))
    export_networks(training, tmp_path / "model.onnx", "wprime", target())
    loaded = Model(tmp_path / "model.onnx")
    assert loaded.reads == ["MET_pt"]
    assert loaded.description.parameter == Parameter("mass", (600.0, 1000.0))
    met = np.array([50.0, 100.0], np.float32)
    with torch.no_grad():
        rows = torch.from_numpy(np.stack([met, np.full(2, 600, np.float32)], axis=1))
        expected = networks_of(training)(rows)[0].numpy()
    assert loaded.scores({"MET_pt": met}, parameter=600) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ConfigError, match="has the parameter mass, trained at 600, 1000: give a number"):
        loaded.scores({"MET_pt": met})


def test_trees_know_no_other_values_of_a_parameter(tmp_path: Path, toy: Callable[..., Path], quick: Train) -> None:
    mass = np.where(np.arange(600) % 2, np.nan, np.array([300, 0.1, 800])[np.arange(600) % 3]).astype("f4")
    config = replace(quick, model="bdt", options={}, parameter="mass")
    train([toy(parameter="mass", mass=mass)], config, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "model.onnx", Export())
    loaded, columns = Model(tmp_path / "model.onnx"), {"x": np.zeros(1, "f4"), "y": np.zeros(1, "f4")}
    assert len(loaded.scores(columns, parameter=0.1)) == 1
    with pytest.raises(ConfigError, match="mass = 400 is not among the values that these trees were trained at: 0.1, "):
        loaded.scores(columns, parameter=400)


class Odd(nn.Module):
    """A core that PyTorch's exporter cannot write, or not for every release."""

    def __init__(self, shape: Shape, how: str) -> None:
        super().__init__()
        self.how, self.last = how, nn.Linear(len(shape.features), 3)

    def forward(self, inputs: Inputs) -> Tensor:
        values = inputs.features
        if self.how == "grid":  # from opset 16 on
            image, grid = values[:, :1].reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4), values.reshape(-1, 1, 1, 2) / 10
            values = values + nn.functional.grid_sample(image, grid, align_corners=True)[:, 0, 0]
        elif self.how == "bessel":
            values = torch.special.bessel_j0(values)
        elif self.how == "tiny":
            nothing = values - values
            values = values + nothing / (nothing.abs() + 1e-12)
        elif self.how == "float":
            values = (values > 0).float()
        elif self.how == "baked":
            values = values * torch.ones(len(values.tolist()), 1)
        return self.last(values)


def odd(how: str, shape: Shape = FLAT) -> Training:
    training = trained(shape, folds=1)
    training.networks[0].core = Odd(shape, how)
    return training


def test_an_operator_that_the_release_lacks(tmp_path: Path) -> None:
    message = "uses `aten::grid_sampler`, which there is from opset 16 on: ONNX opset 15, .*for CMSSW_12_4_X .*lacks it"
    with pytest.raises(NanoMLError, match=message):
        export_networks(odd("grid"), tmp_path / "model.onnx", "odd", target("CMSSW_12_4_X"))
    assert not list(tmp_path.iterdir())
    metadata = export_networks(odd("grid"), tmp_path / "model.onnx", "odd", target("CMSSW_13_3_X"))
    assert metadata["target"]["opset"] == 18


@pytest.mark.parametrize(
    ("cmssw", "advice"), [("CMSSW_14_0_X", r"Try CMSSW_15_0_X \(.*, or replace"), ("CMSSW_15_0_X", "Replace")]
)
def test_an_operator_that_cannot_be_written(tmp_path: Path, capfd: Captured, cmssw: str, advice: str) -> None:
    message = f"uses `aten::special_bessel_j0`: ONNX opset .* lacks it. {advice} it in the network"
    with pytest.raises(NanoMLError, match=message):
        export_networks(odd("bessel"), tmp_path / "model.onnx", "odd", target(cmssw))
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("cmssw", "opset"), [("CMSSW_14_0_X", 15), ("CMSSW_15_0_X", 18)])
def test_a_network_of_small_numbers_that_does_not_look_at_all_inputs(tmp_path: Path, cmssw: str, opset: int) -> None:
    training = odd("tiny", Shape(FLAT.features, (MUONS,), 3))
    metadata = export_networks(training, tmp_path / "model.onnx", "odd", target(cmssw))
    assert metadata["target"]["opset"] == opset


def test_a_baked_in_size(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match='differs from the network on "real events", 1 event: '):
        export_networks(odd("baked"), tmp_path / "model.onnx", "odd", target())
    assert not list(tmp_path.iterdir())


def test_a_wrong_export_leaves_the_earlier_model(both: tuple[Training, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    training, model = replace(both[0], networks=deepcopy(both[0].networks)), both[1]
    before = {path: path.read_bytes() for path in model.parent.iterdir()}
    assert set(before) == {model, model.with_suffix(".json")}
    real = exporting.convert

    def wrong(ensemble: Any, *arguments: Any) -> None:
        with torch.no_grad():
            ensemble.networks[2].target_width[0] += 1
            list(ensemble.networks[2].core.parameters())[-1][0] += 0.01
            real(ensemble, *arguments)
            list(ensemble.networks[2].core.parameters())[-1][0] -= 0.01

    monkeypatch.setattr(exporting, "convert", wrong)
    message = r'differs from the network on "real events", 1 event: (fold_)?probabilities of event 0 is \[.*\] instead'
    with pytest.raises(NanoMLError, match=message):
        export_networks(training, model, "wrong", target())
    assert {path: path.read_bytes() for path in model.parent.iterdir()} == before


def test_a_format_that_is_too_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = graph._trace
    monkeypatch.setattr(graph, "_trace", lambda *arguments: real(*arguments[:-1], 16))
    with pytest.raises(NanoMLError, match="exporter wrote ONNX opset 16, IR 8, but CMSSW_9_9_X .*reads opset 15, IR 8"):
        export_networks(trained(FLAT), tmp_path / "m.onnx", "new", Target("CMSSW_9_9_X", "1.10", 15, 8))
    assert not list(tmp_path.iterdir())


def test_weights_beyond_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_LARGEST", 1000)
    with pytest.raises(NanoMLError, match="but one ONNX file holds 2 GB"):
        export_networks(trained(FLAT), tmp_path / "model.onnx", "large", target())


def test_a_model_that_a_check_refuses_is_not_written(tmp_path: Path) -> None:
    def refuse(description: Description) -> None:
        raise NanoMLError(f"{description.name}: not that")

    with pytest.raises(NanoMLError, match="trilepton: not that"):
        export_networks(trained(FLAT), tmp_path / "model.onnx", "trilepton", target(), [refuse])
    assert not list(tmp_path.iterdir())


def test_what_is_asked_for_is_checked_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which ONNX Runtime CMSSW_9_4_0 has is not known here"):
        export(tmp_path, tmp_path / "model.onnx", Export(cmssw="CMSSW_9_4_0"))
    with pytest.raises(NanoMLError, match=r"the name of a model ends in .onnx"):
        export(tmp_path, tmp_path / "model.pb", Export())
    assert not list(tmp_path.iterdir())


def test_a_training_for_a_release_that_is_not_known(whole: Path, tmp_path: Path, capsys: Captured) -> None:
    metadata = export(whole, tmp_path / "model.onnx", Export(cmssw="CMSSW_17_0_0_pre3", name="trilepton"))
    assert metadata["name"] == "trilepton"
    assert metadata["target"] == {"cmssw": "CMSSW_17_0_0_pre3", "onnxruntime": None, "opset": 15, "ir": 8}
    assert "WARNING: which ONNX Runtime CMSSW_17_0_0_pre3 has is not known here" in capsys.readouterr().err
    assert metadata["training"]["datasets"]
    said = list(verify_model(tmp_path / "model.onnx", None, TrainedNetworks.of(whole)))
    assert said[-1].startswith("networks of the training: PyTorch gives the same, to ")


def test_the_command(whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    options = ["--onnxruntime", "1.17.1", "--name", "mine", "-o", str(output)]
    done = CliRunner().invoke(export_command, [str(whole), *options])
    assert done.exit_code == 0, done.output
    assert json.loads(output.with_suffix(".json").read_text())["target"]["onnxruntime"] == "1.17.1"
    done = CliRunner().invoke(export_command, [str(whole)])
    assert done.exit_code == 2
    assert "Say where the model goes: -o MODEL.onnx" in done.output
