"""The sections `evaluate`, `export` and `score`: what is made of the trained networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from MLTools.NanoML.settings.names import NAME

__all__ = ["Evaluate", "Export", "Score"]


@dataclass(frozen=True)
class Evaluate:
    """The report of a training."""

    compare: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "HDF5 files of other events, of real data say, whose features are compared with those of the training.",
            "examples": [["hdf5/SingleMuon.h5"]],
        },
    )


@dataclass(frozen=True)
class Export:
    """The trained network as an ONNX file."""

    cmssw: Optional[str] = field(
        default=None,
        metadata={
            "doc": "The CMSSW release that must be able to run the model. One whose ONNX Runtime is not known gets the form "
            "that all known releases from 12_4 on read, with a warning.",
            "pattern": "CMSSW_[0-9]+_[0-9]+(?:_[A-Za-z0-9_-]+)?",
            "form": "a release such as CMSSW_14_0_X or CMSSW_14_0_19_patch1",
            "examples": ["CMSSW_14_0_X"],
        },
    )
    name: Optional[str] = field(
        default=None, metadata={"doc": "The name of the model; by default the workdir's.", **NAME}
    )


@dataclass(frozen=True)
class Score:
    """Events that get the network's output as new branches."""

    files: Optional[list[str]] = field(
        default=None,
        metadata={"doc": "ROOT files to score; by default the skims of all datasets.", "minItems": 1},
    )
    model: Optional[list[str]] = field(
        default=None,
        metadata={
            "doc": "The ONNX file, or several; by default the exported one.",
            "minItems": 1,
            "uniqueItems": True,
            "examples": ["model.onnx"],
        },
    )
    parameter: dict[str, float] = field(
        default_factory=dict,
        metadata={"doc": "Values of the models' parameters, by name.", "examples": [{"mass": 600}]},
    )
    copy: bool = field(
        default=False,
        metadata={"doc": "True to write full copies of the files with the scores, not the scores alone."},
    )
