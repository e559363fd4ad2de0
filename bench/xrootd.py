"""Skims over XRootD by a long wire, of which the rate and the time there and back are given, against what the wire can carry.

    python bench/xrootd.py [--events 400000] [--long 1600000] [--rate 1000 --rate 200] [--round-trip 50]

A server is started on this machine, and is reached by the wire of bench/wire.py. The skim is that of bench/skim.py, which needs
a tenth of the file. The limit is computed: the bytes of the baskets that are needed at the rate of the wire, and the least number
of times there and back. Peers: xrdcp of as many bytes; and uproot, which only reads what the skim reads and keeps. Each side is
a process of its own, and they take turns; what is compared is the time that passes. Also told is how many bytes came by the
wire, and how long the skim takes from disk: the processor is the limit if that is more. By the fastest wire also goes a long
file, as those of NanoAOD are, and the command `nanoml skim --workers 2` with four of them, with its start. Needs xrootd (Debian
packages xrootd-server and xrootd-client), and room for both files in the directory for temporary files: 5 GB.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uproot
from common import CHECKOUT, KEEP, READ, SELECTION, Case, Took, in_turns, make_input, parser, read_with_uproot
from skim import command_of
from wire import wire

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.rootio.remote.client import Read, use_settings
from MLTools.NanoML.rootio.remote.server import Url
from MLTools.NanoML.terminal.progress import silence
from MLTools.NanoML.trilepton import Trilepton

sys.path.append(str(CHECKOUT / "test"))

from services.xrootd import Storage

ROUND_TRIPS = 6
"""What cannot be told before the last answer: protocol, login, open, the ends of the file, where its baskets are, the baskets."""
FILES = 4  # that two processes skim


def nanoml(source: str, output: Path) -> None:
    """Our skim."""
    skim_file(SkimJob(source, output, SELECTION, keep=KEEP, compression="ZSTD:5"))


def read(source: str, _output: Path) -> None:
    """Uproot reads what our skim reads and keeps."""
    read_with_uproot(source, READ)


def copy(source: str, output: Path) -> None:
    """The client of XRootD copies a file."""
    subprocess.run(["xrdcp", "--silent", source, output], check=True)


def two_at_once(source: str, output: Path) -> None:
    """Our skim of all files, as a command."""
    urls = [f"{source}/{number}.root" for number in range(FILES)]
    subprocess.run(command_of(urls, output, 2), check=True, capture_output=True)


SIDES: dict[str, Callable[[str, Path], None]] = {
    "nanoml": nanoml,
    "uproot": read,
    "xrdcp": copy,
    "two at once": two_at_once,
}


def only(side: str, source: str) -> None:
    """One side, in this process; importing is not counted."""
    import vector._compute.lorentz  # noqa: F401  # imported when two are first added
    import XRootD.client  # noqa: F401  # imported when a remote file is first opened

    gc.freeze()  # nor is it to look through what was imported for garbage
    silence()
    use_settings(Read(redirectors=["root://127.0.0.1/"]))
    with tempfile.TemporaryDirectory() as directory:
        Took.by(lambda: SIDES[side](source, Path(directory, "out.root"))).tell()


def needed(source: Path) -> int:
    """Bytes of the baskets of what the skim reads and keeps; some of its events are in each of them."""
    with uproot.open(source) as file:
        tree = file["Events"]
        names = set(tree.keys(filter_name=[*READ, *Trilepton.branches]))
        return sum(int(tree[name].member("fBasketBytes").sum()) for name in names)


@contextmanager
def serving(events: int, compression: str, given: Path | None) -> Iterator[tuple[Path, int]]:
    """A file that a server has, and the server's port; it has links to the file, and another of as many bytes as are needed of it."""
    server = Storage()
    source = server.directory / "in.root"
    try:
        if given is None:
            make_input(source, events, compression)
            with uproot.update(source) as file:  # simulation has it, and it says that these events are simulated
                runs = {"run": np.ones(1, np.uint32), "genEventSumw": np.full(1, float(events))}
                file.mktree("Runs", {name: values.dtype for name, values in runs.items()}).extend(runs)
        else:
            shutil.copyfile(given, source)
        for number in range(FILES):
            os.link(source, server.directory / f"{number}.root")
        with open(server.directory / "as_many", "wb") as file:
            file.truncate(needed(source))
        server.start()
        yield source, int(Url.parse(server.url).host.partition(":")[2])
    finally:
        server.close()


def compare(source: Path, server: int, rate: float, round_trip: float, what: str) -> None:
    """Measure all sides in turn by one wire [Mb/s, ms], and tell them."""
    useful = needed(source)
    with uproot.open(source) as file:
        content = f"{file['Events'].num_entries:,} events of {len(file['Events'].keys())} branches"
    with wire(server, rate * 1e6 / 8, round_trip / 1000) as (port, come):
        there = f"root://127.0.0.1:{port}/"
        ours = ("nanoml", f"{there}/in.root")
        in_turns(__file__, {"nanoml": ours}, turns=1)
        moved = come.value
        sides = {
            "nanoml": ours,
            "xrdcp of as many bytes": ("xrdcp", f"{there}/as_many"),
            "uproot reading": ("uproot", f"{there}/in.root"),
            "from disk": ("nanoml", str(source)),
        }
        took = in_turns(__file__, sides, by="time")
    disk, least = took.pop("from disk"), useful * 8 / (rate * 1e6) + ROUND_TRIPS * round_trip / 1000
    Case(
        f"{what} over XRootD, {rate:g} Mb/s",
        f"a tenth of {content}, {round_trip:g} ms there and back",
        useful,
        "B",
        {**took, "the wire": Took(least, 0, 0, median=least)},
        "nanoml",
        "the wire",
        by="time",
    ).tell()
    sys.stdout.write(
        f"  {moved / 1e6:.1f} MB came, {moved / useful:.3f} times what is needed; from disk {disk.time:.3f} s\n"
    )


def compare_two(source: Path, server: int, rate: float, round_trip: float) -> None:
    """Measure the command with two processes by one wire [Mb/s, ms]."""
    useful = FILES * needed(source)
    with wire(server, rate * 1e6 / 8, round_trip / 1000) as (port, _):
        ours = "nanoml skim --workers 2"
        took = in_turns(__file__, {ours: ("two at once", f"root://127.0.0.1:{port}/")}, by="time")
    least = useful * 8 / (rate * 1e6) + ROUND_TRIPS * round_trip / 1000
    Case(
        f"Two skims at once over XRootD, {rate:g} Mb/s",
        f"a tenth of {FILES} such files, {round_trip:g} ms there and back",
        useful,
        "B",
        {**took, "the wire": Took(least, 0, 0, median=least)},
        ours,
        "the wire",
        by="time",
    ).tell()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sides by each wire, and print them."""
    options_of = parser(__doc__)
    options_of.add_argument("--events", type=int, default=400_000)
    options_of.add_argument("--long", type=int, default=1_600_000, help="events of the long file")
    options_of.add_argument("--compression", default="ZSTD:5", help="of the input")
    options_of.add_argument("--rate", type=float, action="append", help="of a wire [Mb/s]; 1000 and 200 by default")
    options_of.add_argument("--round-trip", type=float, default=50, help="time there and back [ms]")
    options_of.add_argument("--input", type=Path, help="skim this file, and make none")
    options_of.add_argument("--long-input", type=Path, help="the same for the long file")
    options = options_of.parse_args(arguments)
    if options.only:
        only(*options.only)
        return
    rates, trip = options.rate or (1000, 200), options.round_trip
    with serving(options.events, options.compression, options.input) as (source, server):
        for rate in rates:
            compare(source, server, rate, trip, "Skim")
    with serving(options.long, options.compression, options.long_input) as (source, server):
        compare(source, server, max(rates), trip, "Skim of a long file")
        compare_two(source, server, max(rates), trip)


if __name__ == "__main__":
    main()
