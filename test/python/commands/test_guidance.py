"""`nanoml` alone, `nanoml --version` and completion."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from MLTools.NanoML import __version__
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.commands.start import advice, create

ROOT = Path(__file__).resolve().parents[3]


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "MLTools.NanoML.cli", *arguments]
    return subprocess.run(
        line, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def steps(directory: Path) -> list[str]:
    return [step for each in advice(directory) for step, _ in each.steps]


def test_in_an_empty_directory_one_begins(tmp_path: Path) -> None:
    done = command(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("  nanoml init myanalysis ")
    assert "nanoml doctor" in done.stdout


def test_at_the_top_of_a_checkout_there_is_the_example() -> None:
    assert "nanoml run examples/trilepton.yaml" in steps(ROOT)


def test_a_new_analysis_is_run_and_its_results_are_looked_at(tmp_path: Path) -> None:
    create(tmp_path)
    assert steps(tmp_path)[:3] == [
        "nanoml config check analysis.yaml",
        "nanoml run analysis.yaml --dry-run",
        "nanoml run analysis.yaml",
    ]
    training = tmp_path / "results" / "training"
    training.mkdir(parents=True)
    (training / "network_0.pt").touch()
    assert "nanoml evaluate analysis.yaml" in steps(tmp_path)
    (training / "report.html").touch()
    (tmp_path / "results" / "model.onnx").touch()
    (tmp_path / "results" / "scores" / "WZ").mkdir(parents=True)
    (tmp_path / "results" / "scores" / "WZ" / "a b.root").touch()
    found = steps(tmp_path)
    assert found[:2] == ["nanoml run analysis.yaml --dry-run", "nanoml run analysis.yaml"]
    assert {
        "results/training/report.html",
        "nanoml inspect results/model.onnx",
        "nanoml verify results/model.onnx",
        "nanoml inspect 'results/scores/WZ/a b.root'",
    } <= set(found)
    assert "nanoml evaluate analysis.yaml" not in found


def test_jobs_are_asked_for(tmp_path: Path) -> None:
    create(tmp_path)
    assert "nanoml status analysis.yaml" not in steps(tmp_path)
    (tmp_path / "jobs" / "analysis-1").mkdir(parents=True)
    assert "nanoml status analysis.yaml" in steps(tmp_path)


def test_mistakes_are_shown_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("datasets: {a: {file: b}}\n")
    (tmp_path / "other.yaml").write_text("name: something else\n")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    first, *_ = advice(tmp_path)
    assert first.about == "mine.yaml: has mistakes"
    assert first.steps[0][0] == "nanoml config check mine.yaml"
    assert command("config", "check", "mine.yaml", cwd=tmp_path).returncode == 2


def test_many_analyses_and_files_are_told_in_short(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"a{number}.yaml").write_text("datasets: {}\n")
        (tmp_path / f"b{number}.root").touch()
    told = [each.about for each in advice(tmp_path)]
    assert told[3:] == [
        "and 3 more analyses: a3.yaml, a4.yaml, a5.yaml",
        "files: b0.root, b1.root, b2.root and 3 more",
        "anywhere",
    ]


def test_every_step_is_a_command_that_there_is(tmp_path: Path) -> None:
    create(tmp_path)
    (tmp_path / "x.root").touch()
    for step in [*steps(tmp_path), *steps(ROOT)]:
        words = shlex.split(step)
        if words[0] == "nanoml" and not words[1].startswith("-"):
            assert nanoml.get_command(None, words[1]) is not None  # type: ignore[arg-type]


def test_the_version_tells_what_a_report_of_a_bug_needs(tmp_path: Path) -> None:
    done = command("--version", cwd=tmp_path, CMSSW_VERSION="CMSSW_14_0_19")
    assert (done.returncode, done.stderr) == (0, "")
    first, *others = done.stdout.splitlines()
    assert first.startswith(f"nanoml {__version__} (Python 3.")
    told = dict(line.split(": ", 1) for line in others)
    assert "uproot " in told["packages"]
    assert told["python"] == sys.executable
    assert told["CMSSW_VERSION"] == "CMSSW_14_0_19"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_each_shell(shell: str, tmp_path: Path) -> None:
    done = command("completion", shell, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_NANOML_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        (tmp_path / "script").write_text(done.stdout)
        subprocess.run([shell, "-n", "script"], cwd=tmp_path, check=True)


def complete(*words: str, cwd: Path) -> list[str]:
    """What bash completes: an empty last word offers everything."""
    given = {
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_NANOML_COMPLETE": "bash_complete",
    }
    program = "from MLTools.NanoML.cli import nanoml; nanoml.main(prog_name='nanoml', complete_var='_NANOML_COMPLETE')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()


def test_commands_options_and_files_are_completed(tmp_path: Path) -> None:
    assert complete("nanoml", "ini", cwd=tmp_path) == ["plain,init"]
    assert "plain,--selection" in complete("nanoml", "skim", "--sel", cwd=tmp_path)
    assert complete("nanoml", "skim", "exa", cwd=tmp_path) == ["file,exa"]
    assert complete("nanoml", "inspect", "exa", cwd=tmp_path) == ["file,exa"]
    assert complete("nanoml", "run", "exa", cwd=tmp_path) == ["file,exa"]
