from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA

from MLTools.NanoML.corrections import Corrections
from MLTools.NanoML.corrections.era import write_flat
from MLTools.NanoML.corrections.survey.kinds import run_ranges, years_of
from MLTools.NanoML.corrections.survey.propose import Proposal, propose
from MLTools.NanoML.errors import ConfigError
from processes import nanoml
from services.invented import binning, category, correction

POG = DATA / "corrections" / "POG"
PILEUP = {"NumTrueInteractions": "real", "weights": "string"}


def pileup(name: str, path: Path, **more: str) -> None:
    """A file of pile-up weights, by its inputs; `more` are inputs that are not usual."""
    keys = {"nominal": 1.0, "up": 1.1, "down": 0.9}
    bins = {key: binning("NumTrueInteractions", (0.0, 50.0, 100.0), [value, value]) for key, value in keys.items()}
    write(path, correction(name, {**PILEUP, **more}, category("weights", bins)))


def write(path: Path, *corrections: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema_version": 2, "corrections": corrections}).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def entries(proposal: Proposal) -> list[str]:
    return [line for line in proposal.text.splitlines() if line[:1].isalpha() and not line.startswith("sha256")]


@pytest.mark.parametrize("era", ["2018_UL", "2022_Summer22"])
def test_a_proposed_file_is_read_as_it_is(tmp_path: Path, era: str) -> None:
    if not POG.is_dir():
        pytest.skip(f"no correction files in {POG}: name their directory by NANOML_TEST_DATA")
    proposal = propose(POG, era, tmp_path)
    assert not proposal.problems
    (tmp_path / "era.yaml").write_text(proposal.text)
    corrections = Corrections.read(tmp_path / "era.yaml")
    common = {
        "pileup",
        "jets",
        "jet_veto",
        "electron_id",
        "electron_reco",
        "photon_id",
        "muon_id",
        "muon_iso",
        "btag",
        "b_tags",
    }
    assert common <= set(corrections.names)
    assert ("taus" in corrections.names) == (era == "2018_UL")
    assert ("electrons" in corrections.names) == (era != "2018_UL")
    assert ("matched_only" in proposal.text) == (era != "2018_UL")
    assert ("# - electrons: no correction" in proposal.text) == (era == "2018_UL")


@pytest.mark.parametrize(
    ("directory", "eras"),
    [
        ("2030_Summer30", ["2030_Summer30", "2030"]),
        ("Run4-30ABSep30-Summer30-NanoAODv20", ["2030", "2030_Summer30", "Run4-30ABSep30-Summer30-NanoAODv20"]),
        ("2030EE_UL", ["2030EE", "2030"]),
    ],
)
@pytest.mark.parametrize("layout", ["{}", "POG/LUM/{}", "LUM/{}/2030-01-02", "{}/LUM"])
def test_an_era_is_found_in_any_layout(tmp_path: Path, directory: str, eras: list[str], layout: str) -> None:
    pileup("anything", tmp_path / layout.format(directory) / "x.json.gz")
    pileup("other", tmp_path / layout.format("2031_Summer31") / "x.json.gz")
    for era in eras:
        (line,) = entries(propose(tmp_path, era))
        assert line.endswith("name: anything}")


def test_of_several_dates_that_of_the_link_holds_or_the_newest(tmp_path: Path) -> None:
    for date in ("2030-01-02", "2030-05-06", "2030-03-04"):
        pileup(f"of_{date[5:7]}", tmp_path / "LUM" / "2030_X" / date / "pu.json.gz")
    assert "name: of_05}" in entries(propose(tmp_path, "2030"))[0]
    (tmp_path / "LUM" / "2030_X" / "latest").symlink_to("2030-03-04")
    proposal = propose(tmp_path, "2030", tmp_path)
    assert entries(proposal) == ["pileup: {file: LUM/2030_X/2030-03-04/pu.json.gz, name: of_03}"]
    assert "# 2030-03-04" in proposal.text
    assert not proposal.warnings


def test_what_is_in_latest_gets_a_warning(tmp_path: Path) -> None:
    pileup("any", tmp_path / "LUM" / "2030_X" / "latest" / "pu.json.gz")
    (warning,) = propose(tmp_path, "2030").warnings
    assert warning.endswith("latest: what is in it changes: take a directory with a date, or a copy.")


def damaged(folder: Path) -> None:
    pileup("any", folder / "pu.json.gz")
    (folder / "bad.json.gz").write_bytes((folder / "pu.json.gz").read_bytes()[:-30])


def of_another_era(folder: Path) -> None:
    pileup("any", folder / "pu.json.gz")
    pileup("Collisions27_golden", folder / "wrong.json.gz")


def of_another_era_in_words(folder: Path) -> None:
    pileup("any", folder / "pu.json.gz")
    bins = category(
        "weights", {key: binning("NumTrueInteractions", (0.0, 50.0), [1.0]) for key in ("nominal", "up", "down")}
    )
    write(folder / "wrong.json.gz", correction("any", PILEUP, bins, "Weights of the 2027_Summer27 campaign."))


def unknown_input(folder: Path) -> None:
    pileup("any", folder / "pu.json.gz", moonPhase="real")


def two_of_the_same(folder: Path) -> None:
    pileup("any", folder / "pu.json.gz")
    pileup("other", folder / "more.json.gz")


@pytest.mark.parametrize(
    ("make", "said", "count"),
    [
        (damaged, r"bad.json.gz: cannot be read .* Fetch it again", 1),
        (of_another_era, r"wrong.json.gz: is of 2027 \(Collisions27_golden\), not of 2028: move it to its era", 1),
        (of_another_era_in_words, r"wrong.json.gz: is of 2027 \(2027_Summer27\), not of 2028: move it to its era", 1),
        (unknown_input, r"pu.json.gz: needs moonPhase, which NanoAOD does not have: compute it in the selection", 0),
        (two_of_the_same, r"more.json.gz and .*pu.json.gz both have `pileup`: remove the # before", 0),
    ],
)
def test_what_is_wrong_is_one_error_and_left_out(
    tmp_path: Path, make: Callable[[Path], None], said: str, count: int
) -> None:
    make(tmp_path / "LUM" / "2028_UL")
    done = nanoml("corrections", "propose", "--era", "2028", "--directory", ".", "-o", "era.yaml", cwd=tmp_path)
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert re.search(said, error)
    text = (tmp_path / "era.yaml").read_text()
    assert "# Wrong, and left out:" in text
    assert len(Corrections.read(tmp_path / "era.yaml").names) == count


def test_an_era_that_is_not_there_or_not_the_only_one(tmp_path: Path) -> None:
    for name in ("2022_Summer22", "2022_Summer22EE"):
        pileup("any", tmp_path / "LUM" / name / "pu.json.gz")
    with pytest.raises(ConfigError, match="the era 2022 may be 2022_Summer22 or 2022_Summer22EE: write which"):
        propose(tmp_path, "2022")
    with pytest.raises(ConfigError, match=r"no directory of the era 2023\. .*It has: 2022_Summer22, 2022_Summer22EE"):
        propose(tmp_path, "2023")
    with pytest.raises(ConfigError, match="is not a directory"):
        propose(tmp_path / "none", "2022")
    assert entries(propose(tmp_path, "2022_Summer22"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    pileup("any", tmp_path / "LUM" / "2030_X" / "pu.json.gz")
    arguments = ("corrections", "propose", "--era", "2030", "--directory", ".")
    (tmp_path / "era.yaml").write_text("mine")
    assert nanoml(*arguments, "-o", "era.yaml", cwd=tmp_path).returncode == 2
    assert (tmp_path / "era.yaml").read_text() == "mine"
    assert nanoml(*arguments, "-o", "era.yaml", "--force", cwd=tmp_path).returncode == 0
    assert nanoml(*arguments, cwd=tmp_path).stdout == (tmp_path / "era.yaml").read_text().replace(
        "file: ", f"file: {tmp_path}/"
    ).replace("  LUM", f"  {tmp_path}/LUM")


def test_a_file_that_has_changed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "LUM" / "2030_X" / "pu.json"
    pileup("any", path)
    (tmp_path / "era.yaml").write_text(propose(tmp_path, "2030", tmp_path).text)
    path.write_text(path.read_text() + " ")
    with pytest.raises(
        ConfigError, match=r"era.yaml:3: LUM/2030_X/pu.json has changed: its SHA-256 is .* compare OLD NEW"
    ):
        Corrections.read(tmp_path / "era.yaml")
    with pytest.raises(ConfigError, match=r"has changed"):
        write_flat(tmp_path / "era.yaml", tmp_path, "flat.yaml")
        Corrections.read(tmp_path / "flat.yaml")


def test_runs_of_data_by_the_names_of_periods() -> None:
    names = [f"Summer23Prompt23_Run{part}_V1_DATA" for part in ("Cv123", "Cv4", "D")]
    known, unknown = run_ranges([*names, "Summer23_Part9_DATA"])
    assert known == {"367080-367764": names[0], "367765-369802": names[1], "369803-375999": names[2]}
    assert unknown == ["Summer23_Part9_DATA"]
    nibs = [
        f"Summer24Prompt24_Run{part}_V5_DATA"
        for part in ("Enib1", "Fnib1", "Fnib2", "Fnib3", "Gnib1", "Gnib2", "Hnib1")
    ]
    assert list(run_ranges(nibs)[0]) == [  # as README.md of JME's Summer24Prompt24_V5_MC has them
        "380948-381943", "381944-382297", "382298-383246", "383247-383779", "383780-384932", "384933-385813", "385814-386408",
    ]  # fmt: skip
    assert list(run_ranges(["Summer19UL16APV_RunBCD_V7_DATA", "Summer19UL16APV_RunEF_V7_DATA"])[0]) == [
        "272007-276830",
        "276831-278819",
    ]


def test_years_that_names_say() -> None:
    assert years_of(
        ["Summer19UL18_V5_MC", "DeepTau2017v2p1VSe", "Collisions2022_355100", "2023PromptC", "Summer20UL16APV_V7"]
    ) == {"16", "18", "22", "23"}
