"""Histograms to fit: two eras, a signal region with scores and a control region with masses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.config.fit import Fit, LogNormal, log_normal
from MLTools.NanoML.contracts.templates import (
    DATA,
    FilledHistogram,
    HistogramChannel,
    Origin,
    Template,
    TemplateAxis,
    Templates,
)

YIELDS = {"signal": (1, 3, 8), "WZ": (60, 30, 20), "ZZ": (20, 12, 6), "fakes": (9, 7, 2)}


def template(inner: Sequence[float], **changes: float) -> Template:
    """A process that each nuisance parameter tilts: up by its change in the last bin, less in the others."""
    values = np.array([0.5, *inner, 0.25])
    tilt = np.linspace(0, 1, len(values))
    up = {name: values * (1 + change * tilt) for name, change in changes.items()}
    down = {name: values * (1 - change * tilt / 2) for name, change in changes.items()}
    return Template(values, values * 0.1, up, down)


def channel(region: str, era: str, scale: float) -> HistogramChannel:
    changes = {"jes": 0.1, "jer": 0.03, "btag_hfstats1": 0.02, f"jes_{era}": 0.04}
    yields = {name: scale * np.array(inner) for name, inner in YIELDS.items() if (region, name) != ("CR", "signal")}
    processes = {name: template(inner, **({} if name == "fakes" else changes)) for name, inner in yields.items()}
    if region == "CR":
        data = np.array([1.0, 70, 40, 33, 0])
        processes[DATA] = Template(data, data)
    return HistogramChannel(region, era, processes)


@pytest.fixture
def templates() -> Templates:
    score = TemplateAxis("wprime", (0.0, 0.2, 0.7, 1.0))
    mass = TemplateAxis("mass", (60.0, 80.0, 100.0, 120.0))
    eras = {"2018": 1.0, "2022": 0.3}
    origins = {name: Origin((f"{name}_2018", f"{name}_2022")) for name in ("signal", "WZ", "ZZ")}
    origins["fakes"] = Origin(("Muon", "less WZ_2018"), True)
    signal = tuple(channel("SR", it, scale) for it, scale in eras.items())
    control = tuple(channel("CR", it, 5 * scale) for it, scale in eras.items())
    of_score = FilledHistogram("wprime", (score,), signal, None, origins)
    of_mass = FilledHistogram("mass", (mass,), control, None, origins)
    return Templates("NanoML", (of_score, of_mass), tuple(YIELDS), "signal", {"2018": 59.8, "2022": 8.0})


@pytest.fixture
def settings() -> Fit:
    sizes = {"WZ": "5 %", "fakes": "+30 % -20 %", "scale": {"WZ": "3 %", "signal": "+4 % -6 %"}}
    return Fit(channels={"SR": "wprime", "CR": "mass"}, free=["ZZ"], uncertainties=sizes)


@pytest.fixture
def luminosity() -> dict[str, dict[str, LogNormal]]:
    given = {"2018": {"lumi_correlated": "1 %", "lumi_2018": "+2 % -1.5 %"}, "2022": {"lumi_correlated": "0.5 %"}}
    return {era: {name: log_normal(text) for name, text in each.items()} for era, each in given.items()}


@pytest.fixture
def few_events() -> dict[str, Any]:
    """A workspace with 3.5 background events in three bins."""

    def normsys(name: str, size: float) -> dict[str, Any]:
        return {"name": name, "type": "normsys", "data": {"hi": 1 + size, "lo": 1 / (1 + size)}}

    shared = [normsys("lumi", 0.025)]
    signal = [{"name": "mu", "type": "normfactor", "data": None}, normsys("efficiency", 0.05), *shared]
    background = [normsys("norm", 0.2), {"name": "mcstat", "type": "staterror", "data": [0.2, 0.1, 0.05]}, *shared]
    samples = [
        {"name": "signal", "data": [1.0, 1.5, 2.0], "modifiers": signal},
        {"name": "WZ", "data": [2.0, 1.0, 0.5], "modifiers": background},
    ]
    return {
        "version": "1.0.0",
        "channels": [{"name": "SR", "samples": samples}],
        "observations": [{"name": "SR", "data": [2.0, 1.0, 0.0]}],
        "measurements": [{"name": "nanoml", "config": {"poi": "mu", "parameters": []}}],
    }
