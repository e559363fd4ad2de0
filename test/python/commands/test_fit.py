from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "a.yaml", "-o", "there"], "Options other than --force are for a workspace"),
        (["fit", "a.yaml", "--toys", "2000"], "Options other than --force are for a workspace"),
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


def test_toys_need_to_know_for_which_mass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyhf")
    drawing = pytest.importorskip("statistical_analysis.draw")
    monkeypatch.setattr(drawing, "check", lambda source, output, *_: [f"from {source} to {output}"])

    def toys(text: str, *options: str) -> str:
        """What `nanoml toys` says of an analysis; instead of a check, where this reads and writes."""
        (tmp_path / "a.yaml").write_text(text)
        done = CliRunner().invoke(nanoml, ["toys", str(tmp_path / "a.yaml"), *options])
        return (done.output + str(done.exception or "")).replace(str(tmp_path), "")

    which = "/a.yaml: has a fit for each of mass = 600, mass = 1000. Choose one, as in --at 600."
    assert toys(ANALYSIS) == toys(ANALYSIS, "--at", "700") == which
    assert toys(ANALYSIS, "--at", "1000") == "from /a/fit/mass1000/workspace.json to /a/fit/mass1000/toys\n"
    one = ANALYSIS.replace(", parameter: mass", "")
    assert toys(one) == "from /a/fit/workspace.json to /a/fit/toys\n"
    assert toys(one, "--at", "600") == "/a.yaml: has one fit. Remove --at."
