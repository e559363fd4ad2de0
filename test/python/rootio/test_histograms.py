from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from uproot.writing.identify import to_TAxis, to_TH1x, to_THashList, to_TObjString, to_TProfile

from MLTools.NanoML.rootio.histograms import add_histogram, bins_of, is_histogram


def written(path: Path, **histograms: Any) -> list[Any]:
    """Histograms as they are read back."""
    with uproot.recreate(path) as file:
        for name, histogram in histograms.items():
            file[name] = histogram
    with uproot.open(path) as file:
        return [file[name] for name in histograms]


def axis(labels: str = "") -> Any:
    if not labels:
        return to_TAxis("xaxis", "pt", 3, 0.0, 3.0)
    names = to_THashList([to_TObjString(label) for label in labels])
    for number, name in enumerate(names, 1):
        name._bases[0]._members["@fUniqueID"] = number  # ROOT's way to say which bin a label is of
    return to_TAxis("xaxis", "pt", 3, 0.0, 3.0, fLabels=names)


def th1(contents: list[float], squares: list[float], kind: str = "f8", labels: str = "") -> Any:
    data = np.array(contents, kind)
    return to_TH1x("h", "t", data, sum(contents), 1.0, 2.0, 3.0, 4.0, np.array(squares, "f8"), axis(labels))


def test_histograms_of_each_dimension_are_added_bin_by_bin(tmp_path: Path) -> None:
    points = np.random.default_rng(1).normal(size=(2, 3, 100))
    edges = np.array([-1.0, 0, 0.5, 2])  # some points are beyond them
    one, two = (
        written(
            tmp_path / f"{n}.root",
            h1=np.histogram(x, edges),
            h2=np.histogram2d(x, y, (edges, edges)),
            h3=np.histogramdd((x, y, z), (edges, edges, edges)),
        )
        for n, (x, y, z) in enumerate(points)
    )
    everything = np.concatenate(list(points), axis=1)
    for number in range(3):
        assert add_histogram(one[number], two[number]) is None
        found = one[number].values()
        assert np.array_equal(found, np.histogramdd(everything[: number + 1].T, [edges] * (number + 1))[0])
        assert found.sum() > two[number].values().sum() > 0


def test_errors_and_what_means_are_made_of_are_added_and_can_be_written(tmp_path: Path) -> None:
    one, two = written(
        tmp_path / "a.root",
        # of the second, ROOT has not noted the squares of weights: they are 1
        one=th1([0, 1, 2, 3, 9], [0, 0.5, 0.25, 3, 9], labels="abc"),
        two=th1([1, 1, 0, 4, 5], [], labels="abc"),
    )
    assert add_histogram(one, two) is None
    (found,) = written(tmp_path / "b.root", sum=one)
    assert found.values(flow=True).tolist() == [1, 2, 2, 7, 14]
    assert [each.tolist() for each in bins_of(found)] == [[1, 2, 2, 7, 14], [1, 1.5, 0.25, 7, 14]]
    assert found.axis().labels() == ["a", "b", "c"]
    statistics = [found.member(name) for name in ("fEntries", "fTsumw", "fTsumw2", "fTsumwx", "fTsumwx2")]
    assert statistics == [26, 2, 4, 6, 8]


def test_profiles_are_added(tmp_path: Path) -> None:
    ones = np.array([0.0, 1, 1, 1, 0])
    profiles = [
        to_TProfile("p", "t", k * ones, 3.0, 3, 3, 1, 1, 1, 1, k * ones, 2 * ones, ones, axis()) for k in (1, 3)
    ]
    one, two = written(tmp_path / "a.root", one=profiles[0], two=profiles[1])
    assert add_histogram(one, two) is None
    assert [each.tolist() for each in bins_of(one)] == [(k * ones).tolist() for k in (4, 4, 4, 2)]


@pytest.mark.parametrize(
    ("labels", "other", "problem"),
    [
        ("", np.histogram([0.5], [0.0, 1, 2]), "has different axes"),
        ("", np.histogram([0.5], [0.0, 1, 2.5, 3]), "has different axes"),
        ("abc", th1([0, 1, 2, 3, 9], [], labels="acb"), "has different axes"),
        ("abc", th1([0, 1, 2, 3, 9], []), "has different axes"),
        ("", np.histogram2d([0.5], [0.5], ([0.0, 1, 2, 3], [0.0, 1])), "is a TH1D and a TH2D"),
        ("", th1([0, 1, 2, 3, 9], [], "f4"), "is a TH1D and a TH1F"),
    ],
)
def test_histograms_that_are_not_of_a_kind_are_not_added(tmp_path: Path, labels: str, other: Any, problem: str) -> None:
    one, two = written(tmp_path / "a.root", one=th1([0, 1, 2, 3, 9], [], labels=labels), two=other)
    assert add_histogram(one, two) == problem
    assert one.values(flow=True).tolist() == [0, 1, 2, 3, 9]
    assert one.member("fEntries") == 15


def test_numbers_that_would_run_over_are_not_added(tmp_path: Path) -> None:
    big = th1([0, 2**31 - 1, 1, 0, 0], [], "i4")
    one, two = written(tmp_path / "a.root", one=big, two=big)
    assert add_histogram(one, two) == "has contents that are too large for its type"
    assert one.values().tolist() == [2**31 - 1, 1, 0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("TH1D", True), ("TH2F", True), ("TH3I", True), ("TProfile", True), ("TProfile2D", True),
     ("TH2Poly", False), ("THnSparseT<TArrayF>", False), ("TObjString", False), ("TTree", False)],
)  # fmt: skip
def test_classes_that_can_be_added(kind: str, expected: bool) -> None:
    assert is_histogram(kind) is expected
