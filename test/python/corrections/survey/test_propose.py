from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from MLTools.NanoML.corrections import Corrections
from MLTools.NanoML.corrections.era import write_flat
from MLTools.NanoML.corrections.survey.kinds import run_ranges, years_of
from MLTools.NanoML.corrections.survey.propose import Proposal, propose
from MLTools.NanoML.errors import ConfigError
from processes import nanoml
from services.invented import pileup
from services.real import pog


def entries(proposal: Proposal) -> list[str]:
    return [line for line in proposal.text.splitlines() if line[:1].isalpha() and not line.startswith("sha256")]


@pytest.mark.parametrize(
    ("era", "groups"), [("2018_UL", ["EGM", "TAU"]), ("2022_Summer22", ["BTV", "EGM", "JME", "LUM", "MUO"])]
)
def test_a_proposed_file_is_read_as_it_is(tmp_path: Path, era: str, groups: list[str]) -> None:
    for group in groups:
        (tmp_path / group).symlink_to(pog(group))
    proposal = propose(tmp_path, era, tmp_path)
    assert not proposal.problems
    (tmp_path / "era.yaml").write_text(proposal.text)
    corrections = Corrections.read(tmp_path / "era.yaml")
    assert {"electron_id", "electron_reco", "photon_id"} <= {*corrections.names}
    others = {"pileup", "jets", "jet_veto", "muon_id", "muon_iso", "btag", "b_tags"}
    assert (others <= {*corrections.names}) == (era != "2018_UL")
    assert ("taus" in corrections.names) == (era == "2018_UL")
    assert ("electrons" in corrections.names) == (era != "2018_UL")
    assert ("matched_only" in proposal.text) == (era != "2018_UL")
    assert ("# - electrons: no correction" in proposal.text) == (era == "2018_UL")


@pytest.mark.parametrize(
    ("layout", "directory", "eras"),
    [
        ("{}", "2030_Summer30", ["2030_Summer30", "2030"]),
        ("LUM/{}/2030-01-02", "2030EE_UL", ["2030EE", "2030"]),
        ("{}/LUM", "2030_UL", ["2030"]),
        (
            "POG/LUM/{}",
            "Run4-30ABSep30-Summer30-NanoAODv20",
            ["2030", "2030_Summer30", "Run4-30ABSep30-Summer30-NanoAODv20"],
        ),
    ],
)
def test_an_era_is_found_in_any_layout(tmp_path: Path, layout: str, directory: str, eras: list[str]) -> None:
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
    pileup("any", tmp_path / "LUM" / "2031_X" / "latest" / "pu.json.gz")
    (warning,) = propose(tmp_path, "2031").warnings
    assert warning.endswith("latest: what is in it changes: take a directory with a date, or a copy.")


def damaged(folder: Path) -> None:
    pileup("any", folder / "pu.json.gz")
    (folder / "bad.json.gz").write_bytes((folder / "pu.json.gz").read_bytes()[:-30])


def of_another_era(folder: Path) -> None:
    pileup("any", folder / "pu.json.gz")
    pileup("Collisions27_golden", folder / "wrong.json.gz")


def of_another_era_in_words(folder: Path) -> None:
    pileup("any", folder / "pu.json.gz")
    pileup("any", folder / "wrong.json.gz", "Weights of the 2027_Summer27 campaign.")


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
