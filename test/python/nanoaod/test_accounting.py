from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.nanoaod import accounting as accounting_module
from MLTools.NanoML.nanoaod.accounting import Accounting, accounting_of, add_steps, aligned, event_weights
from MLTools.NanoML.nanoaod.fileaccounting import EntryRange, FileAccounting, Part, Step, WeightSums, combined
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal import progress
from services.nanoaod import FILES

RUNS = 812.25  # of the file's Runs tree: more than its events have, as some were skimmed away before
WEIGHTS = np.random.default_rng(7).normal(0.3, 1, 40).astype(np.float32).astype(float)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        *((f"made_v{n}", "Runs/genEventSumw") for n in ("9_mc", "9_mc_skimmed", "9_mc_zero_events", "12_mc_many_runs")),
        *(("made_v6_mc_underscore", "Runs/genEventSumw_"), ("made_v9_data", "number of events (data)")),
        ("made_v9_mc_no_runs", "genWeight of the file's events"),
    ],
)
def test_sums_of_weights(made_files: dict[str, Path], name: str, source: str) -> None:
    with RootFile(made_files[name]) as file:
        accounting, counted = accounting_of(file), accounting_of(file, generator_weights=False)
    made = FILES[name]
    assert accounting.sum_of_weights == pytest.approx(made.sum_of_weights, rel=1e-14)
    assert accounting.sum_of_weights_source == source
    assert (accounting.entries, accounting.selected, accounting.is_data) == (made.events, 0, made.is_data)
    assert counted.sum_of_weights == made.events + (made.lost if made.runs else 0)


def test_weights_of_events_have_their_signs(made_files: dict[str, Path]) -> None:
    expected = FILES["made_v9_mc"].weights.astype(np.float32).astype(np.float64)
    with RootFile(made_files["made_v9_mc"]) as file:
        found = event_weights(file.read(["genWeight"]), file.entries)
    assert found.tolist() == expected.tolist()
    assert 0 < (found < 0).sum() < len(found) / 3
    assert event_weights({}, 3).tolist() == [1, 1, 1]  # as of data


def test_files_without_weights_are_distinguished(nano_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "SUM_OF_WEIGHTS", ())
    with RootFile(nano_file) as file:
        file.branches = {key: branch for key, branch in file.branches.items() if key != "genWeight"}
        accounting = accounting_of(file)
        assert accounting_module.is_simulation(file) is not accounting.is_data
    assert accounting.is_data == ("_data" in nano_file.stem)
    assert accounting.sum_of_weights == accounting.entries
    source = "number of events (data)" if accounting.is_data else accounting_module.UNWEIGHTED
    assert accounting.sum_of_weights_source == source


def _events(path: Path, runs: list[int], rntuple: bool = False, **columns: Any) -> Path:
    """Events of these runs, with columns of the same length."""
    run, event = np.array(runs, "u4"), np.arange(len(runs), dtype="u8")
    arrays: Any = {"run": run, "luminosityBlock": np.ones_like(run), "event": event}
    arrays |= {name: np.full(len(runs), value, "f4") for name, value in columns.items()}
    with uproot.recreate(path) as file:
        if rntuple:
            file["Events"] = arrays
        else:
            file.mktree("Events", {name: values.dtype for name, values in arrays.items()}).extend(arrays)
    return path


@pytest.mark.parametrize(
    ("runs", "columns", "is_data"),
    [
        *(([1, 1, 1], [name], False) for name in ("Pileup_nTrueInt", "Generator_x1", "LHE_HT", "genTtbarId")),
        ([], ["nGenJet"], False),
        ([1, 1, 1], ["PuppiMET_pt"], True),  # run 1 alone may be an event made by hand
        ([], ["PuppiMET_pt"], True),
        ([1, 1, 315267], ["GenMET_pt"], True),  # seen in the last range of events only
        ([315267] * 3, ["Muon_genPartIdx"], True),
        ([1, 1, 1], ["PV_ndof", "Generic_pt", "myLHE_pt", "GenericJet"], True),
    ],
)
def test_what_counts_as_simulation_without_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[int], columns: list[str], is_data: bool
) -> None:
    monkeypatch.setattr(accounting_module, "_RUNS_AT_ONCE", 2)
    for is_rntuple in (False, True):
        path = _events(tmp_path / "a.root", runs, is_rntuple, **dict.fromkeys(columns, 1))
        with RootFile(path) as file:
            accounting = accounting_of(file)
        assert (accounting.is_data, accounting.sum_of_weights) == (is_data, len(runs))


def test_simulation_without_weights_is_mentioned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_notes", {})
    for name, runs in (("empty", []), ("a", [1]), ("b", [1, 1])):
        with RootFile(_events(tmp_path / f"{name}.root", runs, GenMET_pt=1)) as file:
            accounting_of(file)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"WARNING: {tmp_path / 'a.root'}: is simulation (its run number is 1, and it has GenMET_pt)")
    assert "Each event counts 1" in line


def _accounting(name: str, events: int, weights: float, is_data: bool = False) -> FileAccounting:
    steps = [Step("all", events, weights), Step("z", events // 2, weights / 2)]
    return FileAccounting(name, events, events // 2, weights, "Runs/genEventSumw", is_data, steps)


def test_accounting_adds_up_and_survives_json() -> None:
    accounting = Accounting([_accounting("a", 10, 5.5), _accounting("b", 0, 0.0), _accounting("c", 4, -1.5)])
    assert (accounting.entries, accounting.selected, accounting.sum_of_weights) == (14, 7, 4.0)
    assert accounting.is_data is False
    assert accounting.cutflow == [Step("all", 14, 4.0), Step("z", 7, 2.0)]
    assert Accounting.from_json(json.loads(json.dumps(accounting.to_json()))) == accounting
    assert Accounting([_accounting("a", 1, 1.0), _accounting("b", 1, 1.0, True)]).is_data is None


def test_cut_flows_of_other_cuts_are_joined_by_name_each_cut_between_its_neighbours() -> None:
    joined = add_steps([[Step("all", 2, 2.0)], [Step("all", 3, 3.0), Step("z", 1, 1.0)]])
    assert joined == [Step("all", 5, 5.0), Step("z", 1, 1.0)]
    late = [Step("all", 9, 9.0), Step("HLT", 5, 5.0), Step("z", 2, 2.0)]
    flows = {"MC": [Step("all", 4, 4.5), Step("z", 3, 3.5)], "data": late, "empty": []}
    found = aligned(flows)
    assert found == {"MC": [*flows["MC"][:1], Step("HLT", 4, 4.5), flows["MC"][1]], "data": late, "empty": []}
    assert aligned({"data": late, "MC": flows["MC"]})["MC"] == found["MC"]


def read(first: int, stop: int, file: str = "a/x.root", uuid: str = "1-2", total: float = RUNS) -> FileAccounting:
    part = Part(first, len(WEIGHTS), float(WEIGHTS[first:stop].sum()), float(WEIGHTS.sum()))
    return FileAccounting(file, stop - first, 0, total, "Runs/genEventSumw", False, uuid=uuid, part=part)


def whole(file: str = "a/x.root", uuid: str = "1-2", total: float = RUNS) -> FileAccounting:
    return FileAccounting(file, len(WEIGHTS), 0, total, "Runs/genEventSumw", False, uuid=uuid)


@pytest.mark.parametrize("seed", range(7))
def test_any_partition_in_any_order_has_the_weights_of_the_file(seed: int) -> None:
    random = np.random.default_rng(seed)
    ends = sorted({0, len(WEIGHTS), *random.integers(0, len(WEIGHTS), seed % 6).tolist()})
    ranges = [read(*each) for each in zip(ends, ends[1:])] if seed else [read(0, 0), read(0, 40)]
    ranges = [ranges[number] for number in random.permutation(len(ranges))]
    other = whole("b.root", "3-4", -33.5)
    accounting = Accounting([*ranges, other])
    accounting.check()
    assert accounting.gaps == []
    assert accounting.sum_of_weights == Accounting([whole(), other]).sum_of_weights == RUNS - 33.5
    assert accounting.sum_in_runs == accounting.sum_of_weights
    assert accounting.entries == 80

    # one that reaches into others
    first = int(random.integers(0, 39))
    with pytest.raises(NanoMLError, match=r"x.root: was made from entr.* of a/x.root, as a/x.root was: these"):
        Accounting([*ranges, read(first, min(first + 3, 40))]).check(allow_gaps=True)

    # one of them is not there
    left = [each for each in ranges if each.entries][1:]
    lost = next(each for each in ranges if each not in left and each.entries)
    if not left:
        return
    assert lost.read is not None
    assert Accounting(left).gaps == [lost.read]
    with pytest.raises(NanoMLError, match="lacks entr.* of a/x.root, and no other file here"):
        Accounting([*left, other]).check()
    Accounting([*left, other]).check(allow_gaps=True)
    share = 1 - WEIGHTS[lost.read.first : lost.read.stop].sum() / WEIGHTS.sum()
    assert Accounting(left).sum_of_weights == pytest.approx(RUNS * share, rel=1e-12)


def test_a_file_is_known_by_its_identifier_whatever_its_directory() -> None:
    assert Accounting([read(0, 20), read(20, 40, "b/y.root")]).sum_of_weights == RUNS
    with pytest.raises(NanoMLError, match="b.root: was made from b/y.root, as a.root was: these events and"):
        Accounting([whole(), whole("b/y.root")]).check(["a.root", "b.root"])
    with pytest.raises(NanoMLError, match="was made from b/y.root, as"):
        Accounting([whole(), read(3, 4, "b/y.root")]).check()
    # the same path, as jobs on a grid may call their inputs, with other events
    assert Accounting([whole(), whole(uuid="9-9")]).sum_of_weights == 2 * RUNS
    # without an identifier, the path
    assert Accounting([read(0, 20, uuid=""), read(20, 40, uuid="")]).sum_of_weights == RUNS
    assert Accounting([whole(uuid=""), whole("b.root", uuid="")]).sum_of_weights == 2 * RUNS


def test_ranges_beyond_the_end_and_empty_files() -> None:
    nothing = [replace(read(40, 40), part=Part(first, 40, 0.0, WEIGHTS.sum())) for first in (60, 80)]
    accounting = Accounting([*nothing, read(0, 40)])
    accounting.check()
    assert accounting.sum_of_weights == RUNS
    empty = [FileAccounting("e", 0, 0, 5.0, "Runs/genEventSumw", False, part=Part(n, 0, 0.0, 0.0)) for n in (0, 9)]
    Accounting(empty).check()
    assert Accounting(empty).sum_of_weights == 5
    with pytest.raises(NanoMLError, match="would count twice"):
        Accounting([empty[0], empty[0]]).check()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(None, 40, 3.0, 5.0), "s.root: its record does not say which entries of a/x.root it was made from"),
        (Part(20, 40, 3.0, float(WEIGHTS.sum())), "the generator weights of the ranges of a/x.root add up to"),
        (Part(21, 40, 0.0, 0.0), "lacks entry 20 of a/x.root, and the generator weights of that file add up to ze"),
    ],
)
def test_ranges_that_cannot_be_added_are_refused(part: Part, message: str) -> None:
    first = read(0, 20)
    assert first.part is not None
    if not part.file_weights:
        first = replace(first, part=replace(first.part, file_weights=0.0))
    accounting = Accounting([first, replace(read(20, 40), entries=40 - (part.first or 20), part=part)])
    with pytest.raises(NanoMLError, match=message):
        accounting.check(["r.root", "s.root"], allow_gaps=True)


def test_ranges_survive_json_and_have_words() -> None:
    for part in (None, Part(3, 9, 1.5, -2.5), Part(None, 9, 1.5, -2.5)):
        accounting = Accounting([replace(whole(), part=part)])
        assert Accounting.from_json(accounting.to_json()) == accounting
    assert str(EntryRange("x", 1000, 2000)) == "entries 1,000 to 1,999 of x"
    assert str(EntryRange("x", 5, 6)) == "entry 5 of x"


def sums(values: dict[str, float]) -> WeightSums:
    return WeightSums("pdf", "all", False, False, {0: 10.0}, {key: {0: 10 * value} for key, value in values.items()})


def test_many_variations_are_told_by_their_range() -> None:
    assert sums({"nominal": 1.0, "up": 1.25, "down": -0.5}).varied_means(2) == "up 1.25, down -0.50"
    members = {f"member{number}": 1 + number / 100 for number in range(-2, 99)}
    assert sums({"nominal": 1.0, **members}).varied_means(3) == "101 variations from 0.980 to 1.980"
    assert sums({"nominal": 1.0}).varied_means(3) == ""
    assert WeightSums("pdf", "all", False, False, {0: 0.0}, {"nominal": {0: 1.0}, "up": {0: 1.0}}).varied_means(3) == ""


def test_variations_that_are_one_uncertainty() -> None:
    nominal, members = np.array([5.0]), np.array([[1.0], [2.0], [6.0]])
    assert np.concatenate(combined("envelope", nominal, members)).tolist() == [6, 1]
    assert np.concatenate(combined("hessian", nominal, members)).tolist() == [5 + 26**0.5, 5 - 26**0.5]
    around_their_mean = np.concatenate(combined("replicas", nominal, members))
    assert np.allclose(around_their_mean, [5 + 7**0.5, 5 - 7**0.5])
    assert np.concatenate(combined("replicas", nominal, members[:1])).tolist() == [5, 5]
