from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("statistical_analysis.model")

from MLTools.NanoML.config.fit import EACH, Fit, LogNormal, Nuisance
from MLTools.NanoML.contracts.bins import LEAST_EVENTS
from MLTools.NanoML.contracts.templates import FilledHistogram, HistogramChannel, Template, TemplateAxis, Templates
from MLTools.NanoML.errors import NanoMLError
from statistical_analysis.model import StatisticalModel as Model
from statistical_analysis.model import statistical_model
from statistical_analysis.samples import Sample, Shape, _with_parabolas, positive, smooth

pytest.importorskip("pyhf")
pytest.importorskip("statistical_analysis.workspace")
import pyhf

from MLTools.NanoML.config.fit import log_normal
from MLTools.NanoML.contracts.bins import Counts, Sides, information, strength_error
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.results import STATISTICAL
from statistical_analysis.workspace import for_combine, with_range, workspace, write_datacard

Luminosity = dict[str, dict[str, LogNormal]]
AXIS = TemplateAxis("x", (0.0, 1.0, 2.0, 3.0))


def samples(model: Model, channel: str) -> dict[str, Sample]:
    (found,) = (each for each in model.channels if each.name == channel)
    return {sample.process: sample for sample in found.samples}


def remarks(model: Model, kind: str) -> list[str]:
    return [it.what for it in model.remarks if it.kind == kind]


def one_channel(nominal: Any = (50, 50, 50), smooth: Sequence[str] = (), asimov: Any = 0.0, **processes: Any) -> Model:
    """The model of one region without eras, of as many bins as `nominal`, which are those of WZ, without underflow and overflow."""
    every = {"signal": np.ones(len(nominal)), "WZ": nominal, **processes}
    made = {name: each if isinstance(each, Template) else padded(each) for name, each in every.items()}
    axis = replace(AXIS, edges=tuple(map(float, range(len(nominal) + 1))))
    histogram = FilledHistogram("x", (axis,), (HistogramChannel("SR", None, made),))
    templates = Templates("NanoML", (histogram,), tuple(made), "signal", {"": 59.8})
    return statistical_model(templates, Fit(channels={"SR": "x"}, smooth=list(smooth)), {"": {}}, asimov=asimov)


def padded(values: Any, up: Any = None, down: Any = None) -> Template:
    nominal, *others = (np.array([0.003, *each, 0.004]) for each in (values, up, down) if each is not None)
    names = ["jes"] if others else []
    return Template(nominal, np.abs(nominal), dict(zip(names, others[:1])), dict(zip(names, others[1:])))


@pytest.fixture
def model(templates: Templates, settings: Fit, luminosity: Luminosity) -> Model:
    return statistical_model(templates, settings, luminosity, ["fakes"], asimov=1.0)


def test_channels_are_regions_and_eras(model: Model) -> None:
    assert [each.name for each in model.channels] == ["SR_2018", "SR_2022", "CR_2018", "CR_2022"]
    assert list(samples(model, "CR_2018")) == ["WZ", "ZZ", "fakes"]
    assert [each.edges for each in model.channels[1:3]] == [(0.0, 0.2, 0.7, 1.0), (60.0, 80.0, 100.0, 120.0)]
    sample = samples(model, "SR_2018")["WZ"]
    assert sample.nominal.tolist() == [60, 30, 20]
    assert sample.errors == pytest.approx(np.sqrt([6, 3, 2]))


def test_eras_share_what_the_pogs_let_them_share(
    model: Model, templates: Templates, settings: Fit, luminosity: Luminosity
) -> None:
    assert set(model.groups["shape"]) == {
        "jes", "jer_2018", "jer_2022", "btag_hfstats1_2018", "btag_hfstats1_2022", "jes_2018", "jes_2022",
    }  # fmt: skip
    assert set(samples(model, "SR_2018")["WZ"].shapes) == {"jes", "jer_2018", "btag_hfstats1_2018", "jes_2018"}
    assert model.groups["luminosity"] == ("lumi_correlated", "lumi_2018")
    assert model.groups["normalisation"] == ("scale", "norm_WZ", "norm_fakes")
    assert model.free == ("norm_ZZ",)
    assert set(model.nuisances) == {name for names in model.groups.values() for name in names}
    own = replace(settings, uncorrelated=["norm_*", "nothing"])
    model = statistical_model(templates, own, luminosity, ["fakes"])
    assert set(model.groups["normalisation"]) == {
        "scale", "norm_WZ_2018", "norm_WZ_2022", "norm_fakes_2018", "norm_fakes_2022",
    }  # fmt: skip
    assert set(model.groups["shape"]) == {"jes", "jer", "btag_hfstats1", "jes_2018", "jes_2022"}
    assert model.free == ("norm_ZZ_2018", "norm_ZZ_2022")
    assert remarks(model, "unknown") == ["fit.uncorrelated: no nuisance parameter is called nothing"]


def test_each_process_has_its_log_normals(
    model: Model, templates: Templates, settings: Fit, luminosity: Luminosity
) -> None:
    found = samples(model, "SR_2018")
    lumi = {"lumi_correlated": (1.01, 1 / 1.01), "lumi_2018": (1.02, 0.985)}
    factors = {name: {of: (it.up, it.down) for of, it in each.factors.items()} for name, each in found.items()}
    assert factors == {
        "signal": {**lumi, "scale": (1.04, 0.94)},
        "WZ": {**lumi, "scale": (1.03, 1 / 1.03), "norm_WZ": (1.05, 1 / 1.05)},
        "ZZ": {},
        "fakes": {"norm_fakes": (1.3, 0.8)},
    }
    assert {process: each.free for process, each in found.items() if each.free} == {"ZZ": ("norm_ZZ",)}
    both = replace(settings, uncertainties={"lumi_2018": {"WZ": "+10 % -20 %"}})
    factor = samples(statistical_model(templates, both, luminosity), "SR_2018")["WZ"].factors["lumi_2018"]
    assert (factor.up, factor.down) == (pytest.approx(1.02 * 1.1), pytest.approx(0.985 * 0.8))


def test_parameters_are_in_groups_of_the_user(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    mine = {"theory": ["scale", "norm_*"], "jets": ["jes*", "jer"], "mine": ["pdf", "norm_ZZ"]}
    mine["luminosity"] = ["lumi_2018"]
    model = statistical_model(templates, replace(settings, groups=mine), luminosity, ["fakes"])
    assert {group: set(names) for group, names in model.groups.items()} == {
        "theory": {"scale", "norm_WZ", "norm_fakes"},
        "jets": {"jes", "jes_2018", "jes_2022", "jer_2018", "jer_2022"},
        "luminosity": {"lumi_2018", "lumi_correlated"},
        "shape": {"btag_hfstats1_2018", "btag_hfstats1_2022"},
    }
    assert set(model.nuisances) == set(statistical_model(templates, settings, luminosity, ["fakes"]).nuisances)
    assert len(model.nuisances) == 12
    assert [each.what for each in model.remarks if each.kind == "unknown"] == [
        "fit.groups.mine: no nuisance parameter is called pdf",
        "fit.groups.mine: no nuisance parameter is called norm_ZZ",  # it is free
    ]


def test_a_parameter_may_be_in_two_groups(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    both = replace(settings, groups={"theory": ["scale"], "signal": ["scale"]})
    model = statistical_model(templates, both, luminosity)
    assert model.groups["theory"] == model.groups["signal"] == ("scale",)
    assert len(model.nuisances) == 12


def test_a_channel_without_events_is_not_fitted(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    templates.histograms[1].channels[1].processes.clear()  # type: ignore[attr-defined]
    model = statistical_model(templates, settings, luminosity)
    assert [each.name for each in model.channels] == ["SR_2018", "SR_2022", "CR_2018"]
    (remark,) = (it for it in model.remarks if it.kind == "not fitted")
    assert (remark.channel, remark.what) == ("CR_2022", "is not fitted, since nothing is expected there")
    for channel in templates.histograms[0].channels:
        for process in ("WZ", "ZZ", "fakes"):
            channel.processes.pop(process)  # type: ignore[attr-defined]
    with pytest.raises(NanoMLError, match="SR_2018, SR_2022 has no background at all: leave it out of fit.channels"):
        statistical_model(templates, replace(settings, channels={"SR": "wprime"}), luminosity)


def test_shapes_are_smoothed_where_that_is_asked_for() -> None:
    nominal, rng = np.array([90.0, 80, 70, 60, 50, 40, 30, 20]), np.random.default_rng(1)
    noise = 1 + rng.normal(0, 0.05, 8)
    tilt = np.linspace(1, 1.2, 8) * noise
    process = padded(nominal, up=nominal * tilt, down=nominal / tilt)
    raw, smooth = (one_channel(nominal=nominal, smooth=names, WZ=process) for names in ([], ["je*"]))
    before, after = (samples(model, "SR")["WZ"] for model in (raw, smooth))
    assert before.rough == {}
    assert after.rough.keys() == {"jes"}
    for direction in ("up", "down"):
        rough, smoothed = (getattr(it.shapes["jes"], direction) for it in (before, after))
        assert getattr(after.rough["jes"], direction).tolist() == rough.tolist()
        assert smoothed.sum() == pytest.approx(rough.sum())
        assert np.abs(np.diff(smoothed / nominal, 2)).max() < 0.5 * np.abs(np.diff(rough / nominal, 2)).max()
    (remark,) = (each for each in smooth.remarks if each.kind == "smoothed")
    ends = [[it.shapes["jes"].up, it.shapes["jes"].down] for it in (before, after)]
    changed = np.max(np.abs(np.subtract(*ends)) / nominal)
    assert (remark.process, remark.what) == ("WZ", f"smoothing changes bins by up to {100 * changed:.2g} % (jes)")
    unknown = one_channel(nominal=nominal, smooth=["scale"], WZ=process)
    assert "fit.smooth: no nuisance parameter is called scale" in [each.what for each in unknown.remarks]
    assert str(unknown.channels) == str(raw.channels)


def test_smoothing_comes_before_pruning() -> None:
    """A single bin that sticks out is noise to a running median."""
    nominal = np.full(8, 50.0)
    varied = nominal.copy()
    varied[4] += 1
    process = padded(nominal, up=varied, down=nominal)
    assert "jes" in samples(one_channel(nominal=nominal, WZ=process), "SR")["WZ"].shapes
    model = one_channel(nominal=nominal, smooth=["jes"], WZ=process)
    assert {"smoothed"} <= {each.kind for each in model.remarks}
    up = samples(model, "SR")["WZ"].shapes["jes"].up
    assert up == pytest.approx(np.full(8, 401 / 8))


def test_what_cannot_be_smoothed() -> None:
    short = padded([10, 20], up=[11, 20], down=[10, 18])
    model = one_channel(nominal=[10, 20], smooth=["jes"], WZ=short)
    told = [(it.process, it.what) for it in model.remarks]
    assert ("WZ", "not smoothed, since there are fewer than 3 bins: jes") in told
    assert samples(model, "SR")["WZ"].shapes["jes"].up.tolist() == [11, 20]
    values = np.arange(1.0, 31).reshape(5, 6)
    plane = Template(values, values, {"jes": values * 1.1}, {"jes": values * 0.9})
    axes = (replace(AXIS, edges=(0.0, 1.0, 2.0, 3.0)), replace(AXIS, edges=(0.0, 1.0, 2.0, 3.0, 4.0)))
    channel = HistogramChannel("SR", None, {"signal": plane, "WZ": plane})
    templates = Templates("", (FilledHistogram("x", axes, (channel,)),), ("signal", "WZ"), "signal", {"": None})
    model = statistical_model(templates, Fit(channels={"SR": "x"}, smooth=["jes"]), {})
    assert remarks(model, "smoothed") == ["not smoothed, since there are several axes: jes"] * 2
    assert not any(sample.rough for sample in model.channels[0].samples)


def test_data_are_expected_until_they_are_observed(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    for strength in (0.0, 2.0):
        model = statistical_model(templates, settings, luminosity, asimov=strength)
        assert model.channels[0].data == pytest.approx(np.array([89, 49, 28]) + strength * np.array([1, 3, 8]))
    with pytest.raises(NanoMLError, match=r"the histogram wprime has no observed data in SR_2018. Fit the expected"):
        statistical_model(templates, settings, luminosity, asimov=None)
    observed = replace(settings, signal="WZ", channels={"CR": "mass"})
    model = statistical_model(templates, observed, luminosity, asimov=None)
    assert model.asimov is None
    assert model.channels[0].data.tolist() == [70, 40, 33]


def test_negative_bins_are_set_to_zero_and_the_yield_is_kept() -> None:
    varied = padded([10, -2, 12], up=[11, -1, 12], down=[9, -3, 30])
    model = one_channel(ZG=varied)
    sample = samples(model, "SR")["ZG"]
    assert sample.nominal == pytest.approx([10 * 20 / 22, 0, 12 * 20 / 22])
    assert sample.errors == pytest.approx(20 / 22 * np.sqrt([10, 2, 12]))
    assert sample.shapes["jes"].up == pytest.approx([11 * 22 / 23, 0, 12 * 22 / 23])
    assert sample.shapes["jes"].down.sum() == pytest.approx(36)
    (remark,) = (each for each in model.remarks if each.kind == "negative")
    assert (remark.channel, remark.process) == ("SR", "ZG")
    assert remark.what == "1 negative bin is set to zero, the others scaled by 0.9091"


def test_a_variation_that_leaves_nothing_leaves_a_hundredth() -> None:
    model = one_channel(ZG=padded([10, 0, 20], up=[12, 0, 20], down=[-1, 0, 0]))
    assert samples(model, "SR")["ZG"].shapes["jes"].down == pytest.approx([0.1, 0, 0.2])
    assert "jes leaves -1 events; 1% of each bin is taken instead" in [each.what for each in model.remarks]


def test_a_process_without_events_is_left_out() -> None:
    model = one_channel(ZG=[1, -2, 1], ZZ=[1, -2, 0.5])
    assert list(samples(model, "SR")) == ["signal", "WZ"]
    assert [(each.process, each.what) for each in model.remarks if each.kind == "empty"] == [
        ("ZG", "is left out: 0 expected events"),
        ("ZZ", "is left out: -0.5 expected events"),
    ]


def test_what_changes_nothing_is_left_out() -> None:
    for change, kept in ((0.0009, False), (0.0011, True)):
        model = one_channel(ZG=padded([10, 20, 30], up=[10, 20 * (1 + change), 30], down=[10, 20, 30]))
        assert ("jes" in samples(model, "SR")["ZG"].shapes) == kept
        assert model.nuisances == (("jes",) if kept else ())
        assert [each.kind for each in model.remarks] == ([] if kept else ["pruned"])


@pytest.mark.parametrize(
    ("up", "down", "said"),
    [
        ([11, 20, 30], [10, 20, 33], "+1.7% up and +5.0% down, both in the same direction"),
        ([10, 20, 33], [10, 19.4, 30], "+5.0% up and -1.0% down, which do not balance"),
        ([10, 20, 33], [10, 20, 30], "+5.0% up and +0.0% down, which do not balance"),
        ([10, 20, 33], [10, 18.8, 30], None),
        ([10, 20, 31.1], [10, 20, 30], None),
    ],
)
def test_variations_that_do_not_close_are_reported(up: list[float], down: list[float], said: str | None) -> None:
    template = padded([10, 20, 30], up=up, down=down)
    model = one_channel(ZG=replace(template, variances=template.variances / 10))  # of 600 events
    wanted = [("one-sided", f"jes changes the yield by {said}")] if said else []
    assert [(each.kind, each.what) for each in model.remarks] == wanted
    # of 60 events, these changes are of three at most, which come and go by chance
    assert not one_channel(ZG=template).remarks


def test_bins_with_few_events_are_reported() -> None:
    model = one_channel(WZ=padded([100, 10, 1]))
    (remark,) = model.remarks
    assert (remark.kind, remark.what) == ("few events", "10 effective background events or fewer in bins 2, 3")
    assert not one_channel(WZ=padded([LEAST_EVENTS] * 3)).remarks  # as in the bins that are chosen


def test_bins_without_anything_are_not_fitted() -> None:
    """Nor do variations fill them: to the other side there would be less than nothing."""
    jes = {"up": [110, 45, 5], "down": [90, 55, 0]}
    model = one_channel(signal=padded([2, 7, 0]), WZ=padded([100, 50, 0], **jes))
    (channel,) = model.channels
    assert channel.fitted.tolist() == [True, True, False]
    shape = samples(model, "SR")["WZ"].shapes["jes"]
    assert (shape.up.tolist(), shape.down.tolist()) == ([110, 45, 0], [90, 55, 0])
    assert remarks(model, "empty") == ["bin 3 is not fitted, since nothing is expected there"]
    observed = one_channel(signal=padded([2, 7, 0]), WZ=padded([100, 50, 0]), data_obs=padded([99, 60, 4]), asimov=None)
    (remark,) = (it for it in observed.remarks if it.kind == "empty")
    assert remark.what == "bin 3 is not fitted, since nothing is expected there, and 4 events of data are there"
    partly = one_channel(WZ=padded([100, 50, 0], **jes), ZG=padded([0, 20, 9]))
    assert samples(partly, "SR")["WZ"].shapes["jes"].up.tolist() == [110, 45, 5]


@pytest.mark.parametrize("asimov", [0.0, None])
def test_a_signal_without_background_is_an_error_with_edges_that_would_do(asimov: float | None) -> None:
    data = padded([99, 60, 4])
    with pytest.raises(NanoMLError) as told:
        one_channel(WZ=padded([100, 50, 0]), data_obs=data, asimov=asimov)
    low, middle, high, last = AXIS.edges
    assert f"expected in SR, in SR in bin {high:g} to {last:g}. Any event there would be" in str(told.value)
    assert f"These edges work: {{edges: [{low:g}, {middle:g}, {last:g}]}}" in str(told.value)
    one_channel((100, 50), signal=padded([1, 1]), data_obs=padded([99, 64]), asimov=asimov)


def test_names_and_sharing_of_nuisance_parameters(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    nuisances = {
        "jes": Nuisance("CMS_scale_j", eras=EACH),
        "jer": Nuisance("CMS_res_j"),
        "scale": Nuisance("QCDscale", processes=EACH),
        "norm_ZZ": Nuisance(regions=EACH),
        "btag_*": Nuisance("CMS_b_*", processes={"V": ["WZ"], "VV": ["ZZ", "signal"]}, eras="all"),
        "lumi_correlated": Nuisance("lumi_13TeV"),
        "nothing": Nuisance("x"),
    }
    renamed = replace(settings, nuisances=nuisances, groups={"jets": ["jes", "CMS_res_j"]})
    model = statistical_model(templates, renamed, luminosity)
    of = {(channel.name, it.process): it for channel in model.channels for it in channel.samples}
    assert {*of["SR_2018", "WZ"].shapes} == {"CMS_scale_j_2018", "CMS_res_j_2018", "jes_2018", "CMS_b_hfstats1_V"}
    assert {*of["SR_2022", "signal"].shapes} == {"CMS_scale_j_2022", "CMS_res_j_2022", "jes_2022", "CMS_b_hfstats1_VV"}
    assert {*of["SR_2018", "signal"].factors} == {"QCDscale_signal", "lumi_13TeV", "lumi_2018"}
    assert {*of["CR_2022", "WZ"].factors} == {"QCDscale_WZ", "norm_WZ", "lumi_13TeV"}
    assert [of[name, "ZZ"].free for name in ("SR_2018", "SR_2022", "CR_2018")] == [
        ("norm_ZZ_SR",), ("norm_ZZ_SR",), ("norm_ZZ_CR",),
    ]  # fmt: skip
    names = ("CMS_scale_j", "CMS_res_j", "jes")
    assert {*model.groups["jets"]} == {f"{it}_{era}" for it in names for era in (2018, 2022)}
    assert remarks(model, "unknown") == ["fit.nuisances: no nuisance parameter is called nothing"]
    with pytest.raises(NanoMLError, match="fit.nuisances: jes and jes_2018 of signal would both be x in SR_2018"):
        statistical_model(templates, replace(settings, nuisances={"je*": Nuisance("x")}), luminosity)


def test_bins_of_a_plane_are_in_a_row() -> None:
    values = np.arange(20.0).reshape(4, 5)
    axes = (replace(AXIS, edges=(0.0, 1.0, 2.0)), AXIS)
    channel = HistogramChannel("SR", None, {"signal": Template(values, values), "WZ": Template(values, values)})
    templates = Templates("", (FilledHistogram("x", axes, (channel,)),), ("signal", "WZ"), "signal", {"": None})
    (made,) = statistical_model(templates, Fit(channels={"SR": "x"}), {}).channels
    assert made.samples[1].nominal.tolist() == [6, 7, 8, 11, 12, 13]
    assert made.edges == (0, 1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": {"SR": "score"}}, '"score" is not a histogram. Known: wprime, mass.'),
        ({"channels": {"SR": "mass"}}, "fit.channels: the histogram mass has no region SR. Fill it there."),
        ({"channels": {"CR": "mass"}}, "fit: no channel has events of signal. Use wider bins"),
        ({"free": ["signal"]}, "fit.free: signal is the signal, whose strength is fitted in any case. Remove it."),
        ({"signals": {"mu": ["signal"], "mu_X": ["X"]}}, "fit: no channel has events of X. Use wider bins"),
        ({"signals": {"jes": ["signal"], "mu_WZ": ["WZ"]}}, "fit.signals: jes is a nuisance parameter, too. Rename one."),
        ({"uncertainties": {"jes": {"WZ": "3 %"}}}, "fit: jes is both a variation of a shape and a log-normal uncertainty."),
    ],
)  # fmt: skip
def test_mistakes(templates: Templates, settings: Fit, luminosity: Luminosity, changes: Any, message: str) -> None:
    with pytest.raises(NanoMLError) as raised:
        statistical_model(templates, replace(settings, **changes), luminosity)
    assert message in str(raised.value)


RATIOS = arrays(np.float64, st.integers(3, 20), elements=st.floats(0, 10, width=32))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        # by ROOT 6.40, TH1::SmoothArray(n, x, 1)
        (
            [1, 1.3, 0.9, 1.2, 2.5, 1.1, 1.0, 0.8, 1.4, 1.2, 0.6, 0.7],
            [1, 1.040625, 1.142708333333, 1.2125, 1.170833333333, 1.0875, 1.058333333333, 1.046875, 1.015625, 0.925, 0.775, 0.7],
        ),
        ([1, 4, 2], [2, 2, 2]),
    ],
)  # fmt: skip
def test_numbers_are_roots(values: list[float], found: list[float]) -> None:
    assert smooth(np.array(values, float)) == pytest.approx(found, abs=1e-11)


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(3, 20))
def test_what_is_a_line_stays(start: float, slope: float, bins: int) -> None:
    line = start + slope * np.arange(bins)
    assert smooth(line) == pytest.approx(line, abs=1e-9)


@given(RATIOS, st.data())
def test_smoothing_adds_no_negative_ratio_and_keeps_the_yield(values: Any, data: st.DataObject) -> None:
    ratios = smooth(values)
    assert ratios.shape == values.shape
    assert (ratios >= 0).all()
    nominal = data.draw(arrays(np.float64, len(values), elements=st.floats(0, 100, width=32)))
    shape = Shape(values * nominal, values * nominal / 2)
    found = shape.smoothed(nominal)
    for rough, smoothed in ((shape.up, found.up), (shape.down, found.down)):
        assert smoothed.sum() == pytest.approx(rough.sum(), abs=1e-9)
        assert (smoothed >= 0).all()


@given(arrays(np.float64, 5, elements=st.floats(-100, 100, width=32)))
def test_negative_bins_are_zero_and_the_sum_stays(values: Any) -> None:
    if values.sum() <= 0:
        return
    found, scale = positive(values)
    assert found.sum() == pytest.approx(values.sum())
    assert (found >= 0).all()
    assert 0 < scale <= 1


def test_a_parabola_is_steep_on_the_steep_side() -> None:
    """Three equal numbers at a valley: the parabola has its middle towards the smaller rise, whichever side that is on."""
    values = np.array([5.0, 1.0, 1.0, 1.0, 2.0])
    found = _with_parabolas(values)
    assert found.tolist() == pytest.approx([5, 1, 1 / 0.75 - 0.5 * 5 + 2 / 6, 1 - 1.5, 2])
    assert _with_parabolas(values[::-1]).tolist() == found[::-1].tolist()


@pytest.fixture(autouse=True)
def uncompiled() -> None:
    """Each workspace is evaluated a few times; a fit leaves jax behind, which would compile each operation for it."""
    pyhf.set_backend("numpy")


def expected(model: Any, **parameters: float) -> dict[str, list[float]]:
    """Expected events by channel; the parameters that are not given are as they are expected to be."""
    values = model.config.suggested_init()
    for name, value in parameters.items():
        values[model.config.par_slice(name)] = [value]
    found = model.expected_data(values, include_auxdata=False)
    return {name: found[where].tolist() for name, where in model.config.channel_slices.items()}


def varied(model: Model, nuisance: str, sign: int) -> dict[str, Any]:
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


def test_parameters_change_what_the_templates_say(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
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


def test_statistical_errors_are_of_all_backgrounds(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
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
        strength, *others = with_range(made, {"mu": highest})["measurements"][0]["config"]["parameters"]
        assert strength == {"name": "mu", "inits": [1.0], "bounds": [[0, bound]]}
        assert others == made["measurements"][0]["config"]["parameters"][1:]


CONTENTS = arrays(np.float64, 5, elements=st.floats(-5, 100, width=32))


@examples(max_examples=30)
@given(nominal=CONTENTS, up=CONTENTS, down=CONTENTS, factor=st.integers(1, 99))
def test_any_template_is_reproduced(nominal: Any, up: Any, down: Any, factor: int) -> None:
    inner = np.array([1.0, 2.0, 3.0])
    same, varying = (Template(it, np.abs(it)) for it in (np.pad(inner, 1), nominal))
    varying = replace(varying, up={"jes": up}, down={"jes": down})
    channel = HistogramChannel("SR", None, {"signal": same, "WZ": varying, "ZZ": same})
    histogram = FilledHistogram("x", (AXIS,), (channel,))
    templates = Templates("", (histogram,), ("signal", "WZ"), "signal", {"": None})
    settings = Fit(channels={"SR": "x"}, uncertainties={"WZ": f"{factor} %"})
    model = statistical_model(templates, settings, {"": {"lumi": log_normal("2.5 %")}})
    made = pyhf.Workspace(workspace(model), validate=False).model(validate=False)  # `workspace` has validated it
    assert expected(made) == varied(model, "none", 1)
    for nuisance in model.nuisances:
        for sign in (1, -1):
            assert expected(made, **{nuisance: sign}) == varied(model, nuisance, sign)
    total = float(nominal[1:-1].sum())
    assert sum(expected(made, mu=0.0)["SR"]) == pytest.approx(inner.sum() + max(total, 0), abs=1e-9)


@dataclass(frozen=True)
class Card:
    """What a datacard says, line by line: the first word of a line, and the others."""

    rows: list[list[str]]

    @classmethod
    def read(cls, path: Path) -> Card:
        return cls([line.split() for line in path.read_text().splitlines() if line[0] not in "#-"])

    def of(self, first: str, number: int = 0) -> list[str]:
        return [row[1:] for row in self.rows if row[0] == first][number]

    @property
    def columns(self) -> list[tuple[str, str]]:
        return list(zip(self.of("bin", 1), self.of("process")))

    def effects(self, kind: str) -> dict[tuple[str, str, str], LogNormal]:
        """By nuisance parameter, channel and process: factors up and down; 1 of shapes."""
        found = {}
        for row in (it for it in self.rows if it[1] == kind):
            for column, cell in zip(self.columns, row[2:]):
                if cell != "-":
                    down, up = map(float, cell.split("/")) if "/" in cell else (1 / float(cell), float(cell))
                    found[(row[0], *column)] = LogNormal(up, down)
        return found


def test_the_card_has_the_yields_and_uncertainties_of_the_model(model: Model, tmp_path: Path) -> None:
    card = Card.read(write_datacard(model, tmp_path / "cards"))
    samples = {(each.name, sample.process): sample for each in model.channels for sample in each.samples}
    assert card.columns == list(samples)
    assert [float(rate) for rate in card.of("rate")] == [sample.nominal.sum() for sample in samples.values()]
    assert (card.of("imax"), card.of("jmax"), card.of("kmax")) == (["4"], ["3"], ["*"])
    assert dict(zip(card.of("process"), card.of("process", 1))) == {"signal": "0", "WZ": "1", "ZZ": "2", "fakes": "3"}
    observed = dict(zip(card.of("bin"), map(float, card.of("observation"))))
    assert observed == {each.name: each.data.sum() for each in model.channels}
    factors = {(name, *column): it for column, each in samples.items() for name, it in each.factors.items()}
    assert card.effects("lnN") == factors
    shapes = {(name, *column): LogNormal(1, 1) for column, it in samples.items() for name in it.shapes}
    assert card.effects("shape") == shapes
    rates = [["norm_ZZ", "rateParam", each.name, "ZZ", "1", "[0,10]"] for each in model.channels]
    assert [row for row in card.rows if row[1] == "rateParam"] == rates
    assert ["*", "autoMCStats", "10"] in card.rows
    assert {row[0]: tuple(row[3:]) for row in card.rows if row[1] == "group"} == model.groups
    text = (tmp_path / "cards/datacard.txt").read_text()
    assert re.search(r"norm_fakes +lnN .* 0\.8/1\.3 ", text)
    assert re.search(r"norm_WZ +lnN .* 1\.05 ", text)


def test_several_signals(templates: Templates, settings: Fit, luminosity: Luminosity, tmp_path: Path) -> None:
    settings = replace(settings, signals={"mu_W": ["signal"], "mu_VV": ["WZ", "ZZ"]}, free=[])
    model = statistical_model(templates, settings, luminosity, ["fakes"])
    content = workspace(model)
    assert [it["config"]["poi"] for it in content["measurements"]] == ["mu_W", "mu_VV"]
    made = pyhf.Workspace(content).model(measurement_index=1)
    assert made.config.poi_name == "mu_VV"
    changed = expected(made, mu_W=0.0, mu_VV=2.0)["SR_2018"]
    assert changed == pytest.approx([2 * (60 + 20) + 9, 2 * (30 + 12) + 7, 2 * (20 + 6) + 2])
    seen = {it["name"]: it["data"] for it in content["observations"]}  # for the limit on mu_W
    assert seen["SR_2018"] == pytest.approx(expected(made, mu_W=0.0, mu_VV=1.0)["SR_2018"])
    (first, second) = with_range(content, {"mu_VV": 7.0})["measurements"]
    assert first["config"]["parameters"] == second["config"]["parameters"]
    assert [it["bounds"] for it in first["config"]["parameters"]] == [[[0, 10]], [[0, 14]]]
    card = Card.read(write_datacard(model, tmp_path))
    assert card.of("jmax") == ["3"]
    assert dict(zip(card.of("process"), card.of("process", 1))) == {"signal": "-2", "WZ": "-1", "ZZ": "0", "fakes": "1"}
    about, command, *_ = (tmp_path / "datacard.txt").read_text().splitlines()
    assert about == "# Data are expected, with a signal of strength 0, the others of 1."
    assert command == (
        "# text2workspace.py datacard.txt -P HiggsAnalysis.CombinedLimit.PhysicsModel:multiSignalModel "
        "--PO 'map=.*/(signal)$:mu_W[1,0,10]' --PO 'map=.*/(WZ|ZZ)$:mu_VV[1,0,10]'"
    )


def test_the_file_has_the_templates(model: Model, tmp_path: Path) -> None:
    card = Card.read(write_datacard(model, tmp_path))
    assert card.of("shapes") == ["*", "*", "templates.root", "$CHANNEL/$PROCESS", "$CHANNEL/$PROCESS_$SYSTEMATIC"]
    found = 0
    with uproot.open(tmp_path / "templates.root") as file:
        for channel in model.channels:
            assert file[f"{channel.name}/data_obs"].values().tolist() == channel.data.tolist()
            for sample in channel.samples:
                nominal = file[f"{channel.name}/{sample.process}"]
                assert nominal.values().tolist() == sample.nominal.tolist()
                assert nominal.errors() == pytest.approx(sample.errors)
                assert nominal.axis().edges().tolist() == list(channel.edges)
                assert nominal.values(flow=True)[[0, -1]].tolist() == [0, 0]
                for name, shape in sample.shapes.items():
                    for direction, values in (("Up", shape.up), ("Down", shape.down)):
                        varied = file[f"{channel.name}/{sample.process}_{name}{direction}"]
                        assert varied.values().tolist() == values.tolist()
                        found += 1
    assert found == 2 * len(card.effects("shape")) == 2 * (3 + 3 + 2 + 2) * 4


def test_names_are_those_of_combine(
    templates: Templates, settings: Fit, luminosity: Luminosity, tmp_path: Path
) -> None:
    for histogram in templates.histograms:
        for channel in histogram.channels:
            for name in ("4 tops", "W+jets", "W-jets", "W_jets"):
                process = channel.processes["WZ"]
                up, down = {"j-s": process.up["jes"]}, {"j-s": process.down["jes"]}
                channel.processes[name] = replace(process, up=up, down=down)  # type: ignore[index]
    awkward = replace(settings, free=["ZZ", "W+jets"], uncertainties={"4 tops": "5 %"})
    made = statistical_model(templates, awkward, luminosity)
    card = Card.read(write_datacard(made, tmp_path))
    assert [it for it in dict.fromkeys(card.of("process")) if it not in ("signal", "ZZ", "WZ", "fakes")] == [
        "_4_tops", "W_jets_", "W_jets__", "W_jets",
    ]  # fmt: skip
    assert {"norm_4_tops", "j_s", "norm_W_jets"} <= {row[0] for row in card.rows}
    renamed = [it.what.partition(" is ") for it in for_combine(made).remarks if it.kind == "renamed"]
    names = {name: safe for name, _, safe in renamed}
    assert names == {
        "4 tops": "_4_tops in the datacard",
        "W+jets": "W_jets_ in the datacard",
        "W-jets": "W_jets__ in the datacard",
        "norm_4 tops": "norm_4_tops in the datacard",
        "norm_W+jets": "norm_W_jets in the datacard",
        "j-s": "j_s in the datacard",
    }
    assert "# 4 tops is _4_tops in the datacard" in (tmp_path / "datacard.txt").read_text().splitlines()
    with uproot.open(tmp_path / "templates.root") as file:
        assert {f"SR_2018/{it};1" for it in ("W_jets", "W_jets_", "W_jets__", "_4_tops_j_sUp")} <= set(file.keys())
    # once more changes nothing
    once = for_combine(made)
    assert for_combine(once).remarks == once.remarks


def counts(model: Model, array: Callable[[Any], Any]) -> list[list[Counts]]:
    def of(it: Sample) -> Counts:
        shapes = {name: Sides(array(each.up), array(each.down)) for name, each in it.shapes.items()}
        free = it.free[0] if it.free else None
        return Counts(it.strength, array(it.nominal), array(it.errors**2), shapes, it.factors, free)

    return [[of(it) for it in channel.samples] for channel in model.channels]


def check_information(model: Model) -> None:
    """The covariance by jax, without statistical errors, is the inverse of the information by NumPy, and by PyTorch."""
    samples = counts(model, np.asarray)
    names, found = information(samples, np)
    likelihood = Likelihood(workspace(model))
    at = likelihood.with_strength(1.0)
    covariance = likelihood.covariance(likelihood.expected(at), at)
    others = [number for number, kind in enumerate(likelihood.kinds) if kind != STATISTICAL]
    mine = [names.index(likelihood.names[number]) for number in others]
    assert len(mine) == len(names)
    expected = np.linalg.inv(covariance[np.ix_(others, others)])
    scale = np.sqrt(np.diag(expected))
    product = np.outer(scale, scale)
    np.testing.assert_allclose(found[np.ix_(mine, mine)] / product, expected / product, atol=1e-6)
    strengths = [likelihood.names.index(name) for name in model.strengths]
    errors = np.diag(covariance)[strengths] ** 0.5
    assert strength_error(samples, np) == pytest.approx(np.exp(np.log(errors).mean()), rel=1e-6)


def test_the_information_of_several_signals(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    """The geometric mean of the uncertainties of the strengths, of which one is of two processes."""
    several = replace(settings, free=[], signals={"mu": ["signal"], "mu_V": ["WZ", "ZZ"]})
    model = statistical_model(templates, several, luminosity, ["fakes"])
    assert [*model.strengths] == ["mu", "mu_V"]
    check_information(model)


def test_the_information_of_any_templates(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    """Eras and regions, with any contents and variations."""
    random = np.random.default_rng(1)

    def changed(template: Template) -> Template:
        def some(values: np.ndarray) -> np.ndarray:
            return values * random.uniform(0.5, 1.5, values.shape)

        sides = ({name: some(it) for name, it in each.items()} for each in (template.up, template.down))
        return Template(some(template.nominal), some(template.variances), *sides)

    for histogram in templates.histograms:
        for channel in histogram.channels:
            channel.processes.update({name: changed(it) for name, it in channel.processes.items()})  # type: ignore[attr-defined]
    check_information(statistical_model(templates, settings, luminosity, ["fakes"]))


def test_the_information_is_the_same_by_pytorch(model: Model) -> None:
    torch = pytest.importorskip("torch")
    found = strength_error(counts(model, torch.from_numpy), torch)
    assert float(found) == pytest.approx(strength_error(counts(model, np.asarray), np), rel=1e-12)
