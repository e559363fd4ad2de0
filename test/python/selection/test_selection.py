from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import awkward as ak
import numpy as np
import pytest
import uproot

from MLTools.NanoML.dependencies import files_behind, source_of
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Column, Selection, load_selection
from MLTools.NanoML.selection.tryout import on_events, on_file

MET = ak.Array(np.array([10, 20, 30, 40], np.float32))
ARRAYS = {"MET_pt": MET, "Muon_pt": ak.Array([[30.0, 20.0], [], [40.0], [5.0]])}
COLLECTIONS = {"Muon_pt": "Muon"}


class Base(Selection):
    branches = ("MET_pt", "Muon_pt")
    optional: ClassVar = {"HLT_IsoMu24": True}
    columns: ClassVar = {"lead": Column("f4", "leading muon [GeV]"), "n": Column("u1", "number of muons")}

    def select(self, events: Any, cutflow: Any) -> Any:
        events = cutflow.cut("trigger", events.HLT.IsoMu24, events)
        events = cutflow.cut("muon", ak.num(events.Muon.pt) > 0, events)
        return events, self.result(events)

    def result(self, events: Any) -> Any:
        return {"lead": ak.max(events.Muon.pt, axis=1), "n": ak.num(events.Muon.pt)}


def apply(selection: Selection) -> Any:
    return selection.apply(ARRAYS, COLLECTIONS, np.ones(4))


def test_columns_rows_and_cut_flow() -> None:
    selected = apply(Base())
    assert selected.rows.tolist() == [0, 2, 3]
    assert selected.columns["lead"].tolist() == [30, 40, 5]
    assert selected.columns["lead"].dtype == np.float32
    assert selected.columns["n"].dtype == np.uint8
    assert [(step.cut, step.events) for step in selected.cutflow.steps] == [("all", 4), ("trigger", 4), ("muon", 3)]


def test_optional_branches_take_the_files_value_where_it_has_them() -> None:
    arrays = {**ARRAYS, "HLT_IsoMu24": ak.Array([False, False, True, False])}
    assert Base().apply(arrays, COLLECTIONS, np.ones(4)).rows.tolist() == [2]


def test_optional_objects_and_lists_have_their_shapes() -> None:
    class Jets(Base):
        optional: ClassVar = {"HLT_IsoMu24": True, "Muon_id": 4, "LHEScaleWeight": []}

        def result(self, events: Any) -> Any:
            assert events.Muon.id.tolist() == [[4, 4], [4], [4]]
            assert events.flat("Muon").id.tolist() == [4, 4, 4, 4]
            assert ak.num(events.LHEScaleWeight).tolist() == [0, 0, 0]
            return super().result(events)

    assert apply(Jets()).rows.tolist() == [0, 2, 3]
    there = {"Muon_id": ak.Array([[4, 4], [], [4], [4]]), "LHEScaleWeight": ak.Array([[]] * 4)}
    lists = {**COLLECTIONS, "Muon_id": "Muon", "LHEScaleWeight": "LHEScaleWeight"}
    assert Jets().apply({**ARRAYS, **there}, lists, np.ones(4)).rows.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda e: {"lead": e.MET.pt, "N": e.MET.pt}, "did not return n and returned N, which `columns` does not decl"),
        (lambda e: {"lead": np.full(3, np.nan), "n": ak.num(e.Muon)}, "lead is NaN or infinite in 3 of 3 events"),
        (lambda e: {"lead": e.Muon.pt, "n": ak.num(e.Muon)}, "column lead has a list for each event"),
        (lambda e: {"lead": np.ones(4), "n": ak.num(e.Muon)}, r"column lead has shape \(4,\), but 3 events are left"),
        (lambda e: {"lead": ak.firsts(e.Muon.pt[:, 1:]), "n": ak.num(e.Muon)}, "column lead has missing values"),
        (lambda e: {"lead": e.MET.pt, "n": np.full(3, 300)}, "from 300 to 300, which do not fit into its type uint8"),
        (lambda e: {"lead": np.array(["a", "b", "c"]), "n": ak.num(e.Muon)}, "not numbers"),
    ],
)
def test_mistakes_in_the_columns_are_explained_with_file_line_and_name(result: Any, message: str) -> None:
    class Mine(Base):
        def result(self, events: Any) -> Any:
            return result(events)

    with pytest.raises(NanoMLError, match=message) as caught:
        apply(Mine())
    assert "test_selection.py:" in str(caught.value)
    assert ": Mine: " in str(caught.value)


@pytest.mark.parametrize(("value", "message"), [(None, "returned nothing"), ({}, "returned dict")])
def test_a_forgotten_return_is_explained(value: Any, message: str) -> None:
    class Mine(Base):
        def select(self, events: Any, cutflow: Any) -> Any:
            return value

    with pytest.raises(NanoMLError, match=message):
        apply(Mine())


def test_branches_are_resolved_and_all_missing_ones_named() -> None:
    assert Base().resolve(["PFMET_pt", "Muon_pt"], "a.root") == {"MET_pt": "PFMET_pt", "Muon_pt": "Muon_pt"}

    class Glob(Base):
        branches = ("Muon_*", "Tau_*", "MTE_pt")

    said = r"a.root: selection Glob .* lacks: Tau_\*, MTE_pt\. Did you mean .MET_pt.\? If"
    with pytest.raises(NanoMLError, match=said):
        Glob().resolve(["MET_pt", "Muon_pt", "Muon_eta"], "a.root")


EVENTS: dict[str, Any] = {f"Muon_{name}": [[0.0, 1.0], [], [2.0]] for name in ("eta", "phi")}
EVENTS |= {"Muon_pt": [[30.0, 20.0], [], [40.0]], "Jet_pt": [[30.0], [50.0], []], "MET_pt": [1.0, 2.0, 3.0]}


def message_of(mistake: Callable[[Any], Any]) -> str:
    class Mine(Selection):
        branches = tuple(EVENTS)
        columns: ClassVar = {"x": Column("f4", "something")}

        def select(self, events: Any, cutflow: Any) -> Any:
            return events, {"x": mistake(events)}

    with pytest.raises(NanoMLError) as caught:
        on_events(Mine(), EVENTS)
    return str(caught.value)


def _one_thing(events: Any) -> Any:
    (events,) = events[np.ones(len(events), bool)]
    return events


def _one_array(events: Any) -> Any:
    (muons,) = events.Muon
    return muons


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        (lambda events: events.Muon.pt[:, 0], "some events have no such object. Cut on the number of objects before"),
        (lambda events: (events.Muon + events.Muon).pt, "these are not four-vectors. Read pt, eta, phi and mass"),
        (lambda events: events.Muon.deltaR(events.Muon), "these are not four-vectors, or the branch was not read"),
        (lambda it: it.Muon.nearest(it.Muon), "these are coffea's. Pair the objects: one, other = ak.unzip("),
        (lambda events: events.Muon.pt + events.Jet.pt, "do not have the same events or objects. Narrow both"),
        (lambda events: events.MET.pt[:2] + events.MET.pt, "do not have the same events or objects. Narrow both"),
        (lambda it: it.MET.pt > 1 and it.MET.pt > 2, "For all at once: `&`, `|`, `~`, with each comparison in parenth"),
        (lambda events: (events.MET.pt > 1) & events.MET.pt > 2, "`&` and `|` bind before"),
        (lambda events: events.Muon.tigtId, "check its spelling, and that its branch is in `branches`"),
        (_one_thing, "cut returns the events themselves: events = cutflow.cut(name, mask, events)"),
        (_one_array, "a single one as it is: events, muons = cutflow.cut(name, mask, events, muons), but"),
        (lambda events: (events, events.Muon).Jet, "cut returns a tuple of what follows its mask"),
    ],
)
def test_common_errors_have_a_hint_and_a_place(mistake: Callable[[Any], Any], hint: str) -> None:
    message = message_of(mistake)
    assert hint in message
    assert "test_selection.py:" in message
    assert ": Mine: " in message
    assert "compiled code" not in message


def test_what_a_cut_returns_must_be_taken_apart_and_used() -> None:
    class Together(Selection):
        branches = tuple(EVENTS)

        def select(self, events: Any, cutflow: Any) -> Any:
            both = cutflow.cut("MET", events.MET.pt > 1, events, events.Muon)
            return cutflow.cut("again", np.ones(2, bool), both), {}

    class Unused(Selection):
        branches = tuple(EVENTS)
        columns: ClassVar = {"first": Column("f4", "missing in an event that does not pass")}

        def select(self, events: Any, cutflow: Any) -> Any:
            cutflow.cut("muon", ak.num(events.Muon.pt) > 0, events)
            return events, {"first": ak.max(events.Muon.pt, axis=1)}

    with pytest.raises(NanoMLError, match='cut "again": argument 1 after the mask is all that an earlier cut returned'):
        on_events(Together(), EVENTS)
    with pytest.raises(NanoMLError, match="2 events passed the last cut, but 3 were kept.* take what it returns"):
        on_events(Unused(), EVENTS)


@pytest.mark.filterwarnings("error")
def test_numbers_that_select_replaces_are_not_warned_of() -> None:
    class Ratio(Selection):
        branches = tuple(EVENTS)
        columns: ClassVar = {"ratio": Column("f4", "of momenta")}

        def select(self, events: Any, cutflow: Any) -> Any:
            ratio = events.MET.pt / ak.sum(events.Muon.pt, axis=1)
            return events, {"ratio": ak.where(np.isfinite(ratio), ratio, -1)}

    assert on_events(Ratio(), EVENTS).columns["ratio"].tolist() == pytest.approx([0.02, -1, 0.075])


def test_other_errors_are_given_as_they_are_with_their_line() -> None:
    assert message_of(lambda events: 1 / 0).endswith("Mine: ZeroDivisionError: division by zero")

    class Mine(Selection):
        branches = ("Muon_pt",)

        def select(self, events: Any, cutflow: Any) -> Any:
            number = ak.num(events.Muon.pt)
            return cutflow.cut("muon", number, events), {}

    with pytest.raises(NanoMLError, match="Give one boolean per event") as caught:
        on_events(Mine(), {"Muon_pt": [[30.0], []]})
    line = int(str(caught.value).partition("test_selection.py:")[2].partition(":")[0])
    assert 'cut("muon", number, events)' in Path(__file__).read_text().splitlines()[line - 1]


class Undeclared(Selection):
    """With types where columns belong."""

    branches = ("MET_pt",)
    columns = {"x": "f4"}  # type: ignore[dict-item]


class UndeclaredField(Selection):
    collections = {"Good": {"pt": ("f4", "pt")}}  # type: ignore[dict-item]


def test_a_column_that_is_none_is_named_with_its_line() -> None:
    lines = Path(__file__).read_text().split("\n")
    for kind, line, attribute in ((Undeclared, '"x": "f4"', "columns"), (UndeclaredField, '"Good"', "collections")):
        number = next(number for number, text in enumerate(lines, 1) if line in text)
        said = rf"test_selection.py:{number}: {kind.__name__}: `{attribute}` declares .* Write Column"
        with pytest.raises(NanoMLError, match=said):
            kind().made  # noqa: B018


class Muons(Selection):
    branches = ("Muon_pt", "MET_pt")
    columns: ClassVar = {"sum": Column("f4", "sum of the muons' pt and MET [GeV]")}

    def select(self, events: Any, cutflow: Any) -> Any:
        events = cutflow.cut("muon", ak.any(events.Muon.pt > 20, axis=1), events)
        return events, {"sum": ak.sum(events.Muon.pt, axis=1) + events.MET.pt}


def test_on_a_file_are_the_first_events_with_their_weights(sample: Path) -> None:
    path = sample / "ZGToLLG" / "ZGToLLG_0.root"
    pts = uproot.open(path)["Events/Muon_pt"].array()
    passed = [entry for entry, values in enumerate(pts.tolist()) if any(pt > 20 for pt in values)]
    selected = on_file(Muons(), path)
    assert selected.rows.tolist() == passed
    assert [step.events for step in selected.cutflow.steps] == [800, len(passed)]
    few = on_file(Muons(), path, most=100)
    assert few.rows.tolist() == [entry for entry in passed if entry < 100]
    assert few.cutflow.steps[0].weights == 100


def test_on_events_made_by_hand() -> None:
    events = {"Muon_pt": [[30.0, 5.0], [], [10]], "MET_pt": [1, 2, 3]}
    selected = on_events(Muons(), events)
    assert selected.rows.tolist() == [0]
    assert selected.columns["sum"].tolist() == [36]
    weighted = on_events(Muons(), {**events, "genWeight": [-2.0, 1.0, 1.0]})
    assert [step.weights for step in weighted.cutflow.steps] == [0, -2]
    assert on_events(Muons(), {"Muon_pt": [[], []], "MET_pt": [1.0, 2.0]}).rows.tolist() == []
    assert on_events(Muons(), {"Muon_pt": [[30]], "PFMET_pt": [1.0]}).columns["sum"].tolist() == [31]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({"Muon_pt": [[30.0]], "MET_pt": [1.0, 2.0]}, "they differ: Muon_pt 1, MET_pt 2"),
        ({"Muon_pt": [[30.0]]}, "selection Muons reads branches that this file lacks: MET_pt"),
        ({"Muons_pt": [[30.0]], "MET_pt": [1.0]}, 'Muon_pt. Did you mean "Muons_pt"'),
    ],
)
def test_mistakes_are_explained(events: dict[str, Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        on_events(Muons(), events)


def test_a_selection_is_found_in_a_module_and_in_a_file(tmp_path: Path) -> None:
    assert type(load_selection("MLTools.NanoML.trilepton:Trilepton")).__name__ == "Trilepton"
    (tmp_path / "helper_of_mine.py").write_text("CUT = 5\n")
    imports = "import helper_of_mine\nfrom MLTools.NanoML.selection import Selection\n"
    (tmp_path / "mine.py").write_text(f"{imports}class Mine(Selection):\n    cut = helper_of_mine.CUT\n")
    mine = load_selection("mine.py:Mine", tmp_path)
    assert mine.cut == 5  # type: ignore[attr-defined]
    files = files_behind(source_of(mine)).values()
    assert tmp_path / "mine.py" in files
    assert tmp_path / "helper_of_mine.py" in files


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        *(("nowhere", "module:Class or file.py:Class"), ("no.such.module:Thing", "ModuleNotFoundError")),
        *(("absent.py:Thing", "no such file"), ("MLTools.NanoML.trilepton:Trilepto", 'Did you mean "Trilepton"')),
        ("MLTools.NanoML.trilepton:good_leptons", "is not a class made from"),
        *(("broken.py:Thing", r"SyntaxError.*broken.py:2"), ("raises.py:Thing", r"ZeroDivisionError.*raises.py:1")),
        ("reads.py:Thing", r'^selection "reads.py:Thing": absent.onnx: [^()]*$'),
    ],
)
def test_a_selection_that_cannot_be_found_is_explained(tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "reads.py").write_text("from MLTools.NanoML.model import Model\nModel('absent.onnx')\n")
    with pytest.raises(ConfigError, match=message):
        load_selection(spec, tmp_path)
