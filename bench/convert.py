"""Conversion, against reading the same branches with uproot.

    python bench/convert.py [--events 50000] [--files 1] [--compression gzip:1]

Two inputs: a file of 720 branches, all converted, collections padded; and a skim by the trilepton selection with ten
times the events, of which the selection's columns, electrons and muons are converted. With more files, the same one is
read again, to see that memory stays flat. Each side is a process of its own, so that memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import uproot

from data_processing.convert.columns import StoredCollection, event_level_branches
from data_processing.convert.convert import ConvertJob, convert_files
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.rootio.compression import compression_of
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal.progress import silence
from MLTools.NanoML.trilepton import Trilepton

SAMPLES = Path(__file__).resolve().parents[1] / "examples" / "data"
COPIES = 4
SKIM_BRANCHES = [
    "run",
    "luminosityBlock",
    "event",
    "genWeight",
    "Electron_*",
    "Muon_*",
    "Z*",
    "W*",
    "ThreeLep*",
    "channel",
    "nGood*",
]
MAXIMA = {"GenPart": 24, "GenJet": 10, "Jet": 8}


def make_input(path: Path, events: int, compression: str = "ZSTD:5") -> None:
    """NanoAOD of `events` events with the sample's branches four times, each time in another order."""
    trees = [uproot.open(file)["Events"] for file in sorted(SAMPLES.glob("*/*.root"))]
    sample = ak.concatenate([tree.arrays() for tree in trees])
    collections: dict[str, list[str]] = {}
    flat = []
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
                tree = file.mktree("Events", types, counter_name=lambda x: "n" + x, field_name=lambda o, i: f"{o}_{i}")
            tree.extend(rows)


def read(case: str, paths: Sequence[str]) -> None:
    """The peer: uproot alone."""
    for path in paths:
        tree = uproot.open(path)["Events"]
        names = tree.keys() if case == "wide" else tree.keys(filter_name=SKIM_BRANCHES)
        step = 5000 if case == "wide" else 50_000
        for start in range(0, tree.num_entries, step):
            tree.arrays(names, entry_start=start, entry_stop=start + step, how=dict)


def convert(case: str, output: Path, compression: str, paths: Sequence[str]) -> None:
    """NanoML."""
    if case == "skim":
        names = list(Trilepton.columns)
        objects = {name: StoredCollection((), 4) for name in ("Electron", "Muon")}
    else:
        with RootFile(paths[0]) as file:
            collections = sorted({branch.collection or "" for branch in file.branches.values() if branch.is_jagged})
            names = [name for name in event_level_branches(file, ["*"])[0] if name[1:] not in collections]
        objects = {name: StoredCollection((), MAXIMA.get(name.rstrip("123"), 4)) for name in collections}
    convert_files(ConvertJob(paths, output, names, objects, compression=compression))


def make_skim(path: Path, events: int, compression: str) -> None:
    """Skims of the samples by the trilepton selection, joined, with `events` events drawn from them."""
    keep = ["Electron_*", "Muon_*", "MET_*"]
    with tempfile.TemporaryDirectory() as directory:
        parts = []
        for number, source in enumerate(sorted(SAMPLES.glob("*/*.root"))):
            part = Path(directory, f"{number}.root")
            skim_file(SkimJob(str(source), part, "MLTools.NanoML.trilepton:Trilepton", keep=keep))
            parts.append(part)
        with RootFile(parts[0]) as file:
            branches = {name: branch for name, branch in file.branches.items() if name not in ("nElectron", "nMuon")}
        skims = ak.concatenate([uproot.open(part)["Events"].arrays(list(branches)) for part in parts])
    random = np.random.default_rng(1)
    with NanoWriter(path, branches, compression) as writer:
        for start in range(0, events, 50_000):
            picked = skims[random.integers(0, len(skims), min(50_000, events - start))]
            writer.events.extend({name: picked[name] for name in branches})
        writer.finish()


def measured(side: str, case: str, *arguments: object) -> dict[str, float]:
    """Run one side as a process, three times; the fastest's seconds and largest memory in MB."""
    line = [sys.executable, __file__, "--only", side, case, *map(str, arguments)]
    runs = [json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout) for _ in range(3)]
    return dict(min(runs, key=lambda run: float(run["seconds"])))


def only(side: str, case: str, arguments: Sequence[str]) -> None:
    """One side, in this process."""
    silence()
    begin = time.perf_counter()
    if side == "read":
        read(case, arguments)
    else:
        convert(case, Path(arguments[0]), arguments[1], arguments[2:])
    seconds = time.perf_counter() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    sys.stdout.write(json.dumps({"seconds": seconds, "megabytes": memory}))


def float64_megabytes(path: Path) -> float:
    """Size of an HDF5 file's values as float64 without compression."""
    with h5py.File(path) as file:
        tables = [table for table in file.values() if isinstance(table, h5py.Dataset) and table.dtype.names]
        return sum(table.size * len(table.dtype.names) * 8 for table in tables) / 1e6


def compare(case: str, source: Path, output: Path, options: argparse.Namespace, codec: str = "ZSTD:5") -> None:
    """Measure both sides and print them."""
    paths = [source.with_suffix(f".{number}.root") for number in range(options.files)]
    for path in paths:
        path.unlink(missing_ok=True)
        path.hardlink_to(source)
    peer = measured("read", case, *paths)
    ours = measured("convert", case, output, options.compression, *paths)
    size, full = output.stat().st_size / 1e6, float64_megabytes(output)
    sys.stdout.write(
        f"{case}: {source.stat().st_size / 1e6:.0f} MB of ROOT in {codec}, {options.files} times\n"
        f"  uproot read  {peer['seconds']:6.2f} s  {peer['megabytes']:6.0f} MB\n"
        f"  convert      {ours['seconds']:6.2f} s  {ours['megabytes']:6.0f} MB\n"
        f"  ratio        {ours['seconds'] / peer['seconds']:6.2f}\n"
        f"  written      {size:6.0f} MB, {size / full:.2f} of float64 without compression ({full:.0f} MB)\n"
    )


def main() -> None:
    """Measure both cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000, help="in a file")
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--compression", default="gzip:1")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        only(options.only[0], options.only[1], options.only[2:])
        return
    silence()
    with tempfile.TemporaryDirectory() as directory:
        wide, skim, output = (Path(directory, name) for name in ("wide.root", "skim.root", "out.h5"))
        make_input(wide, options.events)
        compare("wide", wide, output, options)
        for codec in ("ZLIB:5", "LZMA:9"):  # of our skims, and of those of nanoAOD-tools
            make_skim(skim, 10 * options.events, codec)
            compare("skim", skim, output, options, codec)


if __name__ == "__main__":
    main()
