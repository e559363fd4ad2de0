from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.corrections import taus
from MLTools.NanoML.selection import Events
from services import invented
from services.real import V5, V15, check_refusals, era, events_of, nanoaod, plain, pog

SHIFTS = {"tauScale": (5, None), "tauElectronScale": (13, None), "tauMuonScale": (24, None), "tauScaleDM10": (5, 10)}


@pytest.mark.parametrize("file", [V5, V15])
def test_taus_are_those_of_one_after_the_other_under_every_shift(file: str, tmp_path: Path) -> None:
    path = pog("TAU/2018_UL/tau.json.gz")
    entry = era(tmp_path, f"taus: {{file: {path}, inputs: {{id: DeepTau2017v2p1}}}}").taus
    one = plain(path)["tau_energy_scale"]
    events = events_of(nanoaod(file), [*taus.BRANCHES, *taus.SIMULATED], 200)
    tau = events.flat("Tau")
    rows = list(zip(tau.pt.tolist(), tau.eta.tolist(), tau.decayMode.tolist(), tau.genPartFlav.tolist()))

    def scale(row: Any, key: str) -> float:
        pt, eta, mode, kind = row
        return float(one.evaluate(pt, eta, mode, kind, "DeepTau2017v2p1", key)) if mode in (0, 1, 2, 10, 11) else 1.0

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
    texts = ("id", "wp", "wp_VSe", "syst")
    inputs = {"pt": "real", "eta": "real", "dm": "int", "genmatch": "int", **dict.fromkeys(texts, "string")}
    keys = invented.category("syst", {"nom": 1.01, "up": 1.02, "down": 1.0})
    modes = invented.category("dm", dict.fromkeys((0, 1, 10, 11), keys))
    points = invented.category("wp", {"Medium": invented.category("wp_VSe", {"Tight": modes})})
    data = invented.category("id", {"DeepTau2018v2p5": points})
    invented.write(tmp_path / "tau.json", invented.correction("tau_energy_scale", inputs, data))
    entry = era(tmp_path, "taus: {file: tau.json, inputs: {id: DeepTau2018v2p5, wp: Medium, wp_VSe: Tight}}").taus
    columns = {"pt": [40.0, 50.0], "mass": [1.0, 1.0], "eta": [1.0, 1.0], "decayMode": [10, 2], "genPartFlav": [5, 5]}
    arrays: dict[str, Any] = {f"Tau_{name}": ak.Array([values]) for name, values in columns.items()}
    events = Events(arrays, dict.fromkeys(arrays, "Tau"))
    nominal = taus.corrected(events, entry)
    assert nominal.flat("Tau").pt.tolist() == [40.0 * 1.01, 50.0]
    assert np.allclose(taus.shifted(nominal, entry, "tauScale", "up").flat("Tau").pt, [40.0 * 1.02, 50.0])
    said = "taus. Known are tauScale, tauElectronScale"
    check_refusals(lambda *shift: taus.shifted(events, entry, *shift), "tauScale", "tauScal", said)
