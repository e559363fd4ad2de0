from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from conftest import ROOT
from MLTools.NanoML.corrections import Corrections, electrons, photons
from MLTools.NanoML.corrections.electrons import ElectronCorrections
from MLTools.NanoML.corrections.inputs import ELECTRON, PHOTON, normal_numbers
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Events
from services import real
from services.real import POG, V9, V13, V15, check_refusals, each_object, era, events_of, nanoaod, plain, pog

INVENTED = ROOT / "examples" / "corrections"
COUNTS = [2, 0, 1, 3, 1]
RANDOM = np.random.default_rng(5)
EGM = POG / "EGM" / "2022_Summer22"
INVENTED_ENTRY = f"file: {INVENTED}/2022/electronSS.json, scale: Scale, smearing: SmearAndSyst"
CASES = {
    "made": (INVENTED_ENTRY, ""),
    "2022": (f"file: {EGM}/electronSS_EtDependent.json.gz, scale: Scale, smearing: SmearAndSyst", V13),
    "2022, first": (f"file: {EGM}/electronSS.json.gz, scale: Scale, smearing: Smearing", V13),
}
CASES = {name: case for name, case in CASES.items() if Path(case[0].split()[1].rstrip(",")).is_file()}
"""The entries of which the file is here, and whose events: of a file, or made here."""


def made() -> Events:
    number = sum(COUNTS)
    columns: dict[str, Any] = {"pt": RANDOM.uniform(20, 120, number), "eta": RANDOM.uniform(-2.4, 2.4, number)}
    columns |= {"deltaEtaSC": RANDOM.normal(0, 0.02, number), "r9": RANDOM.uniform(0.7, 1.0, number)}
    columns["seedGain"] = RANDOM.choice([12, 12, 6, 1], number).astype(np.uint8)
    columns |= {name: RANDOM.normal(0, 0.2, number) for name in ("dEsigmaUp", "dEsigmaDown")}
    lists = {f"Electron_{name}": ak.unflatten(values, COUNTS) for name, values in columns.items()}
    numbers = {"run": np.array([355900, 356400, 357000, 357600, 355100], np.uint32)}
    numbers.update(luminosityBlock=np.arange(1, 6, dtype=np.uint32), event=np.arange(11, 16, dtype=np.uint64))
    return Events({**lists, **numbers}, dict.fromkeys(lists, "Electron"))


def read(folder: Path, entry: str) -> ElectronCorrections:
    found: ElectronCorrections = era(folder, f"electrons: {{{entry}}}").electrons
    return found


def each_electron(events: Events) -> list[dict[str, float]]:
    return each_object(events, "Electron", ("pt", "eta", "deltaEtaSC", "r9", "seedGain"), ELECTRON)


class OneByOne:
    """The energy of electrons by correctionlib itself, in both forms that files of EGM have."""

    def __init__(self, corrections: ElectronCorrections) -> None:
        assert corrections.scale is not None
        assert corrections.smearing is not None
        whole = plain(corrections.scale.correction.file.path)
        self.depends_on_pt = corrections.scale.correction.is_compound
        self.scale = whole.compound["Scale"] if self.depends_on_pt else whole["Scale"]
        self.smearing = whole[corrections.smearing.correction.name]

    def in_data(self, e: dict[str, float]) -> float:
        eta = e["eta"] + e["deltaEtaSC"]
        if self.depends_on_pt:
            return float(self.scale.evaluate("scale", e["run"], eta, e["r9"], e["pt"], e["seedGain"]))
        return float(self.scale.evaluate("total_correction", int(e["seedGain"]), e["run"], eta, e["r9"], e["pt"]))

    def in_simulation(self, e: dict[str, float], name: str = "", sign: int = 0) -> float:
        eta = e["eta"] + e["deltaEtaSC"]
        if self.depends_on_pt:
            keys = ("smear", "esmear", "escale")
            width, width_error, scale_error = (self.smearing.evaluate(it, e["pt"], e["r9"], eta) for it in keys)
        else:
            width, width_error = (self.smearing.evaluate(key, eta, e["r9"]) for key in ("rho", "err_rho"))
            given = (int(e["seedGain"]), 1.0, eta, e["r9"], e["pt"])
            scale_error = self.scale.evaluate("total_uncertainty", *given)
        if name == "electronSmearing":
            return 1 + e["normal"] * (width + sign * width_error)
        return (1 + e["normal"] * width) * (1 + (sign * scale_error if name else 0))


@pytest.mark.parametrize("case", CASES)
def test_electrons_are_those_of_one_after_the_other_under_every_shift(case: str, tmp_path: Path) -> None:
    entry, file = CASES[case]
    corrections = read(tmp_path, entry)
    events = events_of(nanoaod(file), electrons.BRANCHES, 100) if file else made()
    if "first" in case:  # it ends with the last run of its era
        run = np.asarray(events.run)
        events = events.replaced(["run"], lambda _: {"run": np.minimum(run, 357900)})
    one, listed = OneByOne(corrections), each_electron(events)
    assert len(listed) > 5
    before = np.array([e["pt"] for e in listed])
    in_data = electrons.corrected(events, corrections, is_data=True)
    assert np.allclose(in_data.flat("Electron").pt, before * [one.in_data(e) for e in listed], rtol=1e-12)
    nominal = electrons.corrected(events, corrections, is_data=False)
    assert np.allclose(nominal.flat("Electron").pt, before * [one.in_simulation(e) for e in listed], rtol=1e-12)
    for shift in ("electronScale", "electronSmearing"):
        for direction, sign in (("up", 1), ("down", -1)):
            found = electrons.shifted(nominal, corrections, shift, direction).flat("Electron").pt
            expected = before * [one.in_simulation(e, shift, sign) for e in listed]
            assert np.allclose(found, expected, rtol=1e-12)
            assert not np.allclose(found, nominal.flat("Electron").pt, rtol=1e-6)
            # of some of the events, as after a cut
            some = electrons.corrected(events, corrections, is_data=False)[np.arange(len(events)) % 2 == 1]
            left = electrons.shifted(some, corrections, shift, direction).flat("Electron").pt
            assert left.tolist() == found[events.flat("Electron").event % 2 == 1].tolist()


def test_energies_that_are_corrected_already_have_their_own_shifts() -> None:
    corrections = Corrections.read(INVENTED / "2018.yaml").electrons
    events = made()
    listed, error = each_electron(events), events.flat("Electron")
    assert electrons.corrected(events, corrections, is_data=False) is events
    uncertainty = plain(INVENTED / "2018" / "electronSS.json")["UL-EGM_ScaleUnc"]
    for direction in ("up", "down"):
        scaled = electrons.shifted(events, corrections, "electronScale", direction).flat("Electron").pt
        smeared = electrons.shifted(events, corrections, "electronSmearing", direction).flat("Electron").pt
        for place, e in enumerate(listed):
            factor = uncertainty.evaluate("2018", f"scale{direction}", e["eta"] + e["deltaEtaSC"], int(e["seedGain"]))
            assert np.isclose(scaled[place], e["pt"] * factor, rtol=1e-12)
            # NanoAOD has the energy minus that under the shift
            energy = e["pt"] * np.cosh(e["eta"]) - error[f"dEsigma{direction.capitalize()}"][place]
            assert np.isclose(smeared[place], energy / np.cosh(e["eta"]), rtol=1e-12)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (INVENTED_ENTRY.replace(", smearing: SmearAndSyst", ""), "era.yaml:1: electrons: name `scale` and `smearing`"),
        (f"{INVENTED_ENTRY}, uncertainty: Scale", "name `scale` and `smearing`; or"),
        (INVENTED_ENTRY.replace("Scale", "Scal"), "electrons: .*Did you mean .Scale"),
        (f"file: {INVENTED}/2018/electronSS.json, uncertainty: UL-EGM_ScaleUnc, inputs: {{year: 7}}", "year is 7"),
    ],
)
def test_an_entry_that_cannot_be_is_an_error(entry: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, entry)


def test_a_shift_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    corrections = read(tmp_path, INVENTED_ENTRY)
    said = "electrons. Known are electronScale, electronSm"
    check_refusals(lambda *shift: electrons.shifted(made(), corrections, *shift), "electronScale", "electronScal", said)
    text = (INVENTED / "2022" / "electronSS.json").read_text()
    text = re.sub('"(e?)smear"', lambda it: '"smear"' if it[1] else '"esmear"', text)  # errors above the widths
    (tmp_path / "wide.json").write_text(text)
    wide = read(tmp_path, "file: wide.json, scale: Scale, smearing: SmearAndSyst")
    assert electrons.smearing(wide, *(np.full(1, it) for it in (50.0, 1.0, 0.9, 2.0)))["down"].tolist() == [1.0]
    alone = Corrections.read(INVENTED / "2018.yaml").electrons
    with pytest.raises(NanoMLError, match="the entry names no smearing"):
        electrons.smearing(alone, *(np.ones(1) for _ in range(4)))


def events_with(file: str, *names: str) -> Events:
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
    events = events_with(file, *names, *(photons.VERTEX if file == V9 else ()))
    photon, one = events.flat("Photon"), plain(path)
    eta = photons.eta_from_vertex(events, photon) if file == V9 else photon.superclusterEta
    run, section, number = (np.asarray(events[name])[photon.event] for name in ("run", "luminosityBlock", "event"))
    normal = normal_numbers(run, section, number, photon.place, PHOTON)
    nominal = photons.corrected(events, entry, is_data)
    shifts = [("photonScale", "up", 1, 0), ("photonScale", "down", -1, 0), ("photonSmearing", "up", 0, 1)]
    shifts = [] if is_data else shifts
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
    events = events_with(V15, *photons.VERTEX, "Photon_eta", "Photon_superclusterEta")
    photon = events.flat("Photon")
    assert abs(photon.eta - photon.superclusterEta).max() > 0.05
    # the depth of the shower is not the same for all
    assert abs(photons.eta_from_vertex(events, photon) - photon.superclusterEta).max() < 0.006


@pytest.mark.parametrize("name", ["UL-Photon-CSEV-SF", "UL-Photon-PixVeto-SF"])
def test_the_veto_of_run_2_has_parts_of_the_calorimeter(name: str, tmp_path: Path) -> None:
    path = pog("EGM/2018_UL/photon.json.gz")
    it = era(tmp_path, f"it: {{file: {path}, name: {name}, inputs: {{year: 2018, WorkingPoint: Medium}}}}").it
    photon = events_with(V9, "Photon_r9", "Photon_isScEtaEB").flat("Photon")
    found, one = photons.veto(it, photon), plain(path)[name]
    for key, values in {"sf": found.nominal, "sfup": found["up"], "sfdown": found["down"]}.items():
        for place, value in enumerate(values):
            part = ("EB" if photon.isScEtaEB[place] else "EE") + ("High" if photon.r9[place] > 0.94 else "Low")
            assert value == one.evaluate("2018", key, "Medium", f"{part}R9")
    assert np.unique(found.nominal).size > 2


def test_the_veto_of_run_3_has_eta_and_r9(tmp_path: Path) -> None:
    path, fixed = pog("EGM/2022_Summer22/photon.json.gz"), "inputs: {year: 2022Re-recoBCD, WorkingPoint: Medium}"
    it, one = era(tmp_path, f"it: {{file: {path}, name: Photon-CSEV-SF, {fixed}}}").it, plain(path)["Photon-CSEV-SF"]
    photon = events_with(V13, "Photon_r9", "Photon_superclusterEta").flat("Photon")
    pairs = zip(photon.superclusterEta.tolist(), photon.r9.tolist())
    expected = [one.evaluate("2022Re-recoBCD", "sf", "Medium", eta, r9) for eta, r9 in pairs]
    assert np.allclose(photons.veto(it, photon).nominal, expected, rtol=1e-7)


def test_a_shift_of_electrons_is_none_of_photons(tmp_path: Path) -> None:
    text = f"photons: {{file: {ROOT}/examples/corrections/2022/electronSS.json, scale: Scale, smearing: SmearAndSyst}}"
    entry: ElectronCorrections = era(tmp_path, text).photons
    assert entry.described[1:] == ("photons", "photonScale, photonSmearing")
    said = 'no shift "electronScale" up of photons. Known are photonScale, photonSmearing'
    with pytest.raises(NanoMLError, match=said):
        photons.shifted(Events({}, {}), entry, "electronScale", "up")
