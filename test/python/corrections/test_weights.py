from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from conftest import ROOT
from MLTools.NanoML.corrections import Corrections, Factor, weights
from MLTools.NanoML.corrections.jet_id import BTags
from MLTools.NanoML.corrections.weights import btag_working_point
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Flat
from services import invented
from services.real import POG, V9, V13, V15, era, events_of, nanoaod, plain, pog

INVENTED = ROOT / "examples" / "corrections"
PS = "PS weights (w_var / w_nominal); [0] is ISR=0.5 FSR=1; [1] is ISR=1 FSR=0.5; [2] is ISR=2 FSR=1; [3] is ISR=1 FSR=2 "
PS_NEW = "PS weights (w_var / w_nominal);   [0] is ISR=2 FSR=1; [1] is ISR=1 FSR=2[2] is ISR=0.5 FSR=1; [3] is ISR=1 FSR=0.5;"
LHE = "; ".join(f"[{n}] is muR=0.{mur}E+0{e} muF=0.{muf}E+0{f}" for n, (mur, e, muf, f) in enumerate(
    [(5, 0, 5, 0), (5, 0, 1, 1), (5, 0, 2, 1), (1, 1, 5, 0), (1, 1, 1, 1), (1, 1, 2, 1), (2, 1, 5, 0), (2, 1, 1, 1), (2, 1, 2, 1)]
))  # fmt: skip
PAIRS = ((mur, muf) for mur in (0.5, 1.0, 2.0) for muf in (0.5, 1.0, 2.0))
LHE_NEW = "; ".join(f'[{n}] is MUF="{muf}" MUR="{mur}"' for n, (mur, muf) in enumerate(PAIRS))


@pytest.fixture(scope="module")
def corrections() -> Corrections:
    return Corrections.read(INVENTED / "2018.yaml")


def test_each_electron_takes_its_range_of_pt(corrections: Corrections) -> None:
    eta, pt = ak.Array([[0.5, -2.2], [], [1.0]]), ak.Array([[15.0, 20.0], [], [200.0]])
    found = weights.electron_reconstruction(corrections.electron_reco, eta, pt)
    plain = corrections.electron_reco.correction
    expected = [plain("2018", "sfup", point, e, p) for point, e, p in
                (("RecoBelow20", 0.5, 15.0), ("RecoAbove20", -2.2, 20.0), ("RecoAbove20", 1.0, 200.0))]  # fmt: skip
    assert ak.flatten(found["up"]).tolist() == expected
    with pytest.raises(NanoMLError, match="WorkingPoint = RecoBelow20, eta = 0.5, pt = 5"):
        weights.electron_reconstruction(corrections.electron_reco, np.array([0.5]), np.array([5.0]))


def test_the_reconstruction_of_electrons_may_depend_on_azimuth(tmp_path: Path) -> None:
    """As that of 2023, from the repair of the pixel detector on."""
    content = json.loads((INVENTED / "2018" / "electron.json").read_text())
    (each,) = content["corrections"]
    each["inputs"].append({"name": "phi", "type": "real"})
    hole = invented.category("ValType", {"sf": 0.5, "sfup": 0.6, "sfdown": 0.4})
    each["data"] = invented.binning("phi", (-3.2, 0.0, 3.2), [each["data"], hole], "error")
    (tmp_path / "electron.json").write_text(json.dumps(content))
    reco = era(tmp_path, "reco: {file: electron.json, name: Electron-ID-SF, inputs: {year: 2018}}").reco
    eta, pt = ak.Array([[0.5, -2.2], [], [1.0]]), ak.Array([[15.0, 20.0], [], [200.0]])
    phi = ak.Array([[-1.0, 2.0], [], [1.0]])
    found = weights.electron_reconstruction(reco, eta, pt, phi)
    before = weights.electron_reconstruction(Corrections.read(INVENTED / "2018.yaml").electron_reco, eta, pt, phi)
    assert found["up"].tolist() == [[before["up"][0, 0], 0.6], [], [0.6]]
    with pytest.raises(NanoMLError, match="it needs year, ValType, WorkingPoint, eta, pt, phi"):
        weights.electron_reconstruction(reco, eta, pt)


@pytest.mark.parametrize(("shift", "key"), [("", "central"), ("jes_up", "up_jes"), ("jer_up", "central")])
def test_b_tag_shape_is_that_of_each_flavour(corrections: Corrections, shift: str, key: str) -> None:
    flavour, eta = ak.Array([[5, 4], [0, 5]]), ak.Array([[0.5, -1.0], [2.0, 3.0]])
    pt, score = ak.Array([[50.0, 60.0], [70.0, 80.0]]), ak.Array([[0.9, 0.2], [0.01, 0.9]])
    found = weights.btag_shape(corrections.btag, flavour, eta, pt, score, ["hf", "cferr1"], shift)
    plain = corrections.btag.correction

    def one(key: str, event: int, jet: int) -> float:
        if abs(eta[event, jet]) > 2.5:
            return 1.0
        return plain(key, int(flavour[event, jet]), abs(eta[event, jet]), pt[event, jet], score[event, jet])

    nominal = [[one(key, 0, 0), one("central", 0, 1)], [one(key, 1, 0), 1.0]]
    assert found.nominal.tolist() == nominal
    assert found["hf_up"].tolist() == [[one("up_hf", 0, 0), nominal[0][1]], [one("up_hf", 1, 0), 1.0]]
    assert found["cferr1_down"].tolist() == [[nominal[0][0], one("down_cferr1", 0, 1)], nominal[1]]
    inputs = (np.asarray(ak.flatten(values)) for values in (flavour, eta, pt, score))
    flat = weights.btag_shape(corrections.btag, *inputs, ["hf"], shift)
    assert flat["hf_up"].tolist() == ak.flatten(found["hf_up"]).tolist()


BTAGGING = [INVENTED / "2018" / "btagging.json", *(POG / "BTV").glob("2018_UL/btagging.json.gz")]


@pytest.mark.parametrize("path", BTAGGING, ids=lambda path: path.parent.name)
def test_b_tag_shape_has_its_own_values_for_every_shift_of_the_scale(path: Path, tmp_path: Path) -> None:
    btag, one = era(tmp_path, f"btag: {{file: {path}, name: deepJet_shape}}").btag, plain(path)["deepJet_shape"]
    random, number = np.random.default_rng(2), 40
    flavour, eta = random.choice([0, 4, 5], number), random.uniform(-2.6, 2.6, number)
    pt, score = random.uniform(20, 300, number), random.uniform(0, 1, number)
    sources = [key[3:] for key in btag.correction.axes["systematic"].choices if key.startswith("up_jes")]
    assert "jes" in sources
    for source in [*sources, "jesNothing", "jer"]:
        for direction in ("up", "down"):
            key = f"{direction}_{source}" if source in sources else "central"
            found = weights.btag_shape(btag, flavour, eta, pt, score, ["lf"], f"{source}_{direction}")
            for place in range(number):
                given = (int(flavour[place]), abs(eta[place]), pt[place], score[place])
                used = "central" if flavour[place] == 4 else key
                expected = one.evaluate(used, *given) if abs(eta[place]) < 2.5 else 1.0
                assert found.nominal[place] == expected
                if flavour[place] != 4 and abs(eta[place]) < 2.5:
                    assert found["lf_up"][place] == one.evaluate("up_lf", *given)


def test_a_working_point_keeps_the_number_of_jets() -> None:
    """Tagged and untagged jets together have weight 1 if the efficiency is that of the sample."""
    random = np.random.default_rng(1)
    efficiency, scale = 0.7, Factor(np.full(200_000, 0.95), {"up": np.full(200_000, 1.01)})
    found = weights.btag_working_point(scale, efficiency, random.random(200_000) < efficiency)
    for variation in ("nominal", "up"):
        assert abs(found[variation].mean() - 1) < 5 * found[variation].std() / 200_000**0.5


def test_top_quarks_above_500_gev_have_the_weight_of_500() -> None:
    found = weights.top_pt(np.array([100.0, 500.0, 900.0]), np.array([200.0, 400.0, 400.0]))
    assert np.isclose(found.nominal[0], np.sqrt(np.exp(0.0615 - 0.05) * np.exp(0.0615 - 0.1)))
    assert found.nominal[1] == found.nominal[2]
    assert found["up"].tolist() == (found.nominal**2).tolist()


@pytest.mark.parametrize("file", [V15, V9])
def test_top_quarks_are_the_last_ones_of_their_kind(file: str) -> None:
    particles_of = events_of(nanoaod(file), [f"GenPart_{name}" for name in ("pt", "pdgId", "statusFlags")], 100).GenPart
    arrays = {name: particles_of[name] for name in ("pt", "pdgId", "statusFlags")}
    top, antitop = weights.last_tops(particles_of)
    for which, found in ((6, top), (-6, antitop)):
        for event, particles in enumerate(zip(*(values.tolist() for values in arrays.values()))):
            last = [pt for pt, kind, flags in zip(*particles) if kind == which and flags & 8192]
            assert last == ([] if np.isnan(found[event]) else [found[event]])
    weight = weights.top_pt(top, antitop).nominal
    assert (weight[np.isnan(top)] == 1).all()
    assert np.isnan(top).all() == ("dy" in file)


@pytest.mark.parametrize("title", [PS, PS_NEW])
def test_the_first_entry_of_the_shower_is_more_radiation(title: str) -> None:
    found = weights.parton_shower(ak.Array([[1.1, 1.2, 0.9, 0.8], [1.3, 1.4, 0.7, 0.6]]), title)
    assert {name: values.tolist() for name, values in found.variations.items()} == {
        "isr_up": [1.1, 1.3], "fsr_up": [1.2, 1.4], "isr_down": [0.9, 0.7], "fsr_down": [0.8, 0.6],
    }  # fmt: skip
    assert found.nominal.tolist() == [1, 1]


@pytest.mark.parametrize("title", [LHE, LHE_NEW, "LHEScaleWeight/F"])
def test_scales_are_found_by_the_title(title: str) -> None:
    found = weights.lhe_scale(ak.Array([[n / 10 for n in range(9)], []]), title)
    order = {"mur_up": 0.7, "mur_down": 0.1, "muf_up": 0.5, "muf_down": 0.3, "mur_muf_up": 0.8, "mur_muf_down": 0.0}
    assert found.variations.keys() == order.keys()
    assert all(found[name].tolist() == [value, 1.0] for name, value in order.items())


def test_other_numbers_of_entries() -> None:
    """Of scales, eight lack the nominal one; events without weights of the generator have one."""
    found = weights.lhe_scale(ak.Array([[0.0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8]]), "")
    assert found["muf_up"].tolist() == [0.5]
    assert tuple(found.variations) == weights.SCALES
    assert found["mur_up"].tolist() == [0.7]
    assert weights.parton_shower(ak.Array([[1.0], [1.0]]), PS)["isr_up"].tolist() == [1, 1]
    assert tuple(weights.parton_shower(ak.Array([[1.0]]), PS).variations) == weights.SHOWER
    assert weights.lhe_scale(ak.Array([[], []]), LHE)["mur_up"].tolist() == [1, 1]
    with pytest.raises(NanoMLError, match=r'LHEScaleWeight has 5 entries, and its title, "\?", does not say which'):
        weights.lhe_scale(ak.Array([[1.0] * 5]), "?")


def test_titles_of_real_files_are_understood(real_files: dict[str, Path]) -> None:
    for path in (path for name, path in real_files.items() if "rntuple" not in name):
        with RootFile(path) as file:
            for name, read in (("LHEScaleWeight", weights.lhe_scale), ("PSWeight", weights.parton_shower)):
                if name in file.branches:
                    found = read(file.read([name])[name], file.branches[name].title)
                    assert all(np.isfinite(values).all() for values in found.variations.values())


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
    kinds = {"nominal": ("central", "central"), "heavy_correlated_up": ("up_correlated", "central")}
    kinds |= {"light_correlated_up" if is_2018 else "light_up": ("central", "up_correlated" if is_2018 else "up")}
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
    columns = {"pt": [50.0, 700.0, 50.0, 50.0], "eta": [1.0, -2.0, 1.0, 2.6], "hadronFlavour": [5, 5, 4, 5]}
    columns["btagUParTAK4B"] = [0.2, 0.1, 0.2, 0.2]
    jets = Flat({name: np.array(values) for name, values in columns.items()}, np.array([0, 2, 4]))
    assert b_tags.is_tagged(jets).tolist() == [True, False, True, True]
    assert b_tags.scale(jets).nominal.tolist() == [0.95, 0.95, 1.0, 1.0]
    assert b_tags.scale(jets)["heavy_statistic_up"].tolist() == [0.96, 0.96, 1.0, 1.0]
    weight = b_tags.weight(jets, {"M": np.full(4, 0.6)})
    expected = btag_working_point(b_tags.scale(jets), np.full(4, 0.6), b_tags.is_tagged(jets))
    assert np.allclose(weight.nominal, expected.nominal)
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
