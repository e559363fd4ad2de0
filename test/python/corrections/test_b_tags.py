from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.corrections.b_tags import BTags
from MLTools.NanoML.corrections.weights import btag_working_point
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Flat
from services import invented
from services.real import V9, V13, V15, era, events_of, nanoaod, plain, pog

BRANCHES = ("Jet_pt", "Jet_eta", "Jet_hadronFlavour")
CASES = {
    "2018, v9": ("2018_UL", "deepJet", "comb incl", V9, "Jet_btagDeepFlavB"),
    "2022, v13": ("2022_Summer22", "robustParticleTransformer", "comb light", V13, "Jet_btagRobustParTAK4B"),
    "2022, v15": ("2022_Summer22", "particleNet", "comb light", V15, "Jet_btagPNetB"),
}


def read(folder: Path, text: str) -> BTags:
    found: BTags = era(folder, f"b_tags: {{{text}}}").b_tags
    return found


@pytest.mark.parametrize("case", CASES)
def test_jets_have_the_scale_factors_of_their_flavour(case: str, tmp_path: Path) -> None:
    year, tagger, measurements, file, branch = CASES[case]
    path = pog(f"BTV/{year}/btagging.json.gz")
    events = events_of(nanoaod(file), [*BRANCHES, branch], 60)
    b_tags = read(tmp_path, f"file: {path}, tagger: {tagger}, working_points: [M, L], sources: [correlated]")
    whole = plain(path)
    heavy, light = (whole[f"{tagger}_{name}"] for name in measurements.split())
    jets = events.flat("Jet")
    found = b_tags.scale(jets, "L")
    is_2018 = year == "2018_UL"
    kinds = {
        "nominal": ("central", "central"),
        "heavy_correlated_up": ("up_correlated", "central"),
        "light_correlated_up" if is_2018 else "light_up": ("central", "up_correlated" if is_2018 else "up"),
    }
    assert set(kinds) - {"nominal"} <= set(found.variations)
    for name, keys in kinds.items():
        for place, flavour in enumerate(jets.hadronFlavour.tolist()):
            inputs = ("L", flavour, float(abs(jets.eta[place])), float(jets.pt[place]))
            one, key = (heavy, keys[0]) if flavour else (light, keys[1])
            expected = one.evaluate(key, *inputs) if inputs[2] < 2.5 else 1.0
            assert np.isclose(found[name][place], expected, rtol=1e-7)
    cuts = {point: whole[f"{tagger}_wp_values"].evaluate(point) for point in "LM"}
    discriminant = getattr(jets, branch[4:])
    assert b_tags.is_tagged(jets).tolist() == (discriminant > cuts["M"]).tolist()
    assert b_tags.is_tagged(events.Jet, "L").tolist() == ak.unflatten(discriminant > cuts["L"], jets.counts).tolist()
    # two working points together, each jet by itself
    efficiencies = {"L": np.full(len(discriminant), 0.8), "M": np.full(len(discriminant), 0.5)}
    weight, scale = b_tags.weight(jets, efficiencies), {point: b_tags.scale(jets, point).nominal for point in "LM"}
    for place, it in enumerate(discriminant):
        loose, medium = scale["L"][place] * 0.8, scale["M"][place] * 0.5
        expected = medium / 0.5 if it > cuts["M"] else (loose - medium) / 0.3 if it > cuts["L"] else (1 - loose) / 0.2
        assert np.isclose(weight.nominal[place], expected, rtol=1e-7)
    lists = {point: ak.unflatten(it, jets.counts) for point, it in efficiencies.items()}
    ragged = b_tags.weight(events.Jet, efficiencies=lists)
    assert np.allclose(ak.flatten(ragged["heavy_correlated_up"]), weight["heavy_correlated_up"])


def write_upart(path: Path) -> None:
    """A file as that of 2024: UParT, with scale factors of b jets alone."""
    inputs = {"systematic": "string", "working_point": "string", "flavor": "int", "abseta": "real", "pt": "real"}
    values = {"central": 0.95, "up": 1.0, "down": 0.9, "up_statistic": 0.96, "down_statistic": 0.94}

    def of_medium(value: Any) -> Any:
        return invented.category("working_point", {"M": value})

    def of_b_jets(value: float) -> Any:
        bins = invented.binning("abseta", (0.0, 2.5), [invented.binning("pt", (20.0, 600.0), [value])], "error")
        return of_medium(invented.category("flavor", {5: bins}))

    data = invented.category("systematic", {key: of_b_jets(value) for key, value in values.items()})
    cut = invented.correction("UParTAK4_wp_values", {"working_point": "string"}, of_medium(0.1272))
    invented.write(path, invented.correction("UParTAK4_kinfit", inputs, data), cut)


def test_what_is_not_measured_has_1(tmp_path: Path) -> None:
    write_upart(tmp_path / "btagging.json")
    b_tags = read(tmp_path, "file: btagging.json, tagger: UParTAK4, sources: [statistic]")
    columns = {
        "pt": [50.0, 700.0, 50.0, 50.0],
        "eta": [1.0, -2.0, 1.0, 2.6],
        "hadronFlavour": [5, 5, 4, 5],
        "btagUParTAK4B": [0.2, 0.1, 0.2, 0.2],
    }
    jets = Flat({name: np.array(values) for name, values in columns.items()}, np.array([0, 2, 4]))
    assert b_tags.is_tagged(jets).tolist() == [True, False, True, True]
    assert b_tags.scale(jets).nominal.tolist() == [0.95, 0.95, 1.0, 1.0]
    assert b_tags.scale(jets)["heavy_statistic_up"].tolist() == [0.96, 0.96, 1.0, 1.0]
    weight = b_tags.weight(jets, {"M": np.full(4, 0.6)})
    assert np.allclose(
        weight.nominal, btag_working_point(b_tags.scale(jets), np.full(4, 0.6), b_tags.is_tagged(jets)).nominal
    )
    assert weight.nominal[1] == pytest.approx((1 - 0.95 * 0.6) / 0.4)
    with pytest.raises(NanoMLError, match="efficiency of the working point M is missing"):
        b_tags.weight(jets, {"L": np.full(4, 0.6)})
    with pytest.raises(NanoMLError, match="no working point L. It has: M"):
        b_tags.scale(jets, "L")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tagger: UParTAK4, working_points: [L]", "b_tags: working_points: UParTAK4 has no working point L. It has: M"),
        ("tagger: UParTAK", "has no correction UParTAK_wp_values. Did you mean"),
        ("tagger: UParTAK4, measurements: [comb]", "has no correction UParTAK4_comb"),
    ],
)
def test_an_entry_that_cannot_be_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    write_upart(tmp_path / "btagging.json")
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, f"file: btagging.json, {text}")
