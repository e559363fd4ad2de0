"""The information that a fit has, from first derivatives of expected events, against the second derivatives of its likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.contracts.bins import Counts, Sides, information, strength_error
from MLTools.NanoML.contracts.templates import Template, Templates
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.model import StatisticalModel, statistical_model
from statistical_analysis.results import STATISTICAL
from statistical_analysis.workspace import workspace

Luminosity = Mapping[str, Mapping[str, LogNormal]]


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


def check(model: StatisticalModel) -> None:
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
    np.testing.assert_allclose(
        found[np.ix_(mine, mine)] / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-6
    )
    strengths = [likelihood.names.index(name) for name in model.strengths]
    errors = np.diag(covariance)[strengths] ** 0.5
    assert strength_error(samples, np) == pytest.approx(np.exp(np.log(errors).mean()), rel=1e-6)


def test_several_signals(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    """The geometric mean of the uncertainties of the strengths, of which one is of two processes."""
    several = replace(settings, free=[], signals={"mu": ["signal"], "mu_V": ["WZ", "ZZ"]})
    model = statistical_model(templates, several, luminosity, ["fakes"])
    assert [*model.strengths] == ["mu", "mu_V"]
    check(model)


def test_random(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
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
    check(statistical_model(replace(templates, histograms=histograms), settings, luminosity, ["fakes"]))


def test_tensors(templates: Templates, settings: Fit, luminosity: Luminosity) -> None:
    torch = pytest.importorskip("torch")
    model = statistical_model(templates, settings, luminosity)

    found = strength_error(counts(model, torch.from_numpy), torch)
    assert float(found) == pytest.approx(strength_error(counts(model, np.asarray), np), rel=1e-12)
