"""The section `convert`: what the network gets to see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from MLTools.NanoML.settings.names import BRANCH

__all__ = ["Convert", "Objects"]


@dataclass(frozen=True)
class Objects:
    """The objects of one collection, such as the jets of an event."""

    fields: list[str] = field(
        metadata={
            "doc": "Branches of the collection without its prefix: pt for Jet_pt.",
            "minItems": 1,
            "uniqueItems": True,
            "items": BRANCH,
            "examples": [["pt", "eta", "phi", "mass"]],
        }
    )
    max: Optional[int] = field(
        default=None,
        metadata={
            "doc": "How many objects of an event are kept, the first in order. Give this or a quantile.",
            "minimum": 1,
            "examples": [6],
        },
    )
    quantile: Optional[float] = field(
        default=None,
        metadata={
            "doc": "Instead of max: keep as many objects that this share of all events loses none.",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "examples": [0.99],
        },
    )
    order: Optional[str] = field(
        default="-pt",
        metadata={
            "doc": "The field to sort by, with a minus for descending; null keeps the order of the file.",
            "pattern": "-?[A-Za-z_][A-Za-z0-9_]*",
            "form": 'the name of a field, or "-" and the name of a field',
        },
    )


@dataclass(frozen=True)
class Convert:
    """What the network gets to see: skims become HDF5 files."""

    features: list[str] = field(
        metadata={
            "doc": "One number per event each: columns of the selection or branches of NanoAOD.",
            "minItems": 1,
            "uniqueItems": True,
            "items": BRANCH,
            "examples": [["ZCand_mass", "MET_pt"]],
        }
    )
    objects: dict[str, Objects] = field(
        default_factory=dict,
        metadata={
            "doc": "Collections of objects, such as Jet, by name.",
            "names": {**BRANCH, "form": "the name of a collection, as in Jet"},
        },
    )
    float16: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Columns to store with half precision (3 digits, up to 65504), by name or pattern, as in Jet_*.",
            "examples": [["Jet_*"]],
        },
    )
    compression: Optional[str] = field(
        default="gzip:1",
        metadata={
            "doc": "Compression of the HDF5 files: gzip and a level; null for none.",
            "pattern": "gzip:[1-9]",
            "form": "gzip and a level from 1 to 9, as in gzip:4",
        },
    )
    memory: int = field(
        default=100, metadata={"doc": "How much the events at work may take [MB].", "minimum": 1}
    )
    shuffle: Optional[int] = field(
        default=None,
        metadata={
            "doc": "Seed: all datasets go into one file, in random order, which training reads at one go; "
            "without it each dataset has a file of its own.",
            "minimum": 0,
            "maximum": 2**32 - 1,
        },
    )
    allow_gaps: bool = field(
        default=False,
        metadata={
            "doc": "Whether entries of a file may be lacking that nano_postproc.py read in ranges. Then only the weights that "
            "were read count in the normalisation.",
        },
    )
