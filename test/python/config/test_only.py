"""What counts in the training alone, and what in histograms and the fit alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.config.analysis import cross_section, hypotheses, signal_of
from MLTools.NanoML.config.data import FIT, TRAINING
from MLTools.NanoML.contracts.templates import Hypothesis
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.workflow.unblinding import blinded
from services.configurations import loaded

TEXT = """\
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
    config = loaded(tmp_path, TEXT.replace(", parameter: mass", ""))
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
    config = loaded(tmp_path, TEXT)
    assert hypotheses(config) == [Hypothesis("mass", 600.0), Hypothesis("mass", 800.0)]
    assert config.fit is not None
    assert cross_section(config, config.fit, Hypothesis("mass", 700.0)) is None


def test_a_class_is_the_name_of_a_process_where_nothing_is_trained(tmp_path: Path) -> None:
    text = "datasets: {a: {files: a, class: WZ}, b: {files: b, class: signal}}\nscore: {model: []}\nhistogram: {x: {bins: [1, 0, 1]}}"
    config = loaded(tmp_path, text)
    assert (config.processes, signal_of(config)) == (("signal", "WZ"), "signal")


WITHOUT = TEXT[: TEXT.index("histogram:")]


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (TEXT.replace("a.root, class: signal", "a.root, class: signal, only: training"), "", "",
         r"3: datasets.signal.only: signal is the signal of histograms. Remove this"),
        (WITHOUT, "", "", r"7: datasets.NLO.only: there are no histograms, so there is no fit. Remove this, or the dataset"),
        (WITHOUT, "", "", r"15: data_driven.flips.only: there are no histograms"),
        (TEXT, "data: true", "data: true, only: fit", "11: datasets.Muon.only: says where a class counts, but there is none"),
        (TEXT, "files: g.root", "files: g.root, only: training", "10: datasets.other.only: says where a class counts"),
        (TEXT, "varies: NLO", "varies: LO", "datasets.tune.varies: takes datasets that are in histograms"),
        (TEXT, "into: {SR: 1}}", "into: {SR: 1}, only: fit}\n  x: {from: Muon, region: side, weight: 1, only: training}",
         "15: data_driven.x: none of its events would be trained on"),
        (TEXT, "subtract: [WZ]", "subtract: [NLO]", r"subtract\[0\]: NLO is not in the training, so nothing would be subtracted for it"),
        (TEXT, "subtract: [WZ]", "subtract: [LO]", r"subtract\[0\]: LO is not in the fit, so nothing would be subtracted for it"),
        (TEXT, "cross_section: 4, ", "", r'8: datasets.ZZ.cross_section: missing, while "signal" has one'),
        (TEXT, "cross_section: 3, varies", "varies", r'9: datasets.tune.cross_section: missing, while "signal" has one'),
        (TEXT, "mlp,", "mlp, signal: ZZ,", r'train.signal: "ZZ" is not a class. '),
        (TEXT, "cross_section: 2, only: training", "cross_section: 2, only: tests", ".tests. is not an only. Known: training, fit"),
    ],
)  # fmt: skip
def test_a_contradiction_is_named(tmp_path: Path, text: str, old: str, new: str, message: str) -> None:
    assert old in text
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, text.replace(old, new, 1))


def test_a_training_needs_two_classes_of_its_own(tmp_path: Path) -> None:
    text = (
        "datasets: {a: {files: a, class: a}, b: {files: b, class: b, only: fit}}\nconvert: {features: x}\ntrain: {}\n"
    )
    message = r'takes at least two classes, only "a" is given. Add "class: ..." to the datasets to train on, without "only: fit"'
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, f"{text}histogram: {{x: {{bins: [1, 0, 1]}}}}\n")


@pytest.mark.parametrize("section", ["histogram: {MET: {bins: [4, 0, 100]}}", "fit: {channels: {SR: MET}, signal: a}"])
def test_without_any_class_nothing_would_be_filled(tmp_path: Path, section: str) -> None:
    text = f"datasets: {{a: {{files: a.root}}, b: {{files: b.root}}}}\nscore: {{model: []}}\n{section}\n"
    with pytest.raises(ConfigError, match=r'no dataset has a class, .* Give each process its class, as in "class: WZ"'):
        loaded(tmp_path, text)
