"""Combine's own parser finds in a datacard what is in the model. NANOML_TEST_COMBINE names a checkout of CombinedLimit."""

from __future__ import annotations

import importlib
import math
import os
import sys
import types
from optparse import OptionParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("statistical_analysis.workspace")

from MLTools.NanoML.config.fit import Fit, LogNormal
from MLTools.NanoML.contracts.templates import Templates
from statistical_analysis.model import statistical_model
from statistical_analysis.samples import Sample
from statistical_analysis.workspace import write_datacard

COMBINE = os.environ.get("NANOML_TEST_COMBINE")


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module DatacardParser, which works without ROOT, in the package where CMSSW has it."""
    if COMBINE is None:
        pytest.skip("name a checkout of CombinedLimit by NANOML_TEST_COMBINE")
    for name, path in (("HiggsAnalysis", []), ("HiggsAnalysis.CombinedLimit", [str(Path(COMBINE) / "python")])):
        package = types.ModuleType(name)
        package.__path__ = path
        monkeypatch.setitem(sys.modules, name, package)
    yield importlib.import_module("HiggsAnalysis.CombinedLimit.DatacardParser")
    for name in [it for it in sys.modules if it.startswith("HiggsAnalysis.")]:
        del sys.modules[name]


def effect(sample: Sample, nuisance: str) -> Any:
    """What a cell of the card is: 0 for none, a factor, or factors down and up."""
    if nuisance in sample.shapes:
        return 1.0
    factor = sample.factors.get(nuisance)
    if factor is None:
        return 0.0
    return factor.up if math.isclose(factor.up * factor.down, 1) else [factor.down, factor.up]


def test_combine_reads_the_model(
    parser: Any, templates: Templates, settings: Fit, luminosity: dict[str, dict[str, LogNormal]], tmp_path: Path
) -> None:
    model = statistical_model(templates, settings, luminosity, ["fakes"], asimov=1.0)
    options = OptionParser()
    parser.addDatacardParserOptions(options)
    given, _ = options.parse_args([])
    given.bin, given.verbose = True, 0
    given.noJMax = given.allowNoSignal = given.allowNoBackground = False
    given.nuisancesToExclude = []
    with write_datacard(model, tmp_path).open() as file:
        card = parser.parseCard(file, given)
    assert card.bins == [channel.name for channel in model.channels]
    assert {name for name, *_ in card.systs} == set(model.nuisances)
    for channel in model.channels:
        assert card.obs[channel.name] == channel.data.sum()
        assert card.exp[channel.name] == {it.process: it.nominal.sum() for it in channel.samples}
        for sample in channel.samples:
            assert card.isSignal[sample.process] == bool(sample.strength)
            for name, _, kind, _, effects in card.systs:
                is_shape = name in model.groups["shape"]
                assert kind == ("shape" if is_shape else "lnN")
                assert effects[channel.name][sample.process] == pytest.approx(effect(sample, name))
    free = {(channel.name, it.process) for channel in model.channels for it in channel.samples if it.free}
    assert {tuple(key.split("AND")[:2]) for key in card.rateParams} == free
    assert {name: set(each) for name, each in card.groups.items()} == {key: set(it) for key, it in model.groups.items()}
    assert {name: each[0] for name, each in card.binParFlags.items()} == {it.name: 10 for it in model.channels}
