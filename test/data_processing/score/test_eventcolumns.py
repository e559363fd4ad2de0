"""Weights, regions and classes in files with scores: those of HDF5 files, and what plain arithmetic gives under shifts."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import uproot
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_processing.convert.reading import Sample
from data_processing.score.eventcolumns import Normalisation, NormaliseJob, copies_of, normalise
from data_processing.score.score import ScoreJob, score_file
from MLTools.NanoML.atomic import write_json
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.nanoaod.fileaccounting import ShiftSums, Step, WeightSums
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.schema.plain import plain
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from services.arrays import same
from services.configurations import run_stages
from services.rootfiles import branches_of, record_of
from services.shifted import SHIFTS, ShiftedSkims, write_data

SHIFTED = """\
eras: {2018: {luminosity: 59.8}, 2022: {luminosity: 8}}
datasets:
  ZZ: {files: other.root, era: 2022}
  WZ: {files: [FILES], era: 2018, class: WZ, cross_section: 0.0546, weight: 1 + 0.1 * nGoodJet}
  Muon: {files: data.root, era: 2018, data: true}
regions: {few: nGoodJet < 3, hard: Max$(SelJet_pt) > 60 && MET > 80, many: nGoodJet >= 3}
data_driven:
  fakes: {from: Muon, region: many, weight: 0.2 + 0.001 * MET, subtract: WZ, into: {few: MET > 70}}
convert: {features: [Good_sumPt]}
score: {model: MODEL}
"""
CUTS: dict[str, Callable[[dict[str, Any]], NDArray[np.bool_]]] = {
    "few": lambda seen: seen["nGoodJet"] < 3,
    "hard": lambda seen: np.array([max(pt, default=0) > 60 for pt in seen["SelJet_pt"]], bool) & (seen["MET"] > 80),
}


def joined(paths: list[Path]) -> dict[str, Any]:
    parts = [branches_of(path) for path in paths]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def rows_of(directory: Path, name: str) -> Any:
    with h5py.File(directory / "a" / "hdf5" / f"{name}.h5") as file:
        return file["events"][:]


@pytest.fixture(scope="module")
def model(linear_model: Callable[..., Path]) -> Path:
    return linear_model(["MET_phi"], targets=("a", "b", "c"))


@pytest.fixture(scope="module")
def scored(shifted_skims: ShiftedSkims, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an analysis of skims with shifts that is scored."""
    directory = tmp_path_factory.mktemp("scored")
    write_data(directory / "data.root", shifted_skims.nominal[0])
    (directory / "other.root").write_bytes(Path(shifted_skims.shifted[4]).read_bytes())
    files = ", ".join(shifted_skims.shifted[:4])
    (directory / "a.yaml").write_text(SHIFTED.replace("FILES", files).replace("MODEL", str(model)))
    run_stages(directory / "a.yaml", "convert", "normalise", "score")
    return directory


def test_they_are_those_of_the_hdf5_file(scored: Path, shifted_skims: ShiftedSkims) -> None:
    rows = rows_of(scored, "WZ")
    found = joined([scored / "a" / "scores" / "WZ" / Path(path).name for path in shifted_skims.shifted[:4]])
    selected = found["selected"]
    assert 0 < len(rows) == selected.sum() < len(selected)
    names = [name for name in rows.dtype.names if name.startswith("weight")]
    assert names == ["weight", "weight_pileupUp", "weight_pileupDown", "weight_btag_hfUp", "weight_btag_hfDown"]
    for name in names:
        own = found[name.replace("weight", "eventWeight")]
        assert own.dtype == np.float32
        assert own[selected].tolist() == rows[name].tolist()
        assert (own[selected] != 0).all()
        assert (own[~selected] == 0).all()
    for name in ("event", "in_few", "in_hard", "label"):
        assert found[name][selected].tolist() == rows[name].tolist()
    assert all(0 < rows[name].sum() < len(rows) for name in ("in_few", "in_hard"))
    assert not found["in_few"][~selected].any()
    assert (set(found["label"]), set(found["dataset"]), set(found["era"])) == ({0}, {533639363}, {0})


def test_under_shifts_they_are_what_the_selection_gives_there(scored: Path, shifted_skims: ShiftedSkims) -> None:
    paths = shifted_skims.shifted[:4]
    records = []
    for path in paths:
        record = record_of(path)
        records += record.accounting.files
    scale = 0.0546 * 1000 * 59.8 / sum(file.sum_of_weights for file in records)
    differs = 0
    for shift in SHIFTS:
        # the sums with and without the weight of b-tagging, in each bin
        sums = [each for file in records for each in file.shifts if each.shift == shift]
        tags = [weight for each in sums for weight in each.weights if weight.weight == "btag"]
        before, after = ({place: sum(of.get(place, 0.0) for of in parts) for place in range(20)}
                         for parts in ([it.without for it in tags], [it.sums["nominal"] for it in tags]))  # fmt: skip
        for path in paths:
            skim, found = branches_of(path), branches_of(scored / "a" / "scores" / "WZ" / Path(path).name)
            seen = {name: skim.get(f"{name}_{shift}", values) for name, values in skim.items()}
            seen["SelJet_pt"] = skim.get(f"SelJet_{shift}_pt", skim["SelJet_pt"])
            passed = skim[f"selected_{shift}"]
            places = seen["weight_btag_bin"]
            ratio = np.array([before[place] / after[place] if after[place] else 1.0 for place in places])
            weight = scale * skim["genWeight"].astype(float) * seen["weight_pileup"] * seen["weight_btag"] * ratio
            weight *= 1 + 0.1 * seen["nGoodJet"]
            assert found[f"eventWeight_{shift}"] == pytest.approx(np.where(passed, weight, 0), rel=1e-5, abs=1e-9)
            for region, cut in CUTS.items():
                assert found[f"in_{region}_{shift}"].tolist() == (passed & cut(seen)).tolist()
                differs += (found[f"in_{region}_{shift}"] != found[f"in_{region}"]).sum()
    assert differs > 5


def test_subtracted_simulation_has_all_weights_and_shifts(scored: Path, shifted_skims: ShiftedSkims) -> None:
    rows, moved = rows_of(scored, "fakes_less_WZ"), 0
    parts = []
    for path in shifted_skims.shifted[:4]:
        skim, found = branches_of(path), branches_of(scored / "a" / "scores" / "WZ" / Path(path).name)
        parts.append(found)
        for ending in ("", "_pileupDown", "_btag_hfUp", *(f"_{shift}" for shift in SHIFTS)):
            seen = {name: skim.get(f"{name}{ending}", values) for name, values in skim.items()}
            inside = found[f"eventWeight{ending}"] * (seen["nGoodJet"] >= 3)
            expected = -inside * (0.2 + 0.001 * seen["MET"])
            assert found[f"fakes_eventWeight{ending}"] == pytest.approx(expected, rel=1e-5)
            if ending[1:] in ("", *SHIFTS):
                assert found[f"fakes_in_few{ending}"].tolist() == ((inside != 0) & (seen["MET"] > 70)).tolist()
                moved += (found[f"fakes_in_few{ending}"] != found["fakes_in_few"]).sum()
    assert moved > 2
    assert 0 < len(rows) < 100
    for name in (name for name in rows.dtype.names if name.startswith("weight")):
        own = np.concatenate([part[name.replace("weight", "fakes_eventWeight")] for part in parts])
        assert own[own != 0].tolist() == rows[name].tolist()
    data = branches_of(scored / "a" / "scores" / "Muon" / "data.root")
    counts = data["fakes_eventWeight"] != 0
    assert data["fakes_eventWeight"][counts].tolist() == rows_of(scored, "fakes_from_Muon")["weight"].tolist()
    assert 0 < counts.sum() < len(counts)


def test_a_file_tells_what_its_numbers_mean(scored: Path, shifted_skims: ShiftedSkims) -> None:
    with RootFile(scored / "a" / "scores" / "WZ" / Path(shifted_skims.shifted[0]).name) as file:
        names = ("label", "dataset", "era", "eventWeight", "eventWeight_pileupUp", "in_few_jesUp")
        titles = {name: file.branches[name].title for name in names}
        assert file.branches["label"].dtype == "int32"
    assert titles == {
        "label": "class: 0 WZ, 1 fakes",
        "dataset": "dataset: 691529528 Muon, 533639363 WZ, 1159303141 ZZ",
        "era": "era: 0 2018, 1 2022",
        "eventWeight": "weight: expected events; 0 for an event that does not count",
        "eventWeight_pileupUp": "weight: expected events, under the variation pileupUp; 0 for an event that does not count",
        "in_few_jesUp": "the event counts, and passes nGoodJet < 3, under the shift jesUp",
    }


def test_without_a_cross_section_they_are_not_normalised(scored: Path, shifted_skims: ShiftedSkims) -> None:
    path = scored / "a" / "scores" / "ZZ" / "other.root"
    skim, found, rows = branches_of(shifted_skims.shifted[4]), branches_of(path), rows_of(scored, "ZZ")
    assert "weight" not in rows.dtype.names
    selected = skim["selected"]
    expected = rows["genWeight"].astype(float) * rows["correction"]
    assert found["eventWeight"][selected] == pytest.approx(expected, rel=1e-6)
    with RootFile(path) as file:
        assert "not normalised to a cross section" in file.branches["eventWeight"].title


def test_they_do_not_depend_on_how_much_is_read_at_once(
    scored: Path, shifted_skims: ShiftedSkims, tmp_path: Path
) -> None:
    (stage,) = pipeline_stages(load(scored / "a.yaml"), ["score"])
    task = next(task for task in stage.tasks if task.name == f"WZ/{Path(shifted_skims.shifted[3]).stem}")
    (job,) = task.work.args
    for copy in (False, True):
        score_file(replace(job, output=tmp_path / "s.root", chunk=7, copy=copy))
        wanted, found = branches_of(job.output), branches_of(tmp_path / "s.root")
        for name, values in wanted.items():
            assert found[name].tolist() == values.tolist(), name
        assert inspect_file(tmp_path / "s.root").errors == []


def test_files_that_are_scored_already_get_weights_alone(
    scored: Path, shifted_skims: ShiftedSkims, model: Path, tmp_path: Path
) -> None:
    for path in shifted_skims.shifted[:4]:
        score_file(ScoreJob(path, tmp_path / Path(path).name, [model], copy=True))
    text = SHIFTED.replace("FILES", '"[0-3].root"').replace("MODEL", "[]")
    write_data(tmp_path / "data.root", shifted_skims.nominal[0])
    (tmp_path / "a.yaml").write_text(text.replace("other.root", shifted_skims.shifted[4]))
    done = CliRunner().invoke(nanoml, ["score", str(tmp_path / "a.yaml")])
    assert done.exit_code == 0, done.exception
    for number in range(4):
        found, wanted = (branches_of(each / "a" / "scores" / "WZ" / f"{number}.root") for each in (tmp_path, scored))
        assert list(found) == [name for name in wanted if not name.startswith("linear")]
        assert all(values.tolist() == wanted[name].tolist() for name, values in found.items())
        record = record_of(tmp_path / "a" / "scores" / "WZ" / f"{number}.root")
        assert record.model is not None
        assert record.model.name == "linear"


def test_a_branch_of_the_same_name_is_refused(tmp_path: Path, model: Path) -> None:
    names = {"run": "u4", "luminosityBlock": "u4", "event": "u8", "genWeight": "f4", "MET_phi": "f4", "dataset": "i4"}
    with uproot.recreate(tmp_path / "own.root") as file:
        file.mktree("Events", names).extend({name: np.ones(3, kind) for name, kind in names.items()})
    (tmp_path / "a.yaml").write_text(f"datasets: {{WZ: {{files: own.root}}}}\nscore: {{model: {model}}}\n")
    done = CliRunner().invoke(nanoml, ["score", str(tmp_path / "a.yaml")])
    assert "own.root: has a branch dataset of its own" in str(done.exception)


def test_only_what_a_change_concerns_is_done_again(scored: Path) -> None:
    def settings_of(text: str) -> dict[str, Any]:
        path = scored / "changed.yaml"
        path.write_text(text)
        tasks = [(it.name, task) for it in pipeline_stages(load(path), ["normalise", "score"]) for task in it.tasks]
        return {f"{stage} {task.name.partition('/')[0]}": task.settings for stage, task in tasks}

    text, scores = (scored / "a.yaml").read_text(), {"score WZ", "score ZZ", "score Muon"}
    before = settings_of(text)
    assert set(before) == {*(f"normalise {name}" for name in ("WZ", "ZZ", "Muon", "fakes_from_Muon")), *scores}
    for old, new, changed in (
        ("nGoodJet < 3", "nGoodJet < 2", scores),
        ("0.2 + 0.001", "0.2 + 0.002", {"score WZ", "score Muon"}),
        ("nGoodJet >= 3", "nGoodJet > 3", {*scores, "normalise fakes_from_Muon"}),
        ("0.0546", "0.06", {"normalise WZ"}),
        ("1 + 0.1 * nGoodJet", "1 + 0.2 * nGoodJet", {"score WZ"}),
        ("luminosity: 8", "luminosity: 9", {"normalise ZZ"}),
    ):
        after = settings_of(text.replace(old, new))
        assert {name for name, value in after.items() if value != before[name]} == changed


DATA_DRIVEN = """\
luminosity: 10
datasets:
  WZ: {files: WZ/*.root, class: WZ, cross_section: 0.05}
  ZZ: {files: ZZ/*.root, cross_section: 0.03, weight: 2 - x}
  MET: {files: MET/*.root, data: true}
  EGamma: {files: EGamma/*.root, data: true}
  Muon: {files: Muon/*.root, data: true}
regions: {SR: isTight, CR: isTight && nB > 0, sideband: "!isTight"}
data_driven:
  fake-leptons:
    from: [Muon, EGamma]
    region: sideband
    weight: 0.1 + 0.2 * x
    variations: {up: 0.2 + 0.2 * x, down: 0.05, shape_up: 0.3 * x}
    subtract: [WZ, ZZ]
    into: {SR: nB == 0, CR: nB > 0}
convert: {features: [x]}
score: {model: MODEL}
"""
KINDS = {"run": "u4", "luminosityBlock": "u4", "event": "u8", "x": "f4", "isTight": "?", "nB": "i4", "genWeight": "f4"}


def write(path: Path, seed: int, numbers: list[int], run: int = 1) -> None:
    """Events with these numbers; the same number and run is the same event. Simulation has weights of both signs."""
    columns = {name: np.zeros(len(numbers), kind) for name, kind in KINDS.items()}
    for row, number in enumerate(numbers):
        random = np.random.default_rng((seed if run == 1 else run, number))
        for name, value in (("run", run), ("luminosityBlock", 1), ("event", number), ("x", random.random())):
            columns[name][row] = value
        columns["isTight"][row], columns["nB"][row] = random.random() < 0.4, random.integers(0, 3)
        columns["genWeight"][row] = -2 if random.random() < 0.2 else 3
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name in KINDS if run == 1 or name != "genWeight"]
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: KINDS[name] for name in names}).extend({name: columns[name] for name in names})


@pytest.fixture(scope="module")
def estimated(linear_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analysis with a class from data. EGamma and Muon share events, and both some with MET, of which nothing is taken."""
    directory = tmp_path_factory.mktemp("estimated")
    for name, seed in (("WZ", 1), ("ZZ", 2)):
        write(directory / name / "0.root", seed, [*range(70)])
        write(directory / name / "1.root", seed, [*range(70, 101)])
    data = 320_000
    write(directory / "MET" / "0.root", 0, [*range(40, 60)], data)
    write(directory / "EGamma" / "0.root", 0, [*range(51)], data)
    write(directory / "EGamma" / "1.root", 0, [3, *range(51, 120)], data)
    write(directory / "Muon" / "0.root", 0, [*range(100, 55, -1)], data)
    write(directory / "Muon" / "1.root", 0, [*range(110, 171)], data)
    (directory / "a.yaml").write_text(DATA_DRIVEN.replace("MODEL", str(linear_model(["x"]))))
    run_stages(directory / "a.yaml", "convert", "normalise", "score")
    return directory


@pytest.mark.parametrize("name", ["WZ", "ZZ", "MET", "EGamma", "Muon"])
def test_an_event_counts_as_in_its_hdf5_files(estimated: Path, name: str) -> None:
    """Those of its dataset, and of the class that is estimated from data."""
    found = joined(sorted((estimated / "a" / "scores" / name).glob("*.root")))
    kind = "less" if name in ("WZ", "ZZ") else "from"
    files = {"": name, **({"fake_leptons_": f"fake-leptons_{kind}_{name}"} if name != "MET" else {})}
    assert [each for each in found if each.endswith("eventWeight")] == [f"{prefix}eventWeight" for prefix in files]
    for prefix, file in files.items():
        rows, counts = rows_of(estimated, file), found[f"{prefix}eventWeight"] != 0
        assert 0 < len(rows) < len(counts) or (name, prefix) in (("WZ", ""), ("ZZ", ""), ("MET", ""))
        assert found["event"][counts].tolist() == rows["event"].tolist()
        assert found[f"{prefix}eventWeight"][counts].tolist() == rows["weight"].tolist()
        for column in ("fake_leptonsUp", "fake_leptonsDown", "fake_leptons_shapeUp"):
            varied = rows[f"weight_{column}"]
            assert (varied != rows["weight"]).any() == bool(prefix)
            if prefix:
                assert found[f"{prefix}eventWeight_{column}"][counts].tolist() == varied.tolist()
        for region in ("SR", "CR") if prefix else ("SR", "CR", "sideband"):
            flags = found[f"{prefix}in_{region}"]
            assert flags[counts].tolist() == rows[f"in_{region}"].tolist()
            assert rows[f"in_{region}"].any()
            assert not flags[~counts].any()


def test_copies_are_known_however_much_is_read_at_once(estimated: Path, tmp_path: Path) -> None:
    (stage,) = pipeline_stages(load(estimated / "a.yaml"), ["score"])
    for task in (task for task in stage.tasks if task.name.startswith("EGamma/")):
        (job,) = task.work.args
        score_file(replace(job, output=tmp_path / "s.root", chunk=7))
        assert same(branches_of(tmp_path / "s.root"), branches_of(job.output))


@settings(max_examples=10, deadline=None)
@given(parts=st.lists(st.lists(st.integers(1, 30), max_size=20), min_size=1, max_size=4), earlier=st.integers(0, 3))
def test_every_copy_is_found(parts: list[list[int]], earlier: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files of any size, also of none; the first of them are of another dataset."""
    directory = tmp_path_factory.mktemp("copies")
    paths = [directory / f"{number}.root" for number in range(len(parts))]
    for path, numbers in zip(paths, parts):
        write(path, 0, numbers, 320_000)
    earlier = min(earlier, len(parts) - 1)
    own = [str(path) for path in paths[earlier:]]
    before = {"other": [str(path) for path in paths[:earlier]]} if earlier else {}
    output = directory / "made" / "a.json"
    summary = normalise(NormaliseJob(own, output, Sample("Muon", is_data=True), 59.8, before))
    normalisation, bits = Normalisation.read(output), np.load(copies_of(output))
    seen = {number for numbers in parts[:earlier] for number in numbers}
    copies = 0
    for path, numbers in zip(own, parts[earlier:]):
        expected = []
        for number in numbers:
            expected.append(number in seen)
            seen.add(number)
        assert np.unpackbits(bits[normalisation.first_byte(path) :])[: len(numbers)].astype(bool).tolist() == expected
        copies += sum(expected)
    assert summary == {"events_per_weight": 1.0, "copies": copies}


def test_a_dataset_that_cannot_be_normalised_is_explained(tmp_path: Path) -> None:
    write(tmp_path / "WZ.root", 1, [])
    with pytest.raises(NanoMLError, match="the generator weights of its events add up to 0, .* Add files with events"):
        normalise(NormaliseJob([str(tmp_path / "WZ.root")], tmp_path / "a.json", Sample("WZ", None, 1.0), 10.0))
    assert not (tmp_path / "a.json").exists()


def test_a_normalisation_tells_files_of_one_name_apart_and_may_be_moved(tmp_path: Path) -> None:
    paths = [tmp_path / folder / name for folder, name in (("a", "0.root"), ("b", "0.root"), ("b", "1.root"))]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        write(path, 0, [number], 320_000)
    own = [str(path) for path in paths]
    normalise(NormaliseJob(own, tmp_path / "c.json", Sample("Muon", is_data=True), 59.8))
    found = Normalisation.read(tmp_path / "c.json")
    assert [found.first_byte(path) for path in [*own, "/elsewhere/1.root"]] == [0, 1, 2, 2]
    with pytest.raises(NanoMLError, match="/elsewhere/0.root: is not among the files that were normalised"):
        found.first_byte("/elsewhere/0.root")


SUMS = WeightSums("btag", "all", True, True, {2: 4.0, 3: 1.0}, {"nominal": {2: 3.9, 3: 1.1}}, "envelope")
NORMALISATION = Normalisation(True, 0.25, (SUMS,), (ShiftSums("jesUp", [Step("all", 5, 4.5)], [SUMS]),), {"b.root": 8})


def damaged(content: Any, chance: random.Random) -> Any:
    """The content with something else in one place: absent, of another type, or empty."""
    if isinstance(content, dict) and content and chance.random() < 0.9:
        key = chance.choice(list(content))
        if chance.random() < 0.3:
            return {name: value for name, value in content.items() if name != key}
        return {**content, key: damaged(content[key], chance)}
    if isinstance(content, list) and content and chance.random() < 0.9:
        return [damaged(content[0], chance), *content[1:]]
    return chance.choice([None, "x", [], {}, [1], {"x": 1}, -1])


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", plain(NORMALISATION))
    assert Normalisation.read(tmp_path / "a.json") == NORMALISATION


def test_any_damage_is_no_other_error(tmp_path: Path) -> None:
    path, chance = tmp_path / "a.json", random.Random(1)
    for _ in range(200):
        write_json(path, damaged(plain(NORMALISATION), chance))
        with contextlib.suppress(NanoMLError):
            Normalisation.read(path)


def test_a_file_that_ends_early_or_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(NanoMLError, match=r"a\.json: no such file\. Remove it, and run `nanoml normalise` again"):
        Normalisation.read(path)
    path.write_text(json.dumps(plain(NORMALISATION))[:-9])
    with pytest.raises(NanoMLError, match=r"a\.json: is damaged \(JSONDecodeError"):
        Normalisation.read(path)
