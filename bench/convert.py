"""Conversion, against reading the same branches with uproot.

    python bench/convert.py [--events 50000] [--files 1] [--compression gzip:1]

Two inputs: a file of 720 branches, all converted, collections padded; and a skim by the trilepton selection with ten
times the events, of which the selection's columns, electrons and muons are converted. With more files, the same one is
read again, to see that memory stays flat. Each side is a process of its own, so that memory is its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import uproot
from common import KEEP, Case, Took, in_turns, make_input, make_skim, parser, read_with_uproot

from data_processing.convert.columns import StoredCollection, event_level_branches
from data_processing.convert.convert import ConvertJob, convert_files
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal.progress import silence
from MLTools.NanoML.trilepton import Trilepton

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
NAMES = {"wide": "Conversion", "skim": "Conversion of a skim"}
WHAT = {"wide": "720 branches", "skim": "all fields of leptons, and what the selection made"}
MAXIMA = {"GenPart": 24, "GenJet": 10, "Jet": 8}


def read(case: str, paths: Sequence[str]) -> int:
    """The peer: uproot alone."""
    for path in paths:
        read_with_uproot(path, ["*"] if case == "wide" else SKIM_BRANCHES, 5000 if case == "wide" else 50_000)
    return sum(int(uproot.open(path)["Events"].num_entries) for path in paths)


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
    ours, limit = "NanoML converts", "uproot reads"
    sides = {ours: ("convert", case, output, options.compression, *paths), limit: ("read", case, *paths)}
    found = in_turns(__file__, sides, by="time")
    size, full, events = output.stat().st_size / 1e6, float64_megabytes(output), int(found[limit].result)
    times = f", the same file {options.files} times" if options.files > 1 else ""
    setting = f"{events:,} events, {WHAT[case]}, {source.stat().st_size / 1e6:.0f} MB in {codec}{times}"
    Case(f"{NAMES[case]}, {codec.partition(':')[0]}", setting, events, "events", found, ours, limit, by="time").tell()
    sys.stdout.write(
        f"  processor: {found[ours].processor / found[limit].processor:.2f} of uproot's\n"
        f"  written: {size:.0f} MB, {size / full:.2f} of float64 without compression ({full:.0f} MB)\n"
    )


def main() -> None:
    """Measure both cases."""
    options_of = parser(__doc__)
    options_of.add_argument("--events", type=int, default=50_000, help="in a file")
    options_of.add_argument("--files", type=int, default=1)
    options_of.add_argument("--compression", default="gzip:1")
    options = options_of.parse_args()
    silence()
    if options.only:
        side, case, *rest = options.only
        if side == "read":
            Took.by(lambda: read(case, rest)).tell()
        else:
            Took.by(lambda: convert(case, Path(rest[0]), rest[1], rest[2:])).tell()
        return
    with tempfile.TemporaryDirectory() as directory:
        wide, skim, output = (Path(directory, name) for name in ("wide.root", "skim.root", "out.h5"))
        make_input(wide, options.events)
        compare("wide", wide, output, options)
        for codec in ("ZLIB:5", "LZMA:9"):  # of our skims, and of those of nanoAOD-tools
            make_skim(skim, 10 * options.events, codec, KEEP)
            compare("skim", skim, output, options, codec)


if __name__ == "__main__":
    main()
