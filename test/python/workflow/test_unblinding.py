from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.analysis import Config, load
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.stages import Layout
from MLTools.NanoML.workflow.unblinding import blind_regions, signal_regions, unblind, unblinding

TEXT = """
workdir: search
datasets: {WZ: {files: x.root, class: WZ}, ZZ: {files: y.root, class: ZZ}}
regions: {SR: MET > 100, CR: MET < 100}
convert: {features: [MET]}
train: {model: mlp, regions: [SR]}
"""


@pytest.fixture
def analysis(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    return path


def log(config: Config) -> Path:
    return Layout.of(config).unblinded


def test_regions_are_blind_until_somebody_says_so(analysis: Path) -> None:
    config = load(analysis)
    assert blind_regions(config) == signal_regions(config) == ("SR",)
    assert unblinding(config) is None
    first = unblind(config, "it is final", "limit 0.4")
    assert "@" in first.who
    assert str(first) == f"unblinded by {first.who} on {first.at[:10]}"
    assert blind_regions(config) == ()
    assert signal_regions(config) == ("SR",)
    second = unblind(config, "again", "limit 0.3")
    assert unblinding(config) == second
    entries = json.loads(log(config).read_text())["unblinded"]
    assert [(it["because"], it["expected"]) for it in entries] == [("it is final", "limit 0.4"), ("again", "limit 0.3")]
    log(config).unlink()
    assert blind_regions(config) == ("SR",)


def test_a_damaged_log_is_an_error_and_shows_nothing(analysis: Path) -> None:
    config = load(analysis)
    log(config).parent.mkdir()
    log(config).write_text('{"schema": 1, "unblinded": [{}]}')
    with pytest.raises(NanoMLError, match="unblinded.json: is damaged"):
        blind_regions(config)


def test_the_command_asks_for_the_name_of_the_analysis(analysis: Path) -> None:
    refused = CliRunner().invoke(nanoml, ["unblind", str(analysis), "--because", "why not"], input="serach\n")
    assert isinstance(refused.exception, NanoMLError)
    assert "search is blind in SR.\nExpected: nothing, since the analysis has no fit\n" in refused.output
    assert blind_regions(load(analysis)) == ("SR",)
    done = CliRunner().invoke(nanoml, ["unblind", str(analysis)], input="it is final\nsearch\n")
    assert done.exit_code == 0
    assert "search is unblinded by " in done.output
    entry = unblinding(load(analysis))
    assert entry is not None
    assert entry.because == "it is final"
    again = CliRunner().invoke(nanoml, ["unblind", str(analysis)])
    assert "unblinded by" in str(again.exception)
    assert "it is final" in str(again.exception)


def test_without_a_training_what_is_fitted_is_blind(analysis: Path) -> None:
    histograms = "histogram: {MET: {bins: [2, 0, 9]}}\nscore: {model: []}\nfit: {channels: {CR: MET}}"
    analysis.write_text(TEXT.replace("train: {model: mlp, regions: [SR]}", histograms))
    assert blind_regions(load(analysis)) == ("CR",)


def test_without_a_training_and_a_fit_nothing_is_blind(analysis: Path) -> None:
    analysis.write_text(TEXT.replace("train: {model: mlp, regions: [SR]}", ""))
    assert blind_regions(load(analysis)) == ()
    refused = CliRunner().invoke(nanoml, ["unblind", str(analysis)])
    assert "no region is blind" in str(refused.exception)
