from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from MLTools.NanoML.config.analysis import cross_section, hypotheses, luminosity_uncertainties
from MLTools.NanoML.config.fit import LogNormal, Nuisance, Unbinned, log_normal, own_part
from MLTools.NanoML.contracts.templates import Hypothesis
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.extensions.publish.capsule import Request, ready
from services.configurations import loaded

ANALYSIS = """
eras:
  2018: {luminosity: 59.8, luminosity_uncertainty: {lumi_13TeV: 0.6 %, lumi_2018: 1.5 %}}
  2022: {luminosity: 8.0, luminosity_uncertainty: 1.4 %}
  2023: {luminosity: 18.0}
datasets:
  signal: {files: a.root, era: 2018, class: signal}
  WZ: {files: b.root, era: 2018, class: WZ}
  ZZ: {files: b.root, era: 2022, class: ZZ}
  rare: {files: c.root, era: 2022, class: rare}
regions: {SR: nJet > 2, CR: nJet < 1}
score: {model: []}
histogram:
  wprime: {regions: [SR], bins: [4, 0, 1]}
  mass: {bins: [4, 0, 1]}
fit:
  channels: {SR: wprime, CR: mass}
  free: [ZZ]
  uncertainties: {WZ: 5 %, scale: {WZ: 3 %, signal: .5%}, rare: 50.0 %}
"""


def test_uncertainties_are_percentages(tmp_path: Path) -> None:
    config = loaded(tmp_path, ANALYSIS)
    assert config.fit is not None
    assert config.fit.normalisations == {
        "norm_WZ": {"WZ": LogNormal(1.05, 1 / 1.05)},
        "scale": {"WZ": LogNormal(1.03, 1 / 1.03), "signal": LogNormal(1.005, 1 / 1.005)},
        "norm_rare": {"rare": LogNormal(1.5, 1 / 1.5)},
    }
    assert luminosity_uncertainties(config) == {
        "2018": {"lumi_13TeV": log_normal("0.6 %"), "lumi_2018": log_normal("1.5 %")},
        "2022": {"lumi_2022": log_normal("1.4 %")},
        "2023": {},
    }


def test_uncertainties_may_differ_up_and_down(tmp_path: Path) -> None:
    for text, up, down in (
        *(("+5 % -3 %", 1.05, 0.97), ("+5% -3%", 1.05, 0.97), ("+5 -3 %", 1.05, 0.97), ("+5.0 % / -3 %", 1.05, 0.97)),
        ("-5 % +3 %", 0.95, 1.03),  # falls with its parameter
        *(("+150 % -0 %", 2.5, 1), ("150 %", 2.5, 0.4)),
    ):
        found = log_normal(text)
        assert (found.up, found.down) == (pytest.approx(up), pytest.approx(down))
    config = loaded(tmp_path, ANALYSIS.replace("{WZ: 5 %", "{WZ: +5 % -3 %").replace("0.6 %", "+5 % -3 %"))
    assert config.fit is not None
    of_luminosity = luminosity_uncertainties(config)["2018"]["lumi_13TeV"]
    assert config.fit.normalisations["norm_WZ"]["WZ"] == of_luminosity == log_normal("+5 % -3 %")


def test_the_luminosity_without_eras(tmp_path: Path) -> None:
    for given, found in (("2.5 %", {"lumi": "2.5 %"}), ("{a: 1 %, b: 2 %}", {"a": "1 %", "b": "2 %"})):
        config = loaded(tmp_path, f"luminosity: 59.8\nluminosity_uncertainty: {given}\n")
        assert luminosity_uncertainties(config) == {"": {name: log_normal(text) for name, text in found.items()}}
    assert luminosity_uncertainties(loaded(tmp_path, "luminosity: 59.8\n")) == {"": {}}


UNBINNED = f"""{ANALYSIS}  unbinned: {{regions: [SR], seeds: 3, features: [pt]}}
skim: {{selection: wz.py:WZ}}
convert: {{features: [pt, eta]}}
train: {{folds: 3}}
"""


def test_the_forms_that_the_message_on_bins_shows_are_taken(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, ANALYSIS.replace("mass: {bins: [4, 0, 1]}", 'mass: {bins: "edges: [0, 1]"}'))
    shown = re.findall(r"\{.*\}|\[[^]]*\](?!\})|auto", str(caught.value))
    assert len(shown) == 3
    for form in shown:
        loaded(tmp_path, ANALYSIS.replace("mass: {bins: [4, 0, 1]}", f"mass: {{bins: {form}}}"))


def test_unbinned_channels(tmp_path: Path) -> None:
    found = [UNBINNED.replace("{regions: [SR], seeds: 3, features: [pt]}", text) for text in ("SR", "[SR]", "[]")]
    fits = [loaded(tmp_path, text).fit for text in found]
    assert [fit and fit.of_events for fit in fits] == [Unbinned(["SR"]), Unbinned(["SR"]), None]
    fit = loaded(tmp_path, UNBINNED).fit
    assert fit is not None
    assert fit.of_events == Unbinned(["SR"], ["pt"], 3)
    with pytest.raises(ConfigError, match=r"fit.unbinned: a capsule has likelihoods of bins alone"):
        ready(loaded(tmp_path, UNBINNED), Request(tmp_path / "capsule", "", (), 1))


def test_which_processes_regions_and_eras_share_a_nuisance_parameter(tmp_path: Path) -> None:
    text = "free: [ZZ]\n  nuisances: {scale: {name: QCDscale, eras: {Run3: [2022, 2023]}}, "
    text += "tune: {processes: each}, j*_uncorrelated: {name: CMS_*}}"
    config = loaded(tmp_path, ANALYSIS.replace("free: [ZZ]", text))
    assert config.fit is not None
    shared, name = config.fit.shared("scale")
    assert name == "QCDscale"
    assert [own_part(shared.eras, era) for era in ("2018", "2022", "2023", None)] == [None, "Run3", "Run3", None]
    shared, name = config.fit.shared("jes_uncorrelated")
    assert (name, shared.eras, shared.processes) == ("CMS_es", "each", "all")
    assert config.fit.shared("pileup") == (Nuisance(eras="all"), "pileup")
    assert [config.fit.named("tune", it, "SR", "2018") for it in ("WZ", "ne")] == ["tune_WZ", "tune_ne"]


MASSES = """
luminosity: 10
datasets:
  W600: {files: a.root, class: signal, cross_section: 2, k_factor: 1.5, parameters: {mass: 600}}
  W800: {files: b.root, class: signal, cross_section: 0.5, parameters: {mass: 800}}
  WZ: {files: d.root, class: WZ, cross_section: 1}
score: {model: [m.onnx], parameter: {mass: [600, 800]}}
histogram: {wprime: {bins: [3, 0, 1]}}
fit: {channels: {all: wprime}, parameter: mass}
"""
OF_ERAS = MASSES.replace("luminosity: 10", "eras: {a: {luminosity: 10}, b: {luminosity: 2}}")


def test_a_fit_for_each_value_of_a_parameter(tmp_path: Path) -> None:
    config = loaded(tmp_path, MASSES)
    assert config.fit is not None
    found = hypotheses(config)
    assert [(str(it), it.ending) for it in found] == [("mass = 600", "mass600"), ("mass = 800", "mass800")]
    assert [cross_section(config, config.fit, it) for it in found] == [3, 0.5]
    assert hypotheses(loaded(tmp_path, MASSES.replace(", parameter: mass}", "}"))) == []


def test_cross_sections_of_eras(tmp_path: Path) -> None:
    """Parts of an era add up by their luminosity; eras of different energy have none in common."""
    eras = OF_ERAS.replace("class: WZ", "class: WZ, era: a").replace("{files: b", "{era: a, files: b")
    eras = eras.replace("  W600: {", "  W600: {era: a, luminosity: 4, ").replace(
        "  WZ:",
        "  rest: {era: a, luminosity: 6, files: e.root, class: signal, cross_section: 3, parameters: {mass: 600}}\n"
        "  W600b: {era: b, files: e.root, class: signal, cross_section: 3, parameters: {mass: 600}}\n"
        "  W800b: {era: b, files: e.root, class: signal, cross_section: 0.6, parameters: {mass: 800}}\n  WZ:",
    )
    config = loaded(tmp_path, eras)
    assert config.fit is not None
    assert [cross_section(config, config.fit, it) for it in hypotheses(config)] == [pytest.approx(3), None]


def test_names_of_hypotheses() -> None:
    values = (600, 0.5, -1e-12, 1234567, 0.1, float(np.float32(0.1)), 1e20, 16777215)
    endings = ["600", "0p5", "m1em12", "1234567", "0p1", "0p1", "1e20", "16777215"]
    assert [Hypothesis("mass", value).ending for value in values] == [f"mass{ending}" for ending in endings]


EACH_ERA = OF_ERAS.replace("a.root", "a.root, era: a").replace("b.root", "b.root, era: b")
MISTAKES = {
    ANALYSIS: [
        ("1.4 %", "1.4", "4: eras.2022.luminosity_uncertainty: lumi_2022: takes a percentage above 0, as in 2.5 %"),
        ("0.6 %", "0 %", "3: eras.2018.luminosity_uncertainty: lumi_13TeV: takes a percentage above 0, as in 2.5 %"),
        ("lumi_13TeV", "13TeV", '"13TeV" cannot be a nuisance parameter: expected a name of letters, digits and _'),
        ("\neras", "\nluminosity_uncertainty: 2 %\neras", "2: luminosity_uncertainty: is given by each of `eras`."),
        ("{WZ: 5 %", "{WZ: 0.05", "19: fit.uncertainties.WZ: WZ: takes a percentage above 0, as in 2.5 %"),
        ("{WZ: 3 %", "{WZ: a lot", "19: fit.uncertainties.scale: WZ: takes a percentage above 0, as in 2.5 %"),
        ("{WZ: 5 %", "{WZ: +5 % +3 %", "19: fit.uncertainties.WZ: WZ: takes one percentage up and one down, as in +5 % -3 %"),
        ("{WZ: 5 %", "{WZ: +0 % -0 %", "19: fit.uncertainties.WZ: WZ: takes one percentage up and one down, as in +5 % -3 %"),
        ("{WZ: 5 %", "{WZ: +5 % -100 %", "19: fit.uncertainties.WZ: WZ: leaves nothing: give less than 100 % down"),
        ("free: [ZZ]", "groups: {a-b: [scale]}", '18: fit.groups.a-b: "a-b" cannot be a name: expected a name of letters, digits and _'),
        ("free: [ZZ]", "smoth: [jes]", '18: fit.smoth: unknown key. Did you mean "smooth"?'),
        ("scale: {WZ: 3 %, signal: .5%}", "scale: {}", "fit.uncertainties.scale: names no class. Give it some"),
        ("scale: {WZ", "norm_WZ: {WZ", "fit.uncertainties.norm_WZ: is the name of the normalisation of one class. Take another"),
        ("scale: {WZ", "a-b: {WZ", 'fit.uncertainties.a-b: "a-b" cannot be a nuisance parameter: expected a name'),
        ("{WZ: 5 %", "{Wz: 5 %", 'fit.uncertainties.Wz: "Wz" is not one of the classes. Did you mean "WZ"?'),
        ("scale: {WZ", "scale: {ZZ", "fit.uncertainties.scale.ZZ: ZZ is normalised by the fit (fit.free). Remove one"),
        ("free: [ZZ]", "free: [Z]", '18: fit.free[0]: "Z" is not one of the classes. Known: signal, WZ, ZZ, rare.'),
        ("free: [ZZ]", "free: [signal]", "18: fit.free[0]: is the signal, whose strength is fitted in any case. Remove it"),
        ("free: [ZZ]", "free: [ZZ]\n  signal: ZZ", "fit.free[0]: is the signal, whose strength is fitted in any case. Remove it"),
        ("free: [ZZ]", "signals: {mu: [signal], mu_Z: [WZ, Z]}", '18: fit.signals.mu_Z: "Z" is not one of the classes. Known: signal'),
        ("free: [ZZ]", "signals: {mu_W: [WZ], mu_V: [WZ, ZZ]}", "18: fit.signals.mu_W: WZ has two strengths. Remove one."),
        ("free: [ZZ]", "signal: ZZ\n  signals: {mu: [WZ]}", "19: fit.signals: is for one fit of several signals, and there is fit.signal."),
        ("free: [ZZ]", "free: [ZZ]\n  signals: {mu: [ZZ]}", "18: fit.free[0]: is the signal, whose strength is fitted in any case."),
        ("free: [ZZ]", "signals: {mu-W: [WZ]}", '"mu-W" cannot be a name: expected a name of letters, digits and _'),
        ("free: [ZZ]", "signal: sig", '18: fit.signal: "sig" is not one of the classes. Did you mean "signal"?'),
        ("free: [ZZ]", "nuisances: {scale: {processes: {a: [WZ], b: [WZ, ZZ]}}}", "nuisances.scale.processes.b: WZ is in a already"),
        ("free: [ZZ]", "nuisances: {scale: {regions: some}}", "fit.nuisances.scale.regions: takes all, each, or groups by name, as in"),
        ("free: [ZZ]", "nuisances: {scale: {eras: {Run3: [2024]}}}", 'fit.nuisances.scale.eras.Run3: "2024" is not one of the eras'),
        ("free: [ZZ]", "nuisances: {s*c*: {eras: each}}", '"s*c*" cannot be a name: expected a name, with one * at most'),
        ("free: [ZZ]", "nuisances: {scale: {name: QCD-scale}}", "fit.nuisances.scale.name: expected a name of letters, digits and _"),
        ("CR: mass", "CT: mass", '17: fit.channels.CT: "CT" is not one of `regions`. Known: SR, CR.'),
        ("CR: mass", "CR: masse", '17: fit.channels.CR: "masse" is not one of `histogram`. Did you mean "mass"?'),
        ("CR: mass", "CR: wprime", "the histogram wprime is not filled in CR. Add CR to histogram.wprime.regions"),
        ("{SR: wprime, CR: mass}", "{}", "17: fit.channels: names no region. Add one with its histogram"),
        ("  channels: {SR: wprime, CR: mass}\n", "", "fit.channels: missing. Add it, as in"),
        ("free: [ZZ]", "unbinned: [SR]", '18: fit.unbinned: needs events to learn the densities from. Add the sections "convert"'),
        ("free: [ZZ]", "unbinned: [3]", "18: fit.unbinned[0]: expected text, got 3."),
        ("free: [ZZ]", "unbinned: [SR, SR]", '18: fit.unbinned: "SR" is listed twice.'),
    ],
    UNBINNED: [
        ("regions: [SR], seeds", "regions: [SB], seeds", 'fit.unbinned.regions: "SB" is not one of the regions in fit.channels'),
        ("[pt]", "[phi]", 'fit.unbinned.features: "phi" is not in convert.features.'),
        ("folds: 3", "folds: 1", "fit.unbinned: needs networks that have not seen an event for all of them, and train.folds is 1."),
        ("folds: 3", "folds: 3, model: bdt", "fit.unbinned: trees cannot learn ratios of densities with variations. Take another"),
        ("folds: 3", "targets: [pt]", "fit.unbinned: is not for a training with train.targets. Remove one of the two."),
        ("class: rare", "class: rare, only: fit", "fit.unbinned: rare is in the fit only, and so no network learns its density."),
        ("\nregions", "\n  more: {files: d.root, era: 2022, varies: [ZZ], variation: tune_up}\nregions", "and more is another dataset."),
    ],
    MASSES: [
        ("parameter: mass}", "parameter: mas}", '9: fit.parameter: "mas" is not in the parameters of a dataset. Did you mean "mass"?'),
        (", parameters: {mass: 600}", "", "W600: is of signal, which is fitted at each mass, but has none. Add it, as in"),
        ("{mass: 800}", "{mass: 600}", "9: fit.parameter: mass = 600 is its only value. Add datasets with others, or remove this"),
        ("class: WZ", "class: WZ, parameters: {mass: 700}", "datasets: signal has no dataset with mass = 700, where it is fitted. Add one"),
        ("[600, 800]", "[600, 700]", "7: score.parameter.mass: lacks 800, a value of datasets, which is fitted. Add it"),
        ("{wprime:", "{wprime_mass800: {bins: [2, 0, 1]}, wprime:", "histogram.wprime_mass800: is what wprime is called at mass = 800."),
        ("parameter: mass}", "parameter: mass, unbinned: [all]}", "fit.unbinned: is for one fit, and there is a fit for each mass."),
        ("parameter: mass}", "parameter: mass, signals: {mu: signal}}",
         "fit.signals: is for one fit of several signals, and there is a fit for each mass."),
    ],
    EACH_ERA: [("WZ: {files", "WZ: {era: b, files", "signal has no dataset with mass = 600 in the era b, where it is fitted.")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "old", "new", "message"), [(text, *each) for text, rows in MISTAKES.items() for each in rows]
)
def test_mistakes(tmp_path: Path, text: str, old: str, new: str, message: str) -> None:
    assert old in text
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text.replace(old, new, 1))
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 2
