from __future__ import annotations

import functools
import http.server
import os
import threading
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from conftest import ROOT

from MLTools.NanoML.corrections import Corrections, Factor
from MLTools.NanoML.corrections.era import find_file, local_files
from MLTools.NanoML.errors import ConfigError, NanoMLError
from services import real

INVENTED = ROOT / "examples" / "corrections"
IDENTIFIED = "electron: {file: electron.json, name: Electron-ID-SF, inputs: {year: 2018, WorkingPoint: Loose}}"
PILEUP = "pileup: {file: pileup.json, name: Collisions}"


def era(folder: Path, text: str, *copied: str) -> Corrections:
    for name in copied:
        (folder / name).write_bytes((INVENTED / "2018" / name).read_bytes())
    return real.era(folder, text)


def test_a_damaged_file_is_named_with_the_line_that_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(ConfigError, match=r"era.yaml:1: pileup: .*cut.json: .*Fetch it again"):
        era(tmp_path, "pileup: {file: cut.json, name: Collisions}")


def test_an_entry_gives_the_nominal_value_and_its_variations() -> None:
    corrections = Corrections.read(INVENTED / "2018.yaml")
    eta, pt = ak.Array([[0.5, -2.0], []]), ak.Array([[40.0, 50.0], []])
    found, plain = corrections.muon_id(eta, pt), corrections.muon_id.correction
    for name, key in (("nominal", "nominal"), ("up", "systup"), ("down", "systdown")):
        assert found[name].tolist() == plain(eta, pt, key).tolist()
    expected = corrections.electron_id.correction("2018", "sfup", "Loose", eta, pt)
    assert corrections.electron_id(eta, pt)["up"].tolist() == expected.tolist()
    assert list(corrections.pileup(np.array([30.0])).variations) == ["up", "down"]


def test_a_product_is_that_of_an_events_objects_or_of_factors() -> None:
    values = ak.Array([[2.0, 3.0], [], [5.0]])
    found = Factor(values, {"up": values + 1}).product()
    assert (found.nominal.tolist(), found["up"].tolist()) == ([6.0, 1.0, 5.0], [12.0, 1.0, 6.0])
    one = Factor(np.array([2.0]), {"up": np.array([3.0])})
    product = one * Factor(np.array([10.0]), {"up": np.array([11.0]), "other_up": np.array([12.0])})
    # variations of one name are one nuisance parameter
    assert (product.nominal, product["up"], product["other_up"], product["other_down"]) == (20.0, 33.0, 24.0, 20.0)
    assert list(one.named("muon").variations) == ["muon_up"]


def test_variations_may_have_any_names_and_a_year_may_look_like_a_number(tmp_path: Path) -> None:
    assert era(tmp_path, IDENTIFIED, "electron.json").electron(0.1, 50.0).nominal > 0.9
    text = PILEUP.replace("}", ", variations: {nominal: nominal, up: down, down: up}}")
    found = era(tmp_path, text, "pileup.json").pileup(np.array([40.5]))
    usual = era(tmp_path, PILEUP, "pileup.json").pileup(np.array([40.5]))
    assert (found["up"], found["down"]) == (usual["down"], usual["up"])


def test_a_file_of_the_network_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(INVENTED / "2018"))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        text = PILEUP.replace("pileup.json", f"{address}/pileup.json")
        first = era(tmp_path, text)
        assert first.files == [f"{address}/pileup.json"]  # which is the same for every machine
        with pytest.raises(NanoMLError, match=r"nothing.json: cannot download"):
            era(tmp_path, PILEUP.replace("pileup.json", f"{address}/nothing.json"))
        server.shutdown()
    assert era(tmp_path, text).digests == first.digests


JETS = "jets: {file: jets.json, algorithm: AK4PF, jec: {simulation: Invented2018_V1_MC}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PILEUP.replace("pileup.j", "none.j"), r"era.yaml:1: pileup: there is no file none.json in .*CVMFS is not"),
        (PILEUP.replace("Coll", "Col"), r"era.yaml:1: pileup: .*has no correction Colisions. Did you mean .Collisions"),
        (PILEUP.replace("name:", "nam:"), "era.yaml:1: pileup.*name"),
        (PILEUP.replace("}", ", inputs: {weight: up}}"), "Collisions has no input weight. Did you mean .weights"),
        (
            IDENTIFIED.replace("Loose", "Lose"),
            "electron: inputs: WorkingPoint is Lose. Did you mean .Loose.*It may be Reco",
        ),
        (PILEUP.replace("}", ", variations: {up: up}}"), "era.yaml:1: pileup: variations: write a name for `nominal`"),
        (PILEUP.replace("}", ", variations: {nominal: nom}}"), "variations: .* It has weights: nominal, up, down"),
        (JETS.replace("Invented", "Wrong"), "era.yaml:1: jets: .*has no correction Wrong2018_V1_MC_L1L2L3Res_AK4PF"),
        (JETS.replace("}}", "}, sources: [Totl]}"), "has no correction Invented2018_V1_MC_Totl_AK4PF"),
        (JETS.replace("_MC", "_MC, data: {A: B}"), "era.yaml:1: jets.jec.data"),
    ],
)
def test_what_cannot_work_is_an_error_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        era(tmp_path, text, "pileup.json", "jets.json", "electron.json")


def test_an_entry_that_is_not_there_is_an_error_with_the_choices() -> None:
    corrections = Corrections.read(INVENTED / "2018.yaml")
    assert "muon_id" in dir(corrections)
    assert "muon_id" in corrections
    with pytest.raises(ConfigError, match=r"has no corrections named muon_idd. Did you mean .muon_id.*It has: pileup,"):
        _ = corrections.muon_idd


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that the environment names, by a path relative to the current directory."""
    (tmp_path / "own" / "POG").mkdir(parents=True)
    (tmp_path / "own" / "POG" / "b.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANOML_CORRECTIONS", "own")
    return tmp_path / "own"


def test_files_that_are_only_here(tmp_path: Path, own: Path) -> None:
    (tmp_path / "era").mkdir()
    (tmp_path / "era" / "a.json").touch()
    names = ("a.json", "a.json", "POG/b.json", "https://cern.ch/c.json", "none.json", "/cvmfs/d.json")
    text = "\n".join(f"n{number}: {{file: {name}}}" for number, name in enumerate(names))
    (tmp_path / "era" / "era.yaml").write_text(f"{text}\nodd: 1\n")
    assert local_files(tmp_path / "era" / "era.yaml") == [tmp_path / "era" / "a.json", own / "POG" / "b.json"]


def test_the_environment_is_asked_after_the_directory(tmp_path: Path, own: Path) -> None:
    assert find_file("POG/b.json", tmp_path, "here") == own / "POG" / "b.json"
    (tmp_path / "POG").mkdir()
    (tmp_path / "POG" / "b.json").touch()
    assert find_file("POG/b.json", tmp_path, "here") == tmp_path / "POG" / "b.json"


@pytest.mark.skipif(os.path.exists("/cvmfs"), reason="is for machines without CVMFS")
def test_a_path_on_cvmfs_where_it_is_not_mounted(tmp_path: Path) -> None:
    name = "/cvmfs/cms-griddata.cern.ch/cat/metadata/JME/a.json"
    with pytest.raises(ConfigError, match=r"a.yaml:3: there is no file /cvmfs/.* write JME/a.json, and copy it"):
        find_file(name, tmp_path, "a.yaml:3")
