"""A model in a loop of FWLite: events of a file as EDM NanoAOD has them, in tables and trigger results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.fwlite import FWLiteModel
from MLTools.NanoML.model import Model
from MLTools.NanoML.model.inside import decide
from MLTools.NanoML.nanoaod.folds import fold_of

ROOT = Path(__file__).resolve().parents[2]
LEPTONS = ROOT / "data" / "leptons.onnx"
HEADERS = ROOT / "test" / "cpp" / "cmssw"
Make = Callable[..., Any]


class FlatTable:
    """As much of nanoaod::FlatTable as there is in Python."""

    def __init__(self, size: int, name: str, singleton: bool, extension: bool, columns: Mapping[str, Any]) -> None:
        self.size, self.name = lambda: size, lambda: name
        self.singleton, self.extension = lambda: singleton, lambda: extension
        self.nColumns, self.columnName = lambda: len(columns), [*columns].__getitem__
        self.columnIndex = lambda name: [*columns].index(name) if name in columns else -1
        self.getAnyValue = lambda row, number: float([*columns.values()][number][row])


def table_of_root(size: int, name: str, singleton: bool, extension: bool, columns: Mapping[str, Any]) -> Any:
    """A FlatTable of C++, compiled by ROOT."""
    root = pytest.importorskip("ROOT")

    root.gInterpreter.AddIncludePath(str(HEADERS))
    assert root.gInterpreter.Declare('#include "DataFormats/NanoAOD/interface/FlatTable.h"')
    made = root.nanoaod.FlatTable(size, name, singleton, extension)
    types = {"f": "float", "d": "double", "i": "int", "I": "unsigned int", "B": "uint8_t", "?": "bool"}
    for column, values in columns.items():
        kind = types[np.asarray(values).dtype.char]
        made.addColumn[kind](column, root.std.vector[kind](np.asarray(values).tolist()), "")
    return made


@pytest.fixture(params=["Python", pytest.param("C++", marks=pytest.mark.root)])
def table(request: pytest.FixtureRequest) -> Make:
    return FlatTable if request.param == "Python" else table_of_root


@dataclass
class Event:
    """An event of FWLite with products by module and process."""

    identifiers: tuple[int, int, int]
    products: dict[tuple[str, str], tuple[str, Any]]
    names: Sequence[str] = ()  # of a menu, where the results do not have them
    asked: list[str] = field(default_factory=list)

    def object(self) -> Any:
        def branch(module: str, process: str, kind: str) -> Any:
            of = {"moduleLabel": module, "productInstanceName": "", "processName": process, "className": kind}
            return SimpleNamespace(**{name: lambda value=value: value for name, value in of.items()})

        branches = [branch(*place, kind) for place, (kind, _) in self.products.items()]
        names = SimpleNamespace(triggerNames=lambda: self.names)
        return SimpleNamespace(getBranchDescriptions=lambda: branches, triggerNames=lambda _: names)

    def eventAuxiliary(self) -> Any:  # noqa: N802
        run, block, event = self.identifiers
        return SimpleNamespace(run=lambda: run, luminosityBlock=lambda: block, event=lambda: event)

    def getByLabel(self, label: tuple[str, str, str], handle: Any) -> None:  # noqa: N802
        module, _, process = label
        self.asked.append(module)
        found = [it for (name, where), it in self.products.items() if name == module and process in ("", where)]
        handle.found = found[-1][1] if found and found[-1][0] == handle.kind else None


class Handle:
    def __init__(self, kind: str) -> None:
        self.kind, self.found = kind, None

    def isValid(self) -> bool:  # noqa: N802
        return self.found is not None

    def product(self) -> Any:
        return self.found


@pytest.fixture(autouse=True)
def fwlite(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("DataFormats.FWLite")
    module.Handle = Handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "DataFormats", ModuleType("DataFormats"))
    monkeypatch.setitem(sys.modules, "DataFormats.FWLite", module)
    return


def edm(arrays: Any, entry: int, make: Make) -> Event:
    """An event of a file as the NANO step has it, with a collection in two tables."""
    kinds = {"electronTable": "Electron", "muonTable": "Muon", "muonMVATable": "Muon", "metTable": "MET"}
    parts: Any = {label: (kind, label == "muonMVATable", {}) for label, kind in kinds.items()}
    for name in arrays.fields:
        collection, _, column = name.partition("_")
        label = "muonMVATable" if name == "Muon_charge" else f"{collection.lower()}Table"
        if label in parts and column:
            parts[label][2][column] = np.atleast_1d(np.asarray(arrays[name][entry]))
    products = {}
    for label, (name, extension, columns) in ((label, part) for label, part in parts.items() if part[2]):
        size = len(next(iter(columns.values())))
        products[label, "NANO"] = "nanoaod::FlatTable", make(size, name, name == "MET", extension, columns)
    products["genFilterTable", "NANO"] = "nanoaod::FlatTable", None  # of luminosity blocks
    run, block, event = (int(arrays[name][entry]) for name in ("run", "luminosityBlock", "event"))
    return Event((run, block, event), products)


@pytest.fixture(scope="module")
def arrays() -> Any:
    with uproot.open(ROOT / "examples" / "nano" / "ZGToLLG" / "ZGToLLG_0.root") as file:
        names = [name for name in file["Events"].keys() if name.startswith(("Muon_", "Electron_", "MET_"))]
        return file["Events"].arrays([*names, "run", "luminosityBlock", "event"], entry_stop=60)


def test_events_have_the_scores_of_files(arrays: Any, table: Make) -> None:
    model = Model(LEPTONS)
    fold = fold_of(arrays.run, arrays.luminosityBlock, arrays.event, model.folds)
    expected = model.scores({name: arrays[name] for name in model.reads}, fold)
    here = FWLiteModel(LEPTONS)
    assert here.outputs == model.outputs
    found = [here.scores(edm(arrays, entry, table)) for entry in range(len(arrays))]
    np.testing.assert_allclose(np.stack(found), expected, rtol=0, atol=1e-6)
    assert len(np.unique(fold)) == model.folds


def test_a_model_of_objects(arrays: Any, table: Make, linear_model: Callable[..., Path]) -> None:
    path = linear_model(["Muon_pt", "MET_pt"], level="object", collection="Muon")
    model = Model(path)
    here = FWLiteModel(path)
    for entry in range(20):
        columns = {name: arrays[name][entry : entry + 1] for name in model.reads}
        count = len(arrays.Muon_pt[entry])
        fold = fold_of(*(arrays[name][entry : entry + 1] for name in ("run", "luminosityBlock", "event")), 3)
        found = here.scores(edm(arrays, entry, table))
        assert found.shape == (count, 3)
        np.testing.assert_allclose(found, model.scores(columns, np.repeat(fold, count)), rtol=0, atol=1e-6)


def results(bits: Mapping[str, bool], has_names: bool = True) -> Any:
    names = list(bits) if has_names else []
    return SimpleNamespace(getTriggerNames=lambda: names, accept=[*bits.values()].__getitem__)


def test_trigger_bits_numbers_and_other_names(arrays: Any, table: Make, linear_model: Callable[..., Path]) -> None:
    reads = ["HLT_IsoMu24", "Flag_goodVertices", "L1_SingleMu22", "nMuon", "PFMET_pt"]
    entry = int(np.argmax([len(each) for each in arrays.Muon_pt]))
    event, met = edm(arrays, entry, table), float(arrays.MET_pt[entry])
    fired = ("HLT_IsoMu24_v13", "HLT_vx", "HLT_v", "Flag_v2", "L1_Mu_v3")
    menu = {"HLT_Mu50_v3": False, **dict.fromkeys(fired, True)}
    reads += ["HLT_vx", "HLT_v", "Flag_v2", "L1_Mu"]  # versions are numbers, of HLT and L1
    here = FWLiteModel(linear_model(reads))
    event.names = list(menu)
    event.products |= {
        ("TriggerResults", "HLT"): ("edm::TriggerResults", results(menu, has_names=False)),
        ("TriggerResults", "PAT"): ("edm::TriggerResults", results({"Flag_goodVertices": True})),
        ("TriggerResults", "RECO"): ("edm::TriggerResults", results({"Flag_goodVertices": False})),
        ("l1bits", "NANO"): ("edm::TriggerResults", results({"L1_SingleMu22": False})),
    }
    values = {name: float(array[0]) for name, array in here.columns(event).items()}
    assert values == dict(zip(reads, (1.0, 1.0, 0.0, float(len(arrays.Muon_pt[entry])), met, 1.0, 1.0, 1.0, 1.0)))
    event.asked.clear()
    here.scores(event)
    assert set(event.asked) == {"TriggerResults", "l1bits", "muonTable", "metTable"}  # and no other table
    # another run, whose menu has another version of one path, and not the other
    event.identifiers, event.names = (2, 1, 1), ["HLT_IsoMu24_v14"]
    event.products["TriggerResults", "HLT"] = "edm::TriggerResults", results({"HLT_IsoMu24_v14": True}, has_names=False)
    event.products["l1bits", "NANO"] = "edm::TriggerResults", results({})
    assert [here.columns(event)[name].tolist() for name in reads[:3]] == [[True], [True], [False]]


@pytest.mark.exhaustive("selections inside of models, in FWLite")
def test_a_model_with_its_selection_inside(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from services.whole_models import events_in, networks_of, whole_model

    networks = networks_of(tmp_path / "model.onnx", "ZCand_mass", "MET_pt")
    model = whole_model(networks, "MLTools.NanoML.trilepton:Trilepton", ROOT)
    read = ak.zip(events_in(model, 60), depth_limit=1)
    fold = fold_of(read.run, read.luminosityBlock, read.event, model.folds)
    expected = decide(model, {name: read[name] for name in model.reads}, fold)
    here = FWLiteModel(model.path)
    for entry in range(len(read)):
        event = edm(read, entry, FlatTable)
        found = here.decide(event)
        assert (found.passed[0], found.failed[0]) == (expected.passed[entry], expected.failed[entry])
        cuts = {name: bool(cut[entry]) for name, cut in expected.cuts.items()}
        assert {name: bool(cut[0]) for name, cut in found.cuts.items()} == cuts
        np.testing.assert_allclose(here.scores(event), expected.scores[entry], rtol=0, atol=1e-6)
        assert found.columns["ZCand_mass"][0] == pytest.approx(expected.columns["ZCand_mass"][entry], rel=1e-6)
    assert 5 < expected.passed.sum() < 55


@pytest.mark.exhaustive("selections inside of models, in FWLite")
def test_a_trigger_has_its_default_where_the_menu_lacks_it_alone(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from services.whole_models import events_in, networks_of, own, whole_model

    model = whole_model(networks_of(tmp_path / "model.onnx", "HT"), own(tmp_path), ROOT)
    read = ak.zip(events_in(model, 60), depth_limit=1)
    here, event = FWLiteModel(model.path), edm(read, 0, FlatTable)
    with pytest.raises(NanoMLError, match="has no column HLT_Some"):
        here.decide(event)
    event.names, others = ["HLT_Other_v1"], results({"HLT_Other_v1": False}, has_names=False)
    event.products["TriggerResults", "HLT"] = ("edm::TriggerResults", others)
    assert here.decide(event).cuts["trigger"].tolist() == [True]


def test_what_is_missing(arrays: Any, linear_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    event = edm(arrays, 0, FlatTable)
    where = ":".join(map(str, event.identifiers))
    said = f"event {where} has no column ZCand_mass.* no file has the columns of a selection"
    with pytest.raises(NanoMLError, match=said):
        FWLiteModel(linear_model(["ZCand_mass"], ["ZCand_mass"])).scores(event)
    here = FWLiteModel(linear_model(["MET_pt"]))
    event.products["other", "NANO"] = event.products["metTable", "NANO"]
    with pytest.raises(NanoMLError, match="column MET_pt is in several tables: metTable:: and other::"):
        here.scores(event)
    event = edm(arrays, 0, FlatTable)
    here.scores(event)
    event.products["metTable", "NANO"] = "nanoaod::FlatTable", FlatTable(1, "MET", True, False, {"phi": [0.0]})
    with pytest.raises(NanoMLError, match=f"event {where}: table MET has no column pt"):
        here.scores(event)
    del event.products["metTable", "NANO"]
    with pytest.raises(NanoMLError, match=f"event {where}: has no product metTable:: with pt"):
        here.scores(event)
    monkeypatch.delitem(sys.modules, "DataFormats.FWLite")
    with pytest.raises(NanoMLError, match=r"there is no FWLite \(DataFormats.FWLite\) here: run cmsenv"):
        FWLiteModel(LEPTONS)
