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

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uproot
from convert import make_input

from data_processing.skim.nanoaodtools_engine import name_algorithms
from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.terminal.progress import silence
from MLTools.NanoML.trilepton import Trilepton

ROOT_OF_ALL = Path(__file__).resolve().parents[1]
KEEP = ("Electron_*", "Muon_*", "MET_*")
LOOPED = 200_000  # events: an event loop takes long; with few, most of its time goes into opening files


def nanoml(source: Path, output: Path, events: int, keep: Sequence[str] = KEEP, codec: str = "ZSTD:5") -> None:
    """Our skim."""
    job = SkimJob(str(source), output, "MLTools.NanoML.trilepton:Trilepton", keep=keep, compression=codec)
    assert skim_file(job).entries == events


def nanoml_defaults(source: Path, output: Path, events: int) -> None:
    """Our skim, compressed as it is by default."""
    nanoml(source, output, events, codec=SkimJob.compression)


def nanoml_all(source: Path, output: Path, events: int) -> None:
    """Our skim of all branches, compressed as it is by default."""
    nanoml(source, output, events, ["*"], SkimJob.compression)


def read(source: Path, _output: Path, events: int) -> None:
    """Uproot reads what our skim reads and keeps."""
    tree = uproot.open(source)["Events"]
    names = tree.keys(filter_name=["run", "luminosityBlock", "event", "genWeight", *KEEP])
    for start in range(0, events, 50_000):
        tree.arrays(names, entry_start=start, entry_stop=start + 50_000, how=dict)


def rdataframe(source: Path, output: Path, _events: int) -> None:
    """RDataFrame on one thread."""
    from skim_rdataframe import skim

    kept = uproot.open(source)["Events"].keys(filter_name=["run", "luminosityBlock", "event", "genWeight", *KEEP])
    skim(source, output, Trilepton.branches, list(Trilepton.columns), kept)


def nanoaodtools(source: Path, output: Path, events: int, **options: Any) -> None:
    """An event loop in nanoAOD-tools."""
    import ROOT
    from PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor import PostProcessor

    sys.path.insert(0, str(ROOT_OF_ALL / "test" / "python" / "nanoaodtools"))
    from trilepton_module import TrileptonModule

    name_algorithms(ROOT)
    PostProcessor(
        str(output.parent), [str(source)], modules=[TrileptonModule()], maxEntries=events, postfix="_loop", **options
    ).run()


def _rules(output: Path) -> str:
    path = output.with_suffix(".txt")
    kept = (*KEEP, "run", "event", "luminosityBlock", "genWeight")
    path.write_text("\n".join(["drop *", *(f"keep {name}" for name in kept)]))
    return str(path)


def nanoaodtools_least(source: Path, output: Path, events: int) -> None:
    """Only what is kept is enabled, and nothing is compressed: the least that it can do."""
    nanoaodtools(source, output, events, branchsel=_rules(output), compression="none")


def nanoaodtools_defaults(source: Path, output: Path, events: int) -> None:
    """As `nano_postproc.py --bo RULES -I ...`: all branches are enabled, and the output is LZMA:9."""
    nanoaodtools(source, output, events, outputbranchsel=_rules(output))


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


def measured(side: str, source: Path, events: int) -> dict[str, float]:
    """Run one side as a process; its processor time in seconds and its memory in MB."""
    with tempfile.TemporaryDirectory() as directory:
        line = [sys.executable, __file__, "--only", side, str(source), directory, str(events)]
        told = subprocess.run(line, check=True, capture_output=True, text=True).stdout
        return dict(json.loads(told.splitlines()[-1]))


def compare(source: Path, codec: str, titles: Sequence[str]) -> None:
    """Measure all sides in turn, event loops once and the others three times; print the least processor time of each."""
    with uproot.open(source) as file:
        total = int(file["Events"].num_entries)
    sys.stdout.write(f"{total} events, {codec}{source.stat().st_size / 1e6:.0f} MB\n")
    for title in titles:
        names = [side for side in COMPARISONS[title] if can_run(side)]
        events = {side: min(LOOPED, total) if is_loop(side) else total for side in names}
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in names}
        for turn in range(3):
            for side, found in runs.items():
                if turn == 0 or not is_loop(side):
                    found.append(measured(side, source, events[side]))
        best = {side: min(found, key=lambda run: run["seconds"]) for side, found in runs.items()}
        ours = best[names[0]]["seconds"] / total
        sys.stdout.write(f" {title}\n")
        for side, run in best.items():
            each = run["seconds"] / events[side]
            sys.stdout.write(
                f"  {side:22} {run['seconds']:7.2f} s  {1 / each / 1000:8.2f} kHz  {run['megabytes']:5.0f} MB"
                f"  {each / ours:8.2f} times ours\n"
            )


def only(side: str, source: str, directory: str, events: str) -> None:
    """One side, in this process; importing is not counted."""
    silence()
    if side == "RDataFrame" or is_loop(side):
        import ROOT  # noqa: F401
    else:
        import vector._compute.lorentz  # noqa: F401  # imported when two are first added
    before = resource.getrusage(resource.RUSAGE_SELF)
    SIDES[side](Path(source), Path(directory, "out.root"), int(events))
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sys.stdout.write("\n" + json.dumps({"seconds": seconds, "megabytes": after.ru_maxrss / 1000}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sides that can be run here, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument(
        "--compression", action="append", help="of the input, ZSTD:5 by default; LZMA takes minutes to make"
    )
    parser.add_argument("--input", type=Path, help="skim this file, and make none")
    parser.add_argument("--comparison", type=int, action="append", help="1, 2 or 3; all by default")
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
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
