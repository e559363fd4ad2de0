from __future__ import annotations

import re
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from conftest import ROOT

from MLTools.NanoML.corrections import Corrections, electrons
from MLTools.NanoML.corrections.electrons import ElectronCorrections
from MLTools.NanoML.corrections.random_numbers import ELECTRON
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.selection import Events
from services.real import POG, V13, check_refusals, each_object, era, events_of, nanoaod, plain

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
        (
            INVENTED_ENTRY.replace(", smearing: SmearAndSyst", ""),
            "era.yaml:1: electrons: name `scale` and `smearing`; or",
        ),
        (f"{INVENTED_ENTRY}, uncertainty: Scale", "name `scale` and `smearing`; or"),
        (INVENTED_ENTRY.replace("Scale", "Scal"), "electrons: .*Did you mean .Scale"),
        (
            f"file: {INVENTED}/2018/electronSS.json, uncertainty: UL-EGM_ScaleUnc, inputs: {{year: 2017}}",
            "year is 2017",
        ),
    ],
)
def test_an_entry_that_cannot_be_is_an_error(entry: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, entry)


def test_a_shift_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    corrections = read(tmp_path, INVENTED_ENTRY)
    check_refusals(
        lambda *shift: electrons.shifted(made(), corrections, *shift),
        *("electronScale", "electronScal", "electrons. Known are electronScale, electronSm"),
    )
    text = (INVENTED / "2022" / "electronSS.json").read_text()
    text = re.sub('"(e?)smear"', lambda it: '"smear"' if it[1] else '"esmear"', text)  # errors above the widths
    (tmp_path / "wide.json").write_text(text)
    wide = read(tmp_path, "file: wide.json, scale: Scale, smearing: SmearAndSyst")
    assert electrons.smearing(wide, *(np.full(1, it) for it in (50.0, 1.0, 0.9, 2.0)))["down"].tolist() == [1.0]
    alone = Corrections.read(INVENTED / "2018.yaml").electrons
    with pytest.raises(NanoMLError, match="the entry names no smearing"):
        electrons.smearing(alone, *(np.ones(1) for _ in range(4)))
