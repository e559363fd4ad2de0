"""`nanoml init`: a new analysis, which runs as it is; `nanoml` alone, `--version` and completion."""

from __future__ import annotations

import importlib.util
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uproot
import yaml
from click.testing import CliRunner

from MLTools.NanoML import __version__
from MLTools.NanoML.cli import nanoml as command_line
from MLTools.NanoML.commands.start import TEMPLATES, advice, create
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from processes import nanoml

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("new")
    done = nanoml("init", "my-analysis", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Now:  cd my-analysis && nanoml run analysis.yaml"
    return directory / "my-analysis"


def test_it_has_what_an_analysis_needs(analysis: Path) -> None:
    found = {str(path.relative_to(analysis)) for path in analysis.rglob("*") if path.is_file()}
    beside = {".gitignore", ".pytest.ini", "README.md", "analysis.yaml", "selection.py", "test_selection.py"}
    data = ("README.md", "WZTo3LNu_Pt100.root", "WprimeToWZToLNuLL_M600.root", "ZGToLLG_PtG100.root")
    assert found == beside | {f"data/{name}" for name in data}
    assert (analysis / "README.md").read_text().startswith("# my-analysis\n")
    config = load(analysis / "analysis.yaml")
    assert config.classes == ("signal", "background")
    assert config.export is not None
    assert config.export.name == "my_analysis"  # a branch may have no minus
    assert not [path for path in analysis.glob("*.*") if path.is_file() and "{{" in path.read_text()]


def test_its_test_passes(analysis: Path) -> None:
    """In a clone, too, whose settings of pytest need plugins that `make demo` does not install."""
    shutil.copy(ROOT / "pyproject.toml", analysis.parent)
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:timeout"]
    done = subprocess.run(line, cwd=analysis, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_the_settings_in_comments_are_settings(analysis: Path) -> None:
    """With each commented line of YAML made a line of it, the file is still in order."""
    text = (analysis / "analysis.yaml").read_text()
    lines = []
    for line in text.splitlines():
        commented = line.startswith("# ") and ":" in line and not line.startswith(("# The", "# Everything", "# this"))
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
    done = subprocess.run(["git", "ls-files"], cwd=tmp_path / "mine", capture_output=True, text=True, check=True)
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
    """What examples/nano/small.py writes is what is shipped."""
    script = runpy.run_path(str(ROOT / "examples" / "nano" / "small.py"))
    # which compresses in less time
    script["join"].__globals__["NanoWriter"] = lambda path, branches, _: NanoWriter(path, branches, "ZLIB:1")
    for name in script["PROCESSES"]:
        sources = [script["HERE"] / name / f"{name}_{number}.root" for number in script["FILES"]]
        script["join"](sources, tmp_path / f"{name}.root")
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


def steps(directory: Path) -> list[str]:
    return [step for each in advice(directory) for step, _ in each.steps]


def test_in_an_empty_directory_one_begins(tmp_path: Path) -> None:
    done = nanoml(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("  nanoml init myanalysis ")
    assert "nanoml doctor" in done.stdout


def test_at_the_top_of_a_checkout_there_is_the_example() -> None:
    assert "nanoml run examples/trilepton.yaml" in steps(ROOT)


def test_a_new_analysis_is_run_and_its_results_are_looked_at(tmp_path: Path) -> None:
    create(tmp_path)
    assert "nanoml status analysis.yaml" not in steps(tmp_path)
    run = ["nanoml run analysis.yaml --dry-run", "nanoml run analysis.yaml"]
    assert steps(tmp_path)[:3] == ["nanoml config check analysis.yaml", *run]
    training = tmp_path / "results" / "training"
    training.mkdir(parents=True)
    (training / "network_0.pt").touch()
    assert "nanoml evaluate analysis.yaml" in steps(tmp_path)
    (training / "report.html").touch()
    (tmp_path / "results" / "model.onnx").touch()
    (tmp_path / "results" / "scores" / "WZ").mkdir(parents=True)
    (tmp_path / "results" / "scores" / "WZ" / "a b.root").touch()
    found = steps(tmp_path)
    assert found[:2] == run
    assert {"results/training/report.html", "nanoml inspect 'results/scores/WZ/a b.root'"} <= set(found)
    assert {"nanoml inspect results/model.onnx", "nanoml verify results/model.onnx"} <= set(found)
    assert "nanoml evaluate analysis.yaml" not in found
    (tmp_path / "jobs" / "analysis-1").mkdir(parents=True)
    assert "nanoml status analysis.yaml" in steps(tmp_path)


def test_mistakes_are_shown_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("datasets: {a: {file: b}}\n")
    (tmp_path / "other.yaml").write_text("name: something else\n")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    first, *_ = advice(tmp_path)
    assert first.about == "mine.yaml: has mistakes"
    assert first.steps[0][0] == "nanoml config check mine.yaml"
    assert nanoml("config", "check", "mine.yaml", cwd=tmp_path).returncode == 2


def test_many_analyses_and_files_are_told_in_short(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"a{number}.yaml").write_text("datasets: {}\n")
        (tmp_path / f"b{number}.root").touch()
    told = [each.about for each in advice(tmp_path)]
    more = ["and 3 more analyses: a3.yaml, a4.yaml, a5.yaml", "files: b0.root, b1.root, b2.root and 3 more"]
    assert told[3:] == [*more, "anywhere"]


def test_every_step_is_a_command_that_there_is(tmp_path: Path) -> None:
    create(tmp_path)
    (tmp_path / "x.root").touch()
    for step in [*steps(tmp_path), *steps(ROOT)]:
        words = shlex.split(step)
        if words[0] == "nanoml" and not words[1].startswith("-"):
            assert command_line.get_command(None, words[1]) is not None  # type: ignore[arg-type]


def test_the_version_tells_what_a_report_of_a_bug_needs(tmp_path: Path) -> None:
    done = nanoml("--version", cwd=tmp_path, CMSSW_VERSION="CMSSW_14_0_19")
    assert (done.returncode, done.stderr) == (0, "")
    first, *others = done.stdout.splitlines()
    assert first.startswith(f"nanoml {__version__} (Python 3.")
    told = dict(line.split(": ", 1) for line in others)
    assert "uproot " in told["packages"]
    assert told["python"] == sys.executable
    assert told["CMSSW_VERSION"] == "CMSSW_14_0_19"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_each_shell(shell: str, tmp_path: Path) -> None:
    done = nanoml("completion", shell, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_NANOML_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        (tmp_path / "script").write_text(done.stdout)
        subprocess.run([shell, "-n", "script"], cwd=tmp_path, check=True)


def complete(*words: str) -> list[str]:
    """What bash completes: an empty last word offers everything."""
    given = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), "_NANOML_COMPLETE": "bash_complete"}
    return CliRunner(env=given).invoke(command_line, prog_name="nanoml", complete_var="_NANOML_COMPLETE").stdout.split()


def test_commands_options_and_files_are_completed() -> None:
    assert complete("nanoml", "ini") == ["plain,init"]
    assert "plain,--selection" in complete("nanoml", "skim", "--sel")
    for command in ("skim", "inspect", "run"):
        assert complete("nanoml", command, "exa") == ["file,exa"]
