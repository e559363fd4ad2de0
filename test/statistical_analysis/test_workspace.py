from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("pyhf")
pytest.importorskip("statistical_analysis.workspace")

import pyhf

from MLTools.NanoML.config.fit import Fit, LogNormal, log_normal
from MLTools.NanoML.contracts.templates import FilledHistogram, HistogramChannel, Template, TemplateAxis, Templates
from statistical_analysis.model import StatisticalModel, statistical_model
from statistical_analysis.workspace import workspace

Luminosity = dict[str, dict[str, LogNormal]]


def expected(model: Any, **parameters: float) -> dict[str, list[float]]:
    """Expected events by channel; the parameters that are not given are as they are expected to be."""
    values = model.config.suggested_init()
    for name, value in parameters.items():
        values[model.config.par_slice(name)] = [value]
    found = model.expected_data(values, include_auxdata=False)
    return {name: found[where].tolist() for name, where in model.config.channel_slices.items()}


def varied(model: StatisticalModel, nuisance: str, sign: int) -> dict[str, Any]:
    """What the templates say of +1 or -1 sigma."""
    found = {}
    for channel in model.channels:
        total = np.zeros(len(channel.data))
        for sample in channel.samples:
            values = sample.nominal
            if nuisance in sample.shapes:
                values = sample.shapes[nuisance].up if sign > 0 else sample.shapes[nuisance].down
            factor = sample.factors.get(nuisance, LogNormal(1, 1))
            total += values * (factor.up if sign > 0 else factor.down)
        found[channel.name] = pytest.approx(total.tolist(), rel=1e-9, abs=1e-9)
    return found


def test_every_parameter_changes_what_the_templates_say(
    templates: Templates, settings: Fit, luminosity: Luminosity
) -> None:
    model = statistical_model(templates, settings, luminosity, ["fakes"])
    made = pyhf.Workspace(workspace(model)).model()
    assert expected(made) == {each.name: pytest.approx(each.expected(1).tolist()) for each in model.channels}
    assert expected(made, mu=0) == {each.name: pytest.approx(each.data.tolist()) for each in model.channels}
    assert len(model.nuisances) == 12
    for nuisance in model.nuisances:
        for sign in (1, -1):
            assert expected(made, **{nuisance: sign}) == varied(model, nuisance, sign)
    free = expected(made, norm_ZZ=2.0)
    assert free["SR_2018"] == pytest.approx((model.channels[0].expected() + np.array([20, 12, 6])).tolist())
    assert free["CR_2022"] == pytest.approx((model.channels[3].expected() + 1.5 * np.array([20, 12, 6])).tolist())
    others = {"mu", "norm_ZZ", *(f"mcstat_{each.name}" for each in model.channels)}
    assert set(made.config.par_order) == {*model.nuisances, *others}
    assert made.config.poi_name == "mu"


def test_statistical_errors_are_those_of_all_backgrounds(
    templates: Templates, settings: Fit, luminosity: Luminosity
) -> None:
    model = statistical_model(templates, settings, luminosity)
    made = pyhf.Workspace(workspace(model)).model()
    # squared errors are a tenth of the contents
    widths = made.config.param_set("mcstat_SR_2018").width()
    background = model.channels[0].expected(0)
    assert widths == pytest.approx(np.sqrt(0.1 / background))
    assert (background < model.channels[0].expected()).all()
    assert made.config.param_set("norm_ZZ").suggested_bounds == [[0, 10]]


def test_no_limit_is_beyond_the_bounds(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    for scale, highest in ((1.0, 10), (1e-2, 638.4), (1e3, 10)):
        for histogram in templates.histograms:
            for channel in histogram.channels:
                if "signal" in channel.processes:
                    channel.processes["signal"].nominal[1:-1] = scale * np.array([1, 3, 8])
        found = workspace(statistical_model(templates, settings, luminosity))["measurements"][0]["config"]["parameters"]
        assert found[0]["bounds"] == [[0, pytest.approx(highest, rel=1e-3)]]


CONTENTS = arrays(np.float64, 5, elements=st.floats(-5, 100, width=32))


@given(nominal=CONTENTS, up=CONTENTS, down=CONTENTS, factor=st.integers(1, 99))
def test_any_template_is_reproduced(nominal: Any, up: Any, down: Any, factor: int) -> None:
    inner = np.array([1.0, 2.0, 3.0])
    processes = {
        "signal": Template(np.pad(inner, 1), np.pad(inner, 1)),
        "WZ": Template(nominal, np.abs(nominal), {"jes": up}, {"jes": down}),
        "ZZ": Template(np.pad(inner, 1), np.pad(inner, 1)),
    }
    axis = TemplateAxis("x", (0.0, 1.0, 2.0, 3.0))
    histogram = FilledHistogram("x", (axis,), (HistogramChannel("SR", None, processes),))
    templates = Templates("", (histogram,), ("signal", "WZ"), "signal", {"": None})
    settings = Fit(channels={"SR": "x"}, uncertainties={"WZ": f"{factor} %"})
    model = statistical_model(templates, settings, {"": {"lumi": log_normal("2.5 %")}})
    made = pyhf.Workspace(workspace(model)).model()
    assert expected(made) == varied(model, "none", 1)
    for nuisance in model.nuisances:
        for sign in (1, -1):
            assert expected(made, **{nuisance: sign}) == varied(model, nuisance, sign)
    total = float(nominal[1:-1].sum())
    assert sum(expected(made, mu=0.0)["SR"]) == pytest.approx(inner.sum() + max(total, 0), abs=1e-9)


def test_bins_without_background(settings: Fit, luminosity: Luminosity) -> None:
    """The signal does not count there, and the likelihood has derivatives."""
    pytest.importorskip("jax")
    from statistical_analysis.likelihood import Likelihood

    def template(*values: float) -> Template:
        inner = np.array([0, *values, 0], float)
        return Template(inner, inner * 0.1, {"jes": inner * 1.1}, {"jes": inner * 0.9})

    processes = {"signal": template(1, 4, 5), "WZ": template(50, 20, 0), "fakes": template(3, 1, 0)}
    axis = TemplateAxis("wprime", (0.0, 0.5, 0.9, 1.0))
    histogram = FilledHistogram("wprime", (axis,), (HistogramChannel("SR", None, processes),))
    templates = Templates("NanoML", (histogram,), tuple(processes), "signal", {"": 59.8})
    model = statistical_model(templates, Fit(channels={"SR": "wprime"}), {"": {"lumi": log_normal("2 %")}})
    signal = next(each for each in model.channels[0].samples if each.is_signal)
    assert signal.nominal.tolist() == [1, 4, 0]
    assert signal.shapes["jes"].up == pytest.approx([1.1, 4.4, 0])
    (remark,) = (it for it in model.remarks if it.kind == "no background")
    assert remark.what == "0.5 of it is left out, in bins where no background is expected. Use wider bins"
    likelihood = Likelihood(workspace(model))
    data = likelihood.expected(likelihood.with_strength(0.0))
    for strength in (0.0, 1.0):
        found = likelihood.maximum(data, {likelihood.poi: strength})
        assert np.isfinite(likelihood.covariance(data, found.at)).all()
