"""Histograms of a selection under shifts of jets, by a skim, by a program written by hand with awkward, by coffea and RDataFrame.

    python bench/shifts.py [--events 200000] [--files 10]

Two muons of opposite charge near the Z, then jets away from them: their number, the sum of their momenta, and the leading one,
nominal and under twenty shifts of the energy scale. The program by hand computes muons once, and jets again for each shift; where
Python has coffea, the same follows its virtual arrays, and where it has ROOT, RDataFrame varies the momenta on one thread. Each
side reads the same file several times, in a process of its own, and they take turns. The yields are compared first, then the
processor time without start-up: all imports and what RDataFrame compiles are done by a first file that is not counted.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from common import CHECKOUT, Took, in_turns, make_input, parser

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.nanoaod.events import away_from
from MLTools.NanoML.nanoaod.fileaccounting import under_shift
from MLTools.NanoML.nanoaod.flat import vector_package
from MLTools.NanoML.selection import UP_DOWN, Column, Cutflow, Events, Selection
from MLTools.NanoML.terminal.progress import silence

READ = (*(f"Muon_{name}" for name in ("pt", "eta", "phi", "mass", "charge")), "Jet_pt", "Jet_eta", "Jet_phi")
RANGES = {"nJet": (-0.5, 9.5), "HT": (0.0, 1000.0), "leading_pt": (0.0, 500.0), "Z_mass": (76.0, 106.0)}
STEP = 100_000  # events that are read at once
SIGNS = {"up": 1.0, "down": -1.0}
TITLES = {
    "nJet": "number of jets",
    "HT": "sum of pt [GeV]",
    "leading_pt": "leading jet pt [GeV]",
    "Z_mass": "mass [GeV]",
}


def scale(name: str, direction: str, eta: ak.Array) -> ak.Array:
    """The factor for momenta of jets under a shift."""
    return 1 + SIGNS[direction] * (0.005 + 0.001 * int(name[3:])) * (1 + abs(eta))


class Jets(Selection):
    """Two muons near the Z, and jets away from them."""

    branches = READ
    columns = {name: Column("f4", title) for name, title in TITLES.items()}

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        """See the class."""
        muons = events.Muon[(events.Muon.pt > 20) & (abs(events.Muon.eta) < 2.4)]
        events, muons = cutflow.cut("two muons", ak.num(muons) == 2, events, muons)
        events, muons = cutflow.cut("opposite charge", ak.sum(muons.charge, axis=1) == 0, events, muons)
        mass = (muons[:, 0] + muons[:, 1]).mass
        events, muons, mass = cutflow.cut("Z", abs(mass - 91.19) < 15, events, muons, mass)
        jets = events.Jet[(events.Jet.pt > 30) & (abs(events.Jet.eta) < 2.4)]
        jets = jets[away_from(jets, muons)]
        events, mass, jets = cutflow.cut("a jet", ak.num(jets) > 0, events, mass, jets)
        return events, {
            "nJet": ak.num(jets),
            "HT": ak.sum(jets.pt, axis=1),
            "leading_pt": ak.max(jets.pt, axis=1),
            "Z_mass": mass,
        }


class Shifted(Jets):
    """The same, under twenty shifts."""

    shifts = {f"jes{number}": UP_DOWN for number in range(10)}

    def shift(self, events: Events, name: str, direction: str) -> Events:
        """Momenta of jets."""
        return events.replaced(["Jet_pt"], lambda left: {"Jet_pt": left.Jet_pt * scale(name, direction, left.Jet_eta)})


SHIFTS = {"nominal": (), "20 shifts": [(name, way) for name, ways in Shifted.shifts.items() for way in ways]}
CLASSES = {"nominal": "Jets", "20 shifts": "Shifted"}
Filled = dict[str, np.ndarray]  # type: ignore[type-arg]


def fill(found: Filled, suffix: str, values: Mapping[str, Any]) -> None:
    """Add events to the histograms of a shift."""
    for name, limits in RANGES.items():
        counts, _ = np.histogram(np.asarray(values[name], np.float32), 50, limits)
        found[f"{name}{suffix}"] = found.get(f"{name}{suffix}", 0) + counts


def nanoml(source: Path, case: str, found: Filled) -> None:
    """A skim, and histograms of it."""
    output = source.with_suffix(f".{case[:2]}.root")
    skim_file(SkimJob(str(source), output, f"shifts.py:{CLASSES[case]}", str(CHECKOUT / "bench")))
    with uproot.open(output) as file:
        read = file["Events"].arrays(filter_name=[f"{name}*" for name in (*RANGES, "selected")], how=dict)
    read = {name: np.asarray(values) for name, values in read.items()}
    passed = read.get("selected", np.ones(len(read["HT"]), bool))
    fill(found, "", {name: read[name][passed] for name in RANGES})
    for name, way in SHIFTS[case]:
        suffix = f"{name}{way.capitalize()}"
        of = {each: read.get(under_shift(each, suffix), read[each]) for each in RANGES}
        passed = read[under_shift("selected", suffix)]
        fill(found, suffix, {each: values[passed] for each, values in of.items()})


def by_hand(source: Path, case: str, found: Filled) -> None:
    """Awkward, as an analyst writes it."""
    with uproot.open(source) as file:
        for part in file["Events"].iterate(READ, step_size=STEP):
            with_awkward(part, case, found)


def coffea(source: Path, case: str, found: Filled) -> None:
    """The same with coffea's virtual arrays."""
    from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

    NanoAODSchema.warn_missing_crossrefs = False
    with uproot.open(source) as file:
        total = file["Events"].num_entries
    for start in range(0, total, STEP):
        events = NanoEventsFactory.from_root(
            {str(source): "Events"},
            mode="virtual",
            schemaclass=NanoAODSchema,
            entry_start=start,
            entry_stop=min(start + STEP, total),
        ).events()
        names = (name.split("_") for name in READ)
        arrays = {f"{objects}_{name}": ak.materialize(events[objects][name]) for objects, name in names}
        with_awkward(ak.zip(arrays, depth_limit=1), case, found)


def rdataframe(source: Path, case: str, found: Filled) -> None:
    """RDataFrame, which varies the momenta."""
    from shifts_rdataframe import histograms

    for name, counts in histograms(source, [(name, SIGNS[way]) for name, way in SHIFTS[case]], RANGES).items():
        place, of = name
        shift = "".join((SHIFTS[case][place][0], SHIFTS[case][place][1].capitalize())) if place >= 0 else ""
        found[of + shift] = found.get(of + shift, 0) + counts


def with_awkward(part: ak.Array, case: str, found: Filled) -> None:
    """Select and fill the histograms of a part of the events."""
    fields = {name: part[f"Muon_{name}"] for name in ("pt", "eta", "phi", "mass")}
    fields = {name: ak.values_astype(values, np.float64) for name, values in fields.items()}
    behavior = vector_package().backends.awkward.behavior
    muons = ak.zip({**fields, "charge": part.Muon_charge}, with_name="Momentum4D", behavior=behavior)
    muons = muons[(muons.pt > 20) & (abs(muons.eta) < 2.4)]
    mask = ak.num(muons) == 2
    part, muons = part[mask], muons[mask]
    mask = ak.sum(muons.charge, axis=1) == 0
    part, muons = part[mask], muons[mask]
    mass = (muons[:, 0] + muons[:, 1]).mass
    mask = abs(mass - 91.19) < 15
    part, muons, mass = part[mask], muons[mask], mass[mask]
    read = ak.zip({name: ak.values_astype(part[f"Jet_{name}"], np.float64) for name in ("pt", "eta", "phi")})
    read = read[abs(read.eta) < 2.4]
    across = (read.phi[..., np.newaxis] - muons.phi[:, np.newaxis] + np.pi) % (2 * np.pi) - np.pi
    along = read.eta[..., np.newaxis] - muons.eta[:, np.newaxis]
    read = read[ak.all(along**2 + across**2 >= 0.16, axis=-1)]
    for name, way in [("", ""), *SHIFTS[case]]:
        pt = read.pt * scale(name, way, read.eta) if name else read.pt
        pt = pt[pt > 30]
        mask = ak.num(pt) > 0
        pt = pt[mask]
        values = {"nJet": ak.num(pt), "HT": ak.sum(pt, axis=1), "leading_pt": ak.max(pt, axis=1)}
        fill(found, f"{name}{way.capitalize()}", {**values, "Z_mass": mass[mask]})


SIDES: dict[str, Callable[[Path, str, Filled], None]] = {"nanoml": nanoml, "by hand": by_hand}
SIDES.update({"coffea": coffea} if importlib.util.find_spec("coffea") else {})
SIDES.update({"RDataFrame": rdataframe} if importlib.util.find_spec("ROOT") else {})


def run(side: str, case: str, source: Path, files: int) -> Filled:
    """The histograms of so many files."""
    found: Filled = {}
    for _ in range(files):
        SIDES[side](source, case, found)
    return found


def sides() -> Iterator[tuple[str, str]]:
    """All sides in all cases."""
    return ((side, case) for case in SHIFTS for side in SIDES)


def main() -> None:
    """Make the input, compare the yields, run the sides, print the ratios."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--files", type=int, default=10)
    given = options.parse_args()
    silence()
    if given.only:
        side, case, place, files = given.only
        run(side, case, Path(place), 1)
        Took.by(lambda: len(run(side, case, Path(place), int(files)))).tell()
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "input.root")
        make_input(source, given.events)
        for case in SHIFTS:
            first, *others = (run(side, case, source, 1) for side in SIDES)
            for side, other in zip(list(SIDES)[1:], others):
                differing = [name for name in first if not np.array_equal(first[name], other[name])]
                if differing or first.keys() != other.keys():
                    raise SystemExit(f"{case}, {side}: the yields differ: {', '.join(differing) or 'other shifts'}.")
        calls = {each: (*each, source, given.files) for each in sides()}
        found = in_turns(__file__, calls, turns=3)
    for (side, case), took in found.items():
        ratio = took.processor / found["by hand", case].processor
        sys.stdout.write(
            f"{case:10} {side:10} {took.processor:6.2f} s of the processor, {ratio:5.2f} times, {took.memory:4.0f} MB\n"
        )


if __name__ == "__main__":
    main()
