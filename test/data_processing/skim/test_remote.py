"""Commands on remote files give what they give on local ones, also while a server dies."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot

from data_processing.skim.plan import SkimJob
from data_processing.skim.skim import skim_file
from MLTools.NanoML.nanoaod.provenance import Provenance
from MLTools.NanoML.rootio import rootfile
from MLTools.NanoML.rootio.rootfile import RootFile
from processes import nanoml, running
from services.daemons import wait_for
from services.xrootd import Cluster, Storage

pytestmark = pytest.mark.service

SKIM = ("skim", "--selection", "MLTools.NanoML.trilepton:Trilepton", "--keep", "MET_*")


@pytest.fixture(autouse=True)
def _client(read_with: Callable[..., None]) -> None:
    pytest.importorskip("XRootD")
    read_with()


def done(directory: Path, *words: object) -> None:
    ended = nanoml(*words, cwd=directory)
    assert ended.returncode == 0, ended.stderr


def assert_same_skims(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.glob("*.root"))
    assert names == sorted(path.name for path in other.glob("*.root"))
    assert names
    for name in names:
        with RootFile(one / name) as first, RootFile(other / name) as second:
            branches = list(first.branches)
            assert branches == list(second.branches)
            found, wanted = first.read(branches), second.read(branches)
            assert all(ak.to_list(found[each]) == ak.to_list(wanted[each]) for each in branches)
            told = [Provenance.of(file) for file in (first, second)]
            assert told[0] is not None
            assert told[1] is not None
            accounting = [record.accounting.to_json() for record in told if record]
            for record in accounting:
                for file in record["files"]:
                    file["file"] = Path(file["file"]).name
            assert accounting[0] == accounting[1]


def test_what_is_kept_is_read_in_parts(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    with uproot.recreate(storage.directory / "events.root") as file:
        types = {"run": "u4", "luminosityBlock": "u4", "event": "u8", "genWeight": "f4", "MET_pt": "f4"}
        tree = file.mktree("Events", {**types, "Jet_pt": "var * float32"})
        for start in range(0, 20_000, 500):
            rows: dict[str, object] = {name: np.ones(500, kind) for name, kind in types.items()}
            lists = ak.unflatten(np.arange(1000, dtype="f4"), random.multinomial(1000, [1 / 500] * 500))
            tree.extend({**rows, "event": np.arange(start, start + 500), "MET_pt": random.random(500), "Jet_pt": lists})
    monkeypatch.setattr(rootfile, "_PORTION", 5_000)
    for place, source in (("here", storage.directory / "events.root"), ("there", f"{storage.url}/events.root")):
        job = SkimJob(str(source), tmp_path / place / "out.root", cut="MET_pt > 0.9", keep=("Jet_pt",), chunk=3_000)
        assert 1_000 < skim_file(job).selected < 3_000
    with RootFile(f"{storage.url}/events.root") as file:
        parts = list(file.portions(["Jet_pt", "run"], 100, 3_000))
        assert len(parts) > 1
        assert parts[0][0] == 100
        assert all(end % 500 == 0 for _, end in parts)
        monkeypatch.setattr(rootfile, "_PORTION", 1)
        assert list(file.portions(["Jet_pt", "run"], 100, 600)) == [(100, 500), (500, 600)]
    assert_same_skims(tmp_path / "here", tmp_path / "there")


@pytest.mark.exhaustive("servers that are killed")
def test_a_skim_of_a_redirector_of_which_a_server_is_killed(
    xrootd_cluster: Callable[..., Cluster], sample: Path, tmp_path: Path
) -> None:
    files = {f"/store/mc/{path.name}": path for path in sorted(sample.glob("*/*.root"))}
    cluster = xrootd_cluster(files)
    done(tmp_path, *SKIM, "-o", "local", *files.values())
    urls = [f"{cluster.url}{name}" for name in files]
    line = [sys.executable, "-m", "MLTools.NanoML.cli", *SKIM, "--workers", "2", "--redirector", cluster.url]
    with running([*line, "-o", "remote", *urls], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: any((tmp_path / "remote").glob("*.root")), "a skim")
        cluster.servers[0].kill()
        told = process.communicate(timeout=300)[1]
    assert process.returncode == 0, told
    assert_same_skims(tmp_path / "local", tmp_path / "remote")


def test_copies_first(xrootd: Cluster, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    name = "ZGToLLG/ZGToLLG_0.root"
    done(tmp_path, *SKIM, "-o", "local", sample / name)
    url = f"{xrootd.url}/store/{name}"
    done(tmp_path, *SKIM, "--copy-first", "--redirector", xrootd.url, "-o", "remote", url)
    assert_same_skims(tmp_path / "local", tmp_path / "remote")
    assert not list((tmp_path / "scratch").glob("nanoml-*.root"))


def test_conversion(xrootd: Cluster, sample: Path, tmp_path: Path) -> None:
    names = [f"ZGToLLG/ZGToLLG_{number}.root" for number in range(2)]
    convert = ("convert", "--branches", "MET_pt", "--objects", "Muon:3")
    done(tmp_path, *convert, "-o", "local.h5", *(sample / name for name in names))
    urls = [f"{xrootd.url}/store/{name}" for name in names]
    done(tmp_path, *convert, "--redirector", xrootd.url, "-o", "remote.h5", *urls)
    with h5py.File(tmp_path / "local.h5") as local, h5py.File(tmp_path / "remote.h5") as remote:
        for name in ("events", "Muon"):
            assert local[name][:].tobytes() == remote[name][:].tobytes()


def test_nothing_is_reachable(xrootd: Cluster, tmp_path: Path) -> None:
    urls = [f"{xrootd.url}/store/ZGToLLG/ZGToLLG_0.root", "root://127.0.0.1:1//store/none.root"]
    ended = nanoml(*SKIM, "--redirector", "root://127.0.0.1:1/", "-o", "out", *urls, cwd=tmp_path)
    told = ended.stderr
    assert ended.returncode == 1
    assert "skim none: root://127.0.0.1:1//store/none.root: read error after 3 tries at 1 source (127.0.0.1:1: " in told
    assert (
        "Nothing was written for it; 1 of 2 files are done. Run the same command again to retry, or allow a loss with "
        "--max-missing-files 1." in told
    )
    assert "Traceback" not in told
