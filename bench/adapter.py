"""A selection inside nanoAOD-tools, against a module that does nothing.

    python bench/adapter.py [--how least] [--events 3000 --events 50000] [--input IN.root]

Where Python has ROOT and nanoAOD-tools, its `PostProcessor` goes through a file of 720 branches: with a branch selection (-b)
of what the selection reads, electrons, muons and missing momentum, and without compression, which is the least that it can
do; or as nano_postproc.py does it by default, with all branches and LZMA:9. Once its module is the trilepton selection; once
it is one that declares the same branches and keeps the same events, which it was told, and computes and fills nothing: what
that takes is what nanoAOD-tools itself takes. And both once more with nothing kept. Each run is a process of its own, and
they take turns; the least processor time of each counts: that of `PostProcessor.run`, and that of the whole process, in
which numpy, awkward, uproot and vector are imported for the selection alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from MLTools.NanoML.selection import Cutflow, Events, Selection
from MLTools.NanoML.trilepton import Trilepton

SIDE = Path(__file__).resolve().parent / "adapter_side.py"
TURNS = {"least": 5, "defaults": 2}
"""How often each side runs; with its defaults, nanoAOD-tools takes long."""
EVENTS = {"least": (3000, 50_000, 200_000), "defaults": (10_000,)}


class Keepless(Trilepton):
    """The same, and in the end nothing is kept."""

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, Mapping[str, Any]]:
        """See the class."""
        events, columns = super().select(events, cutflow)
        events = cutflow.cut("nothing", np.zeros(len(events), np.bool_), events)
        return events, {name: np.asarray(values)[:0] for name, values in columns.items()}


def selection(name: str) -> Selection:
    """One of the selections."""
    return {"trilepton": Trilepton, "keepless": Keepless}[name]()


def compare(source: Path, events: int, name: str, how: str) -> None:
    """Let both sides take turns, and print what each took."""
    from MLTools.NanoML.selection.tryout import on_file

    kept = on_file(selection(name), str(source), most=events).rows.tolist()
    letters = {column: spec.dtype[0].upper() for column, spec in Trilepton.columns.items()}
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        told = Path(directory, "told.json")
        told.write_text(json.dumps({"entries": kept, "columns": letters}))
        for _ in range(TURNS[how]):
            for side in ("nothing", name):
                with tempfile.TemporaryDirectory() as output:
                    line = [sys.executable, str(SIDE), side, str(source), output, str(events), str(told), how]
                    text = subprocess.run(line, check=True, capture_output=True, text=True).stdout
                found = json.loads(text.splitlines()[-1])
                assert f"Finally selected {len(kept)} entries" in text
                known = best.setdefault(side, found)
                best[side] = {what: min(known[what], found[what]) for what in found}
    ours, nothing = best[name], best["nothing"]
    sys.stdout.write(f"{how}: {events} events, {len(kept)} kept\n")
    for what, title in (("run", "PostProcessor.run"), ("whole", "whole process")):
        sys.stdout.write(
            f"  {title:18} {ours[what]:6.2f} s, with a module that does nothing {nothing[what]:6.2f} s:"
            f" {ours[what] / nothing[what]:5.2f} times\n"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare at some numbers of events."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--how", choices=TURNS, default="least")
    parser.add_argument("--events", type=int, action="append", help=f"by default {EVENTS}")
    parser.add_argument("--input", type=Path, help="take the first events of this file, and make none")
    options = parser.parse_args(arguments)
    for events in options.events or EVENTS[options.how]:
        with tempfile.TemporaryDirectory() as directory:
            source = options.input
            if source is None:
                from common import make_input

                source = Path(directory, "in.root")
                make_input(source, events, "ZSTD:5")
            for name in ("trilepton", "keepless"):
                compare(source, events, name, options.how)


if __name__ == "__main__":
    main()
