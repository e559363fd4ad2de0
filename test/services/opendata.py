"""Files with the layout of CMS Open Data, with invented events: NanoAOD of 2015, and the reduced NanoAOD of 2012.

They have the branches that public analyses of these files read, and a few of those that tell simulation from data. Those
of 2012 are made as the files of examples/opendata_invented.yaml.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from MLTools.NanoML.loading import import_file

_PATH = Path(__file__).resolve().parents[2] / "examples" / "invented" / "make.py"
_PART = 100_000  # events that are made, and written to one basket, at once
_MODULE = import_file(_PATH, "invented")
Made2012, PROCESSES_2012, write_2012, write_all_2012 = (
    _MODULE.Made2012, _MODULE.PROCESSES_2012, _MODULE.write_2012, _MODULE.write_all_2012
)  # fmt: skip
write_tree, lists, numbers, kinematics = _MODULE.write_tree, _MODULE.lists, _MODULE.numbers, _MODULE.kinematics


def write_2015(path: Path, events: int, seed: int, top: float = 0.5, weight: float = 1.0) -> None:
    """Write simulation of which about the share `top` has a lepton and several hard jets; generator weights are +-`weight`."""
    random = np.random.default_rng(seed)
    weights = (weight * np.where(random.random(events) < 0.1, -1, 1)).astype("f4")

    def parts() -> Any:
        for first in range(0, events, _PART):
            own = weights[first : first + _PART]
            yield {**_part_2015(random, first, len(own), top), "genWeight": own}

    runs = {"run": np.ones(1, np.uint32), "genEventCount": np.array([events], np.int64)}
    runs["genEventSumw"] = np.array([weights.sum(dtype=float)])
    write_tree(path, parts(), {"Runs": runs})


def _part_2015(random: np.random.Generator, first: int, count: int, top: float) -> dict[str, Any]:
    is_top = random.random(count) < top
    columns = numbers(first, count, 1)
    for name, mass in (("Electron", 0.000511), ("Muon", 0.105658)):
        counts = random.binomial(1, 0.55, count) + random.poisson(0.1, count)
        size = int(counts.sum())
        fields = kinematics(random, size, 10, 35)
        fields |= {"mass": np.full(size, mass), "sip3d": random.exponential(1.5, size)}
        if name == "Electron":
            fields["cutBased"] = random.choice([0, 2, 4], size, p=[0.1, 0.2, 0.7]).astype(np.int32)
        else:
            fields["tightId"] = random.random(size) < 0.85
            fields["pfRelIso04_all"] = random.exponential(0.08, size)
        columns[name] = lists(counts, **fields)
    counts = random.poisson(np.where(is_top, 5.5, 3.0))
    size, of_top = int(counts.sum()), np.repeat(is_top, counts)
    fields = kinematics(random, size, 15, 45)
    is_b = random.random(size) < np.where(of_top, 0.35, 0.05)
    fields["mass"] = fields["pt"] * random.uniform(0.05, 0.2, size)
    fields["jetId"] = random.choice([0, 2, 6], size, p=[0.03, 0.07, 0.9]).astype(np.int32)
    fields["btagCSVV2"] = np.where(is_b, random.beta(5, 1.5, size), random.beta(1.2, 6, size))
    columns["Jet"] = lists(counts, **fields, qgl=random.random(size))
    columns["GenPart"] = lists(np.ones(count, int), **kinematics(random, count, 0, 50))
    return columns


def of_this_machine(text: str, folder: Path) -> str:
    """An example's YAML with files in a folder in place of those of CERN's server."""
    return re.sub(r"root://\S*/([\w.-]+\.root)", lambda found: str(folder / found[1]), text)
