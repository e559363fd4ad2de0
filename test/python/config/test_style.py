"""The section `style`: names that nothing has, texts and colours that cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.report.section import style_of

ANALYSIS = """\
luminosity: 59.8
energy: 13
datasets:
  wprime: {files: a.root, class: signal, cross_section: 1, parameters: {mass: 600}}
  WZ: {files: a.root, class: WZ, cross_section: 1}
  ZG: {files: a.root, class: ZG, cross_section: 1}
convert: {features: [MET_pt], objects: {Muon: {fields: [pt], max: 2}}}
train: {discriminants: {heavy: signal}, signal: signal}
histogram: {ratio: {of: WLep_pt / MET_sum, bins: [2, 0, 1]}}
"""


def loaded(tmp_path: Path, text: str) -> Config:
    (tmp_path / "a.yaml").write_text(ANALYSIS + text)
    return load(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("style", "place", "problem"),
    [
        ("processes: {WY: {label: a}}", "processes.WY", '"WY" is not a class. Known: WZ, ZG, signal.'),
        ("quantities: {MET_p: {unit: GeV}}", "quantities.MET_p", '"MET_p" is not a quantity. Did you mean "MET_pt"?'),
        ("regions: {SX: {label: a}}", "regions.SX", '"SX" is not a region. Known: all.'),
        ('regions: {all: {label: "$W_$"}}', "regions.all.label", "matplotlib cannot draw it: "),
        ('processes: {WZ: {label: "$W_$"}}', "processes.WZ.label", "matplotlib cannot draw it: "),
        (
            'quantities: {mass: {label: "$\\\\ell$", unit: "$\\\\GeV$"}}',
            "quantities.mass.unit",
            "matplotlib cannot draw it",
        ),
        ("processes: {WZ: {color: reddish}}", "processes.WZ.color", '"reddish" is not a colour that matplotlib knows'),
        ("processes: {WZ: {color: red}, ZG: {color: red}}", "processes.ZG.color", "WZ has this colour. Take another"),
        ("label: Preliminary", "label", 'is said after "CMS" only. Add "cms: true"'),
    ],
)
def test_what_fits_nothing_or_cannot_be_drawn(style: str, place: str, problem: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"style: {{{style}}}")
    assert f"a.yaml:10: style.{place}: {problem}" in str(caught.value)
    assert str(caught.value).count("style") == 1


def test_all_that_figures_show_can_be_named(tmp_path: Path) -> None:
    names = ("MET_pt", "Muon_pt", "mass", "ratio", "WLep_pt / MET_sum", "WLep_pt", "signal", "heavy", "discriminant")
    quantities = ", ".join(f"{name}: {{label: x}}" for name in names)
    loaded(tmp_path, f"style: {{quantities: {{{quantities}}}}}")


def test_an_older_label_is_sent_to_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='label: unknown key here. It belongs in "style"'):
        loaded(tmp_path, "label: Example")


def test_the_style_of_an_analysis(tmp_path: Path) -> None:
    text = 'style: {processes: {ZG: {label: "$Z$"}}, quantities: {heavy: {unit: au}, WZ: {label: "P(WZ)"}}}'
    style = style_of(loaded(tmp_path, text))
    assert style.conditions() == "59.8 fb$^{-1}$ (13 TeV)"
    assert [style.name(it) for it in ("signal", "WZ", "ZG")] == ["signal", "WZ", "$Z$"]
    assert style.color("signal") == "#e42536"
    assert len({style.color(it) for it in ("signal", "WZ", "ZG")}) == 3
    # in the skims, in the report, and as others call them
    for name in ("ZG", "a_ZG", "Probability of ZG"):
        assert style.axis(name) == "DNN score ($Z$)"
    assert style.axis("Discriminant heavy") == "DNN score (heavy) [au]"
    assert style.axis("Probability of WZ") == "P(WZ)"
    eras = ANALYSIS.replace("luminosity: 59.8\nenergy: 13\n", "eras: {2018: {luminosity: 1, energy: 13}, 2022: {}}\n")
    eras += "regions: {SR: WLep_pt > 50, CR: WLep_pt < 50}\nstyle: {regions: {SR: {label: $W'$ region}}}\n"
    (tmp_path / "b.yaml").write_text(eras.replace("class:", "era: 2018, class:").replace(", cross_section: 1", ""))
    config = load(tmp_path / "b.yaml")
    names = {it: style_of(config).region(it) for it in ("SR", "SR_2018", "CR_2018")}
    assert names == {"SR": "$W'$ region", "SR_2018": "$W'$ region (2018)", "CR_2018": "CR_2018"}
    assert style_of(config).conditions() == "(13 TeV)"
    assert style_of(config, "2018").conditions() == "1.0 fb$^{-1}$ (13 TeV)"
