"""Cards on the command line, and as fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml

pytest.importorskip("jax")
pytest.importorskip("mplhep")
pytest.importorskip("statistical_analysis.draw")

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.cards.translation import translate
from statistical_analysis.draw import fit_workspace
from statistical_analysis.fit import read_workspace
from statistical_analysis.results import read_results


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.yaml", "--translate"], "Options other than --force are for a workspace or card"),
        (["a.yaml", "--mass", "125"], "Options other than --force are for a workspace or card"),
        (["card.txt", "--translate"], "Say where the results go: -o DIRECTORY."),
    ],
)
def test_what_an_analysis_says_itself_and_a_card_does_not(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(nanoml, ["fit", *arguments])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_a_translation(few_events: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "workspace.json"
    source.write_text(json.dumps(few_events))
    for given, written in ((source, "datacard.txt"), (tmp_path / "datacard.txt", "workspace.json")):
        done = CliRunner().invoke(nanoml, ["fit", str(given), "--translate", "--mass", "125", "-o", str(tmp_path)])
        assert f"{tmp_path / written}: written." in "".join(done.output.splitlines())
        assert done.exit_code == 0
    source.write_text("{}")
    with pytest.raises(NanoMLError, match="of an analysis; `nanoml fit CARD --translate` makes one of a datacard.$"):
        read_workspace(source)


@pytest.mark.exhaustive("pages of all kinds of fits")
@pytest.mark.usefixtures("white_figures", "compiled_once")
def test_a_card_has_the_results_of_its_workspace(few_events: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "workspace.json"
    source.write_text(json.dumps(few_events))
    fit_workspace(source, tmp_path / "fit", False, "never")
    translate(source, tmp_path / "card")
    fit_workspace(tmp_path / "card/datacard.txt", tmp_path / "of_card", False, "never", mass="")
    results, of_card = (read_results(tmp_path / it / "results.json") for it in ("fit", "of_card"))
    assert of_card.strength.value == pytest.approx(results.strength.value, abs=1e-4)
    ours, theirs = ({it.name: {*it.uncertainties} for it in each.processes} for each in (results, of_card))
    assert ours == theirs
    assert "Not checked" in (tmp_path / "of_card/report.html").read_text()
    assert (tmp_path / "of_card/workspace.json").exists()
