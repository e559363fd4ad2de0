"""Bins of a score that are chosen by what is expected in them; densities at single events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from MLTools.NanoML.contracts.bins import FINE, bins_of_channels, chosen_bins, fine_edges, with_background
from MLTools.NanoML.contracts.densities import Densities, UnbinnedChannel, UnbinnedChannels
from MLTools.NanoML.contracts.templates import DATA, Template, summed
from MLTools.NanoML.errors import NanoMLError

expected = st.lists(st.floats(0, 100), min_size=20, max_size=20).map(np.array)


@given(expected, expected, st.floats(0.1, 50), st.integers(1, 20))
def test_what_each_bin_has(signal: np.ndarray, background: np.ndarray, least: float, most: int) -> None:
    squares = background * 0.5
    edges = chosen_bins(signal, background, squares, least, most)
    assert edges[0] == 0
    assert edges[-1] == 20
    assert edges == sorted(set(edges))
    s, b, w2 = (np.add.reduceat(values, edges[:-1]) for values in (signal, background, squares))
    if len(edges) > 2:
        assert (b > 0).all()
        assert (b**2 >= least * w2 * (1 - 1e-9)).all()
        assert (np.diff(s / (s + b)) > -1e-12).all()


def test_as_many_as_are_asked_for_and_as_have_events() -> None:
    score = (np.arange(1000) + 0.5) / 1000
    edges = chosen_bins(score * 10, (1 - score) * 1000, (1 - score) * 1000, 10.0, 10)
    assert 8 <= len(edges) - 1 <= 20
    assert chosen_bins(score * 10, (1 - score) * 1000, (1 - score) * 1000, 1e9, 10) == [0, 1000]
    nothing = np.zeros(10)
    assert chosen_bins(nothing, nothing, nothing, 10.0, 5) == [0, 10]
    assert chosen_bins(nothing + 1, nothing, nothing, 10.0, 5) == [0, 10]
    # bins in which more is subtracted than there is join their neighbours
    background = np.array([100.0, 50, -20, 40, 5])
    edges = chosen_bins(np.array([0.0, 1, 2, 3, 4]), background, np.abs(background), 1.0, 10)
    assert (np.add.reduceat(background, edges[:-1]) > 0).all()


def test_fine_bins() -> None:
    edges = fine_edges()
    assert len(edges) == FINE + 1
    assert np.searchsorted(edges, [0.0, 1.0, np.float32(1)], "right").tolist() == [1, FINE, FINE]
    assert (np.diff(edges) > 0).all()
    inner = np.array(edges[1:-1])
    assert np.diff(np.log(inner / (1 - inner))) == pytest.approx(0.032, abs=0.009)
    assert f"{edges[600]}, {edges[900]}" == "0.9608, 0.99999724"


@pytest.mark.parametrize(("distance", "least"), [(4, 0.95), (5, 0.93)])
def test_little_signal_in_much_background_keeps_its_significance(distance: float, least: float) -> None:
    """Ten events of a Gaussian over 1e5 of another one: in 1,000 even bins 43 % and 38 % of the significance
    were left."""
    edges = np.array(fine_edges()).clip(0, 1)
    with np.errstate(divide="ignore"):
        x = np.log(edges / (1 - edges)) / distance + distance / 2  # the score is optimal
    signal, background = 10 * -np.diff(norm.sf(x - distance)), 1e5 * -np.diff(norm.sf(x))
    starts = chosen_bins(signal, background, background / 1e9)

    def significance(s: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(2 * ((s + b) * np.log1p(s / b) - s).sum()))

    fine = np.linspace(-10, 15, 100_001)
    optimum = significance(10 * norm.pdf(fine - distance) * 0.00025, 1e5 * norm.pdf(fine) * 0.00025)
    found = significance(*(np.add.reduceat(it, starts[:-1]) for it in (signal, background)))
    assert least < found / optimum < 1


def test_bins_are_joined_until_no_channel_has_signal_without_background() -> None:
    signal, background = np.array([1.0, 1, 1, 1, 1]), np.array([5.0, 0, 5, 5, 0])
    assert with_background([0, 1, 2, 3, 4], [signal], [background]) == [0, 2, 3]
    other = np.array([0.0, 5, 5, 0, 5])
    assert with_background([0, 1, 2, 3, 4], [signal, signal], [background, other]) == [0, 2, 3]
    assert with_background([0, 1, 4], [signal, signal], [background, other]) == [0]
    assert with_background([0, 3], [signal, signal], [background, other]) == [0, 3]
    # bins without signal need none, and a channel without background cannot have any
    assert with_background([0, 1, 2, 3, 4], [np.array([0.0, 0, 1, 1, 0])], [background]) == [0, 1, 2, 3, 4]
    assert with_background([0, 1], [signal, signal], [background, 0 * background]) == [0, 1]
    assert with_background([0, 1], [signal], [0 * background]) == []


channels = arrays(np.float64, (3, 8), elements=st.sampled_from([0.0, 1.0]))


@given(channels, channels)
def test_joined_bins_of_any_channels_have_background(signals: Any, backgrounds: Any) -> None:
    starts = with_background([*range(8)], [*signals], [*backgrounds])
    channels = [(s, b) for s, b in zip(signals, backgrounds) if b.sum() > 0]
    assert bool(starts) == bool(channels)
    for start, end in zip(starts, [*starts[1:], 8]):
        assert all(b[start:end].sum() > 0 or s[start:end].sum() == 0 for s, b in channels)


weights = st.floats(-2, 10).map(lambda it: round(it, 3))
each_bin = [arrays(np.float64, (3, 12), elements=it) for it in (st.floats(-1, 5), weights, st.floats(0, 20))]


@given(*each_bin, st.floats(0.1, 20), st.integers(1, 12))
def test_each_channel_fills_each_bin(signals: Any, backgrounds: Any, squares: Any, least: float, most: int) -> None:
    edges = bins_of_channels(np.stack([signals, backgrounds, squares], axis=1), least, most, least)
    assert [edges[0], edges[-1]] == [0, 12]
    b, w2 = (np.add.reduceat(it, edges[:-1], axis=1)[squares.any(axis=1)] for it in (backgrounds, squares))
    assert len(edges) == 2 or ((b > 0) & (b**2 >= least * w2 * (1 - 1e-9))).all()


def test_the_weakest_channel_decides() -> None:
    """One with an eighth of the events, of weight one, has 10 in each bin, and the number of bins is the largest that it can have."""
    score, even = (np.arange(200) + 0.5) / 200, np.ones(200)
    strong, weak, empty = (np.stack([2 * share * score, share * even, share * even]) for share in (4.0, 0.5, 0.0))
    edges = bins_of_channels([strong, weak, empty], 10, 50, 10)
    assert np.diff(edges).tolist() == [20] * 10
    assert len(bins_of_channels([strong, weak, empty], 10, 50)) > 40
    assert bins_of_channels([strong, weak / 11, empty], 10, 50, 10) == [0, 200]


WIDTHS = np.array([0.5, 0.25, -0.25])
"""Of three events of the reference; two of data come behind them."""


def singles(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def channel() -> UnbinnedChannel:
    varied = {"jes": singles(3, 4, 4, 1, 1)}, {"jes": singles(1, 4, 4, 1, 1)}
    processes = {"WZ": Densities(singles(2, 4, 4, 1, 1), *varied), "ZZ": Densities(singles(1, 3, 2, 1, 1))}
    return UnbinnedChannel("SR", "2018", 2, WIDTHS, processes)


def test_the_file_has_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "densities.h5"
    blind = UnbinnedChannel("CR", None, None, WIDTHS, {"ZZ": Densities(singles(1, 1, 1))})
    UnbinnedChannels("NanoML", (channel(), blind)).write(path)
    found, other = UnbinnedChannels.read(path).channels
    assert (found.name, found.observed, other.name, other.observed) == ("SR_2018", 2, "CR", None)
    np.testing.assert_array_equal(found.widths, WIDTHS)
    assert [*found.processes] == ["WZ", "ZZ"]
    for name, it in channel().processes.items():
        same = found.processes[name]
        assert same.nominal.dtype == np.float32
        np.testing.assert_array_equal(same.nominal, it.nominal)
        for side in ("up", "down"):
            mine, wanted = getattr(same, side), getattr(it, side)
            assert mine.keys() == wanted.keys()
            assert all(np.array_equal(mine[key], wanted[key]) for key in wanted)


def test_in_one_bin_there_is_the_sum_over_the_reference() -> None:
    found = channel().counted.processes
    assert found["WZ"].nominal.tolist() == [0, 1, 0]
    assert found["WZ"].variances.tolist() == [0, 1 + 1 + 1, 0]
    assert (found["WZ"].up["jes"][1], found["WZ"].down["jes"][1]) == (1.5, 0.5)
    assert found[DATA].nominal.tolist() == [0, 2, 0]
    assert DATA not in replace(channel(), observed=None, processes={}).counted.processes


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NanoMLError, match="SR_2018: 36 % of the weights of the reference are negative. Fit it in bins"):
        replace(channel(), widths=np.array([0.5, 0.4, -0.5]))
    for bad in (singles(1, 1, 1, 1), singles(1, 1, np.nan, 1, 1)):
        with pytest.raises(NanoMLError, match="SR_2018: densities of ZZ are not 5 finite numbers"):
            replace(channel(), processes={"ZZ": Densities(bad)})
    path = tmp_path / "densities.h5"
    with pytest.raises(NanoMLError, match="no such file"):
        UnbinnedChannels.read(path)
    path.write_text("no HDF5")
    with pytest.raises(NanoMLError, match="is not a file of densities, or is damaged"):
        UnbinnedChannels.read(path)


def test_what_varies_one_of_several_has_the_errors_of_the_others_as_they_are() -> None:
    def of(*numbers: float) -> np.ndarray:
        return np.array(numbers)

    one = Template(of(1.0, 2.0), of(3.0, 4.0), *({"jes": of(*pair)} for pair in ((5, 6), (7, 8), (9, 10), (11, 12))))
    found = summed([one, Template(of(10.0, 20.0), of(30.0, 40.0))])
    assert (found.up["jes"].tolist(), found.down["jes"].tolist()) == ([15, 26], [17, 28])
    assert (found.up_variances["jes"].tolist(), found.down_variances["jes"].tolist()) == ([39, 50], [41, 52])
