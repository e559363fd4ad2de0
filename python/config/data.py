"""The sections `skim`, `convert` and `score`: what is made of NanoAOD files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from MLTools.NanoML.schema.settings import BRANCH, setting

if TYPE_CHECKING:
    pass

ENGINES = ("columnar", "nanoaodtools")
"""What `skim.engine` can name."""
FORMATS = ("TTree", "RNTuple")
"""What `skim.format` can name."""


@dataclass(frozen=True)
class Skim:
    """Which events and branches are kept."""

    selection: Optional[str] = setting(
        None,
        "The class that selects events and computes columns, as module:Class or file.py:Class.",
        pattern=r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|.+\.py):[A-Za-z_]\w*",
        form="module:Class or file.py:Class",
        examples=["MLTools.NanoML.trilepton:Trilepton", "my_selection.py:DiMuon"],
    )
    keep: list[str] = setting(
        list,
        "Branches to keep, by name or pattern, beside the selection's columns and the event's identifiers; "
        "`drop PATTERN` removes some of those before it.",
        examples=[["MET_*", "Muon_*", "drop Muon_*Iso*"]],
    )
    branches: Optional[str] = setting(
        None,
        "Branch selection file of nanoAOD-tools: lines such as `drop HLT_*`, beginning with all branches. "
        "The rules of `keep` come after it.",
        examples=["keep_and_drop.txt"],
    )
    modules: list[str] = setting(
        list,
        "Modules of nanoAOD-tools that are run event by event, after the selection if there is one: "
        "a class or a function that makes the module, as module:name or file.py:name.",
        examples=[["my_module.py:MyModule"]],
    )
    cut: Optional[str] = setting(
        None,
        "A cut before the selection, as nano_postproc.py takes it after -c.",
        examples=["nMuon >= 2 && Muon_pt[0] > 20"],
    )
    certified: Optional[str] = setting(
        None,
        "JSON file of certified luminosity sections. Only these are kept of data; simulation is not affected.",
        examples=["Cert_271036-284044_13TeV_Legacy2016_Collisions16_JSON.txt"],
    )
    compression: str = setting(
        "ZLIB:5",
        "Compression of the ROOT files: algorithm and level.",
        pattern="(?:ZSTD|LZMA|ZLIB|LZ4):[1-9]",
        form="ZSTD, LZMA, ZLIB or LZ4 and a level from 1 to 9, as in ZLIB:5",
    )
    format: str = setting(
        FORMATS[0],
        "What the events and all other rows are written as. RNTuple is ROOT's newer format; it takes uproot 5.7.",
        enum=FORMATS,
    )
    chunk: int = setting(100_000, "How many events are read at once at most.", minimum=1)
    memory: int = setting(100, "Memory for the branches that are read at once [MB].", minimum=1)
    workers: int = setting(
        0,
        "How many files are read at the same time; 0: as many as there are usable cores, and one if all are a few MB.",
        minimum=0,
    )
    engine: str = setting(
        ENGINES[0],
        "What runs the skim: NanoML's own, columnar, or the PostProcessor of PhysicsTools/NanoAODTools, "
        "event by event, where that and ROOT are installed.",
        enum=ENGINES,
    )


@dataclass(frozen=True)
class Objects:
    """The objects of one collection, such as the jets of an event."""

    fields: list[str] = setting(
        ...,
        "Branches of the collection without its prefix: pt for Jet_pt.",
        minItems=1,
        uniqueItems=True,
        items=BRANCH,
        examples=[["pt", "eta", "phi", "mass"]],
    )
    max: Optional[int] = setting(
        None,
        "How many objects of an event are kept, the first in order. Give this or a quantile.",
        minimum=1,
        examples=[6],
    )
    quantile: Optional[float] = setting(
        None,
        "Instead of max: so many objects are kept that this share of all events loses none.",
        exclusiveMinimum=0,
        maximum=1,
        examples=[0.99],
    )
    order: Optional[str] = setting(
        "-pt",
        "The field to sort by, with a minus for descending; null keeps the order of the file.",
        pattern="-?[A-Za-z_][A-Za-z0-9_]*",
        form='the name of a field, or "-" and the name of a field',
    )


@dataclass(frozen=True)
class Convert:
    """What the network gets to see: skims become HDF5 files."""

    features: list[str] = setting(
        ...,
        "Columns of the selection or branches of NanoAOD, with one number per event.",
        minItems=1,
        uniqueItems=True,
        items=BRANCH,
        examples=[["ZCand_mass", "MET_pt"]],
    )
    objects: dict[str, Objects] = setting(
        dict,
        "Collections of objects, such as Jet, by name.",
        names={**BRANCH, "form": "the name of a collection, as in Jet"},
    )
    float16: list[str] = setting(
        list,
        "Columns to store with half precision (3 digits, up to 65504), by name or pattern, as in Jet_*.",
        examples=[["Jet_*"]],
    )
    compression: Optional[str] = setting(
        "gzip:1",
        "Compression of the HDF5 files: gzip and a level; null for none.",
        pattern="gzip:[1-9]",
        form="gzip and a level from 1 to 9, as in gzip:4",
    )
    memory: int = setting(100, "Memory for the events being converted [MB].", minimum=1)
    shuffle: Optional[int] = setting(
        None,
        "Seed: all datasets go into one file, in random order, which training reads in one go; "
        "by default each dataset has its own file.",
        minimum=0,
        maximum=2**32 - 1,
    )
    allow_gaps: bool = setting(
        False,
        "Whether entries may be missing from a file that nano_postproc.py read in ranges. Then only the weights that "
        "were read count in the normalisation.",
    )
    missing: dict[str, list[float]] = setting(
        dict,
        'Numbers that stand for "no value", by name or pattern of columns: networks are told that the value is missing, as they are where '
        "it is not a finite number, and where a number such as -999 lies far from all others. [] says that no number does.",
        examples=[{"Jet_btagDeepFlavB": -1, "dxy_*": [-99, -999], "pfRelIso": []}],
    )


@dataclass(frozen=True)
class Score:
    """Events that get the network's output as new branches."""

    files: Optional[list[str]] = setting(None, "ROOT files to score; by default the skims of all datasets.", minItems=1)
    model: Optional[list[str]] = setting(
        None,
        "The ONNX file or files; by default the exported one. With [], files that are already scored get only weights and regions.",
        uniqueItems=True,
        examples=["model.onnx"],
    )
    parameter: dict[str, list[float]] = setting(
        dict,
        "Values of the models' parameters, by name. At several, there are scores NAME_CLASS_mass600 for each; by default, the "
        "analysis's own model has scores at each value that datasets have.",
        examples=[{"mass": 600}, {"mass": [600, 800]}],
    )
    copy: bool = setting(False, "True to write full copies of the files with the scores, not the scores alone.")
