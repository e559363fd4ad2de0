"""The C++ of the package, built where CMSSW is not: it scores events as Python does."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("data_processing.skim.skim")

from data_processing.convert.columns import VALID, CollectionColumns, Feature, FileColumns
from data_processing.convert.expressions import EventWeights
from data_processing.convert.writing import RowReader
from MLTools.NanoML.contracts.hdf5 import EVENTS
from MLTools.NanoML.model import Discriminant
from MLTools.NanoML.model.domain import InputRange, KnownTensor, outside_of
from MLTools.NanoML.nanoaod.folds import RULE
from MLTools.NanoML.rootio.branches import Branch
from services.cplusplus import run, write_events

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export"),
]

FEATURES = {"MET_pt": "float32", "nGood": "int32", "PV_npvs": "uint8", "tight": "bool", "rho": "float64"}
COLLECTIONS: dict[str, dict[str, str]] = {
    "Jet": {"pt": "float32", "eta": "float32", "phi": "float32", "mass": "float64", "id": "uint8", "q": "int32"},
    "Muon": {
        "pt": "float32",
        "eta": "float64",
        "phi": "float32",
        "charge": "int16",
        "tight": "bool",
        "index": "uint32",
        "quality": "uint16",
    },
}
MAX = {"Jet": 4, "Muon": 3}


@dataclass(frozen=True)
class Made:
    """Events as NanoAOD has them: event-level columns, and collections of any number of objects."""

    features: dict[str, NDArray[Any]]
    objects: dict[str, dict[str, ak.Array]]

    def tensors(self, order: Mapping[str, str | None]) -> dict[str, NDArray[np.float32]]:
        """What the conversion to HDF5 makes of them."""
        features = {name: Feature(Branch(name, FEATURES[name], "flat", "", None, "")) for name in FEATURES}
        collections = {}
        for name, by in order.items():
            fields = {
                field: Branch(f"{name}_{field}", dtype, "jagged", "", name, "")
                for field, dtype in COLLECTIONS[name].items()
            }
            collections[name] = CollectionColumns(fields, MAX[name], by)
        columns = FileColumns(features, collections)
        arrays = {name: ak.Array(values) for name, values in self.features.items()}
        for name in order:
            arrays |= {f"{name}_{field}": values for field, values in self.objects[name].items()}
        size = len(self.features["rho"])
        arrays |= {name: ak.Array(np.zeros(size, int)) for name in ("run", "luminosityBlock", "event")}
        rows, _ = RowReader(columns, True, -1, EventWeights(None, False)).rows(arrays, size, "made")
        found = {"features": stacked([rows[EVENTS][name] for name in FEATURES])}
        for name in order:
            found[name] = stacked([rows[name][field] for field in COLLECTIONS[name]])
            found[f"{name}_mask"] = rows[name][VALID].astype(np.float32)
        return found

    def columns(self, event: int) -> dict[str, tuple[str, list[Any]]]:
        """Type and values of all columns of an event."""
        found = {name: (FEATURES[name], [values[event]]) for name, values in self.features.items()}
        for name, fields in self.objects.items():
            for field, values in fields.items():
                found[f"{name}_{field}"] = (COLLECTIONS[name][field], list(values[event]))
        return found


def stacked(columns: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    return np.stack([column.astype(np.float32) for column in columns], axis=-1)


@pytest.fixture(scope="module")
def made() -> Made:
    """300 events with ties, NaN, infinities, large integers, and from no object to more than are read."""
    random = np.random.default_rng(5)
    size = 300

    def column(dtype: str, length: int) -> NDArray[Any]:
        if dtype == "bool":
            return random.random(length) < 0.5
        if dtype.startswith("float"):
            values = random.exponential(50, length).round(-1).astype(dtype)  # round: there are ties
            values[random.random(length) < 0.1] = np.nan
            values[random.random(length) < 0.05] = np.inf
            values[random.random(length) < 0.05] = -np.inf
            return values
        limits = np.iinfo(dtype)
        values = random.integers(0, 4, length).astype(dtype)
        values[random.random(length) < 0.1] = limits.max
        values[random.random(length) < 0.1] = limits.min
        return values

    objects = {}
    for name, fields in COLLECTIONS.items():
        counts = random.integers(0, MAX[name] + 4, size)
        objects[name] = {field: ak.unflatten(column(dtype, counts.sum()), counts) for field, dtype in fields.items()}
    return Made({name: column(dtype, size) for name, dtype in FEATURES.items()}, objects)


def scored(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean output, in Python."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    found: NDArray[np.float32] = session.run(None, {name: tensors[name] for name in names})[0]
    return found


NETWORKS = ["mlp", "deepsets", "particlenet", "transformer", "bdt", "tabular"]


def domain_of(order: Mapping[str, str | None]) -> list[KnownTensor]:
    """Ranges within which some numbers lie; some columns may be missing."""

    def ranges(names: Iterable[str]) -> tuple[InputRange, ...]:
        kinds = [((), False), ((3.0, 255.0), False), ((), True)]
        return tuple(InputRange(name, 0.5, 120.0, *kinds[i % 3], (), 0.0, 0.1) for i, name in enumerate(names))

    objects = [KnownTensor(name, f"{name}_mask", MAX[name], ranges(COLLECTIONS[name])) for name in order]
    return [KnownTensor("features", None, 0, ranges(FEATURES)), *objects]


def network_model(directory: Path, model: str, made: Made, order: Mapping[str, str | None]) -> Path:
    """Two untrained networks of all columns as a model file, with two discriminants; those of an mlp have several heads."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("ML_processing.stages")
    from ML_processing.events.inputs import CollectionShape, Inputs, Shape
    from ML_processing.models.network import Ensemble, Network, make_network
    from services.trainings import grow

    class Heads(torch.nn.Module):
        heads = ("spread", "targets", "classes")

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, inputs: Any) -> Any:
            found = self.inner(inputs)
            return {"classes": found, "targets": 3 * found[:, :1], "spread": found[:, 1:]}

        def loss(self, outputs: Any, batch: Any) -> Any:
            raise AssertionError("nothing is trained here")

    collections = [CollectionShape(name, (*COLLECTIONS[name],), MAX[name], by) for name, by in order.items()]
    has_heads = model == "mlp"
    shape = Shape((*FEATURES,), (*collections,), 3, int(has_heads))
    torch.manual_seed(3)
    tensors = made.tensors(order)
    networks = []
    for _ in range(2):
        network = make_network(model, {}, shape)
        if has_heads:
            network = Network(shape, Heads(network.core))
        objects = {name: (tensors[name], tensors[f"{name}_mask"] > 0) for name in order}
        network.fit(tensors["features"], objects)
        grow(network, Inputs.of_tensors(shape, [torch.from_numpy(tensors[name]) for name in shape.tensors]))
        networks.append(network)
    path = directory / f"{model}.onnx"
    names = shape.tensors
    axes = {
        name: {0: "events"} if name == "features" else {0: "events", 1: f"{name.split('_')[0]}_objects"}
        for name in names
    }
    outputs = ["probabilities", "fold_probabilities"]
    classes = ["signal", "WZ", "ZG"]
    discriminants = [
        Discriminant("against_all", "signal", {"signal": 1.0, "WZ": 0.999, "ZG": 0.001}),
        Discriminant("against_WZ", "ZG", {"ZG": 0.5, "WZ": 2.0}),
    ]
    torch.onnx.export(
        Ensemble(networks, shape, "classification", discriminants, classes).eval(),
        tuple(torch.from_numpy(tensors[name][:3]) for name in names),
        str(path),
        input_names=names,
        output_names=outputs,
        dynamic_axes={**axes, **{name: {0: "events"} for name in outputs}},
        opset_version=15,
        dynamo=False,
    )
    columns: dict[str, Any] = {"classes": classes, "discriminants": [asdict(each) for each in discriminants]}
    if has_heads:
        columns["heads"] = [
            {"name": "targets", "outputs": ["x"]},
            {"name": "spread", "outputs": ["spread_0", "spread_1"]},
        ]
    metadata = {
        "schema": 4 if has_heads else 2,
        "name": model,
        "level": "event",
        "collection": None,
        "inputs": [
            {"tensor": "features", "columns": [*FEATURES], "selection": None, "selection_columns": []},
            *(
                {
                    "tensor": it.name,
                    "mask": f"{it.name}_mask",
                    "collection": it.name,
                    "columns": [f"{it.name}_{field}" for field in it.fields],
                    "max": it.max,
                    "order": it.order,
                    "selection": None,
                    "selection_columns": [],
                }
                for it in collections
            ),
        ],
        "outputs": [{"tensor": outputs[0], **columns}, {"tensor": outputs[1], **columns, "folds": 2}],
        "parameter": None,
        "folds": {"k": 2, "hash": RULE},
        "domain": [asdict(each) for each in domain_of(order)],
        "onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(metadata))
    return path


ORDERS: list[dict[str, str | None]] = [
    {"Jet": "-pt", "Muon": "-charge"},
    {"Jet": "mass", "Muon": "-index"},
    {"Jet": None, "Muon": "tight"},
]


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Path:
    """Events scored by a transformer, for the C++ tests."""
    return events_of(tmp_path_factory.mktemp("transformer"), "transformer", made, ORDERS[0])


def events_of(directory: Path, model: str, made: Made, order: Mapping[str, str | None]) -> Path:
    """Events scored by a network, for the C++ tests."""
    path = network_model(directory, model, made, order)
    scores = scored(path, made.tensors(order))
    columns = [made.columns(event) for event in range(len(scores))]
    outside = outside_of(tuple(domain_of(order)), made.tensors(order))
    assert 0 < outside.sum() < outside.size
    return write_events(directory / "events.json", path, columns, [*scores], outside=outside)


def test_it_is_built_without_warnings_and_passes_its_own_tests(programs: Path, newest: Path) -> None:
    run(str(programs / "testNanoML"))
    run(str(programs / "testTables"))
    run(str(newest / "testNanoML"))


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("model", NETWORKS)
def test_scores_of_networks_are_those_of_python(
    model: str, order: dict[str, str | None], made: Made, tmp_path: Path, programs: Path
) -> None:
    events = events_of(tmp_path, model, made, order)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


def test_no_memory_is_allocated_after_the_first_event(transformer: Path, newest: Path) -> None:
    assert int(run(str(newest / "testAllocations"), str(transformer))) == 0


def test_the_reference_scores_of_the_model_that_is_shipped(programs: Path) -> None:
    (said,) = run(str(ROOT / "test" / "test_models.sh"), str(programs / "testScores")).splitlines()
    name, difference = said.split(": ")
    assert name.endswith("leptons.onnx")
    assert float(difference) < TOLERANCE


def test_regression_of_collections(linear_model: Callable[..., Path], tmp_path: Path, programs: Path) -> None:
    model = linear_model([], objects={"Jet": (["pt", "eta"], 2, "eta")}, targets=["x", "y", "z"])
    etas, pts = [[], [1.0], [3.0, 1.0, 2.0]], [[], [10.0], [30.0, 11.0, 22.0]]
    columns = [{"Jet_pt": ("float32", pt), "Jet_eta": ("float64", eta)} for pt, eta in zip(pts, etas)]
    expected = [np.array([sum_of, 1, 0], np.float32) for sum_of in (0.0, 10.0, 33.0)]
    events = write_events(tmp_path / "events.json", model, columns, expected)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


@pytest.mark.parametrize("chosen", [[], [700.0], [600.0, 650.0, 2000.0]])
def test_a_score_for_each_value_of_the_parameter(
    chosen: list[float], linear_model: Callable[..., Path], tmp_path: Path, programs: Path
) -> None:
    trained = [0.5, 1.0]
    model = linear_model(
        ["mass", "MET_pt"][::-1],
        objects={"Jet": (["pt"], 2, "-pt")},
        targets=["x", "y", "z"],
        parameter={"column": "mass", "values": trained},
    )
    mets, jets = [1.0, 2.0], [[5.0, 1.0, 7.0], []]
    columns = [{"MET_pt": ("float32", [met]), "Jet_pt": ("float32", pt)} for met, pt in zip(mets, jets)]
    # this model does not depend on its last column: what is checked is how often each event is scored
    expected = [np.array([[x, 1, 0]] * len(chosen or trained), np.float32) for x in (13.0, 2.0)]
    events = write_events(tmp_path / "events.json", model, columns, expected, chosen)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


def test_trees_are_scored_at_values_that_they_were_trained_at(
    linear_model: Callable[..., Path], tmp_path: Path, programs: Path
) -> None:
    parameter = {"column": "mass", "values": [3.0, 4.0], "only": True}
    model = linear_model(["mass"], targets=["x", "y", "z"], parameter=parameter)
    events = write_events(tmp_path / "events.json", model, [{}], [np.array([[3, 1, 0]], np.float32)], [3.0])
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE
    events = write_events(tmp_path / "events.json", model, [{}], [np.array([[3, 1, 0]], np.float32)], [3.5])
    found = subprocess.run([programs / "testScores", events], capture_output=True, text=True)
    assert found.returncode != 0
    assert "3.5" in found.stderr
    assert "was not trained at, and trees do not interpolate" in found.stderr


def test_the_parameter_is_the_last_feature(linear_model: Callable[..., Path], tmp_path: Path, programs: Path) -> None:
    model = linear_model(["mass"], targets=["x", "y", "z"], parameter={"column": "mass", "values": [3.0, 4.0]})
    expected = [np.array([[3, 1, 0], [4, 1, 0]], np.float32)]
    events = write_events(tmp_path / "events.json", model, [{}], expected)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


def test_objects_are_scored_all_at_once(linear_model: Callable[..., Path], tmp_path: Path, programs: Path) -> None:
    against = Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.75, "ZG": 0.25})
    model = linear_model(["Jet_pt", "MET_pt", "Jet_id"], level="object", collection="Jet", discriminants=[against])
    pts = [[1.0, -2.0, 0.5], [], [0.25]]
    columns = [
        {"Jet_pt": ("float32", pt), "MET_pt": ("float64", [9.0]), "Jet_id": ("uint8", [1] * len(pt))} for pt in pts
    ]
    rows = [np.array([[pt, 9, 1] for pt in event], np.float32).reshape(-1, 3) for event in pts]
    expected = [scored(model, {"features": row}) for row in rows]
    events = write_events(tmp_path / "events.json", model, columns, expected)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


def test_one_score_that_is_nan_among_others_is_refused(
    linear_model: Callable[..., Path], tmp_path: Path, programs: Path
) -> None:
    model = linear_model(["Jet_pt"], level="object", collection="Jet", targets=["x", "y", "z"])
    columns = [{"Jet_pt": ("float32", [1, x, 2])} for x in (3, np.nan, np.inf)]
    expected = [np.array([[1, 1, 0], [x, 1, 0], [2, 1, 0]], np.float32) for x in (3, np.nan, np.nan)]
    # the C++ test wants an error where a score is NaN
    events = write_events(tmp_path / "events.json", model, columns, expected)
    assert float(run(str(programs / "testScores"), str(events))) < TOLERANCE


def test_damaged_files_are_refused(linear_model: Callable[..., Path], tmp_path: Path, programs: Path) -> None:
    model = linear_model(
        ["MET_pt", "mass"],
        objects={"Jet": (["pt"], 2, "-pt")},
        parameter={"column": "mass", "values": [1.0]},
        discriminants=[Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 1.0})],
    )
    run(str(programs / "testDamage"), str(model), str(tmp_path))


def test_eight_threads_share_one_session(transformer: Path, build: Callable[..., Path]) -> None:
    directory = build("thread", "testScores", FLAGS="-g1 -fsanitize=thread", OPTIMIZE="-O1")
    assert float(run(str(directory / "testScores"), str(transformer), "8")) < TOLERANCE
