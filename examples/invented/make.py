"""Makes the invented events of examples/opendata_invented.yaml, in the layout of the reduced NanoAOD of 2012 in CMS Open Data.

No simulation or data of CMS are in them: masses, momenta and numbers of jets are random numbers.

python examples/invented/make.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from MLTools.NanoML.config.load import load

Columns = dict[str, Any]


def write_tree(path: Path, parts: Any, beside: Mapping[str, Columns] | None = None) -> None:
    """Write the tree Events, a basket of each branch for each part, and other trees."""
    with uproot.recreate(path, compression=uproot.LZMA(6)) as file:
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


def lists(counts: NDArray[Any], **fields: NDArray[Any]) -> ak.Array:
    """Objects in descending order of pt, floating-point numbers in single precision."""
    made = {name: values.astype("f4") if values.dtype.kind == "f" else values for name, values in fields.items()}
    lists = ak.unflatten(ak.zip(made), counts)
    return lists[ak.argsort(lists["pt"], ascending=False, stable=True)]


def numbers(first: int, count: int, run: int) -> Columns:
    """The numbers of events one after the other, a thousand in a luminosity block."""
    place = np.arange(first, first + count)
    return {
        "run": np.full(count, run, np.uint32),
        "luminosityBlock": (1 + place // 1000).astype(np.uint32),
        "event": 1 + place.astype(np.uint64),
    }


def kinematics(random: np.random.Generator, size: int, lowest: float, scale: float, width: float = 1.3) -> Columns:
    """Momenta above the lowest, and directions."""
    return {
        "pt": lowest + random.exponential(scale, size),
        "eta": random.normal(0, width, size),
        "phi": random.uniform(-np.pi, np.pi, size),
    }


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
    columns = numbers(0, count, made.run)
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
    columns["Muon"] = lists(
        one, pt=pt * share, eta=eta[0], phi=phi, mass=np.full(count, 0.105658), charge=charge,
        pfRelIso03_all=isolation[0], tightId=random.random(count) < 0.9,
    )  # fmt: skip
    columns["Tau"] = lists(
        one, pt=pt / share, eta=eta[1], phi=(phi + across + np.pi) % (2 * np.pi) - np.pi,
        mass=random.uniform(0.2, 1.4, count), charge=other, relIso_all=isolation[1],
        **{f"id{name}": random.random(count) < 0.95 for name in ("DecayMode", "IsoTight", "AntiEleTight", "AntiMuTight")},
    )  # fmt: skip
    columns["MET_pt"] = random.exponential(made.missing, count).astype("f4")
    columns["MET_phi"] = random.uniform(-np.pi, np.pi, count).astype("f4")
    counts = random.poisson(made.jets, count) + 2 * made.is_vbf
    size = int(counts.sum())
    jets = kinematics(random, size, 30, 30, 2.5 if made.is_vbf else 1.5)
    tag = random.beta(2, 2, size) if made.jets > 2 else random.beta(1, 6, size)
    mass = 0.1 * jets["pt"]
    columns["Jet"] = lists(counts, **jets, mass=mass, puId=random.random(size) < 0.95, btag=tag)
    if made.run == 1:
        columns["GenPart"] = lists(one, **kinematics(random, count, 10, 30), pdgId=np.full(count, 15, np.int32))
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


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    config = load(here.with_name("opendata_invented.yaml"))
    sections = {name: config.cross_section_of(name) or 0.0 for name in PROCESSES_2012}
    write_all_2012(here, sections, config.luminosity or 0.0)
