"""The C++ of the package, built where CMSSW is not: it scores events as Python does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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
from MLTools.NanoML.model.entries import InputRange, KnownTensor, outside_of
from MLTools.NanoML.rootio.branches import Branch
from services.cplusplus import Damage, in_json, run, with_other_parts, write_events

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-6

pytestmark = [pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export")]

NEWEST = pytest.mark.exhaustive("the newest standard and interface, memory and threads")

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
    """120 events with ties, NaN, infinities, large integers, and from no object to more than are read."""
    random = np.random.default_rng(5)
    size = 120

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


def domain_of(order: Mapping[str, str | None]) -> tuple[KnownTensor, ...]:
    """Ranges within which some numbers lie; some columns may be missing."""

    def ranges(names: Iterable[str]) -> tuple[InputRange, ...]:
        kinds = [((), False), ((3.0, 255.0), False), ((), True)]
        return tuple(InputRange(name, 0.5, 120.0, *kinds[i % 3], (), 0.0, 0.1) for i, name in enumerate(names))

    objects = (KnownTensor(name, f"{name}_mask", MAX[name], ranges(COLLECTIONS[name])) for name in order)
    return (KnownTensor("features", None, 0, ranges(FEATURES)), *objects)


def network_model(directory: Path, model: str, made: Made, order: Mapping[str, str | None]) -> Path:
    """Two untrained networks of all columns as a model file, with two discriminants; those of an mlp have several heads."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("ML_processing.stages")
    from ML_processing.events.inputs import CollectionShape, Inputs, Shape
    from ML_processing.export.export import export_networks
    from ML_processing.export.releases import target
    from ML_processing.models.network import Network, make_network
    from services.trainings import grow, training_of

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
        network = make_network(model, SMALL.get(model, {}), shape)
        if has_heads:
            network = Network(shape, Heads(network.core))
        objects = {name: (tensors[name], tensors[f"{name}_mask"] > 0) for name in order}
        network.fit(tensors["features"], objects)
        grow(network, Inputs.of_tensors(shape, [torch.from_numpy(tensors[name]) for name in shape.tensors]))
        networks.append(network)
    about = {
        "domain": domain_of(order),
        "discriminants": (
            Discriminant("against_all", "signal", {"signal": 1.0, "WZ": 0.999, "ZG": 0.001}),
            Discriminant("against_WZ", "ZG", {"ZG": 0.5, "WZ": 2.0}),
        ),
        "estimates": ("x",) if has_heads else (),
    }
    sample = {name: tensors[name][:8] for name in shape.tensors}
    path = directory / f"{model}.onnx"
    export_networks(training_of(networks, shape, sample, **about), path, model, target("CMSSW_14_0_X"))
    return path


NETWORKS: dict[str, dict[str, str | None]] = {
    "mlp": {"Jet": "-pt", "Muon": "-charge"},
    "deepsets": {"Jet": "-pt", "Muon": "-charge"},
    "particlenet": {"Jet": "mass", "Muon": "-index"},
    "transformer": {"Jet": None, "Muon": "tight"},
    "bdt": {"Jet": "mass", "Muon": "-index"},
    "tabular": {"Jet": None, "Muon": "tight"},
}
"""The order of objects for each network: each for one whose result depends on it, too."""

SMALL = {"particlenet": {"width": 16, "blocks": 1}, "transformer": {"width": 16, "blocks": 1}}


@pytest.fixture(scope="module")
def scored_events(tmp_path_factory: pytest.TempPathFactory, made: Made) -> Callable[[str], Path]:
    """Events scored by a network, for the C++ tests."""

    @cache
    def score(model: str) -> Path:
        directory, order = tmp_path_factory.mktemp(model), NETWORKS[model]
        path = network_model(directory, model, made, order)
        scores = scored(path, made.tensors(order))
        columns = [made.columns(event) for event in range(len(scores))]
        outside = outside_of(domain_of(order), made.tensors(order))
        assert 0 < outside.sum() < outside.size
        return write_events(directory / "events.txt", path, columns, [*scores], outside=outside)

    return score


def test_it_passes_its_own_tests(programs: Path) -> None:
    run(str(programs / "testNanoML"))
    run(str(programs / "testTables"))


@NEWEST
def test_it_passes_its_own_tests_in_the_newest_standard(newest: Path) -> None:
    run(str(newest / "testNanoML"))


@pytest.fixture
def difference(programs: Path, tmp_path: Path) -> Callable[..., float]:
    """The largest difference of a model's scores in C++ from those that are given, with the arguments of `write_events`."""

    def compare(model: Path, *given: Any, **options: Any) -> float:
        events = write_events(tmp_path / "events.txt", model, *given, **options)
        return float(run(str(programs / "testScores"), str(events)))

    return compare


@pytest.mark.parametrize("model", NETWORKS)
def test_scores_of_networks_are_those_of_python(
    model: str, scored_events: Callable[[str], Path], programs: Path
) -> None:
    assert float(run(str(programs / "testScores"), str(scored_events(model)))) < TOLERANCE


@NEWEST
def test_no_memory_is_allocated_after_the_first_event(scored_events: Callable[[str], Path], newest: Path) -> None:
    assert int(run(str(newest / "testAllocations"), str(scored_events("transformer")))) == 0


@NEWEST
def test_eight_threads_share_one_session(scored_events: Callable[[str], Path], newest: Path) -> None:
    assert float(run(str(newest / "testScores"), str(scored_events("transformer")), "8")) < TOLERANCE


def test_the_reference_scores_of_the_model_that_is_shipped(programs: Path) -> None:
    (said,) = run(str(ROOT / "test" / "test_models.sh"), str(programs / "testScores")).splitlines()
    name, difference = said.split(": ")
    assert name.endswith("leptons.onnx")
    assert float(difference) < TOLERANCE


@pytest.mark.parametrize("chosen", [[], [700.0], [600.0, 650.0, 2000.0]])
def test_a_score_for_each_value_of_the_parameter(
    chosen: list[float], linear_model: Callable[..., Path], difference: Callable[..., float]
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
    assert difference(model, columns, expected, chosen) < TOLERANCE


def test_the_parameter_is_the_last_feature(linear_model: Callable[..., Path], difference: Callable[..., float]) -> None:
    """And trees are scored at no values but those of their training."""
    parameter = {"column": "mass", "values": [3.0, 4.0]}
    model = linear_model(["mass"], targets=["x", "y", "z"], parameter=parameter)
    assert difference(model, [{}], [np.array([[3, 1, 0], [4, 1, 0]], np.float32)]) < TOLERANCE
    trees = linear_model(["mass"], targets=["x", "y", "z"], parameter={**parameter, "only": True})
    expected = [np.array([[3, 1, 0]], np.float32)]
    assert difference(trees, [{}], expected, [3.0]) < TOLERANCE
    with pytest.raises(AssertionError, match=r"3\.5\d* was not trained at, and trees do not interpolate"):
        difference(trees, [{}], expected, [3.5])


def test_objects_are_scored_all_at_once(linear_model: Callable[..., Path], difference: Callable[..., float]) -> None:
    against = Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.75, "ZG": 0.25})
    model = linear_model(["Jet_pt", "MET_pt", "Jet_id"], level="object", collection="Jet", discriminants=[against])
    pts = [[1.0, -2.0, 0.5], [], [0.25]]
    columns = [
        {"Jet_pt": ("float32", pt), "MET_pt": ("float64", [9.0]), "Jet_id": ("uint8", [1] * len(pt))} for pt in pts
    ]
    rows = [np.array([[pt, 9, 1] for pt in event], np.float32).reshape(-1, 3) for event in pts]
    assert difference(model, columns, [scored(model, {"features": row}) for row in rows]) < TOLERANCE


def test_one_score_that_is_nan_among_others_is_refused(
    linear_model: Callable[..., Path], difference: Callable[..., float]
) -> None:
    model = linear_model(["Jet_pt"], level="object", collection="Jet", targets=["x", "y", "z"])
    columns = [{"Jet_pt": ("float32", [1, x, 2])} for x in (3, np.nan, np.inf)]
    # the C++ test wants an error where a score is NaN
    expected = [np.array([[1, 1, 0], [x, 1, 0], [2, 1, 0]], np.float32) for x in (3, np.nan, np.nan)]
    assert difference(model, columns, expected) < TOLERANCE


@pytest.mark.exhaustive("each part of a model, damaged")
def test_damaged_files_are_refused(linear_model: Callable[..., Path], tmp_path: Path, programs: Path) -> None:
    """And whatever is in the JSON file, it ends in a message or in a model."""
    model = linear_model(
        ["MET_pt", "mass"],
        objects={"Jet": (["pt"], 2, "-pt")},
        parameter={"column": "mass", "values": [1.0]},
        discriminants=[Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 1.0})],
    )
    refused = Damage(tmp_path, programs)
    random = np.random.default_rng(1)
    onnx, twin = model.read_bytes(), model.with_suffix(".json").read_bytes()
    content = json.loads(twin)

    def flipped(given: bytes) -> bytes:
        place = int(random.integers(len(given)))
        return given[:place] + bytes([given[place] ^ 1 << int(random.integers(8))]) + given[place + 1 :]

    assert refused([(onnx, twin)]) == [False]
    lengths = [len(onnx) * part // 10 for part in range(10)]
    assert all(refused([(onnx[:length], twin) for length in lengths]))
    assert all(refused([(flipped(onnx), twin) for _ in range(10)]))
    # as if it had been exported so
    exported = [{**content, "onnx_sha256": hashlib.sha256(onnx[:length]).hexdigest()} for length in lengths]
    assert all(refused([(onnx[:length], in_json(each)) for length, each in zip(lengths, exported)]))
    assert all(refused([(onnx, twin[: twin.rindex(b"}") * part // 20]) for part in range(20)]))
    refused([(onnx, flipped(twin)) for _ in range(50)])  # it may be in a text that does not matter
    refused([(onnx, in_json(each)) for each in with_other_parts(content, ("training", "reference", "target"))])
    optional = {"parameter", "collection", "training", "reference", "target", "domain"}
    without = {left: in_json({key: it for key, it in content.items() if key != left}) for left in content}
    assert refused([(onnx, each) for each in without.values()]) == [left not in optional for left in without]
