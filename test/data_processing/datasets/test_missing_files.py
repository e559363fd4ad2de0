"""Files that cannot be read are left out where the user allows that, and nowhere else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.contracts import missing
from MLTools.NanoML.contracts.hdf5 import metadata_content
from MLTools.NanoML.rootio.rootfile import RootFile

DATASETS = """\
datasets:
  WZ: {files: data/WZ_*.root, class: WZ, cross_section: 5.05}
  ZG: {files: data/ZG_*.root, class: ZG, cross_section: 1.2}
luminosity: 59.8
"""
SKIM = "skim: {cut: 'nMuon >= 2', keep: [MET_pt], workers: 1}\n"
CONVERT = "convert: {features: [MET_pt]}\n"


@pytest.fixture(autouse=True)
def _settings(read_with: Callable[..., None]) -> None:
    """What a test sets does not stay."""


@pytest.fixture
def analysis(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of WZ, of which the second is half a file, and two of ZG."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        shutil.copy(sample / "WZTo3LNu_Pt100" / f"WZTo3LNu_Pt100_{number}.root", data / f"WZ_{number}.root")
    for number in range(2):
        shutil.copy(sample / "ZGToLLG" / f"ZGToLLG_{number}.root", data / f"ZG_{number}.root")
    damage(data / "WZ_1.root")
    return tmp_path


def damage(path: Path) -> None:
    path.with_suffix(".good").write_bytes(path.read_bytes())
    path.write_bytes(path.read_bytes()[:200_000])


def mend(path: Path) -> None:
    path.with_suffix(".good").rename(path)


def configured(directory: Path, *sections: str) -> Path:
    path = directory / "a.yaml"
    path.write_text(DATASETS + "".join(sections))
    return path


def called(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "300"}).invoke(nanoml, [str(word) for word in arguments])


def passes(*arguments: object) -> str:
    """What a command prints that ends well."""
    done = called(*arguments)
    assert done.exit_code == 0, done.exception or done.output
    return done.output


def fails(*arguments: object) -> str:
    """The error of a command."""
    done = called(*arguments)
    assert done.exit_code == 1, done.output
    return str(done.exception)


def entries(*paths: Path) -> int:
    total = 0
    for path in paths:
        with RootFile(path) as file:
            total += file.entries
    return total


def test_without_an_allowance_nothing_is_left_out(analysis: Path) -> None:
    config = configured(analysis, SKIM, CONVERT)
    told = fails("skim", config)
    assert "WZ_1.root: cannot be read" in told
    assert told.endswith(
        "Nothing was written for it; 4 of 5 files are done. Run the same command again to retry, or allow a loss with "
        "--max-missing-files 1."
    )
    assert len(list((analysis / "a" / "skims").rglob("*.root"))) == 4
    assert missing.read(analysis / "a") == {}
    for limit in ("0", "33 %"):
        larger = "a loss" if limit == "0" else f"a larger loss than {limit}"
        told = fails("skim", config, "--max-missing-files", limit)
        assert f"to retry, or allow {larger} with --max-missing-files 1." in told
        assert missing.read(analysis / "a") == {}
    for limit in ("1", "40%"):
        passes("skim", config, "--max-missing-files", limit)
        assert [len(files) for files in missing.read(analysis / "a").values()] == [1]


def test_a_loss_is_in_the_accounting_until_it_is_mended(analysis: Path) -> None:
    config, workdir, limit = configured(analysis, SKIM, CONVERT), analysis / "a", "34 %"
    bad, good = (analysis / "data" / "WZ_1.root", [analysis / "data" / f"WZ_{number}.root" for number in (0, 2)])
    assert f"WZ: {bad} is left out: cannot be read" in passes("run", config, "--max-missing-files", limit)
    assert {name: [each.file for each in files] for name, files in missing.read(workdir).items()} == {"WZ": [str(bad)]}
    (described,) = metadata_content(workdir / "hdf5" / "WZ.h5")["datasets"]
    assert [each["file"] for each in described["missing"]] == [str(bad)]
    assert described["books"]["entries"] == entries(*good)
    assert "missing" not in metadata_content(workdir / "hdf5" / "ZG.h5")["datasets"][0]
    shown = called("inspect", workdir / "hdf5" / "WZ.h5").output
    assert "left out" in shown
    assert "WZ_1.root" in shown
    content = json.loads(called("inspect", "--json", workdir / "hdf5" / "WZ.h5").output)
    assert content["datasets"][0]["missing"][0]["file"] == str(bad)

    again = passes("run", config, "--max-missing-files", limit)
    assert "skim: 1 of 5 to do" in again
    assert "convert: up to date (2 of 2)" in again

    assert "4 of 5 files are done" in fails("run", config)
    assert "convert: up to date" in called("convert", config).output

    mend(bad)
    passes("run", config)
    assert missing.read(workdir) == {}
    (described,) = metadata_content(workdir / "hdf5" / "WZ.h5")["datasets"]
    assert "missing" not in described
    assert described["books"]["entries"] == entries(bad, *good)


def test_the_limit_is_one_of_each_dataset_and_never_all(analysis: Path) -> None:
    damage(analysis / "data" / "ZG_0.root")
    config = configured(analysis, SKIM, "read: {max_missing_files: 1}\n")
    passes("skim", config)
    assert {name: len(files) for name, files in missing.read(analysis / "a").items()} == {"WZ": 1, "ZG": 1}
    damage(analysis / "data" / "ZG_1.root")
    shutil.rmtree(analysis / "a")
    told = fails("skim", config, "--max-missing-files", "100 %")
    assert "ZG_0" in told
    assert "3 of 5" not in told
    assert missing.read(analysis / "a") == {}


def test_the_first_file_is_no_better_than_others(analysis: Path) -> None:
    mend(analysis / "data" / "WZ_1.root")
    damage(analysis / "data" / "WZ_0.root")
    config = configured(analysis, SKIM, CONVERT)
    assert "4 of 5 files are done" in fails("skim", config)
    passes("run", config, "--max-missing-files", "1")
    assert [each.file for each in missing.read(analysis / "a")["WZ"]] == [str(analysis / "data" / "WZ_0.root")]


def test_other_failures_are_never_forgiven(analysis: Path) -> None:
    config = configured(analysis, SKIM.replace("MET_pt", "Nothing_pt"))
    assert "Nothing_pt" in fails("skim", config, "--max-missing-files", "1")
    assert missing.read(analysis / "a") == {}


def test_without_a_skim_convert_leaves_them_out(analysis: Path) -> None:
    config, file = configured(analysis, CONVERT), analysis / "a" / "hdf5" / "WZ.h5"
    bad = analysis / "data" / "WZ_1.root"
    assert "allow a loss with --max-missing-files 1." in fails("convert", config)
    passes("convert", config, "--max-missing-files", "1")
    (described,) = metadata_content(file)["datasets"]
    assert [each["file"] for each in described["missing"]] == [str(bad)]
    before = file.stat().st_mtime_ns
    assert "convert: up to date" in called("run", config).output
    assert file.stat().st_mtime_ns == before
    mend(bad)
    passes("run", config)
    assert "missing" not in metadata_content(file)["datasets"][0]


def test_files_without_a_configuration(analysis: Path) -> None:
    files = sorted((analysis / "data").glob("WZ_*.root"))
    skim = ("skim", "--cut", "nMuon >= 2", "--keep", "MET_pt", "--workers", 1, "-o", "skims", *files)
    fails(*skim)
    assert f"{files[1]} is left out" in passes(*skim, "--max-missing-files", "1")
    assert sorted(path.name for path in Path("skims").glob("*.root")) == ["WZ_0.root", "WZ_2.root"]
    assert [each.file for each in missing.read(Path("skims"))[""]] == [str(files[1])]
    mend(files[1])
    passes(*skim)
    assert missing.read(Path("skims")) == {}


@pytest.mark.parametrize("output", ["all.h5", "each"])
def test_conversion_without_a_configuration(analysis: Path, output: str) -> None:
    files = sorted((analysis / "data").glob("WZ_*.root"))
    convert = ("convert", "--branches", "MET_pt", "-o", output, *files)
    fails(*convert)
    passes(*convert, "--max-missing-files", "1")
    if output == "all.h5":
        (described,) = metadata_content("all.h5")["datasets"]
        assert [each["file"] for each in described["missing"]] == [str(files[1])]
    else:
        assert sorted(path.name for path in Path("each").glob("*.h5")) == ["WZ_0.h5", "WZ_2.h5"]


def test_a_limit_that_is_none(analysis: Path) -> None:
    done = called("run", configured(analysis, SKIM), "--max-missing-files", "few")
    assert done.exit_code == 2
    assert 'write a number of files, or a percentage such as "1 %"' in done.output
