"""Skims by the trilepton selection, against other ways to make them.

    python bench/skim.py [--events 200000] [--compression ZSTD:5 --compression LZMA:5]
    python bench/skim.py --input 2M.root

The input has 720 branches; the selection's columns, electrons, muons and missing momentum are kept. Peers: reading with
uproot just the branches that are read and kept; and, where Python has ROOT, RDataFrame on one thread, and where it has
nanoAOD-tools too, an event loop of the same selection, on its first events. Each side is a process of its own, and they
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

import uproot
from convert import make_input

from data_processing.skim import SkimJob, skim_file
from MLTools.NanoML.progress import silence
from MLTools.NanoML.trilepton import Trilepton

ROOT = Path(__file__).resolve().parents[1]
KEEP = ("Electron_*", "Muon_*", "MET_*")
LOOPED = 10_000  # events: an event loop takes long


def nanoml(source: Path, output: Path, events: int) -> None:
    """Our skim."""
    books = skim_file(
        SkimJob(str(source), output, "MLTools.NanoML.trilepton:Trilepton", keep=KEEP, compression="ZSTD:5")
    )
    assert books["entries"] == events


def read(source: Path, _output: Path, events: int) -> None:
    """Uproot reads what our skim reads and keeps."""
    tree = uproot.open(source)["Events"]
    names = tree.keys(filter_name=["run", "luminosityBlock", "event", "genWeight", *KEEP])
    for start in range(0, events, 50_000):
        tree.arrays(names, entry_start=start, entry_stop=start + 50_000, how=dict)


def rdataframe(source: Path, output: Path, _events: int) -> None:
    """RDataFrame on one thread."""
    from skim_rdataframe import skim

    kept = uproot.open(source)["Events"].keys(
        filter_name=["run", "luminosityBlock", "event", "genWeight", *KEEP]
    )
    skim(source, output, Trilepton.branches, list(Trilepton.columns), kept)


def nanoaodtools(source: Path, output: Path, events: int) -> None:
    """An event loop in nanoAOD-tools."""
    from PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor import PostProcessor

    sys.path.insert(0, str(ROOT / "test" / "python"))
    from trilepton_module import TrileptonModule

    rules = output.with_suffix(".txt")
    rules.write_text(
        "\n".join(["drop *", *(f"keep {name}" for name in (*KEEP, "run", "event", "luminosityBlock"))])
    )
    PostProcessor(
        str(output.parent),
        [str(source)],
        modules=[TrileptonModule()],
        branchsel=str(rules),
        compression="none",
        maxEntries=events,
        postfix="_loop",
    ).run()


SIDES = {"nanoml": nanoml, "uproot read": read, "RDataFrame": rdataframe, "nanoAOD-tools": nanoaodtools}


def sides() -> list[str]:
    """Those that can be run here."""
    found = ["nanoml", "uproot read"]
    if importlib.util.find_spec("ROOT"):
        found.append("RDataFrame")
        if importlib.util.find_spec("PhysicsTools") and importlib.util.find_spec("PhysicsTools.NanoAODTools"):
            found.append("nanoAOD-tools")
    return found


def measured(side: str, source: Path, events: int) -> dict[str, float]:
    """Run one side as a process; its processor time in seconds and its memory in MB."""
    with tempfile.TemporaryDirectory() as directory:
        line = [sys.executable, __file__, "--only", side, str(source), directory, str(events)]
        told = subprocess.run(line, check=True, capture_output=True, text=True).stdout
        return dict(json.loads(told.splitlines()[-1]))


def compare(source: Path, codec: str) -> None:
    """Measure all sides three times in turn, and print the least processor time of each."""
    with uproot.open(source) as file:
        total = int(file["Events"].num_entries)
    sys.stdout.write(f"{total} events, {codec}{source.stat().st_size / 1e6:.0f} MB\n")
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides()}
    events = {side: min(LOOPED, total) if side == "nanoAOD-tools" else total for side in runs}
    for turn in range(3):
        for side, found in runs.items():
            if turn == 0 or side != "nanoAOD-tools":
                found.append(measured(side, source, events[side]))
    best = {side: min(found, key=lambda run: run["seconds"]) for side, found in runs.items()}
    ours = best["nanoml"]["seconds"] / events["nanoml"]
    for side, run in best.items():
        each = run["seconds"] / events[side]
        sys.stdout.write(
            f"  {side:14} {run['seconds']:7.2f} s  {1 / each / 1000:8.1f} kHz  {run['megabytes']:5.0f} MB"
            f"  {each / ours:8.2f} times ours\n"
        )


def only(side: str, source: str, directory: str, events: str) -> None:
    """One side, in this process; importing is not counted."""
    silence()
    if side in ("RDataFrame", "nanoAOD-tools"):
        import ROOT  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF)
    SIDES[side](Path(source), Path(directory, "out.root"), int(events))
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sys.stdout.write("\n" + json.dumps({"seconds": seconds, "megabytes": after.ru_maxrss / 1000}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sides that can be run here, and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument(
        "--compression", action="append", help="of the input, ZSTD:5 by default; LZMA takes minutes to make"
    )
    parser.add_argument("--input", type=Path, help="skim this file, and make none")
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        only(*options.only)
        return
    if options.input:
        compare(options.input, "")
        return
    for codec in options.compression or ["ZSTD:5"]:
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "in.root")
            make_input(source, options.events, codec)
            compare(source, f"{codec}, ")


if __name__ == "__main__":
    main()
