"""The way from one state to another: parts, their errors, and changes that cannot be made one by one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from MLTools.NanoML.config.analysis import Config
from MLTools.NanoML.contracts.templates import FilledHistogram, HistogramChannel, Template, TemplateAxis, Templates
from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.extensions.why.measure import GROUPS, HISTOGRAM, SCORE_BINS, Measured, measure, shift
from MLTools.NanoML.extensions.why.path import Between, answer, show
from MLTools.NanoML.extensions.why.state import Change, State, changes
from MLTools.NanoML.schema.plain import read

BASE = State(Config(), {"datasets": {"WZ": {}}}, {}, {})
FACTORS = (2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Product(Between):
    """States whose events are a product of factors, one for each change; some cannot be run."""

    broken: Collection[frozenset[int]] = ()

    def run(self, made: frozenset[int], done: Collection[frozenset[int]]) -> Measured:
        if made in self.broken:
            raise NanoMLError("analysis.yaml:3: no such region")
        value = float(np.prod([FACTORS[it] for it in made]))
        return Measured({"WZ in SR": value}, {"WZ in SR": [value] * GROUPS})


def between(broken: Collection[frozenset[int]] = ()) -> Product:
    made = [Change("setting", str(it), "") for it in FACTORS]
    return Product(BASE, BASE, made, {}, Path("nowhere"), broken)


def test_parts_are_means_of_both_orders_and_add_up() -> None:
    found = answer(between(), 1000, True)
    parts = [it.shifts["WZ in SR"] for it in found.parts]
    assert [(it.value, it.order) for it in parts if it] == [((1 + 15) / 2, 7), ((4 + 10) / 2, 3), ((24 + 4) / 2, 10)]
    assert sum(it.value for it in parts if it) == found.new["WZ in SR"] - found.old["WZ in SR"] == 29
    one = [it.shifts["WZ in SR"] for it in answer(between(), 1000, False).parts]
    assert [(it.value, it.order) for it in one if it] == [(1, 0), (4, 0), (24, 0)]


def test_the_terminal_says_how_parts_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    made = answer(between(), 1000, True)
    show(made)
    shown = capsys.readouterr().out
    assert "+8.0 ± 0.0 ± 7.0\n" in shown  # an error alone could be either
    assert "A part is the mean of both orders, ± its statistical error, ± half of the difference between" in shown
    assert "where this is as large as the part, the part depends on the order alone" in shown
    assert "Better" not in shown  # of numbers of events
    parts = tuple(replace(it, shifts={**it.shifts, "limit": None}) for it in made.parts)
    show(replace(made, total={**made.total, "limit": None}, parts=parts))
    assert "Better are parts of a limit or an error below zero, and of an AUC above zero." in capsys.readouterr().out


@pytest.mark.parametrize("broken", [frozenset({0}), frozenset({1, 2})])
def test_what_cannot_be_switched_alone_is_one_part(broken: frozenset[int]) -> None:
    found = answer(between([broken]), 1000, True)
    assert [it.changes for it in found.parts] == [("2.0", "3.0"), ("5.0",)]
    assert [it.together for it in found.parts] == ["analysis.yaml:3: no such region", ""]
    parts = [it.shifts["WZ in SR"] for it in found.parts]
    assert [(it.value, it.order) for it in parts if it] == [((5 + 25) / 2, 10), ((24 + 4) / 2, 10)]
    with pytest.raises(NanoMLError, match="no such region"):
        answer(between([frozenset()]), 1000, True)


def test_changes_are_in_the_order_of_the_analysis_and_states_of_two_analyses_are_refused() -> None:
    old = {"datasets": {"WZ": {"cross_section": 1, "files": "a"}}, "train": {"seed": 1}, "style": {"label": "a"}}
    new = {"datasets": {"WZ": {"cross_section": 2, "files": "b"}}, "train": {"seed": 2}, "regions": {"SR": "1"}}
    states = [replace(BASE, settings=it) for it in (old, new)]
    assert [str(it) for it in changes(*states)] == [
        "datasets.WZ.cross_section: 1 -> 2", 'regions: new: {"SR": "1"}', "network: train.seed 1 -> 2",
    ]  # fmt: skip
    other = replace(BASE, settings={"datasets": {"ZZ": {}}})
    with pytest.raises(NanoMLError, match="have no dataset in common: these are two analyses"):
        changes(BASE, other)


def templates(events: np.ndarray) -> Templates:
    """Events of signal and background in 20 groups and 50 bins of the score."""
    axes = (TemplateAxis("event % 20", tuple(range(GROUPS + 1))), TemplateAxis("signal", tuple(range(SCORE_BINS + 1))))
    filled = (Template(np.pad(it, 1), np.pad(it, 1)) for it in events)
    channel = HistogramChannel("SR", None, dict(zip(("signal", "WZ"), filled)))
    return Templates("test", (FilledHistogram(HISTOGRAM, axes, (channel,)),), ("signal", "WZ"), "signal", {"": None})


def measured(events: np.ndarray, directory: Path) -> Measured:
    templates(events).write(directory / "histograms.h5")
    measure(directory / "histograms.h5", directory / "measured.json", [], [])
    return read(Measured, directory / "measured.json", "")


def test_errors_are_those_of_the_events_that_differ(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    score, group = random.random(20_000) ** np.repeat([0.5, 2], 10_000), random.integers(GROUPS, size=20_000)

    def filled(kept: np.ndarray) -> np.ndarray:
        place = (np.repeat([0, 1], 10_000), group, (score * SCORE_BINS).astype(int))
        return np.histogramdd([it[kept] for it in place], [range(3), range(21), range(51)])[0]

    every = np.ones(20_000, bool)
    most = every & (random.random(20_000) > 0.04)
    old, new = (measured(filled(it), tmp_path) for it in (every, most))
    found = shift([(old, new)], "WZ in SR")
    lost = int((~most[10_000:]).sum())
    assert found is not None
    assert found.value == -lost
    assert found.error == pytest.approx(lost**0.5, rel=0.5)  # not the square root of twice 10,000
    assert old.values["AUC in SR"] == pytest.approx(0.8, abs=0.01)  # 1 - E[background's distribution at the signal]
    moved = shift([(old, new)], "AUC in SR")
    assert moved is not None
    assert abs(moved.value) < 5 * moved.error < 0.01
    assert shift([(old, old)], "AUC in SR") == replace(moved, value=0.0, error=0.0, order=0.0)
