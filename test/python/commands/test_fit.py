from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "a.yaml", "-o", "there"], "--output, --blind and --toys are for a workspace"),
        (["fit", "a.yaml", "--toys", "2000"], "--output, --blind and --toys are for a workspace"),
        (["fit", "workspace.json"], "Say where the results go: -o DIRECTORY."),
        (["fit", "workspace.json", "-o", "there", "--toys", "10"], "write auto, never, or a number of at least 1000"),
        (["toys", "workspace.json"], "Say where the results go: -o DIRECTORY."),
        (["toys", "workspace.json", "--at", "600"], "--at is for an analysis: a workspace has one signal."),
    ],
)
def test_what_an_analysis_says_itself_and_a_workspace_does_not(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(nanoml, arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


ANALYSIS = """
luminosity: 10
datasets:
  W600: {files: a.root, class: signal, cross_section: 2, parameters: {mass: 600}}
  W1000: {files: b.root, class: signal, cross_section: 0.5, parameters: {mass: 1000}}
  WZ: {files: d.root, class: WZ, cross_section: 1}
score: {model: []}
histogram: {wprime: {bins: [3, 0, 1]}}
fit: {channels: {all: wprime}, signal: signal, parameter: mass}
"""
WHICH = "a.yaml: has a fit for each of mass = 600, mass = 1000. Say for which, as in --at 600."


@pytest.mark.parametrize(
    ("at", "said"),
    [([], WHICH), (["--at", "700"], WHICH), (["--at", "1000"], "/a/fit/mass1000/workspace.json: no such file")],
)
def test_toys_need_to_know_for_which_mass(tmp_path: Path, at: list[str], said: str) -> None:
    pytest.importorskip("statistical_analysis.fit")
    pytest.importorskip("jax")
    (tmp_path / "a.yaml").write_text(ANALYSIS)
    assert said in str(CliRunner().invoke(nanoml, ["toys", str(tmp_path / "a.yaml"), *at]).exception)


def test_an_analysis_with_one_fit_has_no_mass(tmp_path: Path) -> None:
    pytest.importorskip("statistical_analysis.fit")
    (tmp_path / "a.yaml").write_text(ANALYSIS.replace(", parameter: mass", ""))
    done = CliRunner().invoke(nanoml, ["toys", str(tmp_path / "a.yaml"), "--at", "600"])
    assert str(done.exception).endswith("a.yaml: has one fit. Remove --at.")
