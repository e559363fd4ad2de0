from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: object, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `nanoml` as its own process, as a user would."""
    line = [sys.executable, "-m", "MLTools.NanoML.cli", *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("name", [*nanoml.list_commands(click.Context(nanoml)), "config check", "config schema"])
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(nanoml, [*name.split(), "--help"])
    assert result.exit_code == 0
    if name != "config":
        assert f"nanoml {name} " in result.output.partition("Example:")[2]


def test_a_mistyped_command_is_guessed_and_usage_errors_end_with_2(tmp_path: Path) -> None:
    done = command("trian", cwd=tmp_path)
    assert done.returncode == 2
    assert 'Did you mean "train"?' in done.stderr
    assert command("skim", "a.root", cwd=tmp_path).returncode == 2
    assert command("skim", "--selection", "a:B", "a.root", cwd=tmp_path).returncode == 2
    assert command("run", "a.yaml", "--from", "score", "--to", "skim", cwd=tmp_path).returncode != 0


def test_the_schema_is_printed() -> None:
    result = CliRunner().invoke(nanoml, ["config", "schema"])
    assert "datasets" in json.loads(result.output)["properties"]


@pytest.mark.parametrize("package", ["rich", "yaml"])
def test_a_package_that_is_missing_is_one_message(package: str, tmp_path: Path) -> None:
    program = f"import sys; sys.modules['{package}'] = None; from MLTools.NanoML.cli import main; main()"
    line = [sys.executable, "-c", program, "doctor", "--for", "laptop"]
    if package == "yaml":
        line[-3:] = ["config", "schema"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"The Python package {package} is missing. Install it: pip install ")
    assert len(done.stderr.splitlines()) == 1
