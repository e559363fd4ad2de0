"""NanoAOD files of CMS and corrections of its object groups, and what tests read of them; without the files a test is skipped."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Optional

import correctionlib
import numpy as np
import pytest

from conftest import DATA
from MLTools.NanoML.corrections import Corrections
from MLTools.NanoML.corrections.inputs import normal_numbers
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio import versions
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Events

POG = DATA / "corrections" / "POG"
V5, V9, V13, V15 = "nano_v5_mc_ttbar_1000", "nano_v9_mc_ul17_dy", "nano_v13_mc_ggh", "nano_v15_mc_ttbar"
DATA_V6, DATA_V13 = "nano_v6_data_dimuon_run315267", "nano_v13_data_egamma2022E_run359571"


def nanoaod(name: str) -> Path:
    return _there(DATA / "real" / f"{name}.root")


def pog(name: str) -> Path:
    """A file of an object group by its path, such as TAU/2018_UL/tau.json.gz."""
    return _there(POG / name)


def _there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"no file {path}: name the directory of real files by NANOML_TEST_DATA")
    return path


@functools.lru_cache(maxsize=8)
def plain(path: Path) -> Any:
    """What correctionlib itself reads of a file, which takes long for large ones."""
    return correctionlib.CorrectionSet.from_file(str(path))


def era(folder: Path, text: str) -> Corrections:
    (folder / "era.yaml").write_text(text)
    return Corrections.read(folder / "era.yaml")


def events_of(path: Path, names: Iterable[str], most: Optional[int] = None) -> Events:
    """The first events of a file with those branches that it has, by whatever name it has them."""
    with RootFile(path) as file:
        found = {name: versions.resolve(name, list(file.branches)) for name in names}
        there = {name: actual for name, actual in found.items() if actual is not None}
        arrays = file.read(list(there.values()), 0, most)
        lists = {name: name.split("_")[0] for name, actual in there.items() if file.branches[actual].is_jagged}
    return Events({name: arrays[actual] for name, actual in there.items()}, lists)


def check_refusals(shifted: Callable[[str, str], Any], known: str, unknown: str, said: str) -> None:
    """That an unknown shift is refused, and a known one of events that were not corrected."""
    with pytest.raises(NanoMLError, match=f'no shift "{unknown}" up of {said}'):
        shifted(unknown, "up")
    with pytest.raises(NanoMLError, match="call `corrected` in `prepare`"):
        shifted(known, "up")


def each_object(events: Events, collection: str, names: Iterable[str], salt: int) -> list[dict[str, float]]:
    """The objects of a collection one after the other: some fields, the run, and the normal number by which each is smeared."""
    objects, found = events.flat(collection), []
    for at, (row, place) in enumerate(zip(objects.event, objects.place)):
        columns = {name: float(objects[name][at]) for name in names}
        identifiers = [np.asarray(events[name])[[row]] for name in ("run", "luminosityBlock", "event")]
        normal = float(normal_numbers(*identifiers, np.array([place]), salt)[0])
        found.append({**columns, "run": float(identifiers[0][0]), "normal": normal})
    return found
