"""What all tests share: where the input files are, and which parts are here."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, settings

from MLTools.NanoML.extending import extensions
from MLTools.NanoML.model import Discriminant
from MLTools.NanoML.model.entries import coefficients
from MLTools.NanoML.nanoaod.folds import RULE
from MLTools.NanoML.rootio.remote.client import VARIABLE
from services.data import embedded_baskets
from services.forked import ForkedCommands
from services.nanoaod import DATASETS, FILES, Made, can_write_rntuple, write
from services.once import directory_of_all, made_once
from services.pages import fences, section_of

pytest_plugins = ["services.fixtures", "services.storage_mode", "services.submissions", "skips"]

ROOT = Path(__file__).resolve().parent

# in the Python programs that tests start, too, a warning that our code causes is an error
STRICT = str(ROOT / "test" / "strict")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [STRICT, os.environ.get("PYTHONPATH")]))

# a likelihood is compiled for nearly every fit, which takes longer than what then runs
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
# as it was done before 2025, in half the time; an XLA that does not know this option ignores it
_OLD_LOOPS = "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
os.environ["XLA_FLAGS"] = " ".join(filter(None, [os.environ.get("XLA_FLAGS"), _OLD_LOOPS]))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
COMPILED = "JAX_COMPILATION_CACHE_DIR"

# how long an example takes depends on what else the machine does
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# a part that has been taken out takes its tests with it
collect_ignore = [
    f"test/{part}"
    for part in ("data_processing", "ML_processing", "statistical_analysis")
    if not (ROOT / part).is_dir()
]
collect_ignore += [
    str(it.parent) for it in (ROOT / "extensions").glob("*/__init__.py") if it.parent.name not in extensions()
]

DATA = Path(os.environ.get("NANOML_TEST_DATA") or ROOT.parent / "shared" / "data")


def pytest_configure(config: pytest.Config) -> None:
    """What jax has compiled is there for all fits of this run with the same likelihood, in workers and in programs."""
    if COMPILED not in os.environ:
        os.environ[COMPILED] = tempfile.mkdtemp(prefix="compiled-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(COMPILED), ignore_errors=True))


def pytest_collectstart() -> None:
    """Leave garbage alone while thousands of tests are collected: to look for it takes a quarter of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """And never look again through what is there for the whole run."""
    gc.enable()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let go of it, or a compiler of PyTorch's calls it a leak at the end."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have much that is exhaustive, which takes long: none of it is left for the end."""
    marked = [(item, mark) for item in items for mark in item.iter_markers("exhaustive")]
    for item, mark in marked:
        if mark.kwargs or [*map(type, mark.args)] != [str]:
            raise pytest.UsageError(f'{item.nodeid}: the mark needs one reason: exhaustive("what about")')
    number = Counter(item.path for item, _ in marked)
    items.sort(key=lambda item: -number[item.path])


def _found(kind: str) -> list[Path]:
    return sorted((DATA / kind).rglob("*.root"))


class Written(Mapping[str, Any]):
    """What is written when it is asked for, once."""

    def __init__(self, names: Sequence[str], make: Callable[[str], Any]) -> None:
        self._names, self._make = names, functools.lru_cache(None)(make)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@pytest.fixture(scope="session")
def made_files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Generated files of all versions and kinds, by the names of services.nanoaod.FILES."""
    directory = directory_of_all(tmp_path_factory, "made")
    return Written(_writable(FILES), lambda name: _written(FILES, name, directory))


def _written(files: Mapping[str, Made], name: str, directory: Path) -> Path:
    return made_once(directory / f"{name}.root", lambda path: write(path, files[name]))


def _writable(files: Mapping[str, Made]) -> list[str]:
    return [name for name, made in files.items() if can_write_rntuple() or not made.is_rntuple]


@pytest.fixture(params=_writable(FILES))
def made_file(request: pytest.FixtureRequest, made_files: Mapping[str, Path]) -> Path:
    """Each of the generated files: for what does not depend on who wrote a file."""
    return made_files[request.param]


@pytest.fixture(scope="session")
def real_files() -> dict[str, Path]:
    """NanoAOD of CMS of several versions, by its name without ".root"; without any, the test is skipped."""
    files = {path.stem: path for path in _found("real")}
    if not files:
        pytest.skip(f"no NanoAOD files in {DATA / 'real'}: name their directory by NANOML_TEST_DATA")
    return files


_SHOWN = ("scouting", "v6_mc_dy_rntuple", "v6_mc_dy_zero_events", "v13_data", "v15_mc")
"""Parts of the names of real files, each of which shows something that no other file does."""


def _different() -> list[Path]:
    return [path for path in _found("real") if any(part in path.stem for part in _SHOWN)]


@pytest.fixture(params=[*_writable(FILES), *(path.stem for path in _different())])
def nano_file(request: pytest.FixtureRequest, made_files: Mapping[str, Path]) -> Path:
    """Each of the generated files and, where they are at hand, of different real ones that this uproot can read."""
    if request.param in made_files:
        return made_files[request.param]
    path = DATA / "real" / f"{request.param}.root"
    with uproot.open(path) as file:
        if "RNTuple" in file.classnames(cycle=False)["Events"] and not hasattr(file["Events"], "num_entries"):
            pytest.skip(f"uproot {uproot.__version__} reads no RNTuple")
    return path


def _any_files() -> list[Path]:
    """ROOT files of any kind: in the directory that NANOML_TEST_ROOT_FILES names, different real ones, and two of the repository."""
    directory = os.environ.get("NANOML_TEST_ROOT_FILES")
    more = sorted(Path(directory).rglob("*.root")) if directory else []
    example = ROOT / "examples" / "nano" / "WZTo3LNu" / "WZTo3LNu_0.root"
    return [example, embedded_baskets.PATH, *_different(), *more]


@pytest.fixture(params=_any_files(), ids=lambda path: path.stem)
def any_file(request: pytest.FixtureRequest) -> Path:
    """Each of the ROOT files at hand, whatever is in it."""
    path: Path = request.param
    return path


@pytest.fixture(scope="session")
def mc_files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Path]]:
    """The generated datasets of simulation of services.nanoaod.DATASETS: the files of each, in their order."""

    def make(dataset: str) -> list[Path]:
        directory = directory_of_all(tmp_path_factory, dataset)
        return [_written(DATASETS[dataset], name, directory) for name in DATASETS[dataset]]

    return Written(list(DATASETS), make)


@pytest.fixture(scope="session")
def sample() -> Path:
    """The directory of the example's input files, one directory for each dataset."""
    return ROOT / "examples" / "nano"


@pytest.fixture(autouse=True)
def usual_reading() -> Iterator[None]:
    """The settings for reading over the network, which a run leaves in the environment, end with the test."""
    before = os.environ.get(VARIABLE)
    yield
    os.environ.pop(VARIABLE, None)
    if before is not None:
        os.environ[VARIABLE] = before


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """No run begins workers, each of which would import PyTorch and all else again: that takes longer than what it does then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOML_CORES", "1")
        yield


@pytest.fixture
def read_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Reads over the network with these settings, during the test; no others than loopback's redirectors are asked."""

    def use(**settings: Any) -> None:
        content = {"timeout": 20, "redirectors": [], **settings}
        monkeypatch.setenv(VARIABLE, json.dumps(content))

    use()
    return use


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB, which is soon full."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    path = tmp_path / "disk"
    path.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(path)]
    if subprocess.run(line, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture(scope="session")
def forked_commands() -> Iterator[Path]:
    """A directory for PATH with `nanoml`, which need not import anything first."""
    with tempfile.TemporaryDirectory(prefix="nanoml-") as directory:
        commands = ForkedCommands(Path(directory))
        yield Path(directory)
        commands.stop()


def _quick(text: str) -> str:
    """A configuration whose networks are trained for two epochs."""
    text = re.sub(r"\bepochs: \d+,? *", "", text)
    text = re.sub(r"^train: \{", "train: {epochs: 2, ", text, flags=re.M)
    return re.sub(r"^train:\n", "train:\n  epochs: 2\n", text, flags=re.M)


@pytest.fixture(scope="session")
def follow(forked_commands: Path) -> Callable[..., str]:
    """Does in a directory what a page of doc/ says, in a copy of the example, or in what another page has made there.

    In the page, "```python dimuon.py" begins the content of a file, of any language, "```bash" commands and "```python"
    a program. Other blocks are ignored, and so is `make`, which would run these very tests. Where commands change
    the directory, what comes after is done there. `page.md#anchor` is the section under that heading alone. No
    workers are begun, and figures are white: both would take longer than all else. With `quick`, networks are trained
    for two epochs. Returns what all of it printed.
    """

    def do(page: str, directory: Path, hidden: Sequence[str] = (), inside: str = "", quick: bool = False) -> str:
        if not inside:
            results = shutil.ignore_patterns("agc", "leptons", "opendata", "opendata_invented", "trilepton", "wz")
            shutil.copytree(ROOT / "examples", directory / "examples", ignore=results)
            example = directory / "examples" / "trilepton.yaml"
            if quick:
                example.write_text(_quick(example.read_text()))
        programs = (forked_commands, Path(sys.executable).parent, os.environ["PATH"], ROOT / "scripts")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {
            "PATH": os.pathsep.join(map(str, programs)),
            "NANOML_CORES": "1",
            "NANOML_TEST_WHITE_FIGURES": "1",
        }
        place, printed = directory / inside, ""
        name, _, anchor = page.partition("#")
        for block in fences(section_of((ROOT / "doc" / name).read_text(), anchor)):
            code = block.code
            if re.fullmatch(r"\w+[.]\w+", block.about):
                (place / block.about).write_text(_quick(code) if quick else code)
                continue
            if block.about or block.language not in ("bash", "python"):
                continue
            line = [sys.executable, "-c", code]
            if block.language == "bash":
                code = re.sub(r"^(make|source) .*", "true", code, flags=re.M)
                line = ["bash", "-e", "-c", f"{code}\npwd > {shlex.quote(str(directory / '.where'))}"]
            done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, code + done.stdout + done.stderr
            printed += done.stdout
            if block.language == "bash":
                place = Path((directory / ".where").read_text().strip())
        return printed

    return do


@pytest.fixture(scope="session")
def linear_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a model of three folds: fold k gives the softmax of (x, k, 0), or with targets (x, k, 0) itself.

    x is the first column, plus the sum of the first field over the objects of each collection, which `objects` has as
    {"Jet": (["pt", "eta"], max, order)}. Anybody can compute its scores by hand; it has the metadata of
    `nanoml export`. The classes are signal, WZ and ZG, of which there may be `discriminants`.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def make(
        columns: Sequence[str],
        selection_columns: Sequence[str] = (),
        objects: Mapping[str, tuple[Sequence[str], int, str | None]] | None = None,
        targets: Sequence[str] = (),
        discriminants: Sequence[Discriminant] = (),
        **changes: Any,
    ) -> Path:
        objects = objects or {}
        path = tmp_path_factory.mktemp("model") / "linear.onnx"
        selection = "MLTools.NanoML.trilepton:Trilepton"
        inputs: list[dict[str, Any]] = []
        shapes: dict[str, list[Any]] = {}
        nodes, parts, ones = [], [], []
        if columns:
            inputs.append({"tensor": "features", "columns": list(columns)})
            shapes["features"] = ["N", len(columns)]
            parts.append("features")
            ones.append(0)
        size = len(columns)
        for name, (fields, most, order) in objects.items():
            described = {"tensor": name, "mask": f"{name}_mask", "collection": name, "max": most, "order": order}
            inputs.append({**described, "columns": [f"{name}_{field}" for field in fields]})
            shapes[name], shapes[f"{name}_mask"] = ["N", f"{name}s", len(fields)], ["N", f"{name}s"]
            nodes += [
                helper.make_node("Unsqueeze", [f"{name}_mask", "two"], [f"{name}_weight"]),
                helper.make_node("Mul", [name, f"{name}_weight"], [f"{name}_real"]),
                helper.make_node("ReduceSum", [f"{name}_real", "one"], [f"{name}_sum"], keepdims=0),
            ]
            parts.append(f"{name}_sum")
            ones.append(size)
            size += len(fields)
        weight = np.zeros((size, 9), np.float32)
        weight[ones, ::3] = 1
        bias = np.zeros(9, np.float32)
        bias[1::3] = np.arange(3)
        mean, each = ("values", "fold_values") if targets else ("probabilities", "fold_probabilities")
        plain = [f"{name}_of_classes" if discriminants else name for name in (mean, each)]
        nodes += [
            helper.make_node("Concat", parts, ["row"], axis=1),
            helper.make_node("MatMul", ["row", "weight"], ["scaled"]),
            helper.make_node("Add", ["scaled", "bias"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["logits"]),
            helper.make_node(
                *("Identity" if targets else "Softmax", ["logits"], plain[1:]), **({} if targets else {"axis": 2})
            ),
            helper.make_node("ReduceMean", plain[1:], plain[:1], axes=[1], keepdims=0),
        ]
        for name, full in zip(plain, (mean, each)) if discriminants else ():
            nodes += [
                helper.make_node("MatMul", [name, "above"], [f"{name}_above"]),
                helper.make_node("MatMul", [name, "below"], [f"{name}_below"]),
                helper.make_node("Div", [f"{name}_above", f"{name}_below"], [f"{name}_discriminants"]),
                helper.make_node("Concat", [name, f"{name}_discriminants"], [full], axis=-1),
            ]
        classes, size = ["signal", "WZ", "ZG"], 3 + len(discriminants)
        constants = {
            "weight": weight,
            "bias": bias,
            "shape": np.array([-1, 3, 3], np.int64),
            **({"one": np.array([1]), "two": np.array([2])} if objects else {}),
            **(dict(zip(("above", "below"), coefficients(discriminants, classes))) if discriminants else {}),
        }

        def tensor(name: str, shape: Sequence[Any]) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        graph = helper.make_graph(
            nodes,
            "linear",
            [tensor(name, shape) for name, shape in shapes.items()],
            [tensor(mean, ["N", size]), tensor(each, ["N", 3, size])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
        names = {"classes": classes, "discriminants": [asdict(one) for one in discriminants]}
        names = {"targets": list(targets)} if targets else names
        made = set(selection_columns)
        for each_input in inputs:
            own = [name for name in each_input["columns"] if name in made]
            each_input["dtypes"] = ["float32"] * len(each_input["columns"])
            each_input.update(selection=selection if own else None, selection_columns=own)
        reference = {
            name: np.ones([2 if axis == "N" else axis if isinstance(axis, int) else 1 for axis in shape])
            for name, shape in shapes.items()
        }
        x = float(bool(columns)) + len(objects)
        logits = np.array([[x, fold, 0.0] for fold in range(3)])
        odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        outputs = (logits if targets else odds).mean(axis=0)
        outputs = np.append(outputs, [one.of(outputs, classes) for one in discriminants])
        metadata = {
            "schema": 2,
            "name": "linear",
            "level": "event",
            "collection": None,
            "inputs": inputs,
            "outputs": [{"tensor": mean, **names}, {"tensor": each, **names, "folds": 3}],
            "parameter": None,
            "target": {"cmssw": None, "onnxruntime": None, "opset": 15, "ir": 8},
            "folds": {"k": 3, "hash": RULE},
            "training": {},
            "reference": {
                "inputs": {name: values.tolist() for name, values in reference.items()},
                "outputs": [outputs.tolist()] * 2,
            },
            **changes,
        }
        helper.set_model_props(model, {"nanoml": json.dumps(metadata)})
        onnx.save(model, path)
        metadata["onnx_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(metadata))
        return path

    return make
