"""The base class of modules."""
# ruff: noqa: N802, N803, N815

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Optional

from MLTools.NanoML.errors import NanoMLError

__all__ = ["Module"]


class Module:
    """What is done with each event; users write subclasses of it.

    Attributes
    ----------
    writeHistFile
        Whether the module books histograms.
    """

    writeHistFile = False

    def __init__(self) -> None:
        self.writeHistFile = False

    def beginJob(self, histFile: Optional[Any] = None, histDirName: Optional[str] = None) -> None:
        """Do what is to be done before the first file."""

    def endJob(self) -> None:
        """Do what is to be done after the last file."""

    def beginFile(self, inputFile: Any, outputFile: Any, inputTree: Any, wrappedOutputTree: Any) -> None:
        """Make the branches of a file."""

    def endFile(self, inputFile: Any, outputFile: Any, inputTree: Any, wrappedOutputTree: Any) -> None:
        """Do what is to be done after a file's last event."""

    def analyze(self, event: Any) -> Optional[bool]:
        """Look at an event; it is kept if the result is true."""

    def addObject(self, obj: Any) -> NoReturn:
        """Refuse a histogram.

        Raises
        ------
        NanoMLError
            Always: there is no file for it.
        """
        raise NanoMLError(
            f"{type(self).__name__} books a histogram, but a skim has no file for histograms: fill branches instead, "
            "or run the module in a script of its own, by PostProcessor(..., histFileName=..., histDirName=...)."
        )

    def addObjectList(self, names: Sequence[str], obj: Any) -> NoReturn:
        """Refuse histograms, as `addObject` does."""
        self.addObject(obj)
