"""The likelihood of a workspace is that of HistFactory in ROOT, which interpolates as we do."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("statistical_analysis.likelihood")
pytest.importorskip("ROOT", reason="needs ROOT")

from MLTools.NanoML.config.fit import Fit
from MLTools.NanoML.contracts.templates import Templates
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.model import statistical_model
from statistical_analysis.workspace import workspace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ROOT of PyPI says that it is new
    import ROOT


def histogram(name: str, values: Sequence[float], errors: Sequence[float] | None = None) -> Any:
    made = ROOT.TH1D(name, name, len(values), 0, len(values))
    made.SetDirectory(ROOT.nullptr)
    ROOT.SetOwnership(made, False)  # HistFactory deletes it
    for number, value in enumerate(values):
        made.SetBinContent(number + 1, value)
        made.SetBinError(number + 1, 0 if errors is None else errors[number])
    return made


def sample_of(channel: str, content: dict[str, Any]) -> Any:
    factory, name = ROOT.RooStats.HistFactory, f"{channel}_{content['name']}"
    made = factory.Sample(content["name"])
    made.SetNormalizeByTheory(False)
    errors = None
    for modifier in content["modifiers"]:
        kind, data = modifier["type"], modifier["data"]
        if kind == "staterror":
            errors = data
            made.ActivateStatError()
        elif kind == "normfactor":
            made.AddNormFactor(modifier["name"], 1, -10, 100)
        elif kind == "normsys":
            made.AddOverallSys(modifier["name"], data["lo"], data["hi"])
        elif kind == "histosys":
            shape = factory.HistoSys()
            shape.SetName(modifier["name"])
            shape.SetHistoLow(histogram(f"{name}_{modifier['name']}_low", data["lo_data"]))
            shape.SetHistoHigh(histogram(f"{name}_{modifier['name']}_high", data["hi_data"]))
            made.AddHistoSys(shape)
        else:
            raise AssertionError(kind)
    made.SetHisto(histogram(name, content["data"], errors))
    return made


def in_root(content: dict[str, Any], directory: Path) -> Any:
    """What HistFactory makes of a workspace, with Gaussian constraints of statistical errors as pyhf has them."""
    factory = ROOT.RooStats.HistFactory
    ROOT.RooMsgService.instance().setGlobalKillBelow(ROOT.RooFit.ERROR)
    measurement = factory.Measurement("test", "test")
    measurement.SetOutputFilePrefix(str(directory / "test"))
    measurement.SetPOI("mu")
    measurement.SetLumi(1.0)
    measurement.SetLumiRelErr(0.1)
    measurement.AddConstantParam("Lumi")
    data = {each["name"]: each["data"] for each in content["observations"]}
    for each in content["channels"]:
        channel = factory.Channel(each["name"])
        channel.SetData(histogram(f"{each['name']}_data", data[each["name"]]))
        channel.SetStatErrorConfig(0.0, "Gaussian")
        for sample in each["samples"]:
            channel.AddSample(sample_of(each["name"], sample))
        measurement.AddChannel(channel)
    return factory.MakeModelAndMeasurementFast(measurement)


def in_roofit(name: str) -> str:
    """What HistFactory calls a parameter."""
    if name.startswith("mcstat_"):
        channel, _, number = name.removeprefix("mcstat_").partition("[")
        return f"gamma_stat_{channel}_bin_{number.removesuffix(']')}"
    return name if name in ("mu", "norm_ZZ") else f"alpha_{name}"


def test_likelihoods_differ_as_histfactorys(
    templates: Templates, settings: Fit, luminosity: Any, tmp_path: Path
) -> None:
    model = statistical_model(templates, settings, luminosity, ["fakes"], asimov=1.0)
    content, random = workspace(model), np.random.default_rng(5)
    for each in content["observations"]:
        each["data"] = random.poisson(each["data"]).astype(float).tolist()
    made = in_root(content, tmp_path)
    likelihood, config = Likelihood(content), made.obj("ModelConfig")
    logarithm = config.GetPdf().createNLL(made.data("obsData"), Constrain=config.GetNuisanceParameters())
    parameters = {name: made.var(in_roofit(name)) for name in likelihood.names}
    assert all(parameters.values())
    assert {it.GetName() for it in config.GetNuisanceParameters()} == {*map(in_roofit, likelihood.names)} - {"mu"}

    def both(at: Any) -> tuple[float, float]:
        for name, value in zip(likelihood.names, at, strict=True):
            parameters[name].setVal(value)
        return 2 * logarithm.getVal(), float(likelihood.twice_nll_at(at, likelihood.observed))

    start = likelihood.with_strength(1.0)
    zero = both(start)
    widths = np.where(np.isfinite(likelihood.widths), likelihood.widths, 0.3)
    farthest = 0.0
    for number in range(len(start)):
        for shift in (-2.5, -1.0, -0.4, 0.6, 1.0, 3.0):
            at = start.copy()
            at[number] += shift * widths[number]
            theirs, ours = (value - first for value, first in zip(both(at), zero, strict=True))
            assert ours == pytest.approx(theirs, abs=1e-4), likelihood.names[number]
            farthest = max(farthest, abs(theirs))
    for _ in range(20):
        values = both(start + widths * random.normal(size=len(start)))
        theirs, ours = (value - first for value, first in zip(values, zero, strict=True))
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert farthest > 5
