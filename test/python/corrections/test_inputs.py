from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import pytest

from conftest import ROOT
from MLTools.NanoML.corrections import Corrections
from MLTools.NanoML.corrections.photons import eta_from_vertex
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Events, Flat
from services.invented import binning, correction, write
from services.real import V5, V9, V13, V15, era, events_of, nanoaod, plain, pog

INVENTED = ROOT / "examples" / "corrections"


class Case(NamedTuple):
    """An entry, objects of a NanoAOD file, and what correctionlib itself gets: branches, DERIVED, or the text itself."""

    file: str
    name: str
    fixed: str
    objects: tuple[str, str]
    branches: str
    inputs: str


DERIVED: dict[str, Callable[[Mapping[str, Any]], float]] = {"|eta|": lambda row: abs(row["eta"])}
DERIVED |= {"p": lambda row: row["pt"] * np.cosh(row["eta"]), "eta+SC": lambda row: row["eta"] + row["deltaEtaSC"]}
ELECTRON, FLAVOURS, TAU = "pt eta deltaEtaSC", "pt eta hadronFlavour", "pt eta decayMode genPartFlav"
RERECO = "year: 2022Re-recoBCD"
CASES = {
    "muon": Case("MUO/2018_UL/muon_Z", "NUM_TightID_DEN_TrackerMuons", "", (V9, "Muon"), "pt eta", "|eta| pt nominal"),
    "muon 2022": Case("MUO/2022_Summer22/muon_Z", "NUM_TightID_DEN_TrackerMuons", "", (V15, "Muon"), "pt eta", "eta pt nominal"),
    "high pt": Case("MUO/2018_UL/muon_HighPt", "NUM_GlobalMuons_DEN_TrackerMuonProbes", "", (V5, "Muon"), "pt eta", "eta p nominal"),
    "electron": Case(
        "EGM/2018_UL/electron", "UL-Electron-ID-SF", "year: 2018, WorkingPoint: Tight", (V9, "Electron"), ELECTRON,
        "2018 sf Tight eta+SC pt",
    ),
    "electron, v15": Case(
        "EGM/2022_Summer22/electron", "Electron-ID-SF", f"{RERECO}, WorkingPoint: Tight", (V15, "Electron"),
        f"{ELECTRON} superclusterEta", "2022Re-recoBCD sf Tight superclusterEta pt",
    ),
    "trigger of electrons": Case(
        "EGM/2022_Summer22/electronHlt", "Electron-HLT-DataEff", f"{RERECO}, Path: HLT_SF_Ele30_TightID", (V13, "Electron"), ELECTRON,
        "2022Re-recoBCD nom HLT_SF_Ele30_TightID eta+SC pt",
    ),
    "photon, veto": Case(
        "EGM/2022_Summer22/photon", "Photon-PixVeto-SF", f"{RERECO}, WorkingPoint: MVA80", (V15, "Photon"), "superclusterEta r9",
        "2022Re-recoBCD sf MVA80 superclusterEta r9",
    ),
    "tau against jets": Case(
        "TAU/2018_UL/tau", "DeepTau2017v2p1VSjet", "wp: Tight, wp_VSe: VVLoose, flag: pt", (V5, "Tau"), TAU,
        "pt decayMode genPartFlav Tight VVLoose default pt_",
    ),
    "tau against electrons": Case("TAU/2018_UL/tau", "DeepTau2017v2p1VSe", "wp: Medium", (V5, "Tau"), TAU, "eta genPartFlav Medium nom"),
    "trigger of taus": Case(
        "TAU/2018_UL/tau", "tau_trigger", "trigtype: ditau, wp: Medium, corrtype: sf", (V5, "Tau"), TAU,
        "pt decayMode ditau Medium sf nom",
    ),
    "b tag, shape": Case(
        "BTV/2018_UL/btagging", "deepJet_shape", "", (V9, "Jet"), f"{FLAVOURS} btagDeepFlavB",
        "central hadronFlavour |eta| pt btagDeepFlavB",
    ),
    "subjets": Case(
        "BTV/2018_UL/subjet_btagging", "deepCSV_subjet", "working_point: M, method: lt", (V15, "SubJet"), FLAVOURS,
        "central lt M hadronFlavour |eta| pt",
    ),
    "pile-up jets": Case("JME/2018_UL/jmar", "PUJetID_eff", "workingpoint: T", (V9, "Jet"), "pt eta", "eta pt nom T"),
    "W tag": Case("JME/2018_UL/jmar", "ParticleNet_W_MD", "workingpoint: 1p0", (V15, "FatJet"), "pt eta", "eta pt nom 1p0"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_inputs_are_those_of_the_objects(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    branches, collection = case.branches.split(), case.objects[1]
    events = events_of(nanoaod(case.objects[0]), [f"{collection}_{name}" for name in branches])
    path = pog(f"{case.file}.json.gz")
    it = era(tmp_path, f"it: {{file: {path}, name: {case.name}, inputs: {{{case.fixed}}}}}").it
    one = plain(path)[case.name]
    flat = events.flat(collection)

    def by_itself(place: int) -> float:
        row = {name: flat[name][place].item() for name in branches}
        values = [DERIVED[it](row) if it in DERIVED else row.get(it, it.rstrip("_")) for it in case.inputs.split()]
        pt = it.correction.axes.get("pt")
        if pt is not None and pt.high is not None:  # as the object groups ask, the last bin is also for larger values
            values[it.correction.inputs.index("pt")] = min(row["pt"], pt.high - 1e-6)
        try:
            return float(one.evaluate(*values))
        except (IndexError, RuntimeError):
            return float("nan")

    expected = np.array([by_itself(place) for place in range(len(flat.event))])
    covered = ~np.isnan(expected)
    assert covered.sum() > 3
    named = {"systematic": "central"} if "shape" in name else {}
    found = it.on(flat, where=covered, **named)
    assert np.allclose(found.nominal, np.where(covered, expected, 1.0), rtol=1e-7)
    ragged = it.on(getattr(events, collection), where=ak.unflatten(covered, flat.counts), **named)
    assert ragged.nominal.tolist() == ak.unflatten(found.nominal, flat.counts).tolist()
    assert set(found.variations) == (set() if "shape" in name else {"up", "down"})
    assert np.unique(found.nominal[covered]).size > 1


def test_sources_take_the_place_of_the_total_uncertainty(tmp_path: Path) -> None:
    btags, taus = pog("BTV/2022_Summer22/btagging.json.gz"), pog("TAU/2018_UL/tau.json.gz")
    btag = f"file: {btags}, name: particleNet_comb, inputs: {{working_point: M}}"
    tau = f"file: {taus}, name: DeepTau2017v2p1VSjet, inputs: {{wp: Tight, wp_VSe: VVLoose, flag: dm}}"
    text = f"btag: {{{btag}, sources: [correlated, uncorrelated]}}\ntau: {{{tau}, sources: [syst_alleras, stat1_dm0]}}"
    found = era(tmp_path, text)
    factor, one = found.btag(5, 1.0, 50.0), plain(btags)["particleNet_comb"]
    assert factor.nominal == one.evaluate("central", "M", 5, 1.0, 50.0)
    assert list(factor.variations) == ["correlated_up", "correlated_down", "uncorrelated_up", "uncorrelated_down"]
    assert factor["uncorrelated_down"] == one.evaluate("down_uncorrelated", "M", 5, 1.0, 50.0)
    columns = {"pt": np.array([50.0, 60.0]), "decayMode": np.array([0, 1]), "genPartFlav": np.array([5, 2])}
    factor, one = found.tau.on(Flat(columns, np.array([0, 2]))), plain(taus)["DeepTau2017v2p1VSjet"]
    for name, key in (("nominal", "default"), ("stat1_dm0_up", "stat1_dm0_up")):
        assert factor[name].tolist() == [one.evaluate(50.0, 0, 5, "Tight", "VVLoose", key, "dm"), 1.0]
    with pytest.raises(ConfigError, match="btag: sources: particleNet_comb does not have correlate, up and down"):
        era(tmp_path, f"btag: {{{btag}, sources: [correlate]}}")


def test_a_branch_that_objects_lack_is_an_error() -> None:
    found = Corrections.read(INVENTED / "2018.yaml")
    muons = Flat({"pt": np.array([50.0])}, np.array([0, 1]))
    with pytest.raises(NanoMLError, match="needs eta, but these objects have no eta: add the branch"):
        found.muon_id.on(muons)
    assert found.muon_id.on(muons, eta=np.array([1.0])).nominal == found.muon_id(1.0, 50.0).nominal


def test_electrons_and_photons_do_not_take_the_eta_of_the_vertex(tmp_path: Path) -> None:
    bins = binning("eta", (-3.0, 1.0, 3.0), [0.9, 1.1])
    photon = correction("UL-Photon-ID-SF", {"eta": "real"}, bins)
    photon["inputs"][0]["description"] = "eta of the photon's supercluster"
    write(tmp_path / "photon.json", photon)
    it = era(tmp_path, "it: {file: photon.json, name: UL-Photon-ID-SF}").it
    # at the radius of the calorimeter, a photon of the vertex at z = 20 cm is at 20 cm + 130 cm * sinh(0.9), eta = 1.003
    columns = {"Photon_eta": ak.Array([[0.9]]), "Photon_phi": ak.Array([[0.0]]), "Photon_isScEtaEB": ak.Array([[True]])}
    vertex = {"PV_x": np.zeros(1), "PV_y": np.zeros(1), "PV_z": np.array([20.0])}
    events = Events({**columns, **vertex}, dict.fromkeys(columns, "Photon"))
    photons = events.flat("Photon")
    said = r"neither superclusterEta nor deltaEtaSC: add Electron_deltaEtaSC or .* give `eta=eta_from_vertex\(events, photons\)`"
    for objects in (photons, events.Photon):
        with pytest.raises(NanoMLError, match=said):
            it.on(objects)
    assert it.on(photons, eta=eta_from_vertex(events, photons)).nominal.tolist() == [1.1]
    assert it.on(Flat({"eta": np.array([0.9]), "deltaEtaSC": np.array([0.2])}, np.array([0, 1]))).nominal == [1.1]
