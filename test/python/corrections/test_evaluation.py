from __future__ import annotations

import functools
import http.server
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from conftest import ROOT
from MLTools.NanoML.corrections import Correction, CorrectionFile, Corrections, Factor
from MLTools.NanoML.corrections.era import find_file, local_files
from MLTools.NanoML.errors import ConfigError, NanoMLError
from services import real
from services.invented import correction, write
from services.real import POG, plain

INVENTED = ROOT / "examples" / "corrections"
NAMES = (
    "EGM/2022_Summer22/electronSS EGM/2018_UL/photon JME/2018_UL/jmar JME/2022_Summer22/fatJet_jerc MUO/2018_UL/muon_Z"
)
FILES = [*sorted(INVENTED.glob("*/*.json")), *(POG / f"{name}.json.gz" for name in NAMES.split() if POG.is_dir())]
MUON = "NUM_HighPtID_DEN_TrackerMuons"


@pytest.fixture(scope="module")
def muon() -> Correction:
    return CorrectionFile(INVENTED / "2018" / "muon.json")[MUON]


def some_inputs(correction: Correction, number: int = 12) -> list[dict[str, Any]]:
    """Sets of texts and integers, each with plain columns of numbers in the range of the correction.

    Integers are alike in every other set: some files have nothing for some of them.
    """
    random = np.random.default_rng(1)
    words = {name: axis.choices[:4] or ("nom",) for name, axis in correction.axes.items() if axis.type == "string"}
    integers = {name: axis.choices or (0, 1, 10) for name, axis in correction.axes.items() if axis.type == "int"}
    sets = list(itertools.product(*words.values(), *integers.values()))
    found = []
    for turn, chosen in enumerate(sets[:: max(1, len(sets) // 16)]):
        row = dict(zip([*words, *integers], chosen))
        for name in integers:
            row[name] = random.choice(integers[name], number) if turn % 2 else np.full(number, row[name])
        for name, axis in correction.axes.items():
            low, high = axis.low if axis.low is not None else -2.3, axis.high if axis.high is not None else 2.3
            if name.lower().endswith("pt") or name in ("p", "Rho", "JetA", "NumTrueInteractions", "npvs"):
                low, high = max(low, 30.0), max(low, 30.0) + 300 if axis.high is None else max(axis.high, 31.0)
            if axis.type == "real":
                row[name] = random.uniform(low, high - 1e-9, number)
        found.append(row)
    return found


def each(correction: Correction, row: dict[str, Any]) -> list[float] | None:
    """Object by object by correctionlib itself; None if its file has nothing for one of them."""
    whole = plain(correction.file.path)
    evaluator = whole.compound[correction.name] if correction.is_compound else whole[correction.name]
    length = max((len(values) for values in row.values() if isinstance(values, np.ndarray)), default=1)
    made = []
    for place in range(length):
        at = {key: values[place].item() if isinstance(values, np.ndarray) else values for key, values in row.items()}
        try:
            made.append(evaluator.evaluate(*(at[name] for name in correction.inputs)))
        except Exception:
            return None
    return made


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.parts[-3:]))
def test_arrays_have_what_correctionlib_says_of_each_object(path: Path) -> None:
    file, compared = CorrectionFile(path), 0
    names = file.names if len(file.names) < 15 else file.names[:2] + file.names[2::9]
    for name in names:
        correction = file[name]
        for row in some_inputs(correction):
            expected = each(correction, row)
            if expected is None:
                with pytest.raises(NanoMLError, match=name):
                    correction(**row)
                continue
            assert np.array_equal(np.atleast_1d(correction(**row)), expected)
            counts = [3, 0, 4, 5]
            lists = {key: ak.unflatten(v, counts) if isinstance(v, np.ndarray) else v for key, v in row.items()}
            if any(isinstance(values, ak.Array) for values in lists.values()):
                ragged = correction(**lists)
                assert ak.num(ragged).tolist() == counts
                assert np.array_equal(ak.flatten(ragged), expected)
            compared += 1
    assert compared


def test_a_value_has_the_shape_of_its_inputs(muon: Correction) -> None:
    one = muon(0.1, 20, "nominal")
    assert isinstance(one, float)
    assert one == muon(np.array([0.1]), 20.0, "nominal")[0]
    assert muon(np.full((2, 3), 0.5), np.full((1, 3), 50.0), "nominal").shape == (2, 3)
    assert len(muon(np.array([]), np.array([]), "nominal")) == 0
    assert muon(ak.Array([[], []])[:, :0], 40.0, "nominal").tolist() == [[], []]
    found = muon(ak.Array([[[0.1], []], [], [[1.0, 2.0]]]), 40.0, "nominal")
    first, second, third = (muon(eta, 40, "nominal") for eta in (0.1, 1.0, 2.0))
    assert found.tolist() == [[[first], []], [], [[second, third]]]


def test_a_value_of_the_event_holds_for_all_its_objects() -> None:
    scale = CorrectionFile(INVENTED / "2018" / "jets.json")["Invented2018_V1_MC_L1L2L3Res_AK4PF"]
    eta, pt = ak.Array([[0.5, -2.0], [], [1.4]]), ak.Array([[40.0, 50.0], [], [60.0]])
    found = scale(JetA=0.5, JetEta=eta, JetPt=pt, Rho=ak.Array([10.0, 20.0, 30.0]))
    assert found[0, 1] == scale(0.5, -2.0, 50.0, 10.0)
    assert found[2, 0] == scale(0.5, 1.4, 60.0, 30.0)


def test_objects_that_are_left_out_have_one(muon: Correction) -> None:
    eta, pt = ak.Array([[0.1, 3.0], [1.0]]), ak.Array([[5.0, 40.0], [40.0]])
    found = muon(eta, pt, "nominal", where=(pt > 15) & (abs(eta) < 2.4))
    assert found.tolist() == [[1.0, 1.0], [muon(1.0, 40.0, "nominal")]]


def test_pt_beyond_the_last_bin_takes_the_last_bin(tmp_path: Path) -> None:
    text = (INVENTED / "2018" / "muon.json").read_text()
    (tmp_path / "muon.json").write_text(text.replace("120.0,Infinity]", "120.0,500.0]"))
    muon = CorrectionFile(tmp_path / "muon.json")[MUON]
    assert muon(0.1, 1e6, "nominal") == muon(0.1, 499.0, "nominal")
    with pytest.raises(NanoMLError, match="The file covers it from 15 to 500"):
        muon(0.1, 10.0, "nominal")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda muon: muon(0.1, 20, "nominl"), r'scale_factors is "nominl". Did you mean "nominal"\? It may be nominal, systup, systdown'),
        (lambda muon: muon(np.array([]), np.array([]), "up"), 'scale_factors is "up"'),
        (
            lambda muon: muon(np.zeros(3), np.array([20.0, 12.5, 20.0]), "nominal"),
            r"pt is 12.5, of one of 3 objects \(.*eta = 0.*\). The file covers it from 15",
        ),
        (lambda muon: muon(2.5, 20, "nominal"), "has nothing for eta = 2.5, pt = 20"),
        (lambda muon: muon(0.1, 20), "got 2 inputs: it needs eta, pt, scale_factors"),
        (lambda muon: muon(0.1, 20, "nominal", phi=1), "has no input phi: it needs eta, pt, scale_factors"),
        (lambda muon: muon(np.array([np.nan, 0.1]), 20.0, "nominal"), "eta is NaN or infinite for 1 of 2 objects"),
        (lambda muon: muon("nominal", 20, 0.1), 'eta is a number, not "nominal"'),
        (lambda muon: muon(0.1, 20, np.array([1.0])), "scale_factors is one text for all objects. It may be nominal"),
        (lambda muon: muon(ak.Array([[0.1], []]), ak.Array([[20.0], [30.0]]), "nominal"), "eta and pt have different numbers of objects"),
    ],
)  # fmt: skip
def test_a_mistake_is_explained(muon: Correction, call: Callable[[Correction], Any], message: str) -> None:
    with pytest.raises(NanoMLError, match=message):
        call(muon)


def test_integers_must_be_integers() -> None:
    shape = CorrectionFile(INVENTED / "2018" / "btagging.json")["deepJet_shape"]
    with pytest.raises(NanoMLError, match="flavor has values that are not integers"):
        shape("central", np.array([4.5]), 0.1, 50.0, 0.5)
    with pytest.raises(NanoMLError, match="flavor is 3, of one of 1 objects .* It may be 0, 4, 5"):
        shape("central", np.array([3]), 0.1, 50.0, 0.5)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x1f\x8bnonsense", b"\xff\xfe", b'{"schema_version": 1}'])
def test_what_is_no_file_of_corrections_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wrong.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"wrong.json: (is not a file of correctionlib|cannot be read)"):
        CorrectionFile(tmp_path / "wrong.json")


def test_a_name_without_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "long.json", correction("NUM_" + "ID_DEN_" * 20_000, {}, 1.0))
    with pytest.raises(ConfigError, match=r"long.json: a correction has a name of more than 1000 characters"):
        _ = CorrectionFile(path).names


def test_the_invented_files_are_what_their_program_writes(tmp_path: Path) -> None:
    import runpy

    runpy.run_path(str(INVENTED / "invented.py"))["write"](tmp_path)
    for path in INVENTED.glob("*/*.json"):
        assert path.read_text() == (tmp_path / path.relative_to(INVENTED)).read_text()
        assert "INVENTED" in path.read_text()


IDENTIFIED = "electron: {file: electron.json, name: Electron-ID-SF, inputs: {year: 2018, WorkingPoint: Loose}}"
PILEUP = "pileup: {file: pileup.json, name: Collisions}"


def era(folder: Path, text: str, *copied: str) -> Corrections:
    for name in copied:
        (folder / name).write_bytes((INVENTED / "2018" / name).read_bytes())
    return real.era(folder, text)


def test_an_entry_gives_the_nominal_value_and_its_variations_and_another_one_the_choices() -> None:
    corrections = Corrections.read(INVENTED / "2018.yaml")
    eta, pt = ak.Array([[0.5, -2.0], []]), ak.Array([[40.0, 50.0], []])
    found, plain = corrections.muon_id(eta, pt), corrections.muon_id.correction
    for name, key in (("nominal", "nominal"), ("up", "systup"), ("down", "systdown")):
        assert found[name].tolist() == plain(eta, pt, key).tolist()
    expected = corrections.electron_id.correction("2018", "sfup", "Loose", eta, pt)
    assert corrections.electron_id(eta, pt)["up"].tolist() == expected.tolist()
    assert list(corrections.pileup(np.array([30.0])).variations) == ["up", "down"]
    assert "muon_id" in dir(corrections)
    assert "muon_id" in corrections
    with pytest.raises(ConfigError, match=r"has no corrections named muon_idd. Did you mean .muon_id.*It has: pileup,"):
        _ = corrections.muon_idd


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
        (PILEUP.replace("pileup.j", "cut.j"), r"era.yaml:1: pileup: .*cut.json: .*Fetch it again"),
        (PILEUP.replace("Coll", "Col"), r"era.yaml:1: pileup: .*has no correction Colisions. Did you mean .Collisions"),
        (PILEUP.replace("name:", "nam:"), "era.yaml:1: pileup.*name"),
        (PILEUP.replace("}", ", inputs: {weight: up}}"), "Collisions has no input weight. Did you mean .weights"),
        (IDENTIFIED.replace("Loose", "Lose"), "electron: inputs: WorkingPoint is Lose. Did you mean .Loose.*may be Re"),
        (PILEUP.replace("}", ", variations: {up: up}}"), "era.yaml:1: pileup: variations: write a name for `nominal`"),
        (PILEUP.replace("}", ", variations: {nominal: nom}}"), "variations: .* It has weights: nominal, up, down"),
        (JETS.replace("Invented", "Wrong"), "era.yaml:1: jets: .*has no correction Wrong2018_V1_MC_L1L2L3Res_AK4PF"),
        (JETS.replace("}}", "}, sources: [Totl]}"), "has no correction Invented2018_V1_MC_Totl_AK4PF"),
        (JETS.replace("_MC", "_MC, data: {A: B}"), "era.yaml:1: jets.jec.data"),
    ],
)
def test_what_cannot_work_is_an_error_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(ConfigError, match=message):
        era(tmp_path, text, "pileup.json", "jets.json", "electron.json")


def test_files_that_are_only_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, here = tmp_path / "own" / "POG" / "b.json", tmp_path / "era" / "a.json"
    for path in (own, here):
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANOML_CORRECTIONS", "own")
    names = ("a.json", "a.json", "POG/b.json", "https://cern.ch/c.json", "none.json", "/cvmfs/d.json")
    text = "\n".join(f"n{number}: {{file: {name}}}" for number, name in enumerate(names))
    (tmp_path / "era" / "era.yaml").write_text(f"{text}\nodd: 1\n")
    assert local_files(tmp_path / "era" / "era.yaml") == [here, own]
    # the environment is asked after the directory
    assert find_file("POG/b.json", tmp_path, "here") == own
    (tmp_path / "POG").mkdir()
    (tmp_path / "POG" / "b.json").touch()
    assert find_file("POG/b.json", tmp_path, "here") == tmp_path / "POG" / "b.json"


@pytest.mark.skipif(os.path.exists("/cvmfs"), reason="is for machines without CVMFS")
def test_a_path_on_cvmfs_where_it_is_not_mounted(tmp_path: Path) -> None:
    name = "/cvmfs/cms-griddata.cern.ch/cat/metadata/JME/a.json"
    with pytest.raises(ConfigError, match=r"a.yaml:3: there is no file /cvmfs/.* write JME/a.json, and copy it"):
        find_file(name, tmp_path, "a.yaml:3")
