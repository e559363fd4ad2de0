from __future__ import annotations

import json
from pathlib import Path

import correctionlib
import numpy as np
import pytest

from MLTools.NanoML.corrections import Corrections, jet_id
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Events, Flat
from services import invented

MULTIPLICITIES = ("chMultiplicity", "neMultiplicity")


def events_of(path: Path, names: tuple[str, ...]) -> Events:
    with RootFile(path) as opened:
        arrays = opened.read([f"Jet_{name}" for name in names])
    return Events(arrays, dict.fromkeys(arrays, "Jet"))


def write_file(path: Path) -> None:
    """A file in the layout of JME's jetid.json, of which no copy is here: nested bins, the result 0 or 1."""
    inputs = dict.fromkeys((*jet_id.FRACTIONS, "multiplicity"), "real")

    def with_veto(passed: float) -> object:
        return invented.binning("muEF", (0.0, 0.8, 1.1), [passed, 0.0])

    tight = invented.binning("multiplicity", (0.0, 2.0, 999.0), [0.0, 1.0])
    veto = invented.binning("multiplicity", (0.0, 2.0, 999.0), [0.0, with_veto(1.0)])
    found = []
    for name, central in (("AK4PUPPI_Tight", tight), ("AK4PUPPI_TightLeptonVeto", veto)):
        forward = invented.binning("neEmEF", (0.0, 0.4, 1.1), [1.0, 0.0])
        data = invented.binning("eta", (-5.2, -2.6, 2.6, 5.2), [forward, central, forward], "error")
        found.append(invented.correction(name, inputs, data))
    path.write_text(json.dumps({"schema_version": 2, "corrections": found}))


@pytest.mark.parametrize("file", ["nano_v13_mc_ggh", "nano_v13_data_egamma2022E_run359571", "nano_v15_mc_ttbar"])
@pytest.mark.parametrize("name", ["AK4PUPPI_Tight", "AK4PUPPI_TightLeptonVeto"])
def test_the_file_decides_jet_by_jet(name: str, file: str, tmp_path: Path, real_files: dict[str, Path]) -> None:
    write_file(tmp_path / "jetid.json")
    (tmp_path / "era.yaml").write_text(f"jet_id: {{file: jetid.json, name: {name}}}")
    correction = Corrections.read(tmp_path / "era.yaml").jet_id
    plain = correctionlib.CorrectionSet.from_file(str(tmp_path / "jetid.json"))[name]
    events = events_of(real_files[file], jet_id.FRACTIONS)
    jets = events.flat("Jet")
    found = jet_id.passes(jets, correction)
    for place in range(len(jets.event)):
        row = {each: float(jets[each][place]) for each in jet_id.FRACTIONS}
        values = [row[each] for each in jet_id.FRACTIONS]
        values[0] = min(max(values[0], -5.19), 5.19)
        assert found[place] == (plain.evaluate(*values, row["chMultiplicity"] + row["neMultiplicity"]) == 1)
    assert 0 < found.sum() < len(found)
    assert jet_id.passes(events.Jet, correction).tolist() == [
        found[jets.event == row].tolist() for row in range(len(jets))
    ]


@pytest.mark.parametrize("file", ["nano_v13_mc_ggh", "nano_v13_data_egamma2022E_run359571"])
def test_the_formula_is_that_of_nanoaod_but_for_forward_jets(file: str, real_files: dict[str, Path]) -> None:
    """But for a jet at a limit, for which the precision of NanoAOD decides."""
    jets = events_of(real_files[file], (*jet_id.FRACTIONS, "jetId")).flat("Jet")
    for veto, bit in ((False, 2), (True, 4)):
        differs = jet_id.passes(jets, lepton_veto=veto) != ((jets.jetId & bit) > 0)
        assert differs[abs(jets.eta) <= 3].sum() <= 2
        assert differs[abs(jets.eta) > 3].sum() > 10  # there the bits of NanoAOD are wrong


def test_the_bits_are_repaired_for_forward_puppi_jets_without_multiplicities(tmp_path: Path) -> None:
    """As in NanoAOD v12."""
    columns = {
        "eta": [1.0, 1.0, 2.65, 2.8, -2.8, 4.0, -4.0, 1.0],
        "jetId": [6, 2, 6, 6, 6, 6, 6, 0],
        "neHEF": [0.1, 0.1, 0.1, 0.995, 0.5, 0.1, 0.1, 0.1],
        "neEmEF": [0.1, 0.1, 0.5, 0.1, 0.1, 0.5, 0.3, 0.1],
        "muEF": [0.1, 0.9, 0.1, 0.1, 0.1, 0.9, 0.9, 0.1],
        "chEmEF": [0.1, 0.1, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1],
    }  # fmt: skip
    jets = Flat(
        {name: np.array(values, np.uint8 if name == "jetId" else float) for name, values in columns.items()},
        np.array([0, 8]),
    )
    tight, veto = [1, 1, 1, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 0, 1, 0]
    assert jet_id.passes(jets).tolist() == list(map(bool, tight))
    assert jet_id.passes(jets, lepton_veto=True).tolist() == list(map(bool, veto))
    write_file(tmp_path / "jetid.json")
    (tmp_path / "era.yaml").write_text("jet_id: {file: jetid.json, name: AK4PUPPI_TightLeptonVeto}")
    assert jet_id.passes(jets, Corrections.read(tmp_path / "era.yaml").jet_id).tolist() == list(map(bool, veto))


@pytest.mark.parametrize("file", ["nano_v5_mc_ttbar_1000", "nano_v6_data_dimuon_run315267", "nano_v9_mc_ul17_dy"])
def test_the_bits_of_run_2_are_right(file: str, real_files: dict[str, Path]) -> None:
    jets = events_of(real_files[file], ("eta", "jetId")).flat("Jet")
    for veto, bit in ((False, 2), (True, 4)):
        found = jet_id.passes(jets, lepton_veto=veto, is_puppi=False)
        assert found.tolist() == [bool(each & bit) for each in jets.jetId.tolist()]


def test_many_constituents_do_not_overflow() -> None:
    """NanoAOD has their numbers as bytes."""
    columns = {name: np.array([0.1]) for name in jet_id.FRACTIONS}
    columns |= {"chMultiplicity": np.array([200], np.uint8), "neMultiplicity": np.array([57], np.uint8)}
    assert jet_id.passes(Flat(columns, np.array([0, 1]))).tolist() == [True]
    del columns["chHEF"]
    with pytest.raises(
        NanoMLError, match="the identification of jets needs chHEF, but these objects have no chHEF: add the branch"
    ):
        jet_id.passes(Flat(columns, np.array([0, 1])))
