from __future__ import annotations

import re
from collections.abc import Callable
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

pytest.importorskip("pyhf")
pytest.importorskip("statistical_analysis.workspace")

import pyhf

from MLTools.NanoML.config.fit import Fit, LogNormal, log_normal
from MLTools.NanoML.contracts.bins import Counts, Sides, information, strength_error
from MLTools.NanoML.contracts.templates import FilledHistogram, HistogramChannel, Template, TemplateAxis, Templates
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.model import StatisticalModel, statistical_model
from statistical_analysis.results import STATISTICAL
from statistical_analysis.workspace import for_combine, with_range, workspace, write_datacard

Luminosity = dict[str, dict[str, LogNormal]]


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
        return {
            (row[0], *column): LogNormal(*map(float, reversed(cell.split("/"))))
            if "/" in cell
            else symmetric(float(cell))
            for row in self.rows
            if row[1] == kind
            for column, cell in zip(self.columns, row[2:])
            if cell != "-"
        }


def symmetric(up: float) -> LogNormal:
    return LogNormal(up, 1 / up)


@pytest.fixture
def model(templates: Templates, settings: Fit, luminosity: Luminosity) -> StatisticalModel:
    return statistical_model(templates, settings, luminosity, ["fakes"], asimov=1.0)


def test_the_card_has_the_yields_and_uncertainties_of_the_model(model: StatisticalModel, tmp_path: Path) -> None:
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


def test_the_file_has_the_templates(model: StatisticalModel, tmp_path: Path) -> None:
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
                channel.processes[name] = replace(
                    process, up={"j-s": process.up["jes"]}, down={"j-s": process.down["jes"]}
                )  # type: ignore[index]
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


def counts(model: StatisticalModel, array: Callable[[Any], Any]) -> list[list[Counts]]:
    return [
        [
            Counts(
                it.strength,
                array(it.nominal),
                array(it.errors**2),
                {name: Sides(array(each.up), array(each.down)) for name, each in it.shapes.items()},
                it.factors,
                it.free[0] if it.free else None,
            )
            for it in channel.samples
        ]
        for channel in model.channels
    ]


def check_information(model: StatisticalModel) -> None:
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

    histograms = tuple(
        replace(
            histogram,
            channels=tuple(
                replace(it, processes={name: changed(each) for name, each in it.processes.items()})
                for it in histogram.channels
            ),
        )
        for histogram in templates.histograms
    )
    check_information(statistical_model(replace(templates, histograms=histograms), settings, luminosity, ["fakes"]))


def test_the_information_is_the_same_by_pytorch(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    torch = pytest.importorskip("torch")
    model = statistical_model(templates, settings, luminosity)

    found = strength_error(counts(model, torch.from_numpy), torch)
    assert float(found) == pytest.approx(strength_error(counts(model, np.asarray), np), rel=1e-12)
