from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import correctionlib
import numpy as np
import pytest
from conftest import DATA

from MLTools.NanoML.corrections import Corrections, taus
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Events
from services import invented

TAU = DATA / "corrections" / "POG" / "TAU" / "2018_UL" / "tau.json.gz"
SHIFTS = {"tauScale": (5, None), "tauElectronScale": (13, None), "tauMuonScale": (24, None), "tauScaleDM10": (5, 10)}


def events_of(path: Path) -> Events:
    with RootFile(path) as opened:
        arrays = opened.read([*taus.BRANCHES, *taus.SIMULATED])
    return Events(arrays, dict.fromkeys(arrays, "Tau"))


@pytest.mark.parametrize(
    "file", ["nano_v5_mc_ttbar_1000", "nano_v9_mc_ul17_dy", "nano_v13_mc_ggh", "nano_v15_mc_ttbar"]
)
def test_taus_are_those_of_one_after_the_other_under_every_shift(
    file: str, tmp_path: Path, real_files: dict[str, Path]
) -> None:
    if not TAU.is_file():
        pytest.skip(f"no file {TAU}: name the directory of real files by NANOML_TEST_DATA")
    (tmp_path / "era.yaml").write_text(f"taus: {{file: {TAU}, inputs: {{id: DeepTau2017v2p1}}}}")
    entry = Corrections.read(tmp_path / "era.yaml").taus
    plain = correctionlib.CorrectionSet.from_file(str(TAU))["tau_energy_scale"]
    events = events_of(real_files[file])
    tau = events.flat("Tau")
    rows = list(zip(tau.pt.tolist(), tau.eta.tolist(), tau.decayMode.tolist(), tau.genPartFlav.tolist()))

    def scale(row: Any, key: str) -> float:
        pt, eta, mode, kind = row
        return float(plain.evaluate(pt, eta, mode, kind, "DeepTau2017v2p1", key)) if mode in (0, 1, 2, 10, 11) else 1.0

    nominal = taus.corrected(events, entry)
    expected = np.array([scale(row, "nom") for row in rows])
    assert np.allclose(nominal.flat("Tau").pt, tau.pt * expected, rtol=1e-7)
    assert np.allclose(nominal.flat("Tau").mass, tau.mass * expected, rtol=1e-7)
    assert np.unique(expected).size > 1 or not set(tau.genPartFlav) & {1, 2, 3, 4, 5}
    for name, (kinds, mode) in SHIFTS.items():
        for way in ("up", "down"):
            keys = [way if str(row[3]) in str(kinds) and mode in (None, row[2]) else "nom" for row in rows]
            found = taus.shifted(nominal, entry, name, way).flat("Tau").pt
            assert np.allclose(found, tau.pt * [scale(row, key) for row, key in zip(rows, keys)], rtol=1e-7)


def test_files_of_run_3_have_working_points(tmp_path: Path) -> None:
    """In the layout of 2022, of which no copy is here: inputs wp and wp_VSe, no decay mode 2."""
    inputs = {
        "pt": "real",
        "eta": "real",
        "dm": "int",
        "genmatch": "int",
        "id": "string",
        "wp": "string",
        "wp_VSe": "string",
        "syst": "string",
    }
    keys = invented.category("syst", {"nom": 1.01, "up": 1.02, "down": 1.0})
    modes = invented.category("dm", dict.fromkeys((0, 1, 10, 11), keys))
    data = invented.category(
        "id", {"DeepTau2018v2p5": invented.category("wp", {"Medium": invented.category("wp_VSe", {"Tight": modes})})}
    )
    content = {"schema_version": 2, "corrections": [invented.correction("tau_energy_scale", inputs, data)]}
    (tmp_path / "tau.json").write_text(json.dumps(content))
    (tmp_path / "era.yaml").write_text(
        "taus: {file: tau.json, inputs: {id: DeepTau2018v2p5, wp: Medium, wp_VSe: Tight}}"
    )
    entry = Corrections.read(tmp_path / "era.yaml").taus
    arrays: dict[str, Any] = {
        "pt": [[40.0, 50.0]],
        "mass": [[1.0, 1.0]],
        "eta": [[1.0, 1.0]],
        "decayMode": [[10, 2]],
        "genPartFlav": [[5, 5]],
    }
    events = Events(
        {f"Tau_{name}": ak.Array(values) for name, values in arrays.items()}, {f"Tau_{name}": "Tau" for name in arrays}
    )
    nominal = taus.corrected(events, entry)
    assert nominal.flat("Tau").pt.tolist() == [40.0 * 1.01, 50.0]
    assert np.allclose(taus.shifted(nominal, entry, "tauScale", "up").flat("Tau").pt, [40.0 * 1.02, 50.0])
    with pytest.raises(NanoMLError, match='no shift "tauScal" up of taus. Known are tauScale, tauElectronScale'):
        taus.shifted(nominal, entry, "tauScal", "up")
    with pytest.raises(NanoMLError, match="call `corrected` in `prepare`"):
        taus.shifted(events, entry, "tauScale", "up")
