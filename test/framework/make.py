"""Writes what the test of the framework needs: models with their selection inside, events, and what Python makes of these.

PYTHONPATH=.:test python test/framework/make.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from MLTools.NanoML.extensions.compiled.with_selection import Compilation, Source, export_with_selection
from MLTools.NanoML.model import Model
from MLTools.NanoML.nanoaod.folds import fold_of
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.selection import Column, Cutflow, DatasetInfo, Events, Selection
from MLTools.NanoML.selection.tryout import on_events
from services.whole_models import NUMBERS, SAMPLE, networks_of

HERE = Path(__file__).resolve().parent
FIRST, LAST = 140, 260  # half of them are in the next luminosity block
FACTOR = np.float32(1.2)


class Leptons(Selection):
    """Two leptons and a trigger; the era sets the threshold."""

    branches = ("Muon_pt", "Muon_eta", "Muon_charge", "Electron_pt", "MET_pt", "Flag_METFilters")
    optional = {"HLT_Mu50": True}
    columns = {
        "HT": Column("f4", "sum of pt [GeV]"),
        "n": Column("i4", "muons"),
        "soft": Column("?", "MET below 100 GeV"),
    }
    collections = {
        "Good": {"pt": Column("f4", "pt [GeV]"), "eta": Column("f4", "eta"), "charge": Column("i4", "charge")}
    }

    def select(self, events: Events, cutflow: Cutflow) -> tuple[Events, dict[str, Any]]:
        threshold = 20 if self.dataset.era == "2018" else 60
        events = cutflow.cut("trigger", events.HLT.Mu50 & events.Flag.METFilters, events)
        good = events.Muon[(events.Muon.pt > threshold) & (abs(events.Muon.eta) < 2.4)]
        enough = ak.num(good) + ak.num(events.Electron) >= 2
        events, good = cutflow.cut("two leptons", enough, events, good)
        return events, {"HT": ak.sum(good.pt, axis=1), "n": ak.num(good), "soft": events.MET.pt < 100, "Good": good}


class Corrected(Leptons):
    """The same with corrected muons."""

    def prepare(self, events: Events) -> Events:
        return events.replaced(["Muon_pt"], lambda events: {"Muon_pt": events.Muon.pt * FACTOR})


def number(value: Any) -> Any:
    """As JSON has it, with no more digits than tell it from others; NaN is null."""
    if isinstance(value, (float, np.floating)):
        return float(str(value)) if np.isfinite(value) else None
    return int(value)


def rows(values: Any) -> list[list[Any]]:
    """A list for each event, also of branches of the event."""
    return [[number(each) for each in np.atleast_1d(row)] for row in values]


def columns(arrays: dict[str, Any]) -> dict[str, Any]:
    """The columns as Events.h reads them, each with its type."""
    return {
        name: {"type": ak.to_numpy(ak.flatten(it, axis=None)).dtype.name, "values": rows(it)}
        for name, it in arrays.items()
    }


def branches_of(
    selection: Selection, networks: Model, event: dict[str, Any], fold: NDArray[np.int64]
) -> dict[str, Any]:
    """What selection and networks make of one event: if it does not pass, scores are NaN, and the rest is empty."""
    found = on_events(selection, event)
    passed = len(found.rows) == 1
    scores = [np.nan] * len(networks.outputs)
    if passed:
        scores = networks.scores({**found.columns, "MET_pt": event["MET_pt"]}, fold)[0]
    made = found.columns
    if not passed:
        made = {name: [0 if name in selection.columns else []] for name in found.columns}
    return {
        "score_passed": passed,
        "score_failed": 0,
        "score_corrected": isinstance(selection, Corrected),
        "score_cuts": sum(step.events for step in found.cutflow.steps[1:]),
        **{f"score_{name}": score for name, score in zip(networks.outputs, scores)},
        **{name: values[0] for name, values in made.items()},
        "nGood": len(made["Good_pt"][0]),
    }


def main() -> None:
    networks = Model(networks_of(Path("build/networks.onnx"), "HT", "n", "MET_pt"))
    eras = {name: DatasetInfo("signal", name) for name in ("2018", "2022")}
    for era, info in eras.items():
        wanted = Compilation("test/framework/make.py:Corrected", ".", 1000, {})
        export_with_selection(Path(networks.path), HERE / f"inside_{era}.onnx", [Source(info, (str(SAMPLE),))], wanted)
    plain, inside = Model("data/leptons.onnx"), Model(HERE / "inside_2018.onnx")
    with RootFile(SAMPLE) as file:
        arrays = dict(file.read([*dict.fromkeys((*plain.reads, *inside.reads, *NUMBERS))], FIRST, LAST))
    numbers = [arrays.pop(name) for name in NUMBERS]
    fold = fold_of(*numbers, networks.folds)
    scores = zip(plain.outputs, plain.scores(arrays, fold_of(*numbers, plain.folds)).T)
    expected = {"leptons": {f"leptons_{name}": rows(values) for name, values in scores}}
    for name, selection, era in (
        ("2018", Leptons, "2018"),
        ("2022", Leptons, "2022"),
        ("corrected", Corrected, "2018"),
        ("without HLT_Mu50", Leptons, "2018"),
    ):
        given = {column: values for column, values in arrays.items() if column not in name}
        each = [
            branches_of(
                selection().of_dataset(eras[era]),
                networks,
                {column: values[event : event + 1] for column, values in given.items()},
                fold[event : event + 1],
            )
            for event in range(LAST - FIRST)
        ]
        expected[name] = {branch: rows(event[branch] for event in each) for branch in each[0]}
    content = {
        "first": int(numbers[-1][0]),
        "columns": columns(arrays),
        "corrected": columns({"Muon_pt": arrays["Muon_pt"] * FACTOR}),
        "expected": expected,
    }
    text = json.dumps(content, separators=(",", ":")).replace('},"', '},\n"')
    (HERE / "events.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
