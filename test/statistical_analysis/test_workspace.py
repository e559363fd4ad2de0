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
from statistical_analysis.workspace import with_range, workspace

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


def test_others_find_all_strengths_that_matter(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    made = workspace(statistical_model(templates, settings, luminosity))
    for highest, bound in ((0.3, 10), (70, 140)):
        strength, *others = with_range(made, highest)["measurements"][0]["config"]["parameters"]
        assert strength == {"name": "mu", "inits": [1.0], "bounds": [[0, bound]]}
        assert others == made["measurements"][0]["config"]["parameters"][1:]


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


def test_bins_without_anything_are_no_part_of_it(settings: Fit, luminosity: Luminosity) -> None:
    def template(*values: float) -> Template:
        inner = np.array([0, *values, 0], float)
        return Template(inner, inner * 0.1, {"jes": inner * 1.1}, {"jes": inner * 0.9})

    processes = {"signal": template(1, 0, 5), "WZ": template(50, 0, 20), "fakes": template(3, 0, 0)}
    axis = TemplateAxis("wprime", (0.0, 0.5, 0.9, 1.0))
    histogram = FilledHistogram("wprime", (axis,), (HistogramChannel("SR", None, processes),))
    templates = Templates("NanoML", (histogram,), tuple(processes), "signal", {"": 59.8})
    model = statistical_model(templates, Fit(channels={"SR": "wprime"}), {"": {"lumi": log_normal("2 %")}}, asimov=1.0)
    made = workspace(model)
    assert made["observations"] == [{"name": "SR", "data": [54, 25]}]
    assert [it["data"] for it in made["channels"][0]["samples"]] == [[1, 5], [50, 20], [3, 0]]
    assert all(len(it["modifiers"][0]["data"] or "--") == 2 for it in made["channels"][0]["samples"])
