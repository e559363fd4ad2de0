"""The same events as a TTree and as an RNTuple: reading a tenth of the branches, and skims by the trilepton selection.

    python bench/rntuple.py [--events 200000] [--compression ZSTD:5 --compression LZMA:5]

The input has 720 branches. Where Python has ROOT, it writes the RNTuple, with its own defaults for clusters and pages, by
its importer from the TTree; else NanoML does. Peers: reading the same branches with uproot, and RDataFrame on one thread.
The limit is what NanoML needs for the TTree.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import uproot
from common import KEEP, READ, SELECTION, Case, Took, apart_from_start, in_turns, make_input, parser, read_with_uproot
from skim import ROOT_ALL, ROOT_START, rdataframe

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.baskets import rows_at_once
from MLTools.NanoML.rootio.compression import compression_of
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal.progress import silence

HAS_ROOT = importlib.util.find_spec("ROOT") is not None


def make_ntuple(tree: Path, ntuple: Path, compression: str) -> None:
    """The events of a TTree as an RNTuple."""
    if not HAS_ROOT:
        skim_file(SkimJob(str(tree), ntuple, keep=["*"], compression=compression, format="RNTuple"))
        return
    import ROOT

    importer = ROOT.Experimental.RNTupleImporter.Create(str(tree), "Events", str(ntuple))
    importer.SetIsQuiet(True)
    options = importer.GetWriteOptions()
    options.SetCompression(compression_of(compression).code)
    importer.SetWriteOptions(options)
    importer.Import()


def read(source: Path, _output: Path) -> None:
    """NanoML reads what the skim reads and keeps."""
    with RootFile(source) as file:
        names = [name for pattern in READ for name in versions.expand(pattern, file.branches)]
        for start, stop in file.ranges(names, rows_at_once(file.bytes_per_event(names), 100)):
            file.read_plain(names, start, stop)


def uproot_reads(source: Path, _output: Path) -> None:
    """Uproot reads the same."""
    read_with_uproot(source, READ)


def skim_to(format: str) -> Callable[[Path, Path], None]:
    """NanoML's skim, written as a TTree or RNTuple."""

    def work(source: Path, output: Path) -> None:
        skim_file(SkimJob(str(source), output, SELECTION, keep=KEEP, compression="ZSTD:5", format=format))

    return work


# what is done to which input
READS = {
    "NanoML, RNTuple": (read, "RNTuple"),
    "NanoML, TTree": (read, "TTree"),
    "uproot, RNTuple": (uproot_reads, "RNTuple"),
    "uproot, TTree": (uproot_reads, "TTree"),
}
SKIMS = {
    "NanoML, RNTuple": (skim_to("RNTuple"), "RNTuple"),
    "NanoML, TTree": (skim_to("TTree"), "TTree"),
    "NanoML, TTree to RNTuple": (skim_to("RNTuple"), "TTree"),
    **({ROOT_ALL: (partial(rdataframe, _events=0), "RNTuple")} if HAS_ROOT else {}),
    **({ROOT_START: (partial(rdataframe, _events=0, most=1), "RNTuple")} if HAS_ROOT else {}),
}
SIDES = {
    **{("read", side): work for side, work in READS.items()},
    **{("skim", side): work for side, work in SKIMS.items()},
}


def measure(what: str, codec: str, sources: dict[str, Path], events: int) -> None:
    """Measure and print one case."""
    sides = {side: (what, side, sources[form]) for (kind, side), (_, form) in SIDES.items() if kind == what}
    setting = f"{events:,} events of 720 branches, a tenth of which are read" + (" and kept" if what == "skim" else "")
    ours, limit = "NanoML, RNTuple", "NanoML, TTree"
    took = in_turns(__file__, sides)
    apart_from_start(took, ROOT_ALL, ROOT_START, "RDataFrame, RNTuple, compiled")
    Case(f"RNTuple, {what}, {codec}", setting, events, "events", took, ours, limit).tell()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both cases with each compression."""
    options_of = parser(__doc__)
    options_of.add_argument("--events", type=int, default=200_000)
    options_of.add_argument("--compression", action="append", help="of the input, ZSTD:5 by default")
    options = options_of.parse_args(arguments)
    if options.only:
        what, side, source = options.only
        silence()
        import vector._compute.lorentz  # noqa: F401  # imported when two are first added

        with tempfile.TemporaryDirectory() as directory:
            work, _ = SIDES[what, side]
            Took.by(lambda: work(Path(source), Path(directory, "out.root"))).tell()
        return
    for codec in options.compression or ["ZSTD:5"]:
        with tempfile.TemporaryDirectory() as directory:
            sources = {form: Path(directory, f"{form}.root") for form in ("TTree", "RNTuple")}
            make_input(sources["TTree"], options.events, codec)
            make_ntuple(sources["TTree"], sources["RNTuple"], codec)
            with uproot.open(sources["RNTuple"]) as file:
                clusters = len(file["Events"].cluster_summaries)
            sizes = ", ".join(f"{form} {path.stat().st_size / 1e6:.0f} MB" for form, path in sources.items())
            sys.stdout.write(f"{codec}: {sizes} in {clusters} clusters\n")
            for what in ("read", "skim"):
                measure(what, codec, sources, options.events)


if __name__ == "__main__":
    main()
