"""Scores, and columns of HDF5 files, for skims with shifts of objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from data_processing.merge.merge import MergeJob, merge_files
from data_processing.score.score import ScoreJob, score_file
from data_processing.score.scorers import Scorer
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.model import Discriminant, Model
from MLTools.NanoML.model.entries import InputRange, KnownTensor
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.rootfile import RootFile
from services.rootfiles import lists_of, record_of
from services.shifted import SHIFTS, ShiftedSkims, like_others

LinearModel = Callable[..., Path]

FLAGS = ["selected", *(f"selected_{shift}" for shift in SHIFTS)]
TARGETS = ("a", "b", "c")  # target a of a linear model is its first input, b is the fold


@pytest.fixture(scope="module")
def model(linear_model: LinearModel) -> Path:
    return linear_model(["Good_sumPt", "nGoodJet", "Muon_sumPt", "MET_phi"], targets=TARGETS)


def test_a_score_for_each_shift(shifted_skims: ShiftedSkims, model: Path, tmp_path: Path) -> None:
    made = set()
    for number, path in enumerate(shifted_skims.shifted):
        score_file(ScoreJob(path, tmp_path / f"{number}.root", [model], chunk=50))
        skim, found = lists_of(path), lists_of(tmp_path / f"{number}.root")
        shifts = [shift for shift in SHIFTS if f"Good_sumPt_{shift}" in skim or f"nGoodJet_{shift}" in skim]
        made.add(len(shifts))
        own = [f"linear_{target}" for target in TARGETS]
        others = [f"{name}_{shift}" for shift in shifts for name in own]
        assert list(found) == ["run", "luminosityBlock", "event", *FLAGS, *own, "linear_fold", *others]
        for name in ("event", *FLAGS):
            assert found[name].to_list() == skim[name].to_list()
        assert found["linear_a"].to_list() == skim["Good_sumPt"].to_list()
        for shift in shifts:
            expected = skim.get(f"Good_sumPt_{shift}", skim["Good_sumPt"])
            assert found[f"linear_a_{shift}"].to_list() == expected.to_list()
            # by the network of the event's own fold
            assert found[f"linear_b_{shift}"].to_list() == found["linear_b"].to_list() == found["linear_fold"].to_list()
    assert made == {0, 4}
    with RootFile(tmp_path / "0.root") as file:
        assert file.branches["linear_a_jesUp"].title == "estimate of a by linear, under the shift jesUp"
    record = record_of(tmp_path / "0.root")
    assert record.shifted(record.columns) == {
        f"linear_{target}_{shift}": f"linear_{target}" for target in TARGETS for shift in SHIFTS
    }
    assert inspect_file(tmp_path / "0.root").errors == []


def test_discriminants_under_shifts(shifted_skims: ShiftedSkims, linear_model: LinearModel, tmp_path: Path) -> None:
    against = [Discriminant("discriminant", "signal", {"signal": 1.0, "WZ": 0.75, "ZG": 0.25})]
    model = linear_model(["nGoodJet", "MET_phi"], discriminants=against)
    score_file(ScoreJob(shifted_skims.shifted[3], tmp_path / "s.root", [model]))
    found, differ = lists_of(tmp_path / "s.root"), False
    for suffix in ("", *(f"_{shift}" for shift in SHIFTS)):
        p = np.stack([found[f"linear_{name}{suffix}"].to_numpy() for name in ("signal", "WZ", "ZG")], axis=1)
        expected = against[0].of(p, ["signal", "WZ", "ZG"])
        assert found[f"linear_discriminant{suffix}"].to_numpy() == pytest.approx(expected, abs=1e-6)
        differ |= found[f"linear_discriminant{suffix}"].to_list() != found["linear_discriminant"].to_list()
    assert differ
    with RootFile(tmp_path / "s.root") as file:
        title = file.branches["linear_discriminant_jesUp"].title
    assert title == "signal against WZ 0.75, ZG 0.25 by linear, under the shift jesUp"


def test_inputs_that_no_shift_changes(shifted_skims: ShiftedSkims, linear_model: LinearModel, tmp_path: Path) -> None:
    known = InputRange("Muon_sumPt", 0, 10, (), False, (), 0, 0)
    domain = [asdict(KnownTensor("features", None, 0, (known, known)))]
    model = linear_model(["Muon_sumPt", "MET_phi"], targets=TARGETS, domain=domain)
    scored = score_file(ScoreJob(shifted_skims.shifted[3], tmp_path / "s.root", [model]))
    assert [name for name in lists_of(tmp_path / "s.root") if name.startswith("linear")] == [
        *(f"linear_{target}" for target in TARGETS), "linear_fold"
    ]  # fmt: skip
    # events that pass under shifts alone may lie outside
    assert scored.outside["linear"].rows == ak.sum(lists_of(shifted_skims.shifted[3])["selected"]) < scored.entries


def test_only_events_that_differ_are_computed_again(
    shifted_skims: ShiftedSkims, linear_model: LinearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = Model(linear_model(["nGoodJet", "MET_phi"], targets=TARGETS)), []
    original = model.scores_of

    def counted(feeds: Any, fold: Any) -> Any:
        rows.append(len(fold))
        return original(feeds, fold)

    monkeypatch.setattr(model, "scores_of", counted)
    skim = lists_of(shifted_skims.shifted[3])
    with RootFile(shifted_skims.shifted[3]) as file:
        scorer = Scorer(model, file, Provenance.of(file), {"": None}, ".")
        found = scorer.score(file.read(scorer.reads), np.ones(file.entries, np.bool_))
    changed = [int(ak.sum(skim[f"nGoodJet_{shift}"] != skim["nGoodJet"])) for shift in SHIFTS]
    assert 0 < sum(changed) < len(skim["run"])
    assert rows == [len(skim["run"]), *changed]
    for shift in SHIFTS:
        assert found[f"linear_a_{shift}"].tolist() == skim[f"nGoodJet_{shift}"].to_list()


@pytest.mark.parametrize("copy", [False, True])
def test_files_with_scores_are_merged(shifted_skims: ShiftedSkims, model: Path, tmp_path: Path, copy: bool) -> None:
    merge_files(MergeJob(shifted_skims.shifted, tmp_path / "skims.root"))
    score_file(ScoreJob(str(tmp_path / "skims.root"), tmp_path / "after.root", [model], copy=copy))
    paths = []
    for number, path in enumerate(shifted_skims.shifted):
        paths.append(str(tmp_path / f"{number}.root"))
        score_file(ScoreJob(path, Path(paths[-1]), [model], copy=copy))
    merge_files(MergeJob(paths, tmp_path / "before.root"))
    before, after = lists_of(tmp_path / "before.root"), lists_of(tmp_path / "after.root")
    assert before.keys() == after.keys()
    assert all(before[name].to_list() == after[name].to_list() for name in before)


def test_a_model_of_objects(shifted_skims: ShiftedSkims, linear_model: LinearModel, tmp_path: Path) -> None:
    model = linear_model(["Good_sumPt", "Jet_pt"], targets=TARGETS, level="object", collection="Jet")
    score_file(ScoreJob(shifted_skims.shifted[3], tmp_path / "s.root", [model], chunk=30))
    skim, found = lists_of(shifted_skims.shifted[3]), lists_of(tmp_path / "s.root")
    for shift in SHIFTS:
        expected = ak.broadcast_arrays(skim[f"Good_sumPt_{shift}"], skim["Jet_pt"])[0]
        assert found[f"Jet_linear_a_{shift}"].to_list() == expected.to_list()


def test_a_skim_that_others_merged_is_not_scored(shifted_skims: ShiftedSkims, model: Path, tmp_path: Path) -> None:
    names = ["run", "luminosityBlock", "event", "Good_sumPt", "nGoodJet", "Muon_sumPt", "MET_phi"]
    empty, full = shifted_skims.shifted[2], shifted_skims.shifted[0]
    path = like_others([empty, full], tmp_path / "hadd.root", names)
    with pytest.raises(NanoMLError, match="hadd.root: has lost columns with values under shifts"):
        score_file(ScoreJob(str(path), tmp_path / "s.root", [model]))
    assert not (tmp_path / "s.root").exists()


SELECTION = """
from MLTools.NanoML.selection import Column, Selection


class Hard(Selection):
    branches = ("MET_pt",)
    columns = {"hard": Column("f4", "missing transverse momentum [GeV]")}
    shifts = {"met": ("up",)}

    def shift(self, events, name, direction):
        return events.replaced(["MET_pt"], lambda left: {"MET_pt": 2 * left.MET_pt})

    def select(self, events, cutflow):
        events = cutflow.cut("hard", events.MET.pt > 50, events)
        return events, {"hard": events.MET.pt}
"""


def test_a_file_that_was_never_skimmed_has_nominal_scores(
    sample: Path, linear_model: LinearModel, tmp_path: Path
) -> None:
    (tmp_path / "hard.py").write_text(SELECTION)
    inputs = {"tensor": "features", "columns": ["hard"], "dtypes": ["float32"], "selection_columns": ["hard"]}
    model = linear_model(["hard"], targets=TARGETS, inputs=[{**inputs, "selection": "hard.py:Hard"}])
    source = sample / "WZTo3LNu" / "WZTo3LNu_0.root"
    score_file(ScoreJob(str(source), tmp_path / "s.root", [model], base=str(tmp_path)))
    found, momentum = lists_of(tmp_path / "s.root"), lists_of(source)["MET_pt"].to_numpy()
    assert found["linear_selected"].to_list() == (momentum > 50).tolist()
    assert np.array_equal(found["linear_a"], np.where(momentum > 50, momentum, np.nan), equal_nan=True)
    assert not any("met" in name for name in found)


def test_a_score_of_objects_that_a_selection_made(
    shifted_skims: ShiftedSkims, linear_model: LinearModel, tmp_path: Path
) -> None:
    objects = {"SelJet": (["pt", "eta"], 3, "-pt")}
    model = linear_model(["Muon_sumPt"], ["SelJet_pt"], objects, targets=TARGETS)
    score_file(ScoreJob(shifted_skims.shifted[0], tmp_path / "out.root", [model], chunk=50))
    skim, found = lists_of(shifted_skims.shifted[0]), lists_of(tmp_path / "out.root")
    for shift in ("", *SHIFTS):
        pt = skim[f"SelJet_{shift}_pt" if shift else "SelJet_pt"]
        hardest = ak.sort(pt, ascending=False)[:, :3]
        score = found[f"linear_a_{shift}" if shift else "linear_a"]
        assert np.allclose(score, skim["Muon_sumPt"] + ak.sum(hardest, axis=1), rtol=1e-6)
    assert found["linear_a_jesUp"].to_list() != found["linear_a"].to_list()
