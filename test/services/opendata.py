"""Files with the layout of CMS Open Data, with invented events: NanoAOD of 2015, and the reduced NanoAOD of 2012.

They have the branches that public analyses of these files read, and a few of those that tell simulation from data:

    from services.opendata import write_2012, write_2015

    write_2015(tmp_path / "ttbar.root", events=1000, seed=1, top=0.9)
    write_2012(tmp_path / "DYJetsToLL.root", Made2012(events=1000, seed=2, mass=91))
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

Columns = dict[str, Any]
_PART = 100_000  # events that are made, and written to one basket, at once


def write_tree(path: Path, parts: Any, beside: Mapping[str, Columns] | None = None) -> None:
    """Write the tree Events, a basket of each branch for each part, and other trees."""
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        for number, columns in enumerate(parts):
            if number == 0:
                types = {
                    name: ak.type(values).content if isinstance(values, ak.Array) else values.dtype
                    for name, values in columns.items()
                }
                file.mktree("Events", types)
            file["Events"].extend(columns)
        for name, columns in (beside or {}).items():
            file.mktree(name, {key: values.dtype for key, values in columns.items()}).extend(columns)


def _lists(counts: NDArray[Any], **fields: NDArray[Any]) -> ak.Array:
    """Objects in descending order of pt, floating-point numbers in single precision."""
    made = {name: values.astype("f4") if values.dtype.kind == "f" else values for name, values in fields.items()}
    lists = ak.unflatten(ak.zip(made), counts)
    return lists[ak.argsort(lists["pt"], ascending=False, stable=True)]


def _numbers(first: int, count: int, run: int) -> Columns:
    place = np.arange(first, first + count)
    return {
        "run": np.full(count, run, np.uint32),
        "luminosityBlock": (1 + place // 1000).astype(np.uint32),
        "event": 1 + place.astype(np.uint64),
    }


def _kinematics(random: np.random.Generator, size: int, lowest: float, scale: float, width: float = 1.3) -> Columns:
    return {
        "pt": lowest + random.exponential(scale, size),
        "eta": random.normal(0, width, size),
        "phi": random.uniform(-np.pi, np.pi, size),
    }


# ---- NanoAOD of 2015 ----


def write_2015(path: Path, events: int, seed: int, top: float = 0.5, weight: float = 1.0) -> None:
    """Write simulation of which about the share `top` has a lepton and several hard jets; generator weights are +-`weight`."""
    random = np.random.default_rng(seed)
    weights = (weight * np.where(random.random(events) < 0.1, -1, 1)).astype("f4")

    def parts() -> Any:
        for first in range(0, events, _PART):
            own = weights[first : first + _PART]
            yield {**_part_2015(random, first, len(own), top), "genWeight": own}

    runs = {
        "run": np.ones(1, np.uint32),
        "genEventCount": np.array([events], np.int64),
        "genEventSumw": np.array([weights.sum(dtype=float)]),
    }
    write_tree(path, parts(), {"Runs": runs})


def _part_2015(random: np.random.Generator, first: int, count: int, top: float) -> Columns:
    is_top = random.random(count) < top
    columns = _numbers(first, count, 1)
    for name, mass in (("Electron", 0.000511), ("Muon", 0.105658)):
        counts = random.binomial(1, 0.55, count) + random.poisson(0.1, count)
        size = int(counts.sum())
        fields = _kinematics(random, size, 10, 35)
        fields |= {"mass": np.full(size, mass), "sip3d": random.exponential(1.5, size)}
        if name == "Electron":
            fields["cutBased"] = random.choice([0, 2, 4], size, p=[0.1, 0.2, 0.7]).astype(np.int32)
        else:
            fields["tightId"] = random.random(size) < 0.85
            fields["pfRelIso04_all"] = random.exponential(0.08, size)
        columns[name] = _lists(counts, **fields)
    counts = random.poisson(np.where(is_top, 5.5, 3.0))
    size, of_top = int(counts.sum()), np.repeat(is_top, counts)
    fields = _kinematics(random, size, 15, 45)
    is_b = random.random(size) < np.where(of_top, 0.35, 0.05)
    columns["Jet"] = _lists(
        counts,
        **fields,
        mass=fields["pt"] * random.uniform(0.05, 0.2, size),
        jetId=random.choice([0, 2, 6], size, p=[0.03, 0.07, 0.9]).astype(np.int32),
        btagCSVV2=np.where(is_b, random.beta(5, 1.5, size), random.beta(1.2, 6, size)),
        qgl=random.random(size),
    )
    columns["GenPart"] = _lists(np.ones(count, int), **_kinematics(random, count, 0, 50))
    return columns


# ---- reduced NanoAOD of 2012 ----


@dataclass(frozen=True)
class Made2012:
    """A file with muons and hadronically decaying taus."""

    events: int
    seed: int
    mass: float  # visible mass of the pair that is most likely [GeV]; 0 if it has none
    jets: float = 0.6  # mean number of jets
    missing: float = 20.0  # mean missing transverse momentum [GeV]
    opposite: float = 0.95  # share of pairs with opposite charges
    is_vbf: bool = False  # two jets far apart
    run: int = 1  # other than 1 in data


def write_2012(path: Path, *mixed: Made2012) -> None:
    """Write the events of one process, or those of several as data."""
    tables = [_part_2012(np.random.default_rng([made.seed, number]), made) for number, made in enumerate(mixed)]
    columns = {name: ak.concatenate([table[name] for table in tables]) for name in tables[0]}
    plain = {name: ak.to_numpy(values) if values.ndim == 1 else values for name, values in columns.items()}
    plain["event"] = np.arange(1, len(plain["event"]) + 1, dtype=np.uint64)
    write_tree(path, [plain])


def _part_2012(random: np.random.Generator, made: Made2012) -> Columns:
    count = made.events
    columns = _numbers(0, count, made.run)
    columns["run"] = columns["run"].astype(np.int32)
    columns["HLT_IsoMu17_eta2p1_LooseIsoPFTau20"] = random.random(count) < 0.9
    columns["PV_npvs"] = random.poisson(15, count).astype(np.int32)
    # a pair back to back whose mass is that of two massless particles: m^2 = 2 pt pt (cosh(d eta) - cos(d phi))
    eta = random.normal(0, 1, (2, count))
    phi = random.uniform(-np.pi, np.pi, count)
    across = np.pi - random.exponential(0.3, count) % np.pi
    share = random.uniform(0.7, 1.4, count)
    mass = random.normal(made.mass * 0.75, 0.15 * made.mass, count) if made.mass else 40 + random.exponential(40, count)
    pt = np.abs(mass) / np.sqrt(2 * np.maximum(np.cosh(eta[0] - eta[1]) - np.cos(across), 0.1))
    charge = random.choice([-1, 1], count).astype(np.int32)
    other = np.where(random.random(count) < made.opposite, -charge, charge).astype(np.int32)
    one = np.ones(count, int)
    isolation = np.where(random.random((2, count)) < 0.02, -999, random.exponential(0.03, (2, count)))
    columns["Muon"] = _lists(
        one, pt=pt * share, eta=eta[0], phi=phi, mass=np.full(count, 0.105658), charge=charge,
        pfRelIso03_all=isolation[0], tightId=random.random(count) < 0.9,
    )  # fmt: skip
    columns["Tau"] = _lists(
        one, pt=pt / share, eta=eta[1], phi=(phi + across + np.pi) % (2 * np.pi) - np.pi,
        mass=random.uniform(0.2, 1.4, count), charge=other, relIso_all=isolation[1],
        **{f"id{name}": random.random(count) < 0.95 for name in ("DecayMode", "IsoTight", "AntiEleTight", "AntiMuTight")},
    )  # fmt: skip
    columns["MET_pt"] = random.exponential(made.missing, count).astype("f4")
    columns["MET_phi"] = random.uniform(-np.pi, np.pi, count).astype("f4")
    counts = random.poisson(made.jets, count) + 2 * made.is_vbf
    size = int(counts.sum())
    jets = _kinematics(random, size, 30, 30, 2.5 if made.is_vbf else 1.5)
    tag = random.beta(2, 2, size) if made.jets > 2 else random.beta(1, 6, size)
    mass = 0.1 * jets["pt"]
    columns["Jet"] = _lists(counts, **jets, mass=mass, puId=random.random(size) < 0.95, btag=tag)
    if made.run == 1:
        columns["GenPart"] = _lists(one, **_kinematics(random, count, 10, 30), pdgId=np.full(count, 15, np.int32))
    return columns


PROCESSES_2012: Mapping[str, Made2012] = {
    "GluGluToHToTauTau": Made2012(1500, 1, mass=125),
    "VBF_HToTauTau": Made2012(1500, 2, mass=125, is_vbf=True),
    "DYJetsToLL": Made2012(4000, 3, mass=91),
    "TTbar": Made2012(1000, 4, mass=0, jets=3.5, missing=60, opposite=0.7),
    "W1JetsToLNu": Made2012(1500, 5, mass=0, jets=1, missing=45, opposite=0.7),
    "W2JetsToLNu": Made2012(1000, 6, mass=0, jets=2, missing=45, opposite=0.7),
    "W3JetsToLNu": Made2012(500, 7, mass=0, jets=3, missing=45, opposite=0.7),
}
"""The files of simulation of examples/opendata.yaml, with the events that are made."""


def write_all_2012(folder: Path, cross_sections: Mapping[str, float], luminosity: float) -> None:
    """Write the files of examples/opendata.yaml; data have the events expected at a luminosity [/fb], and pairs of jets."""
    expected = {name: round(cross_section * 1000 * luminosity) for name, cross_section in cross_sections.items()}
    for name, made in PROCESSES_2012.items():
        write_2012(folder / f"{name}.root", made)
    jets = Made2012(sum(expected.values()) // 4, 8, mass=0, opposite=0.8 / 1.8)
    mixed = [replace(made, events=expected[name], seed=made.seed + 100) for name, made in PROCESSES_2012.items()]
    for number, run in enumerate((194_000, 199_000)):
        half = [replace(it, events=it.events // 2, seed=it.seed + 1000 * number, run=run) for it in (*mixed, jets)]
        write_2012(folder / f"Run2012{'BC'[number]}_TauPlusX.root", *half)


def of_this_machine(text: str, folder: Path) -> str:
    """An example's YAML with files in a folder in place of those of CERN's server."""
    return re.sub(r"root://\S*/([\w.-]+\.root)", lambda found: str(folder / found[1]), text)
