from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.config.analysis import Config, cross_section, hypotheses, signal_of
from MLTools.NanoML.config.data import FIT, TRAINING, Part
from MLTools.NanoML.config.load import schema
from MLTools.NanoML.contracts.templates import Hypothesis
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.workflow.unblinding import blinded
from services.configurations import loaded

FAKES = """\
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
    config = loaded(tmp_path, FAKES)
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
        assert loaded(tmp_path, FAKES.replace("fake_factor", text)).data_driven["fakes"].weight == weight


def test_single_objects_are_not_estimated_from_data(tmp_path: Path) -> None:
    train = "train: {per_object: {collection: Jet, label: flavour, classes: {b: 5, light: 0}}}\n"
    text = FAKES.replace("[MET_pt]}", "[MET_pt], objects: {Jet: {fields: [pt, flavour], max: 4}}}")
    text = text.replace("  free: {files: h.root, era: 2018}\n", "")
    config = loaded(tmp_path, text[: text.index("train:")] + train)
    assert config.trained == ("WZ_2018", "WZ_2022", "ZZ", "signal")


def test_without_eras_all_simulation_goes_with_all_data(tmp_path: Path) -> None:
    text = FAKES.replace("eras:\n  2018: {luminosity: 59.8}\n  2022: {luminosity: 8.0}\n", "luminosity: 10\n")
    text = text.replace("era: 2018, ", "").replace("era: 2022, ", "").replace(", era: 2018", "")
    config = loaded(tmp_path, text)
    assert [part.dataset for part in config.parts if part.is_subtracted] == ["WZ_2018", "WZ_2022", "ZZ"]


USES = """\
luminosity: 59.8
datasets:
  signal: {files: a.root, class: signal, cross_section: 1, parameters: {mass: 600}}
  heavy:  {files: a.root, class: signal, cross_section: 1, parameters: {mass: 800}}
  tuning: {files: b.root, class: signal, cross_section: 1, parameters: {mass: 700}, only: training}
  LO:     {files: c.root, class: WZ, cross_section: 2, only: training}
  NLO:    {files: d.root, class: WZ, cross_section: 3, only: fit}
  ZZ:     {files: e.root, class: ZZ, cross_section: 4, only: fit}
  tune:   {files: f.root, cross_section: 3, varies: NLO, variation: tune}
  other:  {files: g.root}
  Muon:   {files: h.root, data: true}
regions: {SR: isTight, side: isLoose}
data_driven:
  fakes: {from: Muon, region: side, weight: 0.1, subtract: [WZ], into: {SR: 1}}
  flips: {from: Muon, region: side, weight: 0.2, only: fit}
convert: {features: [MET]}
train: {model: mlp, regions: [SR]}
histogram: {MET: {bins: [4, 0, 100]}}
fit: {channels: {SR: MET}, parameter: mass}
"""


def test_each_serves_the_training_or_the_fit_or_both(tmp_path: Path) -> None:
    config = loaded(tmp_path, USES.replace(", parameter: mass", ""))
    assert config.classes == ("signal", "WZ", "fakes")
    assert config.processes == ("signal", "WZ", "ZZ", "fakes", "flips")
    assert config.trained == ("LO", "fakes_from_Muon", "fakes_less_LO", "heavy", "signal", "tuning")
    found = {name: config.process_of(name) for name in config.datasets}
    assert {name for name, process in found.items() if process is None} == {"tuning", "LO", "other", "Muon"}
    assert found["tune"] == "WZ"
    names = {use: [part.name for part in config.parts_in(use)] for use in (TRAINING, FIT)}
    assert names[TRAINING] == ["fakes_from_Muon", "fakes_less_LO"]
    assert names[FIT] == ["fakes_from_Muon", "fakes_less_NLO", "flips_from_Muon"]
    # a sample without a class and without a cross section hides no bin
    bins = blinded(config).bins
    assert bins is not None
    assert (signal_of(config), bins.signal) == ("signal", "signal")


def test_a_mass_that_is_trained_on_alone_has_no_fit(tmp_path: Path) -> None:
    config = loaded(tmp_path, USES)
    assert hypotheses(config) == [Hypothesis("mass", 600.0), Hypothesis("mass", 800.0)]
    assert config.fit is not None
    assert cross_section(config, config.fit, Hypothesis("mass", 700.0)) is None


def test_a_class_is_the_name_of_a_process_where_nothing_is_trained(tmp_path: Path) -> None:
    text = "datasets: {a: {files: a, class: WZ}, b: {files: b, class: signal}}\nscore: {model: []}\nhistogram: {x: {bins: [1, 0, 1]}}"
    config = loaded(tmp_path, text)
    assert (config.processes, signal_of(config)) == (("signal", "WZ"), "signal")


ERAS = """
eras:
  2018: {luminosity: 2 * 29.9, certified: a.json}
  2022: {luminosity: 8.0, corrections: corrections/2022.yaml}
datasets:
  WZ_2018: {files: a.root, era: 2018, class: WZ, cross_section: 5.05 * 1.109 / 2, k_factor: 1.2}
  WZ_2022: {files: b.root, era: 2022, class: WZ, cross_section: 6.2, luminosity: 4}
  Muon_2018: {files: c.root, era: 2018, data: true, triggers: [HLT_IsoMu24, HLT_Mu50]}
  EGamma_2018: {files: d.root, era: 2018, data: true, triggers: [HLT_Ele32, HLT_Mu50]}
skim: {selection: a.py:A, certified: b.json}
"""


def with_corrections(tmp_path: Path, text: str) -> Config:
    (tmp_path / "corrections").mkdir(exist_ok=True)
    (tmp_path / "corrections" / "2022.yaml").write_text("pileup: {file: x.json, name: A}")
    (tmp_path / "corrections" / "x.json").write_text("{}")
    return loaded(tmp_path, text)


def test_a_dataset_has_what_its_era_says(tmp_path: Path) -> None:
    config = with_corrections(tmp_path, ERAS)
    assert config.luminosity_of("WZ_2018") == 59.8
    assert config.luminosity_of("WZ_2022") == 4
    assert config.cross_section_of("WZ_2018") == pytest.approx(5.05 * 1.109 / 2 * 1.2)
    assert config.cross_section_of("Muon_2018") is None
    assert config.era_of("WZ_2022").corrections == "corrections/2022.yaml"
    assert config.triggers_of("EGamma_2018") == ("HLT_Ele32", "HLT_Mu50")
    assert config.triggers_of("WZ_2018") == ("HLT_IsoMu24", "HLT_Mu50", "HLT_Ele32")
    assert config.triggers_of("WZ_2022") == ()


def test_without_eras_the_analysis_says_it_for_all(tmp_path: Path) -> None:
    config = with_corrections(tmp_path, "luminosity: 59.8\ncorrections: c.yaml\ndatasets: {WZ: {files: a.root}}")
    assert config.luminosity_of("WZ") == 59.8
    assert config.era_of("WZ").corrections == "c.yaml"


def test_files_of_all_eras_are_known(tmp_path: Path) -> None:
    assert [name for _, name in with_corrections(tmp_path, ERAS).skim_files()] == [
        "b.json", "a.json", "corrections/2022.yaml", "corrections/x.json",
    ]  # fmt: skip


def test_numbers_may_be_products(tmp_path: Path) -> None:
    dataset = "luminosity: 1\ndatasets: {tt: {files: a.root, cross_section: 'NUMBER'}}"
    for text in ("831.8 * 0.1061", "831.8*0.1061", " 831.8 * 1061 / 1e4", "8.318e2 * .1061", "88.25398"):
        found = with_corrections(tmp_path, dataset.replace("NUMBER", text))
        assert found.datasets["tt"].cross_section == pytest.approx(831.8 * 0.1061)
    for text in ("831.8 *", "-1 * 3", "a * 2", "2 ** 3", "1 + 2", "nan", "1 2", "* 3", "1e"):
        with pytest.raises(ConfigError, match=r"cross_section: expected a number, or a product or quotient of numbers"):
            with_corrections(tmp_path, dataset.replace("NUMBER", text))
    described = schema()["properties"]["luminosity"]
    assert set(described["type"]) == {"number", "string", "null"}
    assert "831.8 * 0.1061" in described["patternErrorMessage"]


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
    config = with_corrections(tmp_path, PER_ERA)
    assert config.trainings == ("2018", "2022")
    assert config.training_of("Muon_2022") == "2022"
    assert config.trained_in("2018") == ("WZ_2018", "fakes_from_Muon_2018", "fakes_less_WZ_2018", "signal_2018")
    assert config.trained_in("2022") == ("WZ_2022", "fakes_from_Muon_2022", "signal_2022")
    together = with_corrections(tmp_path, PER_ERA.replace("per_era: true", "per_era: false"))
    assert together.trainings == (None,)
    assert together.training_of("Muon_2022") is None
    assert together.trained_in(None) == together.trained
    with_corrections(tmp_path, f"{PER_ERA}score: {{files: [a.root], model: [a/model_2018.onnx]}}")  # no era is needed


REGIONS = """\
datasets:
  a: {files: a.root, class: signal, parameters: {in_mass: 600}}
  b: {files: b.root, class: WZ}
regions:
  SR: nBJet == 0 && abs(ZCand_mass - 91.2) < 15
  CR_ZZ: isLoose
convert: {features: [MET_pt, in_met]}
train: {regions: [SR]}
"""


def test_regions_are_cuts_by_name(tmp_path: Path) -> None:
    config = loaded(tmp_path, REGIONS)
    assert config.regions == {"SR": "nBJet == 0 && abs(ZCand_mass - 91.2) < 15", "CR_ZZ": "isLoose"}
    assert config.train is not None
    assert config.train.regions == ["SR"]
    assert config.place("regions", "CR_ZZ") == f"{tmp_path}/a.yaml:6: regions.CR_ZZ"
    loaded(tmp_path, "train: {files: a.h5, regions: anything}")  # of other files they are not known


WITHOUT_FIT, CONVERT = USES[: USES.index("histogram:")], "\nconvert: {features: x}\n"
OTHERS = [
    (FAKES.replace("[Muon, EGamma]", "[Muon_2022]").replace("[WZ, ZZ]", "[signal_]"), "class: signal", "class: signal_",
     'subtract.0.: no dataset of the class "signal_" is of the era of the data'),
    (WITHOUT_FIT, "", "", "7: datasets.NLO.only: there are no histograms, so there is no fit. Remove this, or the dataset"),
    (WITHOUT_FIT, "", "", "15: data_driven.flips.only: there are no histograms"),
    (f"datasets: {{a: {{files: a, class: a}}, b: {{files: b, class: b, only: fit}}}}{CONVERT}train:\nhistogram: {{x: {{bins: [1, 0, 1]}}}}",
     "}}", "}}", 'takes at least two classes, only "a" is given. Add "class: ..." to the datasets to train on, without "only: fit"'),
    *(("datasets: {a: {files: a.root}, b: {files: b.root}}\nscore: {model: []}\n", "[]}\n", f"[]}}\n{section}",
       'no dataset has a class, .* Give each process its class, as in "class: WZ"')
      for section in ("histogram: {MET: {bins: [4, 0, 100]}}", "fit: {channels: {SR: MET}, signal: a}")),
    (ERAS.replace("luminosity: 8.0, ", ""), ", luminosity: 4", "", "WZ_2022.cross_section: has no effect without a lum"),
    (f"datasets: {{A: {{files: a.root, class: a}}, B: {{files: b.root, class: b}}}}{CONVERT}train: {{}}", "{}", "{per_era: true}",
     "a.yaml:3: train.per_era: takes two or more `eras` with datasets, and there is"),
]  # fmt: skip
MISTAKES = {
    FAKES: [
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
    USES: [
        ("a.root, class: signal", "a.root, class: signal, only: training",
         r"3: datasets.signal.only: signal is the signal of histograms. Remove this"),
        ("data: true", "data: true, only: fit", "11: datasets.Muon.only: says where a class counts, but there is none"),
        ("files: g.root", "files: g.root, only: training", "10: datasets.other.only: says where a class counts"),
        ("varies: NLO", "varies: LO", "datasets.tune.varies: takes datasets that are in histograms"),
        ("into: {SR: 1}}", "into: {SR: 1}, only: fit}\n  x: {from: Muon, region: side, weight: 1, only: training}",
         "15: data_driven.x: none of its events would be trained on"),
        ("subtract: [WZ]", "subtract: [NLO]", r"subtract\[0\]: NLO is not in the training, so nothing would be subtracted for it"),
        ("subtract: [WZ]", "subtract: [LO]", r"subtract\[0\]: LO is not in the fit, so nothing would be subtracted for it"),
        ("cross_section: 4, ", "", r'8: datasets.ZZ.cross_section: missing, while "signal" has one'),
        ("cross_section: 3, varies", "varies", r'9: datasets.tune.cross_section: missing, while "signal" has one'),
        ("mlp,", "mlp, signal: ZZ,", r'train.signal: "ZZ" is not a class. '),
        ("cross_section: 2, only: training", "cross_section: 2, only: tests", ".tests. is not an only. Known: training, fit"),
    ],
    ERAS: [
        ("era: 2022", "era: 2023", r"7: datasets.WZ_2022.era: .2023. is not one of `eras`. Did you mean .2022"),
        (", era: 2022", "", "7: datasets.WZ_2022: belongs to no era. Add .era: 2018., or another one"),
        ("\neras:", "luminosity: 3\n\neras:", "1: luminosity: is given by each of `eras`. Move it there"),
        ("data: true, triggers: [HLT_I", "triggers: [HLT_I", "8: datasets.Muon_2018.triggers: is for data"),
        ("cross_section: 6.2", "k_factor: 2", "7: datasets.WZ_2022.k_factor: has no effect without a cross section"),
        ("data: true, triggers: [HLT_E", "data: true, weight: a, triggers: [HLT_E", "weight: is for simulation"),
        ("selection: a.py:A", "cut: nMuon", "8: datasets.Muon_2018.triggers: is applied with the selection"),
        ("luminosity: 8.0", "luminosity: 0", "4: eras.2022.luminosity: expected a number above 0"),
    ],
    PER_ERA: [
        ("[Muon_2018, Muon_2022]", "[Muon_2018]", 'the era 2022 has no dataset of class "fakes", so it cannot have'),
        ("era: 2022, class", "era: 2016, class", 'the era 2022 has no dataset of class "signal" or "WZ", so it cannot'),
        ("era: 2022", "era: 2018", "13: train.per_era: takes two or more `eras` with datasets, and there is only 2018. Remove it"),
        ("per_era: true", "per_era: true, files: [a.h5]", "which era each of train.files belongs to is not known. Remove"),
        ("per_era: true}", "per_era: true}\nscore: {files: [a.root]}",
         "score.files: have no era, so it is not known which model scores them"),
        ("Muon_2018", "all_2018", "datasets.all_2018: the file of all datasets, .* has this name. Rename it"),
    ],
    REGIONS: [
        ("isLoose", "isLoose = 1", r'6: regions.CR_ZZ: cut "isLoose = 1": column 9: .* Compare with =='),
        ("isLoose", "3", "6: regions.CR_ZZ: expected text, got 3"),
        ("CR_ZZ", "CR-ZZ", '"CR-ZZ" cannot be a name: expected a name of letters, digits and _, as in SR or CR_ZZ'),
        ("CR_ZZ", "sr", '6: regions.sr: differs from "SR" only in upper and lower case'),
        ("CR_ZZ", "met", "6: regions.met: HDF5 files have a column in_met for it, as you call another one. Rename it"),
        ("CR_ZZ", "mass", "6: regions.mass: HDF5 files have a column in_mass for it"),
        ("[SR]", "[SR, CR_Z]", r'8: train.regions\[1\]: "CR_Z" is not one of `regions`. Did you mean "CR_ZZ"\?'),
        ("[SR]", "[SR, SR]", 'train.regions: "SR" is listed twice'),
        ("class: WZ", "class: WZ, weight: a b", r'3: datasets.b.weight: cut "a b": column 3'),
        (REGIONS[REGIONS.index("regions:\n") : REGIONS.index("convert")], "", '"SR" is not one of `regions`. There is none'),
    ],
}  # fmt: skip


EVERY = [*OTHERS, *((text, *each) for text, rows in MISTAKES.items() for each in rows)]


@pytest.mark.parametrize(("text", "old", "new", "message"), EVERY)
def test_what_cannot_be_is_an_error(tmp_path: Path, text: str, old: str, new: str, message: str) -> None:
    assert old in text
    with pytest.raises(ConfigError, match=message):
        with_corrections(tmp_path, text.replace(old, new))
