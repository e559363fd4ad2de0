from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.config.analysis import Config, load, schema
from MLTools.NanoML.errors import ConfigError

ERAS = """
eras:
  2018: {luminosity: 20.1 + 39.7, certified: a.json}
  2022: {luminosity: 8.0, corrections: corrections/2022.yaml}
datasets:
  WZ_2018: {files: a.root, era: 2018, class: WZ, cross_section: 5.05 * 1.109 / 2, k_factor: 1.2}
  WZ_2022: {files: b.root, era: 2022, class: WZ, cross_section: 6.2, luminosity: 4}
  Muon_2018: {files: c.root, era: 2018, data: true, triggers: [HLT_IsoMu24, HLT_Mu50]}
  EGamma_2018: {files: d.root, era: 2018, data: true, triggers: [HLT_Ele32, HLT_Mu50]}
skim: {selection: a.py:A, certified: b.json}
""".replace("20.1 + 39.7", "2 * 29.9")


def loaded(tmp_path: Path, text: str) -> Config:
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "corrections").mkdir(exist_ok=True)
    (tmp_path / "corrections" / "2022.yaml").write_text("pileup: {file: x.json, name: A}")
    (tmp_path / "corrections" / "x.json").write_text("{}")
    return load(tmp_path / "a.yaml")


def test_a_dataset_has_what_its_era_says(tmp_path: Path) -> None:
    config = loaded(tmp_path, ERAS)
    assert config.luminosity_of("WZ_2018") == 59.8
    assert config.luminosity_of("WZ_2022") == 4
    assert config.cross_section_of("WZ_2018") == pytest.approx(5.05 * 1.109 / 2 * 1.2)
    assert config.cross_section_of("Muon_2018") is None
    assert config.era_of("WZ_2022").corrections == "corrections/2022.yaml"
    assert config.triggers_of("EGamma_2018") == ("HLT_Ele32", "HLT_Mu50")
    assert config.triggers_of("WZ_2018") == ("HLT_IsoMu24", "HLT_Mu50", "HLT_Ele32")
    assert config.triggers_of("WZ_2022") == ()


def test_without_eras_the_analysis_says_it_for_all(tmp_path: Path) -> None:
    config = loaded(tmp_path, "luminosity: 59.8\ncorrections: c.yaml\ndatasets: {WZ: {files: a.root}}")
    assert config.luminosity_of("WZ") == 59.8
    assert config.era_of("WZ").corrections == "c.yaml"


def test_files_of_all_eras_are_known(tmp_path: Path) -> None:
    assert [name for _, name in loaded(tmp_path, ERAS).skim_files()] == [
        "b.json", "a.json", "corrections/2022.yaml", "corrections/x.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["831.8 * 0.1061", "831.8*0.1061", " 831.8 * 1061 / 1e4", "8.318e2 * .1061", "88.25398"]
)
def test_numbers_may_be_products(tmp_path: Path, text: str) -> None:
    found = loaded(tmp_path, f"luminosity: 1\ndatasets: {{tt: {{files: a.root, cross_section: '{text}'}}}}")
    assert found.datasets["tt"].cross_section == pytest.approx(831.8 * 0.1061)


@pytest.mark.parametrize("text", ["831.8 *", "-1 * 3", "a * 2", "2 ** 3", "1 + 2", "nan", "1 2", "* 3", "1e"])
def test_other_texts_are_no_number(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"cross_section: expected a number, or a product or quotient of numbers"):
        loaded(tmp_path, f"luminosity: 1\ndatasets: {{tt: {{files: a.root, cross_section: '{text}'}}}}")


def changed(old: str, new: str) -> str:
    assert old in ERAS
    return ERAS.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("era: 2022", "era: 2023"), r"7: datasets.WZ_2022.era: .2023. is not one of `eras`. Did you mean .2022"),
        (changed(", era: 2022", ""), "7: datasets.WZ_2022: belongs to no era. Add .era: 2018., or another one"),
        (f"luminosity: 3\n{ERAS}", "1: luminosity: is given by each of `eras`. Move it there"),
        (changed("luminosity: 8.0, ", "").replace(", luminosity: 4", ""), "WZ_2022.cross_section: is of no use without a lum"),
        (changed("data: true, triggers: [HLT_I", "triggers: [HLT_I"), "8: datasets.Muon_2018.triggers: is for data"),
        (changed("cross_section: 6.2", "k_factor: 2"), "7: datasets.WZ_2022.k_factor: is of no use without a cross section"),
        (changed("data: true, triggers: [HLT_E", "data: true, weight: a, triggers: [HLT_E"), "weight: is for simulation"),
        (changed("selection: a.py:A", "cut: nMuon"), "8: datasets.Muon_2018.triggers: is applied with the selection"),
        (changed("luminosity: 8.0", "luminosity: 0"), "4: eras.2022.luminosity: expected a number above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, text)


def test_the_schema_takes_numbers_and_products() -> None:

    described = schema()["properties"]["luminosity"]
    assert set(described["type"]) == {"number", "string", "null"}
    assert "831.8 * 0.1061" in described["patternErrorMessage"]
