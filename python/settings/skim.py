"""The section `skim`: which events and branches are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

__all__ = ["ENGINES", "Skim"]


ENGINES = ("columnar", "nanoaodtools")
"""What `skim.engine` can name."""


@dataclass(frozen=True)
class Skim:
    """Which events and branches are kept."""

    selection: Optional[str] = field(
        default=None,
        metadata={
            "doc": "The class that selects events and computes columns, as module:Class or file.py:Class.",
            "pattern": r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|.+\.py):[A-Za-z_]\w*",
            "form": "module:Class or file.py:Class",
            "examples": ["MLTools.NanoML.trilepton:Trilepton", "my_selection.py:DiMuon"],
        },
    )
    keep: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Branches to keep, by name or pattern, beside the selection's columns and the event's identifiers; "
            "`drop PATTERN` takes away of those before it.",
            "examples": [["MET_*", "Muon_*", "drop Muon_*Iso*"]],
        },
    )
    branches: Optional[str] = field(
        default=None,
        metadata={
            "doc": "Branch selection file of nanoAOD-tools: lines such as `drop HLT_*`, beginning with all branches. "
            "The rules of `keep` come after it.",
            "examples": ["keep_and_drop.txt"],
        },
    )
    modules: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Modules of nanoAOD-tools that are run event by event, after the selection if there is one: "
            "a class, or what makes one, as module:name or file.py:name.",
            "examples": [["my_module.py:MyModule"]],
        },
    )
    cut: Optional[str] = field(
        default=None,
        metadata={
            "doc": "A cut before the selection, as nano_postproc.py takes it after -c.",
            "examples": ["nMuon >= 2 && Muon_pt[0] > 20"],
        },
    )
    certified: Optional[str] = field(
        default=None,
        metadata={
            "doc": "JSON file of certified luminosity sections. Of data, only these are kept; simulation has none.",
            "examples": ["Cert_271036-284044_13TeV_Legacy2016_Collisions16_JSON.txt"],
        },
    )
    compression: str = field(
        default="ZLIB:5",
        metadata={
            "doc": "Compression of the ROOT files: algorithm and level.",
            "pattern": "(?:ZSTD|LZMA|ZLIB|LZ4):[1-9]",
            "form": "ZSTD, LZMA, ZLIB or LZ4 and a level from 1 to 9, as in ZLIB:5",
        },
    )
    chunk: int = field(
        default=100_000, metadata={"doc": "How many events are read at once, at most.", "minimum": 1}
    )
    memory: int = field(
        default=100,
        metadata={"doc": "How much the branches that are read at once may take [MB].", "minimum": 1},
    )
    workers: int = field(
        default=0,
        metadata={
            "doc": "How many files are read at the same time; 0: as many as there are usable cores.",
            "minimum": 0,
        },
    )
    engine: str = field(
        default=ENGINES[0],
        metadata={
            "doc": "What runs the skim: NanoML's own, columnar, or the PostProcessor of PhysicsTools/NanoAODTools, "
            "event by event, where that and ROOT are installed.",
            "enum": ENGINES,
        },
    )
