from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.config.data import Part
from MLTools.NanoML.errors import ConfigError
from services.configurations import loaded

TEXT = """\
eras:
  2018: {luminosity: 59.8}
  2022: {luminosity: 8.0}
datasets:
  signal: {files: a.root, era: 2018, class: signal, cross_section: 1}
  WZ_2018: {files: b.root, era: 2018, class: WZ, cross_section: 2}
  WZ_2022: {files: c.root, era: 2022, class: WZ, cross_section: 2}
  ZZ: {files: d.root, era: 2018, cross_section: 3}
  free: {files: h.root, era: 2018}
  EGamma: {files: e.root, era: 2018, data: true}
  Muon: {files: f.root, era: 2018, data: true}
  Muon_2022: {files: g.root, era: 2022, data: true}
regions: {SR: isTight, CR: isTight && nB > 0, sideband: isLoose}
data_driven:
  fakes:
    from: [Muon, EGamma]
    region: sideband
    weight: fake_factor
    subtract: [WZ, ZZ]
    into: {SR: nB == 0, CR: 1}
convert: {features: [MET_pt]}
train: {regions: [SR]}
"""


def test_a_class_consists_of_data_and_simulation_that_is_subtracted(tmp_path: Path) -> None:
    config = loaded(tmp_path, TEXT)
    assert config.parts == (
        Part("fakes_from_EGamma", "fakes", "EGamma", False),  # in the order of the datasets, as of duplicates
        Part("fakes_from_Muon", "fakes", "Muon", False),
        Part("fakes_less_WZ_2018", "fakes", "WZ_2018", True),  # not of 2022, of which no data are taken
        Part("fakes_less_ZZ", "fakes", "ZZ", True),
    )
    assert config.classes == ("signal", "WZ", "fakes")
    assert config.trained == tuple(sorted(["signal", "WZ_2018", "WZ_2022", *(part.name for part in config.parts)]))
    assert config.data_driven["fakes"].into == {"SR": "nB == 0", "CR": "1"}


def test_a_weight_is_a_number_or_an_expression(tmp_path: Path) -> None:
    for text, weight in {"0.12": 0.12, "1": 1, "nB * 0.1": "nB * 0.1", "-fake_factor": "-fake_factor"}.items():
        assert loaded(tmp_path, TEXT.replace("fake_factor", text)).data_driven["fakes"].weight == weight


def test_single_objects_are_not_estimated_from_data(tmp_path: Path) -> None:
    train = "train: {per_object: {collection: Jet, label: flavour, classes: {b: 5, light: 0}}}\n"
    text = TEXT.replace(
        "convert: {features: [MET_pt]}",
        "convert: {features: [MET_pt], objects: {Jet: {fields: [pt, flavour], max: 4}}}",
    )
    text = text.replace("  free: {files: h.root, era: 2018}\n", "")
    config = loaded(tmp_path, text[: text.index("train:")] + train)
    assert config.trained == ("WZ_2018", "WZ_2022", "ZZ", "signal")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[Muon, EGamma]", "[Muon, EGama]", r'16: data_driven.fakes.from\[1\]: "EGama" is not a dataset. Did you mean "EGamma"'),
        ("[Muon, EGamma]", "[Muon, ZZ]", r'16: data_driven.fakes.from\[1\]: "ZZ" is simulation. Name data, or add "data: true"'),
        ("[Muon, EGamma]", "[]", "16: data_driven.fakes.from: expected at least 1 item"),
        ("[Muon, EGamma]", "[Muon, Muon]", 'from: "Muon" is listed twice'),
        ("region: sideband", "region: side", '17: data_driven.fakes.region: "side" is not one of `regions`. Did you mean "side'),
        ("    region: sideband\n", "", "data_driven.fakes.*region"),
        ("fake_factor", "fake_factor +", r'18: data_driven.fakes.weight: cut "fake_factor \+": column'),
        ("fake_factor", "[1]", "18: data_driven.fakes.weight: expected a number, or an expression of columns"),
        ("[WZ, ZZ]", "[WZ, ZY]", r'19: data_driven.fakes.subtract\[1\]: "ZY" is neither a dataset nor a class'),
        ("[WZ, ZZ]", "[WZ, EGamma]", r'19: data_driven.fakes.subtract\[1\]: "EGamma" is data, and only simulation'),
        ("[WZ, ZZ]", "[WZ, WZ_2022]", 'subtract.1.: "WZ_2022" is of the era 2022, from which no data are taken'),
        ("[WZ, ZZ]", "[WZ, WZ_2018]", 'subtract.1.: WZ_2018 is subtracted already, by "WZ"'),
        ("[WZ, ZZ]", "[free]", 'how many events of "free" there are is not known. Give it a "cross_section"'),
        ("[Muon, EGamma]", "[Muon_2022]", "subtract.1.: .ZZ. is of the era 2018, from which no data are taken"),
        ("era: 2018, class: signal", "era: 2018, class: ZZ", '19: data_driven.fakes.subtract.1.: "ZZ" is a dataset, and a class of signal'),
        ("nB == 0", "nB = 0", "20: data_driven.fakes.into.SR: cut"),
        ("CR: 1}", "CB: 1}", '20: data_driven.fakes.into.CB: "CB" is not one of `regions`'),
        ("CR: 1}", "sideband: 1}", "20: data_driven.fakes.into.sideband: its events are in this region: it is the estimate"),
        ("into: {SR: nB == 0, ", "into: {", "15: data_driven.fakes: none of its events would be trained on, .* Add .into: {SR: CUT}"),
        ("  fakes:", "  WZ:", "15: data_driven.WZ: a class of datasets has this name. Rename one of the two"),
        ("ZZ: {files: d", "fakes_from_Muon: {files: d", "8: datasets.fakes_from_Muon: the file of Muon in the class fakes has this"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, TEXT.replace(old, new))


def test_a_class_without_a_dataset_in_the_eras_of_the_data(tmp_path: Path) -> None:
    text = TEXT.replace("[Muon, EGamma]", "[Muon_2022]").replace("class: signal", "class: signal_")
    with pytest.raises(ConfigError, match='subtract.0.: no dataset of the class "signal_" is of the era of the data'):
        loaded(tmp_path, text.replace("[WZ, ZZ]", "[signal_]"))


def test_without_eras_all_simulation_goes_with_all_data(tmp_path: Path) -> None:
    text = TEXT.replace("eras:\n  2018: {luminosity: 59.8}\n  2022: {luminosity: 8.0}\n", "luminosity: 10\n")
    text = text.replace("era: 2018, ", "").replace("era: 2022, ", "").replace(", era: 2018", "")
    config = loaded(tmp_path, text)
    assert [part.dataset for part in config.parts if part.is_subtracted] == ["WZ_2018", "WZ_2022", "ZZ"]
