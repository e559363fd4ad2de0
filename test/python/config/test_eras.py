from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load, schema
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


def test_numbers_may_be_products(tmp_path: Path) -> None:
    dataset = "luminosity: 1\ndatasets: {tt: {files: a.root, cross_section: 'NUMBER'}}"
    for text in ("831.8 * 0.1061", "831.8*0.1061", " 831.8 * 1061 / 1e4", "8.318e2 * .1061", "88.25398"):
        found = loaded(tmp_path, dataset.replace("NUMBER", text))
        assert found.datasets["tt"].cross_section == pytest.approx(831.8 * 0.1061)
    for text in ("831.8 *", "-1 * 3", "a * 2", "2 ** 3", "1 + 2", "nan", "1 2", "* 3", "1e"):
        with pytest.raises(ConfigError, match=r"cross_section: expected a number, or a product or quotient of numbers"):
            loaded(tmp_path, dataset.replace("NUMBER", text))
    described = schema()["properties"]["luminosity"]
    assert set(described["type"]) == {"number", "string", "null"}
    assert "831.8 * 0.1061" in described["patternErrorMessage"]


def changed(old: str, new: str) -> str:
    assert old in ERAS
    return ERAS.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("era: 2022", "era: 2023"), r"7: datasets.WZ_2022.era: .2023. is not one of `eras`. Did you mean .2022"),
        (changed(", era: 2022", ""), "7: datasets.WZ_2022: belongs to no era. Add .era: 2018., or another one"),
        (f"luminosity: 3\n{ERAS}", "1: luminosity: is given by each of `eras`. Move it there"),
        (changed("luminosity: 8.0, ", "").replace(", luminosity: 4", ""), "WZ_2022.cross_section: has no effect without a lum"),
        (changed("data: true, triggers: [HLT_I", "triggers: [HLT_I"), "8: datasets.Muon_2018.triggers: is for data"),
        (changed("cross_section: 6.2", "k_factor: 2"), "7: datasets.WZ_2022.k_factor: has no effect without a cross section"),
        (changed("data: true, triggers: [HLT_E", "data: true, weight: a, triggers: [HLT_E"), "weight: is for simulation"),
        (changed("selection: a.py:A", "cut: nMuon"), "8: datasets.Muon_2018.triggers: is applied with the selection"),
        (changed("luminosity: 8.0", "luminosity: 0"), "4: eras.2022.luminosity: expected a number above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, text)


PER_ERA = """
eras: {2016: {luminosity: 1}, 2018: {luminosity: 1}, 2022: {luminosity: 1}}
datasets:
  signal_2018: {files: a.root, era: 2018, class: signal, cross_section: 1}
  WZ_2018: {files: a.root, era: 2018, class: WZ, cross_section: 1}
  signal_2022: {files: a.root, era: 2022, class: signal, cross_section: 1}
  WZ_2022: {files: a.root, era: 2022, class: WZ, cross_section: 1}
  Muon_2018: {files: a.root, era: 2018, data: true}
  Muon_2022: {files: a.root, era: 2022, data: true}
regions: {sideband: x > 1}
data_driven: {fakes: {from: [Muon_2018, Muon_2022], region: sideband, weight: 1, subtract: [WZ_2018]}}
convert: {features: [x], shuffle: 1}
train: {per_era: true}
"""


def test_each_era_with_datasets_has_a_training(tmp_path: Path) -> None:
    config = loaded(tmp_path, PER_ERA)
    assert config.trainings == ("2018", "2022")
    assert config.training_of("Muon_2022") == "2022"
    assert config.trained_in("2018") == ("WZ_2018", "fakes_from_Muon_2018", "fakes_less_WZ_2018", "signal_2018")
    assert config.trained_in("2022") == ("WZ_2022", "fakes_from_Muon_2022", "signal_2022")
    together = loaded(tmp_path, PER_ERA.replace("per_era: true", "per_era: false"))
    assert together.trainings == (None,)
    assert together.training_of("Muon_2022") is None
    assert together.trained_in(None) == together.trained


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[Muon_2018, Muon_2022]", "[Muon_2018]", 'the era 2022 has no dataset of class "fakes", so it cannot have'),
        ("era: 2022, class", "era: 2016, class", 'the era 2022 has no dataset of class "signal" or "WZ", so it cannot'),
        ("era: 2022", "era: 2018", "takes two or more `eras` with datasets, and there is only 2018. Remove it"),
        (
            "per_era: true",
            "per_era: true, files: [a.h5]",
            "which era each of train.files belongs to is not known. Remove",
        ),
    ],
)
def test_an_era_that_cannot_have_a_training_is_an_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PER_ERA
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, PER_ERA.replace(old, new))
    assert f"a.yaml:13: train.per_era: {message}" in str(caught.value)


def test_without_eras_there_is_one_training(tmp_path: Path) -> None:
    text = "datasets: {A: {files: a.root, class: a}, B: {files: b.root, class: b}}\nconvert: {features: [x]}\n"
    with pytest.raises(
        ConfigError, match="a.yaml:3: train.per_era: takes two or more `eras` with datasets, and there is"
    ):
        loaded(tmp_path, f"{text}train: {{per_era: true}}")


def test_files_of_no_era_are_scored_by_a_model_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"score.files: have no era, so it is not known which model scores them"):
        loaded(tmp_path, f"{PER_ERA}score: {{files: [a.root]}}")
    assert loaded(tmp_path, f"{PER_ERA}score: {{files: [a.root], model: [a/model_2018.onnx]}}").trainings


def test_the_shuffled_file_of_an_era_has_its_name_to_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"datasets.all_2018: the file of all datasets, .* has this name. Rename it"):
        loaded(tmp_path, PER_ERA.replace("Muon_2018", "all_2018"))
