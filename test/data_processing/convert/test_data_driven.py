"""Regions, and classes that are estimated from data: transfer x (data - simulation), event for event and as sums."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
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

from data_processing.convert.convert import ConvertJob, convert_files
from data_processing.convert.expressions import Expression, Region
from data_processing.convert.validation import validate_file
from data_processing.merge.merge import MergeJob, merge_files
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.load import load
from MLTools.NanoML.contracts.hdf5 import ConvertedRegion, DataDrivenPart, HDF5Metadata, read_metadata
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.inspection import inspect_file
from MLTools.NanoML.workflow.pipeline import pipeline_stages
from services.configurations import run_stages

Made = tuple[Path, dict[str, HDF5Metadata]]

CONFIG = """\
luminosity: 10
datasets:
  signal: {files: signal/*.root, class: signal, cross_section: 0.02}
  WZ: {files: WZ/*.root, class: WZ, cross_section: 0.05}
  ZZ: {files: ZZ/*.root, cross_section: 0.03, weight: 2 - x}
  EGamma: {files: EGamma/*.root, data: true}
  Muon: {files: Muon/*.root, data: true}
  MET: {files: MET/*.root, data: true}
regions: {SR: isTight, CR: isTight && nB > 0, sideband: "!isTight"}
data_driven:
  fakes: {from: [Muon, EGamma], region: sideband, weight: 0.1 + 0.2 * x, subtract: [WZ, ZZ], into: {SR: nB == 0, CR: nB > 0}}
convert: {features: [x]}
"""
PARTS = ["fakes_from_EGamma", "fakes_from_Muon", "fakes_less_WZ", "fakes_less_ZZ"]
DATA = ("EGamma", "Muon", "MET")
CROSS_SECTIONS = {"signal": 0.02, "WZ": 0.05, "ZZ": 0.03}
FIELDS = np.dtype([
    ("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("x", "f4"), ("isTight", "?"), ("nB", "i4"), ("genWeight", "f4"),
])  # fmt: skip


def events_of(seed: int, count: int, is_data: bool, first: int = 0) -> NDArray[Any]:
    """Events whose numbers count up from the first; of simulation, some have a negative weight."""
    random = np.random.default_rng(seed)
    found = np.zeros(count, FIELDS)
    found["run"], found["luminosityBlock"] = (320_000 if is_data else 1), 1
    found["event"] = np.arange(first, first + count)
    found["x"], found["isTight"] = random.random(count), random.random(count) < 0.4
    found["nB"] = random.integers(0, 3, count)
    found["genWeight"] = 1 if is_data else np.where(random.random(count) < 0.2, -2.0, 3.0)
    return found


def write(path: Path, rows: NDArray[Any]) -> None:
    """A NanoAOD file; data have no generator weight."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_data = path.parent.name in DATA
    names = [name for name in FIELDS.names or () if not (is_data and name == "genWeight")]
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {name: FIELDS[name] for name in names})
        if len(rows):
            tree.extend({name: rows[name] for name in names})


@dataclass(frozen=True)
class Expected:
    """The events of a part with their weights, by plain arithmetic."""

    rows: NDArray[Any]
    weights: NDArray[np.float64]


def expected(samples: dict[str, list[NDArray[Any]]]) -> dict[str, Expected]:
    """What each part must have, from the events of the files of each dataset."""
    found, seen = {}, set[tuple[int, int, int]]()
    for name in ("EGamma", "Muon"):
        kept = []
        for row in np.concatenate(samples[name]):
            numbers = tuple(int(row[key]) for key in ("run", "luminosityBlock", "event"))
            if not row["isTight"] and numbers not in seen:
                kept.append(row)
                seen.add(numbers)
        rows = np.array(kept, FIELDS)
        found[f"fakes_from_{name}"] = Expected(rows, 0.1 + 0.2 * rows["x"].astype(float))
    for name in ("WZ", "ZZ"):
        every = np.concatenate(samples[name])
        scale = CROSS_SECTIONS[name] * 1000 * 10 / every["genWeight"].sum(dtype=float)
        rows = every[~every["isTight"]]
        own = 2 - rows["x"].astype(float) if name == "ZZ" else 1.0
        found[f"fakes_less_{name}"] = Expected(
            rows, -scale * rows["genWeight"] * own * (0.1 + 0.2 * rows["x"].astype(float))
        )
    return found


def convert(directory: Path, samples: dict[str, list[NDArray[Any]]], text: str = CONFIG) -> dict[str, HDF5Metadata]:
    """Write the files of datasets and convert them, as jobs do; the metadata of each HDF5 file."""
    for name, files in samples.items():
        for number, rows in enumerate(files):
            write(directory / name / f"{number}.root", rows)
    (directory / "a.yaml").write_text(text)
    run_stages(directory / "a.yaml", "convert")
    hdf5 = directory / "a" / "hdf5"
    return {path.stem: read_metadata(path) for path in hdf5.glob("*.h5")}


def run(directory: Path, *options: str) -> None:
    done = CliRunner().invoke(nanoml, ["run", str(directory / "a.yaml"), *options])
    assert done.exit_code == 0, done.exception


def events(path: Path) -> Any:
    with h5py.File(path) as file:
        return file["events"][:]


def read(directory: Path, name: str) -> Any:
    return events(directory / "a" / "hdf5" / f"{name}.h5")


def some_samples() -> dict[str, list[NDArray[Any]]]:
    """Events of EGamma are in Muon, too, and one of both in MET, which comes last and of which nothing is taken."""
    shared = events_of(9, 30, True, 500)
    return {
        "signal": [events_of(1, 100, False)],
        "WZ": [events_of(2, 80, False), events_of(3, 0, False), events_of(4, 60, False, 100)],
        "ZZ": [events_of(5, 90, False)],
        "EGamma": [events_of(6, 70, True, 100), shared],
        "Muon": [np.concatenate([shared[::-1], events_of(7, 50, True, 200)]), events_of(8, 0, True)],
        "MET": [events_of(6, 20, True, 100)],
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp("fakes")
    return directory, convert(directory, some_samples())


def test_each_event_has_its_weight_times_the_transfer_and_counts_where_the_estimate_says(made: Made) -> None:
    directory, metadata = made
    assert set(metadata) == {"signal", "WZ", "ZZ", "EGamma", "Muon", "MET", *PARTS}
    for name, wanted in expected(some_samples()).items():
        rows = read(directory, name)
        assert len(rows) > 20
        for key in ("run", "luminosityBlock", "event", "x"):
            assert np.array_equal(rows[key], wanted.rows[key]), name
        assert np.allclose(rows["weight"], wanted.weights, rtol=1e-6)
        assert (rows["label"] == 2).all()
        assert np.array_equal(rows["genWeight"], wanted.rows["genWeight"])
        assert np.array_equal(rows["in_SR"], wanted.rows["nB"] == 0)
        assert np.array_equal(rows["in_CR"], wanted.rows["nB"] > 0)
        assert not rows["in_sideband"].any()  # it is no estimate for its own region
        assert metadata[name].regions == metadata["WZ"].regions
    assert read(directory, "WZ")["in_sideband"].any()
    assert (expected(some_samples())["fakes_less_WZ"].weights > 0).any()  # where a negative weight is subtracted


def test_the_metadata_say_what_came_from_where(made: Made) -> None:
    _, metadata = made
    assert metadata["WZ"].classes == ["signal", "WZ", "fakes"]
    (dataset,) = metadata["fakes_less_ZZ"].datasets
    into = (ConvertedRegion("SR", "nB == 0"), ConvertedRegion("CR", "nB > 0"))
    wanted = expected(some_samples())["fakes_less_ZZ"]
    assert dataset.data_driven == DataDrivenPart(
        "ZZ", "sideband", "0.1 + 0.2 * x", True, into, pytest.approx(wanted.weights.sum(), rel=1e-5)
    )
    steps = [(step.cut, step.events, step.weights) for step in dataset.accounting.cutflow]
    every = some_samples()["ZZ"][0]
    assert steps == [
        ("all", 90, pytest.approx(every["genWeight"].sum())),
        ("in sideband", len(wanted.rows), pytest.approx(wanted.rows["genWeight"].sum())),
    ]
    assert dataset.accounting.sum_of_weights == pytest.approx(every["genWeight"].sum())
    (muons,) = metadata["fakes_from_Muon"].datasets
    lost = int((~events_of(9, 30, True, 500)["isTight"]).sum())
    assert muons.duplicates == {"EGamma": lost}
    assert muons.accounting.duplicates == lost
    assert metadata["Muon"].datasets[0].duplicates == {"EGamma": 30}


def test_a_changed_weight_is_a_fault(made: Made, tmp_path: Path) -> None:
    path = Path(shutil.copy(made[0] / "a" / "hdf5" / "fakes_from_EGamma.h5", tmp_path))
    with h5py.File(path, "r+") as file:
        rows = file["events"][:]
        for name in ("weight", "correction"):
            rows[name][3] *= 2
        file["events"][:] = rows
    ((check, where, what),) = validate_file(path).faults
    assert (check, where) == ("sums", "events")
    assert "in its datasets" in what


def test_parts_are_shuffled_with_the_simulation(made: Made) -> None:
    directory, _ = made
    (directory / "a.yaml").write_text(CONFIG.replace("[x]", "[x], shuffle: 3"))
    run(directory, "--to", "shuffle")
    path = directory / "a" / "hdf5" / "all.h5"
    assert not validate_file(path).faults
    rows, fakes = read(directory, "all"), [read(directory, name) for name in PARTS]
    mine = rows[rows["label"] == 2]
    assert len(mine) == sum(map(len, fakes))
    total = sum(each["weight"].sum(dtype=float) for each in fakes)
    assert mine["weight"].sum(dtype=float) == pytest.approx(total, rel=1e-9)
    # simulation is there in its own right as well, and data only where they are an estimate
    assert (rows["label"] == 1).sum() == 140
    assert [each.name for each in read_metadata(path).datasets] == sorted(["signal", "WZ", *PARTS])


def test_data_of_a_region_are_no_estimate_for_that_region(tmp_path: Path) -> None:
    """Neither the weight nor the cut of `into` makes observed events of the signal region ones to train on."""
    text = CONFIG.replace('sideband: "!isTight"', "sideband: nB < 2")
    with pytest.raises(ConfigError, match=r"a.yaml:9: regions.sideband: events of EGamma are in SR as well, for which"):
        convert(tmp_path, some_samples(), text)
    assert not list(tmp_path.rglob("fakes_*"))


def test_a_transfer_weight_that_is_no_number_is_told_with_its_line(tmp_path: Path) -> None:
    message = r'a.yaml:11: data_driven.fakes.weight: cut "1e300 \* 1e300.*": .* NaN or infinite'
    with pytest.raises(ConfigError, match=message):
        convert(tmp_path, some_samples(), CONFIG.replace("0.1 + 0.2 * x", "1e300 * 1e300 * x"))


def test_columns_that_no_skim_has_are_told_before_anything_runs(tmp_path: Path) -> None:
    for name, files in some_samples().items():
        write(tmp_path / name / "0.root", files[0])
    text = CONFIG.replace("0.1 + 0.2 * x", "fake_factor").replace("SR: nB == 0", "SR: nBJet == 0")
    (tmp_path / "a.yaml").write_text(text)
    done = CliRunner().invoke(nanoml, ["run", str(tmp_path / "a.yaml")])
    lines = str(done.exception).splitlines()
    for column in ('weight: "fake_factor"', 'into.SR: "nBJet"'):
        said = f"a.yaml:11: data_driven.fakes.{column} is in no file of dataset WZ"
        (line,) = (line for line in lines if said in line)
        assert line.endswith("The same goes for ZZ, EGamma, Muon.")
    assert not any("MET" in line for line in lines)
    assert not (tmp_path / "a" / "hdf5").exists()


def test_a_weight_of_one_dataset_goes_with_others(tmp_path: Path) -> None:
    """All files have the column of the weights beside the generator's, so that they can be put together."""
    start, stop = CONFIG.index("data_driven:"), CONFIG.index("convert:")
    text = CONFIG[:start] + CONFIG[stop:].replace("[x]", "[x], shuffle: 1")
    metadata = convert(tmp_path, some_samples(), text.replace("weight: 2 - x", "class: ZZ, weight: 2 - x"))
    run(tmp_path, "--to", "shuffle")
    for name in (*metadata, "all"):
        assert not validate_file(tmp_path / "a" / "hdf5" / f"{name}.h5").faults
    assert (read(tmp_path, "WZ")["correction"] == 1).all()


WEIGHTED = """
import numpy as np
from MLTools.NanoML.selection import Column, Factor, Selection, Weight


class Weighted(Selection):
    branches = ("x", "isTight", "nB")
    columns = {"fake_factor": Column("f4", "transfer weight")}
    weights = {"scale": Weight(), "yield": Weight(keeps_yield=True)}

    def select(self, events, cutflow):
        x = np.asarray(events.x, float)
        cutflow.weigh("scale", lambda: Factor(1 + x, {"up": 1 + 2 * x, "down": np.ones(len(x))}))
        cutflow.weigh("yield", lambda: Factor(2 + x, {"up": 3 + x, "down": 3 - x}))
        passed = x > 0.1
        events, x = cutflow.cut("x", passed, events, x)
        return events, {"fake_factor": 0.5 - x}
"""


def test_simulation_is_subtracted_with_all_weights_of_the_selection(tmp_path: Path) -> None:
    (tmp_path / "weighted.py").write_text(WEIGHTED)
    for name, files in some_samples().items():
        for number, rows in enumerate(files):
            write(tmp_path / name / f"{number}.root", rows)
    text = CONFIG.replace("weight: 0.1 + 0.2 * x", "weight: fake_factor")
    (tmp_path / "a.yaml").write_text(text + "skim: {selection: 'weighted.py:Weighted', keep: [x, isTight, nB]}\n")
    run(tmp_path, "--to", "convert")
    every = np.concatenate(some_samples()["WZ"])
    x, generated = every["x"].astype(float), every["genWeight"].astype(float)
    before = generated * (1 + x)
    yields = {"nominal": 2 + x, "up": 3 + x, "down": 3 - x}
    ratio = {key: before.sum() / (before * value).sum() for key, value in yields.items()}
    kept = (x > 0.1) & ~every["isTight"]
    scale = -0.05 * 1000 * 10 / generated.sum() * generated * (0.5 - x)
    rows = read(tmp_path, "fakes_less_WZ")
    wanted = {
        "weight": (1 + x) * (2 + x) * ratio["nominal"],
        "weight_scaleUp": (1 + 2 * x) * (2 + x) * ratio["nominal"],
        "weight_scaleDown": (2 + x) * ratio["nominal"],
        "weight_yieldUp": (1 + x) * (3 + x) * ratio["up"],
        "weight_yieldDown": (1 + x) * (3 - x) * ratio["down"],
    }
    for column, factor in wanted.items():
        assert np.allclose(rows[column], (scale * factor)[kept], rtol=3e-6, atol=1e-6), column
    correction = -(wanted["weight"] * (0.5 - x))[kept]
    assert np.allclose(rows["correction"], correction, rtol=3e-6, atol=1e-6)
    # a file with the events of several, which the accounting keeps apart
    (stage,) = pipeline_stages(load(tmp_path / "a.yaml"), ["convert"])
    job = next(task for task in stage.tasks if task.name == "fakes_less_WZ").work.args[0]
    merge_files(MergeJob(list(job.sources), tmp_path / "merged.root"))
    again = convert_files(replace(job, sources=[str(tmp_path / "merged.root")], output=tmp_path / "merged.h5"))
    files = again.datasets[0].accounting.files
    assert [file.cutflow[-1].cut for file in files] == ["in sideband"] * 3
    assert [file.selected for file in files] == [file.cutflow[-1].events for file in files]
    assert sum(file.selected for file in files) == len(rows)
    assert np.array_equal(events(tmp_path / "merged.h5"), rows)
    data = read(tmp_path, "fakes_from_Muon")
    for column in wanted:  # data have no variations
        assert np.allclose(data[column], 0.5 - data["x"].astype(float), rtol=3e-6, atol=1e-6)
    for name in PARTS:
        assert not validate_file(tmp_path / "a" / "hdf5" / f"{name}.h5").faults


REAL = """\
luminosity: 1
datasets:
  ggH: {{files: {ggh}, class: signal, cross_section: 48.6}}
  EGamma: {{files: {egamma}, data: true}}
regions: {{SR: nElectron >= 2, sideband: nElectron == 1}}
data_driven:
  fakes: {{from: EGamma, region: sideband, weight: 0.1 + 0.001 * PuppiMET_pt, subtract: signal, into: {{SR: 1}}}}
convert: {{features: [PuppiMET_pt, nElectron], objects: {{Electron: {{fields: [pt, eta], max: 3}}}}, shuffle: 1}}
"""


def test_real_data(tmp_path: Path, real_files: dict[str, Path]) -> None:
    files = {"ggh": real_files["nano_v13_mc_ggh"], "egamma": real_files["nano_v13_data_egamma2022E_run359571"]}
    (tmp_path / "a.yaml").write_text(REAL.format(**files))
    run(tmp_path, "--to", "shuffle")
    rows, total = read(tmp_path, "all"), 0.0
    for name, sign in (("egamma", 1), ("ggh", -1)):
        with uproot.open(files[name]) as file:
            is_data = name == "egamma"
            names = ["nElectron", "PuppiMET_pt", *([] if is_data else ["genWeight"])]
            arrays = file["Events"].arrays(names, library="np")
            scale = 1.0 if is_data else 48.6 * 1000 / file["Runs"]["genEventSumw"].array(library="np").sum()
        generated = 1.0 if is_data else arrays["genWeight"]
        weights = sign * scale * generated * (0.1 + 0.001 * arrays["PuppiMET_pt"].astype(float))
        weights = weights[arrays["nElectron"] == 1]
        mine = rows[(rows["label"] == 1) & ((rows["run"] > 1) == is_data)]
        assert np.sort(mine["weight"]) == pytest.approx(np.sort(weights), rel=1e-6)
        total += weights.sum()
    assert rows["weight"][rows["label"] == 1].sum(dtype=float) == pytest.approx(total, rel=1e-6)
    assert not validate_file(tmp_path / "a" / "hdf5" / "all.h5").faults


# ---- any events ----

ROWS = st.lists(
    st.tuples(
        st.integers(0, 30), st.floats(0, 1, width=32), st.booleans(), st.integers(0, 2), st.sampled_from([-2.0, -0.5, 1.0, 3.0])
    ),
    max_size=12,
)  # fmt: skip


def rows_of(given: Sequence[tuple[int, float, bool, int, float]], is_data: bool, first: int = 0) -> NDArray[Any]:
    found = np.zeros(len(given), FIELDS)
    found["run"], found["luminosityBlock"] = (320_000 if is_data else 1), 1
    for number, (event, x, tight, many, weight) in enumerate(given):
        # an event of data is the same wherever it is
        random = np.random.default_rng(event)
        of_data = (event, random.random(), random.random() < 0.4, random.integers(0, 3), 1.0)
        own = of_data if is_data else (first + number, x, tight, many, weight)
        found[number] = (found["run"][number], 1, *own)
    return found


@settings(max_examples=6, derandomize=True)
@given(
    simulated=st.dictionaries(st.sampled_from(["WZ", "ZZ"]), st.lists(ROWS, min_size=1, max_size=2), min_size=2),
    data=st.dictionaries(st.sampled_from(["EGamma", "Muon"]), st.lists(ROWS, min_size=1, max_size=2), min_size=2),
)
def test_sums_close_for_any_events(
    simulated: dict[str, list[Any]], data: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    samples = some_samples()
    for name, files in simulated.items():
        # so that the sum of weights is positive
        base = np.zeros(1, FIELDS)
        base["run"], base["genWeight"], base["event"] = 1, 100, 10_000
        samples[name] = [base, *(rows_of(rows, False, 100 * number) for number, rows in enumerate(files))]
    for name, files in data.items():
        base = np.zeros(1, FIELDS)
        base["run"], base["isTight"], base["genWeight"], base["event"] = 320_000, True, 1, 10_000
        samples[name] = [base, *(rows_of(rows, True) for rows in files if rows)]
    directory = tmp_path_factory.mktemp("any")
    metadata = convert(directory, samples)
    for name, wanted in expected(samples).items():
        rows = read(directory, name)
        assert np.array_equal(rows["event"], wanted.rows["event"])
        assert np.allclose(rows["weight"], wanted.weights, rtol=1e-5, atol=1e-5)
        (dataset,) = metadata[name].datasets
        assert dataset.data_driven is not None
        assert dataset.data_driven.sum_of_weights == pytest.approx(wanted.weights.sum(), rel=1e-5, abs=1e-3)
        assert dataset.accounting.selected + dataset.accounting.duplicates == dataset.accounting.cutflow[-1].events
        assert not validate_file(directory / "a" / "hdf5" / f"{name}.h5").faults


IN_REGIONS = """\
luminosity: 59.8
datasets:
  signal: {{files: {sample}/WprimeToWZToLNuLL_M600/*_0.root, class: signal, cross_section: 0.0921}}
  WZ: {{files: {sample}/WZTo3LNu_Pt100/*_0.root, class: WZ, cross_section: 0.0546}}
regions:
  SR: abs(ZCand_mass - 91.2) < 15 && MET_pt > 40
  electrons: channel == 1 || channel == 3
  none: nGoodLepton > 100
skim: {{selection: "MLTools.NanoML.trilepton:Trilepton", keep: [MET_pt]}}
convert: {{features: [ZCand_mass, MET_pt, channel], shuffle: 1}}
"""
REGIONS = (
    ConvertedRegion("SR", "abs(ZCand_mass - 91.2) < 15 && MET_pt > 40"),
    ConvertedRegion("electrons", "channel == 1 || channel == 3"),
    ConvertedRegion("none", "nGoodLepton > 100"),
)


@pytest.fixture(scope="module")
def hdf5(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The directory of the HDF5 files of an analysis with regions."""
    directory = tmp_path_factory.mktemp("regions")
    (directory / "a.yaml").write_text(IN_REGIONS.format(sample=sample))
    run(directory, "--to", "shuffle")
    return directory / "a" / "hdf5"


@pytest.mark.parametrize("name", ["signal", "WZ", "all"])
def test_each_region_has_a_column_of_flags(hdf5: Path, name: str) -> None:
    rows = events(hdf5 / f"{name}.h5")
    inside = (abs(rows["ZCand_mass"].astype(float) - 91.2) < 15) & (rows["MET_pt"] > 40)
    assert 0 < inside.sum() < len(rows)
    assert np.array_equal(rows["in_SR"], inside)
    assert np.array_equal(rows["in_electrons"], np.isin(rows["channel"], (1, 3)))
    assert not rows["in_none"].any()  # by a column of the skim that is not stored
    assert "nGoodLepton" not in rows.dtype.names
    assert read_metadata(hdf5 / f"{name}.h5").regions == REGIONS
    assert not validate_file(hdf5 / f"{name}.h5").faults


def test_an_inspection_shows_the_regions(hdf5: Path) -> None:
    rows = events(hdf5 / "all.h5")
    found = inspect_file(hdf5 / "all.h5")
    counts = {each["name"]: each for each in found.to_json()["regions"]}
    assert counts["SR"]["cut"] == REGIONS[0].cut
    assert counts["SR"]["events"] == rows["in_SR"].sum()
    assert counts["SR"]["weights"] == pytest.approx(rows["weight"][rows["in_SR"]].sum(dtype=float))
    assert (counts["none"]["events"], counts["none"]["weights"]) == (0, 0)
    shown = CliRunner().invoke(nanoml, ["inspect", str(hdf5 / "all.h5")]).output
    assert re.search(rf"Regions\n.*\n.*\n +SR +{counts['SR']['events']} +[0-9,.]+ +abs", shown)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("MET_pt[0] > 3", "MET_pt is one number per event: it has no index"),
        ("ZCand_mas > 3", '"ZCand_mas" is in no skim .* Did you mean "ZCand_mass"'),
    ],
)
def test_a_column_that_is_not_there_is_told_before_anything_runs(
    tmp_path: Path, sample: Path, cut: str, message: str
) -> None:
    (tmp_path / "a.yaml").write_text(IN_REGIONS.format(sample=sample).replace("nGoodLepton > 100", cut))
    done = CliRunner().invoke(nanoml, ["run", str(tmp_path / "a.yaml")])
    assert re.search(rf"a.yaml:8: regions.none: .*{message}", str(done.exception))
    assert not (tmp_path / "a" / "skims").exists()


def test_a_column_that_a_later_file_lacks_is_told_with_its_line(tmp_path: Path, hdf5: Path, sample: Path) -> None:
    skim = sorted((hdf5.parent / "skims" / "WZ").glob("*.root"))[0]
    region = Region("SR", Expression("channel == 1", "a.yaml:3: regions.SR"))
    job = ConvertJob([str(sample / "WZTo3LNu" / "WZTo3LNu_0.root")], tmp_path / "b.h5", ["MET_pt"], regions=[region])
    message = r'a.yaml:3: regions.SR: cut "channel == 1": column 1: .* has no branch channel'
    with pytest.raises(ConfigError, match=message):
        convert_files(job)
    assert list(tmp_path.iterdir()) == []
    convert_files(ConvertJob([str(skim)], tmp_path / "b.h5", ["MET_pt"], regions=[region]))
    assert events(tmp_path / "b.h5")["in_SR"].any()
