"""Shifts of objects: events that pass under these alone enter no nominal sum, and what is stored of each shift is what the skim says."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from data_processing.convert.columns import StoredCollection, event_level_branches
from data_processing.convert.convert import ConvertJob, Sample, convert_files
from data_processing.convert.expressions import Estimate, Expression, Region, Transfer
from data_processing.convert.validation import validate_file
from data_processing.merge.merge import MergeJob, merge_files
from MLTools.NanoML.contracts.hdf5 import HDF5Metadata
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.rootio.rootfile import RootFile
from services.shifted import SELECTION, SHIFTS, Events, ShiftedSkims, rewritten, skim

FEATURES = ("MET", "nGoodJet", "Good_sumPt", "MET_phi")
OBJECTS = {"Jet": StoredCollection(("pt", "eta"), None, "-pt", 0.9), "Muon": StoredCollection((), 2)}


def converted(sources: list[str], output: Path, **changes: Any) -> tuple[HDF5Metadata, dict[str, np.ndarray]]:
    """The metadata and the datasets of an HDF5 file, which is valid."""
    job = ConvertJob(sources, output, FEATURES, OBJECTS, Sample("WZ", "WZ", 0.0546), ["WZ"], 59.8)
    metadata = convert_files(replace(job, **changes))
    assert validate_file(output).faults == {}
    with h5py.File(output) as file:
        return metadata, {name: file[name][:] for name in ("events", *metadata.objects)}


def test_the_events_are_those_of_the_selection_without_shifts(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    found, rows = converted(shifted_skims.shifted, tmp_path / "shifted.h5")
    wanted, expected = converted(shifted_skims.nominal, tmp_path / "nominal.h5")
    assert {name: values.tobytes() for name, values in rows.items()} == {
        name: values.tobytes() for name, values in expected.items()
    }
    rest = {"selection": "", "datasets": (), "core": ""}
    assert replace(found, **rest) == replace(wanted, **rest)
    ((one,), (other,)) = found.datasets, wanted.datasets
    assert one.weight_per_genweight == other.weight_per_genweight
    for key in ("entries", "selected", "duplicates", "sum_of_weights", "cutflow"):
        assert getattr(one.accounting, key) == getattr(other.accounting, key)
    assert [file.weights for file in one.accounting.files] == [file.weights for file in other.accounting.files]
    # what was left out is known, but not by what shift
    assert sum(file.only_shifted for file in one.accounting.files) > 3
    assert not any(file.shifts for file in one.accounting.files)
    assert len(rows["events"]) == one.accounting.selected


def test_small_blocks_and_merged_files_make_no_difference(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    merge_files(MergeJob(shifted_skims.shifted, tmp_path / "all.root"))
    metadata, rows = converted([str(tmp_path / "all.root")], tmp_path / "merged.h5")
    wanted, expected = converted(shifted_skims.shifted, tmp_path / "each.h5", memory=0)
    assert all(np.array_equal(rows[name], expected[name]) for name in rows)
    assert replace(metadata, core="") == replace(wanted, core="")


def test_quantiles_are_those_of_nominal_events(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    """Also of files that are only surveyed."""
    most = []
    for name in ("shifted", "nominal"):
        survey = [path for path in getattr(shifted_skims, name) if path.endswith("3.root")]
        for share in (0.5, 0.9, 1.0):
            objects = {"Jet": StoredCollection(("pt",), None, "-pt", share)}
            job = ConvertJob(shifted_skims.nominal[:1], tmp_path / "x.h5", FEATURES, objects, survey=survey)
            most.append(convert_files(job).objects["Jet"].max)
    assert most[:3] == most[3:]


def test_an_estimate_subtracts_nominal_events(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    few = Region("few", Expression("nGoodJet < 3", "a.yaml:1: regions.few"))
    estimate = Estimate("WZ", few, Transfer("WZ", {"nominal": Expression("0.5", "")}), True, [])
    found, rows = converted(shifted_skims.shifted, tmp_path / "shifted.h5", estimate=estimate, regions=[few])
    wanted, expected = converted(shifted_skims.nominal, tmp_path / "nominal.h5", estimate=estimate, regions=[few])
    assert all(rows[name].tobytes() == expected[name].tobytes() for name in rows)
    ((one,), (other,)) = found.datasets, wanted.datasets
    assert one.data_driven == other.data_driven
    assert one.accounting.cutflow == other.accounting.cutflow
    assert len(rows["events"]) == one.accounting.selected > 3
    assert (rows["events"]["nGoodJet"] < 3).all()


def _read(skim: str, shift: str) -> dict[str, Any]:
    """The events of a skim that pass under a shift, as uproot reads them."""
    with uproot.open(skim) as file:
        tree = file["Events"]
        passed = tree[f"selected_{shift}"].array(library="np").astype(bool)
        found = {}
        for name in ("event", *FEATURES, "weight_pileup", "SelJet_pt", "SelJet_eta", "Muon_pt"):
            other = f"SelJet_{shift}{name[6:]}" if name.startswith("SelJet_") else f"{name}_{shift}"
            found[name] = tree[other if other in tree else name].array()[passed]
        return found


def test_events_under_a_shift_are_those_that_the_skim_says(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    objects = {"SelJet": StoredCollection(("pt", "eta"), None, "-pt", 0.9), "Muon": StoredCollection(("pt",), 2)}
    wanted, nominal = converted(shifted_skims.shifted, tmp_path / "nominal.h5", objects=objects)
    found, rows = converted(
        shifted_skims.shifted, tmp_path / "all.h5", objects=objects, shifts=["jes", "jerD*"], memory=0.02
    )
    assert found == replace(wanted, shifts=("jesUp", "jesDown", "jerDown"))
    assert {name: values.tobytes() for name, values in rows.items()} == {
        name: values.tobytes() for name, values in nominal.items()
    }
    (dataset,) = found.datasets
    others = set()
    with h5py.File(tmp_path / "all.h5") as file:
        for shift in found.shifts:
            group = file[f"shifts/{shift}"]
            events, jets, muons = (group[name][:] for name in ("events", "SelJet", "Muon"))
            parts = [_read(skim, shift) for skim in shifted_skims.shifted]
            expected = {name: ak.concatenate([part[name] for part in parts]) for name in parts[0]}
            for name in ("event", *FEATURES):
                assert np.array_equal(events[name], np.asarray(expected[name])), name
            for table, prefix, fields in ((jets, "SelJet", ("pt", "eta")), (muons, "Muon", ("pt",))):
                order = ak.argsort(-expected[f"{prefix}_pt"], stable=True)
                for field in fields:
                    padded = ak.pad_none(expected[f"{prefix}_{field}"][order], table.shape[1], clip=True)
                    assert np.array_equal(table[field], ak.to_numpy(ak.fill_none(padded, 0)))
            assert jets.shape[1] == rows["SelJet"].shape[1]
            # the weight that keeps the yield has sums of its own under the shift
            correction = events["correction"] / np.asarray(expected["weight_pileup"])
            assert len(np.unique(correction.round(4))) > 1
            scale = dataset.weight_per_genweight
            assert np.allclose(events["weight"], scale * events["genWeight"] * events["correction"], rtol=1e-6)
            others |= {*events["event"].tolist()} - {*rows["events"]["event"].tolist()}
    assert others


def test_a_part_that_is_subtracted_has_the_region_under_the_shift(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    few = Region("few", Expression("nGoodJet < 3", "a.yaml:1: regions.few"))
    transfer = Transfer("WZ", {"nominal": Expression("0.5", ""), "fake_up": Expression("0.6", "")})
    estimate = Estimate("WZ", few, transfer, True, [])
    converted(shifted_skims.shifted, tmp_path / "a.h5", estimate=estimate, regions=[few], shifts=["jes"])
    wanted = [part for skim in shifted_skims.shifted for part in [_read(skim, "jesUp")]]
    numbers = np.concatenate([np.asarray(part["event"][part["nGoodJet"] < 3]) for part in wanted])
    with h5py.File(tmp_path / "a.h5") as file:
        events = file["shifts/jesUp/events"][:]
    assert np.array_equal(events["event"], numbers)
    assert "weight_WZ_fakeUp" not in events.dtype.names
    assert ((events["weight"] < 0) == (events["genWeight"] > 0)).all()


def test_a_shift_that_the_skim_does_not_have_is_named(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match=r"convert.shifts: WZ has no shift jec. It was skimmed under jes, jer"):
        converted(shifted_skims.shifted, tmp_path / "a.h5", shifts=["jes", "jec"])
    with pytest.raises(NanoMLError, match="Its skim has no shifts"):
        converted(shifted_skims.nominal, tmp_path / "a.h5", shifts=["jes"])
    assert not [*tmp_path.iterdir()]


def test_a_damaged_group_is_found(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    converted(shifted_skims.shifted, tmp_path / "a.h5", shifts=["jesUp"])
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        events = file["shifts/jesUp/events"]
        events[3, "weight"] = 7
    assert {(check, where) for check, where, _ in validate_file(tmp_path / "a.h5").faults} >= {
        ("weights", "jesUp: events/weight")
    }


def test_a_skim_that_lost_its_flag_is_refused(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    with RootFile(shifted_skims.shifted[3]) as file:
        names = [name for name in file.branches if name != "selected"]
    path = rewritten(shifted_skims.shifted[3], tmp_path / "lost.root", names)
    with pytest.raises(NanoMLError, match="events pass under shifts alone, but the branch `selected`, .* was dropped"):
        convert_files(ConvertJob([str(path)], tmp_path / "x.h5", ["MET"]))


def test_all_columns_are_the_nominal_ones(shifted_skims: ShiftedSkims) -> None:
    found = []
    for path in (shifted_skims.shifted[3], shifted_skims.nominal[3]):
        with RootFile(path) as file:
            found.append([event_level_branches(file, patterns)[0] for patterns in ((), ("*",))])
    assert found[0] == found[1]
    with RootFile(shifted_skims.shifted[3]) as file:
        assert set(event_level_branches(file, ("MET*", "MET_jesUp"))[0]) == {"MET", "MET_phi", "MET_jesUp"}


def test_an_inspection_tells_what_was_left_out(shifted_skims: ShiftedSkims, tmp_path: Path) -> None:
    metadata, _ = converted(shifted_skims.shifted, tmp_path / "a.h5")
    found = inspect_file(tmp_path / "a.h5").to_json()
    books = found["datasets"][0]["books"]
    assert books["only_shifted"] == sum(file.only_shifted for file in metadata.datasets[0].accounting.files) > 0
    assert (found["errors"], books["selected"]) == ([], found["events"])


@pytest.fixture(scope="module")
def near_cuts(shifted_skims: ShiftedSkims) -> tuple[Events, np.ndarray]:
    """Events of which some pass only with or only without a shift, and some pass always or never."""
    names = ["event", "selected", *(f"selected_{shift}" for shift in SHIFTS)]
    moved = []
    for path in shifted_skims.shifted:
        with uproot.open(path) as file:
            arrays = file["Events"].arrays(names, library="np")
        always = np.all([arrays[name] for name in names[1:]], axis=0)
        moved += arrays["event"][~always].tolist()
    events = Events.read()
    numbers = events.arrays["event"].to_numpy()
    chosen = np.flatnonzero(np.isin(numbers, moved))
    assert len(chosen) > 5
    return events, np.union1d(chosen, np.arange(15))


@settings(max_examples=2, deadline=None)
@given(st.data())
def test_weights_of_both_signs_close(
    near_cuts: tuple[Events, np.ndarray], tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    events, rows = near_cuts
    number = st.floats(0.25, 4, width=32)
    size = len(rows)
    sizes = data.draw(st.lists(number, min_size=size, max_size=size))
    negative = data.draw(st.sets(st.integers(0, size - 1), max_size=size // 4))
    parts = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    weights = np.array([-each if place in negative else each for place, each in enumerate(sizes)], np.float32)
    if weights.sum() <= 1:
        return  # cannot be normalised
    directory = tmp_path_factory.mktemp("closing")
    (directory / "shifted.py").write_text(SELECTION)
    sources = [
        events.write(directory / f"{part}.root", rows[here], weights[here])
        for part in sorted(set(parts))
        if (here := np.flatnonzero(np.array(parts) == part)).size
    ]
    found = []
    for name in ("Shifted", "Nominal"):
        skims = [skim(source, name, directory) for source in sources]
        found.append(converted(skims, directory / f"{name}.h5"))
    (metadata, one), (_, other) = found
    assert {name: values.tobytes() for name, values in one.items()} == {
        name: values.tobytes() for name, values in other.items()
    }
    (dataset,) = metadata.datasets
    assert dataset.accounting.sum_of_weights == pytest.approx(weights.astype(float).sum(), rel=1e-12)
    # from the file to the weight of training: each event has its share of the cross section, times its own weights
    table = one["events"]
    share = 0.0546 * 1000 * 59.8 / weights.astype(float).sum()
    assert np.allclose(table["weight"], share * table["genWeight"].astype(float) * table["correction"], rtol=1e-6)
    left = math.fsum(step.weights for file in dataset.accounting.files for step in file.cutflow[-1:])
    size_of_all = np.abs(weights.astype(float)).sum()
    assert abs(table["genWeight"].astype(float).sum() - left) < 1e-6 * size_of_all
