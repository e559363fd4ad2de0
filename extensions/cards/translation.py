"""Datacards as workspaces of pyhf, and workspaces as datacards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from MLTools.NanoML.config.fit import LogNormal
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.cards.card import read_card
from statistical_analysis.fit import foreign_model, read_workspace, say_remarks
from statistical_analysis.model import MOST, FitChannel, Range, StatisticalModel, model_of
from statistical_analysis.samples import Sample, Shape
from statistical_analysis.workspace import write_datacard


def translate(source: Path, directory: Path, mass: str = "", is_blind: bool = False) -> tuple[Path, StatisticalModel]:
    """Write a datacard as a workspace of pyhf, or a workspace as a datacard, and say where they are not equal; return file and model.

    Unless it is blind, it is also said how many events of data are in bins that are not fitted.
    """
    model, written = foreign_model(source, directory, is_blind, mass=mass), directory / "workspace.json"
    if model is None:
        written = write_datacard(model_in(read_workspace(source), source), directory)
        model = read_card(written)  # with the lines that are not equal
        say_remarks(model, is_blind)
    return written, model


def model_in(content: Mapping[str, Any], path: Path) -> StatisticalModel:
    """The model of a workspace, for a datacard; a NanoMLError names what cannot be in one. Bins have numbers instead of edges."""
    first, *_ = configs = [it["config"] for it in content["measurements"]]
    parameters, pois = {it["name"]: it for it in first["parameters"]}, {it["poi"] for it in configs}
    data, ranges = {it["name"]: np.array(it["data"], float) for it in content["observations"]}, dict[str, Range]()

    def sample(made: Mapping[str, Any]) -> Sample:
        nominal, scale, strength = np.array(made["data"], float), 1.0, None
        errors, factors, shapes, free = np.zeros_like(nominal), dict[str, LogNormal](), dict[str, Shape](), list[str]()
        for it in made["modifiers"]:
            name, kind, given, known = it["name"], it["type"], it["data"], parameters.get(it["name"], {})
            if kind == "staterror":
                errors = np.array(given, float)
            elif kind == "normfactor" and name in pois:
                strength = name
            elif kind in ("normfactor", "lumi") and known.get("fixed"):
                scale *= known.get("inits", [1.0])[0]
            elif kind == "normfactor":
                free.append(name)
                ranges[name] = Range(known.get("inits", [1.0])[0], *known.get("bounds", [(0.0, MOST)])[0])
            elif kind == "lumi":
                scale, size = scale * known["auxdata"][0], known["sigmas"][0] / known["auxdata"][0]
                factors[name] = LogNormal(1 + size, 1 - size)
            elif kind == "shapesys":
                changes = {number: it for number, it in enumerate(np.diag(given)) if it.any()}
                shapes |= {f"{name}_{number}": Shape(nominal + it, nominal - it) for number, it in changes.items()}
            elif kind in ("normsys", "histosys") and known.get("fixed") and not any(known.get("inits", ())):
                continue
            elif kind not in ("normsys", "histosys") or known.keys() & {"auxdata", "sigmas", "fixed"}:
                raise NanoMLError(f"{path}: {name} of {made['name']}, {kind}, cannot be in a datacard.")
            elif kind == "normsys":
                factors[name] = LogNormal(given["hi"], given["lo"])
            else:
                shapes[name] = Shape(np.array(given["hi_data"], float), np.array(given["lo_data"], float))
        both = {name: it.times(factors.pop(name, LogNormal(1, 1))) for name, it in shapes.items()}
        return Sample(made["name"], strength, nominal, errors, both, factors, tuple(free)).times(scale)

    def channel(made: Mapping[str, Any]) -> FitChannel:
        seen = data[made["name"]]
        samples, edges = tuple(map(sample, made["samples"])), tuple(map(float, range(len(seen) + 1)))
        return FitChannel(made["name"], made["name"], None, "Bin", edges, samples, seen, np.ones(len(seen), bool))

    found = model_of([*map(channel, content["channels"])], {}, ranges, [])
    signals = {process for each in found.strengths.values() for process in each}
    for it in (it for each in found.channels for it in each.samples if it.process in signals and not it.strength):
        raise NanoMLError(f"{path}: {it.process} is a signal in some channels alone; in a datacard it needs two names.")
    return found
