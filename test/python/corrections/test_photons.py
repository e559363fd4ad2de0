from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from MLTools.NanoML.corrections import photons
from MLTools.NanoML.corrections.electrons import ElectronCorrections
from MLTools.NanoML.corrections.random_numbers import PHOTON, normal_numbers
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.selection import Events
from services import real
from services.real import V9, V13, V15, era, nanoaod, plain, pog


def events_of(file: str, *names: str) -> Events:
    events = real.events_of(nanoaod(file), names)
    if "run" not in names:
        return events
    run = np.minimum(np.asarray(events.run), 357900)  # the last one of the file
    return events.replaced(["run"], lambda _: {"run": run})


@pytest.mark.parametrize(("file", "is_data"), [(V9, False), (V15, True), (V15, False)])
def test_photons_are_those_of_one_after_the_other(file: str, is_data: bool, tmp_path: Path) -> None:
    path = pog("EGM/2022_Summer22/photonSS.json.gz")
    entry = era(tmp_path, f"photons: {{file: {path}, scale: Scale, smearing: Smearing}}").photons
    names = [name for name in photons.BRANCHES if file != V9 or "supercluster" not in name]
    events = events_of(file, *names, *(photons.VERTEX if file == V9 else ()))
    photon, one = events.flat("Photon"), plain(path)
    eta = photons.eta_from_vertex(events, photon) if file == V9 else photon.superclusterEta
    run, section, number = (np.asarray(events[name])[photon.event] for name in ("run", "luminosityBlock", "event"))
    normal = normal_numbers(run, section, number, photon.place, PHOTON)
    nominal = photons.corrected(events, entry, is_data)
    shifts = (
        [] if is_data else [("photonScale", "up", 1, 0), ("photonScale", "down", -1, 0), ("photonSmearing", "up", 0, 1)]
    )
    shifted = {(scale, width): photons.shifted(nominal, entry, name, way) for name, way, scale, width in shifts}
    assert len(photon.event) > 50
    for (scale, width), found in {(0, 0): nominal, **shifted}.items():
        expected = []
        for place in range(len(eta)):
            at, r9, pt = float(eta[place]), float(photon.r9[place]), float(photon.pt[place])
            gain = int(photon.seedGain[place])
            if is_data:
                expected.append(pt * one["Scale"].evaluate("total_correction", gain, float(run[place]), at, r9, pt))
                continue
            sigma, error = (one["Smearing"].evaluate(key, at, r9) for key in ("rho", "err_rho"))
            of_scale = one["Scale"].evaluate("total_uncertainty", gain, 1.0, at, r9, pt)
            expected.append(pt * (1 + normal[place] * (sigma + width * error)) * (1 + scale * of_scale))
        assert np.allclose(found.flat("Photon").pt, expected, rtol=1e-7)


def test_the_supercluster_is_found_from_the_vertex() -> None:
    events = events_of(V15, *photons.VERTEX, "Photon_eta", "Photon_superclusterEta")
    photon = events.flat("Photon")
    assert abs(photon.eta - photon.superclusterEta).max() > 0.05
    # the depth of the shower is not the same for all
    assert abs(photons.eta_from_vertex(events, photon) - photon.superclusterEta).max() < 0.006


@pytest.mark.parametrize("name", ["UL-Photon-CSEV-SF", "UL-Photon-PixVeto-SF"])
def test_the_veto_of_run_2_has_parts_of_the_calorimeter(name: str, tmp_path: Path) -> None:
    path = pog("EGM/2018_UL/photon.json.gz")
    it = era(tmp_path, f"it: {{file: {path}, name: {name}, inputs: {{year: 2018, WorkingPoint: Medium}}}}").it
    photon = events_of(V9, "Photon_r9", "Photon_isScEtaEB").flat("Photon")
    found, one = photons.veto(it, photon), plain(path)[name]
    for key, values in {"sf": found.nominal, "sfup": found["up"], "sfdown": found["down"]}.items():
        for place, value in enumerate(values):
            part = ("EB" if photon.isScEtaEB[place] else "EE") + ("High" if photon.r9[place] > 0.94 else "Low")
            assert value == one.evaluate("2018", key, "Medium", f"{part}R9")
    assert np.unique(found.nominal).size > 2


def test_the_veto_of_run_3_has_eta_and_r9(tmp_path: Path) -> None:
    path, fixed = pog("EGM/2022_Summer22/photon.json.gz"), "inputs: {year: 2022Re-recoBCD, WorkingPoint: Medium}"
    it, one = era(tmp_path, f"it: {{file: {path}, name: Photon-CSEV-SF, {fixed}}}").it, plain(path)["Photon-CSEV-SF"]
    photon = events_of(V13, "Photon_r9", "Photon_superclusterEta").flat("Photon")
    expected = [
        one.evaluate("2022Re-recoBCD", "sf", "Medium", float(eta), float(r9))
        for eta, r9 in zip(photon.superclusterEta, photon.r9)
    ]
    assert np.allclose(photons.veto(it, photon).nominal, expected, rtol=1e-7)


def test_a_shift_of_electrons_is_none_of_photons(tmp_path: Path) -> None:
    text = f"photons: {{file: {ROOT}/examples/corrections/2022/electronSS.json, scale: Scale, smearing: SmearAndSyst}}"
    entry: ElectronCorrections = era(tmp_path, text).photons
    assert entry.described[1:] == ("photons", "photonScale, photonSmearing")
    said = 'no shift "electronScale" up of photons. Known are photonScale, photonSmearing'
    with pytest.raises(NanoMLError, match=said):
        photons.shifted(Events({}, {}), entry, "electronScale", "up")
