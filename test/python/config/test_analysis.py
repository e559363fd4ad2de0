"""The configuration of an analysis: defaults, methods, and that nothing but ConfigError comes of a bad one."""

from __future__ import annotations

import contextlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MLTools.NanoML.config import training
from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.data import ENGINES, FORMATS, Convert, Dataset, Objects, Score, Skim
from MLTools.NanoML.config.evaluation import Export
from MLTools.NanoML.config.load import load, schema
from MLTools.NanoML.config.training import MODELS, Decorrelation, PerObject, Train
from MLTools.NanoML.errors import ConfigError
from services.configurations import loaded

ANALYSIS = """\
workdir: trilepton
luminosity: 59.8                      # /fb

datasets:
  WprimeToWZToLNuLL_M600:
    files: data/WprimeToWZToLNuLL_M600/*.root
    class: signal
    cross_section: 0.0921             # pb
  WZTo3LNu:
    files: [root://host//store/a.root, b.root]
    class: WZ
    cross_section: 5.05
  SingleMuon:
    files: [c.root]
    data: true

skim:
  selection: MLTools.NanoML.trilepton:Trilepton
  keep: [MET_*, HLT_Mu50, HLT_Ele32_WPTight_Gsf]

convert:
  features: [ZCand_mass, ZCand_dR, ThreeLep_sumPt, WLep_pt, MET_pt, WCand_mT, ThreeLep_mass]
  objects:
    Jet: {fields: [pt, eta, phi, mass, btagDeepFlavB], max: 6}

train:
  model: mlp

export:
  cmssw: CMSSW_14_0_X
"""


def test_analysis(tmp_path: Path) -> None:
    config = loaded(tmp_path, ANALYSIS)
    assert config == Config(
        workdir="trilepton",
        luminosity=59.8,
        datasets={
            "WprimeToWZToLNuLL_M600": Dataset(["data/WprimeToWZToLNuLL_M600/*.root"], "signal", 0.0921),
            "WZTo3LNu": Dataset(["root://host//store/a.root", "b.root"], "WZ", 5.05),
            "SingleMuon": Dataset(["c.root"], is_data=True),
        },
        skim=Skim("MLTools.NanoML.trilepton:Trilepton", ["MET_*", "HLT_Mu50", "HLT_Ele32_WPTight_Gsf"]),
        convert=Convert(
            ["ZCand_mass", "ZCand_dR", "ThreeLep_sumPt", "WLep_pt", "MET_pt", "WCand_mT", "ThreeLep_mass"],
            {"Jet": Objects(["pt", "eta", "phi", "mass", "btagDeepFlavB"], 6)},
        ),
        train=Train("mlp"),
        export=Export("CMSSW_14_0_X"),
    )
    assert config.classes == ("signal", "WZ")
    assert config.base == tmp_path
    assert config.where("convert", "features", 3) == f"{tmp_path}/a.yaml:22"
    assert config.where("datasets", "WZTo3LNu", "class") == f"{tmp_path}/a.yaml:11"
    again = pickle.loads(pickle.dumps(config))  # as it travels to other processes
    assert again == config
    assert again.where("skim") == config.where("skim")


def test_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, "train: {files: a.h5}\nscore: {files: b.root}")
    assert config.workdir == "a"
    it = config.train
    assert (it.files, it.model, it.options, it.signal) == (["a.h5"], "tabular", {}, None)
    assert (it.batch_size, it.epochs, it.patience, it.folds, it.seed) == (512, 200, 12, 5, 1)
    assert (it.learning_rate, it.schedule, it.warmup, it.weight_decay, it.clip) == (3e-3, "plateau", 0.0, 1e-2, 1.0)
    assert (it.device, it.precision, it.workers, it.processes, it.memory) == ("auto", "float32", 0, 1, 1000)
    assert (config.skim, config.convert, config.export) == (None, None, None)
    assert config.classes == ()


def test_options_of_a_network_are_whatever_it_takes(tmp_path: Path) -> None:
    options = "options: {hidden: [8, 8], dropout: 0.1, name: x, deep: {a: null}}"
    train = loaded(tmp_path, f"train: {{files: a, model: own.py:Mine, {options}, decorrelate: {{column: m}}}}\n").train
    assert train.options == {"hidden": [8, 8], "dropout": 0.1, "name": "x", "deep": {"a": None}}
    assert train.decorrelate == Decorrelation("m", 1.0)
    assert loaded(tmp_path, "train: {files: a, clip: null}").train.clip is None


def test_anchors_in_a_place_of_their_own(tmp_path: Path) -> None:
    text = "luminosity: 1\nx-common: &common {class: QCD, cross_section: 2}\ndatasets:\n"
    text += "  a: {<<: *common, files: a.root}\n  b: {<<: *common, files: b.root, cross_section: 3}\n"
    config = loaded(tmp_path, text)
    assert config.datasets == {"a": Dataset(["a.root"], "QCD", 2.0), "b": Dataset(["b.root"], "QCD", 3.0)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("skim:\n  selection: a:B\n  keeep: x", '3: skim.keeep: unknown key. Did you mean "keep"?'),
        ("train:\n  epochs: many", '2: train.epochs: expected a whole number, got "many".'),
        ("train: {device: gpu}", '1: train.device: "gpu" is not a device. Known: auto, cpu, cuda.'),
        ("train: {clip: 0}", "1: train.clip: expected a number above 0, got 0."),
        ("train: {schedule: cosin}", '1: train.schedule: "cosin" is not a schedule. Did you mean "cosine"?'),
        ("train: {decorrelate: {strength: 2}}", "1: train.decorrelate.column: missing. Add it, as in"),
        ("train: {decorrelate: {column: m, strength: 0}}", "1: train.decorrelate.strength: expected a number above 0"),
        ("train: {seed: 4294967296}", "1: train.seed: expected a whole number of at most 4294967295"),
        ("skim: {}", '1: skim: selects nothing. Give "selection", as in "selection: my_selection.py:DiMuon".'),
        ("datasets: {a: {files: b}}\nskim: {modules: ['a:B'], engine: columnar}", "2: skim.engine: modules run in"),
        ("skim: {selection: Trilepton}", "1: skim.selection: expected module:Class or file.py:Class"),
        ("skim: {selection: a:B, compression: ZSTD}", "1: skim.compression: expected ZSTD, LZMA, ZLIB or LZ4"),
        ("datasets: {.a: {files: c}}", '1: datasets..a: ".a" cannot be a name: expected letters, digits'),
        ("convert: {features: [a, a]}", '1: convert.features: "a" is listed twice.'),
        ("convert: {features: [a b]}", "1: convert.features[0]: expected the name of a branch"),
        ("export: {cmssw: foo}", "1: export.cmssw: expected a release such as CMSSW_14_0_X"),
        ("luminosity: 0", "1: luminosity: expected a number above 0, got 0."),
    ],
)
def test_mistakes(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/a.yaml:{expected}")


def test_releases_and_selections(tmp_path: Path) -> None:
    for ending in ("14_0_X", "14_0_19_patch1", "17_0_0_pre3", "16_0_X_2025-11-01-2300", "15_0_ROOT6_X"):
        assert loaded(tmp_path, f"export: {{cmssw: CMSSW_{ending}}}").export == Export(f"CMSSW_{ending}")
    for selection in ("a:B", "a.b.c:D", "my_selection.py:DiMuon", "../x-y/s.py:D"):
        config = loaded(tmp_path, f"datasets: {{a: {{files: b}}}}\nskim: {{selection: {selection}}}")
        assert config.skim == Skim(selection)


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(tmp_path, ANALYSIS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", "/home/someone")
    config = load("../a.yaml")
    assert config.base == tmp_path
    assert config.path("data/*.root") == tmp_path / "data/*.root"
    assert config.path("/data/a.root") == Path("/data/a.root")
    assert config.path("~/a.root") == Path("/home/someone/a.root")
    assert config.where("skim") == "../a.yaml:17"


def test_as_dict(tmp_path: Path) -> None:
    config = loaded(tmp_path, ANALYSIS)
    assert config.as_dict("export")["cmssw"] == "CMSSW_14_0_X"
    assert config.as_dict("score") == {}
    empty: dict[str, object] = {"triggers": [], "parameters": {}, "varies": [], "das": []}
    muons = {"files": ["c.root"], "data": True, **empty, "status": ["VALID"]}
    assert config.as_dict("datasets")["SingleMuon"] == muons
    assert config.as_dict("train")["clip"] == 1.0
    assert json.loads(json.dumps(config.as_dict())) == config.as_dict()
    with pytest.raises(AttributeError):
        config.as_dict("trian")


def test_schema_explains_every_setting() -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    jsonschema.Draft7Validator(schema()).validate(yaml.safe_load(ANALYSIS))

    def check(part: dict[str, Any], way: str) -> None:
        for name, setting in part["properties"].items():
            assert setting.get("description", "").endswith("."), f"{way}.{name}"
            for inner in (setting, setting.get("additionalProperties")):
                if isinstance(inner, dict) and "properties" in inner:
                    check(inner, f"{way}.{name}")

    check(schema(), "")
    assert schema()["properties"]["train"]["properties"]["model"]["examples"] == list(MODELS)
    assert json.loads(json.dumps(schema())) == schema()


NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}", fullmatch=True)
BRANCHES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
PRINTABLE = st.characters(categories=["L", "N", "P", "S"]) | st.just(" ")
TEXT = st.text(PRINTABLE, min_size=1, max_size=8)
TEXTS = st.lists(TEXT, min_size=1, max_size=3)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
COUNTS = st.integers(1, 2**40)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


CHOSEN = (st.sampled_from(["a.b:C", "s p/a.py:C"]), st.lists(TEXT, max_size=3), maybe(TEXT), st.lists(TEXT, max_size=2))
WRITTEN = (maybe(TEXT), maybe(TEXT), st.sampled_from(["ZSTD:5", "LZ4:1"]), st.sampled_from(FORMATS))
SKIMS = st.builds(Skim, *CHOSEN, *WRITTEN, COUNTS, COUNTS, st.integers(0, 99), maybe(st.sampled_from(ENGINES)))
SKIMS = SKIMS.filter(lambda skim: not (skim.modules and skim.engine == "columnar"))
FEATURES = st.lists(BRANCHES, min_size=1, max_size=4, unique=True)
ORDERS = maybe(BRANCHES | BRANCHES.map("-{}".format))
SHARES = st.floats(0, 1, exclude_min=True)
OBJECTS = st.builds(Objects, FEATURES, max=COUNTS, order=ORDERS)
OBJECTS |= st.builds(Objects, FEATURES, quantile=SHARES, order=ORDERS)
READ = (FEATURES, st.dictionaries(BRANCHES, OBJECTS, max_size=2), st.lists(TEXT, max_size=2))
CONVERTS = st.builds(Convert, *READ, maybe(st.just("gzip:9")), COUNTS, allow_gaps=st.booleans())
TRAINS = st.builds(
    Train,
    # trees refuse settings of networks, and what is dumped has all
    model=st.sampled_from([*(name for name in MODELS if name != "bdt"), "my_module:Net", "my_file.py:Net"]),
    options=st.dictionaries(TEXT, COUNTS | TEXT | st.booleans() | st.lists(COUNTS, max_size=2), max_size=2),
    files=TEXTS,
    decorrelate=maybe(st.builds(Decorrelation, BRANCHES, POSITIVE)),
    **dict.fromkeys(("batch_size", "epochs", "patience", "processes", "memory"), COUNTS),
    **dict.fromkeys(("warmup", "weight_decay"), POSITIVE | st.just(0.0)),
    learning_rate=POSITIVE,
    schedule=st.sampled_from(training.SCHEDULES),
    clip=maybe(POSITIVE),
    folds=st.sampled_from([1, 3, 10]),
    seed=st.integers(0, 2**32 - 1),
    signal=maybe(TEXT),
    device=st.sampled_from(["auto", "cpu", "cuda"]),
    precision=st.sampled_from(training.PRECISIONS),
    workers=COUNTS | st.just(0),
).map(lambda it: replace(it, options={}) if it.model in MODELS else it)  # what options these have is known


MODEL_FILES = st.lists(TEXT, min_size=1, max_size=2, unique=True)
VALUES_OF = st.dictionaries(BRANCHES, st.lists(POSITIVE, min_size=1, max_size=2), max_size=2)
SCORES = st.builds(Score, maybe(TEXTS)) | st.builds(Score, maybe(TEXTS), MODEL_FILES, VALUES_OF, st.booleans())


@st.composite
def configs(draw: st.DrawFn) -> Config:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.lower))
    weighted = draw(st.booleans())
    simulation = st.builds(Dataset, TEXTS, maybe(BRANCHES), POSITIVE if weighted else st.none())
    dataset = simulation | st.builds(Dataset, TEXTS, is_data=st.just(True))
    return Config(
        workdir=draw(TEXT),
        luminosity=draw(POSITIVE if weighted else maybe(POSITIVE)),
        datasets={name: draw(dataset) for name in names},
        skim=draw(maybe(SKIMS)),
        convert=draw(maybe(CONVERTS)),
        train=draw(maybe(TRAINS)),
        export=draw(maybe(st.builds(Export, maybe(st.just("CMSSW_14_0_X")), maybe(NAMES)))),
        score=draw(maybe(SCORES)),
    )


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "analysis.yaml"


quick = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(config=configs())
def test_what_is_dumped_loads_to_the_same(scratch: Path, config: Config) -> None:
    scratch.write_text(json.dumps(config.as_dict(), ensure_ascii=False), encoding="utf-8")
    assert load(scratch) == config


def accepts_or_refuses(path: Path) -> None:
    """Anything but a ConfigError that `load` raises fails the test."""
    with contextlib.suppress(ConfigError):
        assert isinstance(load(path), Config)


PIECES = [
    "datasets: ", "skim: ", "train: ", "files: ", "class: ", "epochs: ", "selection: ", "a: ", "<<: ", "x-a: ",
    "\n", "\n  ", "\n    ", "\n\t", "- ", "[", "]", "{", "}", ", ", "? ", ": ", "|", ">", "#", "---\n", "...\n", "%YAML 1.1\n",
    "&a ", "*a", "!!str ", "!!int ", "!!float ", "!!map ", "!!seq ", "!x ", "'", '"', "\\u200b", "\\U", "\\x",
    "1", "1e3", ".nan", "-.inf", "0x", "1_0", "2018-01-01", "no", "true", "~", "mlp", "\u00a0", "\ufeff", "\x85",
]  # fmt: skip


TEXTS_OF_ANY_KIND = st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@settings(quick, max_examples=30)
@given(content=st.binary(max_size=60) | TEXTS_OF_ANY_KIND.map(lambda text: text.encode("utf-8", "replace")))
def test_any_file_loads_or_is_refused(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(content)
    accepts_or_refuses(scratch)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["yes", "1e3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@quick
@given(data=st.data())
def test_any_values_load_or_are_refused(scratch: Path, data: st.DataObject) -> None:
    config: dict[str, Any] = yaml.safe_load(ANALYSIS)
    for _ in range(data.draw(st.integers(1, 3))):
        part: Any = config
        while isinstance(part, dict) and part:
            key = data.draw(st.sampled_from(list(part)))
            if not isinstance(part[key], dict) or data.draw(st.booleans()):
                part[key] = data.draw(VALUES)
                break
            part = part[key]
    scratch.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8", errors="replace")
    accepts_or_refuses(scratch)


def test_objects_to_be_told_apart(tmp_path: Path) -> None:
    text = """
datasets:
  a: {files: a, class: one}
  b: {files: b}
  c: {files: c, data: true}
convert:
  features: MET_pt
  objects: {Electron: {fields: [pt, genPartFlav], max: 4}}
train:
  model: mlp
  per_object: {collection: Electron, label: genPartFlav, classes: {prompt: [1, 15], fake: 0}}
"""
    config = loaded(tmp_path, text)
    objects = PerObject("Electron", "genPartFlav", {"prompt": [1, 15], "fake": [0]})
    assert config.train == Train("mlp", per_object=objects)
    assert config.trained == ("a", "b")
    assert loaded(tmp_path, text[: text.index("train:")]).trained == ("a",)


def test_a_regression_takes_all_simulation_if_there_are_no_classes(tmp_path: Path) -> None:
    text = "datasets: {a: {files: a}, b: {files: b}, c: {files: c, data: true}}\n"
    text += "convert: {features: [MET_pt, GenMET_pt]}\ntrain: {targets: GenMET_pt}\n"
    assert loaded(tmp_path, text).trained == ("a", "b")
    assert loaded(tmp_path, text.replace("b}", "b, class: one}")).trained == ("b",)


def test_scores(tmp_path: Path) -> None:
    config = loaded(tmp_path, "score: {files: a, model: [a.onnx, b.onnx], parameter: {mass: 600}, copy: true}")
    assert config.score == Score(["a"], ["a.onnx", "b.onnx"], {"mass": [600.0]}, True)
    assert loaded(tmp_path, "score: {files: a, model: a.onnx}").score == Score(["a"], ["a.onnx"])


def test_a_model_may_have_defaults_of_its_own(tmp_path: Path) -> None:
    def train(text: str) -> Train:
        found = loaded(tmp_path, f"train: {{files: a.h5, {text}}}\n").train
        assert found is not None
        return found

    (tmp_path / "own.py").write_text("class Mine:\n    defaults = {'patience': 3, 'schedule': 'cosine'}\n")
    plain, own = Train("mlp"), train("model: 'own.py:Mine'")
    assert (own.patience, own.schedule, own.epochs) == (3, "cosine", plain.epochs)
    assert train("model: 'own.py:Mine', patience: 7").patience == 7
    assert train("model: mlp") == replace(plain, files=["a.h5"])
    assert train("model: bdt").learning_rate > 10 * plain.learning_rate
