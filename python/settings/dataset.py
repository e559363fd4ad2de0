"""The section `datasets`: samples of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from MLTools.NanoML.settings.names import BRANCH, DATASET

__all__ = ["FROM_WHERE", "TIERS", "Dataset"]

FROM_WHERE = ("files", "das", "instance", "status", "max_files", "max_events")
"""The settings that say which files are read. What is made of a file does not depend on them."""


TIERS = ("NANOAOD", "NANOAODSIM", "USER")
"""The last parts of the names of datasets that are or may be NanoAOD."""


@dataclass(frozen=True)
class Dataset:
    """One sample of events: simulation of one process, or data."""

    files: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "NanoAOD files: paths, patterns such as data/WZ/*.root, root:// URLs, logical names (/store/...), "
            "directories and patterns on XRootD servers (root://eosuser.cern.ch//eos/.../), or text files (*.txt) with one "
            "of these a line.",
            "examples": ["data/WZ/*.root"],
        },
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
        default=False,
        metadata={
            "doc": "True for data, false for simulation. An event that several datasets of data have is kept in the first.",
            "key": "data",
        },
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
    das: list[str] = field(
        default_factory=list,
        metadata={
            "doc": "Names of datasets in CMS's catalogue, with wildcards: `nanoml datasets` shows what they match.",
            "items": DATASET,
            "examples": ["/DYJetsToLL_M-50_TuneCP5_13TeV-madgraphMLM-pythia8/*NanoAODv9*/NANOAODSIM"],
        },
    )
    instance: Optional[str] = field(
        default=None,
        metadata={
            "doc": "Instance of the catalogue; by default prod/global, and prod/phys03 for names that end in /USER.",
            "pattern": "(?:prod|int|dev)/(?:global|phys0[1-3])",
            "form": "an instance such as prod/global or prod/phys03",
        },
    )
    status: list[str] = field(
        default_factory=lambda: ["VALID"],
        metadata={
            "doc": "Which datasets of the catalogue are taken. Of those that are in PRODUCTION, files are still missing.",
            "items": {
                "pattern": "VALID|PRODUCTION|INVALID|DEPRECATED",
                "form": "VALID, PRODUCTION, INVALID or DEPRECATED",
            },
            "minItems": 1,
            "uniqueItems": True,
        },
    )
    max_files: Optional[int] = field(
        default=None,
        metadata={"doc": "How many files are read: the first in the order of the list.", "minimum": 1},
    )
    max_events: Optional[int] = field(
        default=None,
        metadata={
            "doc": "So many files are read, the first in the order of the list, that they have at least this number of "
            "events by the catalogue.",
            "minimum": 1,
        },
    )
