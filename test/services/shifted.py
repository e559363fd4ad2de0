"""Skims by a selection with shifts of jets, and by the same one without: generated files, of which not all have all columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from MLTools.NanoML.rootio.branches import Branch
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import DatasetInfo
from services.rootfiles import record_of

ROOT = Path(__file__).resolve().parents[2]
INFO = DatasetInfo("WZ", "2018", corrections_file=str(ROOT / "examples" / "corrections" / "2018.yaml"))
SHIFTS = ("jesUp", "jesDown", "jerUp", "jerDown")
SIZES = (120, 40, 0, 260, 30)
"""Events of each file; the one that is said to have none has ten of which none is selected."""
SELECTION = """
import awkward as ak
import numpy as np

from MLTools.NanoML.corrections import jets
from MLTools.NanoML.corrections.weights import btag_shape
from MLTools.NanoML.selection import UP_DOWN, Column, Selection, Weight


class Nominal(Selection):
    branches = (*jets.branches(), "Muon_pt", "Muon_eta", "Jet_btagDeepFlavB")
    simulated = (*jets.SIMULATED, "Jet_hadronFlavour", "Pileup_nTrueInt")
    optional = jets.SIMPLIFIED
    columns = {
        "nGoodJet": Column("i4", "number of good jets"),
        "Good_sumPt": Column("f4", "scalar sum of the transverse momenta of good jets [GeV]"),
        "MET": Column("f4", "missing transverse momentum [GeV]"),
        "Muon_sumPt": Column("f4", "scalar sum of the transverse momenta of muons [GeV]"),
    }
    collections = {"SelJet": {"pt": Column("f4", "transverse momentum [GeV]"), "eta": Column("f4", "pseudorapidity")}}
    b_tags = Weight(("hf_up", "hf_down"), keeps_yield=True, bins="number of good jets")
    weights = {"pileup": Weight(), "btag": b_tags}

    def prepare(self, events):
        return jets.corrected(events, self.dataset.corrections.jets, self.dataset.is_data)

    def shift(self, events, name, direction):
        return jets.shifted(events, self.dataset.corrections.jets, name, direction)

    def select(self, events, cutflow):
        c = self.dataset.corrections
        cutflow.weigh("pileup", lambda: c.pileup(events.Pileup.nTrueInt))
        muons = events.flat("Muon")
        muons = muons.keep((muons.pt > 20) & (abs(muons.eta) < 2.4))
        events, muons = cutflow.cut("a muon", muons.counts > 0, events, muons)
        good = events.Jet[(events.Jet.pt > 30) & (abs(events.Jet.eta) < 2.4)]
        about = (good.hadronFlavour, good.eta, good.pt, good.btagDeepFlavB)
        cutflow.weigh("btag", lambda: btag_shape(c.btag, *about, ["hf"]).product(), ak.num(good))
        events, muons, good = cutflow.cut("a jet", ak.num(good) > 0, events, muons, good)
        events, muons, good = cutflow.cut("MET", np.asarray(events.MET.pt) > 60, events, muons, good)
        sums = {"Good_sumPt": ak.sum(good.pt, axis=1), "Muon_sumPt": np.bincount(muons.event, muons.pt, len(events))}
        return events, {"nGoodJet": ak.num(good), "MET": events.MET.pt, "SelJet": good, **sums}


class Shifted(Nominal):
    shifts = {"jes": UP_DOWN, "jer": UP_DOWN}
"""


@dataclass(frozen=True)
class Events:
    arrays: dict[str, Any]
    branches: dict[str, Branch]
    run: Branch  # of the tree Runs

    @classmethod
    def read(cls) -> Events:
        with RootFile(ROOT / "examples" / "nano" / "WZTo3LNu_Pt100" / "WZTo3LNu_Pt100_0.root") as file:
            counters = {f"n{branch.collection}" for branch in file.branches.values() if branch.is_jagged}
            arrays = file.read([name for name in file.branches if name not in counters])
            return cls(dict(arrays), dict(file.branches), file.branches_of("Runs")["run"])

    def write(self, path: Path, rows: NDArray[np.int64], weights: NDArray[np.float32]) -> str:
        """Write some events, with these generator weights, shape (rows,)."""
        part = {name: array[rows] for name, array in self.arrays.items()}
        part["genWeight"] = weights
        total = replace(self.run, name="genEventSumw", dtype="float64", typename="")
        sums = {"run": np.ones(1, np.uint32), "genEventSumw": np.array([weights.astype(np.float64).sum()])}
        with NanoWriter(path, self.branches, "ZLIB:1") as writer:
            writer.events.extend(part)
            writer.write_tree("Runs", {"run": self.run, "genEventSumw": total}, sums)
            writer.finish()
        return str(path)


def skim(source: str, name: str, directory: Path) -> str:
    """A skim by a class of the selection, in a folder of its name in the directory of the selection."""
    from data_processing.skim.plan import SkimJob
    from data_processing.skim.skim import skim_file

    output = directory / name / Path(source).name
    keep = ("MET_phi", "Jet_pt", "Jet_eta", "Jet_phi", "Muon_pt", "Muon_eta")
    skim_file(SkimJob(source, output, f"shifted.py:{name}", str(directory), keep, dataset=INFO, chunk=100))
    return str(output)


@dataclass(frozen=True)
class ShiftedSkims:
    """Files of one dataset and their skims, in their order."""

    directory: Path  # with the selection, shifted.py
    sources: list[str]
    shifted: list[str]  # by a selection with shifts
    nominal: list[str]  # by the same one without

    @classmethod
    def of(cls, directory: Path) -> ShiftedSkims:
        """Those in a directory in which they are, or will be, made."""
        folders = (directory, directory / "Shifted", directory / "Nominal")
        return cls(directory, *([str(it / f"{number}.root") for number in range(len(SIZES))] for it in folders))

    def make(self) -> None:
        """Write the files, and skim them."""
        (self.directory / "shifted.py").write_text(SELECTION)
        _write_sources(self.sources)
        for name in ("Shifted", "Nominal"):
            for source in self.sources:
                skim(source, name, self.directory)


def _write_sources(paths: list[str]) -> None:
    """Simulation with weights of both signs, in files of different sizes."""
    events = Events.read()
    weights = np.random.default_rng(5).normal(0.4, 1, len(events.arrays["run"])).astype(np.float32)
    assert (weights < 0).sum() > 100
    muons = np.array([max(each, default=0) for each in events.arrays["Muon_pt"].tolist()])
    without = np.flatnonzero(muons < 20)[:10]
    assert len(without) == 10
    start = 0
    for path, size in zip(paths, SIZES):
        rows = np.arange(start, start + size) if size else without
        events.write(Path(path), rows, weights[rows])
        start += size


def write_data(path: Path, skim: str) -> None:
    """Data with the columns of a skim of simulation."""
    with uproot.open(skim) as file:
        names = ["luminosityBlock", "event", "nGoodJet", "MET", "MET_phi", "Good_sumPt"]
        events = file["Events"].arrays([*names, "SelJet_pt"])
    columns = {name: np.asarray(events[name]) for name in names}
    columns["run"] = np.full(len(events), 320_000, np.uint32)
    jets = ak.zip({"pt": events["SelJet_pt"]})
    with uproot.recreate(path) as file:
        types: dict[str, Any] = {name: values.dtype for name, values in columns.items()}
        tree = file.mktree("Events", {**types, "SelJet": jets.type.content}, counter_name=lambda name: f"n{name}")
        tree.extend({**columns, "SelJet": jets})


def rewritten(source: str, path: Path, names: list[str]) -> Path:
    """A file with some of its branches, and all else."""
    with RootFile(source) as file:
        branches = {name: file.branches[name] for name in names}
        counters = {f"n{branch.collection}" for branch in branches.values() if branch.is_jagged}
        arrays = file.read([name for name in names if name not in counters])
        runs = file.other_tree("Runs")
        with NanoWriter(path, branches, "ZLIB:1") as writer:
            writer.events.extend(arrays)
            writer.write_tree("Runs", file.branches_of("Runs"), runs or {})
            writer.finish(record_of(source).tree())
    return path


def like_others(paths: list[str], path: Path, names: list[str]) -> Path:
    """What programs that know nothing of records make: rows one after the other, zero where a file lacks a branch."""
    trees: dict[str, list[Any]] = {"Events": [], "Runs": [], "nanoml": []}
    types = {}
    for each in paths:
        with uproot.open(each) as file:
            for tree, parts in trees.items():
                parts.append(file[tree].arrays(library="np"))
            for name, branch in file["Events"].items():
                types[name] = branch.interpretation.numpy_dtype.newbyteorder("=")
    with uproot.recreate(path) as out:
        for tree, parts in trees.items():
            wanted = names if tree == "Events" else parts[0].keys()
            joined = {
                name: np.concatenate(
                    [part[name] if name in part else np.zeros(len(part["run"]), types[name]) for part in parts]
                )
                for name in wanted
            }
            kinds = {name: (values.dtype, values.shape[1:]) for name, values in joined.items()}
            out.mktree(tree, kinds).extend(joined)
    return path
