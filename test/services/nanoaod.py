"""Small files like NanoAOD, made on this machine: what the tests read where no real events are at hand.

`FILES` and `DATASETS` describe the files that the fixtures `made_files` and `mc_files` give; `write` makes any other one:

    from services.nanoaod import Made, write

    write(tmp_path / "a.root", Made(version=12, events=50, runs=3))

They have the names and types of their version, weights of both signs, and leptons of which about one event in five passes
the three-lepton selection. The same description gives the same events, on any machine and by any version of uproot, whose
public writer makes the files: what NanoML writes must not be all that it can read. The true weights are those of
`Made.weights`; the file has them rounded to float32 (`genWeight`) and, summed before they are rounded, in `Runs`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

Columns = dict[str, Any]

RUNS = (315267, 315270)
EVENTS_PER_SECTION = 25
FIRST_SECTION = 11

CERTIFIED = {"315267": [[11, 11], [14, 14]], "315270": [[1, 11], [13, 13]]}
"""A luminosity JSON: it certifies a part of the sections of the data, some of which have no events."""

TRIGGERS = (
    *("HLT_IsoMu24", "HLT_IsoMu27", "HLT_Mu50", "HLT_OldMu100", "HLT_TkMu100", "HLT_Ele32_WPTight_Gsf"),
    "HLT_Mu8_TrkIsoVVL_Ele23_CaloIdL_TrackIdL_IsoVL_DZ_PFDiJet30",
)


@dataclass(frozen=True)
class Made:
    """What a generated file is to be."""

    # of NanoAOD, which decides on names and types: up to 9, 12, or 15. In 15, as in the files of some writers, each list
    # has a counter of its own
    version: int = 9
    events: int = 80  # in the file
    seed: int = 1  # files with different seeds have different events
    is_data: bool = False  # collision data: no generator branches; several runs and luminosity sections
    lost: int = 0  # events that are not in the file but count in `Runs`, as if a skim had dropped them
    runs: int = 1  # rows of the tree `Runs` in simulation; 0 for a file without it. Data have a row for each run
    ending: str = ""  # what follows the names of the sums in `Runs`: "_" in some files of version 6
    has_weights: bool = True  # whether simulation has `genWeight`, and its sums in `Runs`
    without: tuple[str, ...] = ()  # branches that the file does not have
    paths: int = 20  # trigger paths and seeds, beside `TRIGGERS`
    scale: float = 60.0  # mean transverse momentum of leptons above 15 GeV [GeV]
    first: int = 1  # number of the first event
    is_rntuple: bool = False  # the events are an RNTuple
    compression: str = "ZLIB"  # as uproot calls it: ZLIB, LZMA, LZ4 or ZSTD

    @property
    def weights(self) -> NDArray[np.float64]:
        """Generator weights before they are rounded: of the events in the file, then of the lost ones.

        About 15 % are negative; the absolute values are neither one nor equal.
        """
        generator = np.random.default_rng([self.seed, 1])
        count = self.events + self.lost
        sign = np.where(generator.random(count) < 0.15, -1.0, 1.0)
        return sign * 26.7 * generator.lognormal(0.0, 0.3, count)

    @property
    def sum_of_weights(self) -> float:
        """What all tests must find for the file: by `Runs`, else by its events; in data their number."""
        if self.is_data:
            return float(self.events)
        if self.runs and self.has_weights:
            return math.fsum(self.weights)
        return math.fsum(self.weights[: self.events].astype(np.float32).astype(np.float64))


FILES: Mapping[str, Made] = {
    "made_v6_mc_underscore": Made(version=6, events=40, seed=2, ending="_"),
    "made_v9_mc": Made(),
    "made_v9_mc_no_runs": Made(events=60, seed=3, runs=0),
    "made_v9_mc_rntuple": Made(is_rntuple=True),  # the events of made_v9_mc
    "made_v9_mc_skimmed": Made(events=30, seed=4, lost=70, first=200),
    "made_v9_mc_zero_events": Made(events=0, seed=5, lost=20),
    "made_v9_data": Made(events=100, seed=6, is_data=True, first=10**10),
    "made_v12_mc_many_runs": Made(version=12, events=90, seed=7, runs=4, paths=100),
    "made_v12_data": Made(version=12, events=60, seed=8, is_data=True, compression="LZMA"),
    "made_v15_mc": Made(version=15, seed=9, runs=0),
}
"""Single files by their names: of each version, and of each kind that is an exception somewhere."""

DATASETS: Mapping[str, Mapping[str, Made]] = {
    "WprimeToWZ": {
        "WprimeToWZ_0": Made(seed=11, events=120, scale=250.0),
        "WprimeToWZ_1": Made(seed=12, events=60, scale=250.0, lost=40, first=121),
    },
    "WZTo3LNu": {
        "WZTo3LNu_0": Made(seed=13, events=150),
        "WZTo3LNu_1": Made(seed=14, events=100, first=151, without=("HLT_OldMu100", "HLT_TkMu100")),
        "WZTo3LNu_2": Made(seed=15, events=0, lost=30, first=251),
    },
    "TTTo2L2Nu": {"TTTo2L2Nu_0": Made(version=12, seed=16, events=90, scale=40.0, runs=2)},
}
"""Datasets of simulation, each with its files by their names."""


def can_write_rntuple() -> bool:
    return tuple(int(number) for number in uproot.__version__.split(".")[:2]) >= (5, 7)


def write(path: Path, made: Made) -> None:
    """Write a file; its directory is there."""
    events = {name: values for name, values in _events(made).items() if name not in made.without}
    with uproot.recreate(path, compression=getattr(uproot, made.compression)(1)) as file:
        if made.is_rntuple:
            file.mkrntuple("Events", _plain(events, made))
        else:
            _write_tree(file, "Events", _plain(events, made) if made.version >= 15 else events)
        for name, columns in _beside_events(made, events).items():
            _write_tree(file, name, columns)
        file["tag"] = f"made for v{made.version}"
    content = _with_titles(path.read_bytes())
    path.write_bytes(_with_unsigned_counters(content) if made.version < 12 else content)


def _write_tree(file: Any, name: str, columns: Columns) -> None:
    types = {key: ak.type(it).content if isinstance(it, ak.Array) else it.dtype for key, it in columns.items()}
    tree = file.mktree(name, types)
    if len(next(iter(columns.values()))):
        tree.extend(columns)


def _plain(events: Columns, made: Made) -> Columns:
    """Each field of a collection as a list of its own, and the numbers of objects."""
    counter = np.int32 if made.version >= 12 else np.uint32
    found: Columns = {}
    for name, values in events.items():
        is_list = isinstance(values, ak.Array)
        fields = ak.fields(values) if is_list else []
        if fields or (is_list and made.is_rntuple):
            found[f"n{name}"] = ak.to_numpy(ak.num(values)).astype(counter)
        found.update({f"{name}_{each}": values[each] for each in fields} or {name: values})
    return found


def _with_titles(content: bytes) -> bytes:
    """Give titles to the branches.

    As ROOT does where there are none, uproot writes what a branch holds, `Muon_pt[nMuon]/F`: with a colon for the slash,
    it is a title of the same length, which says nothing of types. Its length stands before it.
    """

    def with_title(found: re.Match[bytes]) -> bytes:
        text = found[0]
        return text.replace(b"/", b":") if text[0] == len(text) - 1 else text

    return re.sub(rb"[\x03-\x7f][A-Za-z]\w+(\[n\w+\])?/[OBbSsIiLlFD]", with_title, content)


def _with_unsigned_counters(content: bytes) -> bytes:
    """Make the counters UInt_t, as before version 12; no public writer does.

    A TLeafI has its name and its title, the number of values (1), their size (4) and offset (0), a flag for counters
    (1), and whether it is unsigned.
    """
    numbers = bytes([0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 1])
    leaf = re.compile(rb"((?P<size>.)(?P<name>n[A-Z]\w*)(?P=size)(?P=name)" + numbers + rb")\0", re.S)
    return leaf.sub(lambda found: found[1] + b"\x01", content)


# ---- events ----


def _events(made: Made) -> Columns:
    """The branches of the events: arrays of numbers, and collections as lists of records.

    As many are drawn for any small file, so that a shorter file has the first events of a longer one.
    """
    generator = np.random.default_rng([made.seed, 2])
    drawn = max(made.events, 200)
    columns: Columns = {}
    for name, most, make in _COLLECTIONS:
        if not (made.is_data and name.startswith("Gen")):
            counts = generator.integers(0, most + 1, drawn)
            columns[name] = _lists(make(made, int(counts.sum()), generator), counts)
    columns.update(_event_level(made, drawn, generator))
    if not made.is_data:
        columns.update(_generated(made, drawn, generator))
    return {**_numbers(made), **{name: values[: made.events] for name, values in columns.items()}}


def _lists(fields: Columns, counts: NDArray[Any]) -> ak.Array:
    """Lists of objects in descending order of pt."""
    lists = ak.unflatten(ak.zip(fields), counts)
    return lists[ak.argsort(lists["pt"], ascending=False, stable=True)]


def _numbers(made: Made) -> Columns:
    """What identifies the events; data have events in two runs."""
    place = np.arange(made.events)
    run = np.where(place < 40, *RUNS) if made.is_data else np.ones(made.events)
    section = (FIRST_SECTION + place // EVENTS_PER_SECTION).astype(np.uint32)
    return {"run": run.astype(np.uint32), "luminosityBlock": section, "event": made.first + place.astype(np.uint64)}


def _kinematics(size: int, scale: float, threshold: float, generator: np.random.Generator) -> Columns:
    values = {"pt": threshold + generator.exponential(scale, size), "eta": generator.normal(0.0, 1.3, size)}
    values["phi"] = generator.uniform(-math.pi, math.pi, size)
    return {name: numbers.astype(np.float32) for name, numbers in values.items()}


def _leptons(made: Made, size: int, flavour: int, mass: float, generator: np.random.Generator) -> tuple[Columns, Any]:
    """What electrons and muons have in common, and the type of their smaller whole numbers."""
    index = np.int16 if made.version >= 12 else np.int32
    fields = _kinematics(size, made.scale, 15.0, generator)
    charge = generator.choice([-1, 1], size).astype(np.int32)
    fields.update(
        mass=np.full(size, mass, np.float32),
        dxy=generator.normal(0.0, 0.003, size).astype(np.float32),
        dz=generator.normal(0.0, 0.01, size).astype(np.float32),
        ip3d=generator.exponential(0.003, size).astype(np.float32),
        pfRelIso03_all=generator.exponential(0.1, size).astype(np.float32),
        charge=charge,
        pdgId=-charge * np.int32(flavour),
        jetIdx=generator.integers(-1, 4, size).astype(index),
    )
    if not made.is_data:
        fields["genPartFlav"] = generator.choice([0, 1, 5, 15], size).astype(np.uint8)
    return fields, index


def _electrons(made: Made, size: int, generator: np.random.Generator) -> Columns:
    fields, index = _leptons(made, size, 11, 0.000511, generator)
    identification = np.uint8 if made.version >= 12 else np.int32
    fields["cutBased"] = generator.choice([0, 1, 2, 3, 4], size, p=[0.1, 0.1, 0.1, 0.1, 0.6]).astype(identification)
    fields["photonIdx"] = generator.integers(-1, 2, size).astype(index)
    fields["convVeto"] = generator.random(size) < 0.9
    return fields


def _muons(made: Made, size: int, generator: np.random.Generator) -> Columns:
    fields, _ = _leptons(made, size, 13, 0.105658, generator)
    fields["highPtId"] = generator.choice([0, 1, 2], size, p=[0.1, 0.1, 0.8]).astype(np.uint8)
    fields["pfRelIso04_all"] = generator.exponential(0.1, size).astype(np.float32)
    fields["tightId"] = generator.random(size) < 0.8
    if made.version < 12:
        fields["cleanmask"] = generator.integers(0, 2, size).astype(np.uint8)
    return fields


def _jets(made: Made, size: int, generator: np.random.Generator) -> Columns:
    small = np.uint8 if made.version >= 12 else np.int32
    fields = _kinematics(size, 40.0, 15.0, generator)
    fields["mass"] = (fields["pt"] * generator.uniform(0.05, 0.2, size)).astype(np.float32)
    fields["rawFactor"] = generator.normal(0.05, 0.05, size).astype(np.float32)
    fields["btagDeepB"] = np.where(generator.random(size) < 0.1, -2.0, generator.random(size)).astype(np.float32)
    fields["jetId"] = generator.choice([0, 2, 6], size).astype(small)
    fields["nMuons"] = generator.integers(0, 3, size).astype(small)
    fields["cleanmask"] = generator.integers(0, 2, size).astype(np.uint8)
    if not made.is_data:
        flavour = np.int16 if made.version >= 12 else np.int32
        fields["partonFlavour"] = generator.choice([-5, -4, 0, 1, 4, 5, 21], size).astype(flavour)
    return fields


def _fat_jets(made: Made, size: int, generator: np.random.Generator) -> Columns:
    fields = _kinematics(size, 80.0, 170.0, generator)
    fields["msoftdrop"] = generator.uniform(0.0, 200.0, size).astype(np.float32)
    return fields


def _gen_particles(made: Made, size: int, generator: np.random.Generator) -> Columns:
    index, flags = (np.int16, np.uint16) if made.version >= 12 else (np.int32, np.int32)
    fields = _kinematics(size, 30.0, 0.0, generator)
    fields["genPartIdxMother"] = generator.integers(-1, 5, size).astype(index)
    fields["pdgId"] = generator.choice([-13, -11, 11, 13, 22, 23, 24], size).astype(np.int32)
    fields["statusFlags"] = generator.integers(0, 1 << 15, size).astype(flags)
    return fields


_COLLECTIONS: Sequence[tuple[str, int, Callable[[Made, int, np.random.Generator], Columns]]] = (
    *(("Electron", 4, _electrons), ("Muon", 4, _muons), ("Jet", 6, _jets), ("FatJet", 1, _fat_jets)),
    ("GenPart", 8, _gen_particles),
)
"""Name, the most objects that an event has, and what makes their fields."""


def _event_level(made: Made, size: int, generator: np.random.Generator) -> Columns:
    """Numbers of the events that data and simulation have."""
    missing = "PFMET" if made.version >= 15 else "MET"
    rho = "Rho_fixedGridRhoFastjetAll" if made.version >= 12 else "fixedGridRhoFastjetAll"
    small = np.uint8 if made.version >= 12 else np.int32
    columns: Columns = {}
    for name in (missing, "PuppiMET"):
        columns[f"{name}_pt"] = generator.exponential(40.0, size).astype(np.float32)
        columns[f"{name}_phi"] = generator.uniform(-math.pi, math.pi, size).astype(np.float32)
        columns[f"{name}_sumEt"] = generator.normal(1500.0, 200.0, size).astype(np.float32)
    columns[rho] = generator.normal(20.0, 5.0, size).astype(np.float32)
    columns["PV_npvs"] = generator.integers(10, 60, size).astype(small)
    columns["PV_npvsGood"] = generator.integers(1, 40, size).astype(small)
    columns["PV_z"] = generator.normal(0.0, 4.0, size).astype(np.float32)
    columns["Flag_METFilters"] = generator.random(size) < 0.99
    number = made.paths // 2
    names = [*TRIGGERS, *(f"HLT_PFHT{path}" for path in range(made.paths - number))]
    names += [f"L1_HTT{seed}er" for seed in range(number)]
    fired = generator.random((len(names), size)) < 0.2
    columns.update(zip(names, fired))
    return columns


def _generated(made: Made, size: int, generator: np.random.Generator) -> Columns:
    """What only simulation has; weights of variations come as lists, and some events have none."""
    columns: Columns = {}
    if made.has_weights:
        columns["genWeight"] = made.weights[: made.events].astype(np.float32)
    columns["Pileup_nTrueInt"] = generator.normal(30.0, 8.0, size).astype(np.float32)
    columns["Generator_x1"] = generator.random(size).astype(np.float32)
    counts = generator.choice([0, 4], size, p=[0.1, 0.9])
    columns["PSWeight"] = ak.unflatten(generator.normal(1.0, 0.1, counts.sum()).astype(np.float32), counts)
    return columns


# ---- beside the events ----


def _beside_events(made: Made, events: Columns) -> dict[str, Columns]:
    pairs = np.unique(np.stack([events["run"], events["luminosityBlock"]], axis=1), axis=0)
    if made.is_data:
        empty = [[RUNS[0], FIRST_SECTION - 1]]  # a section without events
        pairs = np.concatenate([pairs, np.array(empty, np.uint32)])
    trees: dict[str, Columns] = {"LuminosityBlocks": {"run": pairs[:, 0], "luminosityBlock": pairs[:, 1]}}
    if made.is_data:
        trees["Runs"] = {"run": np.unique(events["run"])}
    elif made.runs:
        trees["Runs"] = _sums(made)
    return trees


def _sums(made: Made) -> Columns:
    """The sums of the weights, in several rows if the file was merged from several."""
    parts = np.array_split(made.weights, made.runs)
    columns: Columns = {"run": np.ones(made.runs, np.uint32)}
    if made.has_weights:
        columns[f"genEventCount{made.ending}"] = np.array([len(part) for part in parts], np.int64)
        columns[f"genEventSumw{made.ending}"] = np.array([math.fsum(part) for part in parts])
        columns[f"genEventSumw2{made.ending}"] = np.array([math.fsum(part**2) for part in parts])
        columns[f"LHEScaleSumw{made.ending}"] = ak.Array([[1.1, 1.0, 0.9]] * made.runs)
    return columns


def with_a_damaged_basket(source: Path, branch: str, target: Path) -> Path:
    """Write a copy of a file in which a branch's first basket cannot be decompressed; return `target`."""
    with uproot.open(source) as file:
        start, size = (int(file["Events"][branch].member(f"fBasket{what}")[0]) for what in ("Seek", "Bytes"))
    content = bytearray(source.read_bytes())
    for place in range(start + size // 2, start + size - size // 4):
        content[place] ^= 0x5A
    target.write_bytes(content)
    return target
