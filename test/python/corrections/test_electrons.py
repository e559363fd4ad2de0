from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import correctionlib
import numpy as np
import pytest
from conftest import DATA, ROOT

from MLTools.NanoML.corrections import Corrections, electrons
from MLTools.NanoML.corrections.electrons import ElectronCorrections
from MLTools.NanoML.corrections.random_numbers import ELECTRON, normal_numbers
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, DatasetInfo, Events, Selection
from MLTools.NanoML.selection.tryout import on_events
from services.jets import read

INVENTED = ROOT / "examples" / "corrections"
COUNTS = [2, 0, 1, 3, 1]
RANDOM = np.random.default_rng(5)
EGM = DATA / "corrections" / "POG" / "EGM"
ENTRIES = {
    "invented": f"file: {INVENTED}/2022/electronSS.json, scale: Scale, smearing: SmearAndSyst",
    "2022": f"file: {EGM}/2022_Summer22/electronSS_EtDependent.json.gz, scale: Scale, smearing: SmearAndSyst",
    "2022, first": f"file: {EGM}/2022_Summer22/electronSS.json.gz, scale: Scale, smearing: Smearing",
}
ERAS = [name for name, entry in ENTRIES.items() if Path(entry.split()[1].rstrip(",")).is_file()]
"""Those of which the file is here."""


def made() -> dict[str, Any]:
    """Events with electrons."""
    number = sum(COUNTS)
    columns = {
        "pt": RANDOM.uniform(20, 120, number),
        "eta": RANDOM.uniform(-2.4, 2.4, number),
        "deltaEtaSC": RANDOM.normal(0, 0.02, number),
        "r9": RANDOM.uniform(0.7, 1.0, number),
        "seedGain": RANDOM.choice([12, 12, 6, 1], number).astype(np.uint8),
        "dEsigmaUp": RANDOM.normal(0, 0.2, number),
        "dEsigmaDown": RANDOM.normal(0, 0.2, number),
    }
    events = {f"Electron_{name}": ak.unflatten(values, COUNTS) for name, values in columns.items()}
    events.update(run=np.array([355900, 356400, 357000, 357600, 355100], np.uint32))
    events.update(luminosityBlock=np.arange(1, 6, dtype=np.uint32), event=np.arange(11, 16, dtype=np.uint64))
    return events


def of(events: Mapping[str, Any]) -> Events:
    return Events(dict(events), {name: "Electron" for name in events if name.startswith("Electron_")})


def era(folder: Path, entry: str) -> ElectronCorrections:
    (folder / "era.yaml").write_text(f"electrons: {{{entry}}}")
    found: ElectronCorrections = Corrections.read(folder / "era.yaml").electrons
    return found


def each_electron(events: Mapping[str, Any]) -> list[dict[str, float]]:
    """The electrons one after the other."""
    found = []
    for row, count in enumerate(ak.num(events["Electron_pt"]).tolist()):
        for place in range(count):
            columns = {
                name[9:]: float(values[row][place]) for name, values in events.items() if name.startswith("Electron_")
            }
            identifiers = [np.array([events[name][row]]) for name in ("run", "luminosityBlock", "event")]
            normal = float(normal_numbers(*identifiers, np.array([place]), ELECTRON)[0])
            found.append({**columns, "run": float(events["run"][row]), "normal": normal})
    return found


class OneByOne:
    """The energy of electrons by correctionlib itself, in both forms that files of EGM have."""

    def __init__(self, corrections: ElectronCorrections) -> None:
        assert corrections.scale is not None
        assert corrections.smearing is not None
        whole = correctionlib.CorrectionSet.from_file(str(corrections.scale.correction.file.path))
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
            width, width_error, scale_error = (
                self.smearing.evaluate(key, e["pt"], e["r9"], eta) for key in ("smear", "esmear", "escale")
            )
        else:
            width, width_error = (self.smearing.evaluate(key, eta, e["r9"]) for key in ("rho", "err_rho"))
            given = (int(e["seedGain"]), 1.0, eta, e["r9"], e["pt"])
            scale_error = self.scale.evaluate("total_uncertainty", *given)
        if name == "electronSmearing":
            return 1 + e["normal"] * (width + sign * width_error)
        return (1 + e["normal"] * width) * (1 + (sign * scale_error if name else 0))


@pytest.mark.parametrize("name", ERAS)
@pytest.mark.parametrize("file", ["made", "nano_v13_mc_ggh", "nano_v13_data_egamma2022E_run359571"])
def test_electrons_are_those_of_one_after_the_other_under_every_shift(name: str, file: str, tmp_path: Path) -> None:
    corrections = era(tmp_path, ENTRIES[name])
    path = DATA / "real" / f"{file}.root"
    if file != "made" and not path.is_file():
        pytest.skip(f"no NanoAOD file {path}: name the directory of real files by NANOML_TEST_DATA")
    events = made() if file == "made" else dict(read(path, electrons.BRANCHES, 100))
    if name == "2022, first":  # it ends with the last run of its era
        events["run"] = np.minimum(np.asarray(events["run"]), 357900)
    one, listed = OneByOne(corrections), each_electron(events)
    assert len(listed) > 5
    before = np.array([e["pt"] for e in listed])
    in_data = electrons.corrected(of(events), corrections, is_data=True)
    assert np.allclose(in_data.flat("Electron").pt, before * [one.in_data(e) for e in listed], rtol=1e-12)
    nominal = electrons.corrected(of(events), corrections, is_data=False)
    assert np.allclose(nominal.flat("Electron").pt, before * [one.in_simulation(e) for e in listed], rtol=1e-12)
    for shift in ("electronScale", "electronSmearing"):
        for direction, sign in (("up", 1), ("down", -1)):
            found = electrons.shifted(nominal, corrections, shift, direction).flat("Electron").pt
            expected = before * [one.in_simulation(e, shift, sign) for e in listed]
            assert np.allclose(found, expected, rtol=1e-12)
            assert not np.allclose(found, nominal.flat("Electron").pt, rtol=1e-6)


def test_energies_that_are_corrected_already_have_their_own_shifts() -> None:
    corrections = Corrections.read(INVENTED / "2018.yaml").electrons
    arrays = made()
    events, listed = of(arrays), each_electron(arrays)
    assert electrons.corrected(events, corrections, is_data=False) is events
    plain = correctionlib.CorrectionSet.from_file(str(INVENTED / "2018" / "electronSS.json"))["UL-EGM_ScaleUnc"]
    for direction in ("up", "down"):
        scaled = electrons.shifted(events, corrections, "electronScale", direction).flat("Electron").pt
        smeared = electrons.shifted(events, corrections, "electronSmearing", direction).flat("Electron").pt
        for place, e in enumerate(listed):
            factor = plain.evaluate("2018", f"scale{direction}", e["eta"] + e["deltaEtaSC"], int(e["seedGain"]))
            assert np.isclose(scaled[place], e["pt"] * factor, rtol=1e-12)
            # NanoAOD has the energy minus that under the shift
            energy = e["pt"] * np.cosh(e["eta"]) - e[f"dEsigma{direction.capitalize()}"]
            assert np.isclose(smeared[place], energy / np.cosh(e["eta"]), rtol=1e-12)


class TwoElectrons(Selection):
    """Two electrons above 30 GeV."""

    branches = electrons.BRANCHES
    shifts = {"electronScale": UP_DOWN, "electronSmearing": UP_DOWN}
    columns = {"pt": Column("f8", "transverse momentum of the first electron [GeV]")}

    def prepare(self, events: Events) -> Events:
        return electrons.corrected(events, self.dataset.corrections.electrons, self.dataset.is_data)

    def shift(self, events: Events, name: str, direction: str) -> Events:
        return electrons.shifted(events, self.dataset.corrections.electrons, name, direction)

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        events = cutflow.cut("two", ak.sum(events.Electron.pt > 30, axis=1) > 1, events)
        return events, {"pt": events.Electron.pt[:, 0]}


def test_a_selection_has_them_under_its_shifts() -> None:
    events = made()
    events["Electron_pt"] = 0 * events["Electron_pt"] + 50.0
    info = DatasetInfo("signal", "2022", corrections_file=str(INVENTED / "2022.yaml"))
    found = on_events(TwoElectrons().of_dataset(info), events)
    corrections = Corrections.read(INVENTED / "2022.yaml").electrons
    nominal = electrons.corrected(of(events), corrections, is_data=False)
    assert found.rows.tolist() == [0, 3]
    assert found.columns["pt"].tolist() == nominal.Electron.pt[[0, 3], 0].tolist()
    up = electrons.shifted(nominal, corrections, "electronScale", "up").Electron.pt[[0, 3], 0]
    assert found.columns["pt_electronScaleUp"].tolist() == up.tolist()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            f"file: {INVENTED}/2022/electronSS.json, scale: Scale",
            "era.yaml:1: electrons: name `scale` and `smearing`; or",
        ),
        (f"file: {INVENTED}/2022/electronSS.json", "name `scale` and `smearing`; or"),
        (f"{ENTRIES['invented']}, uncertainty: Scale", "name `scale` and `smearing`; or"),
        (
            f"file: {INVENTED}/2022/electronSS.json, scale: Scal, smearing: SmearAndSyst",
            "electrons: .*Did you mean .Scale",
        ),
        (
            f"file: {INVENTED}/2018/electronSS.json, uncertainty: UL-EGM_ScaleUnc, inputs: {{year: 2017}}",
            "year is 2017",
        ),
    ],
)
def test_an_entry_that_cannot_be_is_an_error(entry: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        era(tmp_path, entry)


def test_a_shift_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    corrections = era(tmp_path, ENTRIES["invented"])
    with pytest.raises(
        NanoMLError, match='no shift "electronScal" up of electrons. Known are electronScale, electronSm'
    ):
        electrons.shifted(of(made()), corrections, "electronScal", "up")
    with pytest.raises(NanoMLError, match="call `corrected` in `prepare`"):
        electrons.shifted(of(made()), corrections, "electronScale", "up")
    alone = Corrections.read(INVENTED / "2018.yaml").electrons
    with pytest.raises(NanoMLError, match="the entry names no smearing"):
        electrons.smearing(alone, *(np.ones(1) for _ in range(4)))
