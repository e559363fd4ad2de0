"""Triggers of several leptons, against the sum over all legs that may fire."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from numpy.typing import NDArray

from MLTools.NanoML.corrections import Factor
from MLTools.NanoML.corrections.survey.propose import propose
from MLTools.NanoML.corrections.triggers import Leptons, pair, weight
from MLTools.NanoML.errors import ConfigError, NanoMLError
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.rootio.lists import offsets_of
from services import invented
from services.real import era, plain

LEGS = ("trailing", "leading", "single")


def drawn(counts: NDArray[np.int64], seed: int) -> Leptons:
    """Leptons with efficiencies at random, also of tighter legs above those of looser ones, as they fluctuate."""
    random = np.random.default_rng(seed)

    def legs() -> dict[str, NDArray[np.float64]]:
        return dict(zip(LEGS, random.uniform(size=(3, counts.sum()))))

    of = {name: Factor(values, {"up": np.sqrt(values)}) for name, values in legs().items()}
    return Leptons(of, {name: Factor(values) for name, values in legs().items()}, Flat({}, offsets_of(counts)))


def summed(kinds: list[Leptons], event: int, is_data: bool, variation: str, is_mixed: bool, names: tuple[str, ...]) -> float:  # fmt: skip
    """The probability that an event fires: of each lepton, the tightest leg that it fires is one of four."""
    chances: list[list[float]] = []
    kind_of: list[int] = []
    for number, kind in enumerate(kinds):
        assert kind.objects is not None
        for place in np.flatnonzero(kind.objects.event == event):
            legs = kind.data if is_data else kind.simulation
            at = [1.0, *(float(legs[name][variation][place]) if name in names else -1.0 for name in LEGS), 0.0]
            for level in (3, 2, 1):  # a leg that no trigger has is as efficient as the next tighter one
                at[level] = max(at[level], at[level + 1] if level < 3 else 0.0)
            chances.append([at[level] - at[level + 1] for level in range(4)])
            kind_of.append(number)
    total = 0.0
    for fired in itertools.product(range(4), repeat=len(chances)):
        pairs = itertools.permutations(range(len(fired)), 2)
        if 3 in fired or any(
            fired[one] >= 2 and fired[other] >= 1 and (is_mixed or kind_of[one] == kind_of[other])
            for one, other in pairs
        ):
            total += float(np.prod([chance[level] for chance, level in zip(chances, fired)]))
    return total


@pytest.mark.parametrize(
    ("names", "is_mixed"),
    [(LEGS, False), (LEGS, True), (("trailing", "leading"), True), (("leading",), False), (("single",), True)],
)
def test_the_weight_is_the_sum_over_all_that_may_fire(names: tuple[str, ...], is_mixed: bool) -> None:
    random = np.random.default_rng(7)
    kinds = [drawn(random.integers(0, 4, 10), seed) for seed in (1, 2)]
    given = [Leptons({n: k.data[n] for n in names}, {n: k.simulation[n] for n in names}, k.objects) for k in kinds]
    found = weight(*given, is_mixed=is_mixed)
    for event, variation in itertools.product(range(10), ("nominal", "up")):
        in_data, expected = (summed(kinds, event, is_data, variation, is_mixed, names) for is_data in (True, False))
        ratio = in_data / expected if expected > 1e-12 else 1.0
        assert found[variation][event] == pytest.approx(ratio, rel=1e-9)


def test_known_formulas() -> None:
    """1 - prod(1 - e) for triggers of one lepton, L1 T2 + T1 L2 - L1 L2 for triggers of two."""
    data = Factor(ak.Array([[0.9, 0.5], [], [0.8]]), {"up": ak.Array([[0.95, 0.55], [], [0.85]])})
    simulation = Factor(ak.Array([[0.8, 0.5], [], [0.0]]))
    found = weight(Leptons({"single": data}, {"single": simulation}))
    assert np.allclose(found.nominal, [0.95 / 0.9, 1, 1])
    assert np.allclose(found["up"], [(1 - 0.05 * 0.45) / 0.9, 1, 1])
    two = {"leading": Factor(ak.Array([[0.7, 0.6]])), "trailing": Factor(ak.Array([[0.9, 0.8]]))}
    certain = {"leading": Factor(ak.Array([[1.0, 1.0]]))}
    (found_two,) = np.asarray(weight(Leptons(two, certain)).nominal)
    assert found_two == pytest.approx(0.7 * 0.8 + 0.9 * 0.6 - 0.7 * 0.6)
    with pytest.raises(NanoMLError, match="leg `single`, or of `leading`"):
        weight(Leptons({"trailing": data}, {"trailing": simulation}))
    with pytest.raises(NanoMLError, match="need two kinds, but got 1"):
        weight(Leptons(two, certain), is_mixed=True)


def file_of_legs(folder: Path) -> Path:
    """A file in the layout of EGM's electronHlt.json, with three legs."""
    corrections = []
    for name, shift in (("DataEff", 0.0), ("McEff", 0.02)):
        legs = {
            f"leg{place}": invented.category(
                "ValType",
                {
                    key: invented.binning("pt", (15.0, 30.0, 200.0), [0.5 + up, top + shift + up], "error")
                    for key, up in (("nom", 0.0), ("up", 0.03), ("down", -0.03))
                },
            )
            for place, top in enumerate((0.8, 0.9, 0.96))
        }
        inputs = {"ValType": "string", "Path": "string", "eta": "real", "pt": "real"}
        corrections.append(invented.correction(f"Electron-HLT-{name}", inputs, invented.category("Path", legs)))
    return invented.write(folder / "electronHlt.json", *corrections)


def test_an_entry_has_the_legs_of_its_file(tmp_path: Path) -> None:
    path, legs = file_of_legs(tmp_path), {name: {"Path": f"leg{place}"} for place, name in enumerate(LEGS[::-1])}
    entry = {"file": path.name, "data": {"name": "Electron-HLT-DataEff"}, "simulation": {"name": "Electron-HLT-McEff"}}
    text = json.dumps({"electron_legs": {**entry, "legs": legs}})
    random, counts = np.random.default_rng(1), np.array([2, 0, 3, 1])
    columns = {"pt": np.array([25.0, 40, 10, 900, 31, 70]), "eta": random.uniform(-2, 2, 6), "deltaEtaSC": np.zeros(6)}
    electrons = Flat(columns, offsets_of(counts))
    found, one = era(tmp_path, text).electron_legs.on(electrons).named("electron"), plain(path)
    for which, opposite, end in (("nom", "nom", ""), ("up", "down", "electron_up"), ("down", "up", "electron_down")):
        for correction, key, given in (("Data", which, found.data), ("Mc", opposite, found.simulation)):
            for place, leg in enumerate(LEGS[::-1]):
                values = [
                    one[f"Electron-HLT-{correction}Eff"].evaluate(key, f"leg{place}", 0.0, min(pt, 199.0))
                    if pt > 15
                    else 0.0
                    for pt in columns["pt"]
                ]
                assert given[leg][end].tolist() == values
    ragged = ak.zip({name: ak.unflatten(values, counts) for name, values in columns.items()})
    again = weight(era(tmp_path, text).electron_legs.on(ragged).named("electron"))
    assert again.nominal.tolist() == weight(found).nominal.tolist()
    assert set(again.variations) == {"electron_up", "electron_down"}
    (tmp_path / "2030_X").mkdir()
    path.rename(tmp_path / "2030_X" / path.name)
    proposed = era(tmp_path, propose(tmp_path, "2030", tmp_path).text).electron_legs
    assert proposed.described[:2] == ("Electron-HLT-DataEff, Electron-HLT-McEff", "single")
    entry["file"] = f"2030_X/{path.name}"
    with pytest.raises(ConfigError, match="single, leading or trailing"):
        era(tmp_path, json.dumps({"electron_legs": {**entry, "legs": {"hard": {}}}}))


def test_a_pair_has_one_scale_factor(tmp_path: Path) -> None:
    edges = (20.0, 50.0, 200.0)
    rows = [invented.binning("lepton2_pt", edges, values, "error") for values in ((1.0, 2.0), (3.0, 4.0))]
    keys = {"nominal": invented.binning("lepton1_pt", edges, rows, "error"), "up": 5.0, "down": 0.5}
    inputs = {"syst": "string", "lepton1_pt": "real", "lepton2_pt": "real", "subleadingAbsEta": "real", "njet": "int"}
    content = invented.correction("ee", inputs, invented.category("syst", keys))
    invented.write(tmp_path / "trigger.json", content)
    correction = era(tmp_path, "trigger: {file: trigger.json, name: ee}").trigger
    pt = ak.Array([[25.0, 60.0], [60.0], [], [900.0, 12.0, 70.0]])
    found = pair(correction, ak.zip({"pt": pt, "eta": -pt}), njet=np.arange(4))
    assert found.nominal.tolist() == [3, 1, 1, 4]
    assert found["up"].tolist() == [5, 1, 1, 5]
    with pytest.raises(NanoMLError, match="needs subleadingAbsEta, but these objects have no eta"):
        pair(correction, ak.zip({"pt": pt}), njet=np.arange(4))
