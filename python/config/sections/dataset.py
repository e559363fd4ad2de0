"""The section `datasets`: samples of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from MLTools.NanoML.config.sections.names import BRANCH

__all__ = ["Dataset"]


@dataclass(frozen=True)
class Dataset:
    """One sample of events: simulation of one process, or data."""

    files: list[str] = field(
        metadata={
            "doc": "NanoAOD files: paths, patterns such as data/WZ/*.root, or root:// URLs.",
            "minItems": 1,
            "examples": ["data/WZ/*.root"],
        }
    )
    class_: Optional[str] = field(
        default=None,
        metadata={
            "doc": "The class of these events in training. Several datasets may share one; without one the dataset "
            "is only scored.",
            "examples": ["signal"],
        },
    )
    cross_section: Optional[float] = field(
        default=None, metadata={"doc": "Cross section of the process [pb].", "exclusiveMinimum": 0}
    )
    is_data: bool = field(
        default=False, metadata={"doc": "True for data, false for simulation.", "key": "data"}
    )
    parameters: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "doc": "Numbers that are the same for all its events, such as the mass of a hypothesis: columns of the "
            "HDF5 files, for networks that depend on them. They are NaN for datasets that do not have them.",
            "names": {**BRANCH, "form": "the name of a column, as in mass"},
            "examples": [{"mass": 600}],
        },
    )
