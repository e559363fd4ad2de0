from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("statistical_analysis.model")

from MLTools.NanoML.config.fit import EACH, Fit, LogNormal, Nuisance
from MLTools.NanoML.contracts.bins import LEAST_EVENTS
from MLTools.NanoML.contracts.templates import FilledHistogram, HistogramChannel, Template, TemplateAxis, Templates
from MLTools.NanoML.errors import NanoMLError
from statistical_analysis.model import StatisticalModel as Model
from statistical_analysis.model import statistical_model
from statistical_analysis.samples import Sample

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


def test_channels_are_regions_and_eras(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    model = statistical_model(templates, settings, luminosity, ["fakes"])
    assert [each.name for each in model.channels] == ["SR_2018", "SR_2022", "CR_2018", "CR_2022"]
    assert list(samples(model, "CR_2018")) == ["WZ", "ZZ", "fakes"]
    assert [each.edges for each in model.channels[1:3]] == [(0.0, 0.2, 0.7, 1.0), (60.0, 80.0, 100.0, 120.0)]
    sample = samples(model, "SR_2018")["WZ"]
    assert sample.nominal.tolist() == [60, 30, 20]
    assert sample.errors == pytest.approx(np.sqrt([6, 3, 2]))


def test_eras_share_what_the_pogs_let_them_share(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    model = statistical_model(templates, settings, luminosity, ["fakes"])
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


def test_each_process_has_its_log_normals(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    found = samples(statistical_model(templates, settings, luminosity, ["fakes"]), "SR_2018")
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
