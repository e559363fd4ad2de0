"""Files of two dates compared, a tree of files checked, and the file of an era proposed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from MLTools.NanoML.corrections import Corrections
from MLTools.NanoML.corrections.era import write_flat
from MLTools.NanoML.corrections.jets import energy_scale
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.extensions.survey.compare import check, compare
from MLTools.NanoML.extensions.survey.kinds import run_ranges, years_of
from MLTools.NanoML.extensions.survey.propose import Proposal, propose
from processes import nanoml
from services.invented import binning, category, correction, pileup, write
from services.jets import write_june
from services.real import pog

REAL, SYST = {"eta": "real", "pt": "real"}, {"syst": "string"}
EDGES = (0.0, 1.0, 2.5)


def by_pt(*values: float) -> dict[str, Any]:
    return binning("eta", EDGES, [binning("pt", (20.0, 50.0, 100.0), list(values)), 1.0])


def test_values_that_changed_and_where(tmp_path: Path) -> None:
    same = correction("same", REAL, by_pt(1.0, 0.5))
    old = write(tmp_path / "old.json", correction("sf", REAL, by_pt(1.0, 0.8)), same)
    new = write(tmp_path / "new.json", correction("sf", REAL, by_pt(1.02, 1.0)), same)
    (change,) = compare(old, new)
    assert (change.correction, change.what) == ("sf", "values")
    assert change.largest == pytest.approx(0.25)
    assert change.where == "eta = 0.5, pt = 75"
    assert change.curve is not None
    assert change.curve.axis == "pt"
    np.testing.assert_allclose(change.curve.x, [35.0, 75.0])
    np.testing.assert_allclose(change.curve.bands[:, [0, 2]], [[0.0, 0.02], [0.0, 0.25]], atol=1e-12)


def test_a_new_version_is_compared_and_an_input_that_vanished_is_nominal(tmp_path: Path) -> None:
    keys = category("syst", {"nom": by_pt(1.1, 1.1), "up": by_pt(1.2, 1.2), "down": by_pt(1.0, 1.0)})
    gone, more = (correction(name, REAL, by_pt(1.0, 1.0)) for name in ("gone", "more"))
    before, after = "X_JRV1_MC_ScaleFactor", "X_JRV2_MC_ScaleFactor"
    old = write(tmp_path / "old.json", correction(before, {**REAL, **SYST}, keys), gone)
    new = write(tmp_path / "new.json", correction(after, REAL, by_pt(1.21, 1.21)), more)
    found = {(change.correction, change.what): change for change in compare(old, new)}
    assert set(found) == {("gone", "gone"), ("more", "new"), (after, "inputs"), (after, "values")}
    assert found[after, "inputs"].about == "it was X_JRV1_MC_ScaleFactor; syst is gone"
    assert found[after, "values"].largest == pytest.approx(0.1)


def test_keys_that_came_and_went_and_a_change_of_a_source_alone(tmp_path: Path) -> None:
    usual = {"nom": by_pt(1.0, 1.0), "up": by_pt(1.1, 1.1), "down": by_pt(0.9, 0.9)}
    sources = [{"stat": by_pt(0.1, 0.1), "fit": by_pt(1.0, 1.0)}, {"stat": by_pt(0.1, 0.2), "tag": by_pt(1.0, 1.0)}]
    old, new = (
        write(tmp_path / f"{name}.json", correction("sf", {**REAL, **SYST}, category("syst", {**usual, **more})))
        for name, more in zip(("old", "new"), sources)
    )
    inputs, values = compare(old, new)
    assert inputs.about == "syst lost fit; syst got tag"
    assert values.where == "eta = 0.5, pt = 75, syst = stat"


def test_directories_of_two_dates_and_what_is_damaged(tmp_path: Path) -> None:
    for date, value in (("2030-01-01", 1.0), ("2030-02-02", 1.1)):
        write(tmp_path / date / "both.json", correction("sf", REAL, by_pt(value, value)))
        write(tmp_path / date / f"only_{date}.json", correction("sf", REAL, by_pt(1.0, 1.0)))
        (tmp_path / date / "bad.json").write_text("{")
    done = nanoml("corrections", "compare", "2030-01-01", "2030-02-02", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "bad.json: is not a file of correctionlib" in done.stderr
    found = [(each["file"], each["what"]) for each in json.loads(done.stdout)]
    only = [("only_2030-01-01.json", "gone"), ("only_2030-02-02.json", "new")]
    assert found == [("bad.json", "damaged"), ("both.json", "values"), *only]


def test_figures_of_changes(tmp_path: Path) -> None:
    pytest.importorskip("mplhep")
    write(tmp_path / "old.json", correction("sf", REAL, by_pt(1.0, 0.8)))
    write(tmp_path / "new.json", correction("sf", REAL, by_pt(1.02, 1.0)))
    done = nanoml("corrections", "compare", "old.json", "new.json", "-o", "figures", cwd=tmp_path)
    assert "25.00 %" in done.stdout
    assert [path.name for path in sorted((tmp_path / "figures").iterdir())] == ["changes_1.pdf", "changes_1.png"]
    assert nanoml("corrections", "compare", "old.json", "old.json", cwd=tmp_path).stdout == "Nothing has changed.\n"


def test_a_file_and_a_directory_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "old.json")
    for other in (".", "none.json"):
        done = nanoml("corrections", "compare", "old.json", other, cwd=tmp_path)
        assert done.returncode == 2
        assert "name two files, or two directories" in done.stderr


def fill(folder: Path) -> None:
    """A tree of a file for pile-up weights, one with other corrections, and one that is damaged."""
    pileup("any", folder / "a.json")
    write(
        folder / "b.json",
        correction("fine", {"pt": "real"}, binning("pt", (10.0, 100.0), [1.0])),
        correction("odd", {"moonPhase": "real"}, binning("moonPhase", (0.0, 1.0), [1.0])),
        correction("empty", {"pt": "real"}, binning("pt", (10.0, 100.0), [float("nan")])),
    )
    (folder / "c.json.gz").write_bytes(b"\x1f\x8b nothing")


def test_each_file_says_what_can_be_used_and_why_not(tmp_path: Path) -> None:
    fill(tmp_path)
    a, b, c = check(tmp_path)
    assert (a.entries, a.others, a.unusable) == (("pileup",), 0, ())
    assert (b.entries, b.others) == ((), 3)
    assert b.unusable == ("empty has no value anywhere.", "odd needs moonPhase, which NanoAOD does not have.")
    assert "cannot be read" in c.problem


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    fill(tmp_path)
    done = nanoml("corrections", "check", ".", cwd=tmp_path)
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: c.json.gz: cannot be read")
    assert "pileup" in done.stdout
    (tmp_path / "c.json.gz").unlink()
    assert nanoml("corrections", "check", ".", cwd=tmp_path).returncode == 0


def test_links_that_run_in_a_circle_end(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(list(check(tmp_path))) == 3


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


RUN_4 = "Run4-30ABSep30-Summer30-NanoAODv20"


@pytest.mark.parametrize(
    ("layout", "directory", "eras"),
    [
        *(("{}", "2030_Summer30", ["2030_Summer30", "2030"]), ("LUM/{}/2030-01-02", "2030EE_UL", ["2030EE", "2030"])),
        *(("{}/LUM", "2030_UL", ["2030"]), ("POG/LUM/{}", RUN_4, ["2030", "2030_Summer30", RUN_4])),
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


@pytest.mark.parametrize(
    ("make", "said", "count"),
    [
        (lambda it: (it / "bad.json.gz").write_bytes((it / "pu.json.gz").read_bytes()[:-30]),
         r"bad.json.gz: cannot be read .* Fetch it again", 1),
        (lambda it: pileup("Collisions27_golden", it / "wrong.json.gz"),
         r"wrong.json.gz: is of 2027 \(Collisions27_golden\), not of 2028: move it to its era", 1),
        (lambda it: pileup("any", it / "pu.json.gz", moonPhase="real"),
         r"pu.json.gz: needs moonPhase, which NanoAOD does not have: compute it in the selection", 0),
        (lambda it: pileup("other", it / "more.json.gz"),
         r"more.json.gz and .*pu.json.gz both have `pileup`: remove the # before", 0),
    ],
)  # fmt: skip
def test_what_is_wrong_is_left_out(tmp_path: Path, make: Callable[[Path], object], said: str, count: int) -> None:
    pileup("any", tmp_path / "LUM" / "2028_UL" / "pu.json.gz")
    make(tmp_path / "LUM" / "2028_UL")
    done = nanoml("corrections", "propose", "--era", "2028", "--directory", ".", "-o", "era.yaml", cwd=tmp_path)
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert re.search(said, error)
    text = (tmp_path / "era.yaml").read_text()
    assert "# Wrong, and left out:" in text
    assert len(Corrections.read(tmp_path / "era.yaml").names) == count


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        ("For UL2016_preVFP (this file was created on 12/05/2023).", False),
        *(("Made on 2023-05-12, as in 2017.", True), ("Of 2016, and 2017, too.", False)),
        ("Created on 1.5.2023.", False),
    ],
)
def test_words_of_another_year_are_but_a_warning(tmp_path: Path, words: str, warned: bool) -> None:
    pileup("any", tmp_path / "TAU" / "2016preVFP_UL" / "tau.json.gz", words)
    proposal = propose(tmp_path, "2016preVFP_UL", tmp_path)
    warning = "tau.json.gz: its description says 2017.: see whether it is of 2016preVFP_UL."
    assert [each[-len(warning) :] for each in proposal.warnings] == [warning] * warned
    assert ("# Look at these:" in proposal.text) == warned
    assert entries(proposal) == ["pileup: {file: TAU/2016preVFP_UL/tau.json.gz, name: any}"]
    assert not proposal.problems


def write_jets(path: Path, campaign: str, without: str = "RunB") -> None:
    """The jets of the example, as those of an era with one campaign of data."""
    text = (ROOT / "examples" / "corrections" / "2018" / "jets.json").read_text()
    names = {"Invented2018_V1_RunA_DATA": campaign, "Invented2018": campaign.split("_")[0], "AK4PF": "AK8PFPuppi"}
    for old, new in names.items():
        text = text.replace(old, new)
    content = json.loads(text)
    for kind in ("corrections", "compound_corrections"):
        content[kind] = [it for it in content[kind] if not re.search(f"RunB|{without}", it["name"])]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("era", "campaign", "first", "last"),
    [
        ("2016postVFP_UL", "Summer19UL16_RunFGH_V7_DATA", 277772, 297019),
        ("2022_Summer22", "Summer22_22Sep2023_RunCD_V2_DATA", 355794, 359021),
        ("2023_Summer23BPix", "Summer23BPixPrompt23_RunD_V1_DATA", 369803, 375999),
        ("2027_Summer27", "Summer27Prompt27_V1_DATA", 0, 0),
    ],
)
def test_a_campaign_holds_for_its_runs_alone(tmp_path: Path, era: str, campaign: str, first: int, last: int) -> None:
    write_jets(tmp_path / "JME" / era / "jets.json", campaign)
    (tmp_path / "era.yaml").write_text(propose(tmp_path, era, tmp_path).text)
    assert (f"# data: {{FIRST-LAST: {campaign}}}" in (tmp_path / "era.yaml").read_text()) == (not first)
    fat_jets = Corrections.read(tmp_path / "era.yaml").fat_jets
    jet = (np.array([50.0]), np.array([1.0]), np.array([0.5]), np.array([20.0]))
    for run in {first, last} - {0}:
        assert energy_scale(fat_jets, *jet, np.array([run])) > 0
    for run in (first - 1, last + 1) if first else (1, 400000):
        said = rf"era.yaml:\d+: fat_jets: .*{era}/jets.json, has no range with run {run}\. .* file of their own era"
        with pytest.raises(NanoMLError, match=said):
            energy_scale(fat_jets, *jet, np.array([run]))


def test_jets_without_a_resolution_say_so(tmp_path: Path) -> None:
    write_jets(tmp_path / "JME" / "2017_UL" / "jets.json", "Summer19UL17_RunB_V5_DATA", "PtResolution")
    proposal = propose(tmp_path, "2017_UL", tmp_path)
    assert "# no jer, since the file has no PtResolution_AK8PFPuppi: jets of simulation are not" in proposal.text
    assert not proposal.problems
    assert "fat_jets:" in proposal.text


def write_leptons(folder: Path, names: Sequence[str], paths: Sequence[str]) -> None:
    """Scale factors of muons with these names, and efficiencies of triggers of electrons with these paths."""
    inputs = {"eta": "real", "pt": "real", "scale_factors": "string"}
    factors = category("scale_factors", {"nominal": binning("pt", (15.0, 100.0), [1.0])})
    write(folder / "muon_Z.json", *(correction(name, inputs, factors) for name in names))
    inputs = {"ValType": "string", "Path": "string", "eta": "real", "pt": "real"}
    found = category("Path", {path: category("ValType", {"nom": 0.9, "up": 1.0, "down": 0.8}) for path in paths})
    kinds = ("SF", "DataEff", "McEff")
    write(folder / "electronHlt.json", *(correction(f"Electron-HLT-{kind}", inputs, found) for kind in kinds))


@pytest.mark.parametrize(
    ("isolations", "chosen"),
    [
        ("LooseMini LoosePF MediumMini TightMini TightPF", "TightPF"),
        *(("LoosePF MediumPF TightPF", "MediumPF"), ("LooseRel TightRel", "TightRel")),
    ],
)
def test_working_points_agree(tmp_path: Path, isolations: str, chosen: str) -> None:
    names = [f"NUM_{each}Iso_DEN_{of}ID" for of in ("Loose", "Medium") for each in isolations.split()]
    names += [f"NUM_{each}ID_DEN_TrackerMuons" for each in ("Loose", "Medium")]
    paths = [f"HLT_SF_Ele30_{each}ID" for each in ("Loose", "MVAiso80", "Medium", "Tight")]
    write_leptons(tmp_path / "2030_X", names, paths)
    (tmp_path / "era.yaml").write_text(propose(tmp_path, "2030", tmp_path).text)
    c = Corrections.read(tmp_path / "era.yaml")
    assert c.muon_id.correction.name == "NUM_MediumID_DEN_TrackerMuons"
    assert c.muon_iso.correction.name == f"NUM_{chosen}Iso_DEN_MediumID"
    assert c.electron_legs.described[:2] == ("Electron-HLT-DataEff, Electron-HLT-McEff", "single")
    trigger, (leg, _) = c.electron_trigger, c.electron_legs.found["single"]
    assert trigger.fixed == leg.fixed == {"Path": "HLT_SF_Ele30_MediumID"}


def test_the_recoil_has_a_correction_and_its_uncertainty(tmp_path: Path) -> None:
    inputs, values = (
        {"order": "string", "ptll": "real", "var": "string", "val": "real"},
        category("order", {"NLO": 1.0}),
    )
    names = [f"Recoil_correction_{kind}" for kind in ("Rescaling", "Uncertainty")]
    write(tmp_path / "2030_X" / "r.json", *(correction(name, inputs, values) for name in names))
    assert entries(propose(tmp_path, "2030", tmp_path)) == [
        f'{entry}: {{file: "2030_X/r.json", name: {name}, inputs: {{order: "NLO"}}}}'
        for entry, name in zip(("recoil", "recoil_uncertainty"), names)
    ]


def test_an_era_that_is_not_there_or_not_the_only_one(tmp_path: Path) -> None:
    for name in ("LUM/2022_Summer22", "LUM/2022_Summer22EE", "TAU/2022_preEE", "TAU/2022_postEE"):
        pileup("any", tmp_path / name / "pu.json.gz")
    four = "2022_Summer22 or 2022_Summer22EE or 2022_postEE or 2022_preEE"
    with pytest.raises(ConfigError, match=f"the era 2022 may be {four}: write which"):
        propose(tmp_path, "2022")
    said = r"no directory of the era 2023\. .*It has: 2022_Summer22, 2022_Summer22EE, 2022_postEE"
    with pytest.raises(ConfigError, match=said):
        propose(tmp_path, "2023")
    with pytest.raises(ConfigError, match="is not a directory"):
        propose(tmp_path / "none", "2022")
    assert entries(propose(tmp_path, "2022_Summer22"))


def test_it_says_in_which_layout_a_resolution_is(tmp_path: Path) -> None:
    old = nanoml("corrections", ROOT / "examples" / "corrections" / "2018" / "jets.json", cwd=tmp_path)
    assert "jer: Invented2018_JRV1_MC  # up and down by systematic, as before June 2026" in old.stdout
    write_june(ROOT / "examples" / "corrections" / "2018" / "jets.json", tmp_path / "june.json")
    june = nanoml("corrections", "june.json", cwd=tmp_path)
    assert "jer: Invented2018_JRV1_MC  # up and down by SFUncertainty, as since June 2026" in june.stdout


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
    said = r"era.yaml:3: LUM/2030_X/pu.json has changed: its SHA-256 is .* compare OLD NEW"
    with pytest.raises(ConfigError, match=said):
        Corrections.read(tmp_path / "era.yaml")
    with pytest.raises(ConfigError, match=r"has changed"):
        write_flat(tmp_path / "era.yaml", tmp_path, "flat.yaml")
        Corrections.read(tmp_path / "flat.yaml")


def test_runs_of_data_by_the_names_of_periods() -> None:
    names = [f"Summer23Prompt23_Run{part}_V1_DATA" for part in ("Cv123", "Cv4", "D")]
    known, unknown = run_ranges([*names, "Summer23_Part9_DATA"])
    assert known == {"367080-367764": names[0], "367765-369802": names[1], "369803-375999": names[2]}
    assert unknown == ["Summer23_Part9_DATA"]
    parts = ("Enib1", "Fnib1", "Fnib2", "Fnib3", "Gnib1", "Gnib2", "Hnib1")
    nibs = [f"Summer24Prompt24_Run{part}_V5_DATA" for part in parts]
    assert list(run_ranges(nibs)[0]) == [  # as README.md of JME's Summer24Prompt24_V5_MC has them
        "380948-381943", "381944-382297", "382298-383246", "383247-383779", "383780-384932", "384933-385813", "385814-386408",
    ]  # fmt: skip
    early = [f"Summer19UL16APV_Run{part}_V7_DATA" for part in ("BCD", "EF")]
    assert list(run_ranges(early)[0]) == ["272007-276830", "276831-278819"]


def test_years_that_names_say() -> None:
    names = "Summer19UL18_V5_MC DeepTau2017v2p1VSe Collisions2022_355100 2023PromptC Summer20UL16APV_V7"
    assert years_of(names.split()) == {"16", "18", "22", "23"}
