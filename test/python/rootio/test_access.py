"""Files: reports of what is read, to a server that stands in for CMS's own; names of branches in each version; histograms."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from uproot.writing.identify import to_TAxis, to_TH1x, to_THashList, to_TObjString, to_TProfile

from MLTools.NanoML.config.load import load
from MLTools.NanoML.errors import ConfigError
from MLTools.NanoML.rootio import access, versions
from MLTools.NanoML.rootio.histograms import add_histogram, bins_of, is_histogram
from MLTools.NanoML.rootio.rootfile import RootFile
from MLTools.NanoML.terminal import progress
from services.xrootd import Storage

Told = tuple[str, list[Any]]
ReadWith = Callable[..., None]


@pytest.fixture
def traces() -> Iterator[Told]:
    """The address of a server, and what it was told."""
    told: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    access._report.cache_clear()
    progress._notes.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/traces/", told
        server.shutdown()


@pytest.fixture
def central(tmp_path: Path, sample: Path) -> Path:
    """A file with a logical name of CMS, as on a site's disk."""
    path = tmp_path / "store" / "mc" / "WZ" / "NANOAODSIM" / "a.root"
    path.parent.mkdir(parents=True)
    shutil.copy(next(sample.glob("*/*.root")), path)
    return path


def entries(path: object) -> int:
    with RootFile(str(path)) as file:
        return file.entries


def test_nothing_is_sent_unasked(central: Path, traces: Told, read_with: ReadWith) -> None:
    server, told = traces
    for settings in ({}, {"report_to": server}, {"report_sites": {str(central.parents[4]): "T2_DE_DESY"}}):
        read_with(**settings)
        access._report.cache_clear()
        assert entries(central)
    own = shutil.copy(central, central.parents[4] / "own.root")
    read_with(report_to=server, report_sites={str(central.parents[4]): "T2_DE_DESY"})
    assert entries(own)
    assert told == []


@pytest.mark.service
def test_each_file_is_reported_once(
    central: Path, traces: Told, storage: Storage, read_with: ReadWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("XRootD")
    server, told = traces
    monkeypatch.setenv("RUCIO_ACCOUNT", "jane")
    read_with(report_to=server, report_sites={storage.url: "T2_CH_CERN", str(central.parents[4]): "T2_DE_DESY"})
    shutil.copytree(central.parents[3], storage.directory / "reported" / "store")
    url = f"{storage.url}/reported/store/mc/WZ/NANOAODSIM/a.root"
    assert entries(url) == entries(url) == entries(central) == entries(central)
    common = {"eventType": "touch", "clientState": "DONE", "account": "jane", "scope": "cms"}
    sites = [{"localSite": site, "remoteSite": site} for site in ("T2_CH_CERN", "T2_DE_DESY")]
    assert told == [{**common, "filename": "/store/mc/WZ/NANOAODSIM/a.root", **each} for each in sites]


def test_a_failure_is_told_and_the_server_is_not_asked_again(
    central: Path, traces: Told, read_with: ReadWith, capsys: pytest.CaptureFixture[str]
) -> None:
    server, told = traces
    sites = {str(central.parents[4]): "T2_DE_DESY"}
    for address in ("http://127.0.0.1:1/traces/", "http://[::/"):
        progress._notes.clear()
        access._report.cache_clear()
        read_with(report_to=address, report_sites=sites)
        assert entries(central)
        assert "read.report_to: files that are read could not be reported" in capsys.readouterr().err
    read_with(report_to=server, report_sites=sites)
    assert entries(shutil.copy(central, central.with_name("b.root")))
    assert told == []
    progress._notes.clear()


@pytest.mark.parametrize(
    ("text", "said"),
    [("report_to: rucio", "an address such as http"), ("report_sites: {/eos/: CERN}", "a site such as T2_CH_CERN")],
)
def test_mistakes_are_told(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"read: {{{text}}}\n")
    with pytest.raises(ConfigError, match=said):
        load(tmp_path / "a.yaml")


def test_a_branch_is_found_under_its_name_in_another_version() -> None:
    assert versions.resolve("MET_pt", {"MET_pt", "PFMET_pt"}) == "MET_pt"
    assert versions.resolve("MET_pt", {"PFMET_pt", "PuppiMET_pt"}) == "PFMET_pt"
    assert versions.resolve("PFMET_phi", {"MET_phi"}) == "MET_phi"
    assert versions.resolve("MET_pt", {"PuppiMET_pt"}) is None
    assert versions.resolve("fixedGridRhoAll", {"Rho_fixedGridRhoAll"}) == "Rho_fixedGridRhoAll"
    assert versions.resolve("Rho_fixedGridRhoAll", {"fixedGridRhoAll"}) == "fixedGridRhoAll"
    # globs keep the order of the file
    assert versions.expand("Muon_*", ["Muon_pt", "Electron_pt", "Muon_eta"]) == ["Muon_pt", "Muon_eta"]
    assert versions.expand("MET_*", ["PFMET_pt", "PFMET_phi"]) == ["PFMET_pt", "PFMET_phi"]
    assert versions.expand("Tau_*", ["Muon_pt"]) == []


def test_other_momenta_are_mentioned_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_notes", {})
    assert versions.resolve("PFMET_pt", ["MET_pt"]) == "MET_pt"
    assert versions.resolve("MET_pt", ["MET_pt", "PFMET_pt"]) == "MET_pt"
    assert capsys.readouterr().err == ""
    for _ in range(2):
        assert versions.expand("MET_*", ["PFMET_pt"]) == ["PFMET_pt"]
        assert versions.resolve("MET_phi", ["PFMET_phi"]) == "PFMET_phi"
    (line,) = capsys.readouterr().err.splitlines()
    assert "PFMET_*" in line
    assert "Run 3 analyses use PuppiMET" in line


def test_the_collection_of_a_branch() -> None:
    for name, counter, collection in (
        *(("Muon_pt", "nMuon", "Muon"), ("Muon_pt", None, "Muon"), ("Odd_thing", None, "Odd")),
        ("Muon_highPtId", "nMuon_highPtId", "Muon"),  # a counter of the branch's own says nothing
        ("Proton_multiRP_arm", "nProton_multiRP", "Proton_multiRP"),
        ("LHEPdfWeight", "nLHEPdfWeight", "LHEPdfWeight"),
    ):
        available = {"nMuon", "nMuon_highPtId", "nProton_multiRP", "nLHEPdfWeight", name}
        assert versions.collection_of(name, counter, available) == collection


def written(path: Path, **histograms: Any) -> list[Any]:
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
    sums = (3.0, 3, 3, 1, 1, 1, 1)
    p, q = (to_TProfile("p", "t", k * ones, *sums, k * ones, 2 * ones, ones, axis()) for k in (1, 3))
    one, two = written(tmp_path / "a.root", one=p, two=q)
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
