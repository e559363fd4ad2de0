from __future__ import annotations

import awkward as ak
import numpy as np

from MLTools.NanoML.selection import Events, away_from

RANDOM = np.random.default_rng(7)


def objects(counts: list[int]) -> dict[str, ak.Array]:
    """Directions, of which many are near the edge of the azimuth."""
    number = sum(counts)
    phi = np.where(RANDOM.random(number) < 0.5, RANDOM.uniform(2.9, 3.3, number), RANDOM.uniform(-1, 1, number))
    columns = {"eta": RANDOM.uniform(-0.6, 0.6, number), "phi": np.angle(np.exp(1j * phi))}
    return {name: ak.unflatten(values, counts) for name, values in columns.items()}


def test_jets_near_leptons_are_none() -> None:
    counts = {"Jet": [3, 0, 2, 20, 4], "Muon": [2, 1, 0, 5, 2], "Electron": [0, 2, 0, 3, 1]}
    arrays = {f"{name}_{key}": it for name, each in counts.items() for key, it in objects(each).items()}
    events = Events(arrays, {name: name.split("_")[0] for name in arrays})
    for distance in (0.4, 0.8):
        found = away_from(events.Jet, events.Muon, events.flat("Electron"), distance=distance)
        for row in range(5):
            others = [*zip(*(arrays[f"Muon_{key}"][row] for key in ("eta", "phi")))]
            others += zip(*(arrays[f"Electron_{key}"][row] for key in ("eta", "phi")))
            for place, (eta, phi) in enumerate(zip(arrays["Jet_eta"][row], arrays["Jet_phi"][row])):
                apart = [np.hypot(eta - e, np.angle(np.exp(1j * (phi - p)))) for e, p in others]
                assert found[row, place] == all(it >= distance for it in apart)
        assert 0 < ak.sum(found) < 29
