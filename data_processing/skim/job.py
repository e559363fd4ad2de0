"""What is to be done with one file of a skim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SkimJob"]


@dataclass(frozen=True)
class SkimJob:
    """One file to be skimmed.

    Attributes
    ----------
    source
        Path or URL of the input.
    output
        Path of the skim.
    selection
        "module:Class" or "file.py:Class"; empty without one.
    base
        Directory that files are relative to.
    keep
        Rules for the input's branches, after those of `branches`.
    compression
        "ALGORITHM:LEVEL".
    chunk
        Most events read at once.
    memory
        How much the branches of a chunk may take, in MB.
    modules
        Modules of nanoAOD-tools, in the same form as a selection, that are run event by event after it.
    cut
        A cut in the language of ROOT's TTree::Draw, before the selection; empty without one.
    certified
        Path of a JSON file of certified luminosity sections, of which data are kept; empty without one.
    branches
        Path of a branch selection file of nanoAOD-tools; empty without one.
    engine
        "columnar", which is `skim_file`, or "nanoaodtools", which is `nanoaodtools_engine.postprocess_file`.
    """

    source: str
    output: Path
    selection: str = ""
    base: str = "."
    keep: Sequence[str] = ()
    compression: str = "ZLIB:5"
    chunk: int = 100_000
    memory: int = 100
    modules: Sequence[str] = ()
    cut: str = ""
    certified: str = ""
    branches: str = ""
    engine: str = "columnar"
