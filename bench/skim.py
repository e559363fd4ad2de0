"""Skims by the trilepton selection, against other ways to make them.

    python bench/skim.py [--events 200000] [--compression ZSTD:5 --compression LZMA:5]
    python bench/skim.py --input 2M.root

The input has 720 branches; the output has the selection's columns, electrons, muons and missing momentum. The first comparison
is of the command `nanoml skim`, with its start and its defaults, with its limit: as a process of its own with its own start, uproot
opens the file and decompresses the baskets of just the branches that the selection reads or that are kept, and does nothing
else. No skim with uproot can be faster: each of these baskets has events that are kept. Peers: reading these branches with
uproot and, where Python has it, as virtual arrays of coffea; and, where Python has ROOT, RDataFrame on one thread, and where
it has nanoAOD-tools too, an event loop of the same selection, on at most 200 k of its events, for half a minute to some
minutes; their imports are not counted.
The second comparison is of two processes: `nanoml skim --workers 2` of 32 such files, with twice the rate of --workers 1, by
the time that passes, so nothing else may run on the machine. The others are with nanoAOD-tools, with what each writes by its own
defaults: of the same output, and of all branches.
Each side is a process of its own, and they take turns. What is compared is processor time per event, for a side may use more
than one core, and what else the machine does counts less. Memory does not grow with the file: make a longer one by `hadd -ff` of
copies, and give it by --input.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import uproot
from common import (
    CHECKOUT,
    KEEP,
    READ,
    SELECTION,
    Case,
    Took,
    apart_from_start,
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
FILES = 32  # for two processes: what they do before and after the files counts less


def command(source: Path, output: Path, workers: int = 1) -> list[str]:
    """Our skim as a command; of all files, if the source is a directory."""
    return command_of([source] if source.is_file() else sorted(source.iterdir()), output, workers)


def command_of(files: Sequence[object], output: Path, workers: int) -> list[str]:
    """Our skim of files or URLs as a command."""
    kept = [part for rule in KEEP for part in ("--keep", rule)]
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "skim", "--selection", SELECTION, *kept]
    return [*line, "--workers", str(workers), "-o", str(output), *map(str, files)]


def decompression(source: Path, _output: Path) -> list[str]:
    """Uproot decompresses what our skim reads and keeps, as a command."""
    return [sys.executable, str(CHECKOUT / "bench" / "skim_baskets.py"), str(source), *READ]


def nanoml(source: Path, output: Path, events: int, keep: Sequence[str] = KEEP) -> None:
    """Our skim."""
    assert skim_file(SkimJob(str(source), output, SELECTION, keep=keep)).entries == events


def nanoml_all(source: Path, output: Path, events: int) -> None:
    """Our skim of all branches."""
    nanoml(source, output, events, ["*"])


def read(source: Path, _output: Path, _events: int) -> None:
    """Uproot reads what our skim reads and keeps."""
    read_with_uproot(source, READ)


def coffea(source: Path, _output: Path, events: int) -> None:
    """Coffea's virtual arrays of what our skim reads and keeps, read 50,000 events at a time."""
    from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

    with uproot.open(source) as file:
        kept = [name.partition("_") for name in file["Events"].keys(filter_name=list(READ))]
    for start in range(0, events, 50_000):
        part = NanoEventsFactory.from_root(
            {str(source): "Events"},
            mode="virtual",
            schemaclass=NanoAODSchema,
            entry_start=start,
            entry_stop=min(start + 50_000, events),
        ).events()
        for collection, _, field in kept:
            ak.materialize(part[collection][field] if field else part[collection])


def rdataframe(source: Path, output: Path, _events: int, most: int = 0) -> None:
    """RDataFrame on one thread: of one event it takes what its compiler does at the start."""
    from skim_rdataframe import skim

    kept = uproot.open(source)["Events"].keys(filter_name=list(READ))
    skim(source, output, Trilepton.branches, list(Trilepton.columns), kept, most)


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


OURS, LIMIT, COFFEA = "nanoml skim", "decompression alone, by uproot", "reading, by coffea"
ROOT_ALL, ROOT_START = "RDataFrame and its compilation", "RDataFrame, one event"
ONE, TWO = "nanoml skim --workers 1", "nanoml skim --workers 2"
COMMANDS = {OURS: command, LIMIT: decompression, ONE: command, TWO: partial(command, workers=2)}
SIDES = {
    "nanoml": nanoml,
    "reading, by uproot": read,
    COFFEA: coffea,
    ROOT_ALL: rdataframe,
    ROOT_START: partial(rdataframe, most=1),
    "nanoAOD-tools, least": nanoaodtools_least,
    "nano_postproc.py --bo": nanoaodtools_defaults,
    "nanoml --keep '*'": nanoml_all,
    "nano_postproc.py": nanoaodtools,
}
CASE = (OURS, LIMIT, "reading, by uproot", COFFEA, ROOT_ALL, ROOT_START, "nanoAOD-tools, least")
COMPARISONS = {
    "columns and leptons kept, each with its defaults: nano_postproc.py enables all branches, and writes LZMA:9": (
        "nanoml",
        "nano_postproc.py --bo",
    ),
    "all branches kept, each with its defaults": ("nanoml --keep '*'", "nano_postproc.py"),
}


def is_loop(side: str) -> bool:
    """Whether it is an event loop, which takes long."""
    return side.startswith("nano") and not side.startswith("nanoml")


def can_run(side: str) -> bool:
    """Whether there is what a side needs."""
    needed = ["coffea"] if side == COFFEA else []
    needed += ["ROOT"] if side in (ROOT_ALL, ROOT_START) or is_loop(side) else []
    needed += ["PhysicsTools", "PhysicsTools.NanoAODTools"] if is_loop(side) else []
    return all(importlib.util.find_spec(module) for module in needed)


def measured(source: Path, names: Sequence[str], total: int) -> tuple[dict[str, Took], dict[str, int]]:
    """What those sides took that can be run here, event loops once, and of how many events."""
    names = [side for side in names if can_run(side)]
    events = {side: min(LOOPED, total) if is_loop(side) else total for side in names}
    sides = {side: (side, source, events[side]) for side in names}
    return in_turns(__file__, sides, once=list(filter(is_loop, names))), events


def one_process(source: Path, codec: str, total: int) -> None:
    """The first comparison."""
    best, events = measured(source, CASE, total)
    apart_from_start(best, ROOT_ALL, ROOT_START, "RDataFrame, compiled")
    Case(
        f"Skim, {codec}", f"{total:,} events of 720 branches", total, "events", best, OURS, LIMIT, amounts=events
    ).tell()


def copy_of_read(source: Path, target: Path, more: int) -> None:
    """Copy what our skim reads, with holes in the place of what it does not, so that many files fit into the memory.

    At the end are `more` bytes, since copies that are the same would be refused.
    """
    with uproot.open(source) as file:
        events = file["Events"]
        read = set(events.keys(filter_name=list(READ)))
        places = [
            place
            for branch in events.branches
            if branch.name not in read
            for place in zip(branch.member("fBasketSeek").tolist(), branch.member("fBasketBytes").tolist())
        ]
    size = source.stat().st_size
    with source.open("rb") as all_of_it, target.open("wb") as copy:
        begin = 0
        for seek, length in [*sorted(place for place in places if place[0]), (size, 0)]:
            all_of_it.seek(begin)
            copy.seek(begin)
            copy.write(all_of_it.read(seek - begin))
            begin = seek + length
        copy.truncate(size + more)


def two_processes(source: Path, codec: str, total: int) -> None:
    """The second."""
    with tempfile.TemporaryDirectory() as directory:
        for number in range(FILES):
            copy_of_read(source, Path(directory, f"{number}.root"), number)
        took = in_turns(__file__, {side: (side, directory, total) for side in (ONE, TWO)}, by="time")
    limit = "twice the rate of --workers 1"
    sides = {TWO: took[TWO], limit: replace(took[ONE], time=took[ONE].time / 2, median=took[ONE].median / 2)}
    setting = f"{FILES} files of {total:,} events"
    Case(f"Skim by two processes, {codec}", setting, FILES * total, "events", sides, TWO, limit, by="time").tell()


def compare(source: Path, chosen: Sequence[int]) -> None:
    """Measure the comparisons of these numbers."""
    with uproot.open(source) as file:
        total, codec = int(file["Events"].num_entries), file.file.compression.name
    sys.stdout.write(f"{total} events, {codec}, {source.stat().st_size / 1e6:.0f} MB\n")
    if 1 in chosen:
        one_process(source, codec, total)
    if 2 in chosen:
        two_processes(source, codec, total)
    for title, names in [each for number, each in enumerate(COMPARISONS.items(), 3) if number in chosen]:
        best, events = measured(source, names, total)
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
    if side in COMMANDS:
        with tempfile.TemporaryDirectory() as directory:
            Took.by_command(COMMANDS[side](Path(source), Path(directory))).tell()
        return
    if side in (ROOT_ALL, ROOT_START) or is_loop(side):
        import ROOT  # noqa: F401
    elif side == COFFEA:
        import coffea.nanoevents  # noqa: F401
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
    options_of.add_argument("--comparison", type=int, action="append", help="1 to 4; all by default")
    options = options_of.parse_args(arguments)
    if options.only:
        only(*options.only)
        return
    chosen = options.comparison or (1, 2, 3, 4)
    if options.input:
        compare(options.input, chosen)
        return
    for codec in options.compression or ["ZSTD:5"]:
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "in.root")
            make_input(source, options.events, codec)
            compare(source, chosen)


if __name__ == "__main__":
    main()
