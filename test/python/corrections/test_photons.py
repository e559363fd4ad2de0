from __future__ import annotations

from pathlib import Path
from typing import Any

import correctionlib
import numpy as np
import pytest
from conftest import DATA, ROOT

from MLTools.NanoML.corrections import Corrections, photons
from MLTools.NanoML.corrections.electrons import ElectronCorrections
from MLTools.NanoML.corrections.random_numbers import PHOTON, normal_numbers
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Events

EGM = DATA / "corrections" / "POG" / "EGM"
V9, V13, V15 = "nano_v9_mc_ul17_dy", "nano_v13_mc_ggh", "nano_v15_mc_ttbar"


def events_of(path: Path, *names: str) -> Events:
    with RootFile(path) as opened:
        arrays = dict(opened.read(list(dict.fromkeys(names))))
    if "run" in arrays:
        arrays["run"] = np.minimum(np.asarray(arrays["run"]), 357900)  # the last one of the file
    return Events(arrays, {name: "Photon" for name in arrays if name.startswith("Photon_")})


def read(folder: Path, text: str) -> Any:
    (folder / "era.yaml").write_text(text)
    return Corrections.read(folder / "era.yaml")


@pytest.mark.parametrize("file", [V9, V13, V15])
@pytest.mark.parametrize("is_data", [True, False])
def test_photons_are_those_of_one_after_the_other(
    is_data: bool, file: str, tmp_path: Path, real_files: dict[str, Path]
) -> None:
    path = EGM / "2022_Summer22" / "photonSS.json.gz"
    if not path.is_file():
        pytest.skip(f"no file {path}: name the directory of real files by NANOML_TEST_DATA")
    entry = read(tmp_path, f"photons: {{file: {path}, scale: Scale, smearing: Smearing}}").photons
    names = [name for name in photons.BRANCHES if file != V9 or "supercluster" not in name]
    events = events_of(real_files[file], *names, *(photons.VERTEX if file == V9 else ()))
    photon, plain = events.flat("Photon"), correctionlib.CorrectionSet.from_file(str(path))
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
            at, r9, pt, gain = (
                float(eta[place]),
                float(photon.r9[place]),
                float(photon.pt[place]),
                int(photon.seedGain[place]),
            )
            if is_data:
                expected.append(pt * plain["Scale"].evaluate("total_correction", gain, float(run[place]), at, r9, pt))
                continue
            sigma, error = (plain["Smearing"].evaluate(key, at, r9) for key in ("rho", "err_rho"))
            of_scale = plain["Scale"].evaluate("total_uncertainty", gain, 1.0, at, r9, pt)
            expected.append(pt * (1 + normal[place] * (sigma + width * error)) * (1 + scale * of_scale))
        assert np.allclose(found.flat("Photon").pt, expected, rtol=1e-7)


@pytest.mark.parametrize("file", [V13, V15, "nano_v13_data_egamma2022E_run359571"])
def test_the_supercluster_is_found_from_the_vertex(file: str, real_files: dict[str, Path]) -> None:
    events = events_of(real_files[file], *photons.VERTEX, "Photon_eta", "Photon_superclusterEta")
    photon = events.flat("Photon")
    assert abs(photon.eta - photon.superclusterEta).max() > 0.05
    # the depth of the shower is not the same for all
    assert abs(photons.eta_from_vertex(events, photon) - photon.superclusterEta).max() < 0.006


@pytest.mark.parametrize("name", ["UL-Photon-CSEV-SF", "UL-Photon-PixVeto-SF"])
def test_the_veto_of_run_2_has_parts_of_the_calorimeter(name: str, tmp_path: Path, real_files: dict[str, Path]) -> None:
    path = EGM / "2018_UL" / "photon.json.gz"
    if not path.is_file():
        pytest.skip(f"no file {path}: name the directory of real files by NANOML_TEST_DATA")
    era = read(tmp_path, f"it: {{file: {path}, name: {name}, inputs: {{year: 2018, WorkingPoint: Medium}}}}")
    photon = events_of(real_files[V9], "Photon_r9", "Photon_isScEtaEB").flat("Photon")
    found, plain = photons.veto(era.it, photon), correctionlib.CorrectionSet.from_file(str(path))[name]
    for key, values in {"sf": found.nominal, "sfup": found["up"], "sfdown": found["down"]}.items():
        for place, value in enumerate(values):
            part = ("EB" if photon.isScEtaEB[place] else "EE") + ("High" if photon.r9[place] > 0.94 else "Low")
            assert value == plain.evaluate("2018", key, "Medium", f"{part}R9")
    assert np.unique(found.nominal).size > 2


def test_the_veto_of_run_3_has_eta_and_r9(tmp_path: Path, real_files: dict[str, Path]) -> None:
    path = EGM / "2022_Summer22" / "photon.json.gz"
    if not path.is_file():
        pytest.skip(f"no file {path}: name the directory of real files by NANOML_TEST_DATA")
    fixed = "inputs: {year: 2022Re-recoBCD, WorkingPoint: Medium}"
    era = read(tmp_path, f"it: {{file: {path}, name: Photon-CSEV-SF, {fixed}}}")
    photon = events_of(real_files[V13], "Photon_r9", "Photon_superclusterEta").flat("Photon")
    plain = correctionlib.CorrectionSet.from_file(str(path))["Photon-CSEV-SF"]
    expected = [
        plain.evaluate("2022Re-recoBCD", "sf", "Medium", float(eta), float(r9))
        for eta, r9 in zip(photon.superclusterEta, photon.r9)
    ]
    assert np.allclose(photons.veto(era.it, photon).nominal, expected, rtol=1e-7)


def test_a_shift_of_electrons_is_none_of_photons(tmp_path: Path) -> None:
    text = f"photons: {{file: {ROOT}/examples/corrections/2022/electronSS.json, scale: Scale, smearing: SmearAndSyst}}"
    entry: ElectronCorrections = read(tmp_path, text).photons
    assert entry.described[1:] == ("photons", "photonScale, photonSmearing")
    with pytest.raises(
        NanoMLError, match='no shift "electronScale" up of photons. Known are photonScale, photonSmearing'
    ):
        photons.shifted(Events({}, {}), entry, "electronScale", "up")
