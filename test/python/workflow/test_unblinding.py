from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.analysis import Config, load
from MLTools.NanoML.contracts.templates import BlindBins
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.workflow.stages import Layout
from MLTools.NanoML.workflow.unblinding import Blinded, blind_data, signal_data, unblind, unblinding

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
    assert blind_data(config) == signal_data(config)
    assert blind_data(config).regions == ("SR",)
    assert unblinding(config) is None
    first = unblind(config, "it is final", "limit 0.4")
    assert "@" in first.who
    assert str(first) == f"unblinded by {first.who} on {first.at[:10]}"
    assert blind_data(config) == Blinded()
    assert signal_data(config).regions == ("SR",)
    second = unblind(config, "again", "limit 0.3")
    assert unblinding(config) == second
    entries = json.loads(log(config).read_text())["unblinded"]
    assert [(it["because"], it["expected"]) for it in entries] == [("it is final", "limit 0.4"), ("again", "limit 0.3")]
    log(config).unlink()
    assert blind_data(config).regions == ("SR",)


def test_a_damaged_log_is_an_error_and_shows_nothing(analysis: Path) -> None:
    config = load(analysis)
    log(config).parent.mkdir()
    log(config).write_text('{"schema": 1, "unblinded": [{}]}')
    with pytest.raises(NanoMLError, match="unblinded.json: is damaged"):
        blind_data(config)


def test_the_command_asks_for_the_name_of_the_analysis(analysis: Path) -> None:
    refused = CliRunner().invoke(nanoml, ["unblind", str(analysis), "--because", "why not"], input="serach\n")
    assert isinstance(refused.exception, NanoMLError)
    assert "search is blind in SR.\nExpected: nothing, since the analysis has no fit\n" in refused.output
    assert blind_data(load(analysis)).regions == ("SR",)
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
    blind = blind_data(load(analysis))
    assert (blind.regions, blind.because) == (("CR",), "they are fitted")
    assert "CR" in blind
    assert "SR" not in blind


def test_without_a_training_and_a_fit_nothing_is_blind(analysis: Path) -> None:
    analysis.write_text(TEXT.replace("train: {model: mlp, regions: [SR]}", ""))
    blind = blind_data(load(analysis))
    assert (blind.regions, blind.bins) == ((), None)
    refused = CliRunner().invoke(nanoml, ["unblind", str(analysis)])
    assert "nothing is blind" in str(refused.exception)


@pytest.mark.parametrize(
    ("changes", "regions", "because"),
    [
        ("train: {model: mlp, regions: [SR]}\nblind: {regions: [CR]}", ("CR",), "`blind.regions` names them"),
        ("train: {model: mlp}", ("SR", "CR"), "networks are trained there"),
    ],
)
def test_which_regions_are_blind(analysis: Path, changes: str, regions: tuple[str, ...], because: str) -> None:
    analysis.write_text(TEXT.replace("train: {model: mlp, regions: [SR]}", changes))
    blind = blind_data(load(analysis))
    assert (blind.regions, blind.because) == (regions, because)


def test_without_regions_all_is_blind(analysis: Path) -> None:
    analysis.write_text("train: {files: a.h5}")
    blind = blind_data(load(analysis))
    assert blind.regions == ("all",)
    assert "CR" in blind
    refused = CliRunner().invoke(nanoml, ["unblind", str(analysis), "--because", "why not"], input="b\n")
    assert "is blind everywhere.\n" in refused.output


NORMALISED = TEXT.replace("class:", "cross_section: 2, class:") + "luminosity: 3\n"


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        (NORMALISED.replace("class: WZ", "class: signal"), "signal"),
        (NORMALISED.replace("mlp,", "mlp, signal: ZZ,"), "ZZ"),
        (NORMALISED, None),  # no class is meant to be a signal
        (TEXT.replace("class: WZ", "class: signal"), None),  # nobody knows how many events are expected
    ],
)
def test_bins_are_blind_by_the_expected_signal(analysis: Path, text: str, signal: str | None) -> None:
    analysis.write_text(text)
    assert blind_data(load(analysis)).bins == (BlindBins(signal, 0.5) if signal else None)
    analysis.write_text(text + "blind: {signal_over_root_background: null}")
    assert blind_data(load(analysis)).bins is None


def test_the_command_names_blind_bins(analysis: Path) -> None:
    analysis.write_text(NORMALISED.replace("class: WZ", "class: signal"))
    refused = CliRunner().invoke(nanoml, ["unblind", str(analysis), "--because", "why not"], input="no\n")
    assert "search is blind in SR, and in bins with an expected S / sqrt(B) above 0.5 elsewhere.\n" in refused.output
