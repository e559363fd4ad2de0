from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnx
import pytest

from ML_processing.events.inputs import CollectionShape, Shape
from ML_processing.training.data import ParameterGrid
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.compiled import with_selection
from MLTools.NanoML.extensions.compiled.tracing import mathematics
from MLTools.NanoML.extensions.compiled.with_selection import Compilation, Source, export_with_selection
from MLTools.NanoML.model import Model, write_described
from MLTools.NanoML.model.entries import outside_of
from MLTools.NanoML.model.inside import NO_RESULT, TOO_MANY, decide
from MLTools.NanoML.model.verification import verify_model
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import DatasetInfo
from MLTools.NanoML.selection.tryout import on_file
from MLTools.NanoML.trilepton import Trilepton
from services.whole_models import OWN, SAMPLE, TRILEPTON, events_in, model_of, networks_of, own

Whole = tuple[Model, Model, Mapping[str, Any]]
Patch, Captured = pytest.MonkeyPatch, pytest.CaptureFixture[str]
SOURCE = Source(DatasetInfo("signal"), (str(SAMPLE),))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The trilepton selection and a model of its columns: the model, both together, and what was written."""
    directory = tmp_path_factory.mktemp("whole")
    shape = Shape(("ZCand_mass", "WCand_mT", "MET_pt", "nGoodLepton"), (), 3)
    model = model_of(directory / "model.onnx", shape)
    written = export_with_selection(model, directory / "whole.onnx", [SOURCE], Compilation(TRILEPTON, ".", 600, {}))
    return Model(model), Model(directory / "whole.onnx"), written


@pytest.fixture(scope="module")
def of_ht(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks_of(tmp_path_factory.mktemp("ht") / "model.onnx", "HT")


def compiled(model: Path, selection: str, directory: Path, events: int = 50, cut: str = "", **most: int) -> Model:
    """Both together, proven with some events."""
    path = directory / "whole.onnx"
    export_with_selection(model, path, [SOURCE], Compilation(selection, str(directory), events, most, cut))
    return Model(path)


def test_decisions_columns_and_scores_are_those_of_selection_and_model(whole: Whole) -> None:
    plain, together, _ = whole
    arrays = events_in(together)
    fold = fold_of(arrays["run"], arrays["luminosityBlock"], arrays["event"], together.folds)
    found, selected = decide(together, arrays, fold), on_file(Trilepton(), SAMPLE)
    assert np.flatnonzero(found.passed).tolist() == selected.rows.tolist()
    assert 200 < found.passed.sum() < len(found.passed)
    assert not found.failed.any()
    steps = {step.cut: step.events for step in selected.cutflow.steps[1:]}
    assert {name: int(passed.sum()) for name, passed in found.cuts.items()} == steps
    for name, values in selected.columns.items():
        assert found.columns[name].dtype == values.dtype
        np.testing.assert_allclose(found.columns[name][selected.rows], values, rtol=1e-6)
    columns = {**selected.columns, "MET_pt": arrays["MET_pt"][selected.rows]}
    np.testing.assert_allclose(found.scores[selected.rows], plain.scores(columns, fold[selected.rows]), atol=1e-6)
    np.testing.assert_allclose(decide(together, arrays).scores[selected.rows], plain.scores(columns), atol=1e-6)
    assert np.isnan(found.scores[~found.passed]).all()


def test_behind_a_selection_stand_networks_of_either_exporter(of_ht: Path, tmp_path: Path) -> None:
    # the axis of a maximum is written in another form there
    spec = own(tmp_path, "good = good[good.pt > ak.fill_none(ak.max(good.pt, axis=1), 0) - 20]")
    model = model_of(tmp_path / "model.onnx", Shape(("HT",), (), 3), cmssw="CMSSW_15_0_X")
    (tmp_path / "old").mkdir()
    new, old = compiled(model, spec, tmp_path), compiled(of_ht, spec, tmp_path / "old")
    assert [it.description.format.opset for it in (new, old)] == [18, 15]
    arrays = events_in(old)
    fold = fold_of(arrays["run"], arrays["luminosityBlock"], arrays["event"], old.folds)
    found, expected = decide(new, arrays, fold), decide(old, arrays, fold)
    np.testing.assert_array_equal(found.passed, expected.passed)
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(found.columns[name], values)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_an_event_alone_is_decided_as_among_others(tmp_path: Path) -> None:
    # nothing but the decision is computed in a run in which no event passes, and a cut may have no result
    body = """pt = ak.concatenate([events.Muon.pt, events.Electron.pt], axis=1)
        pt = pt[pt < 1e6]
        events, good = cutflow.cut("first", pt[:, 0] > 60, events, good)"""
    together = compiled(networks_of(tmp_path / "model.onnx", "HT", "n"), own(tmp_path, body), tmp_path, 200)
    arrays = {name: values[:60] for name, values in events_in(together).items()}
    for name in ("Muon_pt", "Electron_pt"):
        arrays[name] = ak.values_astype(arrays[name] * np.where(np.arange(60) % 3, 1, 1e6), np.float32)
    found = decide(together, arrays)
    assert {NO_RESULT, 0} == set(found.failed.tolist())
    assert 0 < found.passed.sum() < (found.failed == 0).sum()
    alone = [decide(together, {name: values[i : i + 1] for name, values in arrays.items()}) for i in range(60)]
    for part in ("passed", "failed"):
        np.testing.assert_array_equal(np.concatenate([getattr(each, part) for each in alone]), getattr(found, part))
    np.testing.assert_allclose(np.concatenate([each.scores for each in alone]), found.scores, atol=1e-6)
    for part in ("cuts", "columns", "collections"):
        for name, values in getattr(found, part).items():
            assert ak.concatenate([getattr(each, part)[name] for each in alone]).tolist() == values.tolist(), name
    assert not decide(together, {name: values[:0] for name, values in arrays.items()}).passed.size


def test_it_describes_itself(whole: Whole) -> None:
    _, together, written = whole
    inside: Any = together.description.inside
    assert inside.name == TRILEPTON
    assert inside.cuts[0] == "three good leptons"
    assert (inside.events, inside.dataset, inside.corrected) == (600, {}, ())
    assert [each.name for each in inside.columns] == list(Trilepton.columns)
    assert "Electron_pt" in together.reads
    assert "ZCand_mass" not in together.reads
    assert json.loads(Path(together.path).with_suffix(".json").read_text()) == json.loads(json.dumps(written))
    lines = list(verify_model(Path(together.path), None, None))
    assert "reference events" in lines[-1]


def test_an_event_with_more_objects_than_there_is_room_for_is_flagged(whole: Whole) -> None:
    _, together, _ = whole
    arrays = events_in(together, 3)
    room = next(each.max for each in together.objects if each.collection == "Muon")
    for name in [name for name in arrays if name.startswith("Muon_")]:
        values = ak.to_list(arrays[name])
        values[1] = [values[0][0] if values[0] else 1] * (room + 1)
        arrays[name] = ak.values_astype(ak.Array(values), arrays[name].layout.content.dtype)
    assert decide(together, arrays).failed.tolist() == [0, TOO_MANY, 0]


def test_integers_that_float32_would_round_are_refused(
    whole: Whole, of_ht: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    arrays = events_in(whole[1], 3)
    large = ak.full_like(arrays["Muon_charge"], 1 << 25, dtype=np.int32)
    with pytest.raises(NanoMLError, match="Muon_charge has numbers above 16777216, which are not exact in float32"):
        decide(whole[1], {**arrays, "Muon_charge": large})
    spec = own(tmp_path, 'events, good = cutflow.cut("odd", events.event % 2 == 1, events, good)')
    monkeypatch.setattr(with_selection, "EXACT", 10)
    message = r"own.py:21: event is as large as \d+, .* exact up to 10. Let `select` do without it"
    with pytest.raises(NanoMLError, match=message):
        compiled(of_ht, spec, tmp_path)


def test_the_plain_way_of_scoring_refuses_it(whole: Whole) -> None:
    with pytest.raises(NanoMLError, match="has the selection MLTools.NanoML.trilepton:Trilepton inside, and is run by"):
        whole[1].scores({})
    with pytest.raises(NanoMLError, match="has no selection inside"):
        decide(whole[0], {"ZCand_mass": np.ones(1)})


def test_collections_of_the_selection_feed_the_network(tmp_path: Path, capsys: Captured) -> None:
    shape = Shape(("HT",), (CollectionShape("Good", ("eta", "pt"), 2, "-pt"),), 3)
    model = model_of(tmp_path / "model.onnx", shape)
    together: Any = compiled(model, own(tmp_path), tmp_path, 600, Muon=2)
    with RootFile(SAMPLE) as file:
        most = int(ak.sum(ak.num(file.read(["Muon_pt"], 0, 600)["Muon_pt"]) > 2))
    assert f"{most} of 600 events have more, and cannot be decided" in capsys.readouterr().err
    assert [each.max for each in together.objects if each.collection == "Muon"] == [2]
    assert together.description.inside.defaults == {"HLT_Some": 1.0}
    arrays = events_in(together, 100)
    found = decide(together, arrays)
    crowded = np.asarray(ak.num(arrays["Muon_pt"]) > 2)
    assert 0 < crowded.sum() < 50
    assert found.failed.tolist() == (crowded * TOO_MANY).tolist()
    good = arrays["Muon_pt"][(arrays["Muon_pt"] > 15) & (abs(arrays["Muon_eta"]) < 2)]
    expected = ak.where(found.passed, good, good[:, :0])
    assert ak.to_list(found.collections["Good_pt"][~crowded]) == ak.to_list(expected[~crowded])
    columns = {**found.columns, **found.collections}
    feeds = Model(model).tensors({name: columns[name][found.passed] for name in Model(model).reads})
    assert found.outside.tolist() == outside_of(Model(model).description.domain, feeds).tolist()
    assert found.outside.any(axis=0).tolist() == [True, True, True]
    shut = decide(together, {**arrays, "HLT_Some": np.zeros(100, bool)})
    assert not shut.passed.any()


def test_a_parameter_is_given_beside_the_branches(tmp_path: Path) -> None:
    grid = ParameterGrid("mass", (600.0, 800.0), 0)
    model = model_of(tmp_path / "model.onnx", Shape(("HT", "mass"), (), 3), parameter=grid)
    plain, together = Model(model), compiled(model, own(tmp_path), tmp_path, 300)
    arrays = events_in(together, 100)
    found = decide(together, arrays, parameter=700.0)
    expected = plain.scores({"HT": found.columns["HT"][found.passed]}, parameter=700.0)
    np.testing.assert_allclose(found.scores[found.passed], expected, atol=1e-6)


def test_a_cut_of_the_skim_comes_first(of_ht: Path, tmp_path: Path) -> None:
    pytest.importorskip("data_processing.skim.skim")
    from data_processing.skim.plan import SkimJob
    from data_processing.skim.skim import skim_file

    spec, cut = own(tmp_path), "Max$(Muon_pt) > 60 && nElectron < 2"
    together = compiled(of_ht, spec, tmp_path, 300, cut=cut)
    skim_file(SkimJob(str(SAMPLE), tmp_path / "skim.root", spec, cut=cut))
    found = decide(together, events_in(together))
    with RootFile(tmp_path / "skim.root") as file:
        assert found.columns["HT"][found.passed].tolist() == file.read(["HT"])["HT"].tolist()
        record: Any = Provenance.of(file)
    steps = {step.cut: step.events for step in record.accounting.files[0].cutflow[1:]}
    assert steps == {name: int(passed.sum()) for name, passed in found.cuts.items()}
    assert list(steps) == ["cut", "trigger", "two"]
    assert 0 < steps["two"] < steps["cut"] < 700
    text = OWN.replace("    def select", CORRECTION + "    def select").replace("BODY", "")
    (tmp_path / "corrected.py").write_text(text)
    with pytest.raises(NanoMLError, match="takes Muon_pt before its correction, .* cut on it in `select`"):
        compiled(of_ht, "corrected.py:Own", tmp_path, cut=cut)


CORRECTION = """
    def prepare(self, events):
        return events.replaced(["Muon_pt"], lambda events: {"Muon_pt": events.Muon.pt * 1.01})

"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("events.MET.pt > 3 or 1", r"own.py:21: Own: `if`, `and`, `or`, `not` and `in` on data cannot be compiled"),
        ("events.Muon.pt[0]", "own.py:21: Own: events are picked by their number"),
        ("self.dataset.name == 'x'", r"self.dataset.name, which a file"),
    ],
)
def test_what_cannot_be_compiled_is_said_with_its_line(of_ht: Path, tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        compiled(of_ht, own(tmp_path, body), tmp_path)
    assert not (tmp_path / "whole.onnx").exists()


def test_a_graph_that_differs_is_told_with_its_line(of_ht: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setitem(mathematics.UFUNCS, "greater", lambda x, y: x > y + 100)
    spec = own(tmp_path)
    lines = (tmp_path / "own.py").read_text().split("\n")
    number = next(number for number, line in enumerate(lines, 1) if "good = " in line)
    with pytest.raises(NanoMLError, match=rf"other results than the selection: .*own.py:{number}: .*the engine"):
        compiled(of_ht, spec, tmp_path)
    assert not (tmp_path / "whole.onnx").exists()


def test_a_graph_that_differs_for_nan_is_refused(of_ht: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setitem(mathematics.UFUNCS, "greater", lambda x, y: (x > y) | ~x.equals(x))
    text = OWN.replace("ak.sum(good.pt, axis=1)", "ak.sum(good.mass, axis=1)").replace("BODY", "")
    (tmp_path / "odd.py").write_text(text)  # HT is NaN for some events, which no selection may give
    with pytest.raises(NanoMLError, match="^signal, with NaN: the model gives other results than the selection"):
        compiled(of_ht, "odd.py:Own", tmp_path, 200)


MASSES = """leptons = ak.concatenate([events.Electron, good], axis=1)
        one, other = ak.unzip(ak.combinations(leptons, 2))
        best = ak.argmax((one + other).pt, axis=1, keepdims=True)
        good = good[ak.argsort(good.phi, axis=1, ascending=False)]"""
PAIRED = "ak.fill_none(ak.firsts((one + other).mass[best] + other.eta[best]), 0)"


def sorted_and_paired(directory: Path, column: str = PAIRED) -> str:
    """A selection with muons in an order that NaN takes part in, and the mass of the pair with the largest pt."""
    text = OWN.replace('"Electron_pt"', '"Electron_*"').replace("BODY", MASSES)
    (directory / "pairs.py").write_text(text.replace("ak.sum(good.pt, axis=1)", column))
    return f"{directory / 'pairs.py'}:Own"


def test_nan_among_keys_equal_pairs_and_sums_that_cancel_are_accepted(
    of_ht: Path, tmp_path: Path, capsys: Captured
) -> None:
    compiled(of_ht, sorted_and_paired(tmp_path), tmp_path, 400)
    assert "agrees with Own: 400 events" in capsys.readouterr().err  # of real events all were compared


def test_a_line_that_decides_by_rounding_is_refused_with_what_to_write(of_ht: Path, tmp_path: Path) -> None:
    noise = "ak.sum(np.sqrt(abs(np.cos(good.phi) ** 2 + np.sin(good.phi) ** 2 - 1)) * 1000, axis=1)"
    spec = sorted_and_paired(tmp_path, noise)
    text = (tmp_path / "pairs.py").read_text()
    (tmp_path / "pairs.py").write_text(f"import numpy as np{text}")
    message = r"pairs.py:\d+: .* of 400 events\. They do so too .* np.rint\(x \* 1000\) / 1000"
    with pytest.raises(NanoMLError, match=message):
        compiled(of_ht, spec, tmp_path, 400)


def test_an_old_awkward(of_ht: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(ak, "__version__", "2.4.6")
    with pytest.raises(NanoMLError, match="awkward 2.5 or newer, here is 2.4.6: pip install -U awkward"):
        compiled(of_ht, TRILEPTON, tmp_path)


def test_networks_that_cannot_be_told_apart(of_ht: Path, tmp_path: Path) -> None:
    content, model = onnx.load(of_ht), tmp_path / "model.onnx"
    name = Model(of_ht).description.output_tensors[1]
    last = next(node for node in content.graph.node if name in node.output)
    last.output[:] = ["joined"]
    content.graph.node.append(onnx.helper.make_node("Identity", ["joined"], [name]))
    write_described(content, content.metadata_props[0].value, model)
    with pytest.raises(NanoMLError, match=r"the networks cannot be told apart .* \(If, Loop, Scan\)"):
        compiled(model, own(tmp_path), tmp_path)


def test_an_event_goes_through_its_own_network_alone(whole: Whole) -> None:
    graph = onnx.load(whole[1].path).graph
    choices = [node for node in graph.node if node.op_type == "If"]
    assert len(choices) == 1
    weights = [each.name for each in graph.initializer if each.name.startswith("network_")]
    assert weights  # they stand in the file once, not in each branch
    inner = [attribute.g for attribute in choices[0].attribute]
    assert not any(branch.initializer for branch in inner)


def test_a_column_without_a_title_has_its_name_and_a_cut_without_a_name_is_refused(of_ht: Path, tmp_path: Path) -> None:
    spec, text = own(tmp_path), (tmp_path / "own.py").read_text()
    (tmp_path / "own.py").write_text(text.replace('"muons")', '"")').replace('"eta")', '"")'))
    compiled(of_ht, spec, tmp_path)
    inside = json.loads((tmp_path / "whole.json").read_text())["selection"]
    assert [each["title"] for each in inside["columns"]] == ["sum of pt [GeV]", "n"]
    assert [each["title"] for each in inside["collections"][0]["fields"]] == ["pt [GeV]", "eta", "charge"]
    (tmp_path / "nameless.py").write_text(text.replace('"two"', '""'))
    with pytest.raises(NanoMLError, match=r"nameless.py:\d+: Own: a cut has no name"):
        compiled(of_ht, "nameless.py:Own", tmp_path)
