"""Conversion of many padded branches, against reading the same branches with uproot.

    python bench/convert.py [--events 50000] [--compression gzip:1]

Each side is a process of its own, so that memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

SAMPLES = Path(__file__).resolve().parents[1] / "examples" / "data"
COPIES = 4
MAXIMA = {"GenPart": 24, "GenJet": 10, "Jet": 8}


def make_input(path: Path, events: int) -> None:
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
    with uproot.recreate(path, compression=uproot.ZSTD(5)) as file:
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
                types = {
                    k: v.dtype if isinstance(v, np.ndarray) else ak.type(v).content for k, v in rows.items()
                }
                tree = file.mktree(
                    "Events", types, counter_name=lambda x: "n" + x, field_name=lambda o, i: f"{o}_{i}"
                )
            tree.extend(rows)


def read(path: Path) -> None:
    """The peer: uproot alone."""
    tree = uproot.open(path)["Events"]
    names = tree.keys()
    for start in range(0, tree.num_entries, 5000):
        tree.arrays(names, entry_start=start, entry_stop=start + 5000, how=dict)


def convert(path: Path, output: Path, compression: str) -> None:
    """NanoML."""
    from data_processing.columns import Objects, event_level_branches
    from data_processing.convert import ConvertJob, convert_files
    from MLTools.NanoML.progress import silence
    from MLTools.NanoML.rootfile import RootFile

    silence()
    with RootFile(path) as file:
        collections = sorted(
            {branch.collection or "" for branch in file.branches.values() if branch.is_jagged}
        )
        names = [name for name in event_level_branches(file, ["*"])[0] if name[1:] not in collections]
    objects = {name: Objects((), MAXIMA.get(name.rstrip("123"), 4)) for name in collections}
    convert_files(ConvertJob([str(path)], output, names, objects, compression=compression))


def measured(what: str, *arguments: object) -> dict[str, float]:
    """Run one side as a process; its seconds and its largest memory in MB."""
    line = [sys.executable, __file__, "--only", what, *map(str, arguments)]
    return dict(json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout))


def only(what: str, arguments: list[str]) -> None:
    """One side, in this process."""
    begin = time.perf_counter()
    if what == "read":
        read(Path(arguments[0]))
    else:
        convert(Path(arguments[0]), Path(arguments[1]), arguments[2])
    seconds = time.perf_counter() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    sys.stdout.write(json.dumps({"seconds": seconds, "megabytes": memory}))


def main() -> None:
    """Measure both, three times, and print the best of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--compression", default="gzip:1")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        only(options.only[0], options.only[1:])
        return
    with tempfile.TemporaryDirectory() as directory:
        source, output = Path(directory) / "in.root", Path(directory) / "out.h5"
        make_input(source, options.events)
        peer = min((measured("read", source) for _ in range(3)), key=lambda run: run["seconds"])
        ours = min(
            (measured("convert", source, output, options.compression) for _ in range(3)),
            key=lambda run: run["seconds"],
        )
        size = output.stat().st_size / 1e6
    sys.stdout.write(
        f"uproot read  {peer['seconds']:6.2f} s  {peer['megabytes']:6.0f} MB\n"
        f"convert      {ours['seconds']:6.2f} s  {ours['megabytes']:6.0f} MB  ({size:.0f} MB written)\n"
        f"ratio        {ours['seconds'] / peer['seconds']:6.2f}\n"
    )


if __name__ == "__main__":
    main()
