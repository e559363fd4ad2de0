"""Skims by the trilepton selection, against other ways to make them.

    python bench/skim.py [--events 200000] [--compression ZSTD:5 --compression LZMA:5]
    python bench/skim.py --input 2M.root

The input has 720 branches. Peers: reading with uproot just the branches that are read and kept; and, where Python has ROOT,
RDataFrame on one thread, and where it has nanoAOD-tools too, an event loop of the same selection, on at most 200 k of its
events, for half a minute to some minutes.
There are three comparisons: of the same output, with the selection's columns, electrons, muons and missing momentum; and,
with what each writes by its own defaults, of that output and of all branches. Each side is a process of its own, and they
take turns. What is compared is processor time per event, for a side may use more than one core, and what else the machine
does counts less. Memory does not grow with the file: make a longer one by `hadd -ff` of copies, and give it by --input.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uproot
from common import (
    CHECKOUT,
    KEEP,
    READ,
    SELECTION,
    Took,
    in_turns,
    make_input,
    parser,
    postprocess,
    read_with_uproot,
    rules,
)

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.terminal.progress import silence
from MLTools.NanoML.trilepton import Trilepton

LOOPED = 200_000  # events: an event loop takes long; with few, most of its time goes into opening files


def nanoml(source: Path, output: Path, events: int, keep: Sequence[str] = KEEP, codec: str = "ZSTD:5") -> None:
    """Our skim."""
    job = SkimJob(str(source), output, SELECTION, keep=keep, compression=codec)
    assert skim_file(job).entries == events


def nanoml_defaults(source: Path, output: Path, events: int) -> None:
    """Our skim, compressed as it is by default."""
    nanoml(source, output, events, codec=SkimJob.compression)


def nanoml_all(source: Path, output: Path, events: int) -> None:
    """Our skim of all branches, compressed as it is by default."""
    nanoml(source, output, events, ["*"], SkimJob.compression)


def read(source: Path, _output: Path, _events: int) -> None:
    """Uproot reads what our skim reads and keeps."""
    read_with_uproot(source, READ)


def rdataframe(source: Path, output: Path, _events: int) -> None:
    """RDataFrame on one thread."""
    from skim_rdataframe import skim

    kept = uproot.open(source)["Events"].keys(filter_name=list(READ))
    skim(source, output, Trilepton.branches, list(Trilepton.columns), kept)


def nanoaodtools(source: Path, output: Path, events: int, **options: Any) -> None:
    """An event loop in nanoAOD-tools."""
    sys.path.insert(0, str(CHECKOUT / "test" / "python" / "nanoaodtools"))
    from trilepton_module import TrileptonModule

    postprocess(source, output, TrileptonModule(), maxEntries=events, postfix="_loop", **options)


def nanoaodtools_least(source: Path, output: Path, events: int) -> None:
    """Only what is kept is enabled, and nothing is compressed: the least that it can do."""
    nanoaodtools(source, output, events, branchsel=rules(output), compression="none")


def nanoaodtools_defaults(source: Path, output: Path, events: int) -> None:
    """As `nano_postproc.py --bo RULES -I ...`: all branches are enabled, and the output is LZMA:9."""
    nanoaodtools(source, output, events, outputbranchsel=rules(output))


SIDES = {
    "nanoml": nanoml,
    "uproot read": read,
    "RDataFrame": rdataframe,
    "nanoAOD-tools, least": nanoaodtools_least,
    "nanoml, ZLIB:5": nanoml_defaults,
    "nano_postproc.py --bo": nanoaodtools_defaults,
    "nanoml --keep '*'": nanoml_all,
    "nano_postproc.py": nanoaodtools,
}
COMPARISONS = {
    "columns and leptons kept; ZSTD:5, and no compression by nanoAOD-tools, which reads just these branches": (
        "nanoml",
        "uproot read",
        "RDataFrame",
        "nanoAOD-tools, least",
    ),
    "columns and leptons kept, each with its defaults: nano_postproc.py enables all branches, and writes LZMA:9": (
        "nanoml, ZLIB:5",
        "nano_postproc.py --bo",
    ),
    "all branches kept, each with its defaults": ("nanoml --keep '*'", "nano_postproc.py"),
}


def is_loop(side: str) -> bool:
    """Whether it is an event loop, which takes long."""
    return side.startswith("nano") and not side.startswith("nanoml")


def can_run(side: str) -> bool:
    """Whether there is what a side needs."""
    needed = ["ROOT"] if side == "RDataFrame" or is_loop(side) else []
    needed += ["PhysicsTools", "PhysicsTools.NanoAODTools"] if is_loop(side) else []
    return all(importlib.util.find_spec(module) for module in needed)


def compare(source: Path, codec: str, titles: Sequence[str]) -> None:
    """Measure all sides in turn, event loops once and the others three times; print the least processor time of each."""
    with uproot.open(source) as file:
        total = int(file["Events"].num_entries)
    sys.stdout.write(f"{total} events, {codec}{source.stat().st_size / 1e6:.0f} MB\n")
    for title in titles:
        names = [side for side in COMPARISONS[title] if can_run(side)]
        events = {side: min(LOOPED, total) if is_loop(side) else total for side in names}
        sides = {side: (side, source, events[side]) for side in names}
        best = in_turns(__file__, sides, once=list(filter(is_loop, names)))
        ours = best[names[0]].processor / total
        sys.stdout.write(f" {title}\n")
        for side, run in best.items():
            each = run.processor / events[side]
            sys.stdout.write(
                f"  {side:22} {run.processor:7.2f} s  {1 / each / 1000:8.2f} kHz  {run.memory:5.0f} MB"
                f"  {each / ours:8.2f} times ours\n"
            )


def only(side: str, source: str, events: str) -> None:
    """One side, in this process; importing is not counted."""
    silence()
    if side == "RDataFrame" or is_loop(side):
        import ROOT  # noqa: F401
    else:
        import vector._compute.lorentz  # noqa: F401  # imported when two are first added
    with tempfile.TemporaryDirectory() as directory:
        Took.by(lambda: SIDES[side](Path(source), Path(directory, "out.root"), int(events))).tell()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sides that can be run here, and print them."""
    options_of = parser(__doc__)
    options_of.add_argument("--events", type=int, default=200_000)
    options_of.add_argument(
        "--compression", action="append", help="of the input, ZSTD:5 by default; LZMA takes minutes to make"
    )
    options_of.add_argument("--input", type=Path, help="skim this file, and make none")
    options_of.add_argument("--comparison", type=int, action="append", help="1, 2 or 3; all by default")
    options = options_of.parse_args(arguments)
    if options.only:
        only(*options.only)
        return
    titles = list(COMPARISONS)
    if options.comparison:
        titles = [titles[number - 1] for number in options.comparison]
    if options.input:
        compare(options.input, "", titles)
        return
    for codec in options.compression or ["ZSTD:5"]:
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "in.root")
            make_input(source, options.events, codec)
            compare(source, f"{codec}, ", titles)


if __name__ == "__main__":
    main()
