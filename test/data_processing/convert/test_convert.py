from __future__ import annotations

import json
import math
import os
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
from data_processing.convert.stage import convert_summary, losses
from data_processing.convert.validation import validate_file
from data_processing.merge.merge import MergeJob, merge_files
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.contracts.hdf5 import ConvertedColumn, HDF5Metadata, core_of, metadata_content, read_metadata
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.nanoaod.accounting import Accounting
from MLTools.NanoML.nanoaod.fileaccounting import FileAccounting, Part
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Step
from services.arrays import same
from services.shifted import SELECTION, SHIFTS, Events, ShiftedSkims, rewritten, skim


def test_trigger_bits_and_counters_are_left_out_unless_asked_for(made_file: Path) -> None:
    with RootFile(made_file) as file:
        features, left_out = event_level_branches(file)
        everything = event_level_branches(file, ["*"])[0]
    odd = set(everything) - set(features)
    assert len(odd) == left_out > 20
    assert {name for name in odd if not name.startswith(("HLT_", "L1_", "Flag_", "DST_", "n"))} == set()
    assert {"MET_pt", "PFMET_pt"} & set(features)


@pytest.fixture(scope="module")
def skims(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> list[str]:
    directory = tmp_path_factory.mktemp("skims")
    found = []
    for source in sorted((sample / "WZTo3LNu_Pt100").glob("*.root")):
        output, keep = directory / source.name, ("MET_*", "Jet_*")
        skim_file(SkimJob(str(source), output, "MLTools.NanoML.trilepton:Trilepton", keep=keep))
        found.append(str(output))
    return found


def test_the_core_of_a_file_has_no_weights_and_no_flags_of_regions(tmp_path: Path, skims: list[str]) -> None:
    jets = {"Jet": StoredCollection(("pt",), 2)}
    job = ConvertJob(skims[:1], tmp_path / "a.h5", ["ZCand_mass"], jets, Sample("WZ", "WZ", 0.05), ["WZ"], 59.8)
    metadata = convert_files(job)
    core, (dataset,) = metadata.core, metadata.datasets
    assert core_of(job.output) == core
    moved = [replace(it, file=f"/elsewhere/{Path(it.file).name}") for it in dataset.accounting.files]
    elsewhere = replace(dataset, accounting=replace(dataset.accounting, files=moved))
    assert replace(metadata, datasets=(elsewhere,)).of_core == metadata.of_core
    cuts = [[Region("SR", Expression(cut, "x"))] for cut in ("MET_pt > 50", "MET_pt > 60")]
    for around in ({"luminosity": 60.1}, {"sample": Sample("WZ", "WZ", 0.06)}, *({"regions": cut} for cut in cuts)):
        assert convert_files(replace(job, memory=0, **around)).core == core
    weight = Expression("1.5", "x")
    others = (
        {"features": ["MET_pt"]},
        {"sources": skims[1:2]},
        {"objects": {"Jet": StoredCollection(("pt",), 3)}},
        {"sample": Sample("WZ", None, 0.05)},
        {"sample": Sample("WZ", "WZ", 0.05, weight=weight), "is_corrected": True},
    )
    assert len({core, *(convert_files(replace(job, **each)).core for each in others)}) == 6


def test_weights_labels_and_accounting_of_a_dataset(tmp_path: Path, skims: list[str]) -> None:
    sample, features = Sample("WZ", "WZ", 0.0546), ["ZCand_mass", "MET_pt"]
    job = ConvertJob(skims, tmp_path / "a.h5", features, {}, sample, ["signal", "WZ"], 59.8)
    metadata = convert_files(job)
    assert metadata_content(tmp_path / "a.h5") == json.loads(json.dumps(metadata.to_json()))
    with h5py.File(tmp_path / "a.h5") as file:
        events = file["events"][:]
        assert list(file["events"].attrs["classes"]) == ["signal", "WZ"]
    assert (events["label"] == 1).all()
    assert events["weight"].sum() == pytest.approx(0.0546 * 1000 * 59.8 * 596 / 4000, rel=1e-6)
    accounting = metadata.datasets[0].accounting
    assert (accounting.entries, accounting.selected, accounting.sum_of_weights) == (4000, 596, 4000.0)
    assert [step.events for step in accounting.cutflow][:2] == [4000, 1173]
    title = "mass of the Z candidate [GeV]"
    assert metadata.features[0] == ConvertedColumn("ZCand_mass", "float32", title, "selection")
    assert metadata.features[1].source == "branch"
    assert metadata.selection == "MLTools.NanoML.trilepton:Trilepton"


def test_what_was_cut_off_is_counted_and_told(tmp_path: Path, skims: list[str]) -> None:
    metadata = convert_files(ConvertJob(skims, tmp_path / "a.h5", ["MET_pt"], {"Jet": StoredCollection(("pt",), 1)}))
    numbers = uproot.concatenate([f"{path}:Events" for path in skims], ["nJet"], library="np")["nJet"]
    jets = metadata.objects["Jet"]
    assert (jets.truncated.objects, jets.truncated.lost) == (numbers.sum(), np.maximum(numbers - 1, 0).sum())
    (line,) = losses("WZ", metadata, False)
    assert f"of Jet lost ({np.maximum(numbers - 1, 0).sum():,} of {numbers.sum():,})" in line
    several = convert_summary({name: metadata.to_json() for name in ("WZ", "ZG", "TT")})
    assert [text.partition(":")[0] for text in several[:3]] == ["WZ", "ZG", "TT"]
    assert several[3:] == [f"{line} The same goes for ZG, TT."]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ["ZCand_mas"]}, 'has no branch ZCand_mas. Did you mean "ZCand_mass"'),
        ({"features": ["Jet_pt"]}, "Jet_pt is of type float.*not one number per event"),
        ({"features": ["weight"]}, "weight cannot be a feature"),
        ({"objects": {"Jets": StoredCollection(("pt",), 2)}}, 'has no collection Jets. Did you mean "Jet"'),
        ({"objects": {"Jet": StoredCollection(("ptt",), 2)}}, 'collection Jet has no field ptt. Did you mean "pt"'),
        ({"objects": {"Jet": StoredCollection(("eta",), 2, "-px")}}, "collection Jet has no field px"),
        ({"objects": {"Jet": StoredCollection(("valid",), 2)}}, "Jet_valid cannot be stored"),
        (
            {"sample": Sample("d", is_data=True)},
            "`data: true`, but .* is simulation .its sum of weights: Runs/genEventSumw",
        ),
        ({"sources": []}, "there are no files to convert"),
    ],
)
def test_what_cannot_be_converted_is_explained_and_leaves_nothing(
    tmp_path: Path, skims: list[str], changes: dict[str, Any], message: str
) -> None:
    job = {"sources": skims, "output": tmp_path / "a.h5", "features": ["MET_pt"], **changes}
    with pytest.raises(NanoMLError, match=message):
        convert_files(ConvertJob(**job))
    assert os.listdir(tmp_path) == []


def _tree(path: Path, arrays: dict[str, Any]) -> str:
    with uproot.recreate(path) as file:
        ones = np.ones(2, np.uint32)
        arrays = {"run": ones, "luminosityBlock": ones, "event": np.arange(2, dtype=np.uint64), **arrays}
        file.mktree("Events", {name: array.dtype for name, array in arrays.items()}).extend(arrays)
    return str(path)


def test_weights_that_cannot_be_normalised_stop(tmp_path: Path) -> None:
    for second, total in ((-1, "0"), (-2, "-1")):
        weights = {"genWeight": np.float32([1, second]), "x": np.ones(2, np.float32)}
        path = _tree(tmp_path / "a.root", weights)
        with pytest.raises(NanoMLError, match=f"weights of its events add up to {total}, .* Look at genWeight"):
            convert_files(ConvertJob([path], tmp_path / "a.h5", ["x"], {}, Sample("a", "a", 1.0), ["a"], 1.0))


def test_each_event_of_simulation_without_weights_counts_one(tmp_path: Path) -> None:
    pileup = {"Pileup_nTrueInt": np.ones(2, np.float32), "x": np.ones(2, np.float32)}
    plain, skimmed = _tree(tmp_path / "plain.root", pileup), tmp_path / "skimmed.root"
    skim_file(SkimJob(plain, skimmed, keep=("x",), cut="event == 1"))
    for source, events in ((plain, 2), (str(skimmed), 1)):
        output = tmp_path / "a.h5"
        metadata = convert_files(ConvertJob([source], output, ["x"], {}, Sample("a", "a", 3.0), ["a"], 10.0))
        assert metadata.datasets[0].accounting.sum_of_weights == 2
        with h5py.File(output) as file:
            assert file["events"]["genWeight"].tolist() == [1.0] * events
            assert file["events"]["weight"].tolist() == [15_000.0] * events
        assert validate_file(output).faults == {}


def test_files_that_differ_are_not_mixed(tmp_path: Path) -> None:
    weight = {"genWeight": np.ones(2, np.float32)}
    a = _tree(tmp_path / "a.root", {**weight, "x": np.ones(2, np.float32)})
    b = _tree(tmp_path / "b.root", {**weight, "x": np.ones(2, np.float64)})
    data = _tree(tmp_path / "data.root", {"x": np.ones(2, np.float32)})
    with pytest.raises(NanoMLError, match=r"b.root: x is float64, but float32 in .*a.root"):
        convert_files(ConvertJob([a, b], tmp_path / "a.h5", ["x"]))
    with pytest.raises(NanoMLError, match="mixes data .* and simulation"):
        convert_files(ConvertJob([a, data], tmp_path / "a.h5", ["x"]))


@pytest.mark.parametrize("skim_first", [True, False])
def test_skims_and_originals_are_not_mixed(tmp_path: Path, mc_files: dict[str, list[Path]], skim_first: bool) -> None:
    first, second, _ = map(str, mc_files["WZTo3LNu"])
    skim = tmp_path / "skim.root"
    skim_file(SkimJob(first, skim, cut="MET_pt > 20", keep=("MET_*",)))
    sources = [str(skim), second] if skim_first else [second, str(skim)]
    with pytest.raises(NanoMLError, match=f"{skim}: is a skim, but {second} is not: convert them separately"):
        convert_files(ConvertJob(sources, tmp_path / "a.h5", ["MET_pt"]))


WEIGHTS = np.random.default_rng(5).normal(0.5, 1, 30).astype(np.float32)


def _range(path: Path, first: int, stop: int, runs: bool = True) -> str:
    """A skim of a range of the entries of a file of 30 events, as nano_postproc.py makes it."""
    weights = WEIGHTS.astype(float)
    part = Part(first, 30, float(weights[first:stop].sum()), float(weights.sum()))
    source, steps = "Runs/genEventSumw", [Step("all", stop - first, part.weights)]
    accounting = FileAccounting("in.root", stop - first, stop - first, 17.3, source, False, steps, part=part)
    branches = {name: Branch(name, "float32", "flat", "", None, "float") for name in ("genWeight", "x")}
    identifiers = {name: Branch(name, "uint32", "flat", "", None, "") for name in ("run", "luminosityBlock", "event")}
    numbers = np.arange(first, stop)
    with NanoWriter(path, {**identifiers, **branches}, "ZLIB:1") as writer:
        values = {name: numbers.astype(np.uint32) for name in identifiers}
        writer.events.extend({**values, "genWeight": WEIGHTS[first:stop], "x": numbers.astype(np.float32)})
        if runs:
            sums = {"genEventSumw": Branch("genEventSumw", "float64", "flat", "", None, "double")}
            writer.write_tree("Runs", sums, {"genEventSumw": np.array([20.5, -3.2] if first == 0 else [])})
        writer.finish(Provenance("skim", Accounting([accounting])).tree())
    return str(path)


def _weights(sources: list[str], output: Path, **settings: Any) -> dict[float, float]:
    convert_files(ConvertJob(sources, output, ["x"], {}, Sample("a", "a", 2.0), ["a"], 10.0, **settings))
    with h5py.File(output) as file:
        return dict(zip(file["events"]["x"].tolist(), file["events"]["weight"].tolist()))


@pytest.mark.parametrize("runs", [True, False])
def test_ranges_of_a_file_have_its_weights(tmp_path: Path, runs: bool) -> None:
    """With a luminosity JSON, nano_postproc.py writes Runs for the first range only."""
    expected = _weights([_range(tmp_path / "whole.root", 0, 30)], tmp_path / "whole.h5")
    assert len(expected) == 30
    ends = (0, 4, 5, 21, 30)
    ranges = [
        _range(tmp_path / f"{first}.root", first, stop, runs or first == 0) for first, stop in zip(ends, ends[1:])
    ]
    ranges = [ranges[number] for number in (2, 0, 3, 1)]
    assert _weights(ranges, tmp_path / "a.h5") == expected
    merge_files(MergeJob(ranges[1:], tmp_path / "some.root"))
    merge_files(MergeJob([ranges[0], str(tmp_path / "some.root")], tmp_path / "all.root"))
    assert _weights([str(tmp_path / "all.root")], tmp_path / "b.h5") == expected
    with pytest.raises(NanoMLError, match=r"4.root: was made from entry 4 of in.root, as .*some.root was"):
        _weights([ranges[0], str(tmp_path / "some.root"), ranges[3]], tmp_path / "c.h5")
    with pytest.raises(NanoMLError, match=r"4.root: was made from entry 4 of in.root, as .*some.root was"):
        merge_files(MergeJob([str(tmp_path / "some.root"), ranges[3]], tmp_path / "c.root"))
    assert not (tmp_path / "c.h5").exists()
    assert not (tmp_path / "c.root").exists()


def test_entries_that_are_lacking_are_scaled_if_that_is_allowed(tmp_path: Path) -> None:
    sources = [_range(tmp_path / "0.root", 0, 4), _range(tmp_path / "21.root", 21, 30)]
    with pytest.raises(NanoMLError, match=r"0.root: lacks entries 4 to 20 of in.root, .* Or allow gaps"):
        _weights(sources, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
    found = _weights(sources, tmp_path / "a.h5", allow_gaps=True)
    kept = [0, 1, 2, 3, *range(21, 30)]
    weights = WEIGHTS.astype(float)
    total = 17.3 * weights[kept].sum() / weights.sum()
    assert found == pytest.approx({float(n): weights[n] * 2.0 * 1000 * 10.0 / total for n in kept}, rel=1e-6)
    metadata = metadata_content(tmp_path / "a.h5")
    assert metadata["datasets"][0]["gaps"] == [{"file": "in.root", "first": 4, "stop": 21}]
    assert metadata["datasets"][0]["books"]["sum_of_weights"] == pytest.approx(total, rel=1e-14)
    assert convert_summary({"a.h5": metadata})[1] == (
        "WARNING a.h5: entries 4 to 20 of in.root were not read. The normalisation is scaled by the weights that were."
    )


def test_patterns_choose_event_level_branches(made_files: dict[str, Path]) -> None:
    with RootFile(made_files["made_v15_mc"]) as file:
        assert event_level_branches(file, ["MET_pt", "PuppiMET_p[ht]i"])[0] == ["MET_pt", "PuppiMET_phi"]
        with pytest.raises(NanoMLError, match='no event-level branch matches "Nope_'):
            event_level_branches(file, ["Nope_*"])


def test_half_precision_is_by_choice_and_never_overflows(tmp_path: Path, skims: list[str]) -> None:
    jets = {"Jet": StoredCollection(("pt", "eta", "nElectrons"), 2)}
    job = ConvertJob(skims, tmp_path / "a.h5", ["ZCand_mass", "MET_pt"], jets, float16=["Jet_*", "ZCand_*"])
    metadata = convert_files(job)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["events"].dtype["ZCand_mass"] == np.float16
        assert file["events"].dtype["MET_pt"] == np.float32
        assert file["Jet"].dtype["pt"] == np.float16
        assert file["Jet"].dtype["nElectrons"] == np.int32
    assert metadata.features[0].dtype == "float16"
    path = _tree(tmp_path / "big.root", {"genWeight": np.ones(2, np.float32), "x": np.array([1, 7e4], np.float32)})
    with pytest.raises(NanoMLError, match="x: 1 values are beyond 65504"):
        convert_files(ConvertJob([path], tmp_path / "b.h5", ["x"], float16=["x"]))


def test_what_stands_for_no_value_is_said_by_selection_or_configuration(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from MLTools.NanoML.selection import Column, Selection\n\n\n"
        "class Mine(Selection):\n"
        "    branches = ('MET_pt',)\n"
        "    columns = {'x': Column('f4', 'a distance [cm]', missing=-9.0), 'y': Column('f4', 'another', missing=-9.0)}\n\n"
        "    def select(self, events, cutflow):\n"
        "        return events, {'x': events.MET.pt, 'y': events.MET.pt}\n"
    )
    source = sorted((sample / "WZTo3LNu_Pt100").glob("*.root"))[0]
    skim = tmp_path / "skim.root"
    skim_file(SkimJob(str(source), skim, "mine.py:Mine", str(tmp_path), ("MET_*", "Jet_*")))
    jets = {"Jet": StoredCollection(("pt", "eta"), 2)}
    said = {"Jet_*": [-1.0, -2.0], "y": []}
    job = ConvertJob([str(skim)], tmp_path / "a.h5", ["x", "y", "MET_pt"], jets, no_value=said)
    convert_files(job)
    metadata = read_metadata(job.output)
    assert [column.missing for column in metadata.features] == [(-9.0,), (), None]
    assert [column.missing for column in metadata.objects["Jet"].fields] == [(-1.0, -2.0)] * 2
    with pytest.raises(NanoMLError, match=r'convert\.missing: "z" is not a column that is converted'):
        convert_files(replace(job, no_value={"z": [1.0]}))


def test_the_maximum_follows_from_a_quantile(tmp_path: Path, skims: list[str]) -> None:
    counts = np.concatenate([uproot.open(path)["Events/nJet"].array(library="np") for path in skims])
    for share in (0.5, 0.9, 1.0):
        objects = {"Jet": StoredCollection(("pt",), None, quantile=share)}
        metadata = convert_files(ConvertJob(skims[:1], tmp_path / "a.h5", ["MET_pt"], objects, survey=skims))
        most = metadata.objects["Jet"].max
        assert (counts <= most).mean() >= share
        assert most == 1 or (counts <= most - 1).mean() < share


NAN = float("nan")


@pytest.mark.parametrize(
    "values",
    [
        np.array([1, NAN, -np.inf, 3, 1, np.inf, NAN, -0.0, 0.0, 3], np.float32),
        np.array([1, 2**64 - 1, 0, 2**63, 1, 0, 2**64 - 2], np.uint64),
        np.array([1, -(2**63), 2**63 - 1, 0, -1, 1, -(2**63) + 1], np.int64),
        np.array([False, True, True, False]),
    ],
    ids=lambda values: str(values.dtype),
)
def test_objects_are_sorted_as_documented(tmp_path: Path, values: Any) -> None:
    both, numbers = np.concatenate([values, values[::-1]]), np.arange(len(values), dtype=np.int32)
    fields = {"x": both, "at": np.concatenate([numbers, numbers])}
    things = ak.zip({name: ak.unflatten(field, [len(values)] * 2) for name, field in fields.items()})
    with uproot.recreate(tmp_path / "a.root") as file:
        tree = {"run": "u4", "luminosityBlock": "u4", "event": "u8", "genWeight": "f4"}
        types = {**tree, "Thing": ak.type(things).content}
        file.mktree("Events", types, field_name=lambda outer, inner: f"{outer}_{inner}").extend(
            {**{name: np.ones(2, kind) for name, kind in tree.items()}, "Thing": things}
        )
    for order in ("x", "-x"):
        objects = {"Thing": StoredCollection((), len(values), order)}
        convert_files(ConvertJob([str(tmp_path / "a.root")], tmp_path / "a.h5", [], objects))
        with h5py.File(tmp_path / "a.h5") as file:
            found = file["Thing"]["at"]
        for event, keys in enumerate((values.tolist(), values[::-1].tolist())):
            places = [at for at, key in enumerate(keys) if key == key]
            expected = sorted(places, key=lambda at: -keys[at] if order == "-x" else keys[at])
            assert found[event].tolist() == expected + [at for at, key in enumerate(keys) if key != key]


FEATURES = ("MET", "nGoodJet", "Good_sumPt", "MET_phi")
FEW = Region("few", Expression("nGoodJet < 3", "a.yaml:1: regions.few"))
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
    assert same(rows, expected)
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
    estimate = Estimate("WZ", FEW, Transfer("WZ", {"nominal": Expression("0.5", "")}), True, [])
    found, rows = converted(shifted_skims.shifted, tmp_path / "shifted.h5", estimate=estimate, regions=[FEW])
    wanted, expected = converted(shifted_skims.nominal, tmp_path / "nominal.h5", estimate=estimate, regions=[FEW])
    assert same(rows, expected)
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
    settings = {"objects": objects, "shifts": ["jes", "jerD*"], "memory": 0.02}
    found, rows = converted(shifted_skims.shifted, tmp_path / "all.h5", **settings)
    assert found == replace(wanted, shifts=("jesUp", "jesDown", "jerDown"))
    assert same(rows, nominal)
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
    transfer = Transfer("WZ", {"nominal": Expression("0.5", ""), "fake_up": Expression("0.6", "")})
    estimate = Estimate("WZ", FEW, transfer, True, [])
    converted(shifted_skims.shifted, tmp_path / "a.h5", estimate=estimate, regions=[FEW], shifts=["jes"])
    wanted = [_read(skim, "jesUp") for skim in shifted_skims.shifted]
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
    faults = {(check, where) for check, where, _ in validate_file(tmp_path / "a.h5").faults}
    assert ("weights", "jesUp: events/weight") in faults


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
    assert same(one, other)
    (dataset,) = metadata.datasets
    assert dataset.accounting.sum_of_weights == pytest.approx(weights.astype(float).sum(), rel=1e-12)
    # from the file to the weight of training: each event has its share of the cross section, times its own weights
    table = one["events"]
    share = 0.0546 * 1000 * 59.8 / weights.astype(float).sum()
    assert np.allclose(table["weight"], share * table["genWeight"].astype(float) * table["correction"], rtol=1e-6)
    left = math.fsum(step.weights for file in dataset.accounting.files for step in file.cutflow[-1:])
    size_of_all = np.abs(weights.astype(float)).sum()
    assert abs(table["genWeight"].astype(float).sum() - left) < 1e-6 * size_of_all
