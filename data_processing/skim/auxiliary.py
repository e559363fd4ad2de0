"""The trees and objects beside the events of a file, copied to its skim as nanoAOD-tools does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.nanoaod.lumimask import LumiMask
from MLTools.NanoML.rootio.histograms import is_histogram
from MLTools.NanoML.rootio.lists import Picker
from MLTools.NanoML.rootio.nanowriter import NanoWriter
from MLTools.NanoML.rootio.rootfile import PROVENANCE, RootFile

_TREES = ("Runs", "LuminosityBlocks")


def copy_auxiliary(file: RootFile, writer: NanoWriter, certified: LumiMask | None) -> list[str]:
    """Copy the trees and objects beside the events.

    Runs and LuminosityBlocks are copied whole; if a luminosity mask was applied, only its runs and sections are.

    Returns
    -------
    What could not be copied: names with their types.
    """
    left_out = []
    for name, kind in file.keys.items():
        if name in ("Events", PROVENANCE):
            continue
        if name in _TREES and kind == "TTree":
            left_out += _copy_tree(file, writer, name, certified)
        elif kind == "TObjString":
            writer.write_object(name, file.string(name) or "")
        elif is_histogram(kind):
            writer.write_object(name, file.object(name))
        else:
            left_out.append(f"{name} ({kind})")
    return left_out


def _copy_tree(file: RootFile, writer: NanoWriter, name: str, certified: LumiMask | None) -> list[str]:
    branches = file.branches_of(name)
    copied = {key: branch for key, branch in branches.items() if branch.is_numeric}
    arrays: dict[str, Any] = file.other_tree(name, list(copied)) or {}
    if certified is not None and "run" in arrays:
        pick = Picker(np.flatnonzero(_certified(arrays, certified)))
        arrays = {key: pick(array) for key, array in arrays.items()}
    if copied:
        writer.write_tree(name, copied, arrays)
    return [f"{name}/{key} ({branches[key].typename})" for key in branches if key not in copied]


def _certified(arrays: dict[str, Any], certified: LumiMask) -> NDArray[np.bool_]:
    run = np.asarray(arrays["run"])
    if "luminosityBlock" in arrays:
        return certified.mask(run, np.asarray(arrays["luminosityBlock"]))
    return np.isin(run, certified.runs)
