from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
from uproot.writing.identify import to_TH1x

from data_processing.convert import ConvertJob, convert_files
from data_processing.columns import Objects
from data_processing.merge import MergeJob, merge_files, plan_lines
from data_processing.nanowriter import NanoWriter
from data_processing.skim import SkimJob, skim_file
from MLTools.NanoML.books import Books, Provenance, books_of
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootfile import Branch, RootFile

KEEP = ("Muon_*", "Jet_pt", "MET_*", "HLT_*", "GenPart_pdgId")


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `nanoml merge` as its own process, as a user would."""
    line = [sys.executable, "-m", "MLTools.NanoML.cli", "merge", *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)


def split(source: Path, number: int, directory: Path) -> list[Path]:
    """Parts of a file, each with generator weights, sums and sections of its own."""
    paths = []
    with RootFile(source) as file:
        branches = {name: file.branches[name] for name in [*KEEP_EXACT, *file.branches] if name in file.branches}
    return paths
