"""`nanoml init`: a new analysis, which runs as it stands."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import uproot
import yaml

from MLTools.NanoML.commands.start import TEMPLATES, create
from MLTools.NanoML.config.analysis import load
from MLTools.NanoML.errors import ConfigError, NanoMLError

ROOT = Path(__file__).resolve().parents[3]


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)


def nanoml(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return command("MLTools.NanoML.cli", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("new")
    done = nanoml("init", "my-analysis", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Now:  cd my-analysis && nanoml run analysis.yaml"
    return directory / "my-analysis"


def test_it_has_what_an_analysis_needs(analysis: Path) -> None:
    found = {str(path.relative_to(analysis)) for path in analysis.rglob("*") if path.is_file()}
    names = ("WZTo3LNu_Pt100", "WprimeToWZToLNuLL_M600", "ZGToLLG_PtG100")
    assert found == {
        ".gitignore",
        "README.md",
        "analysis.yaml",
        "selection.py",
        "test_selection.py",
        "data/README.md",
        *(f"data/{name}.root" for name in names),
    }
    assert (analysis / "README.md").read_text().startswith("# my-analysis\n")
    config = load(analysis / "analysis.yaml")
    assert config.classes == ("signal", "background")
    assert config.export is not None
    assert config.export.name == "my_analysis"  # a branch may have no minus
    assert not [path for path in analysis.glob("*.*") if path.is_file() and "{{" in path.read_text()]


def test_its_test_passes(analysis: Path) -> None:
    done = command("pytest", "-q", "-p", "no:cacheprovider", cwd=analysis)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_the_settings_in_comments_are_settings(analysis: Path) -> None:
    """With each commented line of YAML made a line of it, the file is still in order."""
    text = (analysis / "analysis.yaml").read_text()
    lines = []
    for line in text.splitlines():
        commented = (
            line.startswith("# ") and ":" in line and not line.startswith(("# The", "# What", "# this"))
        )
        lines.append("  " + line[2:] if commented else line)
    with_all = analysis / "all.yaml"
    with_all.write_text("\n".join(lines).replace("  luminosity", "luminosity") + "\n")
    try:
        found = yaml.safe_load(with_all.read_text())
        assert {"cut", "certified", "selection"} <= set(found["skim"])
        assert "objects" in found["convert"]
        assert "epochs" in found["train"]
        assert found["datasets"]["data"]["data"] is True
        load(with_all)
    finally:
        with_all.unlink()


@pytest.mark.skipif(not (ROOT / "data_processing").is_dir(), reason="data_processing/ has been taken out")
def test_the_data_side_runs(analysis: Path) -> None:
    assert nanoml("config", "check", "analysis.yaml", cwd=analysis).returncode == 0
    done = nanoml("run", "analysis.yaml", "--to", "convert", cwd=analysis)
    assert done.returncode == 0, done.stderr
    assert "signal: 766 of 2,000 events kept" in done.stderr


def test_results_are_ignored_by_git_and_the_rest_is_not(analysis: Path, tmp_path: Path) -> None:
    create(tmp_path / "mine")
    (tmp_path / "mine" / "results").mkdir()
    for name in ("results/model.onnx", "big.root", "events.h5"):
        (tmp_path / "mine" / name).touch()
    for arguments in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *arguments], cwd=tmp_path / "mine", check=True)
    done = subprocess.run(
        ["git", "ls-files"], cwd=tmp_path / "mine", capture_output=True, text=True, check=True
    )
    assert "data/WZTo3LNu_Pt100.root" in done.stdout.split()
    assert not {"results/model.onnx", "big.root", "events.h5"} & set(done.stdout.split())


def test_an_empty_directory_will_do_and_another_will_not(tmp_path: Path) -> None:
    done = nanoml("init", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Now:  nanoml run analysis.yaml"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = nanoml("init", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "not an empty directory" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not an empty directory"):
        create(tmp_path / "file")


def test_a_full_disk_leaves_nothing_behind(disk: Path) -> None:
    with pytest.raises(NanoMLError, match="the disk is full"):
        create(disk / "analysis")
    assert list(disk.iterdir()) == []


@pytest.mark.skipif(not (ROOT / "data_processing").is_dir(), reason="data_processing/ has been taken out")
def test_the_data_are_those_of_the_examples(tmp_path: Path) -> None:
    """What examples/data/small.py writes is what is shipped."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "data" / "small.py"), str(tmp_path)], check=False
    )
    assert done.returncode == 0
    shipped = sorted((TEMPLATES / "data").glob("*.root"))
    assert len(shipped) == 3
    assert sum(path.stat().st_size for path in shipped) < 1_000_000
    for path in shipped:
        with uproot.open(path) as old, uproot.open(tmp_path / path.name) as new:
            assert old.keys() == new.keys()
            for tree in ("Events", "Runs", "LuminosityBlocks"):
                assert old[tree].keys() == new[tree].keys()
                for name in old[tree].keys():
                    assert old[tree][name].array().tolist() == new[tree][name].array().tolist(), name


def test_the_templates_belong_to_the_package() -> None:
    """An installed wheel has them: they are package data."""
    if importlib.util.find_spec("tomllib") is None:
        pytest.skip("reading pyproject.toml takes Python 3.11")
    import tomllib

    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    matched = {path for pattern in data["MLTools.NanoML"] for path in (ROOT / "python").glob(pattern)}
    templates = (ROOT / "python" / "templates" / "init").rglob("*")
    assert {path for path in templates if path.is_file() and "__pycache__" not in path.parts} <= matched
