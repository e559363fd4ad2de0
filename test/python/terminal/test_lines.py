from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from MLTools.NanoML.terminal.lines import wrapped
from processes import nanoml, on_screen, on_terminal

NANOML = [sys.executable, "-m", "MLTools.NanoML.cli"]
LONG = "/eos/cms/store/group/phys/analysis/skims/" + "WZTo3LNu_TuneCP5_13TeV-amcatnloFXFX-pythia8/" * 2 + "0.root"


def test_lines_are_broken_between_words_and_what_follows_is_indented() -> None:
    text = "  the first words of a line that is too long\nshort"
    assert wrapped(text, 20).splitlines() == ["  the first words of", "    a line that is", "    too long", "short"]
    assert wrapped(text, 20, 8).splitlines()[1] == "        a line that"
    assert wrapped(text, None) == text


@pytest.mark.parametrize(
    "piece",
    [
        LONG,
        "nanoml resubmit --max-missing-files 1%",
        "nanoml submit skim --on crab",
        "cd 'my analysis' && nanoml run analysis.yaml",
        "nanoml proxy init",
        "`nanoml run analysis.yaml --from train`",
        "pip install -e .[train]",
        "export X509_USER_PROXY=~/.globus/x509up_u1000",
        '"blind: {regions: [SR, CR]}"',
        "nanoml datasets '/DYJets*/* NANO'",
    ],
)
def test_no_path_and_no_command_is_broken(piece: str) -> None:
    for before in range(60):
        text = f"{'x ' * (before // 2)}{'y' * (before % 2)}: {piece}, or something else. Some more words follow here."
        lines = wrapped(text, 60).splitlines()
        assert any(piece in line for line in lines)
        assert all(len(line) <= 60 or piece in line for line in lines)
        assert " ".join(line.strip() for line in lines).split() == text.split()


def test_words_after_a_command_may_stand_on_the_next_line() -> None:
    text = "The jobs have ended. nanoml status shows what is done, nanoml resubmit continues with the others."
    assert wrapped(text, 40).splitlines()[:2] == [
        "The jobs have ended. nanoml status shows",
        "  what is done, nanoml resubmit",
    ]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["doctor", "--for", "laptop"], [], ["run", LONG]])
def test_no_line_of_a_command_is_longer_than_the_terminal(arguments: list[str], columns: int, tmp_path: Path) -> None:
    lines = on_screen(on_terminal([*NANOML, *arguments], columns, tmp_path)).splitlines()
    assert [line for line in lines if len(line) > columns and " " in line.strip()] == []
    if LONG in arguments:
        assert f"{LONG}:" in lines


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_colours_only_where_they_are_wanted(environment: dict[str, str], tmp_path: Path) -> None:
    for arguments in (["rnu"], ["doctor", "--for", "laptop"]):
        sent = on_terminal([*NANOML, *arguments], 80, tmp_path, **environment)
        assert bool(re.search(r"\x1b\[[0-9;]*3[1-7]m", sent)) != bool(environment)


def test_what_is_piped_is_neither_wrapped_nor_coloured(tmp_path: Path) -> None:
    long = tmp_path / f"{'a' * 100} {'b' * 100}.root"
    done = nanoml("inspect", long, cwd=tmp_path)
    assert done.stderr.splitlines()[0] == f"{long.name}: no such file."
    done = nanoml("doctor", "--for", "laptop", cwd=tmp_path)
    (packages,) = (line for line in done.stdout.splitlines() if " packages " in line)
    assert "numpy" in packages
    assert "Jinja2" in packages
    assert "\x1b" not in done.stdout + done.stderr


def test_json_and_what_is_copied_are_not_wrapped(tmp_path: Path) -> None:
    sent = on_terminal([*NANOML, "config", "schema"], 80, tmp_path, PYTHONWARNINGS="ignore")
    assert max(map(len, sent.splitlines())) > 80
