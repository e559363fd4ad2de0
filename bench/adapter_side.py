"""One side of `bench/adapter.py`: python bench/adapter_side.py SIDE IN.root OUT EVENTS KEPT.json HOW. It imports what it needs alone."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import ROOT
from PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor import PostProcessor

HOW = ("least", "defaults")
"""Whether nanoAOD-tools has just the branches that are kept and compresses nothing, or does as nano_postproc.py does."""
KEEP = ("run", "luminosityBlock", "event", "genWeight", "nElectron", "Electron_*", "nMuon", "Muon_*", "MET_*")


class Nothing:
    """Declares the branches of the selection and keeps what it keeps, and does nothing else."""

    def __init__(self, entries: list[int], columns: dict[str, str]) -> None:
        self.entries, self.columns = frozenset(entries), columns

    def beginJob(self) -> None:  # noqa: N802
        """Nothing to do."""

    endJob = beginJob  # noqa: N815

    def beginFile(self, _input_file: Any, _output_file: Any, _input_tree: Any, output_tree: Any) -> None:  # noqa: N802
        """Declare the branches."""
        for name, letter in self.columns.items():
            output_tree.branch(name, letter)

    def endFile(self, *_: Any) -> None:  # noqa: N802
        """Nothing to do."""

    def analyze(self, event: Any) -> bool:
        """Whether the selection keeps the event."""
        return event._entry in self.entries


def module(side: str, told: dict[str, Any]) -> Any:
    """What nanoAOD-tools is to run."""
    if side == "nothing":
        return Nothing(told["entries"], told["columns"])
    from adapter import selection

    from MLTools.NanoML.nanoaodtools import PostprocModule

    return PostprocModule(selection(side))


def seconds() -> float:
    """Processor time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def options(how: str, directory: str) -> dict[str, str]:
    """What `PostProcessor` is told."""
    if how == "defaults":
        return {}
    rules = Path(directory, "keep.txt")
    rules.write_text("\n".join(["drop *", *(f"keep {name}" for name in KEEP)]))
    return {"branchsel": str(rules), "compression": "none"}


def main(side: str, source: str, directory: str, events: str, told: str, how: str) -> None:
    """Run it, and print what it took."""
    if not hasattr(ROOT.ROOT, "kLZMA"):  # newer ROOT has it elsewhere
        ROOT.ROOT.kLZMA = ROOT.ROOT.RCompressionSetting.EAlgorithm.kLZMA
    modules = [module(side, json.loads(Path(told).read_text()))]
    settings = options(how, directory)
    before = seconds()
    PostProcessor(directory, [source], modules=modules, maxEntries=int(events), postfix="_out", **settings).run()
    done = seconds()
    sys.stdout.write("\n" + json.dumps({"run": done - before, "whole": done}))


if __name__ == "__main__":
    main(*sys.argv[1:])
