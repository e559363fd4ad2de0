from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import awkward as ak
import numpy as np
import pytest

from MLTools.NanoML.corrections import rochester
from MLTools.NanoML.corrections.inputs import MUON, normal_numbers
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.selection import Events
from services.real import DATA_V6, V15, check_refusals, era, events_of, nanoaod

ETA, ABS_ETA, PHI, LAYERS, LEAST = (-2.4, 0.0, 1.2, 2.4), (0.0, 1.0, 2.4), 4, 3, 6
COUNTS = (1, 3, 1)


def write(path: Path) -> dict[tuple[int, int], dict[Any, list[float]]]:
    """A file in the authors' layout with invented numbers; and the numbers, by set and member, tag and indices."""
    random = np.random.default_rng(7)
    ranges = [(0.01, 0.02), (1e-5, 1e-4), (1e-6, 1e-5), (0.9, 1.1), (1.2, 2.0), (3.0, 8.0)]
    lines = [f"NSET {len(COUNTS)}", f"NMEM {' '.join(map(str, COUNTS))}", "TVAR 0 1 2", f"CPHI {PHI}"]
    lines += [f"CETA {len(ETA) - 1} {' '.join(map(str, ETA))}", f"RMIN {LEAST}", f"RTRK {LAYERS}"]
    lines += [f"RETA {len(ABS_ETA) - 1} {' '.join(map(str, ABS_ETA))}"]
    made: dict[tuple[int, int], dict[Any, list[float]]] = {}
    for key in ((number, each) for number, count in enumerate(COUNTS) for each in range(count)):
        rows: dict[Any, list[float]] = {}
        for kind in (0, 1):
            rows["F", kind] = random.uniform(1.0, 1.1, len(ABS_ETA) - 1).tolist()
            for quantity, size in ((0, 0.1), (1, 0.005)):
                for row in range(len(ETA) - 1):
                    rows["C", kind, quantity, row] = random.normal(0, size, PHI).tolist()
        rows["F", 1][0] = 0.9  # data are better there: nothing is smeared
        for quantity, (low, high) in enumerate(ranges):
            for row in range(len(ABS_ETA) - 1):
                rows["R", quantity, row] = random.uniform(low, high, LAYERS).tolist()
        lines += [" ".join([*map(str, (*key, *at)), *map(repr, values)]) for at, values in rows.items()]
        made[key] = rows
    path.write_text("\n".join(lines) + "\n")
    return made


def quantile(sigma: float, edge: float, power: float, share: float) -> float:
    """Of a Gaussian with two tails, by halving."""
    normal, tail = NormalDist(), power / edge / (power - 1) * math.exp(-(edge**2) / 2)
    middle = math.sqrt(2 * math.pi) * (2 * normal.cdf(edge) - 1)

    def below(x: float) -> float:
        if x > 0:
            return middle + 2 * tail - below(-x)
        if x < -edge:
            return tail * (power / edge / (power / edge - edge - x)) ** (power - 1)
        return tail + math.sqrt(2 * math.pi) * (normal.cdf(x) - normal.cdf(-edge))

    low, high = -1000.0, 1000.0
    for _ in range(100):
        at = (low + high) / 2
        low, high = (at, high) if below(at) < share * (middle + 2 * tail) else (low, at)
    return sigma * low


def place(edges: tuple[float, ...], value: float) -> int:
    return next((row for row in range(len(edges) - 2) if value < edges[row + 1]), len(edges) - 2)


def one(rows: Mapping[Any, Any], muon: Mapping[str, float], is_data: bool, truth: float, uniform: float) -> float:
    """The factor for one muon."""
    row, column = place(ETA, muon["eta"]), min(max(int((muon["phi"] + 3.14159) / (2 * 3.14159 / PHI)), 0), PHI - 1)
    m, a = (rows["C", int(is_data), quantity, row][column] / 100 for quantity in (0, 1))
    scale = 1 / (1 + m + muon["charge"] * a * muon["pt"])
    if is_data:
        return scale
    row, pt = place(ABS_ETA, abs(muon["eta"])), scale * muon["pt"]
    simulation, data = rows["F", 0][row], rows["F", 1][row]
    if truth > 0:
        x = truth / pt
        return scale * x / (1 + (x - 1) * data / simulation)
    layer = min(max(int(muon["nTrackerLayers"]) - LEAST, 0), LAYERS - 1)
    first, second, third, sigma, edge, power = (rows["R", quantity, row][layer] for quantity in range(6))
    width = first + second * (pt - 45) + third / 100 * (pt - 45) ** 2
    wider = math.sqrt(max(data**2 - simulation**2, 0))
    return float(scale / (1 + wider * width * quantile(sigma, edge, power, uniform)))


def read(folder: Path) -> rochester.RochesterCorrections:
    found: rochester.RochesterCorrections = era(folder, "rochester: {file: RoccoR.txt}").rochester
    return found


def invented_events() -> Events:
    """Muons at all ends of bins and at 200 GeV, some with a generated muon, some with an index beyond those of their event."""
    random, counts, generated = np.random.default_rng(5), [3, 0, 40, 5], [2, 1, 20, 0]
    size = sum(counts)
    muons = {
        "pt": [199.9, 200.0, 201.0, *random.uniform(5, 300, size - 3)],
        "eta": [*(0.0, 1.2, -1.2, 2.4, -2.4, 2.5, -2.5, 1.0, -1.0), *random.uniform(-2.4, 2.4, size - 9)],
        "phi": [*(3.1415, -3.1415, 3.15, -3.15, 0.0, 1.58, -1.56), *random.uniform(-3.14, 3.14, size - 7)],
        "charge": random.choice([-1, 1], size),
        "nTrackerLayers": random.integers(3, 14, size).astype(np.uint8),
        "genPartIdx": [*(2, 1, -1), *random.integers(-1, 22, 40), *(0, 1, -1, 5, 0)],  # the first is of the next event
    }
    lists = {f"Muon_{name}": ak.unflatten(np.array(values), counts) for name, values in muons.items()}
    lists["GenPart_pt"] = ak.unflatten(random.uniform(5, 250, sum(generated)), generated)
    numbers = {name: random.integers(1, 1000, len(counts)) for name in ("run", "luminosityBlock", "event")}
    return Events({**lists, **numbers}, {name: name.split("_")[0] for name in lists})


@pytest.mark.parametrize(("file", "is_data"), [(V15, False), (DATA_V6, True), ("", False), ("", True)])
def test_muons_are_those_of_one_after_the_other(file: str, is_data: bool, tmp_path: Path) -> None:
    made = write(tmp_path / "RoccoR.txt")
    names = (*rochester.BRANCHES, *(() if is_data else rochester.SIMULATED))
    entry, events = read(tmp_path), events_of(nanoaod(file), names, 100) if file else invented_events()
    nominal, muon = rochester.corrected(events, entry, is_data), events.flat("Muon")
    found = nominal.flat("Muon").pt
    up = found if is_data else rochester.shifted(nominal, entry, "muonScale", "up").flat("Muon").pt
    drawn = 0
    for at in range(len(muon.event)):
        row = muon.event[at]
        each = {name: float(muon[name][at]) for name in ("pt", "eta", "phi", "charge", "nTrackerLayers")}
        truth = 0.0
        if not is_data and 0 <= muon.genPartIdx[at] < len(events.GenPart.pt[row]):
            truth = float(events.GenPart.pt[row][int(muon.genPartIdx[at])])
        numbers = [np.array([int(np.asarray(events[name])[row])]) for name in ("run", "luminosityBlock", "event")]
        uniform = NormalDist().cdf(float(normal_numbers(*numbers, np.array([muon.place[at]]), MUON)[0]))
        factor = one(made[0, 0], each, is_data, truth, uniform) if each["pt"] < 200 else 1.0
        assert found[at] == pytest.approx(each["pt"] * factor, rel=1e-7)
        drawn += truth == 0
        if not is_data:
            changes = {key: one(it, each, False, truth, uniform) - factor for key, it in made.items()}
            squares = sum(it**2 / COUNTS[key[0]] for key, it in changes.items())
            error = math.sqrt(squares) if each["pt"] < 200 else 0.0
            assert up[at] == pytest.approx(each["pt"] * (factor + error), rel=1e-7)
    assert len(found) > 5
    assert drawn > 0


def test_the_authors_files_are_read() -> None:
    folder = Path(os.environ.get("NANOAODTOOLS", "")) / "python" / "postprocessing" / "data" / "roccor.Run2.v3"
    if not (folder / "RoccoR2018.txt").is_file():
        pytest.skip("needs a clone of nanoAOD-tools: name its directory by NANOAODTOOLS")
    file = rochester.Rochester(folder / "RoccoR2018.txt")
    assert file.counts == [1, 100, 1, 1, 1, 1]
    columns = {"pt": np.array([45.0]), "eta": np.array([0.5]), "phi": np.array([1.0]), "charge": np.array([1])}
    muon = rochester.Flat(columns, np.array([0, 1]))
    assert abs(file.factor(muon, True, np.zeros(1), np.zeros(1)) - 1)[0] < 0.01


def test_what_cannot_be_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "RoccoR.txt")
    entry, events = read(tmp_path), invented_events()
    said = "muons. Known are muonScale, up and down"
    check_refusals(lambda *shift: rochester.shifted(events, entry, *shift), "muonScale", "muonSmearing", said)
    lines = (tmp_path / "RoccoR.txt").read_text().splitlines()
    for broken in (["{}"], lines[:60], lines[:-1], [*lines[:8], "0 0 C 0 0 0 x"], []):
        (tmp_path / "RoccoR.txt").write_text("\n".join(broken))
        with pytest.raises(ConfigError, match="cannot be read as a text file of Rochester corrections"):
            rochester.Rochester(tmp_path / "RoccoR.txt")
