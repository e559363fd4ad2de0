"""What the benchmarks share: their input, and sides that run as processes of their own and take turns."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import uproot

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.contracts.hdf5 import HDF5Metadata, write_metadata
from MLTools.NanoML.rootio.compression import compression_of
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile

CHECKOUT = Path(__file__).resolve().parents[1]
SAMPLES = sorted((CHECKOUT / "examples" / "nano").glob("*/*.root"))
SELECTION = "MLTools.NanoML.trilepton:Trilepton"
KEEP = ("Electron_*", "Muon_*", "MET_*")
COPIES = 4
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl


def make_input(path: Path, events: int, compression: str = "ZSTD:5") -> None:
    """NanoAOD of `events` events with the sample's branches four times, each time in another order."""
    trees = [uproot.open(file)["Events"] for file in SAMPLES]
    sample = ak.concatenate([tree.arrays() for tree in trees])
    collections: dict[str, list[str]] = {}
    for branch in trees[0].branches:
        if branch.count_branch is not None:
            collections.setdefault(branch.count_branch.name[1:], []).append(branch.name)
    counters = {f"n{name}" for name in collections}
    flat = [b.name for b in trees[0].branches if b.count_branch is None and b.name not in counters]
    random = np.random.default_rng(1)
    tree = None
    with uproot.recreate(path, compression=compression_of(compression)) as file:
        for start in range(0, events, 5000):
            count = min(5000, events - start)
            rows = {}
            for copy in range(COPIES):
                picked = sample[random.integers(0, len(sample), count)]
                suffix = str(copy) if copy else ""
                for name, members in collections.items():
                    rows[name + suffix] = ak.zip({b[len(name) + 1 :]: picked[b] for b in members})
                for name in flat if not copy else [name for name in flat if "_" in name]:
                    first, _, rest = name.partition("_")
                    rows[f"{first}{suffix}_{rest}" if rest else name] = np.asarray(picked[name])
            rows["event"] = np.arange(start, start + count, dtype=np.uint64)
            if tree is None:
                types = {k: v.dtype if isinstance(v, np.ndarray) else ak.type(v).content for k, v in rows.items()}
                tree = file.mktree(
                    "Events",
                    types,
                    counter_name=lambda x: "n" + x,
                    field_name=lambda o, i: f"{o}_{i}",
                    initial_basket_capacity=events // 5000 + 2,  # as many as there will be, as in a file by ROOT
                )
            tree.extend(rows)


def make_skim(path: Path, events: int, compression: str, keep: Sequence[str]) -> None:
    """Skims of the samples by the trilepton selection, joined, with `events` events drawn from them, each with its own number."""
    with tempfile.TemporaryDirectory() as directory:
        parts = []
        for number, source in enumerate(SAMPLES):
            part = Path(directory, f"{number}.root")
            skim_file(SkimJob(str(source), part, SELECTION, keep=keep))
            parts.append(part)
        with RootFile(parts[0]) as file:
            collections = {branch.collection for branch in file.branches.values() if branch.is_jagged}
            branches = {name: branch for name, branch in file.branches.items() if name[1:] not in collections}
        skims = ak.concatenate([uproot.open(part)["Events"].arrays(list(branches)) for part in parts])
    random = np.random.default_rng(1)
    with NanoWriter(path, branches, compression) as writer:
        for start in range(0, events, 50_000):
            picked = skims[random.integers(0, len(skims), min(50_000, events - start))]
            rows = {name: picked[name] for name in branches}
            rows["event"] = np.arange(start, start + len(picked), dtype=np.uint64)
            writer.events.extend(rows)
        writer.finish()


def columns(names: Sequence[str]) -> list[dict[str, str]]:
    """How the metadata of an HDF5 file describes columns."""
    return [{"name": name, "dtype": "float32", "title": "", "source": "branch"} for name in names]


def describe_events(file: h5py.File, features: Sequence[str], objects: Mapping[str, Any]) -> None:
    """Write the metadata of an HDF5 file of signal and background, as the conversion does."""
    events = len(file["events"])
    accounting = {"files": [], "entries": events, "selected": events, "sum_of_weights": 1.0, "cutflow": []}
    content = {
        "schema": 1,
        "creator": "bench",
        "classes": ["signal", "background"],
        "features": columns(features),
        "objects": objects,
        "selection": None,
        "datasets": [{"name": "toy", "class": None, "label": -1, "is_data": False, "books": accounting}],
    }
    write_metadata(file, HDF5Metadata.from_json(content))


def read_with_uproot(source: str | Path, names: Sequence[str], step: int = 50_000) -> None:
    """Uproot reads branches, by their names or patterns, some events at a time."""
    with uproot.open(source) as file:
        tree = file["Events"]
        found = tree.keys(filter_name=list(names))
        for start in range(0, tree.num_entries, step):
            tree.arrays(found, entry_start=start, entry_stop=start + step, how=dict)


READ = ("run", "luminosityBlock", "event", "genWeight", *KEEP)
"""What the skim reads and keeps."""


@dataclass(frozen=True)
class Took:
    """What one side took."""

    time: float  # that passed [s]
    processor: float  # processor time [s]
    memory: float  # the most [MB]
    result: float = 0  # what the side returned, such as a number of events
    median: float = 0  # of its turns, in what they are compared by [s]

    @classmethod
    def by(cls, work: Callable[[], Any]) -> Took:
        """Measure work in this process."""
        begin, before = time.perf_counter(), time.process_time()
        result = work()
        passed, processor = time.perf_counter() - begin, time.process_time() - before
        return cls(passed, processor, peak_memory(), float(result or 0))

    @classmethod
    def by_command(cls, line: Sequence[str]) -> Took:
        """Measure a command from its start to its end, with its workers; this process must not have had another one."""
        # their server outlives the command, and counts once it was waited for: here, where the orphans of Linux come to
        ctypes.CDLL(None).prctl(_SUBREAPER, 1)
        begin = time.perf_counter()
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        passed = time.perf_counter() - begin
        with suppress(ChildProcessError):
            while True:
                os.wait()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(passed, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)

    def tell(self) -> None:
        """Print it for `in_turns`."""
        sys.stdout.write("\n" + json.dumps(asdict(self)))


def peak_memory() -> float:
    """Most memory of this process [MB]; the resource usage knows also what the process that started it had."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1000


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark; --only is for its sides."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    return made


TURNS = 5


def in_turns(
    script: str | Path,
    sides: Mapping[Any, Sequence[object]],
    turns: int = TURNS,
    once: Sequence[Any] = (),
    by: str = "processor",
) -> dict[Any, Took]:
    """Run sides as processes of a script, each with what follows --only; of each the turn that took least, and the median.

    Those of `once` run once, since they take long.
    """
    runs: dict[Any, list[Took]] = {side: [] for side in sides}
    for turn in range(turns):
        for side, arguments in sides.items():
            if turn == 0 or side not in once:
                line = [sys.executable, str(script), "--only", *map(str, arguments)]
                told = subprocess.run(line, check=True, capture_output=True, text=True).stdout
                runs[side].append(Took(**json.loads(told.splitlines()[-1])))

    def least(found: Sequence[Took]) -> Took:
        times = [float(getattr(run, by)) for run in found]
        return replace(found[times.index(min(times))], median=statistics.median(times))

    return {side: least(found) for side, found in runs.items()}


def apart_from_start(sides: dict[Any, Took], whole: str, start: str, rest: str) -> None:
    """Add a side that took what the whole takes but for its start, which leaves; nothing if it could not be run here."""
    if whole in sides:
        used, begun = sides[whole], sides.pop(start)
        parts = {key: getattr(used, key) - getattr(begun, key) for key in ("time", "processor", "median")}
        sides[rest] = replace(used, **parts)


@dataclass(frozen=True)
class Case:
    """What was measured for one line of the page of speeds: our side, the limit, and other programs."""

    name: str  # as a reader would say it, such as "Skim, ZSTD"
    setting: str  # what was done to how much, such as "400,000 events of 720 branches"
    amount: float  # how much of `unit` each side did
    unit: str  # such as "events"
    sides: Mapping[str, Took]
    ours: str  # the side that is NanoML's
    limit: str  # the side that nothing can be faster than
    by: str = "processor"  # what is compared: processor time, or the "time" that passes
    amounts: Mapping[str, float] | None = None  # of the sides that did less than `amount`, since they take long

    def rate(self, side: str) -> float:
        """How much of `unit` a side does in a second."""
        return self.amount_of(side) / float(getattr(self.sides[side], self.by))

    def amount_of(self, side: str) -> float:
        """How much of `unit` a side did."""
        return (self.amounts or {}).get(side, self.amount)

    def tell(self) -> None:
        """Print it, and add it to the file that NANOML_FIGURES names, if it does."""
        sys.stdout.write(f"{self.name}: {self.setting}\n")
        rates = {side: self.rate(side) for side in self.sides}
        width = max(map(len, self.sides))
        for side, took in self.sides.items():
            sys.stdout.write(
                f"  {side:{width}}  {getattr(took, self.by):8.3f} s (median {took.median:.3f})  {rates[side]:12,.0f} {self.unit}/s"
                f"  {took.memory:6.0f} MB  ours is {rates[self.ours] / rates[side]:.2f} of it\n"
            )
        if path := os.environ.get("NANOML_FIGURES"):
            with Path(path).open("a") as file:
                file.write(json.dumps(asdict(self)) + "\n")


def postprocess(source: Path, output: Path, module: Any, **options: Any) -> None:
    """Run a module in nanoAOD-tools; importing is not counted if ROOT has been imported before."""
    import ROOT
    from PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor import PostProcessor

    from data_processing.skim.nanoaodtools_engine import name_algorithms

    name_algorithms(ROOT)
    PostProcessor(str(output.parent), [str(source)], modules=[module], **options).run()


def rules(output: Path, keep: Sequence[str] = READ) -> str:
    """A file of rules beside an output, by which nanoAOD-tools keeps nothing but these branches."""
    path = output.with_suffix(".txt")
    path.write_text("\n".join(["drop *", *(f"keep {name}" for name in keep)]))
    return str(path)
