"""Combine's own parser finds in a datacard what is in the model. NANOML_TEST_COMBINE names a checkout of CombinedLimit."""

from __future__ import annotations

import importlib
import math
import os
import re
import sys
import types
from optparse import OptionParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

pytest.importorskip("statistical_analysis.workspace")
pytest.importorskip("pyhf")

import pyhf

from MLTools.NanoML.config.fit import Fit
from MLTools.NanoML.contracts.templates import Templates
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.cards.card import read_card
from statistical_analysis.model import statistical_model
from statistical_analysis.samples import Sample
from statistical_analysis.workspace import workspace, write_datacard

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


def parsed(parser: Any, path: Path) -> Any:
    options = OptionParser()
    parser.addDatacardParserOptions(options)
    given, _ = options.parse_args([])
    given.bin, given.verbose = True, 0
    given.noJMax = given.allowNoSignal = given.allowNoBackground = False
    given.nuisancesToExclude = []
    with path.open() as file:
        return parser.parseCard(file, given)


def test_combine_reads_the_model(
    parser: Any, templates: Templates, settings: Fit, luminosity: Any, tmp_path: Path
) -> None:
    model = statistical_model(templates, settings, luminosity, ["fakes"], asimov=1.0)
    card = parsed(parser, write_datacard(model, tmp_path))
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


def templates_of(card: Any, path: Path, channel: str, process: str, files: dict[Path, Any]) -> Any:
    """The templates of a process by the name of the variation, by the rules of the manual of Combine; None if there are none."""
    rules = card.shapeMap.get(channel, card.shapeMap.get("*", {}))
    everywhere = card.shapeMap.get("*", {})
    rule = rules.get(process) or rules.get("*") or everywhere.get(process) or everywhere["*"]
    if rule == ["FAKE"]:
        return None
    file, name, *varied = rule

    def of(systematic: str) -> Any:
        known = {"$CHANNEL": channel, "$PROCESS": process, "$SYSTEMATIC": systematic, "$MASS": "125"}
        text = f"{file} {varied[0] if systematic else name}"
        for word, value in known.items():
            text = text.replace(word, value)
        where, key = text.split(" ")
        found = files.setdefault(path.parent / where, uproot.open(path.parent / where)).get(key)
        if found is None:
            return None
        values = found.values().astype(float)  # no bin is negative, and the yield stays the same
        return np.maximum(values, 0) * values.sum() / (np.maximum(values, 0).sum() or 1)

    return of


@pytest.mark.exhaustive("the cards that come with Combine")
def test_cards_that_come_with_combine(parser: Any) -> None:
    """Expected events of each process at 0 and ±1, from what Combine's parser finds, and its rules for templates."""
    texts = Path(str(COMBINE), "data").rglob("*.txt")
    paths = sorted(it for it in texts if "\nprocess" in it.read_text(errors="replace"))
    compared, refused, files = 0, dict[str, str](), dict[Path, Any]()
    pyhf.set_backend("numpy")
    for path in paths:
        try:
            model = read_card(path, "125")
        except NanoMLError as problem:
            refused[str(path)] = str(problem)
            continue
        try:
            card = parsed(parser, path)
        except RuntimeError:  # names of channels in old cards are numbers
            continue
        made = pyhf.Workspace(workspace(model)).model(validate=False)
        config, bins = made.config, {it.name: it.fitted for it in model.channels}

        def events(changed: str | None, sign: int, made: Any = made, config: Any = config) -> Any:
            at = np.array(config.suggested_init(), float)
            if changed in config.par_map:
                at[config.par_slice(changed)] = sign
            return np.array(made.main_model.expected_data(at, return_by_sample=True))

        nominal = events(None, 0)
        for name, _, kind, _arguments, effects in [(None, False, "", [], {}), *card.systs]:
            name = name.removeprefix("theta") if name and name[5:6].isdigit() else name
            for sign in (1, -1):
                found = nominal if name is None else events(name, sign)
                for channel in card.bins:
                    for process, rate in card.exp[channel].items():
                        if (kind not in ("", "lnN") and not kind.startswith("shape")) or not rate:
                            continue
                        of = templates_of(card, path, channel, process, files) if card.hasShapes else None
                        expected = np.array([rate]) if of is None else of("")
                        is_one = of is None or rate == -1 or channel in card.binParFlags
                        scale = 1.0 if is_one else rate / expected.sum()
                        gammas = [it for it in card.systs if it[2] == "gmN" and it[4][channel][process]]
                        if gammas:
                            counted = gammas[0][3][0] * gammas[0][4][channel][process]
                            scale = scale if channel in card.binParFlags else counted / expected.sum()
                        size = effects[channel][process] if name else 0
                        is_varied = of is not None and size and kind.startswith("shape")
                        up = of(f"{name}{'Up' if sign > 0 else 'Down'}") if is_varied else None
                        if up is not None and size == 1:
                            expected = up
                        elif up is not None:  # to a part: compare the yield
                            expected = expected * (up.sum() / expected.sum()) ** size
                        elif size and (kind == "lnN" or kind.endswith("?")):
                            low, high = size if isinstance(size, list) else (1 / size, size)
                            expected = expected * (high if sign > 0 else low)
                        elif size:
                            continue
                        got = found[config.samples.index(process)][config.channel_slices[channel]]
                        wanted = scale * expected[bins[channel]]
                        if up is not None and size != 1:
                            got, wanted = got.sum(), wanted.sum()
                        where = (path.name, name, sign, channel, process)
                        assert got == pytest.approx(wanted, rel=1e-6, abs=1e-9), where
                        compared += 1
    assert compared > 10_000
    assert len(paths) - len(refused) > 90
    known = "cannot be translated|no events of a signal|no one-dimensional histogram|has no templates|needs one number"
    assert not {name: it for name, it in refused.items() if not re.search(known, it)}
