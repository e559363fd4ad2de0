"""A selection: the physics, written once for every engine."""

from __future__ import annotations

from MLTools.NanoML.nanoaod.events import Events, away_from
from MLTools.NanoML.nanoaod.fileaccounting import Step
from MLTools.NanoML.nanoaod.flat import Flat
from MLTools.NanoML.nanoaod.weights import UP_DOWN, Factor, Weight
from MLTools.NanoML.selection.columns import Column
from MLTools.NanoML.selection.cutflow import Cutflow
from MLTools.NanoML.selection.selected import DatasetInfo, Selected
from MLTools.NanoML.selection.selection import Selection, load_selection

PAGE = "howto/selection.md"
__all__ = [
    "UP_DOWN",
    "Column",
    "Cutflow",
    "DatasetInfo",
    "Events",
    "Factor",
    "Flat",
    "Selected",
    "Selection",
    "Step",
    "Weight",
    "away_from",
    "load_selection",
]
