"""Regions: a column of flags for each, from the skims to the HDF5 files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from data_processing.convert.convert import ConvertJob, convert_files
from data_processing.convert.expressions import Expression, Region
from data_processing.convert.validation import validate_file
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.contracts.hdf5 import ConvertedRegion, read_metadata
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.inspection import inspect_file

CONFIG = """\
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


def run(*arguments: object) -> str:
    done = CliRunner().invoke(nanoml, [str(argument) for argument in arguments])
    return "" if done.exit_code == 0 else str(done.exception)


@pytest.fixture(scope="module")
def hdf5(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The directory of the HDF5 files of an analysis with regions."""
    path = tmp_path_factory.mktemp("regions") / "a.yaml"
    path.write_text(CONFIG.format(sample=sample))
    assert run("run", path, "--to", "shuffle") == ""
    return path.parent / "a" / "hdf5"


def events(path: Path) -> Any:
    with h5py.File(path) as file:
        return file["events"][:]


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


def test_what_has_other_regions_is_converted_again(hdf5: Path) -> None:
    path = hdf5.parent.parent / "a.yaml"
    text = path.read_text()
    assert "Everything is up to date" in CliRunner().invoke(nanoml, ["run", str(path), "--to", "shuffle"]).output
    path.write_text(text.replace("> 100", "> 99"))
    said = CliRunner().invoke(nanoml, ["run", str(path), "--to", "shuffle", "--dry-run"]).output
    path.write_text(text)
    assert "convert: 2 of 2 to do" in said
    assert "regions" in said


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
    path = tmp_path / "a.yaml"
    path.write_text(CONFIG.format(sample=sample).replace("nGoodLepton > 100", cut))
    with pytest.raises(AssertionError, match=rf"a.yaml:8: regions.none: .*{message}"):
        assert run("run", path) == ""
    assert not (tmp_path / "a" / "skims").exists()


def test_a_column_that_a_later_file_lacks_is_told_with_its_line(tmp_path: Path, hdf5: Path, sample: Path) -> None:
    skim = sorted((hdf5.parent / "skims" / "WZ").glob("*.root"))[0]
    region = Region("SR", Expression("channel == 1", "a.yaml:3: regions.SR"))
    job = ConvertJob([str(sample / "WZTo3LNu" / "WZTo3LNu_0.root")], tmp_path / "b.h5", ["MET_pt"], regions=[region])
    with pytest.raises(
        ConfigError, match=r'a.yaml:3: regions.SR: cut "channel == 1": column 1: .* has no branch channel'
    ):
        convert_files(job)
    assert list(tmp_path.iterdir()) == []
    convert_files(ConvertJob([str(skim)], tmp_path / "b.h5", ["MET_pt"], regions=[region]))
    assert events(tmp_path / "b.h5")["in_SR"].any()
