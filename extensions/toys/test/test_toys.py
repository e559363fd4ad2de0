from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from MLTools.NanoML.atomic import make_directory
from MLTools.NanoML.cli import nanoml
from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.toys import experiments
from MLTools.NanoML.extensions.toys.check import check, coverage
from MLTools.NanoML.extensions.toys.experiments import Experiments, experiment
from statistical_analysis.likelihood import Likelihood
from statistical_analysis.maximum import maximum
from statistical_analysis.model import statistical_model
from statistical_analysis.results import CONSTRAINED
from statistical_analysis.toys.intervals import throw
from statistical_analysis.workspace import workspace

pytestmark = pytest.mark.usefixtures("compiled_once")
COUNT = 200
# pulls of a right fit: the error of their mean is 0.07, that of their width 0.05; of the share of covered ones 0.015
MEAN, WIDTH, COVERED = 0.25, 0.2, 0.9


@pytest.fixture
def content(templates: Templates, settings: Fit, luminosity: dict[str, dict[str, LogNormal]]) -> dict[str, Any]:
    of_one_era = tuple(replace(it, channels=it.channels[:1]) for it in templates.histograms)
    return workspace(statistical_model(replace(templates, histograms=of_one_era), settings, luminosity, ["fakes"]))


def are_right(found: Experiments) -> bool:
    pulls = [it for it in found.pulls if it.kind == CONSTRAINED]
    assert len(pulls) == 9
    return all(abs(it.mean) < MEAN and abs(it.width - 1) < WIDTH for it in [found.pulls[0], *pulls])


@pytest.mark.exhaustive("coverage, by hundreds of fits")
def test_a_fit_is_unbiased_with_pulls_of_width_one_and_covers(content: dict[str, Any]) -> None:
    found = experiment(content, 1.0, COUNT, seed=1)
    assert found.count == COUNT
    assert found.pulls[0].parameter == "mu"
    assert are_right(found)
    assert abs(np.mean(found.roots)) < MEAN
    assert abs(np.std(found.roots) - 1) < WIDTH
    assert all((root > 0) == (fitted > 1) for root, fitted in zip(found.roots, found.fitted))
    # with so many events both kinds of pulls are nearly the same
    pulls = [(fitted - 1) / error for fitted, error in zip(found.fitted, found.errors) if error]
    assert np.mean(np.abs(np.array(pulls) - found.roots)) < 0.1
    assert np.mean(found.fitted) == pytest.approx(1, abs=4 * np.std(found.fitted) / COUNT**0.5)
    assert found.covered / COUNT > COVERED
    assert not found.is_by_toys
    assert found.lines()[0] == "200 pseudo-experiments with a signal strength of 1:"


@pytest.mark.exhaustive("coverage, by hundreds of fits")
def test_toys_of_equal_constraints_have_narrow_pulls(content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check above would say of toys in which nothing but events fluctuates."""

    def events_alone(likelihood: Likelihood, at: Any, count: int, random: np.random.Generator) -> Any:
        expected = np.tile(likelihood.expected(at), (count, 1))
        bins = likelihood.model.config.nmaindata
        expected[:, :bins] = random.poisson(expected[:, :bins])
        return expected

    monkeypatch.setattr(experiments, "throw", events_alone)
    assert not are_right(experiment(content, 1.0, 60, seed=1))


@pytest.mark.exhaustive("coverage, by hundreds of fits")
def test_with_few_events_limits_are_from_toys(few_events: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "COUNT", 1000)
    found = experiment(few_events, 2.0, 50, seed=1)
    assert found.is_by_toys
    assert found.covered >= 44
    assert "limits by toys cover" in found.lines()[4]
    assert "pulls by the likelihood ratio" in found.lines()[2]


def test_a_signal_that_cannot_be(few_events: dict[str, Any]) -> None:
    with pytest.raises(NanoMLError, match="A signal strength of -5 is not possible"):
        experiment(few_events, -5.0, 2, seed=1)


@pytest.mark.exhaustive("pages of all kinds of fits")
@pytest.mark.usefixtures("no_pdfs")
def test_a_check_has_a_figure(few_events: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "COUNT", 8)
    source = tmp_path / "workspace.json"
    source.write_text(json.dumps(few_events))
    lines = check(source, tmp_path / "toys", 2.0, 8, 1)
    assert lines[0] == "8 pseudo-experiments with a signal strength of 2:"
    content = json.loads((tmp_path / "toys/toys.json").read_text())
    assert len(content["fitted"]) == 8
    assert (tmp_path / "toys/toys.png").stat().st_size > 10_000
    likelihood = Likelihood(few_events)
    toys = throw(likelihood, likelihood.with_strength(2.0), 8, np.random.default_rng(1))  # the seed
    assert content["fitted"][0] == pytest.approx(maximum(likelihood, toys[0]).at[likelihood.poi], abs=0.05)


def test_an_answer_tells_of_experiments_that_were_made_after_the_fit(tmp_path: Path) -> None:
    (tmp_path / "workspace.json").write_text("{}")
    assert coverage(tmp_path).state == "open"
    roots = np.random.default_rng(1).normal(0, 1, 1000)
    make_directory(tmp_path / "toys")
    for width, state in ((1, "good"), (2, "bad")):
        pulls = tuple((width * roots).tolist())
        Experiments("NanoML", 1.0, 1, pulls, pulls, pulls, (), 950, False).write(tmp_path / "toys/toys.json")
        assert coverage(tmp_path).state == state


ANALYSIS = """
luminosity: 10
datasets:
  W600: {files: a.root, class: signal, cross_section: 2, parameters: {mass: 600}}
  W1000: {files: b.root, class: signal, cross_section: 0.5, parameters: {mass: 1000}}
  WZ: {files: d.root, class: WZ, cross_section: 1}
score: {model: []}
histogram: {wprime: {bins: [3, 0, 1]}}
fit: {channels: {all: wprime}, signal: signal, parameter: mass}
"""


def test_toys_need_to_know_for_which_mass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "MLTools.NanoML.extensions.toys.check.check", lambda source, output, *_: [f"from {source} to {output}"]
    )

    def toys(text: str, *options: str) -> str:
        """What `nanoml toys` says of an analysis; instead of a check, where this reads and writes."""
        (tmp_path / "a.yaml").write_text(text)
        done = CliRunner().invoke(nanoml, ["toys", str(tmp_path / "a.yaml"), *options])
        return (done.output + str(done.exception or "")).replace(str(tmp_path), "")

    which = "/a.yaml: has a fit for each of mass = 600, mass = 1000. Choose one, as in --at 600."
    assert toys(ANALYSIS) == toys(ANALYSIS, "--at", "700") == which
    assert toys(ANALYSIS, "--at", "1000") == "from /a/fit/mass1000/workspace.json to /a/fit/mass1000/toys\n"
    one = ANALYSIS.replace(", parameter: mass", "")
    assert toys(one) == "from /a/fit/workspace.json to /a/fit/toys\n"
    assert toys(one, "--at", "600") == "/a.yaml: has one fit. Remove --at."
    for options, said in (
        ((), "Say where the results go: -o DIRECTORY."),
        (("--at", "600"), "a workspace has one signal."),
    ):
        assert said in CliRunner().invoke(nanoml, ["toys", "workspace.json", *options]).output
