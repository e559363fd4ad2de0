"""Shuffling the rows of an HDF5 file, against copying the file, and against reading and writing the rows in their order.

    python bench/shuffle.py [--rows 100000000] [--compression none] [--memory 100]

A row has the identifiers of an event, its label and weight, and four features: 40 bytes. What does not fit into the memory must
go to the disk and come back before it is in order, so two copies of a file without compression are the limit, each through the
page cache and until it is on the disk. With compression, it is reading the rows by h5py and writing them as the conversion
does. Time that passes is compared, since disks have their part in it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
from common import Case, Took, describe_events, in_turns, parser

from data_processing.convert.writing import table_writers
from data_processing.shuffle import ShuffleJob, shuffle_files
from MLTools.NanoML.terminal.progress import silence

FEATURES = ("x", "y", "z", "mass")
ROW = np.dtype(
    [("run", "u4"), ("luminosityBlock", "u4"), ("event", "u8"), ("label", "i4"), ("weight", "f4")]
    + [(name, "f4") for name in FEATURES]
)
TITLES = {"none": "no compression"}
ROWS = (10_000_000, 100_000_000)  # with and without compression
STEP = 500_000  # rows at once
OURS, TWICE, ONCE, IN_ORDER = "NanoML shuffles", "two copies", "one copy", "h5py reads, NanoML writes in order"


def make_rows(path: Path, rows: int, compression: str) -> None:
    """A file as the conversion makes it: numbered events with random features."""
    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        with table_writers(file, {"events": ROW}, rows, compression) as writers:
            for start in range(0, rows, STEP):
                block = np.zeros(min(STEP, rows - start), ROW)
                block["event"] = np.arange(start, start + len(block))
                block["run"], block["luminosityBlock"], block["weight"] = 1, block["event"] // 1000, 1
                block["label"] = random.integers(0, 2, len(block))
                for name in FEATURES:
                    block[name] = random.normal(size=len(block))
                writers["events"].write(block)
            writers["events"].finish()
        describe_events(file, FEATURES, {})


def copy(source: Path, output: Path) -> None:
    """Copy a file, and wait until it is on the disk."""
    with open(source, "rb") as read, open(output, "wb") as written:
        while block := read.read(1 << 20):
            written.write(block)
        written.flush()
        os.fsync(written.fileno())


def in_order(source: Path, output: Path, compression: str) -> None:
    """Read all rows, and write them."""
    with h5py.File(source) as read, h5py.File(output, "w") as file:
        events = read["events"]
        with table_writers(file, {"events": ROW}, len(events), compression) as writers:
            for start in range(0, len(events), STEP):
                writers["events"].write(events[start : start + STEP])
            writers["events"].finish()


def shuffle(source: Path, output: Path, compression: str, memory: float) -> None:
    """NanoML."""
    shuffle_files(ShuffleJob([source], output, 1, memory, compression))


def copy_twice(source: Path, output: Path) -> None:
    """To another file, and from there."""
    with tempfile.TemporaryDirectory(dir=output.parent) as directory:
        between = Path(directory, "between")
        copy(source, between)
        copy(between, output)


def only(side: str, path: str, compression: str, memory: str) -> None:
    """One side, in this process."""
    source, output = Path(path), Path(path).with_name("out.h5")
    work: dict[str, Callable[[], None]] = {
        OURS: lambda: shuffle(source, output, compression, float(memory)),
        TWICE: lambda: copy_twice(source, output),
        ONCE: lambda: copy(source, output),
        IN_ORDER: lambda: in_order(source, output, compression),
    }
    Took.by(work[side]).tell()
    output.unlink()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, with and without compression."""
    options_of = parser(__doc__)
    options_of.add_argument(
        "--rows", type=int, help="100 million without compression, which needs 13 GB of disk, 10 million with"
    )
    options_of.add_argument("--compression", action="append", help="none and gzip:1 by default")
    options_of.add_argument("--memory", type=float, default=100, help="[MB]")
    options = options_of.parse_args(arguments)
    silence()
    if options.only:
        only(*options.only)
        return
    for compression in options.compression or ("none", "gzip:1"):
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "in.h5")
            rows = options.rows or ROWS[compression == "none"]
            make_rows(source, rows, compression)
            names = (OURS, TWICE, ONCE, IN_ORDER) if compression == "none" else (OURS, IN_ORDER)
            found = in_turns(__file__, {side: (side, source, compression, options.memory) for side in names}, by="time")
            setting = f"{rows:,} rows of {ROW.itemsize} bytes, {source.stat().st_size / 1e6:,.0f} MB"
            Case(
                f"Shuffling, {TITLES.get(compression, compression)}",
                setting,
                rows,
                "rows",
                found,
                OURS,
                names[1],
                by="time",
            ).tell()
            for side, took in found.items():
                sys.stdout.write(f"  {side}: {took.processor:.2f} s of the processor\n")


if __name__ == "__main__":
    main()
